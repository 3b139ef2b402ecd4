"""How far the data, the trainings and the feeds are."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Text, and_, column, func, literal, null, select, text, type_coerce, union_all

from storage.database import tables
from storage.database.column_types import Instant, as_datetime
from storage.database.database import Store
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, read_rows

COUNTS: Mapping[str, str] = {
    "transactions": "SELECT COUNT(*) FROM visible_transactions",
    "rejected": "SELECT COUNT(*) FROM rejected_rows",
    "labels": "SELECT COUNT(*) FROM current_labels",
    "frauds": "SELECT COUNT(*) FROM current_labels WHERE is_fraud",
    "models": "SELECT COUNT(*) FROM promotions WHERE policy = :policy",
    "windows": "SELECT COUNT(*) FROM ledger WHERE policy = :policy AND kind = 'score' AND status = 'done'",
    "queue": "SELECT COUNT(*) FROM scoring_queue WHERE policy = :policy",
    "gaps": "SELECT COUNT(*) FROM open_gaps WHERE policy = :policy",
    "scored": "SELECT COUNT(*) FROM scores WHERE policy = :policy",
    "flagged": "SELECT COUNT(*) FROM flags WHERE policy = :policy",
    "open": "SELECT COUNT(*) FROM flags WHERE policy = :policy AND status = 'open'",
}
TEXTS: Mapping[str, str] = {
    "last_error": "SELECT error FROM ledger WHERE policy = :policy AND status = 'failed' ORDER BY window_end DESC LIMIT 1",
    "strategy": "SELECT strategy FROM choices WHERE policy = :policy ORDER BY training_date DESC LIMIT 1",
}
INSTANTS: Mapping[str, str] = {
    "newest_transaction": "SELECT MAX(event_time) FROM visible_transactions",
    "newest_label": "SELECT MAX(known_at) FROM current_labels",
    "newest_window": "SELECT MAX(window_end) FROM ledger WHERE policy = :policy AND kind = 'score' AND status = 'done'",
}


def facts(store: Store, policy: str) -> Row:
    """Counts, texts and newest instants that explain the state of a policy."""
    with store.read() as connection:
        plain = {
            name: connection.scalar(text(sql), {"policy": policy})
            for name, sql in {**COUNTS, **TEXTS}.items()
        }
        instants = {
            name: connection.scalar(text(sql).columns(column("newest", Instant)), {"policy": policy})
            for name, sql in INSTANTS.items()
        }
    return plain | {name: None if at is None else as_datetime(at) for name, at in instants.items()}


def newest_training(store: Store, policy: str) -> Row | None:
    """
    The ledger entry of the newest training that ended, with its promotion check if there was one.

    `overruled` is true if a model has been promoted since.
    """
    e, k, p = tables.ledger.c, tables.promotion_checks.c, tables.promotions.c
    tried = (e.policy == policy) & (e.kind == "train") & e.status.in_(("done", "failed"))
    of_check = (k.model_id, k.champion_id, k.verdict, k.sentence)
    rows = (
        select(e.window_end, e.status, e.not_before, e.error, e.counts, *of_check)
        .outerjoin(tables.promotion_checks, and_(k.policy == e.policy, k.training_date == e.window_end))
        .where(tried)
        .order_by(e.window_end.desc(), k.model_id.desc())
        .limit(1)
    )
    result = read_rows(store, rows)
    if not result:
        return None
    with store.read() as connection:
        date = select(func.max(e.window_end)).where(tried).scalar_subquery()
        since = connection.scalar(select(func.count()).where(p.policy == policy, p.effective_from >= date))
    return result[0] | {"overruled": bool(since)}


def feed_page(store: Store, limit: int | None = None, after: Position | None = None) -> RowPage:
    """
    What has been read of every feed: polled queries, then files of watched folders, the newest first.

    A query has `read_through`, the instant up to which it has been read; a file has its `path`.
    """
    c, f = tables.source_cursors.c, tables.watched_files.c
    queries = select(
        literal(0).label("place"), c.source.label("feed"), c.cursor, literal("", Text).label("path"),
        c.read_at.label("at"), c.batch_id, literal("done", Text).label("status"), _nothing(f.error),
    )  # fmt: skip
    files = select(
        literal(1), f.source, _nothing(c.cursor), f.path, f.processed_at, f.batch_id, f.status, f.error
    )
    entries = union_all(queries, files).subquery()
    order = (
        SortKey(entries.c.place),
        SortKey(entries.c.at, descending=True),
        SortKey(entries.c.feed),
        SortKey(entries.c.path),
    )
    page = fetch_page(store, select(entries), order, limit, after)
    return RowPage([_feed(row) for row in page.rows], page.next_position)


def _nothing(like: Any) -> Any:
    return type_coerce(null(), like.type).label(like.name)


def _feed(row: Row) -> Row:
    cursor = row["cursor"]
    return {
        **{name: row[name] for name in ("feed", "at", "batch_id", "status", "error")},
        "read_through": None if cursor is None else as_datetime(int(cursor)),
        "path": row["path"] or None,
    }
