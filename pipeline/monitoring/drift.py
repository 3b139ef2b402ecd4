"""
Drift of a window, measured against the reference of its model.

A window consists of the transactions of its span that were on time, no matter which run scored them and when, so that
every way of running measures the same. A window with fewer than `drift.min_rows` is pooled with the small windows just
before it, from their stored histograms; if these are missing, or of another model, the rows are counted again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detectors import codec
from detectors.drift.reference import AlarmTerms, DriftFinding, Level, WindowHistogram
from pipeline.config.config import Config
from pipeline.features.history import CHOSEN
from pipeline.features.seasons import on_holiday
from pipeline.monitoring.drift_levels import REPORTS_SPAN, VOLUME, levels
from pipeline.monitoring.drift_reference import reference_scores
from pipeline.schedule import grid
from pipeline.schedule.run_context import HistoryReader, RunContext
from pipeline.scoring.model_cache import ModelCache
from pipeline.scoring.score_rows import ScoredBatch, score_batch
from storage.frames import Strings
from storage.ingest import history as stored_history
from storage.monitoring import drift_metrics
from storage.monitoring.drift_metrics import DriftMetric, StoredHistograms

POOLED_MAX = 400  # windows


@dataclass(frozen=True)
class Pool:
    """A window pooled with as many small windows before it as were needed."""

    histogram: WindowHistogram
    starts: Sequence[int]


def window_drift(
    run: RunContext,
    reader: HistoryReader,
    model_cache: ModelCache,
    window: tuple[int, int],
    batches: Sequence[ScoredBatch],
) -> tuple[list[DriftMetric], StoredHistograms | None]:
    """
    The drift metrics of a window, and its histogram if it is too small to be compared alone.

    Parameters
    ----------
    batches
        Batches of the window that were scored just now, so that they are not read again.
    """
    ids = drift_metrics.on_time_ids(run.store, *window, run.config.schedule.allowed_lateness)
    batch = _window_batch(run, reader, model_cache, window, ids, batches)
    if batch is None:
        return [
            not_comparable(window, len(ids), "no model was in force: there is nothing to compare with")
        ], None
    if batch.model.drift_reference.is_empty:
        why = "its model was trained before drift references were stored: the next training stores one"
        return [not_comparable(window, len(ids), why)], None
    own = _histogram(batch)
    pool = _pool_small_windows(run, reader, model_cache, batch.model_id, own, window)
    mature = reader.span(*(instant - run.config.labels.longest_maturity for instant in window))
    reports = drift_metrics.frauds_reported(run.store, window[1] - REPORTS_SPAN, window[1], CHOSEN)
    rows = _drift_rows(
        run.config, batch, pool, window, levels(run.config, batch.rows, window, mature, reports)
    )
    if own.n >= run.config.drift.min_rows:
        return rows, None
    return rows, StoredHistograms(*window, batch.model_id, own.n, codec.pack(own), run.run_id)


def not_comparable(window: tuple[int, int], n: int, why: str) -> DriftMetric:
    """The only row of a window that cannot be compared: its number of payments."""
    return DriftMetric(*window, VOLUME, "payments", float(n), None, False, 0, n, suppressed_because=why)


def _window_batch(
    run: RunContext,
    reader: HistoryReader,
    model_cache: ModelCache,
    window: tuple[int, int],
    ids: Sequence[str],
    batches: Sequence[ScoredBatch],
) -> ScoredBatch | None:
    """The window's batch of the model that scored most of it; None without a model."""
    on_time = np.array(ids, dtype=object)
    window_batches = [
        batch.take(np.flatnonzero(np.isin(batch.rows.transaction_id.astype(str), on_time.astype(str))))
        for batch in batches
    ]
    if sum(len(batch) for batch in window_batches) != len(ids) or not ids:
        window_batches = _score_window(run, reader, model_cache, window, on_time)
    return max(window_batches, key=len, default=None)


def _score_window(
    run: RunContext,
    reader: HistoryReader,
    model_cache: ModelCache,
    window: tuple[int, int],
    ids: Strings,
    model_id_override: int | None = None,
) -> list[ScoredBatch]:
    """Score a window's transactions with the models in force at their time, or all with one model."""
    history = reader.for_rows(*window, ids)
    rows = history.positions(ids, *window)
    model_ids = (
        model_cache.models_of(history.transactions.take(rows))
        if len(rows)
        else model_cache.model_ids(np.array(window[:1]))
    )
    if model_id_override is not None:
        model_ids = np.full_like(model_ids, model_id_override)
    return [
        score_batch(run.config, model_cache, history, rows[model_ids[: len(rows)] == model_id], int(model_id))
        for model_id in np.unique(model_ids)
        if model_id >= 0
    ]


def _histogram(batch: ScoredBatch) -> WindowHistogram:
    reference = batch.model.drift_reference
    channels, codes = list(reference.channels), list(reference.reason_names)
    scores = reference_scores(batch.model, batch.features, batch.raw, batch.scores, channels, codes)
    return reference.bin_window(
        batch.model.drift_values(batch.raw), scores.score, scores.channel, scores.reason
    )


def _pool_small_windows(
    run: RunContext,
    reader: HistoryReader,
    model_cache: ModelCache,
    model_id: int,
    own: WindowHistogram,
    window: tuple[int, int],
) -> Pool:
    """
    Pool a window with the small windows just before it, up to the first one that was compared alone.

    An empty window is not pooled, so that a monitor without new data does not compare the same rows every day.
    """
    pool, enough, clock = Pool(own, [window[0]]), run.config.drift.min_rows, run.config.schedule
    if not own.n or own.n >= enough:
        return pool
    first, _ = stored_history.span(run.store) or window
    while pool.histogram.n < enough and len(pool.starts) < POOLED_MAX and pool.starts[0] > first:
        before = grid.floor(clock.window, clock.timezone, pool.starts[0] - 1), pool.starts[0]
        earlier = _small_window(run, reader, model_cache, model_id, before)
        if earlier is None:
            break
        pool = Pool(earlier + pool.histogram, [before[0], *pool.starts])
    return pool


def _small_window(
    run: RunContext, reader: HistoryReader, model_cache: ModelCache, model_id: int, window: tuple[int, int]
) -> WindowHistogram | None:
    """The histogram of an earlier small window, stored or counted again; None if the window was compared alone."""
    stored = drift_metrics.load_histograms(run.store, run.policy, window)
    if stored is not None and stored.model_id == model_id:
        return codec.unpack(WindowHistogram, stored.histograms)[0]
    ids = drift_metrics.on_time_ids(run.store, *window, run.config.schedule.allowed_lateness)
    if len(ids) >= run.config.drift.min_rows:
        return None
    return _histogram(
        _score_window(run, reader, model_cache, window, np.array(ids, dtype=object), model_id)[0]
    )


def _drift_rows(
    config: Config, batch: ScoredBatch, pool: Pool, window: tuple[int, int], levels: Iterable[Level]
) -> list[DriftMetric]:
    """All drift metrics of a window: of features, scores and flags, of its volume and of labels."""
    terms, reference = _alarm_terms(config, batch, pool), batch.model.drift_reference
    metrics = list(reference.compare_levels(list(levels), replace(terms, suppressed_because="")))
    pooled = [1] * len(metrics)
    if pool.histogram.n:
        metrics += reference.compare_window(pool.histogram, terms)
    pooled += [len(pool.starts)] * (len(metrics) - len(pooled))
    return [_row(window, each, windows) for each, windows in zip(metrics, pooled, strict=True)]


def _alarm_terms(config: Config, batch: ScoredBatch, pool: Pool) -> AlarmTerms:
    rate, enough = config.drift.false_alarms_per_week, config.drift.min_rows
    holiday = on_holiday(np.array(pool.starts[-1:]), config)[0]
    if holiday and batch.model.drift_reference.holiday_rows < enough:
        return AlarmTerms(rate, False, "a holiday, and the reference has too few of them to compare with")
    if pool.histogram.n < enough:
        others = f" with the {len(pool.starts) - 1} small windows before it" if len(pool.starts) > 1 else ""
        return AlarmTerms(
            rate, holiday, f"{pool.histogram.n} rows{others} are fewer than drift.min_rows = {enough}"
        )
    return AlarmTerms(rate, holiday)


def _row(window: tuple[int, int], metric: DriftFinding, pooled: int) -> DriftMetric:
    drift = metric.drift
    return DriftMetric(
        window_start=window[0],
        window_end=window[1],
        feature=drift.feature,
        metric=drift.metric,
        value=_number(drift.value),
        threshold=_number(metric.threshold),
        alarm=metric.alarm,
        n_reference=drift.n_reference,
        n_current=drift.n_current,
        effect=_number(drift.effect),
        lower=_number(metric.lower),
        upper=_number(metric.upper),
        p_value=_number(drift.p_value),
        pooled=pooled,
        suppressed_because=drift.suppressed_because or None,
        detail=drift.detail,
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
