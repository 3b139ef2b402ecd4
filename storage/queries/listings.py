"""Rows for the command line and the report. Instants are returned as text in UTC, for people to read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, bindparam, column, func, select, table, text

from storage.database import bulk, tables
from storage.database.column_types import Instant, Json, as_datetime
from storage.database.database import Store
from storage.database.views import field_name
from storage.errors import Unknown

Row = dict[str, Any]
ROWS_AT_ONCE = 5_000
INSTANTS = frozenset({
    "event_time", "known_at", "reviewed_at", "training_date", "trained_at", "window_start", "window_end", "due_at",
    "started_at", "finished_at", "visible_at", "effective_from", "promoted_at", "span_start", "span_end",
    "complete_through", "not_before", "as_of", "created_at", "until", "ended_at", "sent_at",
})  # fmt: skip
JSONS = frozenset({"reasons", "evidence", "counts", "thresholds"})


@dataclass(frozen=True)
class FlagFilter:
    """Which flags to list; instants in µs."""

    since: int | None = None
    until: int | None = None
    status: str | None = None
    channel: str | None = None
    min_score: float | None = None
    entity: tuple[str, str] | None = None
    muted: bool = True  # include muted flags
    limit: int | None = None


def flags(store: Store, policy: str, filters: FlagFilter) -> Iterator[Row]:
    """Flagged transactions, newest first; ties are ordered by transaction_id."""
    view = _view(store)
    rows = _matching(select(view), view, policy, filters)
    if not filters.muted:
        rows = rows.where(view.c.muted_by.is_(None))
    ordered = rows.order_by(view.c.event_time.desc(), view.c.transaction_id)
    return _stream(store, ordered if filters.limit is None else ordered.limit(filters.limit))


def flags_on(store: Store, policy: str, ids: Sequence[str]) -> list[Row]:
    """The flags on these transactions."""
    view = _view(store)
    with store.read() as connection, bulk.staged_ids(connection, ids) as stage:
        mine = view.c.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
        rows = connection.execute(select(view).where(view.c.policy == policy, mine)).mappings().all()
        return [_readable(dict(row)) for row in rows]


def muted(store: Store, policy: str, filters: FlagFilter) -> int:
    """How many of the flags that match are muted."""
    view = _view(store)
    rows = _matching(select(func.count()).select_from(view), view, policy, filters)
    with store.read() as connection:
        return int(connection.scalar(rows.where(view.c.muted_by.is_not(None))) or 0)


def _matching(rows: "Select[Any]", view: Any, policy: str, filters: FlagFilter) -> "Select[Any]":
    rows = rows.where(view.c.policy == policy)
    if filters.since is not None:
        rows = rows.where(view.c.event_time >= filters.since)
    if filters.until is not None:
        rows = rows.where(view.c.event_time < filters.until)
    for name in ("status", "channel"):
        if getattr(filters, name) is not None:
            rows = rows.where(view.c[name] == getattr(filters, name))
    if filters.min_score is not None:
        rows = rows.where(view.c.score >= filters.min_score)
    if filters.entity is not None:
        rows = rows.where(view.c[field_name(filters.entity[0])] == filters.entity[1])
    return rows


def top_flags(store: Store, policy: str, since: int, until: int, limit: int) -> list[Row]:
    """The flags of a span with the highest scores."""
    view = _view(store)
    inside = (view.c.policy == policy) & (view.c.event_time >= since) & (view.c.event_time < until)
    rows = select(view).where(inside).order_by(view.c.score.desc(), view.c.transaction_id).limit(limit)
    return list(_stream(store, rows))


def choices(store: Store, policy: str, limit: int = 20) -> list[Row]:
    """Choices, newest training date first."""
    c = tables.choices.c
    rows = select(tables.choices).where(c.policy == policy)
    return list(_stream(store, rows.order_by(c.training_date.desc(), c.choice_id.desc()).limit(limit)))


def choice(store: Store, policy: str, choice_id: int) -> Row:
    """
    One choice with all its numbers.

    Raises
    ------
    Unknown
        There is no such choice.
    """
    c = tables.choices.c
    result = list(_stream(store, select(tables.choices).where(c.policy == policy, c.choice_id == choice_id)))
    if not result:
        raise Unknown(f"there is no choice {choice_id}: fraudwatch choices lists them")
    return result[0]


def readiness(store: Store, policy: str) -> list[Row]:
    """The readiness findings of the newest training with a choice, errors first."""
    r, c = tables.readiness.c, tables.choices.c
    newest = select(func.max(c.training_date)).where(c.policy == policy).scalar_subquery()
    rows = select(tables.readiness).where(r.policy == policy, r.training_date == newest)
    return list(_stream(store, rows.order_by(r.rank)))


def drift(
    store: Store,
    policy: str,
    limit: int | None = 20,
    *,
    alarms: bool = False,
    since: int | None = None,
    feature: str | None = None,
) -> list[Row]:
    """Drift metrics, newest windows first: alarms, then metrics that can alarm, then suppressed ones, by effect."""
    d = tables.drift_metrics.c
    rows = select(tables.drift_metrics).where(d.policy == policy)
    if alarms:
        rows = rows.where(d.alarm)
    if since is not None:
        rows = rows.where(d.window_start >= since)
    if feature is not None:
        rows = rows.where(d.feature == feature)
    first = (
        d.window_end.desc(),
        d.alarm.desc(),
        d.suppressed_because.is_(None).desc(),
        func.coalesce(d.effect, -1).desc(),
    )
    order = (*first, d.feature, d.metric)
    ordered = rows.order_by(*order)
    return list(_stream(store, ordered if limit is None else ordered.limit(limit)))


@dataclass(frozen=True)
class QualityFilter:
    """Which quality metrics to list; instants in µs. `by` is "all", "model" or "channel"."""

    since: int | None = None
    until: int | None = None
    kind: str | None = None
    by: str = "all"
    metrics: Sequence[str] = ()
    alarms: bool = False


def validate_metrics(store: Store, policy: str, metrics: Sequence[str] = ()) -> None:
    """
    Check that a policy has scores, and that these quality metrics exist.

    Raises
    ------
    Unknown
        For an unknown policy or metric; the message lists the known ones.
    """
    q = tables.quality_metrics.c
    with store.read() as connection:
        scored = connection.scalar(
            select(tables.scores.c.policy).where(tables.scores.c.policy == policy).limit(1)
        )
        policies = sorted(connection.scalars(select(tables.ledger.c.policy).distinct()))
        known = sorted(connection.scalars(select(q.metric).where(q.policy == policy).distinct()))
    if scored is None and policy not in policies and policies:
        raise Unknown(f'policy "{policy}" has no scores; there are {", ".join(policies)}')
    for name in metrics:
        if known and name not in known:
            raise Unknown(f'there is no metric "{name}"; there are {", ".join(known)}')


def quality(store: Store, policy: str, filters: QualityFilter) -> list[Row]:
    """Metrics of detection quality, newest window first."""
    q = tables.quality_metrics.c
    rows = select(tables.quality_metrics).where(
        q.policy == policy,
        q.model_id != 0 if filters.by == "model" else q.model_id == 0,
        q.channel != "" if filters.by == "channel" else q.channel == "",
    )
    if filters.since is not None:
        rows = rows.where(q.window_end > filters.since)
    if filters.until is not None:
        rows = rows.where(q.window_start < filters.until)
    if filters.kind is not None:
        rows = rows.where(q.kind == filters.kind)
    if filters.metrics:
        rows = rows.where(q.metric.in_(filters.metrics))
    if filters.alarms:
        rows = rows.where(q.alarm)
    order = (q.window_end.desc(), q.window_start, q.model_id, q.channel, q.metric, q.kind)
    return list(_stream(store, rows.order_by(*order)))


def drift_alarms(store: Store, policy: str, since: int, until: int) -> list[Row]:
    """The number of drift alarms per feature and metric in a span, highest first."""
    d = tables.drift_metrics.c
    rows = (
        select(d.feature, d.metric, func.count().label("windows"), func.max(d.value).label("highest"))
        .where(d.policy == policy, d.alarm, d.window_start >= since, d.window_start < until)
        .group_by(d.feature, d.metric)
        .order_by(func.count().desc(), d.feature, d.metric)
    )
    return list(_stream(store, rows))


def runs(store: Store, policy: str, limit: int = 20) -> list[Row]:
    """Runs, newest first."""
    r = tables.runs.c
    return list(
        _stream(store, select(tables.runs).where(r.policy == policy).order_by(r.run_id.desc()).limit(limit))
    )


REMEDIES = {
    "train": "windows are scored with the model before it; fraudwatch train --as-of DATE tries again",
    "quality": "fix what the error names, then fraudwatch backfill over the window: it is measured again",
    "score": "fix what the error names, then fraudwatch backfill over the window",
}


def gaps(store: Store, policy: str, limit: int = 20) -> list[Row]:
    """Entries of the ledger that are due and not done, oldest first, each with a remedy."""
    view = table("open_gaps", *(column(c.name, c.type) for c in tables.ledger.c if c.name in GAP_COLUMNS))
    rows = select(view).where(view.c.policy == policy).order_by(view.c.window_end, view.c.kind).limit(limit)
    return [row | {"remedy": _remedy(row)} for row in _stream(store, rows)]


GAP_COLUMNS = frozenset({
    "policy", "kind", "window_start", "window_end", "due_at", "status", "attempts", "not_before", "error",
})  # fmt: skip


def _remedy(row: Row) -> str:
    if row["status"] == "failed" and row["not_before"] is None:
        return REMEDIES.get(row["kind"], REMEDIES["score"])
    return "the next tick or fraudwatch run does it; for windows before the first scheduled one: fraudwatch backfill"


def models(store: Store, policy: str, limit: int = 20) -> list[Row]:
    """Promoted models and rejected candidates, by the instant they took or would have taken effect, newest first."""
    m, p, k = tables.models.c, tables.promotions.c, tables.promotion_checks.c
    of_model = (
        m.model_id,
        m.strategy,
        m.trained_at,
        m.n_mature,
        m.n_fraud,
        m.span_start,
        m.span_end,
        m.thresholds,
    )
    check = (m.choice_id, m.sha256, k.verdict, k.rule, k.ap, k.ap_champion, k.cost, k.cost_champion)
    checked = and_(k.model_id == m.model_id, k.policy == policy)
    promoted = (
        select(*of_model, *check, p.effective_from, p.seq, p.reason, p.by, p.promoted_at)
        .join(tables.promotions, p.model_id == m.model_id)
        .outerjoin(tables.promotion_checks, checked)
        .where(p.policy == policy)
        .order_by(p.seq.desc())
    )
    mine = select(p.model_id).where(p.policy == policy)
    rejected = (
        select(*of_model, *check, k.sentence.label("reason"))
        .join(tables.promotion_checks, checked)
        .where(k.verdict == "rejected", m.model_id.not_in(mine))
        .order_by(m.model_id.desc())
    )
    rows = [*_stream(store, promoted.limit(limit)), *_stream(store, rejected.limit(limit))]
    newest = sorted(rows, key=lambda row: (row.get("effective_from") or row["trained_at"], row.get("seq", 0)))
    return newest[::-1][:limit]


def checks(store: Store, policy: str, limit: int = 20) -> list[Row]:
    """The promotion checks of candidates against the champion, newest training date first."""
    k = tables.promotion_checks.c
    rows = select(tables.promotion_checks).where(k.policy == policy)
    return list(_stream(store, rows.order_by(k.training_date.desc(), k.model_id.desc()).limit(limit)))


def model(store: Store, policy: str, model_id: int) -> Row:
    """
    One model with the sentence of its choice, its promotions (oldest first) and its checks; without the artifact.

    Raises
    ------
    Unknown
        There is no such model.
    """
    m, p = tables.models.c, tables.promotions.c
    columns = [column for column in m if column.name != "artifact"]
    size = func.length(m.artifact).label("bytes")
    rows = (
        select(*columns, size, tables.choices.c.sentence)
        .outerjoin(tables.choices, tables.choices.c.choice_id == m.choice_id)
        .where(m.model_id == model_id)
    )
    promoted = select(p.effective_from, p.by, p.promoted_at, p.reason).where(
        p.policy == policy, p.model_id == model_id
    )
    result = list(_stream(store, rows))
    if not result:
        raise Unknown(f"there is no model {model_id}: see fraudwatch models")
    k = tables.promotion_checks
    checked = list(_stream(store, select(k).where(k.c.policy == policy, k.c.model_id == model_id)))
    return result[0] | {"promotions": list(_stream(store, promoted.order_by(p.seq))), "checks": checked}


def outcome(store: Store, policy: str, since: int, until: int) -> Row:
    """
    Fraud caught and missed in [since, until), in counts and money (amount_base).

    Money is the newest amount of a transaction, less its refunds.
    """
    with store.read() as connection:
        sql = (
            text(OUTCOME)
            .bindparams(bindparam("kinds", expanding=True))
            .columns(*(column(name) for name in OUTCOME_COLUMNS))
        )
        parameters = {"policy": policy, "since": _bind(store, since), "until": _bind(store, until)}
        parameters["kinds"] = list(store.fields.refund_kinds)
        return dict(connection.execute(sql, parameters).mappings().one())


OUTCOME_COLUMNS = (
    "scored", "flagged", "caught", "false_flags", "unknown", "missed", "caught_money", "missed_money"
)  # fmt: skip
OUTCOME = """
    WITH refunds AS (
        SELECT original_id, SUM(ABS(amount_base)) AS refunded FROM visible_transactions
        WHERE original_id IS NOT NULL AND kind IN :kinds GROUP BY original_id
    )
    SELECT COUNT(*) AS scored,
           COALESCE(SUM(CASE WHEN x.flagged THEN 1 ELSE 0 END), 0) AS flagged,
           COALESCE(SUM(CASE WHEN x.flagged AND x.is_fraud THEN 1 ELSE 0 END), 0) AS caught,
           COALESCE(SUM(CASE WHEN x.flagged AND NOT x.is_fraud THEN 1 ELSE 0 END), 0) AS false_flags,
           COALESCE(SUM(CASE WHEN x.flagged AND x.is_fraud IS NULL THEN 1 ELSE 0 END), 0) AS unknown,
           COALESCE(SUM(CASE WHEN x.is_fraud AND NOT x.flagged THEN 1 ELSE 0 END), 0) AS missed,
           COALESCE(SUM(CASE WHEN x.flagged AND x.is_fraud THEN x.loss ELSE 0 END), 0) AS caught_money,
           COALESCE(SUM(CASE WHEN x.is_fraud AND NOT x.flagged THEN x.loss ELSE 0 END), 0) AS missed_money
    FROM (
        SELECT s.flagged, c.is_fraud,
               CASE WHEN c.is_fraud THEN
                   COALESCE((SELECT r.amount_base FROM revisions r WHERE r.transaction_id = t.transaction_id
                             ORDER BY r.revision DESC LIMIT 1), t.amount_base)
                   - COALESCE(g.refunded, 0)
               ELSE 0 END AS loss
        FROM scores s
        JOIN transactions t ON t.transaction_id = s.transaction_id
        LEFT JOIN current_labels c ON c.transaction_id = s.transaction_id
        LEFT JOIN refunds g ON g.original_id = s.transaction_id
        WHERE s.policy = :policy AND t.event_time >= :since AND t.event_time < :until
    ) x"""


def by_channel(store: Store, policy: str, since: int, until: int) -> list[Row]:
    """The number of flags by channel and status."""
    view = _view(store)
    rows = (
        select(view.c.channel, view.c.status, func.count().label("flags"))
        .where(view.c.policy == policy, view.c.event_time >= since, view.c.event_time < until)
        .group_by(view.c.channel, view.c.status)
        .order_by(view.c.channel, view.c.status)
    )
    return list(_stream(store, rows))


def newest_training(store: Store, policy: str) -> Row | None:
    """
    The ledger entry of the newest training that ended, with its promotion check if there was one.

    `overruled` is true if a model has been promoted since.
    """
    e, k, p = tables.ledger.c, tables.promotion_checks.c, tables.promotions.c
    tried = (e.policy == policy) & (e.kind == "train") & e.status.in_(("done", "failed"))
    rows = (
        select(
            e.window_end,
            e.status,
            e.not_before,
            e.error,
            e.counts,
            k.model_id,
            k.champion_id,
            k.verdict,
            k.sentence,
        )
        .outerjoin(tables.promotion_checks, and_(k.policy == e.policy, k.training_date == e.window_end))
        .where(tried)
        .order_by(e.window_end.desc(), k.model_id.desc())
        .limit(1)
    )
    result = list(_stream(store, rows))
    if not result:
        return None
    with store.read() as connection:
        date = select(func.max(e.window_end)).where(tried).scalar_subquery()
        since = connection.scalar(select(func.count()).where(p.policy == policy, p.effective_from >= date))
    return result[0] | {"overruled": bool(since)}


def facts(store: Store, policy: str) -> Row:
    """Counts and newest instants that `doctor` explains from."""
    with store.read() as connection:
        counted = {
            name: connection.execute(text(sql), {"policy": policy}).scalar() for name, sql in FACTS.items()
        }
    return {
        name: _instant_text(value) if name.startswith("newest_") else value for name, value in counted.items()
    }


FACTS: Mapping[str, str] = {
    "transactions": "SELECT COUNT(*) FROM visible_transactions",
    "newest_transaction": "SELECT MAX(event_time) FROM visible_transactions",
    "rejected": "SELECT COUNT(*) FROM rejected_rows",
    "labels": "SELECT COUNT(*) FROM current_labels",
    "frauds": "SELECT COUNT(*) FROM current_labels WHERE is_fraud",
    "newest_label": "SELECT MAX(known_at) FROM current_labels",
    "models": "SELECT COUNT(*) FROM promotions WHERE policy = :policy",
    "windows": "SELECT COUNT(*) FROM ledger WHERE policy = :policy AND kind = 'score' AND status = 'done'",
    "newest_window": "SELECT MAX(window_end) FROM ledger WHERE policy = :policy AND kind = 'score' AND status = 'done'",
    "queue": "SELECT COUNT(*) FROM scoring_queue WHERE policy = :policy",
    "gaps": "SELECT COUNT(*) FROM open_gaps WHERE policy = :policy",
    "scored": "SELECT COUNT(*) FROM scores WHERE policy = :policy",
    "flagged": "SELECT COUNT(*) FROM flags WHERE policy = :policy",
    "open": "SELECT COUNT(*) FROM flags WHERE policy = :policy AND status = 'open'",
    "last_error": "SELECT error FROM ledger WHERE policy = :policy AND status = 'failed' ORDER BY window_end DESC LIMIT 1",
    "strategy": "SELECT strategy FROM choices WHERE policy = :policy ORDER BY training_date DESC LIMIT 1",
}


def _view(store: Store) -> Any:
    names = [
        "policy", "transaction_id", "event_time", "amount", "currency", "amount_base", "channel", "score",
        "outlier_score", "fraud_probability", "decision_value", "threshold", "reasons", "status", "reviewed_at",
        "reviewer", "muted_by", "is_fraud", "label_source", "known_at", "model_id", "run_id",
    ]  # fmt: skip
    names += [field_name(name) for name in store.fields.names]
    types: dict[str, Any] = {name: Instant for name in names if name in INSTANTS} | {
        name: Json for name in names if name in JSONS
    }
    return table("flagged_transactions", *(column(name, types.get(name)) for name in names))


def _stream(store: Store, rows: "Select[Any]") -> Iterator[Row]:
    with store.read() as connection:
        result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(rows)
        try:
            for part in result.mappings().partitions():
                yield from (_readable(dict(row)) for row in part)
        finally:
            result.close()  # the caller may stop before the last row


def _readable(row: Mapping[str, Any]) -> Row:
    return {name: _time(value) if name in INSTANTS else value for name, value in row.items()}


def _time(value: int | None) -> str | None:
    return None if value is None else as_datetime(value).isoformat(sep=" ", timespec="seconds")


def _instant_text(value: Any) -> str | None:
    return None if value is None else str(value)[:19]


def _bind(store: Store, instant: int) -> Any:
    moment = as_datetime(instant)
    return moment if store.dialect == "postgresql" else moment.strftime("%Y-%m-%d %H:%M:%S.%f")
