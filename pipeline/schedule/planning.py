"""
What is due: the schedule's steps become rows of the ledger, and open rows become the work of a run.

Steps are planned from a stored frontier on, so planning costs the time that has passed since the last run, not
the age of the monitor. A change of `schedule.window`, `schedule.timezone` or `training.every` rules from that
frontier on; what was planned before it stays as it was, so windows never overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.schedule import grid as schedule
from pipeline.schedule.run_context import LIVE, Step, pending
from storage.database.database import Store
from storage.ingest import history
from storage.runs import ledger, schedule_history, scoring_queue
from storage.runs.ledger import Entry
from storage.runs.schedule_history import Grid


@dataclass(frozen=True)
class Work:
    """Open entries that a run takes on, each in the order it is done, and what it leaves for later."""

    trainings: Sequence[Entry]
    windows: Sequence[Entry]
    drifts: Sequence[Entry]
    qualities: Sequence[Entry]
    prunes: Sequence[Entry]
    left: int  # windows that wait for the next tick, so that catching up never starves the present

    def __len__(self) -> int:
        steps = (self.trainings, self.windows, self.drifts, self.qualities, self.prunes)
        return sum(len(entries) for entries in steps)


def grid_of(config: Config) -> Grid:
    """The grid that the configuration asks for."""
    return Grid(config.schedule.window, config.training.every, config.schedule.timezone)


def plan(store: Store, config: Config, policy: str, as_of: int) -> int:
    """
    Give every step that has become due by `as_of` a row in the ledger; returns where the policy's work begins.

    The first plan of a database decides that: the start of the newest stored transaction's window. What is
    older is history; a backfill scores it.

    Raises
    ------
    NotReady
        No transaction is stored yet.
    """
    starts_at = _started(store, config, policy)
    frontier = schedule_history.planned_until(store, policy)
    grid = _grid_in_force(store, config, policy, starts_at if frontier is None else frontier, as_of)
    begin = starts_at if frontier is None else frontier
    end = schedule.floor(grid.window, grid.timezone, as_of - config.schedule.allowed_lateness)
    if end > begin:
        first = _training_for(store, grid, begin) if frontier is None else None
        steps = [*_steps(grid, begin, end, first), *_quality_steps(config, begin, end)]
        if policy != LIVE:
            steps = [step for step in steps if step.kind != "prune"]  # what is old is live's to delete
        lateness = config.schedule.allowed_lateness
        ledger.plan(store, policy, [pending(policy, step, lateness) for step in steps], end)
    return starts_at


def open_work(store: Store, policy: str, starts_at: int, as_of: int, catch_up: int | None) -> Work:
    """
    The schedule's open entries that may be worked on at `as_of`.

    Windows behind a training that is still to be tried wait for it. With more than `catch_up` windows open, the
    newest is done first and then the oldest, so many in all; None takes them all, oldest first. Entries before
    `starts_at` belong to a backfill that was interrupted, which is there to be repeated.
    """
    unfinished = ledger.unfinished(store, policy)
    before = [e.window_end for e in unfinished if e.kind == "train" and e.window_end < starts_at]
    first = max(before, default=starts_at)  # the training that the first windows need
    mine = [
        e for e in unfinished if e.window_end >= starts_at or (e.kind == "train" and e.window_end >= first)
    ]
    ready = [entry for entry in mine if entry.not_before is None or entry.not_before <= as_of]
    trainings = [entry for entry in ready if entry.kind == "train"]
    blocked = [entry.window_end for entry in mine if entry.kind == "train" and entry not in ready]
    windows = [
        entry
        for entry in ready
        if entry.kind == "score" and entry.window_end <= min(blocked, default=entry.window_end)
    ]
    chosen = _throttled(windows, catch_up)
    waiting = {e.key[1:] for e in mine if e.kind == "score"} - {e.key[1:] for e in chosen}
    drifts = [entry for entry in ready if entry.kind == "drift" and entry.key[1:] not in waiting]
    caught_up = min((start for start, _ in waiting), default=as_of)
    qualities = [entry for entry in ready if entry.kind == "quality" and entry.window_end <= caught_up]
    prunes = [entry for entry in ready if entry.kind == "prune"]
    return Work(trainings, chosen, drifts, qualities, prunes, len(windows) - len(chosen))


def windows_not_done(store: Store, policy: str) -> list[tuple[int, int]]:
    """Windows still to be scored or failed for good: what is queued for them is not late."""
    return [(e.window_start, e.window_end) for e in ledger.not_done(store, policy, "score")]


def backfill_steps(store: Store, config: Config, policy: str, start: int, end: int) -> list[Step]:
    """
    The trainings and windows of [start, end): windows the ledger has stay as they are, the rest is cut by the grid.

    Whether a model is promoted depends on the one in force, so trainings that lie between the policy's earlier ones
    and the span are made up for.
    """
    grid = grid_of(config)
    first = _training_for(store, grid, start)
    dates = [first, *schedule.dates_inside(grid.every, grid.timezone, start, end)]
    before = ledger.newest_done(store, policy, "train", before=first) if config.training.gate else None
    if before is not None:
        dates += schedule.dates_inside(grid.every, grid.timezone, before, first)
    there = [
        (e.window_start, e.window_end)
        for e in ledger.entries(store, policy, kind="score", since=start, until=end)
    ]
    windows = sorted({*there, *_filled(grid, there, start, end)})
    steps = [Step("train", date, date) for date in sorted(set(dates))]
    for begin, until in windows:
        steps += [Step("score", begin, until), Step("drift", begin, until)]
    return [*steps, *_quality_steps(config, start, end)]


def knows_more(store: Store, config: Config, date: int) -> bool:
    """
    Whether a training at `date` knows transactions that the one before it did not.

    Without any, its model would be fitted to what is left of the same rows: the model before it stays.
    """
    grid = grid_of(config)
    newest = history.newest_known(store, date)
    return newest is None or newest >= _floor(grid, date - 1)


def day(instant: int) -> str:
    """The UTC day of an instant, for people."""
    return str(np.datetime64(instant, "us").astype("datetime64[D]"))


def _filled(grid: Grid, there: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    found, at = [], start
    for begin, until in [*sorted(there), (end, end)]:
        if begin > at:
            found += schedule.windows(grid.window, grid.timezone, at, begin)
        at = max(at, until)
    return found


def _throttled(windows: Sequence[Entry], catch_up: int | None) -> list[Entry]:
    if catch_up is None or len(windows) <= catch_up:
        return list(windows)
    return [windows[-1], *windows[: catch_up - 1]]


def _training_for(store: Store, grid: Grid, instant: int) -> int:
    """The date of the training whose model scores from `instant` on: the last one that knew anything new."""
    date = _floor(grid, instant)
    newest = history.newest_known(store, date)
    if newest is None:
        return date
    return min(date, schedule.following(grid.every, grid.timezone, _floor(grid, newest)))


def _floor(grid: Grid, instant: int) -> int:
    return schedule.floor(grid.every, grid.timezone, instant)


def _steps(grid: Grid, start: int, end: int, first: int | None) -> list[Step]:
    dates = [date for date in schedule.edges(grid.every, grid.timezone, start, end) if start < date <= end]
    prunes = [Step("prune", date, date) for date in dates]
    if first is not None:
        dates.insert(0, first)
    steps = [*(Step("train", date, date) for date in dates), *prunes]
    for begin, until in schedule.windows(grid.window, grid.timezone, start, end):
        steps += [Step("score", begin, until), Step("drift", begin, until)]
    return steps


def _quality_steps(config: Config, start: int, end: int) -> list[Step]:
    """Whole windows of quality that end in (start, end], however little of the first is scored."""
    edges = schedule.edges(config.quality.window, config.schedule.timezone, start, end)
    return [Step("quality", begin, until) for begin, until in pairwise(edges) if start < until <= end]


def _started(store: Store, config: Config, policy: str) -> int:
    decided = scoring_queue.starts_at(store, policy)
    if decided is not None:
        return decided
    span = history.span(store)
    if span is None:
        raise NotReady("no transactions are stored yet: start with fraudwatch ingest transactions FILE")
    clock = config.schedule
    instant = schedule.floor(clock.window, clock.timezone, span[1])
    scoring_queue.set_starts_at(store, policy, instant)
    return instant


def _grid_in_force(store: Store, config: Config, policy: str, frontier: int, now: int) -> Grid:
    wanted = grid_of(config)
    if schedule_history.in_force(store, policy) != wanted:
        schedule_history.change(store, policy, wanted, frontier, now)
    return wanted
