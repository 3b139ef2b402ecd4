"""
Payments that happened, and reports of fraud and disputes among them, as of an instant: what rates are made of.

The database counts payments by local day or month in one pass over them; reports are few, and come one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, text

from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.rate_views import (
    LABEL_KNOWN,
    REPORTED,
    SETTLED,
    SETTLED_AS_OF,
    VISIBLE_LABELS,
    newest_values,
)
from storage.database.views import LABELS_AS_OF
from storage.frames import DAY, NEVER, SECOND, Floats, Ints

Bucket = Literal["day", "month", "all"]

PAYMENTS = """
    SELECT {bucket} AS bucket, {value} AS value, COUNT(*) AS n, SUM(amount) AS amount
    FROM ({settled}) settled GROUP BY 1, 2 ORDER BY 1, 2"""
REPORTS = """
    WITH visible_labels AS ({visible}), reported AS ({reported}), known AS ({labels}), settled AS ({settled})
    SELECT event_time, amount, value, fraud_at, dispute_at
    FROM (
        SELECT s.transaction_id, s.event_time, s.amount, {value} AS value, r.dispute_at,
               CASE WHEN k.is_fraud THEN r.fraud_at END AS fraud_at
        FROM reported r
        JOIN settled s ON s.transaction_id = r.transaction_id
        LEFT JOIN known k ON k.transaction_id = r.transaction_id
    ) reports
    WHERE (fraud_at IS NOT NULL OR dispute_at IS NOT NULL)
      AND (event_time >= :start OR fraud_at >= :start OR dispute_at >= :start)
    ORDER BY event_time, transaction_id"""


@dataclass(frozen=True)
class RateScope:
    """
    Which payments count, and what of them is known at `as_of` (µs).

    Attributes
    ----------
    never_by_silence
        Values of fields that payments have which did not happen: they were declined.
    only
        Only payments with one of these values of each field count; all if empty.
    per
        The field by whose values payments are counted; "" for all together.
    """

    as_of: int
    never_by_silence: Mapping[str, Sequence[str]] = field(default_factory=dict)
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    per: str = ""


@dataclass(frozen=True)
class PaymentCounts:
    """Payments by local day or month, 2026-03-01 or 2026-03, and value; arrays of one length."""

    bucket: Sequence[str]
    value: Sequence[str]  # "" where the field is empty, or if there is none
    n: Ints
    amount: Floats  # in the base currency


@dataclass(frozen=True)
class ReportedPayments:
    """Payments that were reported as fraud or disputed, ordered by time; instants in µs, `NEVER` for no report."""

    event_time: Ints
    amount: Floats  # in the base currency
    value: NDArray[np.object_]  # "" where the field is empty, or if there is none
    fraud_at: Ints  # the first report of a payment that is fraud by its current label
    dispute_at: Ints  # the first dispute


def count_payments(
    store: Store, scope: RateScope, start: int, end: int, zone: str, bucket: Bucket
) -> PaymentCounts:
    """Payments with start ≤ event_time < end, in µs, by day or month of a time zone, or all in one bucket."""
    values, sql = _settled(store, scope, " AND t.event_time >= :start AND t.event_time < :end")
    day, zones = _local_day(store, zone, start, end)
    buckets = {"day": day, "month": f"SUBSTR({day}, 1, 7)", "all": "''"}
    bound = values | {"start": start, "end": end} | (zones if bucket != "all" else {})
    rows = _read(
        store, PAYMENTS.format(bucket=buckets[bucket], value=_value(store, scope, ""), settled=sql), bound
    )
    return PaymentCounts(
        [row["bucket"] for row in rows],
        [row["value"] for row in rows],
        np.array([row["n"] for row in rows], dtype=np.int64),
        np.array([row["amount"] for row in rows], dtype=np.float64),
    )


def reported_payments(store: Store, scope: RateScope, start: int) -> ReportedPayments:
    """Reported payments that happened, or were reported, at `start` (µs) or later."""
    values, settled = _settled(store, scope, "")
    sql = REPORTS.format(
        visible=VISIBLE_LABELS.format(known=LABEL_KNOWN),
        reported=REPORTED,
        labels=LABELS_AS_OF,
        settled=settled,
        value=_value(store, scope, "s."),
    )
    rows = _read(
        store, sql, values | {"start": start}, event_time=Instant, fraud_at=Instant, dispute_at=Instant
    )

    def instants(name: str) -> Ints:
        return np.array([NEVER if row[name] is None else row[name] for row in rows], dtype=np.int64)

    return ReportedPayments(
        instants("event_time"),
        np.array([row["amount"] for row in rows], dtype=np.float64),
        np.array([row["value"] for row in rows], dtype=object),
        instants("fraud_at"),
        instants("dispute_at"),
    )


def _settled(store: Store, scope: RateScope, inside: str) -> tuple[dict[str, Any], str]:
    """The values and the SQL of the payments of a scope; `inside` limits them further."""
    quote = store.engine.dialect.identifier_preparer.quote
    bound: dict[str, Any] = {"as_of": scope.as_of}
    chosen = []
    for key, operator, tables in (("never", "NOT IN", scope.never_by_silence), ("only", "IN", scope.only)):
        for place, (name, values) in enumerate(tables.items()):
            if name in store.fields.text:
                bound[f"{key}{place}"] = list(values)
                chosen.append(f"COALESCE({quote(name)}, '') {operator} :{key}{place}")
    names = dict.fromkeys([*scope.never_by_silence, *scope.only, *([scope.per] if scope.per else [])])
    columns = newest_values([quote(name) for name in names if name in store.fields.text])
    payment_known = SETTLED_AS_OF["payment_known"] + inside
    sql = SETTLED.format(
        revision_known=SETTLED_AS_OF["revision_known"],
        payment_known=payment_known,
        chosen=" AND ".join(chosen) or "TRUE",
        **columns,
    )
    return bound, sql


def _value(store: Store, scope: RateScope, table: str) -> str:
    quote = store.engine.dialect.identifier_preparer.quote
    return f"COALESCE({table}{quote(scope.per)}, '')" if scope.per else "''"


def _local_day(store: Store, zone: str, start: int, end: int) -> tuple[str, dict[str, Any]]:
    """SQL for the day of `event_time` in a time zone, and its parameters. SQLite knows no zones: it gets their offsets."""
    if store.dialect == "postgresql":
        return "CAST(CAST(event_time AT TIME ZONE :zone AS DATE) AS TEXT)", {"zone": zone}
    changes = _offset_changes(zone, start, end)
    cases = [
        f"WHEN event_time < :change{place} THEN '{offset} seconds'"
        for place, (_, offset) in enumerate(changes[:-1])
    ]
    offset = f"'{changes[-1][1]} seconds'"
    shift = f"CASE {' '.join(cases)} ELSE {offset} END" if cases else offset
    ends = {f"change{place}": until for place, (until, _) in enumerate(changes[:-1])}
    return f"DATE(event_time, {shift})", ends


def _offset_changes(zone: str, start: int, end: int) -> list[tuple[int, int]]:
    """(until in µs, offset from UTC in s) of the offsets in force from `start` to `end`."""
    changes = []
    at, offset = start, _offset(zone, start)
    while at < end:
        following = min(at + DAY, end)
        if _offset(zone, following) != offset:
            until = _first_with_other(zone, at, following, offset)
            changes.append((until, offset))
            offset = _offset(zone, following)
        at = following
    return [*changes, (end, offset)]


def _first_with_other(zone: str, low: int, high: int, offset: int) -> int:
    """The second at which an offset ends, between an instant that has it and one that has another."""
    while high - low > SECOND:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
    return high - high % SECOND


def _offset(zone: str, instant: int) -> int:
    offset = datetime.fromtimestamp(instant // SECOND, ZoneInfo(zone)).utcoffset()
    assert offset is not None  # every zone of the IANA list has one
    return int(offset.total_seconds())


INSTANTS = frozenset({"as_of", "start", "end"})


def _read(store: Store, sql: str, values: Mapping[str, Any], **types: Any) -> list[Any]:
    instants = [bindparam(name, type_=Instant) for name in values if name in INSTANTS or "change" in name]
    lists: list[Any] = [
        bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, list)
    ]
    query = text(sql).bindparams(*instants, *lists).columns(**types)
    with store.read() as connection:
        return list(connection.execute(query, dict(values)).mappings())
