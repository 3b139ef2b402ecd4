"""
Window sums per entity, without a loop over entities or rows.

Time is the position in history, so that windows of all entities share one search in the sorted event times.
Rows are sorted by (entity, position), one int64 key a row; a window is then a slice of that order, and its sum
is a difference of two cumulative sums of int64, exact wherever history starts.

The window of t holds the rows h before t with event_time(h) > event_time(t) − w: it is open at its far end and
never contains t. Every earlier row is counted first; then rows that arrived too late for t are subtracted
(`pipeline.features.late_arrivals`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.features.late_arrivals import LateArrivals, out_of_order
from storage.frames import Coded, Codes, Ints, Transactions

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CHUNK = 16_384  # query rows computed at once: intermediate arrays fit the processor's cache
FEW = 20  # query rows: more are sooner computed with all entities in the index
KEY_BITS = 62


@dataclass(frozen=True)
class EventTimeline:
    """
    The part of history that the query rows may use; positions count from its start.

    Query rows are the rows whose features are computed.

    Attributes
    ----------
    rows
        (q,) positions of the query rows, ascending.
    as_of
        (q,) the instant up to which each query row may use what is known, µs.
    late
        (n,) rows that arrived too late for some query row, None if there are none.
    """

    event_time: Ints  # (n,)
    ingested_at: Ints  # (n,)
    rows: Ints
    as_of: Ints
    late: Bools | None

    @classmethod
    def of(cls, history: Transactions, rows: Ints, allowed_lateness: int) -> "EventTimeline":
        """The timeline of these query rows over this part of history."""
        event_time, ingested_at = history.event_time, history.ingested_at
        as_of = history.as_of(allowed_lateness)[rows]
        return cls(event_time, ingested_at, rows, as_of, out_of_order(ingested_at, rows, as_of))

    def __len__(self) -> int:
        return len(self.event_time)

    @cached_property
    def query_index(self) -> Ints:
        """(n,) number of the query row at each position; arbitrary at other positions."""
        index = np.zeros(len(self), dtype=np.int64)
        index[self.rows] = np.arange(len(self.rows))
        return index

    @cached_property
    def is_query(self) -> Bools:
        """(n,) whether each position is a query row."""
        is_query = np.zeros(len(self), dtype=bool)
        is_query[self.rows] = True
        return is_query

    def window_start(self, back: int) -> Ints:
        """(q,) first position with event_time > event_time(t) − back, for each query row t; at most t."""
        first = np.searchsorted(self.event_time, self.event_time[self.rows] - back, side="right")
        return np.minimum(first, self.rows)


@dataclass(frozen=True)
class QueryRows:
    """A chunk of query rows in the order (entity, position)."""

    span: slice  # of the index's query rows
    place: Ints  # of each in the index
    position: Ints  # in the timeline
    query_index: Ints  # among the timeline's query rows
    entity_key: Ints  # key of position 0 of its entity
    as_of: Ints


class EntityIndex:
    """
    The rows of a timeline that have an entity, sorted by (entity, position); of few query rows only those of their entities.

    Parameters
    ----------
    codes
        (n,) entity of each row, negative if missing.
    n_codes
        All codes are smaller than it.
    """

    def __init__(self, timeline: EventTimeline, codes: Ints | Codes, n_codes: int) -> None:
        self.timeline = timeline
        self.codes = codes
        self.bits = len(timeline).bit_length()
        if n_codes.bit_length() + self.bits > KEY_BITS:
            raise OverflowError(f"{n_codes} entities in {len(timeline)} rows need more than {KEY_BITS} bits")
        rows, are_of_one = _rows_of_entities(timeline, codes)
        keys = self.key(codes.take(rows), rows)
        self.keys = keys if are_of_one else np.sort(keys)  # (m,)
        self.position = self.keys & ((1 << self.bits) - 1)  # (m,)
        self.query_places = np.flatnonzero(timeline.is_query[self.position])  # (k,) query rows

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, codes: Ints | Codes, positions: Ints) -> Ints:
        """Sort key of rows: (entity, position) packed into one int64."""
        return (codes.astype(np.int64) << self.bits) | positions

    @cached_property
    def query_keys(self) -> Ints:
        """(k,) keys of the query rows."""
        return self.keys[self.query_places]

    def chunks(self) -> Iterator[QueryRows]:
        """Iterate over the query rows in chunks."""
        timeline = self.timeline
        for start in range(0, len(self.query_places), CHUNK):
            span = slice(start, min(start + CHUNK, len(self.query_places)))
            place = self.query_places[span]
            position = self.position[place]
            index = timeline.query_index[position]
            yield QueryRows(span, place, position, index, self.keys[place] - position, timeline.as_of[index])

    def count_before(self, queries: QueryRows, positions: Ints) -> Ints:
        """
        How many rows of the index come before a position of each query row's own entity.

        `positions` never decrease from one row to a later one of the same entity, so that the search covers only
        one short slice of the index.
        """
        keys = queries.entity_key + positions
        low = int(np.searchsorted(self.keys, keys[0]))
        high = int(np.searchsorted(self.keys, keys[-1], side="right"))
        return low + np.searchsorted(self.keys[low:high], keys)

    def cumulative_sums(self, values: Ints) -> Ints:
        """(m + 1,) cumulative sums of a value of each row of the timeline, in the order of the index."""
        sums = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(values.take(self.position), out=sums[1:])
        return sums

    # ── rows that arrived out of order ──

    @cached_property
    def late_places(self) -> Ints | None:
        """Places in the index of the rows that arrived too late for some query row."""
        if self.timeline.late is None:
            return None
        return np.flatnonzero(self.timeline.late[self.position])

    def late_arrivals(self, *values: Ints) -> LateArrivals | None:
        """The rows that arrived too late for some query row, with their values to sum; the first value is 1."""
        if self.late_places is None or not len(self.late_places):
            return None
        position = self.position[self.late_places]
        summed = np.column_stack([np.ones(len(position), np.int64), *(value[position] for value in values)])
        return LateArrivals(self.timeline.ingested_at[position], summed)

    def count_visible(self, queries: QueryRows, first: Ints, late: LateArrivals | None) -> Ints:
        """How many rows from the place `first` up to each query row were visible to it."""
        count = queries.place - first
        if late is None:
            return count
        places = self.count_late_before(first), self.count_late_before(queries.place)
        hidden: Ints = late.sums(*places, queries.as_of)[:, 0]
        return count - hidden

    def count_late_before(self, places: Ints) -> Ints:
        """How many late rows come before these places."""
        assert self.late_places is not None
        return np.searchsorted(self.late_places, places)

    def last_visible(self, queries: QueryRows, late: LateArrivals | None) -> Ints:
        """Place in the index of each query row's last visible earlier row of its entity, −1 if there is none."""
        before = np.maximum(queries.place - 1, 0)
        same_entity = (queries.place > 0) & (self.keys[before] >= queries.entity_key)
        last = np.where(same_entity, before, -1)
        if late is None:
            return last
        unsure = np.flatnonzero(
            same_entity & (self.timeline.ingested_at[self.position[before]] > queries.as_of)
        )
        last[unsure] = self._last_visible_before(queries, late, unsure)
        return last

    def _last_visible_before(self, queries: QueryRows, late: LateArrivals, unsure: Ints) -> Ints:
        """The newer of the last row that was on time for all queries and the last visible late row after it."""
        assert self.late_places is not None
        place = queries.place[unsure]
        on_time = self._last_on_time[place - 1]
        on_time = np.where((on_time >= 0) & (self.keys[on_time] >= queries.entity_key[unsure]), on_time, -1)
        begin = np.searchsorted(self.keys, queries.entity_key[unsure])
        first, end = self.count_late_before(np.maximum(on_time, begin)), self.count_late_before(place)
        last_late = late.last_visible(first, end, queries.as_of[unsure])
        return np.where(last_late >= 0, self.late_places[last_late], on_time)

    @cached_property
    def _last_on_time(self) -> Ints:
        """(m,) the last row up to each place, of any entity, that was on time for all queries; −1 if there is none."""
        places = np.arange(len(self))
        places[self.late_places] = -1
        return np.maximum.accumulate(places)


def _rows_of_entities(timeline: EventTimeline, codes: Ints | Codes) -> tuple[Ints, bool]:
    """The rows that have an entity, of a few query rows one of theirs; and whether that is a single one."""
    if len(timeline.rows) > FEW:
        return np.flatnonzero(codes >= 0), False
    asked = [code for code in set(codes[timeline.rows].tolist()) if code >= 0]
    if len(asked) == 1:
        return np.flatnonzero(codes == asked[0]), True
    return np.flatnonzero(np.isin(codes, asked)), False


def combined(first: Coded, second: Coded) -> tuple[Ints, int]:
    """Codes of pairs, −1 where either is missing, and a number larger than all of them."""
    width = len(second.values)
    codes = first.codes.astype(np.int64) * width + second.codes
    missing = (first.codes < 0) | (second.codes < 0)
    return np.where(missing, -1, codes), len(first.values) * width


def dense(codes: Ints) -> tuple[Ints, int]:
    """Renumber codes without gaps, and how many there are; −1 stays."""
    values, places = np.unique(codes, return_inverse=True)
    absent = int(np.searchsorted(values, 0))
    return np.maximum(places - absent, -1), len(values) - absent
