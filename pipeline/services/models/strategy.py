"""Choices of strategy: stored ones with their evidence, and what a training would choose now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isnan
from typing import Any

from detectors.base import STRATEGIES
from detectors.evaluation.prevalence import PrevalenceEstimate
from detectors.strategy.choice import Evaluation, StrategyComparison
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import Amount, as_amount, as_record
from pipeline.services.session import Session
from pipeline.training import strategy_choice
from pipeline.training.readiness import young_cohorts
from pipeline.training.training_history import load_training_history, training_date
from storage.database.column_types import as_datetime
from storage.queries import choices


@dataclass(frozen=True)
class ChoiceRecord:
    """A stored choice of strategy."""

    choice_id: int
    policy: str
    training_date: datetime
    run_id: int | None
    mature: int
    positives: int
    effective_positives: float
    prevalence: float | None
    prevalence_lower: float | None
    prevalence_upper: float | None
    strategy: str
    proposed: str | None  # by that training alone
    outlier_share: float | None
    rule: str
    sentence: str
    next_change: str | None


@dataclass(frozen=True)
class StrategyMetrics:
    """How well a strategy did on held-out frauds."""

    strategy: str
    average_precision: float | None  # None where it is not defined
    cost: Amount


@dataclass(frozen=True)
class EvidenceSummary:
    """
    What held-out frauds say about the strategies.

    Attributes
    ----------
    positives
        Held-out frauds, clusters on one entity counted once.
    classifier_weight, gain
        Weight of the classifiers in a blend, and how much more of each held-out fraud it finds than the outlier detector alone.
    comparisons
        How much better one strategy is than another, each pair once; costs are in the base currency.
    """

    positives: float
    classifier_weight: float
    gain: float
    metrics: tuple[StrategyMetrics, ...]
    comparisons: tuple[StrategyComparison, ...]


@dataclass(frozen=True)
class PrevalenceGate:
    """While it is closed outlier detection comes first; it compares the upper bound of the prevalence."""

    is_open: bool
    closes_below: float
    opens_from: float


@dataclass(frozen=True)
class ChoiceExplanation:
    """Everything that a choice rests on; the numbers of frauds are those from which a strategy is proposed."""

    strategy: str
    proposed: str  # by this training alone
    outlier_share: float
    rule: str
    sentence: str
    next_change: str
    prevalence: PrevalenceEstimate
    frauds_for_blend: float
    frauds_for_classification: float
    gate: PrevalenceGate
    in_force: str | None  # before this choice
    evidence: EvidenceSummary | None  # None if no fraud could be held out


@dataclass(frozen=True)
class ExplainedChoice:
    """A stored choice with everything that it rests on."""

    choice: ChoiceRecord
    explanation: ChoiceExplanation


@dataclass(frozen=True)
class YoungCohort:
    """Transactions that are not mature yet, of ages in days; `expected` frauds is None if too few were reported to tell."""

    youngest_days: float
    oldest_days: float
    transactions: int
    reported: int
    expected: float | None


@dataclass(frozen=True)
class ChoicePreview:
    """What a training at a date would choose; nothing is stored."""

    training_date: datetime
    explanation: ChoiceExplanation
    young_cohorts: tuple[YoungCohort, ...]


def list_choices(
    session: Session, policy: str, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[ChoiceRecord]:
    """
    The choices of a policy, newest training date first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = choices.choice_page(session.store, policy, limit, decode_cursor(cursor, keys=2))
    records = tuple(as_record(ChoiceRecord, row) for row in page.rows)
    return Page(records, encode_cursor(page.next_position))


def show_choice(session: Session, policy: str, choice_id: int | None = None) -> ExplainedChoice:
    """
    A choice with everything that it rests on; the newest one by default.

    Raises
    ------
    Unknown
        The policy has no such choice, or none at all.
    """
    row = choices.choice_row(session.store, policy, choice_id)
    currency = session.config.schema_.base_currency
    return ExplainedChoice(as_record(ChoiceRecord, row), _explanation(row, row["evidence"], currency))


def preview_choice(session: Session, policy: str, as_of: datetime | None = None) -> ChoicePreview:
    """
    What a training would choose; nothing is stored or promoted.

    Parameters
    ----------
    as_of
        The training date; by default now, or the newest transaction if that is older.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known then.
    """
    store, config = session.store, session.config.for_policy(policy)
    date = training_date(store, config, session.now, as_of)
    history = load_training_history(store, config, date)
    choice = strategy_choice.preview(store, config, history, policy, date)
    cohorts = (
        YoungCohort(each.youngest, each.oldest, each.transactions, each.reported, _defined(each.expected))
        for each in young_cohorts(history, config.labels.longest_maturity, date)
    )
    explanation = _explanation(vars(choice), choice.numbers, config.schema_.base_currency)
    return ChoicePreview(as_datetime(date), explanation, tuple(cohorts))


def _explanation(choice: Mapping[str, Any], numbers: Mapping[str, Any], currency: str) -> ChoiceExplanation:
    settings, evidence = numbers["settings"], numbers["evidence"]
    gate = PrevalenceGate(
        numbers["gate_open"], settings["prevalence_gate_low"], settings["prevalence_gate_high"]
    )
    return as_record(
        ChoiceExplanation,
        choice,
        prevalence=Evaluation.of(numbers).prevalence,
        frauds_for_blend=numbers["min_positives_blend"],
        frauds_for_classification=numbers["min_positives_classifier"],
        gate=gate,
        in_force=numbers["in_force"],
        evidence=None if evidence is None else _evidence(evidence, currency),
    )


def _evidence(numbers: Mapping[str, Any], currency: str) -> EvidenceSummary:
    values = numbers["values"]
    metrics = (
        StrategyMetrics(
            name, _defined(values[f"{name}.average precision"]), as_amount(values[f"{name}.cost"], currency)
        )
        for name in STRATEGIES
        if values.get(f"{name}.cost") is not None
    )
    pairs = (
        StrategyComparison(**pair) for pair in numbers["comparisons"] if _defined(pair["lower"]) is not None
    )
    return EvidenceSummary(
        positives=numbers["positives"],
        classifier_weight=numbers["weight"],
        gain=numbers["gain"],
        metrics=tuple(metrics),
        # the reverse pair would repeat it
        comparisons=tuple(
            pair for pair in pairs if STRATEGIES.index(pair.strategy) > STRATEGIES.index(pair.against)
        ),
    )


def _defined(value: float | None) -> float | None:
    """None for NaN, which stored JSON does not have."""
    return None if value is None or isnan(value) else value
