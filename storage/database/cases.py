"""
The cases of the queue: `flags.case_id`, `cases` and `case_counts`, written in the transaction that changes the flags.

A case is the flags of one entity within 24 hours of its first, without muted ones, as in the view `flag_cases`; a flag without a
value of the entity is a case of its own. `cases` has those with an open flag, and `case_counts` counts them.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Delete,
    Select,
    Table,
    TextClause,
    and_,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    literal,
    null,
    select,
    text,
)

from storage.database import bulk
from storage.database.column_types import Instant
from storage.database.database import WRITE_LOCK, Store
from storage.database.tables import (
    Fields,
    case_counts,
    cases,
    flags,
    monitor,
    runs,
    scores,
    transactions_table,
)
from storage.frames import DAY, HOUR

AUDIT = "audit"  # the channel of the random sample
CASES_LOCK = (
    WRITE_LOCK + 1
)  # Postgres advisory lock of whoever changes flags: two changes of one case follow each other
LOSS_UNITS = 10_000  # of `cases.loss`, in one unit of the base currency
PAYMENTS = transactions_table(Fields())

Key = tuple[str, str]  # policy and case_id
Kind = tuple[str, str, int, int]  # the key of `case_counts`


class _Member(NamedTuple):
    """A flag that is not muted."""

    policy: str
    transaction_id: str
    owner: str | None
    event_time: int  # µs
    status: str
    channel: str
    loss: float | None
    raised_at: int | None  # µs
    case_id: str | None


def lock_cases(connection: Connection) -> None:
    """Wait for others that change flags, before the first change of one; until the end of the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CASES_LOCK})


def refresh_cases(connection: Connection, ids: Iterable[str]) -> None:
    """Write the cases of the flags on these transactions anew, after their status has changed."""
    f = flags.c
    changed = (
        select(f.policy, f.case_id)
        .distinct()
        .where(f.transaction_id.in_(_listed(connection, ids)), f.case_id.is_not(None))
    )
    write_cases(connection, [(row.policy, row.case_id) for row in connection.execute(changed)])


def assign_cases(connection: Connection, store: Store, policy: str, ids: Sequence[str]) -> None:
    """Find the cases of flags that were raised on these transactions, and write them."""
    given = {"policy": policy, "listed_ids": json.dumps(list(ids))}
    rows = connection.execute(
        _raised(store.transactions, store.fields.case_entity, store.dialect), given
    ).all()
    if not rows:
        return
    alone = [row.transaction_id for row in rows if row.owner is None]
    _set_case_ids(connection, [(policy, name, name) for name in alone])
    owners = {row.owner for row in rows if row.owner is not None}
    touched = _divide(connection, store, policy, owners, min(row.event_time for row in rows))
    write_cases(connection, touched | {(policy, name) for name in alone})


@lru_cache(maxsize=8)
def _raised(payments: Table, case_entity: str, dialect: str) -> "Select[Any]":
    """Payment, time and owner of a policy's flags on the transactions `listed_ids`."""
    t, f = payments.c, flags.c
    rows = select(f.transaction_id, t.event_time, _owner(payments, case_entity))
    return rows.join(flags, f.transaction_id == t.transaction_id).where(
        f.policy == bindparam("policy"),
        f.muted_by.is_(None),
        f.transaction_id.in_(text(bulk.listed_ids(dialect))),
    )


@lru_cache(maxsize=8)
def _of_owners(payments: Table, case_entity: str, dialect: str) -> "Select[Any]":
    """A policy's flags of the owners `listed_ids` after an instant, by time."""
    t, f, owner = payments.c, flags.c, _owner(payments, case_entity)
    rows = select(f.transaction_id, t.event_time, f.case_id, owner)
    return (
        rows.join(payments, f.transaction_id == t.transaction_id)
        .where(
            f.policy == bindparam("policy"), f.muted_by.is_(None), owner.in_(text(bulk.listed_ids(dialect))),
            t.event_time > bindparam("since"),
        )
        .order_by(t.event_time, f.transaction_id)
    )  # fmt: skip


@contextmanager
def removed_flags(connection: Connection, store: Store, ids: Sequence[str]) -> Iterator[None]:
    """Around the removal of flags, or of the transactions with them: what is left of their cases is divided anew."""
    lock_cases(connection)
    t, f = store.transactions.c, flags.c
    owner = _owner(store.transactions, store.fields.case_entity)
    mine = select(f.policy, f.case_id, t.event_time, owner).join(
        store.transactions, f.transaction_id == t.transaction_id
    )
    removed = mine.where(f.transaction_id.in_(_listed(connection, ids)), f.case_id.is_not(None))
    rows = connection.execute(removed).all()
    yield
    touched: set[Key] = {(row.policy, row.case_id) for row in rows}
    for policy in {row.policy for row in rows}:
        of_policy = [row for row in rows if row.policy == policy]
        since = min(row.event_time for row in of_policy)
        owners = {row.owner for row in of_policy if row.owner is not None}
        touched |= _divide(connection, store, policy, owners, since)
    write_cases(connection, touched)


def stored_entity(connection: Connection) -> str:
    """The entity that cases go by in a database, "" for none; also in one that is not upgraded yet."""
    has_one = "case_entity" in {column["name"] for column in inspect(connection).get_columns(monitor.name)}
    return (connection.scalar(select(monitor.c.case_entity)) or "") if has_one else ""


def follow_entity(connection: Connection, store: Store) -> None:
    """Compute all cases anew if the configuration names another entity than the database."""
    if stored_entity(connection) != store.fields.case_entity:
        rebuild_cases(connection, store.fields.case_entity)


def rebuild_cases(connection: Connection, case_entity: str) -> None:
    """Compute all cases from scratch; `case_entity` is the column of `transactions` that they go by, "" for none."""
    lock_cases(connection)
    divided = _divided(connection, case_entity)
    _set_case_ids(
        connection,
        [
            (policy, flag.transaction_id, case_id)
            for (policy, case_id), group in divided.items()
            for flag in group
            if flag.case_id != case_id
        ],
    )
    connection.execute(delete(cases))
    connection.execute(delete(case_counts))
    rows = [row for key, group in divided.items() if (row := _case(key, group))]
    _insert(connection, (), rows, _ranks_of_sampled(rows))
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("ANALYZE cases")
        )  # until autovacuum comes by, pages of the queue would read every case


class CaseCheck(NamedTuple):
    """How many cases and counts are stored, and how many are not those of the flags."""

    stored: int
    wrong: int
    wrong_counts: int


def check_cases(connection: Connection, case_entity: str) -> CaseCheck:
    """Compare what is stored of cases with a computation from scratch; the ranks of audit samples, which are drawn, are left out."""
    divided = _divided(connection, case_entity)
    computed = {key: row for key, group in divided.items() if (row := _case(key, group))}
    stored = {(row.policy, row.case_id): row._asdict() for row in connection.execute(select(cases)).all()}
    wrong = {key for key, group in divided.items() if any(flag.case_id != key[1] for flag in group)}
    for key in computed.keys() | stored.keys():
        mine, its = computed.get(key, {}), stored.get(key, {})
        drawn = {"rank": 0} if mine and its and not its["channels"] else {}
        if mine | drawn != its | drawn:
            wrong.add(key)
    counts = {tuple(row[:CASES_AT]): list(row[CASES_AT:]) for row in connection.execute(select(case_counts))}
    sums = _sums((), computed.values())
    wrong_counts = sum(counts.get(kind) != sums.get(kind) for kind in counts.keys() | sums.keys())
    return CaseCheck(len(stored), len(wrong), wrong_counts)


def _divided(connection: Connection, case_entity: str) -> dict[Key, list[_Member]]:
    """All flags that are not muted, by the case where they belong."""
    members = [_Member(*row) for row in connection.execute(_all_flags(connection, case_entity))]
    owners: dict[tuple[str, str | None], list[_Member]] = defaultdict(list)
    for member in members:
        owners[member.policy, member.owner].append(member)
    divided: dict[Key, list[_Member]] = {}
    for (policy, owner), flags_ in owners.items():
        starts = _starts(flags_, None) if owner is not None else [flag.transaction_id for flag in flags_]
        for flag, case_id in zip(flags_, starts, strict=True):
            divided.setdefault((policy, case_id), []).append(flag)
    return divided


def _divide(connection: Connection, store: Store, policy: str, owners: set[str], since: int) -> set[Key]:
    """Give the flags of owners from an instant (µs) on their cases; returns the cases that lost or got flags."""
    if not owners:
        return set()
    # What was before cannot change; a case that began a day earlier is over.
    near = _of_owners(store.transactions, store.fields.case_entity, store.dialect)
    given = {"policy": policy, "listed_ids": json.dumps(sorted(owners)), "since": since - DAY}
    by_owner: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(near, given):
        by_owner[row.owner].append(row)
    changes: list[tuple[str, str, str]] = []
    touched: set[Key] = set()
    for rows in by_owner.values():
        earlier = [row for row in rows if row.event_time < since]
        later = rows[len(earlier) :]
        newest = (
            None
            if not earlier
            else next((row for row in earlier if row.transaction_id == earlier[-1].case_id), None)
        )
        for row, case_id in zip(later, _starts(later, newest), strict=True):
            if row.case_id != case_id:
                changes.append((policy, row.transaction_id, case_id))
                touched |= {(policy, each) for each in (row.case_id, case_id) if each is not None}
    _set_case_ids(connection, changes)
    return touched


def _starts(members: Sequence[Any], first: Any) -> list[str]:
    """The case of each flag of one owner, by time; `first` began the case that was the newest before them."""
    found = []
    for member in members:
        if first is None or member.event_time >= first.event_time + DAY:
            first = member
        found.append(first.transaction_id)
    return found


def _set_case_ids(connection: Connection, changes: Sequence[tuple[str, str, str]]) -> None:
    """As (policy, transaction_id, case_id)."""
    columns = {"policy": "text", "name": "text", "case_id": "text"}
    bulk.write_listed(connection, SET_CASE_IDS, columns, changes)


SET_CASE_IDS = """
    UPDATE flags SET case_id = s.case_id FROM ({rows}) s
    WHERE flags.policy = s.policy AND flags.transaction_id = s.name"""


def write_cases(connection: Connection, keys: Iterable[Key]) -> None:
    """Write these cases anew, as their flags are now."""
    of_policy: dict[str, list[str]] = defaultdict(list)
    for policy, case_id in sorted(set(keys)):
        of_policy[policy].append(case_id)
    stored, removed = _stored_cases(connection.dialect.name)
    for policy, names in of_policy.items():
        given = {"policy_of": policy, "listed_ids": json.dumps(names)}
        before = [row._asdict() for row in connection.execute(stored, given).all()]
        if before:
            connection.execute(removed, given)
        divided: dict[Key, list[_Member]] = defaultdict(list)
        rows = connection.execute(_flags_of_cases(connection.dialect.name), given).all()
        for member in map(_Member._make, rows):
            if member.policy == policy:
                divided[policy, str(member.case_id)].append(member)
        after = [row for key, members in divided.items() if (row := _case(key, members))]
        ranks = {(row["policy"], row["case_id"]): row["rank"] for row in before if not row["channels"]}
        _insert(connection, before, after, ranks)


@cache
def _stored_cases(dialect: str) -> "tuple[Select[Any], Delete]":
    """The cases `listed_ids` of a policy, and their removal."""
    listed = cases.c.case_id.in_(text(bulk.listed_ids(dialect)))
    mine = and_(cases.c.policy == bindparam("policy_of"), listed)
    return select(cases).where(mine), delete(cases).where(mine)


@cache
def _flags_of_cases(dialect: str) -> "Select[Any]":
    """The flags of the cases `listed_ids` of any policy: by a policy SQLite would read all flags of it."""
    return _flags(PAYMENTS, null()).where(flags.c.case_id.in_(text(bulk.listed_ids(dialect))))


def _insert(
    connection: Connection,
    removed: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
    ranks: Mapping[Key, int],
) -> None:
    """Add cases in place of others; `ranks` are those of cases of the audit sample that have one already."""
    others = [row for row in rows if row["channels"]]
    sampled = [row for row in rows if not row["channels"]]
    if others:
        connection.execute(insert(cases), others)
    _count(connection, removed, others)
    if sampled:
        _draw_ranks(connection, sampled, ranks)
        connection.execute(insert(cases), sampled)
        _count(connection, (), sampled)


def _case(key: Key, members: Sequence[_Member]) -> dict[str, Any]:
    """The row of a case; an empty one if none of its flags is open."""
    policy, case_id = key
    waiting = [member for member in members if member.status == "open"]
    if not waiting:
        return {}
    loss = sum(round(max(member.loss or 0.0, 0.0) * LOSS_UNITS) for member in waiting)
    newest = max(member.event_time for member in waiting)
    raised = min(member.event_time if member.raised_at is None else member.raised_at for member in waiting)
    return {
        "policy": policy,
        "case_id": case_id,
        "channels": " ".join(sorted({member.channel for member in waiting} - {AUDIT})),
        "open_flags": len(waiting),
        "loss": loss,
        "rank": loss,
        "newest_at": newest,
        "newest_hour": newest // HOUR * HOUR,
        "raised_hour": raised // HOUR * HOUR,
    }


# A case of the audit sample gets the rank of another one, at the share of all others that a hash of its id says.
def _draw_ranks(connection: Connection, sampled: Sequence[dict[str, Any]], ranks: Mapping[Key, int]) -> None:
    c, n = cases.c, case_counts.c
    for row in sampled:
        policy, key = row["policy"], (row["policy"], row["case_id"])
        if key in ranks:
            row["rank"] = ranks[key]
            continue
        counted = select(func.sum(n.cases)).where(n.policy == policy, n.channels != "")
        place = int(_share(row["case_id"]) * int(connection.scalar(counted) or 0))
        others = select(c.rank).where(c.policy == policy, c.channels != "")
        drawn = others.order_by(c.rank.desc(), c.case_id).offset(place).limit(1)
        row["rank"] = int(connection.scalar(drawn) or 0)


def _ranks_of_sampled(rows: Sequence[dict[str, Any]]) -> dict[Key, int]:
    """The same of all cases, without a look into the database."""
    others: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row["channels"]:
            others[row["policy"]].append(row["rank"])
    for ranks in others.values():
        ranks.sort(reverse=True)
    return {
        (row["policy"], row["case_id"]): of_policy[int(_share(row["case_id"]) * len(of_policy))]
        if of_policy
        else 0
        for row in rows
        if not row["channels"]
        for of_policy in (others[row["policy"]],)
    }


def _share(case_id: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    digest = hashlib.blake2b(case_id.encode(), digest_size=6, person=b"queue").digest()
    return int.from_bytes(digest, "big") / 2**48


def _count(connection: Connection, removed: Iterable[Any], added: Iterable[Any]) -> None:
    """Take cases from the counts of their kinds, and add others."""
    sums = _sums(removed, added)
    kinds = sorted(kind for kind, total in sums.items() if any(total))
    hours = [bulk.instants(np.array([kind[at] for kind in kinds])) for at in (2, 3)]
    changes = [(*kind[:2], *at, *sums[kind]) for kind, *at in zip(kinds, *hours, strict=True)]
    more, less = ([row for row in changes if (row[CASES_AT] > 0) is is_more] for is_more in (True, False))
    bulk.write_listed(connection, ADD_COUNTS, COUNT_COLUMNS, more)
    bulk.write_listed(connection, CHANGE_COUNTS, COUNT_COLUMNS, less)
    bulk.write_listed(connection, DELETE_COUNTS, COUNT_COLUMNS, less)


def _sums(removed: Iterable[Any], added: Iterable[Any]) -> dict[Kind, list[int]]:
    """Cases, open flags and loss of each kind."""
    sums: dict[Kind, list[int]] = {}
    for sign, rows in ((-1, removed), (1, added)):
        for row in rows:
            kind = (row["policy"], row["channels"], row["newest_hour"], row["raised_hour"])
            total = sums.setdefault(kind, [0, 0, 0])
            for place, value in enumerate((1, row["open_flags"], row["loss"])):
                total[place] += sign * value
    return sums


KIND_COLUMNS = {
    "policy": "text",
    "channels": "text",
    "newest_hour": "timestamptz",
    "raised_hour": "timestamptz",
}
COUNT_COLUMNS = {**KIND_COLUMNS, "cases": "integer", "flags": "integer", "loss": "bigint"}
CASES_AT = len(KIND_COLUMNS)
SET_COUNTS = "cases = case_counts.cases + {0}.cases, flags = case_counts.flags + {0}.flags, loss = case_counts.loss + {0}.loss"
KIND = ", ".join(KIND_COLUMNS)
ADD_COUNTS = f"""
    INSERT INTO case_counts ({", ".join(COUNT_COLUMNS)}) SELECT * FROM ({{rows}}) s WHERE TRUE
    ON CONFLICT ({KIND}) DO UPDATE SET {SET_COUNTS.format("excluded")}"""
CHANGE_COUNTS = f"""
    UPDATE case_counts SET {SET_COUNTS.format("s")} FROM ({{rows}}) s
    WHERE {" AND ".join(f"case_counts.{name} = s.{name}" for name in KIND_COLUMNS)}"""
DELETE_COUNTS = f"DELETE FROM case_counts WHERE cases = 0 AND ({KIND}) IN (SELECT {KIND} FROM ({{rows}}) s)"


def _listed(connection: Connection, names: Iterable[str]) -> TextClause:
    return bulk.with_listed_ids(bulk.listed_ids(connection.dialect.name), names)


def _owner(payments: Table, case_entity: str) -> ColumnElement[Any]:
    return (payments.c[case_entity] if case_entity else null()).label("owner")


def _flags(
    payments: Table,
    owner: ColumnElement[Any],
    stored: Callable[[Column[Any]], ColumnElement[Any]] = lambda column: column,
) -> "Select[Any]":
    """Select the flags that are not muted, as `_Member`s; `stored` replaces columns that an older database lacks."""
    f, t, s, r = flags.c, payments.c, scores.c, runs.c
    joined = (
        flags.join(payments, t.transaction_id == f.transaction_id)
        .outerjoin(scores, and_(s.policy == f.policy, s.transaction_id == f.transaction_id))
        .outerjoin(runs, r.run_id == f.run_id)
    )
    loss = func.coalesce(stored(f.loss_order), stored(s.expected_loss))
    raised_at = func.coalesce(stored(t.arrived_at), r.started_at, type_=Instant)
    columns = (
        f.policy,
        f.transaction_id,
        owner,
        t.event_time,
        f.status,
        f.channel,
        loss,
        raised_at,
        stored(f.case_id),
    )
    return select(*columns).select_from(joined).where(f.muted_by.is_(None))


def _all_flags(connection: Connection, case_entity: str) -> "Select[Any]":
    """Select all of them by time, also in a database that is not upgraded yet."""
    payments = transactions_table(Fields(entities=(case_entity,) if case_entity else ()))
    present = {
        table.name: {column["name"] for column in inspect(connection).get_columns(table.name)}
        for table in (flags, scores, payments)
    }

    def stored(column: Column[Any]) -> ColumnElement[Any]:
        return column if column.name in present[column.table.name] else literal(None, column.type)

    owner = payments.c[case_entity] if case_entity else null()
    return _flags(payments, owner, stored).order_by(payments.c.event_time, flags.c.transaction_id)
