"""What detection quality is computed from, and where it is kept: scores, verdicts, what became known since, measures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import and_, bindparam, case, delete, exists, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.database import bulk
from storage.database.column_types import Instant, as_micros
from storage.database.database import Store
from storage.database.tables import (
    batches,
    flags,
    labels,
    ledger,
    quality_metrics,
    scores,
    withdrawals,
    withdrawn_rows,
)
from storage.frames import Floats, Ints, Strings

ALL_MODELS, ALL_CHANNELS = 0, ""
REVIEWERS = ("review", "audit")  # sources of labels that a verdict gives
Window = tuple[int, int]


@dataclass(frozen=True)
class Judged:
    """Scores of a window that a model gave to what it was not trained on, (n,) each."""

    transaction_id: Strings
    model_id: Ints
    score: Floats
    probability: Floats  # NaN under `outlier`
    channel: NDArray[np.object_]
    flagged: NDArray[np.bool_]
    strategy: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.transaction_id)


@dataclass(frozen=True)
class Verdicts:
    """Answers to flags that reviewers gave in a span, (n,) each."""

    is_fraud: NDArray[np.bool_]
    known_at: Ints
    event_time: Ints
    channel: NDArray[np.object_]


@dataclass(frozen=True)
class Row:
    """One measure of a window."""

    window_start: int
    window_end: int
    metric: str
    kind: str  # estimated or realised
    value: float | None
    lower: float | None = None
    upper: float | None = None
    n: int = 0
    model_id: int = ALL_MODELS
    channel: str = ALL_CHANNELS
    alarm_below: float | None = None
    alarm_above: float | None = None
    alarm: bool = False
    said: str | None = None

    @property
    def window(self) -> Window:
        """Start and end."""
        return self.window_start, self.window_end


def judged(store: Store, policy: str, start: int, end: int) -> Judged:
    """Scores of transactions with start ≤ event_time < end, in the order of their ids."""
    t, s = store.transactions.c, scores.c
    mine = and_(s.policy == policy, s.transaction_id == t.transaction_id)
    columns = (s.transaction_id, s.model_id, s.score, s.fraud_probability, s.channel, s.flagged, s.strategy)
    rows = (
        select(*columns)
        .join(store.transactions, mine)
        .where(t.event_time >= start, t.event_time < end, func.coalesce(s.in_sample, False).is_(False))
        .order_by(s.transaction_id)
    )
    with store.read() as connection:
        found = connection.execute(rows).all()
    names, model, score, probability, channel, flagged, strategy = (
        zip(*found, strict=True) if found else ((),) * 7
    )
    return Judged(
        np.array(names, dtype=object),
        np.array(model, dtype=np.int64),
        np.array(score, dtype=np.float64),
        np.array(probability, dtype=np.float64),
        np.array(channel, dtype=object),
        np.array(flagged, dtype=bool),
        np.array(strategy, dtype=object),
    )


NEWEST = """
    SELECT t.transaction_id,
           COALESCE((SELECT r.amount_base FROM revisions r JOIN batches b ON b.batch_id = r.batch_id
                     WHERE r.transaction_id = t.transaction_id AND b.status = 'done'
                       AND (b.history OR b.visible_at <= :known)
                     ORDER BY r.revision DESC LIMIT 1), t.amount_base) AS amount
    FROM {stage} w JOIN transactions t ON t.transaction_id = w.transaction_id"""
GIVEN_BACK = """
    SELECT original_id, SUM(ABS(amount_base)) AS amount FROM visible_transactions
    WHERE event_time >= :since AND event_time <= :known AND ingested_at <= :known AND kind IN :kinds
      AND original_id IN (SELECT transaction_id FROM {stage})
    GROUP BY original_id"""


def losses(
    store: Store, ids: Sequence[str], since: int, known: int, refunds: Sequence[str]
) -> dict[str, float]:
    """
    What each transaction took: its newest amount less what refunds from `since` on gave back, as known then.

    `refunds` are the kinds that give money back, none where there is no such column.
    """
    if not len(ids):
        return {}
    instants = [bindparam("known", type_=Instant), bindparam("since", type_=Instant)]
    with store.read() as connection, bulk.wanted(connection, list(ids)) as stage:
        newest = text(NEWEST.format(stage=stage)).bindparams(instants[0])
        taken = {
            row.transaction_id: float(row.amount) for row in connection.execute(newest, {"known": known})
        }
        if refunds:
            back = text(GIVEN_BACK.format(stage=stage)).bindparams(
                *instants, bindparam("kinds", expanding=True)
            )
            given = {"known": known, "since": since, "kinds": list(refunds)}
            for row in connection.execute(back, given):
                taken[row.original_id] -= float(row.amount)
    return taken


def relabelled(store: Store, since: int, until: int, before: int) -> Ints:
    """
    Event times of transactions older than `before` of which something became known, or was taken back, in (since, until].

    Costs the number of such labels, by their indexes.
    """
    t, b, w = store.transactions.c, batches.c, withdrawals.c
    arrived = select(b.batch_id).where(
        b.kind == "labels", b.status == "done", ~b.history, b.visible_at > since, b.visible_at <= until
    )
    known = and_(labels.c.known_at > since, labels.c.known_at <= until)
    spoken = select(labels.c.transaction_id).where(or_(known, labels.c.batch_id.in_(arrived)))
    taken = select(withdrawn_rows.c.transaction_id).where(
        withdrawn_rows.c.table_name.in_(("labels", "scores")),
        withdrawn_rows.c.withdrawal_id.in_(select(w.withdrawal_id).where(w.at > since, w.at <= until)),
    )
    rows = select(t.event_time).where(t.transaction_id.in_(spoken.union(taken)))
    gone = select(withdrawn_rows.c.row).where(
        withdrawn_rows.c.table_name == "transactions",
        withdrawn_rows.c.withdrawal_id.in_(select(w.withdrawal_id).where(w.at > since, w.at <= until)),
    )
    with store.read() as connection:
        found = list(connection.scalars(rows))
        found += [as_micros(datetime.fromisoformat(row["event_time"])) for row in connection.scalars(gone)]
    return np.sort(np.array([time for time in found if time < before], dtype=np.int64))


def verdicts(store: Store, policy: str, start: int, end: int) -> Verdicts:
    """What reviewers answered with start ≤ known_at < end, in that order."""
    t = store.transactions.c
    mine = and_(flags.c.policy == policy, flags.c.transaction_id == labels.c.transaction_id)
    rows = (
        select(labels.c.is_fraud, labels.c.known_at, t.event_time, flags.c.channel)
        .join(flags, mine)
        .join(store.transactions, t.transaction_id == labels.c.transaction_id)
        .where(labels.c.source.in_(REVIEWERS), labels.c.batch_id.is_(None))
        .where(labels.c.known_at >= start, labels.c.known_at < end)
        .order_by(labels.c.known_at, labels.c.label_id)
    )
    with store.read() as connection:
        found = connection.execute(rows).all()
    return Verdicts(
        np.array([row.is_fraud for row in found], dtype=bool),
        np.array([row.known_at for row in found], dtype=np.int64),
        np.array([row.event_time for row in found], dtype=np.int64),
        np.array([row.channel for row in found], dtype=object),
    )


def waiting(store: Store, policy: str, start: int, end: int) -> Ints:
    """Event times, ascending, of flags on transactions of [start, end) of which no label was known at `end`."""
    t, b = store.transactions.c, batches.c
    recorded = case(
        (labels.c.batch_id.is_(None), labels.c.recorded_at),
        (b.history, labels.c.known_at),
        else_=b.visible_at,
    )
    answered = (
        select(labels.c.label_id)
        .outerjoin(batches, b.batch_id == labels.c.batch_id)
        .where(labels.c.transaction_id == flags.c.transaction_id)
        .where(or_(labels.c.batch_id.is_(None), b.status == "done"))
        .where(labels.c.known_at <= end, recorded <= end)
    )
    late = or_(flags.c.status == "open", flags.c.reviewed_at > end)  # of the others an answer is known
    rows = (
        select(t.event_time)
        .join(flags, flags.c.transaction_id == t.transaction_id)
        .where(flags.c.policy == policy, late, ~exists(answered.correlate(flags)))
    )
    with store.read() as connection:
        times = np.sort(np.array(connection.scalars(rows).all(), dtype=np.int64))
    # Only here: a database that takes the index of the span reads all that was not flagged, too.
    return times[(times >= start) & (times < end)]


def measured_windows(store: Store, policy: str) -> dict[Window, int | None]:
    """Windows that have been measured, with the date as known at which their truth was measured, None where it was not."""
    q = quality_metrics.c
    rows = select(q.window_start, q.window_end, q.kind, q.as_of).where(
        q.policy == policy, q.metric == "transactions", q.model_id == ALL_MODELS, q.channel == ALL_CHANNELS
    )
    found: dict[Window, int | None] = {}
    with store.read() as connection:
        for row in connection.execute(rows.order_by(q.window_start, q.window_end)):
            window = row.window_start, row.window_end
            found[window] = row.as_of if row.kind == "realised" else found.get(window)
    return found


def read(
    store: Store, policy: str, metrics: Sequence[str], span: Window, as_of: int
) -> dict[Window, dict[tuple[str, str], Row]]:
    """Measures of all models and channels together, {window: {(kind, metric): row}}, of windows inside a span."""
    q = quality_metrics.c
    rows = select(quality_metrics).where(
        q.policy == policy, q.metric.in_(metrics), q.model_id == ALL_MODELS, q.channel == ALL_CHANNELS,
        q.window_start >= span[0], q.window_end <= span[1], q.as_of <= as_of,
    )  # fmt: skip
    found: dict[Window, dict[tuple[str, str], Row]] = {}
    with store.read() as connection:
        for row in connection.execute(rows.order_by(q.window_start, q.window_end)).mappings():
            one = Row(**{name: row[name] for name in Row.__dataclass_fields__})
            found.setdefault(one.window, {})[one.kind, one.metric] = one
    return found


def write(
    store: Store, policy: str, run_id: int | None, as_of: int, window: Window, kind: str, rows: Sequence[Row]
) -> None:
    """Replace what is known of one kind about a window, in one transaction."""
    q = quality_metrics.c
    of_window = (q.window_start == window[0], q.window_end == window[1])
    make = postgres_insert if store.dialect == "postgresql" else sqlite_insert
    statement = make(quality_metrics)
    key = [column.name for column in quality_metrics.primary_key]
    changed = {c.name: statement.excluded[c.name] for c in quality_metrics.c if c.name not in key}
    given: list[dict[str, Any]] = [
        asdict(row) | {"policy": policy, "run_id": run_id, "as_of": as_of} for row in rows
    ]
    with store.write() as connection:
        connection.execute(delete(quality_metrics).where(q.policy == policy, q.kind == kind, *of_window))
        if given:
            connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), given)


def newest_before(store: Store, policy: str, end: int) -> int | None:
    """The end of the newest measured step of the ledger before this one."""
    row = ledger.c
    chosen = select(func.max(row.window_end)).where(
        row.policy == policy, row.kind == "quality", row.status == "done", row.window_end < end
    )
    with store.read() as connection:
        found: int | None = connection.scalar(chosen)
    return found
