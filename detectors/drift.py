"""
How far a sample has moved from the one a model was trained on, feature by feature.

A `Reference` keeps counts in bins, not rows: one bin for missing values, one below and one above everything
seen, and between them deciles, or the values themselves where there are few. Comparing never fails on data: an
empty sample gives NaN and the reason, whatever else is in it gives a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import ArtefactError, DetectorError, Floats, Ints, State

QUANTILE_BINS = 10  # deciles: the conventional alarm levels of PSI, 0.1 and 0.25, were found with them
VALUES_MAX = 20  # so many distinct values are bins of their own

Metric = Literal["psi", "jensen_shannon"]


@dataclass(frozen=True)
class Drift:
    """Change of one feature by one metric; `value` is NaN when there is nothing to compare."""

    index: int
    feature: str
    metric: Metric
    value: float
    why: str  # empty when value is a number
    n_reference: int
    n_current: int


@dataclass(frozen=True)
class Sketch:
    """One feature's reference: value x is in bin i when cuts[i − 1] < x ≤ cuts[i]; the last bin is missing."""

    cuts: Floats  # (b − 2,) ascending
    counts: Ints  # (b,)

    @property
    def n(self) -> int:
        """Rows of the reference."""
        return int(self.counts.sum())

    @property
    def missing_share(self) -> float:
        """Share of missing values; NaN without rows."""
        return float(self.counts[-1] / self.n) if self.n else float("nan")

    def count(self, column: Floats) -> Ints:
        """How many values of a sample fall into each bin, (b,)."""
        return _count(self.cuts, column)


@dataclass(frozen=True)
class Reference:
    """What each feature looked like in a training sample."""

    names: tuple[str, ...]
    sketches: tuple[Sketch, ...]

    @classmethod
    def fit(cls, X: ArrayLike, names: Sequence[str]) -> Self:
        """
        Sketch each column of X (n, d), which may hold NaN for missing and infinities.

        Raises
        ------
        DetectorError
            X is not a matrix of numbers with one column a name.
        """
        matrix = _matrix(X, len(names))
        return cls(tuple(names), tuple(_sketch(np.ascontiguousarray(column)) for column in matrix.T))

    def joined(self, other: "Reference") -> "Reference":
        """These features, then the other's, which may come from another sample."""
        return Reference(self.names + other.names, self.sketches + other.sketches)

    def state(self) -> State:
        """The reference as plain arrays and JSON."""
        return State(
            {"names": list(self.names)},
            {
                "cuts": np.concatenate([np.empty(0), *(sketch.cuts for sketch in self.sketches)]),
                "counts": np.concatenate(
                    [np.empty(0, np.int64), *(sketch.counts for sketch in self.sketches)]
                ),
                "bins": np.array([len(sketch.counts) for sketch in self.sketches], dtype=np.int64),
            },
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        """
        The reference that `state` was taken from.

        Raises
        ------
        ArtefactError
            The arrays do not belong together.
        """
        names, bins = tuple(state.meta["names"]), state.arrays["bins"]
        cuts, counts = state.arrays["cuts"], state.arrays["counts"]
        if not (len(names) == len(bins) and len(counts) == bins.sum() == len(cuts) + 2 * len(bins)):
            raise ArtefactError(
                f"a drift reference of {len(names)} features has {len(counts)} counts and {len(cuts)} cuts, "
                "which do not fit: train anew with fraudwatch train"
            )
        ends = np.cumsum(bins)[:-1]
        pairs = zip(np.split(cuts, ends - 2 * np.arange(1, len(bins))), np.split(counts, ends), strict=True)
        return cls(names, tuple(Sketch(*pair) for pair in pairs) if names else ())


def compare(reference: Reference, X: ArrayLike) -> list[Drift]:
    """
    PSI and Jensen–Shannon divergence of every feature, in the order of the features.

    Parameters
    ----------
    X
        (n, d) the current sample, columns as at `fit`; n may be 0, values NaN or infinite.

    Raises
    ------
    DetectorError
        Another number of columns than the reference has.
    """
    matrix = _matrix(X, len(reference.names))
    found: list[Drift] = []
    for index, (name, sketch) in enumerate(zip(reference.names, reference.sketches, strict=True)):
        current = sketch.count(np.ascontiguousarray(matrix[:, index]))
        why = _why_not(sketch.n, len(matrix))
        values: dict[Metric, float] = {
            "psi": psi(sketch.counts, current),
            "jensen_shannon": jensen_shannon(sketch.counts, current),
        }
        found += [
            Drift(index, name, metric, value, why, sketch.n, len(matrix)) for metric, value in values.items()
        ]
    return found


def psi(reference: ArrayLike, current: ArrayLike) -> float:
    """
    Population stability index, Σ (q − p) ln(q / p), of counts in the same bins; NaN when either is empty.

    To each sample one row is added, spread like the mean of both: a bin that one of them lacks is then no
    infinite change, equal samples have none, and bins that both lack do not count. A change that is chance
    alone comes to about (bins − 1) (1 / n_reference + 1 / n_current).

    References
    ----------
    Siddiqi (2006), Credit risk scorecards.
    Yurdakul (2018), Statistical properties of the population stability index.
    """
    p, q = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if p.sum() == 0 or q.sum() == 0:
        return float("nan")
    middle = (p / p.sum() + q / q.sum()) / 2
    there = middle > 0
    expected = ((p + middle) / (p.sum() + 1))[there]
    actual = ((q + middle) / (q.sum() + 1))[there]
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> float:
    """
    Jensen–Shannon divergence in bits of counts in the same bins; NaN when either is empty.

    0 for equal shares, 1 for nothing in common; no smoothing is needed. This is the divergence, the square of
    the distance that scipy gives. For small changes it is close to PSI / 5.5.

    References
    ----------
    Lin (1991), Divergence measures based on the Shannon entropy.
    """
    p, q = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if p.sum() == 0 or q.sum() == 0:
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return float(np.clip((_bits(p, middle) + _bits(q, middle)) / 2, 0.0, 1.0))


def _bits(p: Floats, middle: Floats) -> float:
    there = p > 0
    return float(np.sum(p[there] * np.log2(p[there] / middle[there])))


def _sketch(column: Floats) -> Sketch:
    cuts = _cuts(np.sort(column[np.isfinite(column)]))
    return Sketch(cuts, _count(cuts, column))


def _count(cuts: Floats, column: Floats) -> Ints:
    bins = np.searchsorted(cuts, column, side="left")
    bins[np.isnan(column)] = len(cuts) + 1
    return np.bincount(bins, minlength=len(cuts) + 2)


def _cuts(ordered: Floats) -> Floats:
    """Upper ends of the bins, the first just under the smallest value, so that smaller ones stand apart."""
    if len(ordered) == 0:
        return np.empty(0)
    last = np.append(ordered[1:] != ordered[:-1], True)
    values = ordered[last]
    if len(values) <= VALUES_MAX:
        return np.unique(np.concatenate((_just_under(values), values)))
    ranks = np.ceil(np.arange(1, QUANTILE_BINS + 1) * len(ordered) / QUANTILE_BINS).astype(np.int64)
    return np.unique(np.concatenate((_just_under(ordered[:1]), ordered[ranks - 1])))


def _just_under(values: Floats) -> Floats:
    with np.errstate(over="ignore", under="ignore"):  # under the smallest float there is only −inf
        return np.nextafter(values, -np.inf)


def _why_not(n_reference: int, n_current: int) -> str:
    if n_reference == 0:
        return "the reference has no rows"
    return "" if n_current else "the current sample has no rows"


def _matrix(X: ArrayLike, n_features: int) -> Floats:
    matrix = np.asarray(X, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != n_features:
        raise DetectorError(f"the reference has {n_features} features, got an array of shape {matrix.shape}")
    return matrix
