"""
The strategy choice at a training date, and the chain of earlier choices it depends on.

A choice estimates the prevalence of fraud, evaluates all strategies on held-out frauds, and takes previous choices into
account.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from detectors.base import MIN_FRAUDS_TO_FIT, Strategy
from detectors.evaluation.prevalence import PrevalenceEstimate
from detectors.strategy.choice import (
    Choice,
    PreviousChoice,
    StrategySettings,
    choose,
)
from detectors.strategy.evidence import ReviewBudget, gather_evidence
from detectors.strategy.outlier_team import FitSettings
from detectors.strategy.validation_folds import ValidationFold, fit_validation_folds
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


@dataclass(frozen=True)
class StoredChoice:
    """A stored choice: its id, the chosen strategy, and its explanation."""

    choice_id: int
    strategy: Strategy
    outlier_share: float
    sentence: str
    folds: Folds = ()  # held-out rows that the weights of a blend are fitted on


def choose_through(
    store: Store, config: Config, history_of: Callable[[int], History], policy: str, date: int, run_id: int
) -> StoredChoice:
    """
    Make every missing choice up to `date`, in the order of their dates, and return the choice of `date`.

    A choice depends on the previous ones. So the chain begins with the first training date of the stored
    history, wherever the first run or backfill begins; models are fitted only for the dates that need one.
    Existing choices are kept; a date with too few transactions has no choice.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    for earlier in _dates_before(store, config, policy, date):
        with suppress(NotReady):
            _store_choice(store, config, history_of(earlier), policy, earlier, run_id)
    stored = models.choice_of(store, policy, date)
    if stored is None:
        return _store_choice(store, config, history_of(date), policy, date, run_id)
    folds: Folds = ()
    if stored["strategy"] == "blend":
        history = history_of(date)
        folds = validation_folds_of(config, history, training_set_at(config, history, date))
    return StoredChoice(
        stored["choice_id"], stored["strategy"], stored["outlier_share"], stored["sentence"], folds
    )


def preview(store: Store, config: Config, history: History, policy: str, date: int) -> Choice:
    """
    What a training at `date` would choose; nothing is stored.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    return _decide(store, config, history, policy, date)[1]


def validation_folds_of(config: Config, history: History, training_set: TrainingSet) -> Folds:
    """
    Out-of-sample scores of the mature frauds, on `samples.EVIDENCE_ROWS` rows, in time-ordered folds.

    Features use only labels that were known when the transaction happened, and a fold learns only from rows that were
    mature at its date.
    """
    if training_set.y.sum() < MIN_FRAUDS_TO_FIT:
        return ()
    features = feature_catalogue(config)
    fitting = FitSettings(config.outlier.detector, threads=config.training.threads)
    return fit_validation_folds(
        samples.for_evidence(config, history, training_set, features), features.layout, fitting
    )


def _dates_before(store: Store, config: Config, policy: str, date: int) -> list[int]:
    clock, every = config.schedule, config.training.every
    newest = models.newest_choice_date(store, policy)
    if newest is None:
        span = stored_history.span(store)
        newest = date if span is None else span[0]
    return grid.dates_inside(every, clock.timezone, newest, date) if newest < date else []


def _store_choice(
    store: Store, config: Config, history: History, policy: str, date: int, run_id: int
) -> StoredChoice:
    rarity, choice, folds = _decide(store, config, history, policy, date)
    choice_id = models.save_choice(store, _row(policy, date, run_id, rarity, choice))
    return StoredChoice(choice_id, choice.strategy, choice.outlier_share, choice.sentence, folds)


def _decide(
    store: Store, config: Config, history: History, policy: str, date: int
) -> tuple[PrevalenceEstimate, Choice, Folds]:
    training_set = training_set_at(config, history, date)
    rarity, folds = (
        prevalence_of(config, history, training_set),
        validation_folds_of(config, history, training_set),
    )
    held_out_evidence = gather_evidence(folds, _review(config, history, training_set))
    return rarity, choose(rarity, _previous(store, policy, date), _settings(config), held_out_evidence), folds


def _review(config: Config, history: History, training_set: TrainingSet) -> ReviewBudget:
    """The costs, and the share of transactions that reviewers have time for."""
    if not len(training_set.mature):
        return ReviewBudget(costs_of(config), 0.0)
    first, last = history.transactions.event_time[training_set.mature[[0, -1]]]
    days = max(float(last - first) / DAY, 1.0)
    return ReviewBudget(costs_of(config), min(1.0, config.alerts.per_day * days / len(training_set.mature)))


def _previous(store: Store, policy: str, date: int) -> list[PreviousChoice]:
    rows = models.last_choices(store, policy, date)
    return [PreviousChoice(row["strategy"], row["proposed"], row["evidence"]["gate_open"]) for row in rows]


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


def _row(policy: str, date: int, run_id: int, rarity: PrevalenceEstimate, choice: Choice) -> dict[str, Any]:
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
        "evidence": choice.numbers,
    }
