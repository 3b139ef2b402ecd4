"""
Facts that people outside may want to be told of, as storage has them: pure reads.

Only what scheduled and manual runs brought is news. A backfill lives the past again, and nobody is called at night for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from storage.database.database import Store
from storage.database.tables import (
    choices,
    drift_metrics,
    ledger,
    models,
    promotion_checks,
    promotions,
    quality_metrics,
    runs,
    untold_flags,
)
from storage.frames import DAY
from storage.queries import listings

Row = dict[str, Any]
WINDOW_MAX = 31 * DAY  # schedule.window
MATURES_MAX = 400 * DAY  # a window whose labels took longer is no news
FLAGS_MAX = 5_000  # in one digest; a first run over a long queue is told in several


@dataclass(frozen=True)
class Seen:
    """Whose facts are looked at: a policy's, of runs of some kinds that began after an instant."""

    policy: str
    kinds: Sequence[str]
    since: int

    def run_ids(self) -> "Select[Any]":
        """The runs."""
        r = runs.c
        mine = (r.policy == self.policy) & r.kind.in_(list(self.kinds)) & (r.started_at >= self.since)
        return select(r.run_id).where(mine)


def any_run(store: Store, seen: Seen) -> bool:
    """Whether there is anything to look at."""
    with store.read() as connection:
        return connection.scalar(seen.run_ids().limit(1)) is not None


def untold(store: Store, policy: str) -> list[str]:
    """Transactions whose flags no digest has told of, in the order of their ids."""
    u = untold_flags.c
    rows = select(u.transaction_id).where(u.policy == policy).order_by(u.transaction_id).limit(FLAGS_MAX)
    with store.read() as connection:
        return list(connection.scalars(rows))


def flags(store: Store, policy: str, ids: Sequence[str]) -> list[Row]:
    """Flags on these transactions that still wait for an answer, the largest amounts first."""
    found = listings.flags_on(store, policy, ids)
    waiting = [row for row in found if row["status"] == "open" and row["muted_by"] is None]
    return sorted(waiting, key=lambda row: (-row["amount_base"], row["transaction_id"]))


def failed_steps(store: Store, seen: Seen) -> list[Row]:
    """Steps of the ledger that failed and are not tried again."""
    entry = ledger.c
    mine = (entry.policy == seen.policy) & (entry.status == "failed") & entry.not_before.is_(None)
    rows = select(ledger).where(mine, entry.run_id.in_(seen.run_ids()))
    return _rows(store, rows.order_by(entry.window_end, entry.kind))


def broken_runs(store: Store, seen: Seen) -> list[Row]:
    """Runs that ended before their steps could: their error is not a step's."""
    r = runs.c
    broken = (r.status == "failed") & r.run_id.in_(seen.run_ids())
    found = _rows(
        store, select(r.run_id, r.kind, r.started_at, r.error, r.counts).where(broken).order_by(r.run_id)
    )
    return [row for row in found if not (row["counts"] or {}).get("failures")]


def drift(store: Store, seen: Seen) -> list[Row]:
    """Alarms of drift, by window."""
    return _alarms(store, drift_metrics, drift_metrics.c.window_end, seen, WINDOW_MAX)


def drift_before(store: Store, policy: str, window_start: int) -> set[tuple[str, str]]:
    """What alarmed in the newest window measured that ended by then, as (feature, metric)."""
    d = drift_metrics.c
    mine = (d.policy == policy) & (d.window_end <= window_start)
    newest = select(d.window_end).where(mine).order_by(d.window_start.desc()).limit(1).scalar_subquery()
    rows = select(d.feature, d.metric).where(mine, d.alarm, d.window_end == newest)
    with store.read() as connection:
        return {(row.feature, row.metric) for row in connection.execute(rows)}


def quality(store: Store, seen: Seen) -> list[Row]:
    """Alarms of quality, by window."""
    return _alarms(store, quality_metrics, quality_metrics.c.as_of, seen, MATURES_MAX)


def _alarms(store: Store, table: Any, instant: Any, seen: Seen, longest: int) -> list[Row]:
    """Alarms since; `longest` is how long before them a window can have begun, so that the key finds them."""
    begun = table.c.window_start >= seen.since - longest
    mine = (table.c.policy == seen.policy) & begun & table.c.alarm & (instant >= seen.since)
    rows = select(table).where(mine, table.c.run_id.in_(seen.run_ids()))
    return _rows(store, rows.order_by(*table.primary_key))


def choices_made(store: Store, seen: Seen) -> list[Row]:
    """Choices, the oldest training date first, each with the strategy before it."""
    c = choices.c
    mine = (c.policy == seen.policy) & c.run_id.in_(seen.run_ids())
    found = _rows(store, select(choices).where(mine).order_by(c.training_date, c.choice_id))
    return [row | {"before": _strategy_before(store, row)} for row in found]


def _strategy_before(store: Store, row: Row) -> str | None:
    c = choices.c
    earlier = (c.policy == row["policy"]) & (c.training_date < row["training_date"])
    newest = select(c.strategy).where(earlier).order_by(c.training_date.desc(), c.choice_id.desc()).limit(1)
    with store.read() as connection:
        found: str | None = connection.scalar(newest)
    return found


def promotions_made(store: Store, seen: Seen) -> list[Row]:
    """Promotions by trainings of these runs, and by hand since."""
    p, m = promotions.c, models.c
    by_training = (p.effective_from == m.trained_at) & m.run_id.in_(seen.run_ids())
    by_hand = (p.effective_from != m.trained_at) & (p.promoted_at >= seen.since)
    rows = (
        select(p.seq, p.model_id, p.effective_from, p.reason, p.by, m.strategy, m.n_mature, m.n_fraud)
        .join(models, m.model_id == p.model_id)
        .where(p.policy == seen.policy, by_training | by_hand)
    )
    return _rows(store, rows.order_by(p.seq))


def refusals(store: Store, seen: Seen) -> list[Row]:
    """New models that were not promoted, for being worse than the one in force."""
    c = promotion_checks.c
    mine = (c.policy == seen.policy) & (c.verdict == "refused") & c.run_id.in_(seen.run_ids())
    return _rows(store, select(promotion_checks).where(mine).order_by(c.training_date, c.model_id))


def _rows(store: Store, rows: "Select[Any]") -> list[Row]:
    with store.read() as connection:
        return [dict(row) for row in connection.execute(rows).mappings()]
