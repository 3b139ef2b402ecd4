"""The figures that the health port exports; cheap to read, however large the database is."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, func, select

from storage.database.database import Store
from storage.database.tables import (
    batches,
    choices,
    drift_metrics,
    flags,
    ledger,
    limit_checks,
    outbox,
    tick_steps,
)
from storage.runs import scoring_queue


@dataclass(frozen=True)
class NewestChoice:
    """The strategy and the numbers of the newest choice."""

    strategy: str
    prevalence: float | None
    lower: float | None
    upper: float | None
    effective_positives: float


@dataclass(frozen=True)
class HealthFigures:
    """Health figures of one policy; instants in µs."""

    newest_window: int | None  # end of the newest window that was scored
    queue: int
    gaps: dict[tuple[str, str], int]  # (kind, status) → entries that are not done
    flags: dict[tuple[str, str], int]  # (channel, status) → flags
    drift_alarms: int  # in the newest window that has drift metrics
    newest_batch: dict[str, int]  # kind → when its newest batch became visible
    choice: NewestChoice | None
    messages: dict[tuple[str], int]  # (status,) → notifications that are not sent
    limits: dict[
        tuple[str, str], float
    ]  # (name, "now" or "expected") → share of the limit, of its worst value
    parts: dict[tuple[str], int]  # (name,) of a part of a tick → failures in a row


def read(store: Store, policy: str) -> HealthFigures:
    """Read all figures in one transaction."""
    entry, flag, drift, batch = ledger.c, flags.c, drift_metrics.c, batches.c
    done = (entry.policy == policy) & (entry.kind == "score") & (entry.status == "done")
    not_done = (entry.policy == policy) & entry.status.in_(("pending", "running", "failed"))
    measured = select(func.max(drift.window_start)).where(drift.policy == policy).scalar_subquery()
    alarms = select(func.count()).where(drift.policy == policy, drift.window_start == measured, drift.alarm)
    arrived = select(batch.kind, func.max(batch.visible_at)).where(batch.status == "done")
    with store.read() as connection:
        return HealthFigures(
            newest_window=connection.scalar(select(func.max(entry.window_end)).where(done)),
            queue=scoring_queue.queue_length(connection, policy),
            gaps=_counted(connection, not_done, entry.kind, entry.status),
            flags=_counted(connection, flag.policy == policy, flag.channel, flag.status),
            drift_alarms=int(connection.scalar(alarms) or 0),
            newest_batch={row[0]: row[1] for row in connection.execute(arrived.group_by(batch.kind))},
            choice=_choice(connection, policy),
            limits=_limits(connection),
            messages=_messages(connection),
            parts=_parts(connection),
        )


def _counted(
    connection: Connection, which: "ColumnElement[bool]", *by: "Column[Any]"
) -> dict[tuple[str, str], int]:
    counted = select(*by, func.count()).where(which).group_by(*by)
    return {(row[0], row[1]): int(row[2]) for row in connection.execute(counted)}


def _messages(connection: Connection) -> dict[tuple[str], int]:
    state = outbox.c.status
    open_ = state.in_(("pending", "sending", "failed"))
    rows = select(state, func.count()).where(open_).group_by(state)
    return {(row[0],): int(row[1]) for row in connection.execute(rows)}


def _parts(connection: Connection) -> dict[tuple[str], int]:
    rows = select(tick_steps.c.name, tick_steps.c.failures)
    return {(row[0],): int(row[1]) for row in connection.execute(rows)}


def _limits(connection: Connection) -> dict[tuple[str, str], float]:
    c = limit_checks.c
    newest = select(c.name, func.max(c.at).label("at")).group_by(c.name).subquery()
    rows = (
        select(c.name, func.max(c.share), func.max(c.expected_share))
        .join(newest, (newest.c.name == c.name) & (newest.c.at == c.at))
        .group_by(c.name)
    )
    shares = {}
    for name, share, expected in connection.execute(rows):
        shares[name, "now"] = share
        if expected is not None:
            shares[name, "expected"] = expected
    return shares


def _choice(connection: Connection, policy: str) -> NewestChoice | None:
    c = choices.c
    numbers = select(
        c.strategy, c.prevalence, c.prevalence_lower, c.prevalence_upper, c.effective_positives
    ).where(c.policy == policy)
    newest = numbers.order_by(c.training_date.desc(), c.choice_id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return None if row is None else NewestChoice(*row)
