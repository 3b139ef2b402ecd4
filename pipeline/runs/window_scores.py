"""Score the transactions of a window, each by the model in force at its event time; write scores and flags."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.model.model import Scores
from pipeline.rules import engine, mutes
from pipeline.schedule.run_context import LIVE, HistoryReader, RunContext, RunSummary
from pipeline.scoring.audit_sample import with_audit
from pipeline.scoring.flags import flags_of
from pipeline.scoring.model_cache import ModelCache
from pipeline.scoring.score_rows import ScoredBatch, score_batch
from storage.frames import Ints, Strings
from storage.runs import scores as results


def score_rows(
    context: RunContext, reader: HistoryReader, model_cache: ModelCache, start: int, end: int, ids: Strings
) -> tuple[RunSummary, list[ScoredBatch]]:
    """Score these transactions, each by the model in force at its event time; write scores and flags."""
    if not len(ids):
        return RunSummary(), []
    summary, batches = RunSummary(), []
    for batch, rows in _batches_by_model(context, reader, model_cache, start, end, ids):
        if batch is None:
            summary = summary.plus(RunSummary(no_model=len(rows)))
        else:
            summary = summary.plus(_write_scores(context, reader, model_cache, batch))
            batches.append(batch.scored)
    return summary, batches


@dataclass(frozen=True)
class _ModelBatch:
    """The transactions of a window that one model scores, with rules and the audit sample applied."""

    scored: ScoredBatch
    scores: Scores  # after rules and the audit sample
    rule_ids: Ints  # the rule that flags each row, 0 for none


def _batches_by_model(
    context: RunContext, reader: HistoryReader, model_cache: ModelCache, start: int, end: int, ids: Strings
) -> Iterator[tuple[_ModelBatch | None, Ints]]:
    history = reader.for_rows(start, end, ids)
    rows = history.positions(ids, start, end)
    model_ids = model_cache.model_ids(history.transactions.event_time[rows])
    for model_id in np.unique(model_ids):
        chosen = rows[model_ids == model_id]
        if model_id < 0:
            yield None, chosen
            continue
        batch = score_batch(context.config, model_cache, history, chosen, int(model_id))
        rule_batch = engine.RuleBatch(
            history, chosen, context.config, batch.features, batch.raw, model_cache.maturity(int(model_id))
        )
        rule_ids = engine.first_matching_rules(reader.rules, rule_batch)
        scores = with_audit(
            batch.model,
            engine.with_rules(batch.scores, rule_ids),
            history.transactions.transaction_id[chosen],
        )
        yield _ModelBatch(batch, scores, rule_ids), chosen


def _write_scores(
    context: RunContext, reader: HistoryReader, model_cache: ModelCache, model_batch: _ModelBatch
) -> RunSummary:
    batch, rows, scores = model_batch.scored, model_batch.scored.rows, model_batch.scores
    flags = []
    if context.policy == LIVE:
        reasons = engine.reasons(reader.rules, model_batch.rule_ids)
        flags = flags_of(
            batch.model, batch.model_id, batch.features, batch.raw, rows, scores, context.config, reasons
        )
        flags = mutes.mark_muted(flags, rows, reader.mutes)
    written = results.write_scores(
        context.store,
        context.policy,
        context.run_id,
        results.ModelScores(
            transaction_id=rows.transaction_id,
            model_id=batch.model_id,
            strategy=batch.model.strategy,
            score=scores.score,
            outlier_score=scores.outlier_score,
            fraud_probability=scores.fraud_probability,
            decision_value=scores.decision_value,
            threshold=scores.threshold,
            channel=scores.channel,
            flagged=scores.flagged,
            expected_loss=batch.expected_loss,
            in_sample=_in_sample_mask(batch, fixed_model_id=model_cache.fixed_model_id),
        ),
        flags,
        notify=context.notifies,
    )
    return RunSummary(scored=written.scored, flagged=written.flagged, already_scored=written.already)


def _in_sample_mask(batch: ScoredBatch, fixed_model_id: int | None) -> NDArray[np.bool_] | None:
    """Rows that the model was trained on, when one fixed model scores the past; None if models only score later rows."""
    if fixed_model_id is None:
        return None
    return batch.rows.event_time < int(batch.model.notes["trained_at"])
