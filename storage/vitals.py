"""What a monitor's pulse is read from: a few numbers that cost little, whatever the age of the database."""

from dataclasses import dataclass

from sqlalchemy import func, select

from storage import policies
from storage.schema import batches, choices, drift_metrics, flags, ledger
from storage.store import Store


@dataclass(frozen=True)
class ChoiceNow:
    """The newest choice, in numbers."""

    strategy: str
    prevalence: float | None
    lower: float | None
    upper: float | None
    effective_positives: float


@dataclass(frozen=True)
class Vitals:
    """One look at a policy; instants in µs."""

    newest_window: int | None  # end of the newest window that was scored
    queue: int
    gaps: dict[tuple[str, str], int]  # (kind, status) → entries that are not done
    flags: dict[tuple[str, str], int]  # (channel, status) → flags
    drift_alarms: int  # of the newest window that was measured
    newest_batch: dict[str, int]  # kind → when its newest batch became visible
    choice: ChoiceNow | None


def read(store: Store, policy: str) -> Vitals:
    """Look once, in one transaction."""
    entry, flag, drift, batch = ledger.c, flags.c, drift_metrics.c, batches.c
    done = (entry.policy == policy) & (entry.kind == "score") & (entry.status == "done")
    open_ = select(entry.kind, entry.status, func.count()).where(
        entry.policy == policy, entry.status.in_(("pending", "running", "failed"))
    )
    raised = select(flag.channel, flag.status, func.count()).where(flag.policy == policy)
    measured = select(func.max(drift.window_start)).where(drift.policy == policy).scalar_subquery()
    alarms = select(func.count()).where(drift.policy == policy, drift.window_start == measured, drift.alarm)
    arrived = select(batch.kind, func.max(batch.visible_at).label("newest")).where(batch.status == "done")
    newest = select(choices).where(choices.c.policy == policy)
    with store.read() as connection:
        chosen = connection.execute(
            newest.order_by(choices.c.training_date.desc(), choices.c.choice_id.desc()).limit(1)
        ).one_or_none()
        return Vitals(
            newest_window=connection.scalar(select(func.max(entry.window_end)).where(done)),
            queue=policies.queue_length(connection, policy),
            gaps={
                (kind, status): n
                for kind, status, n in connection.execute(open_.group_by(entry.kind, entry.status))
            },
            flags={
                (channel, status): n
                for channel, status, n in connection.execute(raised.group_by(flag.channel, flag.status))
            },
            drift_alarms=int(connection.scalar(alarms) or 0),
            newest_batch={row.kind: row.newest for row in connection.execute(arrived.group_by(batch.kind))},
            choice=None
            if chosen is None
            else ChoiceNow(
                chosen.strategy,
                chosen.prevalence,
                chosen.prevalence_lower,
                chosen.prevalence_upper,
                chosen.effective_positives,
            ),
        )
