"""
What a report counts, counted by the database: rows come back by the day, the bin or the window, never by the score.

Scores are counted in bins so narrow (1e-6 at both ends, where rare fraud is decided) that a curve drawn through them
is the curve of the scores themselves; nothing is sampled. Days are UTC. Labels are those of `as_of`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, bindparam, case, cast, func, select, text

from storage.database import tables
from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.views import LABELS_AS_OF

Row = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """
    What a report is about; instants in µs.

    `mature_until` is the newest event time whose silence may be read, and `never_by_silence` names the columns and
    values of transactions whose silence never may.
    """

    policy: str
    start: int
    end: int
    as_of: int
    mature_until: int
    never_by_silence: Mapping[str, Sequence[str]]


# (from, width): fine where scores of rare fraud lie, coarse between.
BANDS = ((0.0, 1e-6), (0.001, 1e-4), (0.1, 1e-3), (0.9, 1e-4), (0.999, 1e-6))
DAY_OF = "SUBSTR(CAST({} AS TEXT), 1, 10)"

JUDGED = """
    WITH refunds AS (
        SELECT original_id, SUM(ABS(amount_base)) AS given_back FROM visible_transactions
        WHERE original_id IS NOT NULL AND kind IN :kinds GROUP BY original_id
    ), known AS ({labels}), judged AS (
        SELECT s.strategy, s.channel, s.flagged, s.score, s.fraud_probability, t.transaction_id, {day} AS day,
               k.is_fraud,
               (t.event_time <= :mature_until AND (k.is_fraud IS NOT NULL OR ({silence}))) AS mature,
               CASE WHEN k.is_fraud THEN
                   COALESCE((SELECT r.amount_base FROM revisions r WHERE r.transaction_id = t.transaction_id
                             ORDER BY r.revision DESC LIMIT 1), t.amount_base)
                   - COALESCE(g.given_back, 0)
               ELSE 0 END AS loss{more}
        FROM {source}
        JOIN transactions t ON t.transaction_id = s.transaction_id
        LEFT JOIN known k ON k.transaction_id = s.transaction_id
        LEFT JOIN refunds g ON g.original_id = s.transaction_id
        WHERE s.policy = :policy AND t.event_time >= :start AND t.event_time < :end
          AND COALESCE(s.in_sample, FALSE) = FALSE
    )"""
DAILY = """
    SELECT day, strategy, channel, flagged, is_fraud, mature, COUNT(*) AS n, SUM(loss) AS loss
    FROM judged GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"""
BINNED = """
    SELECT strategy, {bin} AS bin, MIN({value}) AS low, MAX({value}) AS high, SUM({value}) AS total, COUNT(*) AS n,
           SUM(CASE WHEN is_fraud THEN 1 ELSE 0 END) AS frauds,
           SUM(CASE WHEN mature THEN 1 ELSE 0 END) AS mature_n,
           SUM(CASE WHEN mature THEN {value} ELSE 0 END) AS mature_total,
           SUM(CASE WHEN mature AND is_fraud THEN 1 ELSE 0 END) AS mature_frauds,
           SUM(CASE WHEN mature AND is_fraud THEN loss ELSE 0 END) AS mature_loss
    FROM judged WHERE {value} IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"""
ENTITIES = """
    SELECT entity, SUM(CASE WHEN flagged THEN 1 ELSE 0 END) AS flags, SUM(CASE WHEN is_fraud THEN 1 ELSE 0 END) AS frauds,
           SUM(CASE WHEN flagged THEN loss ELSE 0 END) AS caught, SUM(CASE WHEN flagged THEN 0 ELSE loss END) AS missed
    FROM judged WHERE entity IS NOT NULL
    GROUP BY entity ORDER BY SUM(loss) DESC, frauds DESC, flags DESC, entity LIMIT :some"""
CONCERNED = """(
            SELECT a.* FROM scores a JOIN (
                SELECT transaction_id FROM flags WHERE policy = :policy
                UNION SELECT transaction_id FROM known WHERE is_fraud
            ) concerned ON concerned.transaction_id = a.transaction_id
        ) s"""


def daily(store: Store, scope: Scope) -> list[Row]:
    """Scores by day, strategy, channel, flag, label and maturity, with the money of known fraud."""
    return _judged(store, scope, DAILY)


def score_bins(store: Store, scope: Scope) -> list[Row]:
    """Scores by strategy and bin, lowest first: bounds, rows, known frauds, and the same of mature rows."""
    return _judged(store, scope, BINNED.format(bin=_bin(store, "score"), value="score"))


def probability_bins(store: Store, scope: Scope) -> list[Row]:
    """The same of the fraud probability, where there is one."""
    name = "fraud_probability"
    return _judged(store, scope, BINNED.format(bin=_bin(store, name), value=name))


def top_entities(store: Store, scope: Scope, column: str, limit: int) -> list[Row]:
    """The values of an entity column with most money lost to known fraud, then most frauds and flags."""
    quoted = store.engine.dialect.identifier_preparer.quote(column)
    return _judged(
        store, scope, ENTITIES, more=f", t.{quoted} AS entity", source=CONCERNED, given={"some": limit}
    )


def ledger_days(store: Store, scope: Scope) -> list[Row]:
    """How many entries of each kind and status end on each day of the span."""
    e = tables.ledger.c
    day = func.substr(cast(e.window_end, Text), 1, 10).label("day")
    rows = (
        select(e.kind, day, e.status, func.count().label("n"))
        .where(e.policy == scope.policy, e.window_end > scope.start, e.window_end <= scope.end)
        .group_by(e.kind, day, e.status)
        .order_by(e.kind, day, e.status)
    )
    return _rows(store, rows)


def queue_days(store: Store, scope: Scope) -> list[Row]:
    """Flags of the span by channel, status and day of the payment."""
    sql = f"""
        SELECT f.channel, f.status, {DAY_OF.format("t.event_time")} AS day, COUNT(*) AS n
        FROM flags f JOIN transactions t ON t.transaction_id = f.transaction_id
        WHERE f.policy = :policy AND t.event_time >= :start AND t.event_time < :end
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    return _read(store, sql, scope)


def reviewers(store: Store, scope: Scope, limit: int) -> list[Row]:
    """Who answered how many flags between the span's start and `as_of`, and how many of them were fraud."""
    sql = """
        SELECT reviewer, COUNT(*) AS answered, SUM(CASE WHEN status = 'fraud' THEN 1 ELSE 0 END) AS fraud
        FROM flags
        WHERE policy = :policy AND reviewer IS NOT NULL AND reviewed_at >= :start AND reviewed_at <= :as_of
        GROUP BY reviewer ORDER BY answered DESC, reviewer LIMIT :some"""
    return _read(store, sql, scope, {"some": limit})


def drift_features(store: Store, scope: Scope, limit: int | None = None) -> list[Row]:
    """
    The features of the span with their alarms and largest effect, the most alarming first.

    `held` is 1 for a feature of which every measure tells why it is no alarm; those come last.
    """
    d = tables.drift_metrics.c
    alarms = func.sum(case((d.alarm, 1), else_=0)).label("alarms")
    held = func.min(case((d.why.is_(None), 0), else_=1)).label("held")
    effect = func.max(_effect(d)).label("effect")
    rows = (
        select(d.feature, alarms, held, effect)
        .where(*_of_span(d, scope))
        .group_by(d.feature)
        .order_by(alarms.desc(), held, func.coalesce(effect, 0).desc(), d.feature)
    )
    return _rows(store, rows if limit is None else rows.limit(limit))


def newest_alarms(store: Store, scope: Scope) -> list[str]:
    """Features that alarm in the newest window of the span that was measured."""
    d = tables.drift_metrics.c
    newest = select(func.max(d.window_end)).where(*_of_span(d, scope)).scalar_subquery()
    rows = select(d.feature).distinct().where(*_of_span(d, scope), d.window_end == newest, d.alarm)
    return [row["feature"] for row in _rows(store, rows.order_by(d.feature))]


def drift_windows(store: Store, scope: Scope, features: Sequence[str]) -> list[Row]:
    """Every measure of these features in the span that has an effect; instants in µs."""
    d = tables.drift_metrics.c
    effect = _effect(d)
    told = (d.feature, d.metric, d.window_start, d.window_end, d.value, d.threshold, d.alarm, d.n_current)
    rows = (
        select(*told, effect.label("effect"))
        .where(*_of_span(d, scope), d.feature.in_(features), effect.is_not(None))
        .order_by(d.feature, d.metric, d.window_start, d.window_end)
    )
    return _rows(store, rows)


def quality_windows(store: Store, scope: Scope) -> list[Row]:
    """Quality of all models and channels together, by window, as it was known at `as_of`; instants in µs."""
    q = tables.quality_metrics.c
    return _quality(store, scope, q.channel == "", None)


def quality_channels(store: Store, scope: Scope, limit: int = 40) -> list[Row]:
    """The same of each channel, the newest windows first."""
    q = tables.quality_metrics.c
    return _quality(store, scope, (q.channel != "") & q.value.is_not(None), limit)


def _quality(store: Store, scope: Scope, which: Any, limit: int | None) -> list[Row]:
    q = tables.quality_metrics.c
    known = q.as_of.is_(None) | (q.as_of <= scope.as_of)
    rows = select(tables.quality_metrics).where(*_of_span(q, scope), q.model_id == 0, which, known)
    if limit is None:
        return _rows(store, rows.order_by(q.metric, q.kind, q.window_start))
    return _rows(store, rows.order_by(q.window_start.desc(), q.channel, q.metric, q.kind).limit(limit))


def _effect(d: Any) -> Any:
    """Size of a change; of rows that are older than effects the Jensen–Shannon divergence, which is 0 to 1, too."""
    older = case((d.metric == "jensen_shannon", d.value))
    return func.abs(func.coalesce(d.effect, older))


def _of_span(d: Any, scope: Scope) -> tuple[Any, ...]:
    return d.policy == scope.policy, d.window_start >= scope.start, d.window_end <= scope.end


def _judged(
    store: Store,
    scope: Scope,
    select_: str,
    *,
    more: str = "",
    source: str = "scores s",
    given: Mapping[str, Any] | None = None,
) -> list[Row]:
    quote = store.engine.dialect.identifier_preparer.quote
    never = {name: values for name, values in scope.never_by_silence.items() if name in store.fields.names}
    bound = {f"never{place}": list(values) for place, values in enumerate(never.values())}
    silence = [f"COALESCE(t.{quote(name)}, '') NOT IN :{key}" for name, key in zip(never, bound, strict=True)]
    sql = JUDGED.format(
        labels=LABELS_AS_OF,
        day=DAY_OF.format("t.event_time"),
        silence=" AND ".join(silence) or "TRUE",
        more=more,
        source=source,
    )
    lists: dict[str, list[Any]] = {"kinds": list(store.fields.refund_kinds)} | bound
    return _read(store, sql + select_, scope, lists | dict(given or {}))


def _read(store: Store, sql: str, scope: Scope, given: Mapping[str, Any] | None = None) -> list[Row]:
    values = {
        "policy": scope.policy, "start": scope.start, "end": scope.end, "as_of": scope.as_of,
        "mature_until": scope.mature_until,
    } | dict(given or {})  # fmt: skip
    used = {name: value for name, value in values.items() if f":{name}" in sql}
    instants = [bindparam(name, type_=Instant) for name in used if name in INSTANTS]
    expanding: list[Any] = [
        bindparam(name, expanding=True) for name, value in used.items() if isinstance(value, list)
    ]
    return _rows(store, text(sql).bindparams(*instants, *expanding), used)


INSTANTS = ("start", "end", "as_of", "mature_until")


def _rows(store: Store, sql: Any, given: Mapping[str, Any] | None = None) -> list[Row]:
    with store.read() as connection:
        return [_plain(dict(row)) for row in connection.execute(sql, dict(given or {})).mappings()]


def _plain(plain: Row) -> Row:
    """Truth values as bool and sums as float on both engines."""
    for name in TRUTHS & plain.keys():
        plain[name] = None if plain[name] is None else bool(plain[name])
    for name in SUMS & plain.keys():
        plain[name] = float(plain[name] or 0)
    return plain


TRUTHS = frozenset({"flagged", "is_fraud", "mature", "alarm"})
SUMS = frozenset({"loss", "mature_loss", "caught", "missed"})


def _bin(store: Store, value: str) -> str:
    """A whole number for each bin, in the order of the values."""
    floor = "FLOOR({})" if store.dialect == "postgresql" else "CAST({} AS INTEGER)"
    cases = [
        f"WHEN {value} >= {start} THEN {place * 1_000_000} + {floor.format(f'({value} - {start}) / {width}')}"
        for place, (start, width) in reversed(list(enumerate(BANDS)))
    ]
    return f"CASE {' '.join(cases)} END"
