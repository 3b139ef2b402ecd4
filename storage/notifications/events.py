"""
What people can be notified of: the events, and a query for what is new of each. Queries only read.

Events come from scheduled and manual runs. A backfill scores the past again, so it sends no notifications.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, get_args

from sqlalchemy import Select, exists, func, select

from storage.database.database import Store
from storage.database.tables import (
    choices,
    drift_metrics,
    flag_notifications_pending,
    ledger,
    limit_checks,
    models,
    promotion_checks,
    promotions,
    quality_metrics,
    runs,
    verdicts,
)
from storage.database.tables import flags as flags_table
from storage.frames import DAY
from storage.queries.flags import flags_on
from storage.runs import tick_steps
from storage.runs.tick_steps import TickStep

# What people choose by; a new event is a name here.
Event = Literal["flags", "drift", "quality", "failure", "choice", "model", "limit"]
EVENTS: tuple[Event, ...] = get_args(Event)

Row = dict[str, Any]
EVENT_AGE_MAX = 7 * DAY  # events of runs that started earlier are not sent any more
WINDOW_MAX = 31 * DAY  # schedule.window
MATURES_MAX = 400 * DAY  # a window whose labels took longer to mature is not notified


# What a digest says of every flag; of the few that it shows, everything is read.
@dataclass(frozen=True)
class EventWindow:
    """The runs whose events are notified: those of a policy and some kinds that began from `since` to `now` (µs)."""

    policy: str
    kinds: Sequence[str]
    since: int
    now: int

    def run_ids(self) -> "Select[Any]":
        """Query for the ids of the runs."""
        r = runs.c
        mine = (r.policy == self.policy) & r.kind.in_(list(self.kinds)) & (r.started_at >= self.since)
        return select(r.run_id).where(mine)


def pending_flags(store: Store, policy: str) -> list[str]:
    """Transactions with flags that no digest has contained yet, ordered by id."""
    u = flag_notifications_pending.c
    rows = select(u.transaction_id).where(u.policy == policy).order_by(u.transaction_id)
    with store.read() as connection:
        return list(connection.scalars(rows))


def flags(store: Store, policy: str, ids: Sequence[str]) -> list[Row]:
    """Open flags on these transactions that are not muted, the largest expected losses first."""
    result = flags_on(store, policy, ids)
    waiting = [row for row in result if row["status"] == "open" and row["muted_by"] is None]
    return sorted(waiting, key=_largest_loss_first)


def whole_flags(store: Store, policy: str, ids: Sequence[str]) -> list[Row]:
    """All columns of a few flags, the largest expected losses first."""
    return sorted(flags_on(store, policy, ids), key=_largest_loss_first)


def _largest_loss_first(row: Row) -> tuple[float, float, str]:
    loss = row["expected_loss"]
    return 1.0 if loss is None else -loss, -row["score"], row["transaction_id"]


def answers(store: Store, window: EventWindow) -> list[Row]:
    """What people said of flagged payments since `window.since`, oldest first; undone answers are `retracted`."""
    v, f = verdicts.c, flags_table.c
    columns = (v.verdict_id, v.transaction_id, v.verdict, v.type, v.action, v.at)
    flagged = exists().where(f.policy == window.policy, f.transaction_id == v.transaction_id)
    rows = select(*columns).where(v.at >= window.since, v.at <= window.now, flagged)
    return _rows(store, rows.order_by(v.verdict_id))


def failed_steps(store: Store, window: EventWindow) -> list[Row]:
    """Steps of the ledger, trainings aside, that failed and have no retries left."""
    return _failed(store, window, ledger.c.kind != "train")


def failed_trainings(store: Store, window: EventWindow) -> list[Row]:
    """Trainings that failed and have no retries left: there is no new model."""
    return _failed(store, window, ledger.c.kind == "train")


def _failed(store: Store, window: EventWindow, of_kind: Any) -> list[Row]:
    entry = ledger.c
    mine = (entry.policy == window.policy) & (entry.status == "failed") & entry.not_before.is_(None)
    rows = select(ledger).where(mine, of_kind, entry.run_id.in_(window.run_ids()))
    return _rows(store, rows.order_by(entry.window_end, entry.kind))


def failed_runs(store: Store, window: EventWindow) -> list[Row]:
    """Runs that failed outside their steps, so that no step of the ledger has their error."""
    r = runs.c
    failed = (r.status == "failed") & r.run_id.in_(window.run_ids())
    rows = select(r.run_id, r.policy, r.kind, r.started_at, r.error, r.counts).where(failed)
    return [row for row in _rows(store, rows.order_by(r.run_id)) if not (row["counts"] or {}).get("failures")]


def failing_parts(store: Store, window: EventWindow) -> list[TickStep]:
    """Parts of a tick that began to fail, and fail still."""
    return [step for step in tick_steps.failing(store) if (step.failing_since or 0) >= window.since]


def recovered_parts(store: Store, window: EventWindow) -> list[TickStep]:
    """Parts of a tick that failed and have worked again for `SETTLED`."""
    steps, settled = tick_steps.list_steps(store), window.now - tick_steps.SETTLED
    return [step for step in steps if window.since <= (step.recovered_at or 0) <= settled]


@dataclass(frozen=True)
class DriftAlarms:
    """The drift alarms of a window: those that the window before did not have, and the others."""

    new: list[Row]
    repeated: list[Row]


def drift_alarms(store: Store, window: EventWindow) -> list[DriftAlarms]:
    """Windows in which something began to drift, oldest first."""
    windows = []
    for rows in _by_window(_alarms(store, drift_metrics, drift_metrics.c.window_end, window, WINDOW_MAX)):
        before = _drift_before(store, window.policy, rows[0]["window_start"])
        new = [row for row in rows if (row["feature"], row["metric"]) not in before]
        windows.append(DriftAlarms(new, [row for row in rows if row not in new]))
    return [alarms for alarms in windows if alarms.new]


def _drift_before(store: Store, policy: str, window_start: int) -> set[tuple[str, str]]:
    """Alarms of the newest window that ended at `window_start` or before, as (feature, metric)."""
    d = drift_metrics.c
    mine = (d.policy == policy) & (d.window_end <= window_start)
    newest = select(d.window_end).where(mine).order_by(d.window_start.desc()).limit(1).scalar_subquery()
    rows = select(d.feature, d.metric).where(mine, d.alarm, d.window_end == newest)
    with store.read() as connection:
        return {(row.feature, row.metric) for row in connection.execute(rows)}


def quality_alarms(store: Store, window: EventWindow) -> list[list[Row]]:
    """Quality alarms, a list for each window that has any."""
    return list(_by_window(_alarms(store, quality_metrics, quality_metrics.c.as_of, window, MATURES_MAX)))


def _by_window(rows: Sequence[Row]) -> Iterator[list[Row]]:
    def span(row: Row) -> tuple[int, int]:
        return row["window_start"], row["window_end"]

    return (list(group) for _, group in groupby(sorted(rows, key=span), span))


def _alarms(store: Store, table: Any, instant: Any, window: EventWindow, longest: int) -> list[Row]:
    """Alarms since `window.since`; windows of alarms began at most `longest` before, so that the primary key is used."""
    begun = table.c.window_start >= window.since - longest
    mine = (table.c.policy == window.policy) & begun & table.c.alarm & (instant >= window.since)
    rows = select(table).where(mine, table.c.run_id.in_(window.run_ids()))
    return _rows(store, rows.order_by(*table.primary_key))


def limits_reached(store: Store, window: EventWindow) -> list[list[Row]]:
    """
    Checks since `window.since` in which a limit was near or crossed for the first time in its period.

    One list for each limit, check and level: the values of its field, the worst first. Whoever has crossed a limit in a
    period is not near it any more.
    """
    c, before = limit_checks.c, limit_checks.alias("before").c
    same = (before.name == c.name) & (before.field == c.field) & (before.value == c.value)
    earlier = same & (before.period_start == c.period_start) & (before.at < c.at)
    reached = (before.level == c.level) | (before.level == "crossed")
    new = (c.at >= window.since) & (c.level != "ok") & ~exists().where(earlier, reached)
    order = (c.at, c.name, c.level, c.share.desc(), c.value)
    rows = _rows(store, select(limit_checks).where(new).order_by(*order))
    return [list(group) for _, group in groupby(rows, lambda row: (row["at"], row["name"], row["level"]))]


def changed_choices(store: Store, window: EventWindow) -> list[Row]:
    """New choices of another strategy, oldest training date first, each with the strategy before it."""
    c = choices.c
    mine = (c.policy == window.policy) & c.run_id.in_(window.run_ids())
    result = _rows(store, select(choices).where(mine).order_by(c.training_date, c.choice_id))
    with_before = (row | {"before": _strategy_before(store, row)} for row in result)
    return [row for row in with_before if row["before"] not in (None, row["strategy"])]


def _strategy_before(store: Store, row: Row) -> str | None:
    c = choices.c
    earlier = (c.policy == row["policy"]) & (c.training_date < row["training_date"])
    newest = select(c.strategy).where(earlier).order_by(c.training_date.desc(), c.choice_id.desc()).limit(1)
    with store.read() as connection:
        result: str | None = connection.scalar(newest)
    return result


def new_promotions(store: Store, window: EventWindow) -> list[Row]:
    """New promotions by trainings of these runs, and by hand since `window.since`."""
    p, m = promotions.c, models.c
    by_training = (p.effective_from == m.trained_at) & m.run_id.in_(window.run_ids())
    by_hand = (p.effective_from != m.trained_at) & (p.promoted_at >= window.since)
    rows = (
        select(
            p.seq, p.policy, p.model_id, p.effective_from, p.reason, p.by, m.strategy, m.n_mature, m.n_fraud
        )
        .join(models, m.model_id == p.model_id)
        .where(p.policy == window.policy, by_training | by_hand)
    )
    return _rows(store, rows.order_by(p.seq))


def rejected_candidates(store: Store, window: EventWindow) -> list[Row]:
    """
    Candidates that the promotion gate rejected.

    Each has the training date of the champion and the number of its candidates that were rejected until then.
    """
    c, champion = promotion_checks.c, models.alias("champion").c
    until = promotion_checks.alias("until").c
    against = (until.policy == c.policy) & (until.champion_id == c.champion_id)
    before = against & (until.verdict == "rejected") & (until.training_date <= c.training_date)
    refusals = select(func.count()).where(before).scalar_subquery().label("refusals")
    trained_at = select(champion.trained_at).where(champion.model_id == c.champion_id).scalar_subquery()
    mine = (c.policy == window.policy) & (c.verdict == "rejected") & c.run_id.in_(window.run_ids())
    rows = select(promotion_checks, refusals, trained_at.label("champion_trained_at"))
    return _rows(store, rows.where(mine).order_by(c.training_date, c.model_id))


def _rows(store: Store, rows: "Select[Any]") -> list[Row]:
    with store.read() as connection:
        return [dict(row) for row in connection.execute(rows).mappings()]
