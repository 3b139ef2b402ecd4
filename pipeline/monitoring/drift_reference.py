"""
The drift reference of a model: fitted at every training and stored with the model.

The reference consists of all transactions known to the training, labelled or not, sampled by hash of the id, or of a
configured span of dates. Alarms are calibrated on the reference's own windows, which are those of the schedule.
"""

from dataclasses import dataclass
from datetime import date as calendar_date
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from detectors.drift.reference import DriftReference
from detectors.drift.reference_fit import ReferenceSample, ScoredRows, fit_drift_reference
from detectors.drift.reference_windows import ReferenceWindows
from detectors.inputs.sample import Sample
from detectors.model.model import AUDIT, Model, Scores
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.config.costs import at_risk
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.columns import HOLIDAY_COLUMNS, PAYMENT_COLUMNS
from pipeline.features.history import Floats, History, load, raw_matrix
from pipeline.features.seasons import on_holiday, season_of
from pipeline.monitoring.drift_levels import level_histories
from pipeline.schedule import grid as window_grid
from storage.database.database import Store
from storage.frames import DAY, HOUR, SECOND, WEEK, Ints

MODEL = "model"
REFERENCE_ROWS = 60_000  # enough for dozens of rows in each decile of a small window
EXPLAINED = 1_000  # newest flags of the reference whose reasons are computed
GAP = 7  # days on either side of a window that it is not compared with, …
GAP_SHARE = 4  # … at most one part in GAP_SHARE of the reference
FULL_DAYS = 14  # days that must remain when days with half-filled windows are left out

MATURES = "labels arrive for months: measured, never an alarm"
CALENDAR = "it follows the calendar, not the payments: measured, never an alarm"


@dataclass(frozen=True)
class ReferenceData:
    """The history that a drift reference is fitted on, with positions in it."""

    history: History
    rows: Ints  # the reference, ascending
    mature: Ints
    y: Floats


def reference_history(store: Store, config: Config, history: History, date: int) -> History:
    """The history of the reference: the training's own, or that of a configured span that begins before it."""
    span = chosen_span(config)
    if span is None or span[0] >= date - config.training.span:
        return history
    return load(store, config, span[0] - config.lookback, min(span[1], date))


def chosen_span(config: Config) -> tuple[int, int] | None:
    """[start, end) of drift.reference; None if the reference is the model's own training span."""
    if config.drift.reference == MODEL:
        return None
    start, _, end = config.drift.reference.partition("/")
    return _midnight(start, config), _midnight(end, config)


def reference_rows(config: Config, history: History, date: int) -> Ints:
    """
    Positions of the reference, ascending: all transactions that were known at `date`, in the span.

    When a stored history begins, windows are still filling. So the first days, up to the longest window, are left out if
    two weeks remain, otherwise the older half.
    """
    times = history.transactions.event_time
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    span = chosen_span(config)
    if span is not None:
        rows = np.flatnonzero(visible & (times >= span[0]) & (times < span[1]))
        if len(rows) >= config.training.min_rows:
            return rows
    rows = np.flatnonzero(visible & (times >= date - config.training.span))
    if not len(rows) or times[0] <= date - config.training.span - config.features.windows[-1]:
        return rows
    full = int(times[0]) + config.features.windows[-1]
    begin = full if date - full >= FULL_DAYS * DAY else (int(times[rows[0]]) + date) // 2
    return rows[times[rows] >= begin]


def fit(
    config: Config,
    model: Model,
    features: FeatureCatalogue,
    data: ReferenceData,
    holdout: Sample,
    days: float,
    date: int,
) -> DriftReference:
    """
    Fit the drift reference of a newly fitted model.

    Parameters
    ----------
    holdout
        Rows that nothing was fitted on, for the distribution of scores: those that the model's thresholds were set on.
    days
        Length of the holdout.
    """
    transactions = data.history.transactions
    if not len(data.rows):
        return DriftReference.empty()
    selected, _ = hash_sampling.sample_rows(data.history.draws[data.rows], REFERENCE_ROWS)
    rows = data.rows[selected]
    raw = raw_matrix(data.history, rows, features, config)
    first, last = int(transactions.event_time[data.rows[0]]), int(transactions.event_time[data.rows[-1]])
    edges = np.array(window_grid.edges(cell_length(config), config.schedule.timezone, first, last + 1))
    grid = _grid(config, edges, transactions.event_time[rows])
    channels = [name for name in model.thresholds if name != AUDIT]
    codes = sorted({feature.code for feature in features.features})
    cells_a_day = max(1, DAY // cell_length(config))
    subject = ReferenceSample(
        names=model.drift_features,
        categorical=features.categorical,
        columns=model.drift_values(raw),
        scored=reference_scores(
            model, features, raw, model.score(raw, at_risk(config, transactions)[rows]), channels, codes
        ),
        recent=reference_scores(
            model,
            features,
            holdout.raw,
            model.score(holdout.raw, holdout.amount, model.recent),
            channels,
            codes,
        ),
        recent_cells=max(1, round(days * cells_a_day)),
        channels=channels,
        reason_names=codes,
        classifier_columns=classifier_columns(model, features),
        muted=never_alarming(features, config),
    )
    levels = level_histories(config, data.history, data.rows, data.mature, data.y, edges, grid.width, date)
    drift = config.drift
    return fit_drift_reference(subject, grid, levels, drift.metrics, drift.min_rows, drift.min_effect)


def reference_scores(
    model: Model,
    features: FeatureCatalogue,
    raw: Floats,
    scores: Scores,
    channels: list[str],
    codes: list[str],
) -> ScoredRows:
    """Scores with channels and strongest reasons as numbers; flags of the audit sample count as not flagged."""
    places = {name: place for place, name in enumerate(channels)}
    channel = np.array(
        [places.get(name, -1) if flagged else -1 for name, flagged in zip(scores.channel, scores.flagged, strict=True)],
        dtype=np.int64,
    )  # fmt: skip
    explained = np.flatnonzero(channel >= 0)[-EXPLAINED:]
    reason = np.full(len(explained), -1, dtype=np.int64)
    code_of = {code: place for place, code in enumerate(codes)}
    code = np.array([code_of.get(feature.code, -1) for feature in features.features], dtype=np.int64)
    for place, name in enumerate(channels):
        rows = channel[explained] == place
        if rows.any():
            contributions = model.detector.explain(np.ascontiguousarray(raw[explained[rows]]), name)
            reason[rows] = code[np.argmax(contributions, axis=1)]
    return ScoredRows(scores.score, channel, reason, explained)


def cell_length(config: Config) -> int:
    """Length in µs of the cells that a reference is cut into."""
    return min(max(config.schedule.window, HOUR), DAY)


def never_alarming(features: FeatureCatalogue, config: Config) -> dict[str, str]:
    """Columns that never alarm, because they follow labels or the calendar, and why."""
    window = config.schedule.window
    return {
        feature.name: CALENDAR if feature.label_free else MATURES
        for feature in features.features
        if not feature.label_free or (feature.period is not None and window < feature.period)
    }


def calendar_features(config: Config) -> tuple[str, ...]:
    """
    Features of the calendar, if a window is shorter than a week: a Sunday differs in them from weeks by nature.

    Lists of drift have them last, unless they raise an alarm: alarms are calibrated on single windows of the reference, so that a Sunday alone
    raises none.
    """
    columns = (*PAYMENT_COLUMNS, *HOLIDAY_COLUMNS) if config.schedule.window < WEEK else ()
    return tuple(column.name for column in columns if column.period is not None)


def classifier_columns(model: Model, features: FeatureCatalogue) -> list[int]:
    """Columns that the domain classifier may use: neither labels nor the calendar."""
    allowed = {feature.name for feature in features.features if feature.label_free and feature.period is None}
    allowed |= set(features.categorical)
    return [place for place, name in enumerate(model.drift_features) if name in allowed]


def _grid(config: Config, edges: Ints, times: Ints) -> ReferenceWindows:
    starts, length = edges[:-1], cell_length(config)
    cells_a_day = max(1, DAY // length)
    return ReferenceWindows(
        cell=np.searchsorted(starts, times, side="right") - 1,
        season=[season_of(int(start), config) for start in starts],
        special=on_holiday(starts, config),
        width=max(1, config.schedule.window // DAY),
        gap=min(GAP * cells_a_day, len(starts) // GAP_SHARE),
        windows_per_week=WEEK / config.schedule.window,
    )


def _midnight(day: str, config: Config) -> int:
    at = calendar_date.fromisoformat(day)
    zone = ZoneInfo(config.schedule.timezone)
    return int(datetime(at.year, at.month, at.day, tzinfo=zone).timestamp()) * SECOND
