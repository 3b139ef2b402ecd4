"""Compares a config and a database with the truth about a file; every difference is one sentence."""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pipeline.config.config import Config
from storage.database.database import Store
from tests.layouts.layout import Layout, Payment
from tests.support.sql import query

ROLES = ("transaction_id", "event_time", "time_of_day", "amount", "currency", "kind", "is_fraud", "known_at")
LISTS = ("entities", "categorical", "numeric")

Row = dict[str, Any]


def field_names(config: Config) -> dict[str, str]:
    """Name of a field → column of the file that it comes from, for columns with another name."""
    return {field: column for column, field in config.schema_.columns.items()}


def proposal_differences(layout: Layout, config: Config) -> Iterator[str]:
    """Roles, entities, traps and settings that are not as they should be."""
    schema, column_of = config.schema_, field_names(config)

    def columns(names: tuple[str, ...]) -> set[str]:
        return {column_of.get(name, name) for name in names}

    for role in ROLES:
        name = getattr(schema, role)
        column, expected = column_of.get(name, name), layout.roles.get(role, "")
        if column != expected:
            yield f"schema.{role} is {column!r}, not {expected!r}"
    entities, hashed = columns(schema.entities), columns(schema.hash)
    fields = set().union(*(columns(getattr(schema, key)) for key in LISTS))
    for column in sorted(layout.entities - entities):
        yield f"{column!r} is no entity: {sorted(entities)}"
    if layout.payers and len(layout.payers & entities) != 1:
        yield f"not exactly one of {sorted(layout.payers)} is an entity: {sorted(entities)}"
    for column in sorted(layout.hashed & fields - hashed):
        yield f"{column!r} is not hashed: {sorted(hashed)}"
    for column in sorted(layout.not_entities & entities):
        yield f"{column!r} is another name of an entity: {sorted(entities)}"
    for column in sorted(layout.never_fields & fields):
        yield f"{column!r} is a field although it is a trap"
    silent = {
        column_of.get(name, name): frozenset(words)
        for name, words in config.labels.never_by_silence.items()
        if name in schema.categorical
    }
    if silent != layout.unsettled:
        yield f"labels.never_by_silence is {silent}, not {layout.unsettled}"
    for key, expected in layout.settings.items():
        section = schema if key in type(schema).model_fields else config.format
        if getattr(section, key) != expected:
            yield f"{key} is {getattr(section, key)!r}, not {expected!r}"
    for key, expected in layout.events.items():
        if getattr(config.events, key) != expected:
            yield f"events.{key} is {getattr(config.events, key)!r}, not {expected!r}"


def stored_differences(layout: Layout, config: Config, store: Store, hash_key: str) -> Iterator[str]:
    """Values in the database that are not those of the file."""
    entities = [
        name for name in config.schema_.entities if field_names(config).get(name, name) in layout.entities
    ]
    stored = _stored(store, entities, bool(layout.events))
    if layout.events:
        yield from _event_differences(layout, config, store)
    expected = [_expected(payment, config, entities, hash_key) for payment in layout.payments]
    if "transaction_id" in layout.roles:
        yield from _differences_by_id(expected, stored)
    else:
        yield from _differences_by_content(expected, stored)


def _event_differences(layout: Layout, config: Config, store: Store) -> Iterator[str]:
    """Refunds, labels with their stages, and newest versions that are not those of the events."""
    refunds = query(
        store,
        "SELECT transaction_id, original_id, event_time, amount FROM transactions WHERE kind = 'refund'",
    )
    labels = query(store, "SELECT transaction_id, known_at, stage, amount, is_fraud, type FROM labels")
    status = next(iter(layout.unsettled), None)
    word = "NULL" if status is None else f'"{config.schema_.columns.get(status, status)}"'
    newest = query(store, f"SELECT transaction_id, amount, {word} FROM revisions ORDER BY revision")
    for name, stored, expected in (
        (
            "refunds",
            {(key, of, _instant(at), _decimal(amount)) for key, of, at, amount in refunds},
            {(r.transaction_id, r.original_id, r.event_time, r.amount.normalize()) for r in layout.refunds},
        ),
        (
            "labels",
            {
                (key, _instant(at), stage, _decimal(amount), None if fraud is None else bool(fraud), kind)
                for key, at, stage, amount, fraud, kind in labels
            },
            {
                (d.transaction_id, d.known_at, d.stage, d.amount.normalize(), d.is_fraud, d.type)
                for d in layout.disputes
            },
        ),
        (
            "newest versions",
            {key: (_decimal(amount), value) for key, amount, value in newest}.items(),
            {key: (amount.normalize(), value) for key, (amount, value) in layout.final.items()}.items(),
        ),
    ):
        missing, surplus = sorted(expected - stored, key=str), sorted(stored - expected, key=str)
        if missing or surplus:
            yield f"{name}: {len(missing)} are missing, such as {missing[:1]}, {len(surplus)} too many, such as {surplus[:1]}"


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value)).normalize()


def _stored(store: Store, entities: list[str], events: bool) -> list[Row]:
    """Transactions and their labels; of a file of events without both refunds and labels."""
    labels, rows_of = "l.transaction_id = t.transaction_id", ""
    if events:
        labels, rows_of = "1 = 0", " WHERE t.kind IS NULL"
    named = "".join(f', t."{name}"' for name in entities)
    rows = query(
        store,
        f"SELECT t.transaction_id, t.event_time, t.amount, t.currency, l.is_fraud, l.known_at{named} FROM transactions t "
        f"LEFT JOIN labels l ON {labels}{rows_of}",
    )
    return [
        {
            "transaction_id": row[0],
            "event_time": _instant(row[1]),
            "amount": Decimal(str(row[2])).normalize(),
            "currency": row[3],
            "is_fraud": None if row[4] is None else bool(row[4]),
            "known_at": None if row[5] is None else _instant(row[5]),
            **dict(zip(entities, row[6:], strict=True)),
        }
        for row in rows
    ]


def _expected(payment: Payment, config: Config, entities: list[str], hash_key: str) -> Row:
    silent = payment.is_fraud is False and config.schema_.genuine_means == "silence"
    values: Row = {
        "transaction_id": payment.transaction_id,
        "event_time": payment.event_time.astimezone(UTC),
        "amount": payment.amount.normalize(),
        "currency": payment.currency if config.schema_.currency else None,
        "is_fraud": None if silent else payment.is_fraud,
        "known_at": payment.known_at and payment.known_at.astimezone(UTC),
    }
    for name in entities:
        value = payment.entities.get(field_names(config).get(name, name))
        hashed = value is not None and name in config.schema_.hash
        values[name] = _hashed(value, hash_key) if hashed else value
    return values


def _hashed(value: str, key: str) -> str:
    """A hash, after what people may see of a card number, an address or an account."""
    display, compact = "", value.replace(" ", "")
    if compact.isdigit() and 13 <= len(compact) <= 19:
        display = f"•••• {compact[-4:]} · "
    elif "@" in value:
        display = f"{value[0]}…@{value.split('@')[1]} · "
    elif compact.startswith("DE"):
        display = f"DE… {compact[-4:]} · "
    return display + hmac.digest(key.encode(), compact.encode(), hashlib.sha256).hex()


def _instant(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _differences_by_id(expected: list[Row], stored: list[Row]) -> Iterator[str]:
    by_id = {row["transaction_id"]: row for row in stored}
    missing = [row for row in expected if row["transaction_id"] not in by_id]
    if missing:
        some = [row["transaction_id"] for row in stored[:2]]
        yield f"{len(missing)} of {len(expected)} payments are missing, such as {missing[0]}; stored are {some}"
    surplus = len(stored) - (len(expected) - len(missing))
    if surplus:
        yield f"{surplus} stored rows are too many"
    for name in expected[0]:
        wrong = [
            (row["transaction_id"], row[name], by_id[row["transaction_id"]][name])
            for row in expected
            if row["transaction_id"] in by_id
            and by_id[row["transaction_id"]][name] != row[name]
            and not (name == "known_at" and row[name] is None)  # the file does not say
        ]
        if wrong:
            key, right, value = wrong[0]
            yield f"{name} differs in {len(wrong)} rows, such as {key}: {value!r} is stored, {right!r} is in the file"


def _differences_by_content(expected: list[Row], stored: list[Row]) -> Iterator[str]:
    names = [name for name in expected[0] if name not in ("transaction_id", "known_at")]
    in_file, in_database = (
        Counter(tuple(row[name] for name in names) for row in rows) for rows in (expected, stored)
    )
    missing, surplus = in_file - in_database, in_database - in_file
    if missing or surplus:
        yield (
            f"{missing.total()} payments are missing, {surplus.total()} stored rows are too many, such as "
            f"{dict(zip(names, next(iter(missing), ()), strict=False))} and {dict(zip(names, next(iter(surplus), ()), strict=False))}"
        )
    ids = [row["transaction_id"] for row in stored]
    if len(set(ids)) != len(ids):
        yield "ids are not unique"
