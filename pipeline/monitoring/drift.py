"""
How far a window has moved from what its model remembers.

A window is the transactions of its span that were on time, whoever scored them and when, so that every way of running
measures the same. One with fewer than `drift.min_rows` is pooled with the small ones just before it, from the counts that
are kept of them; where those are missing, or another model's, the few rows are counted again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detectors.drift.reference import Found, Level, Seen, Terms
from pipeline.config.config import Config
from pipeline.features.history import REVIEW
from pipeline.features.seasons import HOLIDAY, on_holiday, season_of
from pipeline.monitoring.drift_levels import REPORTS_SPAN, VOLUME, levels
from pipeline.monitoring.drift_reference import said
from pipeline.schedule import grid
from pipeline.schedule.run_context import Reader, RunContext
from pipeline.scoring.model_cache import Shelf
from pipeline.scoring.score_rows import Measured, measure
from storage.frames import Strings
from storage.ingest import history as stored
from storage.monitoring import drift_metrics
from storage.monitoring.drift_metrics import DriftRow, Kept

POOLED_MAX = 400  # windows; what is rarer than that has no drift


@dataclass(frozen=True)
class Pool:
    """A window and the small ones before it, as many as were needed."""

    seen: Seen
    starts: Sequence[int]


def drift_of(
    this: RunContext, reader: Reader, shelf: Shelf, window: tuple[int, int], held: Sequence[Measured]
) -> tuple[list[DriftRow], Kept | None]:
    """
    The drift of a window, and its counts where it is too small to speak alone.

    Parameters
    ----------
    held
        What was measured of it just now, so that it need not be read again.
    """
    ids = drift_metrics.on_time_ids(this.store, *window, this.config.schedule.allowed_lateness)
    one = _of_window(this, reader, shelf, window, ids, held)
    if one is None:
        return [untold(window, len(ids), "no model was in force: there is nothing to compare with")], None
    if not one.model.watch.sees:
        why = "its model was trained before references were kept: the next training brings one"
        return [untold(window, len(ids), why)], None
    own = _seen(one)
    pool = _pooled(this, reader, shelf, one.model_id, own, window)
    mature = reader.span(*(instant - this.config.labels.maturity for instant in window))
    reports = drift_metrics.frauds_reported(this.store, window[1] - REPORTS_SPAN, window[1], REVIEW)
    found = _rows(this.config, one, pool, window, levels(this.config, one.rows, window, mature, reports))
    if own.n >= this.config.drift.min_rows:
        return found, None
    return found, Kept(*window, one.model_id, own.n, own.to_bytes(), this.run_id)


def untold(window: tuple[int, int], n: int, why: str) -> DriftRow:
    """The one row of a window that cannot be compared with anything."""
    return DriftRow(*window, VOLUME, "payments", float(n), None, False, 0, n, why=why)


def _of_window(
    this: RunContext,
    reader: Reader,
    shelf: Shelf,
    window: tuple[int, int],
    ids: Sequence[str],
    held: Sequence[Measured],
) -> Measured | None:
    """What the model of most of its transactions saw and said of them; None without a model."""
    wanted = np.array(ids, dtype=object)
    kept = [
        one.take(np.flatnonzero(np.isin(one.rows.transaction_id.astype(str), wanted.astype(str))))
        for one in held
    ]
    if sum(len(one) for one in kept) != len(ids) or not ids:
        kept = _again(this, reader, shelf, window, wanted)
    return max(kept, key=len, default=None)


def _again(
    this: RunContext,
    reader: Reader,
    shelf: Shelf,
    window: tuple[int, int],
    ids: Strings,
    by: int | None = None,
) -> list[Measured]:
    """Measure a window's transactions by the models of their time, or all by one."""
    history = reader.for_rows(*window, ids)
    rows = history.positions(ids, *window)
    model_ids = shelf.model_ids(history.transactions.event_time[rows] if len(rows) else np.array(window[:1]))
    if by is not None:
        model_ids = np.full_like(model_ids, by)
    return [
        measure(this.config, shelf, history, rows[model_ids[: len(rows)] == model_id], int(model_id))
        for model_id in np.unique(model_ids)
        if model_id >= 0
    ]


def _seen(one: Measured) -> Seen:
    watch = one.model.watch
    channels, codes = list(watch.channels), list(watch.reason_names)
    found = said(one.model, one.features, one.raw, one.scores, channels, codes)
    return watch.see(one.model.watched(one.raw), found.score, found.channel, found.reason)


def _pooled(
    this: RunContext, reader: Reader, shelf: Shelf, model_id: int, own: Seen, window: tuple[int, int]
) -> Pool:
    """
    A window with the small ones just before it; one that could speak for itself, and has, ends the search.

    An empty window has nothing to add to what those before it said: a monitor that nobody feeds does not look back every day.
    """
    pool, enough, clock = Pool(own, [window[0]]), this.config.drift.min_rows, this.config.schedule
    if not own.n or own.n >= enough:
        return pool
    first, _ = stored.span(this.store) or window
    while pool.seen.n < enough and len(pool.starts) < POOLED_MAX and pool.starts[0] > first:
        before = grid.floor(clock.window, clock.timezone, pool.starts[0] - 1), pool.starts[0]
        earlier = _small(this, reader, shelf, model_id, before)
        if earlier is None:
            break
        pool = Pool(earlier + pool.seen, [before[0], *pool.starts])
    return pool


def _small(
    this: RunContext, reader: Reader, shelf: Shelf, model_id: int, window: tuple[int, int]
) -> Seen | None:
    """The counts of an earlier window, kept or counted again; None for one that could speak for itself."""
    kept = drift_metrics.kept(this.store, this.policy, window)
    if kept is not None and kept.model_id == model_id:
        return Seen.from_bytes(kept.sketch)
    ids = drift_metrics.on_time_ids(this.store, *window, this.config.schedule.allowed_lateness)
    if len(ids) >= this.config.drift.min_rows:
        return None
    return _seen(_again(this, reader, shelf, window, np.array(ids, dtype=object), model_id)[0])


def _rows(
    config: Config, one: Measured, pool: Pool, window: tuple[int, int], of_levels: Iterable[Level]
) -> list[DriftRow]:
    """Every metric of a window: of its columns, scores and flags, of its volume, and of what labels say by now."""
    terms, watch = _terms(config, one, pool), one.model.watch
    found = list(watch.measure_levels(list(of_levels), replace(terms, held_back="")))
    pooled = [1] * len(found)
    if pool.seen.n:
        found += watch.measure(pool.seen, terms)
    pooled += [len(pool.starts)] * (len(found) - len(pooled))
    return [_row(window, each, windows) for each, windows in zip(found, pooled, strict=True)]


def _terms(config: Config, one: Measured, pool: Pool) -> Terms:
    rate, enough = config.drift.false_alarms_per_week, config.drift.min_rows
    seasons = [season_of(start, config) for start in pool.starts] if config.drift.seasonal else []
    if on_holiday(np.array(pool.starts[-1:]), config)[0]:
        seasons = [HOLIDAY]
        if one.model.watch.holds(HOLIDAY) < enough:
            return Terms(rate, (), "a holiday, and the reference has too few of them to compare with")
    if pool.seen.n < enough:
        others = f" with the {len(pool.starts) - 1} small windows before it" if len(pool.starts) > 1 else ""
        return Terms(rate, seasons, f"{pool.seen.n} rows{others} are fewer than drift.min_rows = {enough}")
    return Terms(rate, seasons)


def _row(window: tuple[int, int], found: Found, pooled: int) -> DriftRow:
    drift = found.drift
    return DriftRow(
        window_start=window[0],
        window_end=window[1],
        feature=drift.feature,
        metric=drift.metric,
        value=_number(drift.value),
        threshold=_number(found.threshold),
        alarm=found.alarm,
        n_reference=drift.n_reference,
        n_current=drift.n_current,
        effect=_number(drift.effect),
        lower=_number(found.lower),
        upper=_number(found.upper),
        p_value=_number(drift.p_value),
        pooled=pooled,
        why=drift.why or None,
        detail=drift.detail,
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
