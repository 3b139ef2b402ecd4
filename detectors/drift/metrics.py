"""
How far a sample has moved from a reference, column by column: every metric a function of counts in the same bins.

All but the last axis of counts are free, so that one call compares one window or the hundreds of a calibration. An
empty sample gives NaN and the reason, whatever else is in it gives a number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, kolmogorov, xlogy

from detectors.base import Floats, Ints
from detectors.drift.histograms import Binned, Reference, Sketch, as_matrix

NUMERIC = ("psi", "jensen_shannon", "ks", "wasserstein", "missing", "out_of_range")
CATEGORICAL = ("psi", "jensen_shannon", "cramers_v", "missing", "unseen")
SHARES = frozenset({"missing", "out_of_range", "unseen", "flag_rate", "fraud_rate"})


@dataclass(frozen=True)
class Drift:
    """Change of one feature by one metric; `value` is NaN when there is nothing to compare."""

    index: int
    feature: str
    metric: str
    value: float
    why: str  # empty when value is a number
    n_reference: int
    n_current: int
    effect: float = float("nan")
    before: float = float("nan")  # of a share: what it was in the reference
    p_value: float = float("nan")
    detail: Mapping[str, Any] | None = None


def compare(reference: Reference, X: ArrayLike) -> list[Drift]:
    """
    Every metric of every column, in the order of the columns.

    Parameters
    ----------
    X
        (n, d) the current sample, columns as at `fit`; n may be 0, values NaN or infinite.

    Raises
    ------
    DetectorError
        Another number of columns than the reference has.
    """
    matrix = as_matrix(X, len(reference.names))
    return compare_binned(reference, reference.count(matrix))


def compare_binned(reference: Reference, current: Binned) -> list[Drift]:
    """The same for a sample that is in the reference's bins already."""
    pairs = zip(reference.names, reference.sketches, reference.split(current), strict=True)
    return [
        found
        for index, (name, sketch, binned) in enumerate(pairs)
        for found in _of_column(index, name, sketch, binned)
    ]


def metrics(sketch: Sketch, reference: Binned, current: Binned) -> dict[str, Floats]:
    """Every metric of a column's samples, each (…,); NaN where there is nothing to compare."""
    before, after = reference.counts, current.counts
    coarse = sketch.coarse(before), sketch.coarse(after)
    found = {"psi": psi(*coarse), "jensen_shannon": jensen_shannon(*coarse)}
    if sketch.categorical:
        found |= {"cramers_v": cramers_v(before, after), "unseen": _unseen(before, after)}
    else:
        found |= {
            "ks": kolmogorov_smirnov(before, after),
            "wasserstein": wasserstein(sketch, reference, current),
            "out_of_range": _share(_outside(sketch, after), after),
        }
    return found | {"missing": _share(after[..., -1], after)}


def effects(
    sketch: Sketch, reference: Binned, current: Binned, found: Mapping[str, Floats]
) -> dict[str, Floats]:
    """
    How large each change is, on a scale that all metrics share, (…,) each.

    For distributions the share of rows that would have to change to undo it (total variation of the coarse bins); for
    shares the difference of arcsines, which is the difference itself around one half and counts more near none or all.
    """
    moved = total_variation(sketch.coarse(reference.counts), sketch.coarse(current.counts))
    was = before_of(sketch, reference, current)
    return {
        metric: share_effect(was[metric], values) if metric in SHARES else moved
        for metric, values in found.items()
    }


def before_of(sketch: Sketch, reference: Binned, current: Binned) -> dict[str, Floats]:
    """The reference's own value of each share; of what lies outside of it only infinities can be there."""
    before = reference.counts
    every = np.zeros(np.broadcast_shapes(before.shape, current.counts.shape)[:-1])
    return {
        "missing": every + _share(before[..., -1], before),
        "out_of_range": every + _share(_outside(sketch, before), before),
        "unseen": every + _share(before[..., -2], before),
    }


def psi(reference: ArrayLike, current: ArrayLike) -> Any:
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
    (p, n), (q, m) = _counted(reference), _counted(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (p / n + q / m) / 2
        expected, actual = (p + middle) / (n + 1), (q + middle) / (m + 1)
        terms = (actual - expected) * np.log(actual / expected)
    return _where_both(np.where(middle > 0, terms, 0.0).sum(axis=-1), n, m)


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> Any:
    """
    Jensen–Shannon divergence in bits of counts in the same bins; NaN when either is empty.

    0 for equal shares, 1 for nothing in common; no smoothing is needed. This is the divergence, the square of
    the distance that scipy gives. For small changes it is close to PSI / 5.5.

    References
    ----------
    Lin (1991), Divergence measures based on the Shannon entropy.
    """
    (p, n), (q, m) = _counted(reference), _counted(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = p / n, q / m
        entropies = xlogy(p, p) + xlogy(q, q) - xlogy(p + q, (p + q) / 2)
    return _where_both(np.clip(entropies.sum(axis=-1) / (2 * np.log(2)), 0.0, 1.0), n, m)


def total_variation(reference: ArrayLike, current: ArrayLike) -> Floats:
    """Half the sum of |q − p|: the share of rows that would have to change; NaN when either is empty."""
    (p, n), (q, m) = _counted(reference), _counted(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(_where_both(np.abs(p / n - q / m).sum(axis=-1) / 2, n, m))


def kolmogorov_smirnov(reference: Ints, current: Ints) -> Any:
    """
    Largest difference between the distribution functions at the edges of bins, missing values left out.

    Counts are (…, b) as a `Sketch` has them. Where a bin holds more than one value the statistic of the rows
    themselves may be larger, by at most the bin's share in the reference or in the current sample, whichever is
    smaller there: 1/200.
    """
    (p, n), (q, m) = _counted(reference[..., :-1]), _counted(current[..., :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(np.cumsum(p, axis=-1) / n - np.cumsum(q, axis=-1) / m)
    return _where_both(apart.max(axis=-1), n, m)


def ks_p_value(statistic: ArrayLike, n: ArrayLike, m: ArrayLike) -> Floats:
    """
    Chance of a KS statistic at least as large without any change, in the limit of large samples.

    References
    ----------
    Kolmogorov (1933); Smirnov (1948), Table for estimating the goodness of fit of empirical distributions.
    """
    n, m = np.asarray(n, dtype=np.float64), np.asarray(m, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = kolmogorov(np.sqrt(n * m / (n + m)) * np.asarray(statistic))
    return found


def wasserstein(sketch: Sketch, reference: Binned, current: Binned) -> Any:
    """
    Area between the distribution functions of the finite values, in standard deviations of the reference.

    Exact where the functions do not cross inside a bin, and never too large. NaN where the reference is constant or
    empty, and so has no spread to measure in, and where values are infinite.
    """
    if not sketch.spread > 0 or not np.isfinite(sketch.spread):
        return np.full(np.broadcast_shapes(reference.counts.shape, current.counts.shape)[:-1], np.nan)
    (p, n), (q, m) = _counted(reference.counts[..., :-1]), _counted(current.counts[..., :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = _areas(sketch, p, n, reference.gaps) - _areas(sketch, q, m, current.gaps)
        distance = np.abs(apart).sum(axis=-1) / sketch.spread
    return _where_both(np.where(np.isfinite(distance), distance, np.nan), n, m)


def cramers_v(reference: Ints, current: Ints) -> Any:
    """
    Effect size √(χ² / n) of the two-row contingency table of counts: 0 for equal shares, 1 for nothing in common.

    References
    ----------
    Cramér (1946), Mathematical methods of statistics.
    """
    (_, n), (_, m) = _counted(reference), _counted(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(chi_square(reference, current) / (n + m)[..., 0])


def chi_square(reference: Ints, current: Ints) -> Any:
    """Pearson's χ² of homogeneity of counts in the same bins; bins that both lack do not count."""
    (p, n), (q, m) = _counted(reference), _counted(current)
    total = p + q
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = (p * np.sqrt(m / n) - q * np.sqrt(n / m)) ** 2 / total
    return _where_both(np.where(total > 0, terms, 0.0).sum(axis=-1), n, m)


def share_effect(before: ArrayLike, after: ArrayLike) -> Floats:
    """|asin √q − asin √p|, half of Cohen's h (1988, Statistical power analysis)."""
    return np.abs(to_angle(after) - to_angle(before))


def to_angle(share: ArrayLike) -> Floats:
    """asin √p: on this scale chance moves a share of n rows by 1 / (2 √n), whatever the share."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0))))


def to_share(angle: ArrayLike) -> Floats:
    """Back from `to_angle`."""
    return np.asarray(np.sin(np.clip(angle, 0.0, np.pi / 2)) ** 2)


def _of_column(index: int, name: str, sketch: Sketch, current: Binned) -> Iterator[Drift]:
    found = metrics(sketch, sketch.binned, current)
    moved = effects(sketch, sketch.binned, current, found)
    was = before_of(sketch, sketch.binned, current)
    n, m = sketch.n, int(current.n)
    for metric in CATEGORICAL if sketch.categorical else NUMERIC:
        value, before = float(found[metric]), float(was.get(metric, np.nan))
        untold = np.isnan(value) or (metric in SHARES and np.isnan(before))
        yield Drift(
            index, name, metric, value, why=_why_not(metric, sketch, current) if untold else "",
            n_reference=n, n_current=m, effect=float(moved[metric]), before=before,
            **_tested(metric, value, sketch.binned.counts, current.counts),
        )  # fmt: skip


def _tested(metric: str, value: float, before: Ints, after: Ints) -> dict[str, Any]:
    """The p-value of what has one."""
    if metric == "ks" and not np.isnan(value):
        return {"p_value": float(ks_p_value(value, before[:-1].sum(), after[:-1].sum()))}
    if metric == "cramers_v" and not np.isnan(value):
        square, free = float(chi_square(before, after)), int(np.count_nonzero(before + after)) - 1
        chance = float(chdtrc(free, square)) if free > 0 else 1.0
        return {"p_value": chance, "detail": {"chi_square": square, "degrees_of_freedom": free}}
    return {}


def _why_not(metric: str, sketch: Sketch, current: Binned) -> str:
    n_current = int(current.n)
    if sketch.n == 0:
        return "the reference has no rows"
    if n_current == 0:
        return "the current sample has no rows"
    if sketch.missing_share == 1:
        return "every value of the reference is missing"
    if current.counts[-1] == n_current:
        return "every value is missing"
    if metric == "wasserstein" and not sketch.spread > 0:
        return "the reference is constant: there is no spread to measure a distance in"
    return "there are infinite values, which are infinitely far away: see out_of_range"


def _areas(sketch: Sketch, counts: Floats, n: Floats, gaps: Floats) -> Floats:
    """Area under the distribution function in each bin, over the tail in the one above everything."""
    below = (np.cumsum(counts, axis=-1) - counts) / n
    found: Floats = below * sketch.widths[:-1] + gaps[..., :-1] / n
    return found


def _unseen(before: Ints, after: Ints) -> Floats:
    """Share of rows with a value the reference lacks: the bin of other values, and bins that are empty there."""
    lacking = before[..., :-1] == 0
    lacking[..., -1] = True
    return _share(np.where(lacking, after[..., :-1], 0).sum(axis=-1), after)


def _outside(sketch: Sketch, counts: Ints) -> Any:
    """Rows under and over everything seen; without any finite value seen there is only one such bin."""
    return counts[..., 0] + counts[..., -2] if len(sketch.cuts) else counts[..., 0]


def _share(part: Any, whole: Ints) -> Floats:
    total = whole.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, part / total, np.nan))


def _counted(counts: ArrayLike) -> tuple[Floats, Floats]:
    """Counts as floats, and their sum with the axis kept."""
    found = np.asarray(counts, dtype=np.float64)
    return found, found.sum(axis=-1, keepdims=True)


def _where_both(values: Any, n: NDArray[np.float64], m: NDArray[np.float64]) -> Any:
    return np.where((n[..., 0] > 0) & (m[..., 0] > 0), values, np.nan)[()]
