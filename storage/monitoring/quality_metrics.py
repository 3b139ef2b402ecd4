"""The inputs of detection quality (scores, verdicts, newly known labels), and its stored metrics."""

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
from storage.database.tables import verdicts as verdict_log
from storage.database.views import KNOWN_AS_OF, ranked_labels
from storage.frames import REVIEWERS, Floats, Ints, Strings
from storage.review.verdict_log import NO_OPINION, is_retracted, not_retracted

ALL_MODELS, ALL_CHANNELS = 0, ""
Window = tuple[int, int]


@dataclass(frozen=True)
class WindowScores:
    """The scores of a window, without transactions that the model was trained on; (n,) each."""

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
    """
    Flags that people answered in a span: the newest verdict on each that had not been retracted by its end, (n,) each.

    A flag that was closed without opinion is answered, and neither fraud nor genuine.
    """

    is_fraud: NDArray[np.bool_]
    has_opinion: NDArray[np.bool_]
    at: Ints  # µs
    event_time: Ints


@dataclass(frozen=True)
class QualityMetric:
    """One metric of a window."""

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
    message: str | None = None

    @property
    def window(self) -> Window:
        """Start and end."""
        return self.window_start, self.window_end


def window_scores(store: Store, policy: str, start: int, end: int) -> WindowScores:
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
        result = connection.execute(rows).all()
    names, model, score, probability, channel, flagged, strategy = (
        zip(*result, strict=True) if result else ((),) * 7
    )
    return WindowScores(
        np.array(names, dtype=object),
        np.array(model, dtype=np.int64),
        np.array(score, dtype=np.float64),
        np.array(probability, dtype=np.float64),
        np.array(channel, dtype=object),
        np.array(flagged, dtype=bool),
        np.array(strategy, dtype=object),
    )


def relabelled_event_times(store: Store, since: int, until: int, before: int) -> Ints:
    """
    Event times of transactions older than `before` that got a label, or lost a label, score or row to an undo, in (since, until].

    The query uses the indexes of the labels, so its cost grows with the number of such labels only.
    """
    t, b, w = store.transactions.c, batches.c, withdrawals.c
    arrived = select(b.batch_id).where(
        b.kind == "labels", b.status == "done", ~b.history, b.visible_at > since, b.visible_at <= until
    )
    known = and_(labels.c.known_at > since, labels.c.known_at <= until)
    labelled = select(labels.c.transaction_id).where(or_(known, labels.c.batch_id.in_(arrived)))
    withdrawn = select(withdrawn_rows.c.transaction_id).where(
        withdrawn_rows.c.table_name.in_(("labels", "scores")),
        withdrawn_rows.c.withdrawal_id.in_(select(w.withdrawal_id).where(w.at > since, w.at <= until)),
    )
    rows = select(t.event_time).where(t.transaction_id.in_(labelled.union(withdrawn)))
    gone = select(withdrawn_rows.c.row).where(
        withdrawn_rows.c.table_name == "transactions",
        withdrawn_rows.c.withdrawal_id.in_(select(w.withdrawal_id).where(w.at > since, w.at <= until)),
    )
    with store.read() as connection:
        result = list(connection.scalars(rows))
        result += [as_micros(datetime.fromisoformat(row["event_time"])) for row in connection.scalars(gone)]
    return np.sort(np.array([time for time in result if time < before], dtype=np.int64))


def verdicts(store: Store, policy: str, start: int, end: int) -> Verdicts:
    """What people answered of flags with start ≤ at < end, by verdicts or in files of labels, ordered by time."""
    t, v, c = store.transactions.c, verdict_log.c, labels.c
    rows = (
        select(v.transaction_id, v.verdict, v.at, t.event_time)
        .join(flags, and_(flags.c.policy == policy, flags.c.transaction_id == v.transaction_id))
        .join(store.transactions, t.transaction_id == v.transaction_id)
        .where(v.at >= start, v.at < end, not_retracted(v, before=end))
        .order_by(v.verdict_id)
    )
    in_files = (
        select(
            c.transaction_id,
            case((c.is_fraud, "fraud"), else_="genuine").label("verdict"),
            c.known_at.label("at"),
            t.event_time,
        )
        .join(flags, and_(flags.c.policy == policy, flags.c.transaction_id == c.transaction_id))
        .join(store.transactions, t.transaction_id == c.transaction_id)
        .join(batches, and_(batches.c.batch_id == c.batch_id, batches.c.status == "done"))
        .where(
            c.known_at >= start,
            c.known_at < end,
            c.source.in_(REVIEWERS),
            c.is_fraud.is_not(None),
            ~is_retracted(c),
        )
    )
    with store.read() as connection:
        answers = [*connection.execute(rows), *connection.execute(in_files)]
    newest = {row.transaction_id: row for row in sorted(answers, key=lambda row: row.at)}
    result = sorted(newest.values(), key=lambda row: (row.at, row.transaction_id))
    return Verdicts(
        np.array([row.verdict == "fraud" for row in result], dtype=bool),
        np.array([row.verdict != NO_OPINION for row in result], dtype=bool),
        np.array([row.at for row in result], dtype=np.int64),
        np.array([row.event_time for row in result], dtype=np.int64),
    )


def unanswered_flag_times(store: Store, policy: str, start: int, end: int) -> Ints:
    """Event times, ascending, of flagged transactions of [start, end) that nobody and no label had answered at `end`."""
    t, v = store.transactions.c, verdict_log.c
    closed = select(v.verdict_id).where(
        v.transaction_id == flags.c.transaction_id,
        v.verdict == NO_OPINION,
        v.at <= end,
        not_retracted(v, before=end + 1),
    )
    # The others have been answered by then.
    late = or_(flags.c.status.in_(("open", "expired")), flags.c.reviewed_at > end)
    rows = (
        select(t.transaction_id, t.event_time)
        .join(flags, flags.c.transaction_id == t.transaction_id)
        .where(flags.c.policy == policy, late, ~exists(closed.correlate(flags)))
    )
    with store.read() as connection:
        # Filtered in Python: with the span in the query a database may use the index on event_time and read all rows.
        times = {name: time for name, time in connection.execute(rows).all() if start <= time < end}
        with bulk.staged_ids(connection, list(times)) as stage:
            holding = ranked_labels(
                KNOWN_AS_OF, f"AND {{x}}.transaction_id IN (SELECT transaction_id FROM {stage})"
            )
            sql = text(f"SELECT transaction_id FROM ({holding}) h WHERE is_fraud IS NOT NULL")
            typed = sql.bindparams(bindparam("as_of", end, Instant))
            answered = set(connection.scalars(typed))
    return np.sort(np.array([time for name, time in times.items() if name not in answered], dtype=np.int64))


def measured_windows(store: Store, policy: str) -> dict[Window, int | None]:
    """Windows with quality metrics, each with the as_of of its realised metrics, None where it has only estimates."""
    q = quality_metrics.c
    rows = select(q.window_start, q.window_end, q.kind, q.as_of).where(
        q.policy == policy, q.metric == "transactions", q.model_id == ALL_MODELS, q.channel == ALL_CHANNELS
    )
    result: dict[Window, int | None] = {}
    with store.read() as connection:
        for row in connection.execute(rows.order_by(q.window_start, q.window_end)):
            window = row.window_start, row.window_end
            result[window] = row.as_of if row.kind == "realised" else result.get(window)
    return result


def read(
    store: Store, policy: str, metrics: Sequence[str], span: Window, as_of: int
) -> dict[Window, dict[tuple[str, str], QualityMetric]]:
    """Metrics of all models and channels together, {window: {(kind, metric): row}}, of windows inside a span."""
    q = quality_metrics.c
    rows = select(quality_metrics).where(
        q.policy == policy, q.metric.in_(metrics), q.model_id == ALL_MODELS, q.channel == ALL_CHANNELS,
        q.window_start >= span[0], q.window_end <= span[1], q.as_of <= as_of,
    )  # fmt: skip
    result: dict[Window, dict[tuple[str, str], QualityMetric]] = {}
    with store.read() as connection:
        for row in connection.execute(rows.order_by(q.window_start, q.window_end)).mappings():
            metric = QualityMetric(**{name: row[name] for name in QualityMetric.__dataclass_fields__})
            result.setdefault(metric.window, {})[metric.kind, metric.metric] = metric
    return result


def write(
    store: Store,
    policy: str,
    run_id: int | None,
    as_of: int,
    window: Window,
    kind: str,
    rows: Sequence[QualityMetric],
) -> None:
    """Replace the metrics of one kind of a window, in one transaction."""
    q = quality_metrics.c
    of_window = (q.window_start == window[0], q.window_end == window[1])
    make = postgres_insert if store.dialect == "postgresql" else sqlite_insert
    statement = make(quality_metrics)
    key = [column.name for column in quality_metrics.primary_key]
    changed = {c.name: statement.excluded[c.name] for c in quality_metrics.c if c.name not in key}
    values: list[dict[str, Any]] = [
        asdict(row) | {"policy": policy, "run_id": run_id, "as_of": as_of} for row in rows
    ]
    with store.write() as connection:
        connection.execute(delete(quality_metrics).where(q.policy == policy, q.kind == kind, *of_window))
        if values:
            connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), values)


def newest_before(store: Store, policy: str, end: int) -> int | None:
    """The end of the newest window before `end` whose quality step is done."""
    row = ledger.c
    chosen = select(func.max(row.window_end)).where(
        row.policy == policy, row.kind == "quality", row.status == "done", row.window_end < end
    )
    with store.read() as connection:
        result: int | None = connection.scalar(chosen)
    return result
