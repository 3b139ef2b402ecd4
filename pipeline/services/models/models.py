"""Models: lists and cards, and a person's decision for another one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from detectors.base import DetectorError
from detectors.model.artifact import libraries
from pipeline.card_numbers import mask_numbers
from pipeline.errors import InputError
from pipeline.scoring.model_cache import ModelCache, load_model
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import Amount, as_amount, as_record
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.errors import Damaged
from storage.models import models
from storage.queries.models import model_page, model_row
from storage.queries.rows import Row


@dataclass(frozen=True)
class CardPromotion:
    """From when on a model scores payments, and who decided so."""

    effective_from: datetime
    by: str
    promoted_at: datetime
    reason: str


@dataclass(frozen=True)
class CardCheck:
    """What the promotion gate said about a model; its champion is None if there was none."""

    training_date: datetime
    champion_id: int | None
    verdict: str
    rule: str
    sentence: str


@dataclass(frozen=True)
class ChangedLibrary:
    """A library whose installed version is not that of the training; None if it had none."""

    name: str
    trained_with: str | None
    installed: str


@dataclass(frozen=True)
class ModelCard:
    """
    Where a model comes from, what it reads, and whether it loads here.

    Attributes
    ----------
    sentence
        Of the choice of its strategy; None for a model without a choice.
    span_start, span_end
        Payments that it was trained on.
    thresholds
        By channel; None if the channel flags nothing.
    versions
        Of the libraries that it was trained with.
    promotions, checks
        Of the policy, oldest first.
    loads
        Whether it loads here, and its sample rows have the scores that they had in training.
    load_error
        Why it does not load.
    changed_libraries
        Libraries whose version has changed since, which a model that loads has survived.
    """

    model_id: int
    strategy: str
    trained_at: datetime
    run_id: int | None
    sentence: str | None
    n_mature: int | None
    n_fraud: int | None
    span_start: datetime | None
    span_end: datetime | None
    thresholds: Mapping[str, float | None]
    feature_names: tuple[str, ...]
    versions: Mapping[str, str]
    config_hash: str | None
    bytes: int
    sha256: str
    promotions: tuple[CardPromotion, ...]
    checks: tuple[CardCheck, ...]
    loads: bool
    load_error: str | None
    changed_libraries: tuple[ChangedLibrary, ...]


def model_card(session: Session, policy: str, model_id: int) -> ModelCard:
    """
    The card of a model, with its promotions and checks under a policy.

    Raises
    ------
    Unknown
        There is no such model.
    """
    row = model_row(session.store, policy, model_id)
    load_error = _load_error(session, model_id)
    return as_record(
        ModelCard,
        row | {"versions": row["versions"] or {}},
        promotions=tuple(as_record(CardPromotion, each) for each in row["promotions"]),
        checks=tuple(as_record(CardCheck, each) for each in row["checks"]),
        loads=load_error is None,
        load_error=load_error,
        changed_libraries=_changed_libraries(row["versions"] or {}),
    )


@dataclass(frozen=True)
class ListedModel:
    """
    A model under a policy: one of its promotions, or that it was rejected.

    Attributes
    ----------
    effective_from
        From when on it scores; None if it was rejected.
    promotion
        The number of the promotion, counted from 1; None if it was rejected.
    by, promoted_at
        Who promoted it, and when.
    reason
        Why it was promoted or rejected.
    verdict, rule
        Of the promotion gate; None if there was no champion to compare it with.
    average_precision, cost
        Of the candidate on the window of the gate, beside those of the champion; None where nothing could be compared.
    thresholds
        By channel; None if the channel flags nothing.
    """

    model_id: int
    strategy: str
    trained_at: datetime
    effective_from: datetime | None
    promotion: int | None
    by: str | None
    promoted_at: datetime | None
    reason: str
    verdict: Literal["promoted", "rejected"] | None
    rule: str | None
    average_precision: float | None
    average_precision_champion: float | None
    cost: Amount | None
    cost_champion: Amount | None
    n_mature: int | None
    n_fraud: int | None
    span_start: datetime | None
    span_end: datetime | None
    thresholds: Mapping[str, float | None]
    choice_id: int | None
    sha256: str


@dataclass(frozen=True)
class PromotionRequest:
    """A model to promote by hand from a time on, or from now on."""

    policy: str
    model_id: int
    reason: str
    effective_from: datetime | None = None


@dataclass(frozen=True)
class PromotionResult:
    """A model scores transactions from `effective_from` on, until another is promoted; promotions are numbered."""

    policy: str
    model_id: int
    effective_from: datetime
    promotion: int


def list_models(
    session: Session, policy: str, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[ListedModel]:
    """
    Promoted models and rejected candidates, newest first; a model that was promoted twice is listed twice.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = model_page(session.store, policy, limit, decode_cursor(cursor, keys=3))
    records = tuple(_listed_model(row, session.config.schema_.base_currency) for row in page.rows)
    return Page(records, encode_cursor(page.next_position))


def _listed_model(row: Row, currency: str) -> ListedModel:
    costs = {
        name: None if row[name] is None else as_amount(row[name], currency)
        for name in ("cost", "cost_champion")
    }
    return as_record(
        ListedModel,
        row,
        promotion=row["seq"],
        average_precision=row["ap"],
        average_precision_champion=row["ap_champion"],
        **costs,
    )


def promote(session: Session, request: PromotionRequest) -> PromotionResult:
    """
    Promote a model to champion; it must load. Stored scores do not change.

    Raises
    ------
    InputError
        `effective_from` is in the past: earlier transactions keep the model that was in force at their time.
    Unknown, Damaged, ArtifactError
        There is no such model, or it does not load here.
    """
    now = session.now
    begin = now if request.effective_from is None else as_micros(request.effective_from)
    if begin < now:
        raise InputError(
            f"a promotion takes effect now or later, got {as_datetime(begin)}",
            remedy="earlier transactions keep the model that was in force at their time; score them anew under another policy",
            code="past_promotion",
        )
    load_model(session.store, session.config, request.model_id)
    number = models.promote(
        session.store,
        request.policy,
        begin,
        request.model_id,
        mask_numbers(request.reason),
        session.actor,
        now,
    )
    return PromotionResult(request.policy, request.model_id, as_datetime(begin), number)


def rollback(session: Session, policy: str, reason: str) -> PromotionResult:
    """
    Promote the previous champion again, from now on.

    Raises
    ------
    InputError
        There is no previous champion.
    """
    in_force = _in_force(session, policy)
    previous = [model_id for model_id in in_force if model_id != in_force[-1]]
    if not previous:
        state = f"model {in_force[-1]} is the first" if in_force else "no model is in force"
        raise InputError(f"there is nothing to roll back to: {state}", code="no_previous_model")
    return promote(session, PromotionRequest(policy, previous[-1], reason))


def model_in_force(session: Session, policy: str) -> int | None:
    """The model that scores now; None if none does."""
    in_force = _in_force(session, policy)
    return in_force[-1] if in_force else None


def _in_force(session: Session, policy: str) -> list[int]:
    return ModelCache(session.store, session.config, policy).in_force_until(session.now)


def _load_error(session: Session, model_id: int) -> str | None:
    try:
        load_model(session.store, session.config, model_id)
    except (DetectorError, Damaged) as error:
        return str(error)
    return None


def _changed_libraries(trained_with: Mapping[str, str]) -> tuple[ChangedLibrary, ...]:
    """Nothing for a model that does not say what it was trained with."""
    return tuple(
        ChangedLibrary(name, trained_with.get(name), installed)
        for name, installed in libraries().items()
        if trained_with and trained_with.get(name) != installed
    )
