"""
Drift metrics: the distance of a sample from a reference, column by column, computed from counts in the same bins.

The last axis of counts is that of the bins; all others are free, so that one call compares one window or the hundreds of
windows of a calibration. An empty sample gives NaN with a reason; any other sample gives a number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, kolmogorov, xlogy

from detectors.base import Floats, Ints
from detectors.drift.histograms import BinnedSample, ColumnHistogram, ReferenceHistograms, as_matrix

NUMERIC = ("psi", "jensen_shannon", "ks", "wasserstein", "missing", "out_of_range")
CATEGORICAL = ("psi", "jensen_shannon", "cramers_v", "missing", "unseen")
SHARES = frozenset({"missing", "out_of_range", "unseen", "flag_rate", "fraud_rate"})


@dataclass(frozen=True)
class Drift:
    """Drift of one feature by one metric; `value` is NaN if there is nothing to compare."""

    index: int
    feature: str
    metric: str
    value: float
    suppressed_because: str  # why there is no value, or no alarm; empty otherwise
    n_reference: int
    n_current: int
    effect: float = float("nan")
    before: float = float("nan")  # value of a share in the reference
    p_value: float = float("nan")
    detail: Mapping[str, Any] | None = None


def compare(reference: ReferenceHistograms, X: ArrayLike) -> list[Drift]:
    """
    Compute every drift metric of every column, in the order of the columns.

    Parameters
    ----------
    X
        (n, d) the current sample with the columns of the reference; n may be 0, values NaN or infinite.

    Raises
    ------
    DetectorError
        X has another number of columns than the reference.
    """
    matrix = as_matrix(X, len(reference.names))
    return compare_binned(reference, reference.count(matrix))


def compare_binned(reference: ReferenceHistograms, current: BinnedSample) -> list[Drift]:
    """`compare` for a sample that is already counted in the bins of the reference."""
    pairs = zip(reference.names, reference.histograms, reference.split(current), strict=True)
    return [
        drift
        for index, (name, histogram, binned) in enumerate(pairs)
        for drift in _column_drifts(index, name, histogram, binned)
    ]


def metrics(histogram: ColumnHistogram, reference: BinnedSample, current: BinnedSample) -> dict[str, Floats]:
    """Every metric of one column, each (…,); NaN where there is nothing to compare."""
    before, after = reference.counts, current.counts
    coarse = histogram.coarse(before), histogram.coarse(after)
    values = {"psi": psi(*coarse), "jensen_shannon": jensen_shannon(*coarse)}
    if histogram.categorical:
        values |= {"cramers_v": cramers_v(before, after), "unseen": _unseen(before, after)}
    else:
        values |= {
            "ks": kolmogorov_smirnov(before, after),
            "wasserstein": wasserstein(histogram, reference, current),
            "out_of_range": _share(_out_of_range(histogram, after), after),
        }
    return values | {"missing": _share(after[..., -1], after)}


def effects(
    histogram: ColumnHistogram, reference: BinnedSample, current: BinnedSample, values: Mapping[str, Floats]
) -> dict[str, Floats]:
    """
    Effect size of each drift metric, on one scale for all metrics, (…,) each.

    For distributions it is the total variation of the coarse bins, the share of rows that would have to change to undo the
    drift. For shares it is half of Cohen's h, which is the difference itself around one half and larger near 0 and 1.
    """
    moved = total_variation(histogram.coarse(reference.counts), histogram.coarse(current.counts))
    before = reference_shares(histogram, reference, current)
    return {
        metric: share_effect(before[metric], value) if metric in SHARES else moved
        for metric, value in values.items()
    }


def reference_shares(
    histogram: ColumnHistogram, reference: BinnedSample, current: BinnedSample
) -> dict[str, Floats]:
    """The value of each share in the reference itself, where only infinities are out of range."""
    before = reference.counts
    every = np.zeros(np.broadcast_shapes(before.shape, current.counts.shape)[:-1])
    return {
        "missing": every + _share(before[..., -1], before),
        "out_of_range": every + _share(_out_of_range(histogram, before), before),
        "unseen": every + _share(before[..., -2], before),
    }


def psi(reference: ArrayLike, current: ArrayLike) -> Any:
    """
    Population stability index, Σ (q − p) ln(q / p), of counts in the same bins; NaN when either is empty.

    Smoothing: one row, distributed like the mean of both samples, is added to each. An empty bin in one sample then gives a
    finite value, equal samples give 0, and bins empty in both do not count. Without drift, PSI is about
    (bins − 1) (1 / n_reference + 1 / n_current).

    References
    ----------
    Siddiqi (2006), Credit risk scorecards.
    Yurdakul (2018), Statistical properties of the population stability index.
    """
    (p, n), (q, m) = _with_totals(reference), _with_totals(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (p / n + q / m) / 2
        expected, actual = (p + middle) / (n + 1), (q + middle) / (m + 1)
        terms = (actual - expected) * np.log(actual / expected)
    return _nan_if_empty(np.where(middle > 0, terms, 0.0).sum(axis=-1), n, m)


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> Any:
    """
    Jensen–Shannon divergence in bits of counts in the same bins; NaN when either is empty.

    0 for equal shares, 1 for nothing in common; it needs no smoothing. This is the divergence, the square of
    the distance that scipy computes. For small changes it is close to PSI / 5.5.

    References
    ----------
    Lin (1991), Divergence measures based on the Shannon entropy.
    """
    (p, n), (q, m) = _with_totals(reference), _with_totals(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = p / n, q / m
        entropies = xlogy(p, p) + xlogy(q, q) - xlogy(p + q, (p + q) / 2)
    return _nan_if_empty(np.clip(entropies.sum(axis=-1) / (2 * np.log(2)), 0.0, 1.0), n, m)


def total_variation(reference: ArrayLike, current: ArrayLike) -> Floats:
    """Half the sum of |q − p|, the share of rows that would have to change; NaN when either sample is empty."""
    (p, n), (q, m) = _with_totals(reference), _with_totals(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(_nan_if_empty(np.abs(p / n - q / m).sum(axis=-1) / 2, n, m))


def kolmogorov_smirnov(reference: Ints, current: Ints) -> Any:
    """
    Kolmogorov–Smirnov statistic at the edges of bins, missing values left out.

    Counts are (…, b) as in a `ColumnHistogram`. If a bin holds more than one value the statistic of the rows
    themselves may be larger, by at most the bin's share in the reference or in the current sample, whichever is
    smaller there: 1/200.
    """
    (p, n), (q, m) = _with_totals(reference[..., :-1]), _with_totals(current[..., :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(np.cumsum(p, axis=-1) / n - np.cumsum(q, axis=-1) / m)
    return _nan_if_empty(apart.max(axis=-1), n, m)


def ks_p_value(statistic: ArrayLike, n: ArrayLike, m: ArrayLike) -> Floats:
    """
    p-value of a KS statistic, asymptotic for large samples.

    References
    ----------
    Kolmogorov (1933); Smirnov (1948), Table for estimating the goodness of fit of empirical distributions.
    """
    n, m = np.asarray(n, dtype=np.float64), np.asarray(m, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        p_value: Floats = kolmogorov(np.sqrt(n * m / (n + m)) * np.asarray(statistic))
    return p_value


def wasserstein(histogram: ColumnHistogram, reference: BinnedSample, current: BinnedSample) -> Any:
    """
    Wasserstein-1 distance of the finite values, in standard deviations of the reference.

    It is the area between the distribution functions: exact unless they cross inside a bin, and never too large. NaN if the
    reference is constant or empty, so that it has no standard deviation, or if values are infinite.
    """
    if not histogram.spread > 0 or not np.isfinite(histogram.spread):
        return np.full(np.broadcast_shapes(reference.counts.shape, current.counts.shape)[:-1], np.nan)
    (p, n), (q, m) = _with_totals(reference.counts[..., :-1]), _with_totals(current.counts[..., :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = _areas(histogram, p, n, reference.gaps) - _areas(histogram, q, m, current.gaps)
        distance = np.abs(apart).sum(axis=-1) / histogram.spread
    return _nan_if_empty(np.where(np.isfinite(distance), distance, np.nan), n, m)


def cramers_v(reference: Ints, current: Ints) -> Any:
    """
    Cramér's V, √(χ² / n) of the two-row contingency table of counts: 0 for equal shares, 1 for nothing in common.

    References
    ----------
    Cramér (1946), Mathematical methods of statistics.
    """
    (_, n), (_, m) = _with_totals(reference), _with_totals(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(chi_square(reference, current) / (n + m)[..., 0])


def chi_square(reference: Ints, current: Ints) -> Any:
    """Pearson's χ² statistic of homogeneity of counts in the same bins; bins empty in both do not count."""
    (p, n), (q, m) = _with_totals(reference), _with_totals(current)
    total = p + q
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = (p * np.sqrt(m / n) - q * np.sqrt(n / m)) ** 2 / total
    return _nan_if_empty(np.where(total > 0, terms, 0.0).sum(axis=-1), n, m)


def share_effect(before: ArrayLike, after: ArrayLike) -> Floats:
    """Effect size |asin √q − asin √p| of a change of a share, half of Cohen's h (1988, Statistical power analysis)."""
    return np.abs(to_angle(after) - to_angle(before))


def to_angle(share: ArrayLike) -> Floats:
    """asin √p, the variance-stabilising transform: the standard error of a share of n rows is 1 / (2 √n) for any share."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0))))


def to_share(angle: ArrayLike) -> Floats:
    """Inverse of `to_angle`."""
    return np.asarray(np.sin(np.clip(angle, 0.0, np.pi / 2)) ** 2)


def _column_drifts(
    index: int, name: str, histogram: ColumnHistogram, current: BinnedSample
) -> Iterator[Drift]:
    values = metrics(histogram, histogram.binned, current)
    effect = effects(histogram, histogram.binned, current, values)
    shares = reference_shares(histogram, histogram.binned, current)
    n, m = histogram.n, int(current.n)
    for metric in CATEGORICAL if histogram.categorical else NUMERIC:
        value, before = float(values[metric]), float(shares.get(metric, np.nan))
        undefined = np.isnan(value) or (metric in SHARES and np.isnan(before))
        yield Drift(
            index, name, metric, value, suppressed_because=_undefined_because(metric, histogram, current) if undefined else "",
            n_reference=n, n_current=m, effect=float(effect[metric]), before=before,
            **_significance(metric, value, histogram.binned.counts, current.counts),
        )  # fmt: skip


def _significance(metric: str, value: float, before: Ints, after: Ints) -> dict[str, Any]:
    """The p-value of a metric that has one, and its details."""
    if metric == "ks" and not np.isnan(value):
        return {"p_value": float(ks_p_value(value, before[:-1].sum(), after[:-1].sum()))}
    if metric == "cramers_v" and not np.isnan(value):
        square, free = float(chi_square(before, after)), int(np.count_nonzero(before + after)) - 1
        chance = float(chdtrc(free, square)) if free > 0 else 1.0
        return {"p_value": chance, "detail": {"chi_square": square, "degrees_of_freedom": free}}
    return {}


def _undefined_because(metric: str, histogram: ColumnHistogram, current: BinnedSample) -> str:
    n_current = int(current.n)
    if histogram.n == 0:
        return "the reference has no rows"
    if n_current == 0:
        return "the current sample has no rows"
    if histogram.missing_share == 1:
        return "every value of the reference is missing"
    if current.counts[-1] == n_current:
        return "every value is missing"
    if metric == "wasserstein" and not histogram.spread > 0:
        return "the reference is constant: there is no spread to measure a distance in"
    return "there are infinite values, which are infinitely far away: see out_of_range"


def _areas(histogram: ColumnHistogram, counts: Floats, n: Floats, gaps: Floats) -> Floats:
    """Area under the distribution function in each bin; in the bin above the range, the area above it."""
    below = (np.cumsum(counts, axis=-1) - counts) / n
    areas: Floats = below * histogram.widths[:-1] + gaps[..., :-1] / n
    return areas


def _unseen(before: Ints, after: Ints) -> Floats:
    """Share of rows with a category that is not in the reference: the bin of other values, and bins that are empty there."""
    lacking = before[..., :-1] == 0
    lacking[..., -1] = True
    return _share(np.where(lacking, after[..., :-1], 0).sum(axis=-1), after)


def _out_of_range(histogram: ColumnHistogram, counts: Ints) -> Any:
    """Number of rows outside the range of the reference; a reference without finite values has only one such bin."""
    return counts[..., 0] + counts[..., -2] if len(histogram.cuts) else counts[..., 0]


def _share(part: Any, whole: Ints) -> Floats:
    total = whole.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, part / total, np.nan))


def _with_totals(counts: ArrayLike) -> tuple[Floats, Floats]:
    """Counts as floats, and their sum with the axis kept."""
    floats = np.asarray(counts, dtype=np.float64)
    return floats, floats.sum(axis=-1, keepdims=True)


def _nan_if_empty(values: Any, n: NDArray[np.float64], m: NDArray[np.float64]) -> Any:
    return np.where((n[..., 0] > 0) & (m[..., 0] > 0), values, np.nan)[()]
