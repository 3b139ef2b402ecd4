"""
The queue of cases: what waits for a review, in the order of what a miss would cost.

A case is the flags of one entity within 24 hours, as in the view `flag_cases`; in the queue are the open ones of each. Payments of the random
audit sample stand between the others, where chance puts them: their own loss would put all of them last, and a reviewer who
knows which they are no longer judges them like the others.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pipeline.schedule.run_context import LIVE
from pipeline.services.pages import decode_cursor, encode_cursor
from pipeline.services.records import Amount, as_amount
from pipeline.services.review.flags import FlagRecord, show_flags
from pipeline.services.session import Session
from storage.database.cases import AUDIT, LOSS_UNITS
from storage.database.column_types import as_datetime
from storage.errors import Unknown
from storage.frames import DAY, HOUR
from storage.queries.review_queue import (
    SORT_KEYS,
    CaseKind,
    CaseOrder,
    CaseScope,
    QueuedCase,
    QueueFilter,
    Span,
    case_kinds,
    case_part,
    raised_at,
)

__all__ = [
    "AUDIT",
    "Age",
    "Case",
    "CaseFilter",
    "CaseOrder",
    "CasePage",
    "ClaimState",
    "Due",
    "case_of",
    "case_transactions",
    "list_cases",
]
CASES_A_PAGE = 40
Age = Literal["day", "week", "older"]
ClaimState = Literal["free", "mine", "taken"]
Due = Literal["overdue", "day", "later"]


@dataclass(frozen=True)
class CaseFilter:
    """
    Which cases to list; None for any.

    Attributes
    ----------
    channel
        With a flag of this channel.
    age
        How long ago the newest payment happened, in whole hours: up to a day, up to a week, longer.
    due
        Whether the time to answer (`alerts.answer_within`) is over, ends within a day, or later.
    claim
        Those that nobody works on, that the caller works on, or that others work on.
    min_loss
        The least summed expected loss, in the base currency.
    entity
        Of this value of the entity that cases go by, as it is stored.
    """

    channel: str | None = None
    age: Age | None = None
    due: Due | None = None
    claim: ClaimState | None = None
    min_loss: float | None = None
    entity: str | None = None


@dataclass(frozen=True)
class AnswerTime:
    """When an answer is due, None without `alerts.answer_within`, and whether that is over."""

    due_at: datetime | None
    is_overdue: bool


@dataclass(frozen=True)
class Case:
    """
    Open flags of one entity within 24 hours.

    Attributes
    ----------
    case_id
        The id of the transaction that began it, as in the view `flag_cases`.
    entity
        Column and value; None where the payments have none, or cases go by no entity.
    answered
        Flags of the case that are open no longer.
    expected_loss
        Summed over the open flags; None if none of them has one.
    """

    case_id: str
    entity: tuple[str, str] | None
    first_event_time: datetime
    last_event_time: datetime
    flags: tuple[FlagRecord, ...]
    answered: int
    expected_loss: Amount | None
    claimed_by: str | None
    answer: AnswerTime


@dataclass(frozen=True)
class CasePage:
    """
    Cases of the queue.

    Attributes
    ----------
    cases, flags, expected_loss
        Number and sum of everything that the filter lets through, on all pages.
    facets
        By the name of a filter, how many cases each of its values would let through beside the other filters.
    """

    items: tuple[Case, ...]
    next_cursor: str | None
    cases: int
    flags: int
    expected_loss: Amount
    facets: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class CaseTransactions:
    """The transactions of the open flags of cases, in the order of the queue."""

    transaction_ids: tuple[str, ...]


def list_cases(
    session: Session,
    filters: CaseFilter = CaseFilter(),
    *,
    order: CaseOrder = "loss",
    limit: int = CASES_A_PAGE,
    cursor: str | None = None,
) -> CasePage:
    """
    The cases that wait for a review: the largest summed expected loss, the earliest due time or the newest payment first.

    Raises
    ------
    InputError
        The cursor is not one of this list in this order.
    """
    after = decode_cursor(cursor, len(SORT_KEYS[order]), order)
    kinds, tests = _kinds(session, filters), _tests(session, filters)
    chosen = [kind for kind in kinds if all(test(kind) for test in tests.values())]
    stored = _stored_filter(session, filters, kinds)
    part = case_part(session.store, LIVE, stored, session.now, order=order, limit=limit, after=after)
    base = session.config.schema_.base_currency
    return CasePage(
        items=tuple(_with_flags(session, part.cases)),
        next_cursor=encode_cursor(part.next_position, order),
        cases=sum(kind.cases for kind in chosen),
        flags=sum(kind.flags for kind in chosen),
        expected_loss=as_amount(round(sum(kind.loss for kind in chosen) / LOSS_UNITS, 2), base),
        facets=_facets(session, kinds, tests),
    )


def case_transactions(session: Session, filters: CaseFilter = CaseFilter()) -> CaseTransactions:
    """The transactions of all open flags of the cases that the filter lets through."""
    stored = _stored_filter(session, filters, _kinds(session, filters))
    listed = case_part(session.store, LIVE, stored, session.now).cases
    return CaseTransactions(tuple(name for case in listed for name in case.transaction_ids))


def count_overdue(session: Session) -> int:
    """The number of cases whose time to answer is over."""
    return (
        list_cases(session, CaseFilter(due="overdue"), limit=1).cases
        if session.config.alerts.answer_within
        else 0
    )


def _kinds(session: Session, filters: CaseFilter) -> list[CaseKind]:
    return case_kinds(session.store, LIVE, _scope(filters), session.now, _ages(session), _due_spans(session))


def _scope(filters: CaseFilter) -> CaseScope:
    least = None if filters.min_loss is None else round(filters.min_loss * LOSS_UNITS)
    return CaseScope(least, filters.entity)


def _stored_filter(session: Session, filters: CaseFilter, kinds: Sequence[CaseKind]) -> QueueFilter:
    return QueueFilter(
        _scope(filters),
        None
        if filters.channel is None
        else sorted({kind.channels for kind in kinds if filters.channel in kind.channels}),
        Span() if filters.age is None else _ages(session)[filters.age],
        Span() if filters.due is None else _due_spans(session)[filters.due],
        None
        if filters.claim is None
        else list({kind.claimed_by for kind in kinds if _claim_state(session, kind) == filters.claim}),
    )


def _ages(session: Session) -> dict[str, Span]:
    """The hours of the newest payment by the age of a case."""
    hour = session.now // HOUR * HOUR
    return {
        "day": Span(hour - DAY),
        "week": Span(hour - 7 * DAY, hour - DAY),
        "older": Span(None, hour - 7 * DAY),
    }


def _due_spans(session: Session) -> dict[str, Span]:
    """The hours in which cases were raised, by when an answer is due; none without `alerts.answer_within`."""
    within = session.config.alerts.answer_within
    if not within:
        return {}
    over = session.now - within + 1
    return {"overdue": Span(None, over), "day": Span(over, over + DAY), "later": Span(over + DAY)}


def _tests(session: Session, filters: CaseFilter) -> dict[str, Callable[[CaseKind], bool]]:
    """By the name of a filter that is set, whether it lets a kind of cases through."""
    wanted = {"channel": filters.channel, "age": filters.age, "due": filters.due, "claim": filters.claim}
    values = _values(session)

    def test(name: str, value: str) -> Callable[[CaseKind], bool]:
        return lambda kind: value in values[name](kind)

    return {name: test(name, value) for name, value in wanted.items() if value is not None}


def _values(session: Session) -> dict[str, Callable[[CaseKind], Iterable[str]]]:
    """By the name of a filter, the values that let a kind of cases through."""
    return {
        "channel": lambda kind: kind.channels,
        "age": lambda kind: [kind.age],
        "due": lambda kind: [kind.due] if kind.due else [],
        "claim": lambda kind: [_claim_state(session, kind)],
    }


def _claim_state(session: Session, kind: CaseKind) -> ClaimState:
    if kind.claimed_by is None:
        return "free"
    return "mine" if kind.claimed_by == session.actor else "taken"


def _facets(
    session: Session, kinds: Sequence[CaseKind], tests: Mapping[str, Callable[[CaseKind], bool]]
) -> dict[str, dict[str, int]]:
    facets = {}
    for name, values_of in _values(session).items():
        others = [test for other, test in tests.items() if other != name]
        counts: Counter[str] = Counter()
        for kind in kinds:
            if all(test(kind) for test in others):
                counts.update(dict.fromkeys(values_of(kind), kind.cases))
        facets[name] = dict(sorted(counts.items()))
    return facets


def _with_flags(session: Session, cases: Sequence[QueuedCase]) -> Iterable[Case]:
    records = show_flags(session, LIVE, [name for case in cases for name in case.transaction_ids])
    for case in cases:
        flags = [records[name] for name in case.transaction_ids if name in records]
        if flags:  # a program may have removed them since
            yield _case(session, case.case_id, flags, case.answered, case.claimed_by, case.raised_at)


def _case(
    session: Session,
    case_id: str,
    flags: Sequence[FlagRecord],
    answered: int,
    claimed_by: str | None,
    raised: datetime | None,
) -> Case:
    """A case of these flags, the largest expected loss first."""
    column, times = session.store.fields.case_entity, [flag.event_time for flag in flags]
    value = flags[0].fields.get(column)
    losses = [float(flag.expected_loss.value) for flag in flags if flag.expected_loss is not None]
    return Case(
        case_id=case_id,
        entity=(column, value) if isinstance(value, str) else None,
        first_event_time=min(times),
        last_event_time=max(times),
        flags=tuple(sorted(flags, key=_largest_first)),
        answered=answered,
        expected_loss=as_amount(round(sum(losses), 2), session.config.schema_.base_currency)
        if losses
        else None,
        claimed_by=claimed_by,
        answer=_answer_time(session, raised),
    )


def _largest_first(flag: FlagRecord) -> tuple[float, float]:
    loss = -1.0 if flag.expected_loss is None else float(flag.expected_loss.value)
    return (-loss, -flag.score)


def case_of(session: Session, transaction_ids: Sequence[str]) -> Case:
    """
    Flags that belong together, as a case; `answered` counts those that are not open.

    Raises
    ------
    Unknown
        None of the transactions has a flag.
    """
    found = show_flags(session, LIVE, transaction_ids)
    if not found:
        raise Unknown(f"there is no flag on transaction {transaction_ids[0]!r}", code="unknown_flag")
    flags = sorted(found.values(), key=lambda flag: (flag.event_time, flag.transaction_id))
    claimed_by = next((flag.claimed_by for flag in flags if flag.claimed_by is not None), None)
    raised = raised_at(session.store, LIVE, [flag.transaction_id for flag in flags])
    answered = sum(flag.status != "open" for flag in flags)
    return _case(session, flags[0].transaction_id, flags, answered, claimed_by, raised)


def answer_time(session: Session, transaction_ids: Sequence[str]) -> AnswerTime:
    """When the first of the cases of flags must be answered; no time if nothing of them is open."""
    return _answer_time(session, raised_at(session.store, LIVE, transaction_ids))


def _answer_time(session: Session, raised: datetime | None) -> AnswerTime:
    within = session.config.alerts.answer_within
    if not within or raised is None:
        return AnswerTime(None, is_overdue=False)
    due_at = raised + timedelta(microseconds=within)
    return AnswerTime(due_at, is_overdue=due_at <= as_datetime(session.now))
