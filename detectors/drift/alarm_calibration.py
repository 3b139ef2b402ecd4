"""
Calibration of drift alarms: thresholds from the null distribution of each drift metric.

The reference is compared with itself: each of its windows against the remaining rows, without the days around it, as a
production window is compared with the whole reference. The result is the *null distribution* of a metric: its centre and
scale without drift. The deviations of all metrics of all features are divided by their scales, and one threshold is set on
the largest of them in each window, for a rate of windows with any false alarm (family-wise, over all features).

Deviations are measured on the scale of their metric (`detectors.drift.scales`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from detectors.base import Floats
from detectors.drift.metrics import SCALES

WINDOWS_MIN = 8  # with fewer windows of the reference nothing is calibrated
THRESHOLD_MIN = 3.0  # scales: for any rate of false alarms
# No deviation of a null is larger than so many of its scales; the scale of a heavy tail is widened.
OWN_MAX = 5.0
TAIL = 0.2  # share of the largest values that the tail is fitted to,
TAIL_MIN = 8  # and at least so many values
# Minimum mean excess of that tail, in scales; the largest of many normal variables has about 0.35.
SLOPE_MIN = 0.5
Q90 = 1.2816  # standard deviations from the median to the 90 % quantile of a normal distribution
FEW = 10.0  # windows: with so many, the scale of a metric that does not count for the threshold is doubled


@dataclass(frozen=True)
class MetricHistory:
    """One metric of one feature in each window of the reference, compared with the remaining rows; (k,) each."""

    feature: str
    metric: str
    deviation: Floats  # on the metric's scale; signed where both sides count; NaN where not computed
    effect: Floats
    n_reference: float
    n_current: float
    can_alarm: bool = True  # whether it may raise an alarm, and so counts for the threshold


@dataclass(frozen=True)
class NullDistribution:
    """Centre and scale of a metric without drift, for samples of these sizes."""

    center: float
    scale: float
    n_reference: float
    n_current: float

    def inflation(self, n_reference: float, n_current: float) -> float:
        """Factor by which the sampling error of smaller samples is larger; never below 1."""
        current = 1 / max(n_reference, 1) + 1 / max(n_current, 1)
        usual = 1 / max(self.n_reference, 1) + 1 / max(self.n_current, 1)
        return float(np.sqrt(max(1.0, current / usual)))


@dataclass(frozen=True)
class AlarmCalibration:
    """Null distributions of all metrics, and the largest deviation of each window of the reference, in scales."""

    nulls: Mapping[tuple[str, str], NullDistribution] = field(default_factory=dict)
    max_deviations: Floats = field(default_factory=lambda: np.empty(0))  # (k,)
    windows_per_week: float = 7.0
    min_effect: float = 0.05

    @property
    def is_calibrated(self) -> bool:
        """Whether the reference had enough windows for a calibration."""
        return len(self.max_deviations) >= WINDOWS_MIN

    def threshold(self, per_week: float) -> float:
        """
        The threshold, in scales, at which `per_week` windows a week raise a false alarm.

        If the reference has too few windows for the rate, the largest fifth is extrapolated by an exponential tail
        (peaks over threshold: Pickands 1975), which is conservative, because these statistics have lighter tails. The slope β
        is itself estimated from k values, so that the next value follows a Lomax distribution: 1 / (1 + x / kβ)ᵏ.
        """
        ordered = np.sort(self.max_deviations)[::-1]
        share, k = min(1.0, per_week / self.windows_per_week), len(ordered)
        if share * k >= TAIL_MIN:
            return max(THRESHOLD_MIN, float(np.quantile(ordered, 1.0 - share)))
        top = min(k - 1, max(TAIL_MIN, round(TAIL * k)))
        beyond = max(SLOPE_MIN, float(np.mean(ordered[:top] - ordered[top])))
        return max(THRESHOLD_MIN, float(ordered[top] + top * beyond * ((top / (share * k)) ** (1 / top) - 1)))

    def limits(
        self, feature: str, metric: str, threshold: float, before: float, n_reference: float, n_current: float
    ) -> tuple[float, float]:
        """
        The range of values in which a metric raises no alarm; NaN if its null distribution is not known.

        Parameters
        ----------
        before
            Value of the metric in the reference; not used for distances.
        """
        null, scale = self.nulls.get((feature, metric)), SCALES[metric]
        if null is None or not self.is_calibrated:
            return float("nan"), float("nan")
        inflation = null.inflation(n_reference, n_current)
        if scale.alarms == "distance":
            return -np.inf, float(scale.back((null.center + threshold * null.scale) * inflation))
        middle = float(scale.to(before)) + null.center
        if scale.alarms == "above":
            return -np.inf, float(scale.back(middle + threshold * null.scale))
        room = threshold * null.scale * inflation
        return float(scale.back(middle - room)), float(scale.back(middle + room))


def calibrate(
    histories: Iterable[MetricHistory], n_windows: int, windows_per_week: float, min_effect: float
) -> AlarmCalibration:
    """
    Estimate the null distribution of each metric, and the largest deviation in each window over all that can alarm.

    Only effects of `min_effect` or more count for the threshold: smaller ones never alarm, however unusual they are.
    """
    nulls: dict[tuple[str, str], NullDistribution] = {}
    max_deviations = np.zeros(n_windows)
    for history in histories:
        null = _null(history)
        if null is None:
            continue
        nulls[history.feature, history.metric] = null
        if history.can_alarm and len(history.deviation) == n_windows:
            scaled = (history.deviation - null.center) / null.scale
            scaled = np.abs(scaled) if SCALES[history.metric].alarms == "both" else scaled
            counted = ~np.isnan(scaled) & (history.effect >= min_effect)
            max_deviations = np.maximum(max_deviations, np.where(counted, scaled, 0.0))
    return AlarmCalibration(nulls, max_deviations, windows_per_week, min_effect)


def _null(history: MetricHistory) -> NullDistribution | None:
    deviation = history.deviation[~np.isnan(history.deviation)]
    if len(deviation) < WINDOWS_MIN:
        return None
    center = float(np.median(deviation))
    centered = deviation - center
    if SCALES[history.metric].alarms == "both":
        scale = float(np.quantile(np.abs(centered), 0.8)) / Q90  # 80 % lie within ± 1.28 standard deviations
        furthest = float(np.abs(centered).max())
    else:
        scale, furthest = float(np.quantile(centered, 0.9)) / Q90, float(centered.max())
    widest = max(scale, furthest / OWN_MAX, _floor(history))
    if not history.can_alarm:  # its tail is not in the threshold, so an estimate from few windows is widened
        widest *= 1 + FEW / len(deviation)
    return NullDistribution(center, widest, history.n_reference, history.n_current)


def _floor(history: MetricHistory) -> float:
    scale = SCALES[history.metric]
    error = np.sqrt(1 / max(history.n_reference, 1) + 1 / max(history.n_current, 1))
    return max(scale.floor, float(scale.floor_per_error * error))
