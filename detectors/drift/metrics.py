"""
Drift metrics: the distance of a sample from a reference, column by column, computed from counts in the same bins.

`COLUMN_METRICS` is the table of the metrics of columns: one that is added there can be chosen with `drift.metrics`. The last
axis of counts is that of the bins; all others are free, so that one call compares one window or the hundreds of windows of a
calibration. An empty sample gives NaN with a reason; any other sample gives a number.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Floats, Ints
from detectors.drift.histograms import BinnedSample, ColumnHistogram, ReferenceHistograms, as_matrix
from detectors.drift.scales import DISTANCE, LAG, LONG_DISTANCE, RATIO, SHARE, SQUARE, MetricScale

Measure = Callable[[ColumnHistogram, BinnedSample, BinnedSample], Floats]
Significance = Callable[[float, Ints, Ints], dict[str, Any]]


@dataclass(frozen=True)
class ColumnMetric:
    """
    A drift metric of columns.

    Attributes
    ----------
    measure
        Its values, (…,), for the histogram of a column, the reference and the current samples; NaN where there is nothing to
        compare. That of a share is the share in the current sample.
    scale
        How deviations are compared with those of other metrics, and which of them raise an alarm.
    columns
        The columns that have it.
    significance
        The p-value, and details, of a value for counts of the reference and of the current sample.
    """

    measure: Measure
    scale: MetricScale
    columns: Literal["all", "numeric", "categorical"] = "all"
    significance: Significance | None = None

    def applies_to(self, histogram: ColumnHistogram) -> bool:
        """Whether a column has this metric."""
        return self.columns in ("all", "categorical" if histogram.categorical else "numeric")


@dataclass(frozen=True)
class ColumnDrift:
    """One metric of a column in one or many samples; (…,) each."""

    metric: str
    value: Floats
    effect: Floats
    before: Floats  # value of a share in the reference, NaN for a distance


@dataclass(frozen=True)
class Drift:
    """Drift of one feature by one metric; `value` is NaN if there is nothing to compare."""

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


def compare(reference: ReferenceHistograms, X: ArrayLike, metrics: Sequence[str]) -> list[Drift]:
    """
    Compute the drift metrics named in `metrics` of every column, in the order of the columns and of `COLUMN_METRICS`.

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
    return compare_binned(reference, reference.count(matrix), metrics)


def compare_binned(
    reference: ReferenceHistograms, current: BinnedSample, metrics: Sequence[str]
) -> list[Drift]:
    """`compare` for a sample that is already counted in the bins of the reference."""
    pairs = zip(reference.names, reference.histograms, reference.split(current), strict=True)
    return [
        _drift(name, histogram, binned, each)
        for name, histogram, binned in pairs
        for each in column_drifts(histogram, histogram.binned, binned, metrics)
    ]


def column_drifts(
    histogram: ColumnHistogram, reference: BinnedSample, current: BinnedSample, metrics: Sequence[str]
) -> Iterator[ColumnDrift]:
    """
    The metrics of one column that are named in `metrics` and apply to it, with their effect sizes.

    Effect sizes are on one scale for all metrics. For distributions it is the total variation of the coarse bins, the share of
    rows that would have to change to undo the drift. For shares it is half of Cohen's h.
    """
    moved = total_variation(histogram.coarse(reference.counts), histogram.coarse(current.counts))
    for name, metric in COLUMN_METRICS.items():
        if name not in metrics or not metric.applies_to(histogram):
            continue
        value = metric.measure(histogram, reference, current)
        if metric.scale is SHARE:
            before = metric.measure(histogram, reference, reference)
            yield ColumnDrift(name, value, SHARE.change(before, value), before)
        else:
            yield ColumnDrift(name, value, moved, np.full_like(moved, np.nan))


def of_distributions(metrics: Sequence[str]) -> tuple[str, ...]:
    """Those of the named metrics that compare distributions, not shares of missing or unknown values."""
    return tuple(name for name in metrics if COLUMN_METRICS[name].scale is not SHARE)


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
    from scipy.special import xlogy

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
    from scipy.special import kolmogorov

    n, m = np.asarray(n, dtype=np.float64), np.asarray(m, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        p_value: Floats = kolmogorov(np.sqrt(n * m / (n + m)) * np.asarray(statistic))
    return p_value


def wasserstein(histogram: ColumnHistogram, reference: BinnedSample, current: BinnedSample) -> Any:
    """
    Wasserstein-1 distance of the finite values, in standard deviations of the reference.

    It is the area between the distribution functions: exact unless they cross inside a bin, and never too large. NaN if the
    reference is constant or empty, so that it has no standard deviation, or if values or the distance are infinite.
    """
    if not histogram.spread > 0 or not np.isfinite(histogram.spread):
        return np.full(np.broadcast_shapes(reference.counts.shape, current.counts.shape)[:-1], np.nan)
    (p, n), (q, m) = _with_totals(reference.counts[..., :-1]), _with_totals(current.counts[..., :-1])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
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


def missing_share(_histogram: ColumnHistogram, _reference: BinnedSample, current: BinnedSample) -> Floats:
    """Share of rows without a value."""
    return _share(current.counts[..., -1], current.counts)


def out_of_range_share(histogram: ColumnHistogram, _reference: BinnedSample, current: BinnedSample) -> Floats:
    """Share of rows outside the range of the reference; a reference without finite values has only one such bin."""
    counts = current.counts
    outside = counts[..., 0] + counts[..., -2] if len(histogram.cuts) else counts[..., 0]
    return _share(outside, counts)


def unseen_share(_histogram: ColumnHistogram, reference: BinnedSample, current: BinnedSample) -> Floats:
    """Share of rows with a category that is not in the reference: the bin of other values, and bins that are empty there."""
    lacking = reference.counts[..., :-1] == 0
    lacking[..., -1] = True
    return _share(np.where(lacking, current.counts[..., :-1], 0).sum(axis=-1), current.counts)


def _drift(name: str, histogram: ColumnHistogram, current: BinnedSample, drift: ColumnDrift) -> Drift:
    metric, value = COLUMN_METRICS[drift.metric], float(drift.value)
    undefined = np.isnan(value) or (metric.scale is SHARE and np.isnan(drift.before))
    significance = (
        {}
        if metric.significance is None or np.isnan(value)
        else metric.significance(value, histogram.binned.counts, current.counts)
    )
    return Drift(
        name, drift.metric, value, suppressed_because=_undefined_because(histogram, current) if undefined else "",
        n_reference=histogram.n, n_current=int(current.n), effect=float(drift.effect), before=float(drift.before),
        **significance,
    )  # fmt: skip


def _significance_of_ks(value: float, before: Ints, after: Ints) -> dict[str, Any]:
    return {"p_value": float(ks_p_value(value, before[:-1].sum(), after[:-1].sum()))}


def _significance_of_chi_square(_value: float, before: Ints, after: Ints) -> dict[str, Any]:
    from scipy.special import chdtrc

    square, free = float(chi_square(before, after)), int(np.count_nonzero(before + after)) - 1
    chance = float(chdtrc(free, square)) if free > 0 else 1.0
    return {"p_value": chance, "detail": {"chi_square": square, "degrees_of_freedom": free}}


def _undefined_because(histogram: ColumnHistogram, current: BinnedSample) -> str:
    n_current = int(current.n)
    if histogram.n == 0:
        return "the reference has no rows"
    if n_current == 0:
        return "the current sample has no rows"
    if histogram.missing_share == 1:
        return "every value of the reference is missing"
    if current.counts[-1] == n_current:
        return "every value is missing"
    if not histogram.spread > 0:
        return "the reference is constant: there is no spread to measure a distance in"
    return "there are infinite values, which are infinitely far away: see out_of_range"


def _areas(histogram: ColumnHistogram, counts: Floats, n: Floats, gaps: Floats) -> Floats:
    """Area under the distribution function in each bin; in the bin above the range, the area above it."""
    below = (np.cumsum(counts, axis=-1) - counts) / n
    areas: Floats = below * histogram.widths[:-1] + gaps[..., :-1] / n
    return areas


def _share(part: Any, whole: Ints) -> Floats:
    total = whole.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, part / total, np.nan))


def _with_totals(counts: ArrayLike) -> tuple[Floats, Floats]:
    """Counts as floats, and their sum with the axis kept."""
    floats = np.asarray(counts, dtype=np.float64)
    return floats, floats.sum(axis=-1, keepdims=True)


def _nan_if_empty(values: Any, n: Floats, m: Floats) -> Any:
    return np.where((n[..., 0] > 0) & (m[..., 0] > 0), values, np.nan)[()]


def _of_bins(distance: Callable[[Ints, Ints], Any]) -> Measure:
    return lambda _, reference, current: distance(reference.counts, current.counts)


def _of_coarse_bins(distance: Callable[[Ints, Ints], Any]) -> Measure:
    return lambda histogram, reference, current: distance(
        histogram.coarse(reference.counts), histogram.coarse(current.counts)
    )


COLUMN_METRICS: Mapping[str, ColumnMetric] = {
    "psi": ColumnMetric(_of_coarse_bins(psi), SQUARE),
    "jensen_shannon": ColumnMetric(_of_coarse_bins(jensen_shannon), SQUARE),
    "ks": ColumnMetric(_of_bins(kolmogorov_smirnov), DISTANCE, "numeric", _significance_of_ks),
    "wasserstein": ColumnMetric(wasserstein, LONG_DISTANCE, "numeric"),
    "cramers_v": ColumnMetric(_of_bins(cramers_v), DISTANCE, "categorical", _significance_of_chi_square),
    "missing": ColumnMetric(missing_share, SHARE),
    "out_of_range": ColumnMetric(out_of_range_share, SHARE, "numeric"),
    "unseen": ColumnMetric(unseen_share, SHARE, "categorical"),
}
SCALES: Mapping[str, MetricScale] = {
    **{name: metric.scale for name, metric in COLUMN_METRICS.items()},
    # of whole windows: see `detectors.drift.reference` and `pipeline.monitoring.drift_levels`
    "auc": DISTANCE,
    "flag_rate": SHARE,
    "fraud_rate": SHARE,
    "payments": RATIO,
    "per_entity": RATIO,
    "median_delay": RATIO,
    "complete_lag": LAG,
}
