"""
Levels: drift metrics that are a single number of a window, such as payments, payments per entity, and label metrics.

Labels arrive late, so the share of fraud is that of the window `labels.maturity` earlier, the delay is that of fraud
reports of the last four weeks, and `complete_lag` is how far behind complete labels are.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats
from detectors.drift.reference import Level
from detectors.drift.reference_fit import LevelHistory
from pipeline.config.config import Config
from pipeline.features.history import History
from pipeline.features.label_history import has_known_status, status_at
from pipeline.features.seasons import HOLIDAY, on_holiday, season_of
from storage.frames import DAY, FRAUD, Ints, Transactions

VOLUME, LABELS = "volume", "labels"
REPORTS_SPAN = 28 * DAY  # fraud reports of this span give one median delay
REPORTS_MIN = 10  # with fewer there is no median


def level_histories(
    config: Config, history: History, rows: Ints, mature: Ints, y: Floats, edges: Ints, width: int, date: int
) -> list[LevelHistory]:
    """
    The values of each level in the windows of a reference.

    Parameters
    ----------
    rows, mature, y
        Positions of the reference and of mature transactions, and which of those are fraud.
    edges
        Edges of the reference's cells; a window is `width` cells long.
    """
    starts, ends = edges[:-width], edges[width:]
    histories = list(_volumes(config, history.transactions, rows, starts, ends))
    histories.append(_fraud_rates(history, mature, y, starts, ends))
    histories.append(_delays(config, history, ends, date))
    lag = (ends - history.completeness.at(ends)) / DAY
    histories.append(LevelHistory(LABELS, "complete_lag", np.where(ends <= date, lag, np.nan), 1.0))
    return histories


def levels(
    config: Config, rows: Transactions, window: tuple[int, int], mature: History, reports: tuple[Ints, Ints]
) -> Iterator[Level]:
    """
    The levels of a window.

    Parameters
    ----------
    rows
        Its transactions that were on time.
    mature
        A history that contains the window `labels.maturity` earlier.
    reports
        When frauds became known in the last four weeks, and when they had happened.
    """
    start, end = window
    season = HOLIDAY if on_holiday(np.array([start]), config)[0] else season_of(start, config)
    per_window = len(rows) * config.schedule.window / (end - start)
    yield Level(VOLUME, "payments", per_window, len(rows), season)
    for name in config.schema_.entities:
        codes = rows.columns[name].codes if name in rows.columns else np.empty(0, np.int32)
        yield _per_entity(name, codes, season)
    yield from _of_labels(config, window, mature, reports)


def _volumes(
    config: Config, every: Transactions, rows: Ints, starts: Ints, ends: Ints
) -> Iterator[LevelHistory]:
    low, high = np.searchsorted(every.event_time[rows], starts), np.searchsorted(every.event_time[rows], ends)
    per_window = (high - low) * config.schedule.window / (ends - starts)
    yield LevelHistory(VOLUME, "payments", per_window, float(np.median(high - low)))
    for name in config.schema_.entities:
        codes = every.columns[name].codes[rows]
        each = [_per_entity(name, codes[a:b], "") for a, b in zip(low, high, strict=True)]
        values = np.array([level.value for level in each])
        yield LevelHistory(
            f"{VOLUME}:{name}", "per_entity", values, float(np.median([level.n for level in each]))
        )


def _per_entity(name: str, codes: NDArray[np.int32], season: str) -> Level:
    present = codes[codes >= 0]
    entities = len(np.unique(present))
    value = len(present) / entities if entities else float("nan")
    suppressed_because = "" if entities else f"no payment has a {name}"
    return Level(f"{VOLUME}:{name}", "per_entity", value, entities, season, suppressed_because)


def _fraud_rates(history: History, mature: Ints, y: Floats, starts: Ints, ends: Ints) -> LevelHistory:
    times = history.transactions.event_time[mature]
    low, high = np.searchsorted(times, starts), np.searchsorted(times, ends)
    frauds = np.append(0.0, np.cumsum(y))
    n = high - low
    known = (n > 0) & (ends <= (int(times[-1]) if len(times) else 0))
    rate = np.divide(frauds[high] - frauds[low], n, out=np.full(len(n), np.nan), where=known)
    overall = float(y.mean()) if len(y) else float("nan")
    size = float(np.median(n[known])) if known.any() else float("nan")
    return LevelHistory(LABELS, "fraud_rate", rate, size, overall)


def _delays(config: Config, history: History, ends: Ints, date: int) -> LevelHistory:
    """Median delays; NaN for windows with less than `labels.maturity` of history, which would show only quick reports."""
    events = history.unreviewed
    fraud = events.status == FRAUD
    known_at, happened = events.at[fraud], history.transactions.event_time[events.position[fraud]]
    order = np.argsort(known_at, kind="stable")
    known_at, happened = known_at[order], happened[order]
    begin = int(history.transactions.event_time[0]) if len(history) else date
    low, high = np.searchsorted(known_at, ends - REPORTS_SPAN), np.searchsorted(known_at, ends)
    whole = (ends - REPORTS_SPAN - config.labels.longest_maturity >= begin) & (ends <= date)
    values = [
        _median_delay(known_at[a:b], happened[a:b]) if reaches else float("nan")
        for a, b, reaches in zip(low, high, whole, strict=True)
    ]
    size = float(np.median((high - low)[whole])) if whole.any() else float("nan")
    return LevelHistory(LABELS, "median_delay", np.array(values), size)


def _of_labels(
    config: Config, window: tuple[int, int], mature: History, reports: tuple[Ints, Ints]
) -> Iterator[Level]:
    due, maturity = window[1] + config.schedule.allowed_lateness, config.labels.longest_maturity
    complete = int(mature.completeness.at(np.array([due]))[0])
    span = mature.transactions.between(window[0] - maturity, window[1] - maturity)
    yield _fraud_rate(mature, span, due, complete - maturity)
    known_at, happened = reports
    delay = _median_delay(known_at, happened)
    few = f"{len(known_at)} frauds were reported in four weeks, fewer than {REPORTS_MIN}"
    yield Level(
        LABELS, "median_delay", delay, len(known_at), suppressed_because=few if np.isnan(delay) else ""
    )
    yield Level(LABELS, "complete_lag", max(0.0, (window[1] - complete) / DAY), 1)


def _fraud_rate(mature: History, span: slice, due: int, through: int) -> Level:
    """The share of fraud among a window's mature transactions that had arrived when it was due."""
    events = mature.events.between(span.start, span.stop)
    rows = np.arange(span.start, span.stop)
    part = mature.transactions.take(rows)
    status = status_at(part, events, due)
    arrived = (part.event_time <= through) & (part.ingested_at <= due)
    known = arrived & has_known_status(status, mature.silence_at(due)[rows])
    n = int(np.count_nonzero(known))
    suppressed_because = "" if n else "labels of the window that should be mature by now are not complete"
    rate = float(np.mean(status[known] == FRAUD)) if n else float("nan")
    return Level(LABELS, "fraud_rate", rate, n, suppressed_because=suppressed_because)


def _median_delay(known_at: Ints, happened: Ints) -> float:
    """Median days from fraud to report; NaN for fewer than `REPORTS_MIN`."""
    if len(known_at) < REPORTS_MIN:
        return float("nan")
    return float(np.median(known_at - happened)) / DAY
