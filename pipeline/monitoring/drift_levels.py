"""
Single numbers of a window: how many payments, how many for each who takes part, and what labels say.

Labels are told late, so what they say of a window is told when it is mature: the share of fraud of the window that lies
`labels.maturity` back, the delay of reports of the last four weeks, and how far behind complete labels are.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from detectors.drift.reference import Level
from detectors.drift.reference_fit import LevelHistory
from pipeline.config.config import Config
from pipeline.features.history import History
from pipeline.features.label_history import FRAUD, status_at
from pipeline.features.seasons import HOLIDAY, on_holiday, season_of
from storage.frames import DAY, Ints, Transactions

VOLUME, LABELS = "volume", "labels"
REPORTS_SPAN = 28 * DAY  # of reports whose delay is told together
REPORTS_MIN = 10  # of fewer a median says little

Floats = NDArray[np.float64]


def level_histories(
    config: Config, history: History, rows: Ints, mature: Ints, y: Floats, edges: Ints, width: int, date: int
) -> list[LevelHistory]:
    """
    What each level was in the windows of a reference.

    Parameters
    ----------
    rows, mature, y
        Positions of the reference and of mature transactions, and which of those are fraud.
    edges
        Of the reference's cells; a window is `width` of them.
    """
    starts, ends = edges[:-width], edges[width:]
    found = list(_volumes(config, history.transactions, rows, starts, ends))
    found.append(_fraud_rates(history, mature, y, starts, ends))
    found.append(_delays(config, history, ends, date))
    lag = (ends - history.completeness.at(ends)) / DAY
    found.append(LevelHistory(LABELS, "complete_lag", np.where(ends <= date, lag, np.nan), 1.0))
    return found


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
        A history that holds the window `labels.maturity` before it.
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
        values = np.array([one.value for one in each])
        yield LevelHistory(
            f"{VOLUME}:{name}", "per_entity", values, float(np.median([one.n for one in each]))
        )


def _per_entity(name: str, codes: NDArray[np.int32], season: str) -> Level:
    present = codes[codes >= 0]
    entities = len(np.unique(present))
    value = len(present) / entities if entities else float("nan")
    why = "" if entities else f"no payment has a {name}"
    return Level(f"{VOLUME}:{name}", "per_entity", value, entities, season, why)


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
    """Medians; windows whose reports cannot reach back a maturity would only show the quick ones."""
    events = history.unreviewed
    fraud = events.status == FRAUD
    known, happened = events.at[fraud], history.transactions.event_time[events.position[fraud]]
    order = np.argsort(known, kind="stable")
    known, happened = known[order], happened[order]
    begin = int(history.transactions.event_time[0]) if len(history) else date
    low, high = np.searchsorted(known, ends - REPORTS_SPAN), np.searchsorted(known, ends)
    whole = (ends - REPORTS_SPAN - config.labels.maturity >= begin) & (ends <= date)
    values = [
        _median_delay(known[a:b], happened[a:b]) if reaches else float("nan")
        for a, b, reaches in zip(low, high, whole, strict=True)
    ]
    size = float(np.median((high - low)[whole])) if whole.any() else float("nan")
    return LevelHistory(LABELS, "median_delay", np.array(values), size)


def _of_labels(
    config: Config, window: tuple[int, int], mature: History, reports: tuple[Ints, Ints]
) -> Iterator[Level]:
    due, maturity = window[1] + config.schedule.allowed_lateness, config.labels.maturity
    complete = int(mature.completeness.at(np.array([due]))[0])
    span = mature.transactions.between(window[0] - maturity, window[1] - maturity)
    yield _fraud_rate(mature, span, due, complete - maturity)
    known, happened = reports
    delay = _median_delay(known, happened)
    few = f"{len(known)} frauds were reported in four weeks, fewer than {REPORTS_MIN}"
    yield Level(LABELS, "median_delay", delay, len(known), why=few if np.isnan(delay) else "")
    yield Level(LABELS, "complete_lag", max(0.0, (window[1] - complete) / DAY), 1)


def _fraud_rate(mature: History, span: slice, due: int, through: int) -> Level:
    """Of a window's transactions whose silence may be read."""
    events = mature.events.between(span.start, span.stop)
    rows = np.arange(span.start, span.stop)
    part = mature.transactions.take(rows)
    status = status_at(part, events, due)
    known = (part.event_time <= through) & ((status >= 0) | mature.silence_ok[rows])
    n = int(np.count_nonzero(known))
    why = "" if n else "labels of the window that should be mature by now are not complete"
    rate = float(np.mean(status[known] == FRAUD)) if n else float("nan")
    return Level(LABELS, "fraud_rate", rate, n, why=why)


def _median_delay(known: Ints, happened: Ints) -> float:
    """Days from fraud to report; NaN for few."""
    if len(known) < REPORTS_MIN:
        return float("nan")
    return float(np.median(known - happened)) / DAY
