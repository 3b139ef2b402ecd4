"""
Fitting a `DriftReference`: histograms of the reference, and the null distributions of drift metrics from comparing each of
its windows with the remaining rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats, Ints
from detectors.drift.alarm_calibration import WINDOWS_MIN, MetricHistory, calibrate
from detectors.drift.domain_classifier import fit_domain_classifier, subsample
from detectors.drift.histograms import BinnedSample, ColumnHistogram, ReferenceHistograms
from detectors.drift.metrics import SCALES, column_drifts, of_distributions
from detectors.drift.reference import (
    FLAGS_MIN,
    HOLIDAY,
    DriftReference,
    SampleRows,
    UsualLevel,
    classifier_rows,
)
from detectors.drift.reference_windows import ReferenceWindows
from detectors.drift.scales import SHARE

CLASSIFIER_WINDOWS = 16  # windows on which the domain classifier is calibrated
OTHERS_MIN = 3  # windows of a season that define its usual level


@dataclass(frozen=True)
class ScoredRows:
    """Scores, channels and reasons of rows, as in `DriftReference.bin_window`."""

    score: Floats
    channel: Ints
    reason: Ints  # first reason of the rows `explained`
    explained: Ints  # indices of rows with reasons, ascending


@dataclass(frozen=True)
class ReferenceSample:
    """The data that a drift reference is fitted on, rows in time order."""

    names: Sequence[str]
    categorical: Sequence[str]
    columns: Floats  # (n, n_columns)
    scored: ScoredRows  # the same rows; the model was trained on them, so they calibrate how scores vary, not their location
    recent: ScoredRows  # held-out rows, which give the location of scores
    recent_cells: int  # number of cells of the held-out rows
    channels: Sequence[str]
    reason_names: Sequence[str]
    classifier_columns: Sequence[int]
    muted: Mapping[str, str]


@dataclass(frozen=True)
class LevelHistory:
    """
    A level in the windows of the reference.

    Attributes
    ----------
    values
        (n_cells − width + 1,) of the windows that end after cell width − 1, width, …; NaN where unknown.
    overall
        The usual value if it is not the median, such as a share of all rows.
    n
        Number of rows or entities of a usual window.
    """

    feature: str
    metric: str
    values: Floats
    n: float
    overall: float = float("nan")


def fit_drift_reference(
    reference: ReferenceSample,
    grid: ReferenceWindows,
    levels: Sequence[LevelHistory],
    metrics: Sequence[str],
    min_rows: int,
    min_effect: float,
) -> DriftReference:
    """
    Fit the histograms of a reference and calibrate its alarms.

    Parameters
    ----------
    grid
        Cells of the rows of `reference`.
    metrics
        Names in `COLUMN_METRICS`: the metrics of columns that are measured, and on which the alarms are calibrated.
    min_rows
        Minimum number of rows of a window; smaller windows are pooled.
    min_effect
        Smaller effects never alarm.
    """
    special = np.asarray(grid.special, dtype=bool)[grid.cell]
    plain = np.flatnonzero(~special) if not special.all() else np.arange(len(special))
    features = ReferenceHistograms.fit(reference.columns[plain], reference.names, reference.categorical)
    ends = grid.ends()
    first = grid.first(ends, min_rows)
    histories = [
        *_column_histories(reference, features, metrics, grid, ends, first),
        *_score_histories(reference, metrics, grid, ends, first),
        *_reason_histories(reference, metrics, grid, ends),
        *_classifier_history(reference, features, grid, ends, first),
        *(_level_as_metric(history, grid, ends) for history in levels),
    ]
    sample = classifier_rows(
        features.histograms, reference.classifier_columns, subsample(reference.columns[plain])
    )
    return DriftReference(
        features=replace(features, variants=_holidays(reference, features, special)),
        score=ReferenceHistograms.fit(reference.recent.score.reshape(-1, 1), ["score"]),
        reasons=ReferenceHistograms.fit(reference.recent.reason.reshape(-1, 1), ["reasons"], ["reasons"]),
        reason_names=tuple(reference.reason_names),
        channels=tuple(reference.channels),
        flags=_per_channel(reference.recent.channel, len(reference.channels)),
        classifier_columns=tuple(reference.classifier_columns),
        rows=sample,
        never_alarming=dict(reference.muted),
        metrics=tuple(metrics),
        levels={(level.feature, level.metric): _usual(level, grid) for level in levels},
        calibration=calibrate(histories, len(ends), grid.windows_per_week, min_effect),
    )


def _holidays(
    reference: ReferenceSample, features: ReferenceHistograms, special: NDArray[np.bool_]
) -> dict[str, Ints]:
    """Counts of the holidays, with which holidays are compared."""
    return {HOLIDAY: features.count(reference.columns[special]).counts} if special.any() else {}


def _column_histories(
    reference: ReferenceSample, features: ReferenceHistograms, metrics: Sequence[str], grid: ReferenceWindows,
    ends: Ints, first: Ints,
) -> Iterator[MetricHistory]:  # fmt: skip
    for place, (name, histogram) in enumerate(zip(features.names, features.histograms, strict=True)):
        column = np.ascontiguousarray(reference.columns[:, place])
        yield from _metric_histories(
            name, histogram, column, metrics, grid, ends, first, can_alarm=name not in reference.muted
        )


def _metric_histories(
    name: str, histogram: ColumnHistogram, column: Floats, metrics: Sequence[str], grid: ReferenceWindows,
    ends: Ints, first: Ints, *, span: int | None = None, can_alarm: bool = True,
) -> Iterator[MetricHistory]:  # fmt: skip
    """The metrics of a column in every window of the reference."""
    cells = histogram.count_each(column, grid.cell, grid.n_cells)
    current, rest = grid.current(cells, first, ends), grid.rest(cells, first, ends, span)
    for drift in column_drifts(histogram, rest, current, metrics):
        scale = SCALES[drift.metric]
        deviation = scale.to(drift.value)
        if scale.alarms != "distance":
            deviation = deviation - scale.to(drift.before)
        deviation = np.where((first >= 0) & (rest.n > 0), deviation, np.nan)
        yield MetricHistory(
            name, drift.metric, deviation, drift.effect, *_sizes(rest, current, first), can_alarm=can_alarm
        )


def _score_histories(
    reference: ReferenceSample, metrics: Sequence[str], grid: ReferenceWindows, ends: Ints, first: Ints
) -> Iterator[MetricHistory]:
    """The score and the shares of flags, compared with as few days as in production."""
    span, score = reference.recent_cells, reference.scored.score
    yield from _metric_histories(
        "score", ColumnHistogram.numeric(score), score, metrics, grid, ends, first, span=span
    )
    for place, channel in enumerate(reference.channels):
        flagged = np.bincount(grid.cell[reference.scored.channel == place], minlength=grid.n_cells)
        every = np.bincount(grid.cell, minlength=grid.n_cells)
        cells = BinnedSample(np.stack((every - flagged, flagged), axis=1), np.zeros((grid.n_cells, 2)))
        current, rest = grid.current(cells, first, ends), grid.rest(cells, first, ends, span)
        with np.errstate(invalid="ignore"):
            now, then = current.counts[:, 1] / current.n, rest.counts[:, 1] / rest.n
        deviation = np.where(first >= 0, SHARE.to(now) - SHARE.to(then), np.nan)
        sizes = _sizes(rest, current, first)
        yield MetricHistory(f"flags:{channel}", "flag_rate", deviation, SHARE.change(then, now), *sizes)


def _reason_histories(
    reference: ReferenceSample, metrics: Sequence[str], grid: ReferenceWindows, ends: Ints
) -> Iterator[MetricHistory]:
    scored = reference.scored
    if not len(scored.reason):
        return
    reasons = scored.reason.astype(np.float64)
    flag_windows = grid.take(scored.explained)
    first = flag_windows.first(ends, FLAGS_MIN)
    histogram = ColumnHistogram.of_categories(reasons)
    yield from _metric_histories(
        "reasons", histogram, reasons, of_distributions(metrics), flag_windows, ends, first
    )


def _classifier_history(
    reference: ReferenceSample, features: ReferenceHistograms, grid: ReferenceWindows, ends: Ints, first: Ints
) -> Iterator[MetricHistory]:
    """The AUC of the domain classifier in some windows; it does not count for the threshold."""
    possible = np.flatnonzero(first >= 0)
    some = possible[
        np.linspace(0, len(possible) - 1, min(CLASSIFIER_WINDOWS, len(possible))).astype(np.int64)
    ]
    if len(some) < WINDOWS_MIN:
        return
    sample = classifier_rows(features.histograms, reference.classifier_columns, reference.columns)
    results = [_classifier_auc(sample, grid, int(first[k]), int(ends[k])) for k in some]
    auc = np.array([np.nan if result is None else result[0] for result in results])
    sizes = [result[1:] for result in results if result is not None]
    if sizes:
        n, m = np.median(np.array(sizes), axis=0)
        yield MetricHistory("all features", "auc", auc, 2 * auc - 1, float(n), float(m), can_alarm=False)


def _classifier_auc(
    sample: SampleRows, grid: ReferenceWindows, first: int, end: int
) -> tuple[float, int, int] | None:
    low, high = np.searchsorted(grid.cell, [first, end])
    near, far = np.searchsorted(grid.cell, [first - grid.gap, end + grid.gap])
    rest = subsample(np.concatenate((np.arange(near), np.arange(far, len(sample)))))
    before, after = sample[rest].astype(np.float64), sample[low:high].astype(np.float64)
    result = fit_domain_classifier(before, after)
    return None if result is None else (result.auc, len(subsample(before)), len(subsample(after)))


def _level_as_metric(history: LevelHistory, grid: ReferenceWindows, ends: Ints) -> MetricHistory:
    """The level of each window, compared with the median of the other windows of its season."""
    scaled = SCALES[history.metric].to(history.values[ends - grid.width])
    season = np.asarray(grid.season)[ends - 1]
    deviation = scaled - np.array([_others(scaled, season, place) for place in range(len(ends))])
    n_known = int(np.count_nonzero(~np.isnan(scaled)))
    return MetricHistory(
        history.feature, history.metric, deviation, np.abs(deviation), history.n * n_known, history.n
    )


def _others(scaled: Floats, season: Floats, place: int) -> float:
    same_season = (season == season[place]) & ~np.isnan(scaled)
    same_season[place] = False
    if np.count_nonzero(same_season) < OTHERS_MIN:
        same_season = ~np.isnan(scaled)
    return float(np.median(scaled[same_season])) if same_season.any() else float("nan")


def _usual(history: LevelHistory, grid: ReferenceWindows) -> UsualLevel:
    last = np.arange(grid.width, len(history.values) + grid.width) - 1
    special = np.asarray(grid.special, dtype=bool)[last]
    season = np.where(special, HOLIDAY, np.asarray(grid.season)[last])
    known = ~np.isnan(history.values)
    center: dict[str, float] = {}
    if (known & ~special).any():
        center[""] = float(np.median(history.values[known & ~special]))
    for name in np.unique(season[known]):
        values = history.values[known & (season == name)]
        if len(values) >= OTHERS_MIN or name == HOLIDAY:
            center[str(name)] = float(np.median(values))
    if not np.isnan(history.overall):
        center = {"": history.overall}
    n = int(history.n * np.count_nonzero(known)) if history.n == history.n else 0
    return UsualLevel(center, n)


def _sizes(rest: BinnedSample, current: BinnedSample, first: Ints) -> tuple[float, float]:
    known = first >= 0
    if not known.any():
        return 0.0, 0.0
    return float(np.median(rest.n[known])), float(np.median(current.n[known]))


def _per_channel(channel: Ints, n: int) -> Ints:
    return np.bincount(channel[channel >= 0], minlength=n)
