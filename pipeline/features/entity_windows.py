"""
Sums over each entity's recent past, without a loop over entities or rows.

Time is the position in history, so that windows of every entity share one search in the sorted event times.
Rows are put in the order (entity, position) by sorting one int64 a row; a window is then a stretch of that
order, and a sum over it a difference of two cumulative sums of int64, exact wherever history starts.

The window of t holds the rows h before t with event_time(h) > event_time(t) − w: open at its far end, and
never t itself. Every earlier row is counted first; what t must not see is subtracted (`pipeline.hidden`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.features.late_arrivals import Hidden, out_of_order
from storage.frames import Coded, Codes, Ints, Transactions

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CHUNK = 16_384  # asked rows worked on at once: what is in between stays in the processor's cache
KEY_BITS = 62


@dataclass(frozen=True)
class Timeline:
    """
    The stretch of history that the asked rows may look at; positions count from its start.

    Attributes
    ----------
    rows
        (q,) positions asked, ascending.
    as_of
        (q,) the instant whose knowledge each asked row may use, µs.
    hideable
        (n,) rows that some asked row must not see, None where there are none.
    """

    event_time: Ints  # (n,)
    ingested_at: Ints  # (n,)
    rows: Ints
    as_of: Ints
    hideable: Bools | None

    @classmethod
    def of(cls, rows_held: Transactions, rows: Ints, allowed_lateness: int) -> "Timeline":
        """The timeline of these asked rows over the rows held."""
        event_time, ingested_at = rows_held.event_time, rows_held.ingested_at
        as_of = np.maximum(event_time[rows] + allowed_lateness, ingested_at[rows])
        return cls(event_time, ingested_at, rows, as_of, out_of_order(ingested_at, rows, as_of))

    def __len__(self) -> int:
        return len(self.event_time)

    @cached_property
    def place(self) -> Ints:
        """(n,) which asked row a position is; arbitrary elsewhere."""
        place = np.zeros(len(self), dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))
        return place

    @cached_property
    def asked(self) -> Bools:
        """(n,) which positions are asked."""
        asked = np.zeros(len(self), dtype=bool)
        asked[self.rows] = True
        return asked

    def first_after(self, back: int) -> Ints:
        """(q,) first position with event_time > event_time(t) − back, for each asked row t; at most t."""
        first = np.searchsorted(self.event_time, self.event_time[self.rows] - back, side="right")
        return np.minimum(first, self.rows)


@dataclass(frozen=True)
class Asked:
    """A chunk of asked rows in the order (entity, position)."""

    span: slice  # of the order's asked rows
    own: Ints  # place of each in the order
    position: Ints  # in the timeline
    place: Ints  # among the timeline's asked rows
    entity_key: Ints  # key of position 0 of its entity
    as_of: Ints


class Order:
    """
    The rows of a timeline that have an entity, in the order (entity, position).

    Parameters
    ----------
    codes
        (n,) entity of each row, negative for missing.
    n_codes
        Codes are below it.
    """

    def __init__(self, timeline: Timeline, codes: Ints | Codes, n_codes: int) -> None:
        self.timeline = timeline
        self.codes = codes
        self.bits = len(timeline).bit_length()
        if n_codes.bit_length() + self.bits > KEY_BITS:
            raise OverflowError(f"{n_codes} entities in {len(timeline)} rows need more than {KEY_BITS} bits")
        self.keys = np.sort(self.key(codes, np.arange(len(timeline)))[codes >= 0])  # (m,)
        self.position = self.keys & ((1 << self.bits) - 1)  # (m,)
        self.own = np.flatnonzero(timeline.asked[self.position])  # (k,) asked rows

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, codes: Ints | Codes, positions: Ints) -> Ints:
        """What rows are sorted by."""
        return (codes.astype(np.int64) << self.bits) | positions

    @cached_property
    def asked_keys(self) -> Ints:
        """(k,) keys of the asked rows."""
        return self.keys[self.own]

    def chunks(self) -> Iterator[Asked]:
        """The asked rows, a chunk at a time."""
        line = self.timeline
        for start in range(0, len(self.own), CHUNK):
            span = slice(start, min(start + CHUNK, len(self.own)))
            own = self.own[span]
            position = self.position[own]
            place = line.place[position]
            yield Asked(span, own, position, place, self.keys[own] - position, line.as_of[place])

    def find(self, asked: Asked, positions: Ints) -> Ints:
        """
        How many rows of the order come before a position of each asked row's own entity.

        `positions` never decrease from one row to a later one of the same entity, so that all are found in
        one short stretch of the order.
        """
        keys = asked.entity_key + positions
        low = int(np.searchsorted(self.keys, keys[0]))
        high = int(np.searchsorted(self.keys, keys[-1], side="right"))
        return low + np.searchsorted(self.keys[low:high], keys)

    def sums_of(self, values: Ints) -> Ints:
        """(m + 1,) cumulative sums of a value of each row of the timeline, in this order."""
        sums = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(values[self.position], out=sums[1:])
        return sums

    # ── rows that arrived out of order ──

    @cached_property
    def hideable(self) -> Ints | None:
        """Places in the order of the rows some asked row must not see."""
        if self.timeline.hideable is None:
            return None
        return np.flatnonzero(self.timeline.hideable[self.position])

    def hidden(self, *values: Ints) -> Hidden | None:
        """The rows some asked row must not see, and what to sum of them; a 1 each comes first."""
        if self.hideable is None or not len(self.hideable):
            return None
        position = self.position[self.hideable]
        summed = np.column_stack([np.ones(len(position), np.int64), *(value[position] for value in values)])
        return Hidden(self.timeline.ingested_at[position], summed)

    def among_hideable(self, places: Ints) -> Ints:
        """How many of the rows that may be hidden come before these places."""
        assert self.hideable is not None
        return np.searchsorted(self.hideable, places)

    def last_visible(self, asked: Asked, hidden: Hidden | None) -> Ints:
        """Place in the order of each asked row's last visible earlier row of its entity, −1 where none."""
        before = np.maximum(asked.own - 1, 0)
        mine = (asked.own > 0) & (self.keys[before] >= asked.entity_key)
        last = np.where(mine, before, -1)
        if hidden is None:
            return last
        unsure = np.flatnonzero(mine & (self.timeline.ingested_at[self.position[before]] > asked.as_of))
        last[unsure] = self._step_back(asked, hidden, unsure)
        return last

    def _step_back(self, asked: Asked, hidden: Hidden, unsure: Ints) -> Ints:
        """The newest of the last row that hides from nobody and the last visible one of those after it."""
        assert self.hideable is not None
        own = asked.own[unsure]
        sure = self._last_sure[own - 1]
        sure = np.where((sure >= 0) & (self.keys[sure] >= asked.entity_key[unsure]), sure, -1)
        begin = np.searchsorted(self.keys, asked.entity_key[unsure])
        first, end = self.among_hideable(np.maximum(sure, begin)), self.among_hideable(own)
        found = hidden.last_visible(first, end, asked.as_of[unsure])
        return np.where(found >= 0, self.hideable[found], sure)

    @cached_property
    def _last_sure(self) -> Ints:
        """(m,) the last row up to each place that hides from nobody, of whatever entity; −1 where none."""
        places = np.arange(len(self))
        places[self.hideable] = -1
        return np.maximum.accumulate(places)


def combined(first: Coded, second: Coded) -> tuple[Ints, int]:
    """Codes of pairs and the number they are below; −1 where either is missing."""
    width = len(second.values)
    codes = first.codes.astype(np.int64) * width + second.codes
    missing = (first.codes < 0) | (second.codes < 0)
    return np.where(missing, -1, codes), len(first.values) * width


def dense(codes: Ints) -> tuple[Ints, int]:
    """The same codes without gaps; −1 stays."""
    values, places = np.unique(codes, return_inverse=True)
    absent = int(np.searchsorted(values, 0))
    return np.maximum(places - absent, -1), len(values) - absent
