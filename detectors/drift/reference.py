"""
The drift reference of a model, and the comparison of a window with it.

A `DriftReference` is stored inside the model: histograms of every column, of the score and of the reasons, shares of flags, a
sample of rows for the domain classifier, levels such as the usual volume, and the calibration of the alarms. A
`WindowHistogram` is what is stored of a window: it is small, windows can be added, and all drift metrics are computed from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from detectors.base import DetectorError, Floats, Ints
from detectors.drift.alarm_calibration import AlarmCalibration
from detectors.drift.domain_classifier import ROWS_MIN, fit_domain_classifier, subsample
from detectors.drift.histograms import BinnedSample, ColumnHistogram, ReferenceHistograms
from detectors.drift.metrics import COLUMN_METRICS, SCALES, Drift, compare_binned, of_distributions
from detectors.drift.scales import SHARE
from detectors.evaluation.prevalence import jeffreys

HOLIDAY = "holiday"  # the season of holidays, which are unlike other days
FLAGS_MIN = 20  # reasons of fewer flags are not compared
CONFIDENCE = 0.95  # of intervals around shares

SampleRows = NDArray[np.float32]


@dataclass(frozen=True)
class WindowHistogram:
    """The transactions of a window, counted in the bins of a drift reference; windows can be added."""

    features: BinnedSample
    score: BinnedSample
    reasons: BinnedSample  # of flags
    flags: Ints  # (n_channels,)
    rows: SampleRows  # (r, n_classifier_columns) a subsample for the domain classifier

    @property
    def n(self) -> int:
        """Number of transactions."""
        return int(self.score.n)

    @property
    def _bins(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of its counts, and the number of columns of its rows."""
        counted = (self.features, self.score, self.reasons)
        shapes = (part.shape for sample in counted for part in (sample.counts, sample.gaps))
        return (*shapes, self.flags.shape, self.rows.shape[1:])

    def __add__(self, other: "WindowHistogram") -> "WindowHistogram":
        if self._bins != other._bins:
            raise DetectorError(
                f"histograms with bins {self._bins} and {other._bins} are not of one reference"
            )
        return WindowHistogram(
            self.features + other.features,
            self.score + other.score,
            self.reasons + other.reasons,
            self.flags + other.flags,
            np.concatenate((self.rows, other.rows)),
        )


@dataclass(frozen=True)
class Level:
    """One number of a window, such as its volume or a label delay."""

    feature: str
    metric: str
    value: float
    n: int
    season: str = ""
    suppressed_because: str = ""


@dataclass(frozen=True)
class UsualLevel:
    """The usual value of a level by season; the season "" stands for any."""

    center: Mapping[str, float]
    n: int


@dataclass(frozen=True)
class DriftFinding:
    """A drift, its alarm threshold and whether it is an alarm; `lower` and `upper` bound a share."""

    drift: Drift
    threshold: float
    alarm: bool
    lower: float = float("nan")
    upper: float = float("nan")


@dataclass(frozen=True)
class AlarmTerms:
    """
    Settings of the alarms of one window.

    Attributes
    ----------
    per_week
        Accepted number of false alarms a week.
    holiday
        Whether the window lies on a holiday: it is then compared with the holidays of the reference, if there are any.
    suppressed_because
        Why no alarm may be raised; empty if alarms may be raised.
    """

    per_week: float
    holiday: bool = False
    suppressed_because: str = ""


@dataclass(frozen=True)
class DriftReference:
    """Histograms, levels and alarm calibration of the reference transactions of a model."""

    features: ReferenceHistograms
    score: ReferenceHistograms
    reasons: ReferenceHistograms
    reason_names: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    flags: Ints = field(
        default_factory=lambda: np.empty(0, np.int64)
    )  # (n_channels,) number of flags among the rows of `score`
    classifier_columns: tuple[int, ...] = ()  # columns of the domain classifier
    rows: SampleRows = field(default_factory=lambda: np.empty((0, 0), np.float32))
    never_alarming: Mapping[str, str] = field(default_factory=dict)  # feature → why it never raises an alarm
    metrics: tuple[str, ...] = ()  # of columns, names in `COLUMN_METRICS`
    levels: Mapping[tuple[str, str], UsualLevel] = field(default_factory=dict)
    calibration: AlarmCalibration = field(default_factory=AlarmCalibration)

    def __post_init__(self) -> None:
        columns = len(self.features.names)
        fits = (
            self.flags.shape == (len(self.channels),),
            self.rows.ndim == 2
            and (not len(self.rows) or self.rows.shape[1] == len(self.classifier_columns)),
            all(0 <= place < columns for place in self.classifier_columns),
            set(self.metrics) <= set(COLUMN_METRICS),
            len(self.score.histograms) <= 1 and len(self.reasons.histograms) <= 1,
        )
        if not all(fits):
            raise DetectorError("the parts of a drift reference do not fit together")

    @classmethod
    def empty(cls) -> "DriftReference":
        """A reference without rows, for a model that was stored without one."""
        no_columns = ReferenceHistograms((), ())
        return cls(no_columns, no_columns, no_columns)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compare with."""
        return not self.score.histograms

    def bin_window(self, columns: Floats, score: Floats, channel: Ints, reason: Ints) -> WindowHistogram:
        """
        Count the transactions of a window in the bins of the reference.

        Parameters
        ----------
        columns
            (n, n_columns) the columns of the reference.
        score
            (n,) in [0, 1].
        channel
            (n,) index in `channels` of each flagged row, −1 for the others.
        reason
            (n_flags,) index in `reason_names` of the first reason of each flag.
        """
        return WindowHistogram(
            self.features.count(columns),
            self.score.count(score.reshape(-1, 1)),
            self.reasons.count(reason.reshape(-1, 1).astype(np.float64)),
            np.bincount(channel[channel >= 0], minlength=len(self.channels)),
            self.classifier_sample(columns),
        )

    def classifier_sample(self, columns: Floats) -> SampleRows:
        """A subsample of rows for the domain classifier; a category is the index of its bin."""
        return classifier_rows(self.features.histograms, self.classifier_columns, subsample(columns))

    @property
    def holiday_rows(self) -> int:
        """Number of reference rows of holidays."""
        if not self.features.histograms or HOLIDAY not in self.features.variants:
            return 0
        return int(self.features.variants[HOLIDAY][: self.features.histograms[0].n_bins].sum())

    def compare_window(self, window: WindowHistogram, terms: AlarmTerms) -> Iterator[DriftFinding]:
        """Compare a window with the reference by its metrics; a share that is 0 in both is left out."""
        threshold = (
            self.calibration.threshold(terms.per_week) if self.calibration.is_calibrated else float("nan")
        )
        for drift in self._drifts(window, terms):
            if not (drift.metric in COLUMN_METRICS and drift.value == 0 and drift.before == 0):
                yield self._finding(drift, threshold, terms.suppressed_because)

    def compare_levels(self, levels: Sequence[Level], terms: AlarmTerms) -> Iterator[DriftFinding]:
        """Compare the levels of a window with their usual values."""
        threshold = (
            self.calibration.threshold(terms.per_week) if self.calibration.is_calibrated else float("nan")
        )
        for level in levels:
            usual = self.levels.get((level.feature, level.metric), UsualLevel({}, 0))
            other = float("nan") if level.season == HOLIDAY else usual.center.get("", float("nan"))
            before = usual.center.get(level.season, other)
            effect = float(SCALES[level.metric].change(before, level.value))
            suppressed_because = level.suppressed_because or (
                "the reference has no such level" if np.isnan(before) else ""
            )
            drift = Drift(
                level.feature,
                level.metric,
                level.value,
                suppressed_because,
                usual.n,
                level.n,
                effect,
                before,
            )
            yield self._finding(drift, threshold, terms.suppressed_because)

    def _drifts(self, window: WindowHistogram, terms: AlarmTerms) -> Iterator[Drift]:
        holidays = self.features.variant(HOLIDAY) if terms.holiday else None
        yield from compare_binned(holidays or self.features, window.features, self.metrics)
        yield from compare_binned(self.score, window.score, self.metrics)
        yield from self._flag_rates(window)
        yield from self._reasons(window)
        yield self._domain_classifier_drift(window)

    def _flag_rates(self, window: WindowHistogram) -> Iterator[Drift]:
        n = self.score.histograms[0].n
        for place, channel in enumerate(self.channels):
            value = window.flags[place] / window.n if window.n else float("nan")
            before = self.flags[place] / n if n else float("nan")
            suppressed_because = "" if window.n and n else "there are no rows to take a share of"
            effect = float(SHARE.change(before, value))
            yield Drift(
                f"flags:{channel}", "flag_rate", value, suppressed_because, n, window.n, effect, before
            )

    def _reasons(self, window: WindowHistogram) -> Iterator[Drift]:
        few = int(window.reasons.n) < FLAGS_MIN
        suppressed_because = (
            f"{int(window.reasons.n)} flags, fewer than {FLAGS_MIN}, have no mix of reasons" if few else ""
        )
        nan = float("nan")
        for drift in compare_binned(self.reasons, window.reasons, of_distributions(self.metrics)):
            yield (
                replace(drift, value=nan, effect=nan, suppressed_because=suppressed_because) if few else drift
            )

    def _domain_classifier_drift(self, window: WindowHistogram) -> Drift:
        n, m = len(self.rows), len(window.rows)
        result = fit_domain_classifier(self.rows.astype(np.float64), window.rows.astype(np.float64))
        if result is None:
            suppressed_because = f"a classifier needs {ROWS_MIN} rows of each, there are {n:,} and {m:,}"
            return Drift("all features", "auc", float("nan"), suppressed_because, n, m)
        used = {
            self.features.names[self.classifier_columns[place]]: round(share, 3)
            for place, share in result.gain_shares.items()
        }
        effect = max(0.0, 2 * result.auc - 1)
        return Drift("all features", "auc", result.auc, "", n, m, effect, 0.5, detail={"used": used})

    def _finding(self, drift: Drift, threshold: float, suppressed_because: str) -> DriftFinding:
        n, m = drift.n_reference, drift.n_current
        if (
            drift.metric == "payments"
        ):  # the sampling error is that of the expected number, since a small number is the finding
            m = 0 if np.isnan(drift.before) else round(drift.before)
        low, high = self.calibration.limits(drift.feature, drift.metric, threshold, drift.before, n, m)
        scale = SCALES[drift.metric]
        below = scale.alarms == "both" and drift.value < drift.before
        beyond = drift.value < low if below else drift.value > high
        suppressed_because = (
            drift.suppressed_because or self.never_alarming.get(drift.feature, "") or suppressed_because
        )
        if not suppressed_because and np.isnan(high):
            suppressed_because = "the reference is too short to say what is usual"
        alarm = bool(beyond and not suppressed_because and drift.effect >= self.calibration.min_effect)
        lower, upper = _interval(drift.value, m) if scale is SHARE else (float("nan"),) * 2
        return DriftFinding(
            replace(drift, suppressed_because=suppressed_because), low if below else high, alarm, lower, upper
        )


def classifier_rows(
    histograms: Sequence[ColumnHistogram], classifier_columns: Sequence[int], columns: Floats
) -> SampleRows:
    """The columns of the domain classifier, in single precision."""
    sample = np.empty((len(columns), len(classifier_columns)), np.float32)
    for place, column in enumerate(classifier_columns):
        histogram = histograms[column]
        values = np.ascontiguousarray(columns[:, column])
        with np.errstate(over="ignore"):
            sample[:, place] = histogram.bins(values) if histogram.categorical else values
    return sample


def _interval(share: float, n: int) -> tuple[float, float]:
    """Jeffreys confidence interval of a share of n rows."""
    if not n or np.isnan(share):
        return float("nan"), float("nan")
    return jeffreys(share * n, n, 1 - CONFIDENCE)
