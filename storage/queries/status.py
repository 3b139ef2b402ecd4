"""How far the data, the trainings and the feeds are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Text,
    and_,
    bindparam,
    case,
    column,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    table,
    text,
    type_coerce,
    union_all,
)

from storage.database import tables
from storage.database.column_types import Instant, as_datetime
from storage.database.database import Store
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page
from storage.runs import workers
from storage.runs.tick_steps import FEEDS

NEWEST_ROWS = 100_000  # transactions that are looked through for the commonest value of an entity
WITHDRAWN = " withdrawn "  # what an undone run adds to the policy of its promotions, before a number


@dataclass(frozen=True)
class MonitorState:
    """Counts of a policy, and the newest of its data."""

    transactions: int
    newest_transaction: datetime | None
    rejected: int
    labels: int
    frauds: int
    newest_label: datetime | None
    labels_without_transaction: int  # labels of ids that no transaction has
    promotions: int
    withdrawn_promotions: int  # of runs that were undone
    training_error: str | None  # of the newest training, if it failed
    strategy: str | None  # of the newest choice
    windows_done: int  # scored
    windows_open: int  # due to be scored, and not done
    steps_open: int  # other steps that are due and not done: trainings, drift, quality, pruning
    queue: int
    scored: int
    flagged: int
    flags_open: int
    flags_closed: int  # without opinion
    flags_expired: int


@dataclass(frozen=True)
class UnscoredSpan:
    """Payments before the schedule began that only a backfill scores: they were left out, or a backfill was interrupted."""

    start: int  # µs
    end: int
    payments: int


@dataclass(frozen=True)
class TrainingOutcome:
    """The newest training that ended."""

    date: datetime
    error: str | None  # None unless it failed
    retry_at: datetime | None
    nothing_new: bool  # no transaction had come since the training before, so the model stays
    candidate: int | None  # the model that the promotion gate turned down, None if it was promoted
    gate_sentence: str | None
    overruled: bool  # a model has been promoted since


def monitor_state(store: Store, policy: str) -> MonitorState:
    """Count what a policy has."""
    with store.read() as connection:
        parameters = {"policy": policy, "mark": policy + WITHDRAWN}
        values: dict[str, Any] = {
            name: connection.scalar(text(sql), parameters) for name, sql in VALUES.items()
        }
        for name, sql in INSTANTS.items():
            instant = connection.scalar(text(sql).columns(column("newest", Instant)))
            values[name] = None if instant is None else as_datetime(instant)
    return MonitorState(**values)


LEFT_BEHIND = (
    """kind = 'score' AND status <> 'done' AND COALESCE(run_id, -1) NOT IN :at_work AND policy = :policy"""
)
INTERRUPTED = f"""
    SELECT MIN(window_start) AS first, MAX(window_end) AS until FROM ledger
    WHERE {LEFT_BEHIND} AND window_end <= (SELECT starts_at FROM policies WHERE policy = :policy)
"""
OF_LEFT_BEHIND = f""" AND EXISTS (
        SELECT 1 FROM ledger WHERE {LEFT_BEHIND} AND window_start <= t.event_time AND t.event_time < window_end)"""
LEFT_OUT = """
    SELECT (SELECT MAX(span_end) FROM backfilled_spans WHERE policy = :policy) AS first,
           (SELECT starts_at FROM policies WHERE policy = :policy) AS until"""
UNSCORED = """
    SELECT COUNT(*) FROM visible_transactions t JOIN batches b ON b.batch_id = t.batch_id
    WHERE t.event_time >= :first AND t.event_time < :until
      AND (t.kind IS NULL OR t.kind NOT IN (SELECT kind FROM refund_kinds))
      AND NOT EXISTS (SELECT 1 FROM scores s WHERE s.policy = :policy AND s.transaction_id = t.transaction_id)"""


def unscored_spans(store: Store, policy: str) -> dict[str, UnscoredSpan]:
    """
    What an interrupted backfill has not scored, and what arrived since for the time between the newest backfill and the schedule.

    Payments of that time that were loaded as history were left out on purpose.
    """
    spans = {}
    instants = bindparam("first", type_=Instant), bindparam("until", type_=Instant)
    running = select(tables.runs.c.run_id).where(
        tables.runs.c.kind == "backfill", tables.runs.c.status == "running"
    )
    with store.read() as connection:
        at_work = sorted(set(connection.scalars(running)) - workers.interrupted_runs(connection))
        for code, sql, which in (
            ("interrupted", INTERRUPTED, OF_LEFT_BEHIND),
            ("left_out", LEFT_OUT, " AND NOT b.history"),
        ):
            lists: list[Any] = [bindparam("at_work", expanding=True)] if code == "interrupted" else []
            given: dict[str, Any] = {"policy": policy} | ({"at_work": at_work} if lists else {})
            count = text(UNSCORED + which).bindparams(*instants, *lists)
            typed = text(sql).bindparams(*lists).columns(column("first", Instant), column("until", Instant))
            row = connection.execute(typed, given).one()
            if row.first is None or row.until is None or row.first >= row.until:
                continue
            given |= {"first": row.first, "until": row.until}
            payments = int(connection.scalar(count, given) or 0)
            if payments:
                spans[code] = UnscoredSpan(row.first, row.until, payments)
    return spans


WITHOUT_TRANSACTION = """
    SELECT COUNT(*) FROM {labels} c
    WHERE NOT EXISTS (SELECT 1 FROM visible_transactions t WHERE t.transaction_id = c.transaction_id)"""
VALUES = {
    "transactions": "SELECT COUNT(*) FROM visible_transactions",
    "rejected": "SELECT COUNT(*) FROM rejected_rows",
    "labels": "SELECT COUNT(*) FROM current_labels",
    "frauds": "SELECT COUNT(*) FROM current_labels WHERE is_fraud",
    "labels_without_transaction": WITHOUT_TRANSACTION.format(labels="current_labels"),
    "promotions": "SELECT COUNT(*) FROM promotions WHERE policy = :policy",
    "withdrawn_promotions": "SELECT COUNT(*) FROM promotions WHERE SUBSTR(policy, 1, LENGTH(:mark)) = :mark",
    "training_error": """
        SELECT error FROM (
            SELECT status, error FROM ledger
            WHERE policy = :policy AND kind = 'train' AND status IN ('done', 'failed')
            ORDER BY window_end DESC LIMIT 1
        ) newest WHERE status = 'failed'""",
    "strategy": "SELECT strategy FROM choices WHERE policy = :policy ORDER BY training_date DESC LIMIT 1",
    "windows_done": "SELECT COUNT(*) FROM ledger WHERE policy = :policy AND kind = 'score' AND status = 'done'",
    "windows_open": "SELECT COUNT(*) FROM open_gaps WHERE policy = :policy AND kind = 'score'",
    "steps_open": "SELECT COUNT(*) FROM open_gaps WHERE policy = :policy AND kind <> 'score'",
    "queue": "SELECT COUNT(*) FROM scoring_queue WHERE policy = :policy",
    "scored": "SELECT COUNT(*) FROM scores WHERE policy = :policy",
    "flagged": "SELECT COUNT(*) FROM flags WHERE policy = :policy",
    **{
        f"flags_{status}": f"SELECT COUNT(*) FROM flags WHERE policy = :policy AND status = '{status}'"
        for status in ("open", "closed", "expired")
    },
}
INSTANTS = {
    "newest_transaction": "SELECT MAX(event_time) FROM visible_transactions",
    "newest_label": "SELECT MAX(known_at) FROM current_labels",
}


def labels_without_transaction(store: Store, batch_id: int | None = None) -> int:
    """How many current labels, or labels of a batch, are for ids that no transaction has."""
    batch = "SELECT transaction_id FROM labels WHERE batch_id = :batch"
    counted = text(WITHOUT_TRANSACTION.format(labels="current_labels" if batch_id is None else f"({batch})"))
    with store.read() as connection:
        return int(connection.scalar(counted, {} if batch_id is None else {"batch": batch_id}) or 0)


@dataclass(frozen=True)
class CommonestValue:
    """The value of an entity column that most of its newest rows have; `share` is among those with a value."""

    column: str
    value: str
    share: float


def commonest_values(store: Store, columns: Sequence[str]) -> list[CommonestValue]:
    """The commonest value of each entity column among the newest transactions; a column without values has none."""
    visible = table("visible_transactions", column("event_time"), *(column(name, Text) for name in columns))
    newest = select(visible).order_by(visible.c.event_time.desc()).limit(NEWEST_ROWS).subquery()
    commonest = []
    with store.read() as connection:
        for name in columns:
            value = newest.c[name]
            n = func.count().label("n")
            counts = select(value, n).where(value.is_not(None)).group_by(value)
            row = connection.execute(counts.order_by(n.desc(), value).limit(1)).one_or_none()
            present = connection.scalar(select(func.count(value)))
            if row is not None and present:
                commonest.append(CommonestValue(name, str(row[0]), row.n / present))
    return commonest


def newest_payments(store: Store) -> dict[str, int]:
    """The newest event time of each currency, µs."""
    sql = "SELECT currency, MAX(event_time) AS newest FROM visible_transactions WHERE currency IS NOT NULL GROUP BY currency"
    with store.read() as connection:
        rows = connection.execute(text(sql).columns(column("currency", Text), column("newest", Instant)))
        return {row.currency: row.newest for row in rows}


def payments_since(store: Store, currency: str, since: int) -> int:
    """How many transactions of a currency happened at or after an instant."""
    sql = text(
        "SELECT COUNT(*) FROM visible_transactions WHERE currency = :currency AND event_time >= :since"
    )
    typed = sql.bindparams(bindparam("since", since, Instant), bindparam("currency", currency))
    with store.read() as connection:
        return int(connection.scalar(typed) or 0)


def newest_training(store: Store, policy: str) -> TrainingOutcome | None:
    """How the newest training that ended did; None if none has."""
    e, k, p = tables.ledger.c, tables.promotion_checks.c, tables.promotions.c
    newest = (
        select(e.window_end, e.status, e.not_before, e.error, e.counts, k.model_id, k.verdict, k.sentence)
        .outerjoin(tables.promotion_checks, and_(k.policy == e.policy, k.training_date == e.window_end))
        .where(e.policy == policy, e.kind == "train", e.status.in_(("done", "failed")))
        .order_by(e.window_end.desc(), k.model_id.desc())
        .limit(1)
    )
    with store.read() as connection:
        row = connection.execute(newest).one_or_none()
        if row is None:
            return None
        since = select(func.count()).where(p.policy == policy, p.effective_from >= row.window_end)
        overruled = bool(connection.scalar(since))
    rejected = row.verdict == "rejected"
    return TrainingOutcome(
        date=as_datetime(row.window_end),
        error=row.error if row.status == "failed" else None,
        retry_at=None if row.not_before is None else as_datetime(row.not_before),
        nothing_new="nothing_new" in (row.counts or {}),
        candidate=row.model_id if rejected else None,
        gate_sentence=row.sentence if rejected else None,
        overruled=overruled,
    )


def feed_page(store: Store, limit: int | None = None, after: Position | None = None) -> RowPage:
    """
    How every feed ended the last time, and what has been read of it: feeds, then files of watched folders, the newest first.

    A query with a cursor has `read_through`, the instant up to which it has been read; a file has its `path`.
    """
    c, f, s = tables.source_cursors.c, tables.watched_files.c, tables.tick_steps.c
    queries = select(
        literal(0).label("place"), c.source.label("feed"), c.cursor, literal("", Text).label("path"),
        func.coalesce(s.ended_at, c.read_at, type_=Instant).label("at"), c.batch_id, _status(s.error), s.error,
    ).outerjoin(tables.tick_steps, s.name == c.source)  # fmt: skip
    others = select(
        literal(0), s.name, _nothing(c.cursor), literal("", Text), s.ended_at, _nothing(c.batch_id), _status(s.error), s.error,
    ).where(or_(*(s.name.startswith(kind) for kind in FEEDS)), ~exists().where(c.source == s.name))  # fmt: skip
    files = select(
        literal(1), f.source, _nothing(c.cursor), f.path, f.processed_at, f.batch_id, f.status, f.error
    )
    entries = union_all(queries, others, files).subquery()
    order = (
        SortKey(entries.c.place),
        SortKey(entries.c.at, descending=True),
        SortKey(entries.c.feed),
        SortKey(entries.c.path),
    )
    page = fetch_page(store, select(entries), order, limit, after)
    return RowPage([_feed(row) for row in page.rows], page.next_position)


def _status(error: Any) -> Any:
    return case((error.is_(None), literal("done", Text)), else_=literal("failed", Text)).label("status")


def _nothing(like: Any) -> Any:
    return type_coerce(null(), like.type).label(like.name)


def _feed(row: Row) -> Row:
    cursor = row["cursor"]
    return {
        **{name: row[name] for name in ("feed", "at", "batch_id", "status", "error")},
        "read_through": None if cursor is None else as_datetime(int(cursor)),
        "path": row["path"] or None,
    }
