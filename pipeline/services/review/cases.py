"""
The queue of cases: what waits for a review, in the order of what a miss would cost.

A case is the flags of one entity within 24 hours, as in the view `flag_cases`; in the queue are the open ones of each. Payments of the random
audit sample stand between the others, where chance puts them: their own loss would put all of them last, and a reviewer who
knows which they are no longer judges them like the others.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pipeline.errors import InputError
from pipeline.schedule.run_context import LIVE
from pipeline.services.pages import decode_cursor, encode_cursor
from pipeline.services.records import Amount, as_amount
from pipeline.services.review.claims import list_claims
from pipeline.services.review.flags import FlagRecord, show_flags
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.errors import Unknown
from storage.frames import DAY
from storage.queries.review_queue import QueuedFlag, queued_flags

CASES_A_PAGE = 40
AUDIT = "audit"  # the channel of the random sample
Age = Literal["day", "week", "older"]
AGE_MAX: Mapping[Age, int] = {"day": DAY, "week": 7 * DAY}  # µs
ClaimState = Literal["free", "mine", "taken"]


@dataclass(frozen=True)
class CaseFilter:
    """
    Which cases to list; None for any.

    Attributes
    ----------
    channel
        With a flag of this channel.
    age
        How long ago the newest payment happened: up to a day, up to a week, longer.
    claim
        Those that nobody works on, that the caller works on, or that others work on.
    min_loss
        The least summed expected loss, in the base currency.
    entity
        Of this value of the entity that cases go by, as it is stored.
    """

    channel: str | None = None
    age: Age | None = None
    claim: ClaimState | None = None
    min_loss: float | None = None
    entity: str | None = None


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


@dataclass(frozen=True)
class _OpenCase:
    """A case before its flags are read whole."""

    case_id: str
    entity: str | None
    flags: tuple[QueuedFlag, ...]  # open ones, by time
    answered: int
    claimed_by: str | None
    rank: float = 0.0  # what it is ordered by

    @property
    def loss(self) -> float:
        return sum(max(flag.loss, 0.0) for flag in self.flags)

    @property
    def last(self) -> int:
        return max(flag.event_time for flag in self.flags)

    @property
    def position(self) -> tuple[float, str]:
        return (-self.rank, self.case_id)


def list_cases(
    session: Session,
    filters: CaseFilter = CaseFilter(),
    *,
    limit: int = CASES_A_PAGE,
    cursor: str | None = None,
) -> CasePage:
    """
    The cases that wait for a review, the largest summed expected loss first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    tests = _tests(session, filters)
    everything = _ranked(_open_cases(session))
    chosen = [case for case in everything if all(test(case) for test in tests.values())]
    begin = _begin(chosen, cursor)
    part = chosen[begin : begin + limit]
    following = part[-1].position if begin + limit < len(chosen) else None
    base = session.config.schema_.base_currency
    return CasePage(
        items=tuple(_with_flags(session, part)),
        next_cursor=encode_cursor(following),
        cases=len(chosen),
        flags=sum(len(case.flags) for case in chosen),
        expected_loss=as_amount(round(sum(case.loss for case in chosen), 2), base),
        facets=_facets(session, everything, tests),
    )


def case_transactions(session: Session, filters: CaseFilter = CaseFilter()) -> CaseTransactions:
    """The transactions of all open flags of the cases that the filter lets through."""
    tests = _tests(session, filters)
    cases = [case for case in _ranked(_open_cases(session)) if all(test(case) for test in tests.values())]
    return CaseTransactions(tuple(flag.transaction_id for case in cases for flag in case.flags))


def _begin(cases: Sequence[_OpenCase], cursor: str | None) -> int:
    position = decode_cursor(cursor, keys=2)
    if position is None:
        return 0
    try:
        return sum(case.position <= position for case in cases)
    except TypeError:
        raise InputError(
            f"{cursor!r} is no cursor of this list", remedy="begin again without one", code="bad_cursor"
        ) from None


def _open_cases(session: Session) -> list[_OpenCase]:
    """The cases of the live policy with an open flag."""
    owners: dict[str, list[QueuedFlag]] = defaultdict(list)
    for flag in queued_flags(session.store, LIVE):
        owners[f"flag {flag.transaction_id}" if flag.entity is None else f"of {flag.entity}"].append(flag)
    claims = {claim.transaction_id: claim.by for claim in list_claims(session).items}
    cases = (_case(members, claims) for flags in owners.values() for members in _within_a_day(flags))
    return [case for case in cases if case.flags]


def _within_a_day(flags: list[QueuedFlag]) -> Iterable[list[QueuedFlag]]:
    """Flags of one entity by case: a case lasts 24 hours from its first flag."""
    flags.sort(key=lambda flag: (flag.event_time, flag.transaction_id))
    members: list[QueuedFlag] = []
    for flag in flags:
        if members and flag.event_time >= members[0].event_time + DAY:
            yield members
            members = []
        members.append(flag)
    yield members


def _case(members: Sequence[QueuedFlag], claims: Mapping[str, str]) -> _OpenCase:
    waiting = tuple(flag for flag in members if flag.status == "open")
    by = next((claims[flag.transaction_id] for flag in waiting if flag.transaction_id in claims), None)
    return _OpenCase(members[0].transaction_id, members[0].entity, waiting, len(members) - len(waiting), by)


def _ranked(cases: Iterable[_OpenCase]) -> list[_OpenCase]:
    """Cases by their loss, and those of the audit sample alone where a hash of their id puts them."""
    others: list[_OpenCase] = []
    sampled: list[_OpenCase] = []
    for case in cases:
        (sampled if all(flag.channel == AUDIT for flag in case.flags) else others).append(case)
    ranked = sorted((replace(case, rank=case.loss) for case in others), key=lambda case: case.position)
    placed = [
        replace(case, rank=ranked[int(_share(case.case_id) * len(ranked))].rank if ranked else 0.0)
        for case in sampled
    ]
    return sorted([*ranked, *placed], key=lambda case: case.position)


def _share(case_id: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    digest = hashlib.blake2b(case_id.encode(), digest_size=6, person=b"queue").digest()
    return int.from_bytes(digest, "big") / 2**48


def _tests(session: Session, filters: CaseFilter) -> dict[str, Callable[[_OpenCase], bool]]:
    """By the name of a filter that is set, whether it lets a case through."""
    tests: dict[str, Callable[[_OpenCase], bool]] = {}
    if filters.channel is not None:
        tests["channel"] = lambda case: filters.channel in _channels(case)
    if filters.age is not None:
        tests["age"] = lambda case: _age(session, case) == filters.age
    if filters.claim is not None:
        tests["claim"] = lambda case: _claim_state(session, case) == filters.claim
    if filters.min_loss is not None:
        least = filters.min_loss
        tests["min_loss"] = lambda case: case.rank >= least
    if filters.entity is not None:
        tests["entity"] = lambda case: case.entity == filters.entity
    return tests


def _channels(case: _OpenCase) -> set[str]:
    """The channels of a case; a payment of the audit sample is on none that is shown."""
    return {flag.channel for flag in case.flags if flag.channel != AUDIT}


def _age(session: Session, case: _OpenCase) -> Age:
    age = session.now - case.last
    return next((name for name, most in AGE_MAX.items() if age <= most), "older")


def _claim_state(session: Session, case: _OpenCase) -> ClaimState:
    if case.claimed_by is None:
        return "free"
    return "mine" if case.claimed_by == session.actor else "taken"


def _facets(
    session: Session, cases: Sequence[_OpenCase], tests: Mapping[str, Callable[[_OpenCase], bool]]
) -> dict[str, dict[str, int]]:
    values: dict[str, Callable[[_OpenCase], Iterable[str]]] = {
        "channel": _channels,
        "age": lambda case: [_age(session, case)],
        "claim": lambda case: [_claim_state(session, case)],
    }
    facets = {}
    for name, values_of in values.items():
        others = [test for other, test in tests.items() if other != name]
        counts = Counter(
            value for case in cases if all(test(case) for test in others) for value in values_of(case)
        )
        facets[name] = dict(sorted(counts.items()))
    return facets


def _with_flags(session: Session, cases: Sequence[_OpenCase]) -> Iterable[Case]:
    ids = [flag.transaction_id for case in cases for flag in case.flags]
    records = show_flags(session, LIVE, ids)
    base, column = session.config.schema_.base_currency, session.store.fields.case_entity
    for case in cases:
        losses = [flag.loss for flag in case.flags if flag.loss >= 0]
        flags = [records[flag.transaction_id] for flag in case.flags if flag.transaction_id in records]
        yield Case(
            case_id=case.case_id,
            entity=None if case.entity is None else (column, case.entity),
            first_event_time=as_datetime(case.flags[0].event_time),
            last_event_time=as_datetime(case.last),
            flags=tuple(sorted(flags, key=_largest_first)),
            answered=case.answered,
            expected_loss=as_amount(round(sum(losses), 2), base) if losses else None,
            claimed_by=case.claimed_by,
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
    flags = sorted(found.values(), key=_largest_first)
    times = sorted((flag.event_time, flag.transaction_id) for flag in flags)
    losses = [flag.expected_loss.value for flag in flags if flag.expected_loss is not None]
    column = session.store.fields.case_entity
    value = flags[0].fields.get(column)
    return Case(
        case_id=times[0][1],
        entity=(column, value) if isinstance(value, str) else None,
        first_event_time=times[0][0],
        last_event_time=times[-1][0],
        flags=tuple(flags),
        answered=sum(flag.status != "open" for flag in flags),
        expected_loss=as_amount(sum(losses), session.config.schema_.base_currency) if losses else None,
        claimed_by=next((flag.claimed_by for flag in flags if flag.claimed_by is not None), None),
    )
