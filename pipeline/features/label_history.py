"""
Point-in-time label state of past transactions.

A transaction's label changes over time: none at first, then a first label, then perhaps corrections. Each interval
in which one status holds counts for later rows of the same entity, from one position of the timeline up to another.
The number of intervals that cover a row is then a sum of +1 at every start and −1 at every end, whatever the number
of labels, their delays or corrections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.features.entity_windows import EntityIndex, EventTimeline, QueryRows
from pipeline.features.late_arrivals import LateArrivals
from storage.frames import (
    FOREVER,
    FRAUD,
    GENUINE,
    NEITHER,
    NEVER,
    REVIEWERS,
    UNKNOWN,
    Completeness,
    Ints,
    Labels,
    Transactions,
)

Bools = NDArray[np.bool_]
Status = NDArray[np.int8]
Counts = NDArray[np.int32]


@dataclass(frozen=True)
class LabelEvents:
    """Changes of the label status of transactions, in the order (position, at); at first each is UNKNOWN."""

    position: Ints  # (k,) in the transactions
    at: Ints  # (k,) µs, the first instant that may use the status
    status: Status  # (k,) from that instant on: FRAUD, GENUINE, NEITHER, or UNKNOWN after a retraction

    def between(self, start: int, end: int) -> "LabelEvents":
        """The events of the positions [start, end), renumbered from `start`."""
        first, last = np.searchsorted(self.position, [start, end])
        return LabelEvents(self.position[first:last] - start, self.at[first:last], self.status[first:last])


NO_EVENTS = LabelEvents(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))


def label_events(
    transactions: Transactions, labels: Labels, precedence: Sequence[str], position: Ints | None = None
) -> LabelEvents:
    """
    Each transaction's label status through time.

    Of the labels available at an instant these do not count: those that another one has retracted, and those of a
    reviewer that say genuine, if a label of another source says fraud and became known later. Of the others the one of
    the first source in `precedence` holds; sources that are not listed come last and count as one. Within a source the
    newest label holds: the one known last and, at the same instant, recorded last. Labels of other transactions are
    left out. `storage.database.views` has the same rules in SQL.

    Parameters
    ----------
    position
        Of each label's transaction, −1 if it is not among them; looked up by its id if it is None.
    """
    if position is None:
        position = transaction_positions(transactions, labels)
    stored = position >= 0
    if not stored.any():
        return NO_EVENTS
    if not stored.all():
        labels, position = labels.take(stored), position[stored]
    preference = _preference(labels, precedence)
    conflicting = _conflicting(labels, position)
    events = _without_conflicts(labels, position, preference, np.flatnonzero(~conflicting))
    if conflicting.any():
        others = _with_conflicts(labels, position, preference, np.flatnonzero(conflicting))
        events = _joined(events, others)
    return _changes(events)


def status_at(transactions: Transactions, events: LabelEvents, instant: int) -> Status:
    """Label status of each transaction at an instant, (n,): FRAUD, GENUINE, NEITHER, or UNKNOWN without a label."""
    known = events.at <= instant
    position, status = events.position[known], events.status[known]
    last = np.append(position[1:] != position[:-1], True)[: len(position)]
    statuses = np.full(len(transactions), UNKNOWN, dtype=np.int8)
    statuses[position[last]] = status[last]
    return statuses


def has_known_status(status: Status, silence: Bools) -> Bools:
    """
    Which transactions count as fraud or genuine, once they are old enough: by a label, or by silence.

    `silence` says where silence may mean genuine. It never does where a label says that a dispute is about something else.
    """
    known: Bools = (status >= GENUINE) | ((status == UNKNOWN) & silence)
    return known


def known_since(transactions: Transactions, events: LabelEvents, instant: int) -> Ints:
    """Since when each transaction has had the label status it has at an instant, (n,) µs; `NEVER` if it never had a label."""
    known = events.at <= instant
    since = np.full(len(transactions), NEVER, dtype=np.int64)
    np.maximum.at(since, events.position[known], events.at[known])
    return since


@dataclass(frozen=True)
class LabelState:
    """Labels and silence (no label) along a timeline of n rows and q query rows."""

    timeline: EventTimeline
    maturity: int  # µs
    frauds: "LabelIntervals"  # in which a transaction is known to be fraud
    known_status: "LabelIntervals"  # in which its label says fraud or genuine
    neither: "LabelIntervals"  # in which its label says neither, so that silence does not mean genuine
    silence_ok: Bools  # (n,) False where silence never means genuine
    silent_from: Ints  # (n,) position from which on silence means genuine
    silent_through: Ints  # (q,) position before which silence means genuine to a query row

    @classmethod
    def of(
        cls,
        timeline: EventTimeline,
        events: LabelEvents,
        maturity: int,
        completeness: Completeness,
        silence_ok: Bools,
    ) -> "LabelState":
        """The label state along the timeline; positions of `events` count from its start."""
        time = timeline.event_time
        complete = completeness.at(time)
        through = np.searchsorted(time, complete[timeline.rows] - maturity, side="right")
        return cls(
            timeline=timeline,
            maturity=maturity,
            frauds=LabelIntervals.of(events, FRAUD),
            known_status=LabelIntervals.of(events, FRAUD, GENUINE),
            neither=LabelIntervals.of(events, NEITHER),
            silence_ok=silence_ok,
            silent_from=np.searchsorted(complete, time + maturity),
            silent_through=np.minimum(through, timeline.rows),
        )


@dataclass(frozen=True)
class LabelIntervals:
    """Time intervals in which a transaction has one of some label statuses."""

    position: Ints  # (k,) of the transaction
    start: Ints  # (k,) µs
    end: Ints  # (k,) µs, exclusive

    @classmethod
    def of(cls, events: LabelEvents, *statuses: int) -> "LabelIntervals":
        """The longest intervals with one of these statuses."""
        if not len(events.at):
            return cls(events.position, events.at, events.at)
        among = np.where(np.isin(events.status, statuses), GENUINE, UNKNOWN).astype(np.int8)
        turns = _changes(LabelEvents(events.position, events.at, among))
        following = np.append(turns.position[1:] == turns.position[:-1], False)[: len(turns.at)]
        until = np.where(following, np.append(turns.at[1:], FOREVER)[: len(turns.at)], FOREVER)
        begins = turns.status == GENUINE
        return cls(turns.position[begins], turns.at[begins], until[begins])

    def counting_ranges(self, timeline: EventTimeline, shift: int, window: int) -> "CountingRange":
        """Positions of later rows t that count an interval over (t − shift − window, t − shift]."""
        if not len(self.position):
            return CountingRange(self.position, self.position, self.position)
        time = timeline.event_time
        happened = time[self.position]
        since = np.searchsorted(time, np.maximum(self.start, happened + shift))
        until = np.searchsorted(time, np.minimum(self.end, happened + shift + window))
        start = np.maximum(since, self.position + 1)
        return CountingRange(self.position, start, np.maximum(start, until))


@dataclass(frozen=True)
class CountingRange:
    """Positions [start, end) of the rows that count the row at `position`, if they have its entity."""

    position: Ints  # (k,)
    start: Ints  # (k,)
    end: Ints  # (k,)

    def counts(self, index: EntityIndex) -> Counts:
        """How many ranges cover each query row of the index, of visible rows of its entity, (k,)."""
        if not len(self.position):
            return np.zeros(len(index.query_places), dtype=np.int32)
        codes = index.codes[self.position]
        nonempty = (codes >= 0) & (self.start < self.end)
        starts = index.key(codes[nonempty], self.start[nonempty])
        ends = index.key(codes[nonempty], self.end[nonempty])
        counts = _count_covering(index, starts, ends)
        if index.timeline.late is not None:
            visible_from = index.timeline.ingested_at[self.position[nonempty]]
            may_be_late = visible_from > _earliest_as_of(index.timeline)[self.start[nonempty]]
            if may_be_late.any():
                counts -= _count_not_visible(
                    index, starts[may_be_late], ends[may_be_late], visible_from[may_be_late]
                )
        return counts


class LabelCounts:
    """Counts of known frauds and of transactions with a known status in an entity's past."""

    def __init__(self, index: EntityIndex, state: LabelState, windows: Sequence[int]) -> None:
        timeline, shift = state.timeline, state.maturity
        self._index = index
        frauds = state.frauds
        self.known_frauds = [frauds.counting_ranges(timeline, 0, window).counts(index) for window in windows]
        self.matured_frauds = [
            frauds.counting_ranges(timeline, shift, window).counts(index) for window in windows
        ]
        until_silence = [
            _until_silence(state.known_status.counting_ranges(timeline, shift, window), state)
            for window in windows
        ]
        self._labelled = [ranges.counts(index) for ranges in until_silence]
        if len(state.neither.position):  # these are counted among the silent ones, too
            for place, window in enumerate(windows):
                ranges = _from_silence(state.neither.counting_ranges(timeline, shift, window), state)
                self._labelled[place] -= ranges.counts(index)
        self._silent = index.cumulative_sums(state.silence_ok.astype(np.int64))
        self._late: LateArrivals | None = index.late_arrivals(state.silence_ok.astype(np.int64))

    def with_known_status(self, queries: QueryRows, first: Ints, end: Ints, window: int) -> Ints:
        """
        Transactions of a window with a label fraud or genuine, or silence that means genuine.

        `first` and `end` are the places in the index between which silence means genuine.
        """
        end = np.maximum(first, end)
        silent = self._silent[end] - self._silent[first]
        if self._late is not None:
            places = self._index.count_late_before(first), self._index.count_late_before(end)
            silent = silent - self._late.sums(*places, queries.as_of)[:, 1]
        return silent + self._labelled[window][queries.span]


def transaction_positions(transactions: Transactions, labels: Labels) -> Ints:
    """Position of each label's transaction, −1 if it is not among them."""
    import pandas as pd

    if not len(labels) or not len(transactions):
        return np.full(len(labels), -1, dtype=np.int64)
    indices = pd.Index(transactions.transaction_id).get_indexer(pd.Index(labels.transaction_id))
    return indices.astype(np.int64)


def _conflicting(labels: Labels, position: Ints) -> Bools:
    """Which labels are of a transaction with a retraction, or with a later fraud that contradicts a reviewer, (m,)."""
    conflicting = np.zeros(position.max(initial=-1) + 1, dtype=bool)
    conflicting[position[labels.retracts >= 0]] = True
    reviewer = _is_reviewer(labels)
    fraud, genuine = labels.is_fraud & ~reviewer, (labels.status == GENUINE) & reviewer
    fraud_known_at = np.full(len(conflicting), NEVER)
    np.maximum.at(fraud_known_at, position[fraud], labels.known_at[fraud])
    conflicting[position[genuine & (labels.known_at < fraud_known_at[position])]] = True
    return conflicting[position]


def _is_reviewer(labels: Labels) -> Bools:
    return np.append(np.isin(labels.source.values.astype(str), REVIEWERS), False)[labels.source.codes]


def _without_conflicts(labels: Labels, position: Ints, preference: Ints, rows: Ints) -> LabelEvents:
    """One event for each of these labels, with the status that holds from then on."""
    order = rows[np.lexsort((labels.label_id[rows], labels.available_at[rows], position[rows]))]
    # Later transactions get higher numbers, so the running maximum restarts with each transaction.
    ranked = preference[order] + position[order] * len(labels)
    holds = ranked == np.maximum.accumulate(ranked)
    holding = np.maximum.accumulate(np.where(holds, np.arange(len(order)), 0))
    return LabelEvents(position[order], labels.available_at[order], labels.status[order][holding])


class _LabelRow(NamedTuple):
    preference: int
    status: int
    is_reviewer: bool
    known_at: int
    label_id: int
    retracts: int


def _with_conflicts(labels: Labels, position: Ints, preference: Ints, rows: Ints) -> LabelEvents:
    """The same, by the rules as they are written; there are few such transactions."""
    columns = (
        preference,
        labels.status,
        _is_reviewer(labels),
        labels.known_at,
        labels.label_id,
        labels.retracts,
    )
    by_position: dict[int, list[tuple[int, _LabelRow]]] = {}
    for place, at, *values in zip(
        *(column[rows].tolist() for column in (position, labels.available_at, *columns)), strict=True
    ):
        by_position.setdefault(place, []).append((at, _LabelRow(*values)))
    events = [
        (place, instant, _status_among([row for at, row in dated if at <= instant]))
        for place, dated in by_position.items()
        for instant in sorted({at for at, _ in dated})
    ]
    places, instants, statuses = np.array(events, dtype=np.int64).reshape(-1, 3).T
    return LabelEvents(places, instants, statuses.astype(np.int8))


def _status_among(rows: Sequence[_LabelRow]) -> int:
    retracted = {row.retracts for row in rows}
    left = [row for row in rows if row.retracts < 0 and row.label_id not in retracted]
    reported = [row.known_at for row in left if row.status == FRAUD and not row.is_reviewer]
    overruled = max(reported, default=NEVER)  # a reviewer's "genuine" from before
    counting = [
        row for row in left if not (row.is_reviewer and row.status == GENUINE and row.known_at < overruled)
    ]
    return max(counting, key=attrgetter("preference")).status if counting else UNKNOWN


def _preference(labels: Labels, precedence: Sequence[str]) -> Ints:
    """A distinct number for each label: of two labels of a transaction the one with the higher number holds."""
    ranks = {source: rank for rank, source in reversed(list(enumerate(precedence)))}
    of_value = [ranks.get(str(value), len(precedence)) for value in labels.source.values]
    rank = np.array([*of_value, len(precedence)], dtype=np.int64)[labels.source.codes]
    preference = np.empty(len(labels), dtype=np.int64)
    preference[np.lexsort((labels.label_id, labels.known_at, -rank))] = np.arange(len(labels))
    return preference


def _joined(some: LabelEvents, others: LabelEvents) -> LabelEvents:
    position, at = np.append(some.position, others.position), np.append(some.at, others.at)
    order = np.lexsort((at, position))
    return LabelEvents(position[order], at[order], np.append(some.status, others.status)[order])


def _changes(events: LabelEvents) -> LabelEvents:
    """Keep the last event of each instant, and of those only the ones that changed the status."""
    if not len(events.at):
        return events
    later = np.append((events.position[1:] != events.position[:-1]) | (events.at[1:] != events.at[:-1]), True)
    position, at, status = events.position[later], events.at[later], events.status[later]
    same = np.append(False, position[1:] == position[:-1])
    changed = status != np.where(same, np.append(UNKNOWN, status[:-1]), UNKNOWN)
    return LabelEvents(position[changed], at[changed], status[changed])


def _until_silence(ranges: CountingRange, state: LabelState) -> CountingRange:
    """End each range where silence means genuine: from there the row is counted among the silent ones."""
    if not len(ranges.position):
        return ranges
    end = np.minimum(ranges.end, _silent_from(ranges, state))
    return CountingRange(ranges.position, ranges.start, np.maximum(ranges.start, end))


def _from_silence(ranges: CountingRange, state: LabelState) -> CountingRange:
    """The rest of each range: where silence would mean genuine."""
    start = np.maximum(ranges.start, _silent_from(ranges, state))
    return CountingRange(ranges.position, start, np.maximum(start, ranges.end))


def _silent_from(ranges: CountingRange, state: LabelState) -> Ints:
    return np.where(
        state.silence_ok[ranges.position], state.silent_from[ranges.position], len(state.timeline)
    )


def _count_covering(index: EntityIndex, starts: Ints, ends: Ints) -> Counts:
    """Running balance of starts and ends over the query rows; it returns to 0 at the end of each entity."""
    rows = index.query_keys
    balance = np.zeros(len(rows) + 1, dtype=np.int64)
    np.add.at(balance, np.searchsorted(rows, np.sort(starts)), 1)
    np.subtract.at(balance, np.searchsorted(rows, np.sort(ends)), 1)
    return np.cumsum(balance[:-1], dtype=np.int32)


def _count_not_visible(index: EntityIndex, starts: Ints, ends: Ints, visible_from: Ints) -> Counts:
    """How many ranges cover each query row, of rows that were not visible to it."""
    opened, closed = _LateKeys(starts, visible_from), _LateKeys(ends, visible_from)
    parts = [opened.up_to(queries) - closed.up_to(queries) for queries in index.chunks()]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int32)


class _LateKeys:
    """Keys of rows that arrived too late for some query row."""

    def __init__(self, keys: Ints, visible_from: Ints) -> None:
        by_key = np.argsort(keys, kind="stable")
        self._keys = keys[by_key]
        self._late = LateArrivals(visible_from[by_key], np.ones((len(keys), 1), dtype=np.int64))

    def up_to(self, queries: QueryRows) -> Ints:
        """How many keys of its entity, up to its own, were not visible to each query row."""
        first = np.searchsorted(self._keys, queries.entity_key)
        end = np.searchsorted(self._keys, queries.entity_key + queries.position, side="right")
        return self._late.sums(first, end, queries.as_of)[:, 0]


def _earliest_as_of(timeline: EventTimeline) -> Ints:
    """(n + 1,) the earliest `as_of` of the query rows from each position on."""
    earliest = np.full(len(timeline) + 1, FOREVER)
    earliest[timeline.rows] = timeline.as_of
    return np.minimum.accumulate(earliest[::-1])[::-1]
