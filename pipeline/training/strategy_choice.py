"""
The strategy choice at a training date, and the few earlier dates that it depends on.

A training date is *evaluated* by itself: the prevalence of fraud, and all strategies on held-out frauds, from what was known at
that date. The *choice* of a date is a pure function of its own evaluation and of those of the `memory` dates of the grid before it,
through which hysteresis is played from the oldest on (`detectors.strategy.choice.choose_in_order`). It never looks at another
choice, so it does not matter where a schedule or a backfill begins, in which order its pieces run, or what was chosen under a
longer chain: a training makes `memory` evaluations before it at most, however long the history is.

Dates are evaluated from the newest back, until what was chosen before them can make no difference. A stored choice holds its own
evaluation and those that had to be made for it, and the next training takes them from there; only what no stored choice holds is
evaluated, from the history as of its date. Dates on which too little was known have no evaluation. A training at a date that is not
on the grid, made by hand, has the same memory, and is in nobody else's.

The memory is finite, so hysteresis is, too: where evaluations stay between the bounds to start and to stay for longer than the memory,
the strategy is the one that the oldest of them alone would start. For counts that change as slowly as those of a span of 180 days,
within 10 of 300 frauds, that is two or three changes in 60 trainings, and 0.3 with an endless memory; with a memory of 4 it is three or four.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from detectors.base import MIN_FRAUDS_TO_FIT, Strategy
from detectors.evaluation.prevalence import PrevalenceEstimate
from detectors.strategy.choice import (
    Choice,
    Evaluation,
    StrategySettings,
    choose_in_order,
    forgets_its_past,
)
from detectors.strategy.evidence import ReviewBudget, gather_evidence
from detectors.strategy.outlier_team import FitSettings
from detectors.strategy.validation_folds import ValidationFold, fit_folds, fit_validation_folds
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.errors import NotReady
from pipeline.features.history import History, feature_catalogue
from pipeline.schedule import grid
from pipeline.training import samples
from pipeline.training.prevalence import prevalence_of
from pipeline.training.training_set import TrainingSet, training_set_at
from storage.database.database import Store
from storage.frames import DAY
from storage.ingest import history as stored_history
from storage.models import models

Folds = tuple[ValidationFold, ...]
MEMORY = 8  # training dates before its own that a choice depends on; more if many must confirm a change
EARLIER = "earlier"  # among a stored choice's numbers: the evaluations of earlier dates that were made for it


@dataclass(frozen=True)
class StoredChoice:
    """A stored choice: its id, the chosen strategy, and its explanation."""

    choice_id: int
    strategy: Strategy
    outlier_share: float
    sentence: str
    folds: Folds = ()  # held-out rows that the weights of a blend are fitted on
    prevalence: PrevalenceEstimate | None = None  # where the choice was made just now


def choose_at(
    store: Store, config: Config, history_of: Callable[..., History], policy: str, date: int, run_id: int
) -> StoredChoice:
    """
    The choice of `date`, which is made and stored unless it is there already.

    Parameters
    ----------
    history_of
        Loads all that a training at a date may use or, given two, those of both and between them.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    stored = models.choice_of(store, policy, date)
    if stored is not None:
        folds: Folds = ()
        if stored["strategy"] == "blend":
            history = history_of(date)
            folds = validation_folds_of(config, history, training_set_at(config, history, date))
        return StoredChoice(
            stored["choice_id"], stored["strategy"], stored["outlier_share"], stored["sentence"], folds
        )
    dates, settings = _dates_before(store, config, date), _settings(config)
    known, made = _stored_evaluations(store, policy, dates, date), {}
    needed: dict[int, Evaluation] = {}
    for before in reversed(dates):
        if forgets_its_past(_in_order(needed), settings):
            break
        with suppress(NotReady):
            if before not in known:
                history_of(
                    next(at for at in dates if at not in known), date
                )  # from the oldest: read once for all
                made[before], _ = evaluate(config, history_of(before), before)
            needed[before] = (known | made)[before]
    evaluation, folds = evaluate(config, history_of(date), date)
    choice = choose_in_order([*_in_order(needed), evaluation], settings)
    carried = [{"date": before, **each.numbers()} for before, each in sorted(made.items())]
    row = _row(policy, date, run_id, evaluation.prevalence, choice, {**choice.numbers, EARLIER: carried})
    choice_id = models.save_choice(store, row)
    return StoredChoice(
        choice_id, choice.strategy, choice.outlier_share, choice.sentence, folds, evaluation.prevalence
    )


def preview(store: Store, config: Config, history: History, policy: str, date: int) -> Choice:
    """
    What a training at `date` would choose; nothing is stored. Of the dates before it those count that a stored choice holds.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    known = _stored_evaluations(store, policy, _dates_before(store, config, date), date)
    return choose_in_order([*_in_order(known), evaluate(config, history, date)[0]], _settings(config))


def evaluate(config: Config, history: History, date: int) -> tuple[Evaluation, Folds]:
    """
    What `date` alone says of the strategies, and the held-out rows behind it.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    training_set = training_set_at(config, history, date)
    folds = validation_folds_of(config, history, training_set)
    evidence = gather_evidence(folds, _review(config, history, training_set))
    return Evaluation(prevalence_of(config, history, training_set), evidence), folds


def memory(config: Config) -> int:
    """How many training dates before its own a choice may depend on."""
    return max(MEMORY, 2 * config.strategy.confirmations)


def validation_folds_of(config: Config, history: History, training_set: TrainingSet) -> Folds:
    """
    Out-of-sample scores of mature frauds in time-ordered folds: by the calendar where frauds are many, otherwise on
    `samples.EVIDENCE_ROWS` rows, with about equally many frauds in each.

    Features use only labels that were known when the transaction happened, and a fold learns only from rows that were
    mature at its date.
    """
    if training_set.y.sum() < MIN_FRAUDS_TO_FIT:
        return ()
    features = feature_catalogue(config)
    fitting = FitSettings(config.outlier.detector, threads=config.training.threads)
    by_calendar = samples.of_calendar_folds(config, history, training_set, features)
    if by_calendar:
        return fit_folds(by_calendar, features.layout, fitting)
    return fit_validation_folds(
        samples.for_evidence(config, history, training_set, features), features.layout, fitting
    )


def _dates_before(store: Store, config: Config, date: int) -> list[int]:
    """The newest dates of the grid before `date`, as far as it remembers, with a transaction before them; oldest first."""
    every, timezone = config.training.every, config.schedule.timezone
    span = stored_history.span(store)
    first = date if span is None else span[0]
    dates: list[int] = []
    at = date
    while len(dates) < memory(config) and (at := grid.floor(every, timezone, at - 1)) > first:
        dates.append(at)
    return dates[::-1]


def _stored_evaluations(store: Store, policy: str, dates: Sequence[int], date: int) -> dict[int, Evaluation]:
    """The evaluations of these dates before `date` that stored choices hold: their own, and those made for them."""
    found: dict[int, Evaluation] = {}
    for row in models.choices_between(store, policy, dates[0] if dates else date, date):
        numbers = row["evidence"] or {}
        own = [{"date": row["training_date"], **numbers}] if numbers else []
        for each in [*numbers.get(EARLIER, ()), *own]:
            found[each["date"]] = Evaluation.of(each)
    return {at: found[at] for at in dates if at in found}


def _in_order(evaluations: Mapping[int, Evaluation]) -> list[Evaluation]:
    return [evaluation for _, evaluation in sorted(evaluations.items())]


def _review(config: Config, history: History, training_set: TrainingSet) -> ReviewBudget:
    """The costs, and the share of transactions that reviewers have time for."""
    if not len(training_set.mature):
        return ReviewBudget(costs_of(config), 0.0)
    first, last = history.transactions.event_time[training_set.mature[[0, -1]]]
    days = max(float(last - first) / DAY, 1.0)
    return ReviewBudget(costs_of(config), min(1.0, config.alerts.per_day * days / len(training_set.mature)))


def _settings(config: Config) -> StrategySettings:
    return StrategySettings(
        method=config.strategy.method,
        min_positives_blend=config.strategy.min_positives_blend,
        min_positives_classifier=config.strategy.min_positives_classifier,
        prevalence_gate_low=config.strategy.prevalence_gate_low,
        prevalence_gate_high=config.strategy.prevalence_gate_high,
        confirmations=config.strategy.confirmations,
        outlier_share=config.strategy.outlier_share,
    )


def _row(
    policy: str,
    date: int,
    run_id: int,
    rarity: PrevalenceEstimate,
    choice: Choice,
    numbers: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "policy": policy,
        "training_date": date,
        "run_id": run_id,
        "mature": rarity.mature,
        "positives": rarity.positives,
        "effective_positives": rarity.effective,
        "prevalence": rarity.prevalence,
        "prevalence_lower": rarity.lower,
        "prevalence_upper": rarity.upper,
        "strategy": choice.strategy,
        "proposed": choice.proposed,
        "outlier_share": choice.outlier_share,
        "rule": choice.rule,
        "sentence": choice.sentence,
        "next_change": choice.next_change,
        "evidence": numbers,
    }
