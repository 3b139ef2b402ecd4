"""
What is known of earlier transactions at the instant a later one happens.

A transaction's label is a history of its own: nothing, then a first label, then perhaps corrections. Each
stretch of time in which one answer holds is a *spell*; a spell counts for the later rows of the same entity
from one position of the timeline up to another. How many spells hold at each row is then a sum of +1 at every
start and −1 at every end, whatever the number of labels, their delays or corrections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.features.entity_windows import Asked, Order, Timeline
from pipeline.features.late_arrivals import Hidden
from storage.frames import FOREVER, NEVER, Completeness, Ints, Labels, Transactions

Bools = NDArray[np.bool_]
Status = NDArray[np.int8]
Counts = NDArray[np.int32]

FRAUD, GENUINE, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class LabelEvents:
    """Instants at which what is known of a transaction changed, in the order (position, at)."""

    position: Ints  # (k,) in the transactions
    at: Ints  # (k,) µs: the first instant that may use it
    status: Status  # (k,) FRAUD or GENUINE from then on

    def between(self, start: int, end: int) -> "LabelEvents":
        """The events of these positions, which then count from `start`."""
        first, last = np.searchsorted(self.position, [start, end])
        return LabelEvents(self.position[first:last] - start, self.at[first:last], self.status[first:last])


def label_events(transactions: Transactions, labels: Labels, precedence: Sequence[str]) -> LabelEvents:
    """
    Follow each transaction's current label through time.

    Among the labels available at an instant the one of the first source in `precedence` holds, sources
    not listed coming last and counting as one; within a source the newest, that is the one known last and,
    at the same instant, recorded last. Labels of other transactions are left out.
    """
    position = positions(transactions, labels)
    order = np.lexsort((labels.label_id, labels.available_at, position))
    order = order[np.searchsorted(position[order], 0) :]
    # Later transactions get higher numbers, so the running maximum starts afresh with each of them.
    preference = _preference(labels, precedence)[order] + position[order] * len(labels)
    holds = preference == np.maximum.accumulate(preference)
    holding = np.maximum.accumulate(np.where(holds, np.arange(len(order)), 0))
    status = labels.is_fraud[order][holding].astype(np.int8)
    return _changes(LabelEvents(position[order], labels.available_at[order], status))


def status_at(transactions: Transactions, events: LabelEvents, instant: int) -> Status:
    """What labels said of each transaction at an instant, (n,): FRAUD, GENUINE or, without any, UNKNOWN."""
    known = events.at <= instant
    position, status = events.position[known], events.status[known]
    last = np.append(position[1:] != position[:-1], True)[: len(position)]
    found = np.full(len(transactions), UNKNOWN, dtype=np.int8)
    found[position[last]] = status[last]
    return found


def known_since(transactions: Transactions, events: LabelEvents, instant: int) -> Ints:
    """Since when labels have said what they say at an instant, (n,) µs; `NEVER` where they say nothing."""
    known = events.at <= instant
    found = np.full(len(transactions), NEVER, dtype=np.int64)
    np.maximum.at(found, events.position[known], events.at[known])
    return found


@dataclass(frozen=True)
class Knowledge:
    """Labels and silence along a timeline; `silent_from` and `silence_ok` speak of its rows, (n,)."""

    timeline: Timeline
    maturity: int  # µs
    frauds: "Spells"  # known to be fraud
    labelled: "Spells"  # known to be anything
    silence_ok: Bools
    silent_from: Ints  # position from which on silence means genuine
    silent_through: Ints  # (q,) position before which silence means genuine to an asked row

    @classmethod
    def of(
        cls,
        timeline: Timeline,
        events: LabelEvents,
        maturity: int,
        completeness: Completeness,
        silence_ok: Bools,
    ) -> "Knowledge":
        """What is known along the timeline; positions of `events` count from its start."""
        time = timeline.event_time
        complete = completeness.at(time)
        through = np.searchsorted(time, complete[timeline.rows] - maturity, side="right")
        first = np.append(True, events.position[1:] != events.position[:-1])[: len(events.position)]
        until = np.append(np.where(first[1:], FOREVER, events.at[1:]), FOREVER)[: len(events.at)]
        return cls(
            timeline=timeline,
            maturity=maturity,
            frauds=Spells.of(events, until, events.status == FRAUD),
            labelled=Spells.of(events, np.full(len(until), FOREVER), first),
            silence_ok=silence_ok,
            silent_from=np.searchsorted(complete, time + maturity),
            silent_through=np.minimum(through, timeline.rows),
        )


@dataclass(frozen=True)
class Spells:
    """Stretches of time in which something is known of a transaction."""

    position: Ints  # (k,) of the transaction
    start: Ints  # (k,) µs
    end: Ints  # (k,) µs, exclusive

    @classmethod
    def of(cls, events: LabelEvents, until: Ints, chosen: Bools) -> "Spells":
        """Spells from these events on."""
        return cls(events.position[chosen], events.at[chosen], until[chosen])

    def counted(self, timeline: Timeline, shift: int, window: int) -> "Intervals":
        """Positions of later rows t that count a spell over (t − shift − window, t − shift]."""
        time = timeline.event_time
        happened = time[self.position]
        since = np.searchsorted(time, np.maximum(self.start, happened + shift))
        until = np.searchsorted(time, np.minimum(self.end, happened + shift + window))
        start = np.maximum(since, self.position + 1)
        return Intervals(self.position, start, np.maximum(start, until))


@dataclass(frozen=True)
class Intervals:
    """Positions [start, end) of the rows that count the row at `position`, if they have its entity."""

    position: Ints  # (k,)
    start: Ints  # (k,)
    end: Ints  # (k,)

    def counts(self, order: Order) -> Counts:
        """How many intervals each asked row of the order lies in, of rows of its entity it may see, (k,)."""
        codes = order.codes[self.position]
        kept = (codes >= 0) & (self.start < self.end)
        starts = order.key(codes[kept], self.start[kept])
        ends = order.key(codes[kept], self.end[kept])
        counts = _held(order, starts, ends)
        if order.timeline.hideable is not None:
            visible_from = order.timeline.ingested_at[self.position[kept]]
            may_hide = visible_from > _earliest_as_of(order.timeline)[self.start[kept]]
            if may_hide.any():
                counts -= _unseen(order, starts[may_hide], ends[may_hide], visible_from[may_hide])
        return counts


class KnownCounts:
    """Known frauds and known transactions among an entity's past."""

    def __init__(self, order: Order, knowledge: Knowledge, windows: Sequence[int]) -> None:
        line, shift = knowledge.timeline, knowledge.maturity
        self._order = order
        self._knowledge = knowledge
        frauds, labelled = knowledge.frauds, knowledge.labelled
        self.recent = [frauds.counted(line, 0, window).counts(order) for window in windows]
        self.frauds = [frauds.counted(line, shift, window).counts(order) for window in windows]
        unspoken = [_until_silent(labelled.counted(line, shift, window), knowledge) for window in windows]
        self._labelled = [intervals.counts(order) for intervals in unspoken]
        self._silent = order.sums_of(knowledge.silence_ok.astype(np.int64))
        self._hidden: Hidden | None = order.hidden(knowledge.silence_ok.astype(np.int64))

    def known(self, asked: Asked, first: Ints, end: Ints, window: int) -> Ints:
        """
        Transactions of a window's index with a label or telling silence.

        `first` and `end` are the places in the order between which silence means genuine.
        """
        end = np.maximum(first, end)
        silent = self._silent[end] - self._silent[first]
        if self._hidden is not None:
            places = self._order.among_hideable(first), self._order.among_hideable(end)
            silent = silent - self._hidden.sums(*places, asked.as_of)[:, 1]
        return silent + self._labelled[window][asked.span]


def positions(transactions: Transactions, labels: Labels) -> Ints:
    """Position of each label's transaction, −1 where it is not among them."""
    import pandas as pd

    if not len(labels) or not len(transactions):
        return np.full(len(labels), -1, dtype=np.int64)
    found = pd.Index(transactions.transaction_id).get_indexer(pd.Index(labels.transaction_id))
    return found.astype(np.int64)


def _preference(labels: Labels, precedence: Sequence[str]) -> Ints:
    """A number for each label, all different: of two labels of a transaction the one with the higher holds."""
    ranks = {source: rank for rank, source in reversed(list(enumerate(precedence)))}
    of_value = [ranks.get(str(value), len(precedence)) for value in labels.source.values]
    rank = np.array([*of_value, len(precedence)], dtype=np.int64)[labels.source.codes]
    preference = np.empty(len(labels), dtype=np.int64)
    preference[np.lexsort((labels.label_id, labels.known_at, -rank))] = np.arange(len(labels))
    return preference


def _changes(every: LabelEvents) -> LabelEvents:
    """Of the events at one instant the last, and of those only the ones that changed the status."""
    if not len(every.at):
        return every
    later = np.append((every.position[1:] != every.position[:-1]) | (every.at[1:] != every.at[:-1]), True)
    position, at, status = every.position[later], every.at[later], every.status[later]
    changed = np.append(True, (position[1:] != position[:-1]) | (status[1:] != status[:-1]))
    return LabelEvents(position[changed], at[changed], status[changed])


def _until_silent(intervals: Intervals, knowledge: Knowledge) -> Intervals:
    """Once silence would mean genuine, a labelled row is counted among the silent ones already."""
    silent = np.where(
        knowledge.silence_ok[intervals.position],
        knowledge.silent_from[intervals.position],
        len(knowledge.timeline),
    )
    end = np.maximum(intervals.start, np.minimum(intervals.end, silent))
    return Intervals(intervals.position, intervals.start, end)


def _held(order: Order, starts: Ints, ends: Ints) -> Counts:
    """Running balance of starts and ends over the asked rows; it returns to 0 at the end of each entity."""
    rows = order.asked_keys
    balance = np.zeros(len(rows) + 1, dtype=np.int64)
    np.add.at(balance, np.searchsorted(rows, np.sort(starts)), 1)
    np.subtract.at(balance, np.searchsorted(rows, np.sort(ends)), 1)
    return np.cumsum(balance[:-1], dtype=np.int32)


def _unseen(order: Order, starts: Ints, ends: Ints, visible_from: Ints) -> Counts:
    """How many intervals each asked row lies in, of rows that it may not see."""
    opened, closed = _HiddenKeys(starts, visible_from), _HiddenKeys(ends, visible_from)
    parts = [opened.up_to(asked) - closed.up_to(asked) for asked in order.chunks()]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int32)


class _HiddenKeys:
    """Keys of rows that some may not see."""

    def __init__(self, keys: Ints, visible_from: Ints) -> None:
        by_key = np.argsort(keys, kind="stable")
        self._keys = keys[by_key]
        self._hidden = Hidden(visible_from[by_key], np.ones((len(keys), 1), dtype=np.int64))

    def up_to(self, asked: Asked) -> Ints:
        """How many keys of its entity up to its own each asked row may not see."""
        first = np.searchsorted(self._keys, asked.entity_key)
        end = np.searchsorted(self._keys, asked.entity_key + asked.position, side="right")
        return self._hidden.sums(first, end, asked.as_of)[:, 0]


def _earliest_as_of(timeline: Timeline) -> Ints:
    """(n + 1,) the earliest `as_of` of the asked rows from each position on."""
    earliest = np.full(len(timeline) + 1, FOREVER)
    earliest[timeline.rows] = timeline.as_of
    return np.minimum.accumulate(earliest[::-1])[::-1]
