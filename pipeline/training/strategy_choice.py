"""
The choice of strategy at a training date, and the chain of the choices before it.

A choice measures how rare fraud is, tries all candidates on frauds they did not know, and remembers what was chosen before.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from detectors.evaluation.prevalence import Rarity
from detectors.strategy.choice import FITTABLE, Choice, ChooseSettings, Previous, Strategy, choose
from detectors.strategy.components import Fitting
from detectors.strategy.evidence import Review, evidence
from detectors.strategy.held_out import HeldOut, held_out
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.errors import NotReady
from pipeline.features.history import History, feature_plan
from pipeline.schedule import grid
from pipeline.training import samples
from pipeline.training.training_set import Known, known_at, rarity_of
from storage.database.database import Store
from storage.frames import DAY
from storage.ingest import history as stored
from storage.models import models

Folds = tuple[HeldOut, ...]


@dataclass(frozen=True)
class Chosen:
    """A stored choice: its id, the strategy that was chosen, and the sentence for people."""

    choice_id: int
    strategy: Strategy
    outlier_share: float
    sentence: str
    folds: Folds = ()  # held-out rows that weigh a blend


def choose_through(
    store: Store, config: Config, history_of: Callable[[int], History], policy: str, date: int, run_id: int
) -> Chosen:
    """
    Make every choice up to the one of `date`, in the order of their dates, and return that one.

    A choice depends on the ones before it. So the chain begins with the first training date of the stored
    history, wherever the first run or backfill begins; models are fitted only for the dates that need one.
    Dates that have a choice keep it; one that knew too little has none.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    for earlier in _dates_before(store, config, policy, date):
        with suppress(NotReady):
            _choose(store, config, history_of(earlier), policy, earlier, run_id)
    found = models.choice_of(store, policy, date)
    if found is None:
        return _choose(store, config, history_of(date), policy, date, run_id)
    folds: Folds = ()
    if found["strategy"] == "blend":
        history = history_of(date)
        folds = held_out_of(config, history, known_at(config, history, date))
    return Chosen(found["choice_id"], found["strategy"], found["outlier_share"], found["sentence"], folds)


def preview(store: Store, config: Config, history: History, policy: str, date: int) -> Choice:
    """
    What a training at `date` would choose; nothing is stored.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    return _decide(store, config, history, policy, date)[1]


def held_out_of(config: Config, history: History, known: Known) -> Folds:
    """
    What detectors would have said of the mature frauds before they knew them, on `choose.evidence_rows` rows.

    Every transaction's features know the labels of its own time only, and a fold learns from what was mature at its date.
    """
    if not config.choose.evidence_rows or known.y.sum() < FITTABLE:
        return ()
    features = feature_plan(config)
    how = Fitting(config.training.trees, config.training.seed, config.training.threads)
    return held_out(samples.for_evidence(config, history, known, features), features.layout, how)


def _dates_before(store: Store, config: Config, policy: str, date: int) -> list[int]:
    clock, every = config.schedule, config.training.every
    newest = models.newest_choice_date(store, policy)
    if newest is None:
        span = stored.span(store)
        newest = date if span is None else span[0]
    return grid.dates_inside(every, clock.timezone, newest, date) if newest < date else []


def _choose(store: Store, config: Config, history: History, policy: str, date: int, run_id: int) -> Chosen:
    rarity, choice, folds = _decide(store, config, history, policy, date)
    choice_id = models.save_choice(store, _row(policy, date, run_id, rarity, choice))
    return Chosen(choice_id, choice.strategy, choice.outlier_share, choice.sentence, folds)


def _decide(
    store: Store, config: Config, history: History, policy: str, date: int
) -> tuple[Rarity, Choice, Folds]:
    known = known_at(config, history, date)
    rarity, folds = rarity_of(config, history, known), held_out_of(config, history, known)
    told = evidence(folds, _review(config, history, known), config.training.seed)
    return rarity, choose(rarity, _previous(store, policy, date), _settings(config), told), folds


def _review(config: Config, history: History, known: Known) -> Review:
    """What flags cost, and for which share of transactions reviewers have time."""
    if not len(known.mature):
        return Review(costs_of(config), 0.0)
    first, last = history.transactions.event_time[known.mature[[0, -1]]]
    days = max(float(last - first) / DAY, 1.0)
    return Review(costs_of(config), min(1.0, config.alerts.per_day * days / len(known.mature)))


def _previous(store: Store, policy: str, date: int) -> list[Previous]:
    rows = models.last_choices(store, policy, date)
    return [Previous(row["strategy"], row["proposed"], row["evidence"]["gate_open"]) for row in rows]


def _settings(config: Config) -> ChooseSettings:
    return ChooseSettings(
        strategy=config.choose.strategy,
        few=config.choose.few,
        enough=config.choose.enough,
        rare=config.choose.rare,
        common=config.choose.common,
        confirm=config.choose.confirm,
        outlier_share=config.choose.outlier_share,
    )


def _row(policy: str, date: int, run_id: int, rarity: Rarity, choice: Choice) -> dict[str, Any]:
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
        "what_would_change": choice.what_would_change,
        "evidence": choice.numbers,
    }
