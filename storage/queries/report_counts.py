"""
Aggregates for the report, computed in the database: rows by day, by score bin or by window, never single scores.

Score bins are so narrow (1e-6 at both ends, where rare fraud is decided) that a curve drawn from them equals the curve
of the scores; nothing is sampled. Days are UTC. Labels are those known at `as_of`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, bindparam, case, cast, func, select, text

from storage.database import tables
from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.loss_views import known_at_instant
from storage.database.views import LABELS_AS_OF

Row = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """
    Policy and span of a report; instants in µs.

    Transactions up to `mature_until` without a label count as genuine, except those with one of the values of a
    column in `never_by_silence`. A label that says neither is never mature.
    """

    policy: str
    start: int
    end: int
    as_of: int
    mature_until: int
    never_by_silence: Mapping[str, Sequence[str]]


# (from, width) of score bins: narrow at both ends, where rare fraud is decided, wide in between.
BANDS = ((0.0, 1e-6), (0.001, 1e-4), (0.1, 1e-3), (0.9, 1e-4), (0.999, 1e-6))
# What a detector or a rule flagged; the random audit sample is no detection.
DETECTED = "({0}.flagged AND {0}.channel <> 'audit')"
DAY_OF = "SUBSTR(CAST({} AS TEXT), 1, 10)"

SCORED = """
    WITH known AS ({labels}),
    frauds AS (
        SELECT k.transaction_id FROM known k JOIN transactions t ON t.transaction_id = k.transaction_id
        WHERE k.is_fraud AND t.event_time >= :start AND t.event_time < :end
    ),
    losses AS MATERIALIZED ({losses}),
    outcomes AS MATERIALIZED ({outcomes}),
    scored AS (
        SELECT s.strategy, s.channel, {detected} AS flagged, s.score, s.fraud_probability, t.transaction_id, {day} AS day,
               k.is_fraud,
               (t.event_time <= :mature_until AND (k.is_fraud IS NOT NULL OR (k.label_id IS NULL AND {silence}))) AS mature,
               CASE WHEN {detected} THEN l.at_risk ELSE 0 END AS caught, CASE WHEN {detected} THEN 0 ELSE l.loss END AS missed,
               o.in_time, o.stopped_at IS NOT NULL AS stopped, NOT o.in_time AND o.stopped_at IS NULL AS late, o.loss AS lost{more}
        FROM {source}
        JOIN transactions t ON t.transaction_id = s.transaction_id
        LEFT JOIN known k ON k.transaction_id = s.transaction_id
        LEFT JOIN losses l ON l.transaction_id = s.transaction_id
        LEFT JOIN outcomes o ON o.transaction_id = s.transaction_id
        WHERE s.policy = :policy AND t.event_time >= :start AND t.event_time < :end
          AND COALESCE(s.in_sample, FALSE) = FALSE
    )"""
DAILY = """
    SELECT day, strategy, channel, flagged, is_fraud, mature, COUNT(*) AS n,
           SUM(caught) AS caught, SUM(missed) AS missed, SUM(lost) AS lost,
           SUM(CASE WHEN in_time THEN 1 ELSE 0 END) AS in_time_n, SUM(CASE WHEN in_time THEN caught ELSE 0 END) AS in_time,
           SUM(CASE WHEN stopped THEN 1 ELSE 0 END) AS stopped_n, SUM(CASE WHEN stopped THEN caught - lost ELSE 0 END) AS saved,
           SUM(CASE WHEN late THEN 1 ELSE 0 END) AS late_n, SUM(CASE WHEN late THEN caught ELSE 0 END) AS late
    FROM scored GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"""
BINNED = """
    SELECT strategy, {bin} AS bin, MIN({value}) AS low, MAX({value}) AS high, SUM({value}) AS total, COUNT(*) AS n,
           SUM(CASE WHEN is_fraud THEN 1 ELSE 0 END) AS frauds,
           SUM(CASE WHEN mature THEN 1 ELSE 0 END) AS mature_n,
           SUM(CASE WHEN mature THEN {value} ELSE 0 END) AS mature_total,
           SUM(CASE WHEN mature AND is_fraud THEN 1 ELSE 0 END) AS mature_frauds,
           SUM(CASE WHEN mature AND is_fraud THEN caught + missed ELSE 0 END) AS mature_loss
    FROM scored WHERE {value} IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"""
ENTITIES = """
    SELECT entity, SUM(CASE WHEN flagged THEN 1 ELSE 0 END) AS flags, SUM(CASE WHEN is_fraud THEN 1 ELSE 0 END) AS frauds,
           SUM(caught) AS caught, SUM(missed) AS missed
    FROM scored WHERE entity IS NOT NULL AND (flagged OR is_fraud)
    GROUP BY entity ORDER BY COALESCE(SUM(caught), 0) + COALESCE(SUM(missed), 0) DESC, frauds DESC, flags DESC, entity LIMIT :some"""
FLAGGED_OR_FRAUD = """(
            SELECT a.* FROM scores a JOIN (
                SELECT transaction_id FROM flags WHERE policy = :policy
                UNION SELECT transaction_id FROM known WHERE is_fraud
            ) chosen ON chosen.transaction_id = a.transaction_id
        ) s"""


def newest_changes(store: Store) -> tuple[Any, ...]:
    """What has changed last: as long as it is the same, so is nearly everything that is counted here."""
    columns = (
        tables.labels.c.label_id,
        tables.verdicts.c.verdict_id,
        tables.runs.c.run_id,
        tables.comparisons.c.comparison_id,
    )
    newest = [select(func.max(column)).scalar_subquery() for column in columns]
    b = tables.batches.c
    batches = select(b.status, func.count(), func.max(b.batch_id)).group_by(b.status).order_by(b.status)
    running = select(func.count()).where(tables.runs.c.status == "running").scalar_subquery()
    with store.read() as connection:
        return (*connection.execute(select(*newest, running)).one(), *map(tuple, connection.execute(batches)))


def daily(store: Store, scope: Scope) -> list[Row]:
    """
    Number of scores by day, strategy, channel, flag, label and maturity, with the money of known fraud.

    `caught` is what was at risk when it was flagged, of which `in_time` was answered before any report, `saved` was kept since the
    payment was stopped before a dispute, and `late` is neither; `lost` is what it cost nevertheless, `missed` what was never flagged.
    """
    return _query_scored(store, scope, DAILY)


def score_bins(store: Store, scope: Scope) -> list[Row]:
    """Scores by strategy and bin, lowest first: bounds, rows and known frauds, of all rows and of mature rows."""
    return _query_scored(store, scope, BINNED.format(bin=_bin(store, "score"), value="score"))


def probability_bins(store: Store, scope: Scope) -> list[Row]:
    """The same for the fraud probability, where there is one."""
    name = "fraud_probability"
    return _query_scored(store, scope, BINNED.format(bin=_bin(store, name), value=name))


def top_entities(store: Store, scope: Scope, column: str, limit: int) -> list[Row]:
    """The values of an entity column with the most money of known fraud, then most frauds and flags."""
    quoted = store.engine.dialect.identifier_preparer.quote(column)
    return _query_scored(
        store,
        scope,
        ENTITIES,
        # Not the bare column: SQLite would read all transactions in the order of its index.
        more=f", t.{quoted} || '' AS entity",
        source=FLAGGED_OR_FRAUD,
        parameters={"some": limit},
    )


def ledger_days(store: Store, scope: Scope) -> list[Row]:
    """Number of ledger entries by kind and status that end on each day of the span."""
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
    """Number of flags of the span by channel, status and day of the payment."""
    sql = f"""
        SELECT f.channel, f.status, {DAY_OF.format("t.event_time")} AS day, COUNT(*) AS n
        FROM flags f JOIN transactions t ON t.transaction_id = f.transaction_id
        WHERE f.policy = :policy AND t.event_time >= :start AND t.event_time < :end
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    return _read(store, sql, scope)


@dataclass(frozen=True)
class CaseCounts:
    """Cases that began in a span."""

    detected: int  # with a flag of a detector or a rule; others were drawn at random
    open: int  # with an open flag
    all: int


def cases(store: Store, scope: Scope) -> CaseCounts:
    """Number of cases whose first flag is in the span; muted flags are in none."""
    sql = """
        SELECT COUNT(*) AS n, SUM(CASE WHEN flags > audit_flags THEN 1 ELSE 0 END) AS detected,
               SUM(CASE WHEN open_flags > 0 THEN 1 ELSE 0 END) AS open
        FROM flag_cases WHERE policy = :policy AND first_event_time >= :start AND first_event_time < :end"""
    row = _read(store, sql, scope)[0]
    return CaseCounts(int(row["detected"] or 0), int(row["open"] or 0), int(row["n"]))


def reviewers(store: Store, scope: Scope, limit: int) -> list[Row]:
    """Number of answered flags, of those with an opinion and of frauds by reviewer, from the span's start to `as_of`."""
    sql = """
        SELECT reviewer, COUNT(*) AS answered, SUM(CASE WHEN status = 'fraud' THEN 1 ELSE 0 END) AS fraud,
               SUM(CASE WHEN status IN ('fraud', 'genuine') THEN 1 ELSE 0 END) AS opinions
        FROM flags
        WHERE policy = :policy AND reviewer IS NOT NULL AND reviewed_at >= :start AND reviewed_at <= :as_of
        GROUP BY reviewer ORDER BY answered DESC, reviewer LIMIT :some"""
    return _read(store, sql, scope, {"some": limit})


def drift_features(store: Store, scope: Scope, last: Sequence[str] = ()) -> list[Row]:
    """
    The features of the span with their number of alarms and largest effect, most alarms first.

    `suppressed` is 1 for a feature whose metrics all have `suppressed_because`; those come last, and before them those of `last`, unless they
    raise alarms.
    """
    d = tables.drift_metrics.c
    alarms = func.sum(case((d.alarm, 1), else_=0)).label("alarms")
    suppressed = func.min(case((d.suppressed_because.is_(None), 0), else_=1)).label("suppressed")
    effect = func.max(d.effect).label("effect")
    later = case((d.feature.in_(list(last)), 1), else_=0)
    rows = (
        select(d.feature, alarms, suppressed, effect)
        .where(*_of_span(d, scope))
        .group_by(d.feature)
        .order_by(alarms.desc(), suppressed, later, func.coalesce(effect, 0).desc(), d.feature)
    )
    return _rows(store, rows)


def newest_alarms(store: Store, scope: Scope) -> list[str]:
    """Features with an alarm in the newest window of the span that has drift metrics."""
    d = tables.drift_metrics.c
    newest = select(func.max(d.window_end)).where(*_of_span(d, scope)).scalar_subquery()
    rows = select(d.feature).distinct().where(*_of_span(d, scope), d.window_end == newest, d.alarm)
    return [row["feature"] for row in _rows(store, rows.order_by(d.feature))]


def drift_windows(store: Store, scope: Scope, features: Sequence[str]) -> list[Row]:
    """Every drift metric of these features in the span that has an effect; instants in µs."""
    d = tables.drift_metrics.c
    columns = (
        d.feature,
        d.metric,
        d.window_start,
        d.window_end,
        d.value,
        d.threshold,
        d.alarm,
        d.n_current,
        d.effect,
    )
    rows = (
        select(*columns)
        .where(*_of_span(d, scope), d.feature.in_(features), d.effect.is_not(None))
        .order_by(d.feature, d.metric, d.window_start, d.window_end)
    )
    return _rows(store, rows)


def quality_windows(store: Store, scope: Scope) -> list[Row]:
    """Quality metrics of all models and channels together, by window, as known at `as_of`; instants in µs."""
    q = tables.quality_metrics.c
    return _quality(store, scope, q.channel == "", None)


def quality_channels(store: Store, scope: Scope, limit: int = 40) -> list[Row]:
    """The same by channel, newest windows first."""
    q = tables.quality_metrics.c
    return _quality(store, scope, (q.channel != "") & q.value.is_not(None), limit)


def _quality(store: Store, scope: Scope, which: Any, limit: int | None) -> list[Row]:
    q = tables.quality_metrics.c
    known = q.as_of.is_(None) | (q.as_of <= scope.as_of)
    rows = select(tables.quality_metrics).where(*_of_span(q, scope), q.model_id == 0, which, known)
    if limit is None:
        return _rows(store, rows.order_by(q.metric, q.kind, q.window_start))
    return _rows(store, rows.order_by(q.window_start.desc(), q.channel, q.metric, q.kind).limit(limit))


def _of_span(d: Any, scope: Scope) -> tuple[Any, ...]:
    return d.policy == scope.policy, d.window_start >= scope.start, d.window_end <= scope.end


def _query_scored(
    store: Store,
    scope: Scope,
    select_: str,
    *,
    more: str = "",
    source: str = "scores s",
    parameters: Mapping[str, Any] | None = None,
) -> list[Row]:
    quote, queries = store.engine.dialect.identifier_preparer.quote, known_at_instant(store)
    never = {name: values for name, values in scope.never_by_silence.items() if name in store.fields.names}
    bound = {f"never{index}": list(values) for index, values in enumerate(never.values())}
    silence = [f"COALESCE(t.{quote(name)}, '') NOT IN :{key}" for name, key in zip(never, bound, strict=True)]
    sql = SCORED.format(
        labels=LABELS_AS_OF,
        losses=queries.losses("frauds"),
        outcomes=queries.outcomes("losses", of_policy="AND f.policy = :policy"),
        detected=DETECTED.format("s"),
        day=DAY_OF.format("t.event_time"),
        silence=" AND ".join(silence) or "TRUE",
        more=more,
        source=source,
    )
    return _read(store, sql + select_, scope, bound | dict(parameters or {}))


def _read(store: Store, sql: str, scope: Scope, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    values = {
        "policy": scope.policy, "start": scope.start, "end": scope.end, "as_of": scope.as_of,
        "mature_until": scope.mature_until,
    } | dict(parameters or {})  # fmt: skip
    used = {name: value for name, value in values.items() if f":{name}" in sql}
    instants = [bindparam(name, type_=Instant) for name in used if name in INSTANTS]
    expanding: list[Any] = [
        bindparam(name, expanding=True) for name, value in used.items() if isinstance(value, list)
    ]
    return _rows(store, text(sql).bindparams(*instants, *expanding), used)


INSTANTS = ("start", "end", "as_of", "mature_until")


def _rows(store: Store, sql: Any, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """Rows with booleans as bool and sums as float on both engines."""
    with store.read() as connection:
        result = connection.execute(sql, dict(parameters or {}))
        names = tuple(result.keys())
        rows = [dict(zip(names, row, strict=True)) for row in result]
    for name in TRUTHS & set(names):
        for row in rows:
            row[name] = None if row[name] is None else bool(row[name])
    for name in SUMS & set(names):
        for row in rows:
            row[name] = float(row[name] or 0)
    return rows


TRUTHS = frozenset({"flagged", "is_fraud", "mature", "alarm"})
SUMS = frozenset({"caught", "missed", "lost", "in_time", "saved", "late", "mature_loss"})


def _bin(store: Store, value: str) -> str:
    """SQL for the number of a value's bin; bins are numbered in the order of the values."""
    floor = "FLOOR({})" if store.dialect == "postgresql" else "CAST({} AS INTEGER)"
    cases = [
        f"WHEN {value} >= {start} THEN {place * 1_000_000} + {floor.format(f'({value} - {start}) / {width}')}"
        for place, (start, width) in reversed(list(enumerate(BANDS)))
    ]
    return f"CASE {' '.join(cases)} END"
