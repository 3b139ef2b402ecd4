"""
What a model remembers of its time, so that drift can be told later: fitted at every training.

The reference is everything the training knew, labelled or not, drawn by hash of the id, or a span of dates that was chosen.
Its alarms are calibrated on its own windows, which are those of the schedule.
"""

from dataclasses import dataclass
from datetime import date as calendar_date
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from detectors.drift.reference import Watch
from detectors.drift.reference_fit import Scored, Subject, fit_watch
from detectors.drift.reference_windows import Grid
from detectors.inputs.sample import Sample
from detectors.model.model import AUDIT, Model, Scores
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.features.compute import Plan
from pipeline.features.history import Floats, History, load, raw_matrix
from pipeline.features.seasons import on_holiday, season_of
from pipeline.monitoring.drift_levels import level_histories
from pipeline.schedule import grid as schedule
from storage.database.database import Store
from storage.frames import DAY, HOUR, MONEY, SECOND, Ints

MODEL = "model"
REFERENCE_ROWS = 60_000  # a decile of a day's tenth of them still holds dozens
EXPLAINED = 1_000  # newest flags of the reference whose reasons are looked at
GAP = 7  # days on either side of a window that it is not compared with …
GAP_SHARE = 4  # … and no more than this part of the reference
FULL_DAYS = 14  # days that must be left when those with half-filled windows go
WEEK = 7 * DAY

MATURES = "known frauds arrive for months: measured, never an alarm"
CALENDAR = "it moves with the calendar whatever the payments do: measured, never an alarm"


@dataclass(frozen=True)
class Known:
    """What a training's date knows of a history, as positions in it."""

    history: History
    rows: Ints  # the reference, ascending
    mature: Ints
    y: NDArray[np.float64]


def reference_history(store: Store, config: Config, history: History, date: int) -> History:
    """The history that holds the reference: the training's own, or that of a chosen span that begins before it."""
    span = chosen_span(config)
    if span is None or span[0] >= date - config.training.span:
        return history
    return load(store, config, span[0] - config.lookback, min(span[1], date))


def chosen_span(config: Config) -> tuple[int, int] | None:
    """[start, end) of drift.reference; None for the model's own training sample."""
    if config.drift.reference == MODEL:
        return None
    start, _, end = config.drift.reference.partition("/")
    return _midnight(start, config), _midnight(end, config)


def reference_rows(config: Config, history: History, date: int) -> Ints:
    """
    Positions of the reference, ascending: all transactions that were known at `date`, in the span.

    When a stored history begins, windows are still filling: the first days, up to the longest window, are left out where
    two weeks remain, else the older half.
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
    config: Config, model: Model, features: Plan, known: Known, recent: Sample, days: float, date: int
) -> Watch:
    """
    The watch of a model that was just fitted.

    Parameters
    ----------
    recent
        Rows that nothing was fitted on: where scores lie now.
    days
        How long `recent` lasted.
    """
    every = known.history.transactions
    if not len(known.rows):
        return Watch.blind()
    drawn, _ = hash_sampling.draw(hash_sampling.uniform(every.transaction_id[known.rows]), REFERENCE_ROWS)
    rows = known.rows[drawn]
    raw = raw_matrix(known.history, rows, features, config)
    first, last = int(every.event_time[known.rows[0]]), int(every.event_time[known.rows[-1]])
    edges = np.array(schedule.edges(cell_length(config), config.schedule.timezone, first, last + 1))
    grid = _grid(config, edges, every.event_time[rows])
    channels = [name for name in model.thresholds if name != AUDIT]
    codes = sorted({feature.code for feature in features.features})
    cells_a_day = max(1, DAY // cell_length(config))
    subject = Subject(
        names=model.columns,
        categorical=features.categorical,
        columns=model.watched(raw),
        scored=said(model, features, raw, model.score(raw, every.amount[rows] / MONEY), channels, codes),
        recent=said(model, features, recent.raw, model.score(recent.raw, recent.amount), channels, codes),
        recent_cells=max(1, round(days * cells_a_day)),
        channels=channels,
        reason_names=codes,
        separable=separable(model, features),
        muted=muted(features, config),
    )
    levels = level_histories(
        config, known.history, known.rows, known.mature, known.y, edges, grid.width, date
    )
    return fit_watch(subject, grid, levels, config.drift.min_rows, config.drift.min_effect)


def said(
    model: Model, features: Plan, raw: Floats, scores: Scores, channels: list[str], codes: list[str]
) -> Scored:
    """Scores as a watch takes them: channels and first reasons as numbers; audits, drawn by chance, are none."""
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
        mine = channel[explained] == place
        if mine.any():
            contributions = model.detector.explain(np.ascontiguousarray(raw[explained[mine]]), name)
            reason[mine] = code[np.argmax(contributions, axis=1)]
    return Scored(scores.score, channel, reason, explained)


def cell_length(config: Config) -> int:
    """µs of the pieces a reference is cut into."""
    return min(max(config.schedule.window, HOUR), DAY)


def muted(features: Plan, config: Config) -> dict[str, str]:
    """Columns that move for reasons of their own."""
    weekly = ("weekday_sin", "weekday_cos", "weekend", "is_holiday")
    hourly = ("hour_sin", "hour_cos", "night")
    clock = (*weekly, *hourly) if config.schedule.window < DAY else weekly
    moving = {} if config.schedule.window >= WEEK else dict.fromkeys(clock, CALENDAR)
    return moving | {one.name: MATURES for one in features.features if not one.label_free}


def separable(model: Model, features: Plan) -> list[int]:
    """Columns that a classifier may tell samples apart by: neither labels nor the calendar."""
    kept = {one.name for one in features.features if one.label_free and one.family != "time"}
    kept |= set(features.categorical)
    return [place for place, name in enumerate(model.columns) if name in kept]


def _grid(config: Config, edges: Ints, times: Ints) -> Grid:
    starts, length = edges[:-1], cell_length(config)
    cells_a_day = max(1, DAY // length)
    return Grid(
        cell=np.searchsorted(starts, times, side="right") - 1,
        season=[season_of(int(start), config) for start in starts],
        special=on_holiday(starts, config),
        width=max(1, config.schedule.window // DAY),
        gap=min(GAP * cells_a_day, len(starts) // GAP_SHARE),
        windows_per_week=WEEK / config.schedule.window,
        seasonal=config.drift.seasonal,
    )


def _midnight(day: str, config: Config) -> int:
    at = calendar_date.fromisoformat(day)
    zone = ZoneInfo(config.schedule.timezone)
    return int(datetime(at.year, at.month, at.day, tzinfo=zone).timestamp()) * SECOND
