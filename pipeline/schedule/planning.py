"""
Planning: writes due steps of the schedule to the ledger, and selects the open ledger entries for a run.

Steps are planned from a stored frontier on, so the cost of planning depends on the time since the last run, not on
the age of the monitor. A change of `schedule.window`, `schedule.timezone` or `training.every` takes effect from that
frontier on; steps planned earlier stay as they are, so windows never overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.schedule import grid as window_grid
from pipeline.schedule.run_context import LIVE, Step, pending
from storage.database.database import Store
from storage.ingest import history
from storage.runs import ledger, schedule_history, scoring_queue
from storage.runs.ledger import Entry
from storage.runs.schedule_history import StoredSchedule


@dataclass(frozen=True)
class OpenSteps:
    """Open ledger entries for a run, each kind in the order of execution, and how many windows it leaves for later."""

    trainings: Sequence[Entry]
    windows: Sequence[Entry]
    drifts: Sequence[Entry]
    qualities: Sequence[Entry]
    prunes: Sequence[Entry]
    windows_left: int  # windows left for the next tick, so that catching up does not delay new windows

    def __len__(self) -> int:
        steps = (self.trainings, self.windows, self.drifts, self.qualities, self.prunes)
        return sum(len(entries) for entries in steps)


def grid_of(config: Config) -> StoredSchedule:
    """The grid of the current configuration."""
    return StoredSchedule(config.schedule.window, config.training.every, config.schedule.timezone)


def plan_due_steps(store: Store, config: Config, policy: str, as_of: int) -> int:
    """
    Write a ledger row for every step that has become due by `as_of`; return the instant at which the policy starts.

    The first call for a database decides that instant: the start of the newest stored transaction's window. Older
    transactions are history; a backfill scores them.

    Raises
    ------
    NotReady
        No transaction is stored yet.
    """
    starts_at = _policy_start(store, config, policy)
    frontier = schedule_history.planned_until(store, policy)
    grid = _grid_in_force(store, config, policy, starts_at if frontier is None else frontier, as_of)
    begin = starts_at if frontier is None else frontier
    end = window_grid.floor(grid.window, grid.timezone, as_of - config.schedule.allowed_lateness)
    if end > begin:
        first = _training_for(store, grid, begin) if frontier is None else None
        steps = [*_steps(grid, begin, end, first), *_quality_steps(config, begin, end)]
        if policy != LIVE:
            steps = [step for step in steps if step.kind != "prune"]  # only the live policy prunes
        lateness = config.schedule.allowed_lateness
        ledger.record_plan(store, policy, [pending(policy, step, lateness) for step in steps], end)
    return starts_at


def open_steps(store: Store, policy: str, starts_at: int, as_of: int, catch_up: int | None) -> OpenSteps:
    """
    The schedule's open entries that may run at `as_of`.

    Windows after a training that is not done yet wait for it. With more than `catch_up` windows open, the newest
    and then the oldest are selected, `catch_up` in total; None selects all, oldest first. Entries before `starts_at`
    belong to an interrupted backfill, which has to be run again.
    """
    unfinished = ledger.unfinished(store, policy)
    before = [e.window_end for e in unfinished if e.kind == "train" and e.window_end < starts_at]
    first = max(before, default=starts_at)  # the training that the first windows need
    own = [
        e for e in unfinished if e.window_end >= starts_at or (e.kind == "train" and e.window_end >= first)
    ]
    ready = [entry for entry in own if entry.not_before is None or entry.not_before <= as_of]
    trainings = [entry for entry in ready if entry.kind == "train"]
    blocked = [entry.window_end for entry in own if entry.kind == "train" and entry not in ready]
    windows = [
        entry
        for entry in ready
        if entry.kind == "score" and entry.window_end <= min(blocked, default=entry.window_end)
    ]
    selected = _limit_windows(windows, catch_up)
    waiting = {e.key[1:] for e in own if e.kind == "score"} - {e.key[1:] for e in selected}
    drifts = [entry for entry in ready if entry.kind == "drift" and entry.key[1:] not in waiting]
    caught_up = min((start for start, _ in waiting), default=as_of)
    qualities = [entry for entry in ready if entry.kind == "quality" and entry.window_end <= caught_up]
    prunes = [entry for entry in ready if entry.kind == "prune"]
    return OpenSteps(trainings, selected, drifts, qualities, prunes, len(windows) - len(selected))


def windows_not_done(store: Store, policy: str) -> list[tuple[int, int]]:
    """Windows that are not scored yet or have failed for good: transactions queued for them are not late."""
    return [(e.window_start, e.window_end) for e in ledger.not_done(store, policy, "score")]


def backfill_steps(store: Store, config: Config, policy: str, start: int, end: int) -> list[Step]:
    """
    The trainings and windows of [start, end): windows in the ledger stay as they are, the gaps are filled by the grid.

    Whether a model is promoted depends on the champion, so missing trainings between the policy's last training and the
    span are added.
    """
    grid = grid_of(config)
    first = _training_for(store, grid, start)
    dates = [first, *window_grid.dates_inside(grid.train_every, grid.timezone, start, end)]
    before = ledger.newest_done(store, policy, "train", before=first) if config.training.gate else None
    if before is not None:
        dates += window_grid.dates_inside(grid.train_every, grid.timezone, before, first)
    planned = [
        (e.window_start, e.window_end)
        for e in ledger.entries(store, policy, kind="score", since=start, until=end)
    ]
    windows = sorted({*planned, *_fill_gaps(grid, planned, start, end)})
    steps = [Step("train", date, date) for date in sorted(set(dates))]
    for begin, until in windows:
        steps += [Step("score", begin, until), Step("drift", begin, until)]
    return [*steps, *_quality_steps(config, start, end)]


def has_new_transactions(store: Store, config: Config, date: int) -> bool:
    """
    Whether transactions arrived between the previous training date and `date`.

    Without new transactions the model would be fitted to a subset of the same rows, so the previous model stays.
    """
    grid = grid_of(config)
    newest = history.newest_known(store, date)
    return newest is None or newest >= _floor(grid, date - 1)


def day(instant: int) -> str:
    """The UTC day of an instant, for people."""
    return str(np.datetime64(instant, "us").astype("datetime64[D]"))


def _fill_gaps(
    grid: StoredSchedule, planned: Sequence[tuple[int, int]], start: int, end: int
) -> list[tuple[int, int]]:
    windows, at = [], start
    for begin, until in [*sorted(planned), (end, end)]:
        if begin > at:
            windows += window_grid.windows(grid.window, grid.timezone, at, begin)
        at = max(at, until)
    return windows


def _limit_windows(windows: Sequence[Entry], catch_up: int | None) -> list[Entry]:
    if catch_up is None or len(windows) <= catch_up:
        return list(windows)
    return [windows[-1], *windows[: catch_up - 1]]


def _training_for(store: Store, grid: StoredSchedule, instant: int) -> int:
    """The date of the training whose model scores from `instant` on: the last training with new transactions."""
    date = _floor(grid, instant)
    newest = history.newest_known(store, date)
    if newest is None:
        return date
    return min(date, window_grid.following(grid.train_every, grid.timezone, _floor(grid, newest)))


def _floor(grid: StoredSchedule, instant: int) -> int:
    return window_grid.floor(grid.train_every, grid.timezone, instant)


def _steps(grid: StoredSchedule, start: int, end: int, first: int | None) -> list[Step]:
    dates = [
        date for date in window_grid.edges(grid.train_every, grid.timezone, start, end) if start < date <= end
    ]
    prunes = [Step("prune", date, date) for date in dates]
    if first is not None:
        dates.insert(0, first)
    steps = [*(Step("train", date, date) for date in dates), *prunes]
    for begin, until in window_grid.windows(grid.window, grid.timezone, start, end):
        steps += [Step("score", begin, until), Step("drift", begin, until)]
    return steps


def _quality_steps(config: Config, start: int, end: int) -> list[Step]:
    """Whole quality windows that end in (start, end]; the first may be scored only in part."""
    edges = window_grid.edges(config.quality.window, config.schedule.timezone, start, end)
    return [Step("quality", begin, until) for begin, until in pairwise(edges) if start < until <= end]


def stored_span(store: Store) -> tuple[int, int]:
    """
    The event times of the oldest and the newest transaction.

    Raises
    ------
    NotReady
        No transaction is stored.
    """
    span = history.span(store)
    if span is None:
        raise NotReady("no transactions are stored yet", remedy="ingest transactions", code="no_transactions")
    return span


def _policy_start(store: Store, config: Config, policy: str) -> int:
    stored = scoring_queue.starts_at(store, policy)
    if stored is not None:
        return stored
    _, newest = stored_span(store)
    schedule_config = config.schedule
    instant = window_grid.floor(schedule_config.window, schedule_config.timezone, newest)
    scoring_queue.set_starts_at(store, policy, instant)
    return instant


def _grid_in_force(store: Store, config: Config, policy: str, frontier: int, now: int) -> StoredSchedule:
    configured = grid_of(config)
    if schedule_history.in_force(store, policy) != configured:
        schedule_history.store_schedule(store, policy, configured, frontier, now)
    return configured
