"""Score the transactions of a window, each by the model in force at its event time; write scores and flags."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.model.model import Scores
from pipeline.config.config import Config
from pipeline.features.history import History
from pipeline.rules import engine, mutes
from pipeline.rules.engine import Rule
from pipeline.rules.mutes import Mute
from pipeline.schedule.run_context import LIVE, HistoryReader, RunContext, RunSummary
from pipeline.scoring.audit_sample import with_audit
from pipeline.scoring.flags import flags_of
from pipeline.scoring.model_cache import ModelCache
from pipeline.scoring.score_rows import ScoredBatch, score_batch
from storage.frames import Ints, Strings
from storage.runs import scores as results
from storage.runs.scores import Flag


@dataclass(frozen=True)
class ModelBatch:
    """The transactions that one model scores, with rules and the audit sample applied."""

    scored: ScoredBatch
    scores: Scores  # after rules and the audit sample
    rule_ids: Ints  # the rule that flags each row, 0 for none


def score_rows(
    context: RunContext, reader: HistoryReader, model_cache: ModelCache, start: int, end: int, ids: Strings
) -> tuple[RunSummary, list[ScoredBatch]]:
    """Score these transactions, each by the model in force at its event time; write scores and flags."""
    if not len(ids):
        return RunSummary(), []
    history = reader.for_rows(start, end, ids)
    rows = history.positions(ids, start, end)
    summary, written = score_history(context, reader, model_cache, history, rows)
    return summary, [batch.scored for batch, _ in written]


def score_history(
    context: RunContext, reader: HistoryReader, model_cache: ModelCache, history: History, rows: Ints
) -> tuple[RunSummary, list[tuple[ModelBatch, list[Flag]]]]:
    """Score the transactions at these positions of a history, as `score_rows` does; returns what it wrote, with the flags."""
    summary, written = RunSummary(), []
    for batch, chosen in batches_by_model(context.config, history, rows, model_cache, reader.rules):
        if batch is None:
            summary = summary.plus(RunSummary(no_model=len(chosen)))
            continue
        flags = list[Flag]()
        if context.policy == LIVE:
            flags = raised_flags(context.config, batch, reader.rules, reader.mutes)
        summary = summary.plus(write_scores(context, batch, flags, model_cache.fixed_model_id))
        written.append((batch, flags))
    return summary, written


def batches_by_model(
    config: Config, history: History, rows: Ints, model_cache: ModelCache, rules: Sequence[Rule]
) -> Iterator[tuple[ModelBatch | None, Ints]]:
    """The transactions at these positions, scored by the model of each, and their positions; None where there is no model."""
    model_ids = model_cache.models_of(history.transactions.take(rows))
    for model_id in np.unique(model_ids):
        chosen = rows[model_ids == model_id]
        if model_id < 0:
            yield None, chosen
            continue
        batch = score_batch(config, model_cache, history, chosen, int(model_id))
        rule_batch = engine.RuleBatch(
            history, chosen, config, batch.features, batch.raw, model_cache.maturity(int(model_id))
        )
        rule_ids = engine.first_matching_rules(rules, rule_batch)
        scores = with_audit(
            batch.model,
            engine.with_rules(batch.scores, rule_ids),
            history.transactions.transaction_id[chosen],
        )
        yield ModelBatch(batch, scores, rule_ids), chosen


def raised_flags(
    config: Config, batch: ModelBatch, rules: Sequence[Rule], all_mutes: Sequence[Mute]
) -> list[Flag]:
    """The flags of a batch with their reasons, the muted ones marked."""
    scored, rows = batch.scored, batch.scored.rows
    reasons = engine.reasons(rules, batch.rule_ids)
    flags = flags_of(
        scored.model, scored.model_id, scored.features, scored.raw, rows, batch.scores, config, reasons
    )
    return mutes.mark_muted(flags, rows, all_mutes)


def write_scores(
    context: RunContext, model_batch: ModelBatch, flags: Sequence[Flag], fixed_model_id: int | None = None
) -> RunSummary:
    """Write the scores of a batch, and these flags."""
    batch, rows, scores = model_batch.scored, model_batch.scored.rows, model_batch.scores
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
            in_sample=_in_sample_mask(batch, fixed_model_id),
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
