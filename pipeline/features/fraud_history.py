"""
What has ever been known of an entity's frauds, back to `training.span`.

Windows look back over all payments of an entity, which is affordable for some weeks. Frauds are few: those of a long span are
read on their own, whatever part of the history is loaded, and what each transaction may know of them is counted here.

A fraud h counts for a transaction t of the same entity while its label says fraud at event_time(t), if h comes before t in the
order (event_time, transaction_id), was visible at as_of(t), and happened within the span before t.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.features.label_history import LabelEvents, LabelIntervals, label_events, transaction_positions
from storage.frames import DAY, FRAUD, NEVER, Coded, Ints, Labels, Strings, Transactions

# A label may be as old as the day of its payment, where labels have dates without a time; one that is older is a mistake. This
# bound lets frauds be found by when they became known.
LABEL_BEFORE_PAYMENT = DAY


@dataclass(frozen=True)
class FraudHistory:
    """Payments that a label calls fraud, or once did, with the changes of their label status."""

    payments: Transactions
    events: LabelEvents

    @classmethod
    def of(cls, payments: Transactions, labels: Labels, precedence: Sequence[str]) -> "FraudHistory":
        """Those among some payments; a fraud that was known more than a day before it happened is left out."""
        position = transaction_positions(payments, labels)
        said = np.flatnonzero((position >= 0) & (labels.status == FRAUD))
        plausible = labels.known_at[said] >= payments.event_time[position[said]] - LABEL_BEFORE_PAYMENT
        frauds = payments.take(np.unique(position[said[plausible]]))
        return cls(frauds, label_events(frauds, labels, precedence))


class FraudReader:
    """Reads the fraud history from an instant on once it is asked for, and again if it is asked for an earlier one."""

    def __init__(self, load: Callable[[int], FraudHistory]) -> None:
        self._load = load
        self._start: int | None = None
        self._loaded: FraudHistory | None = None

    def since(self, start: int) -> FraudHistory:
        """Frauds with event_time ≥ start, and maybe older ones."""
        if self._loaded is None or self._start is None or start < self._start:
            self._start, self._loaded = start, self._load(start)
        return self._loaded


@dataclass(frozen=True)
class KnownFrauds:
    """What q transactions know of the frauds of one of their entities."""

    count: Ints  # (q,) known frauds within the span
    since_last: Ints  # (q,) µs since the last of them happened; the span if there is none


class KnownFraudCounts:
    """
    Which transactions may count which frauds, for any of their entities.

    Parameters
    ----------
    transaction_id, event_time, as_of
        (q,) of the transactions, in the order (event_time, transaction_id); times in µs.
    span
        How far back frauds count, µs.
    """

    def __init__(
        self, frauds: FraudHistory, transaction_id: Strings, event_time: Ints, as_of: Ints, span: int
    ) -> None:
        self._frauds, self._time, self._as_of, self._span = frauds, event_time, as_of, span
        intervals = LabelIntervals.of(frauds.events, FRAUD)
        payments, position = frauds.payments, intervals.position
        happened = payments.event_time[position]
        start = np.searchsorted(event_time, np.maximum(intervals.start, happened))
        end = np.searchsorted(event_time, np.minimum(intervals.end, happened + span))
        at_once = np.flatnonzero((intervals.start <= happened) & (start < len(event_time)))
        for place in at_once[event_time[start[at_once]] == happened[at_once]]:  # the order of ids decides
            ties = transaction_id[start[place] : np.searchsorted(event_time, happened[place], side="right")]
            start[place] += np.searchsorted(ties, payments.transaction_id[position[place]], side="right")
        counting = start < end
        self._position, self._start, self._end = position[counting], start[counting], end[counting]
        self._happened = happened[counting]
        visible_from = payments.ingested_at[self._position]
        earliest = np.minimum.accumulate(as_of[::-1])[::-1]
        self._late = visible_from > earliest[self._start]  # for some of the transactions that count it
        self._visible_from = visible_from

    def of_entity(self, name: str, column: Coded) -> KnownFrauds:
        """What the transactions know of the frauds of an entity; `column` holds theirs, (q,)."""
        if not len(self._position):
            return KnownFrauds(np.zeros_like(self._time), np.full_like(self._time, self._span))
        count = np.zeros(len(self._time), dtype=np.int64)
        last = np.full(len(self._time), NEVER)
        of_fraud = self._frauds.payments.columns[name]
        codes = _in_codes_of(of_fraud, column)
        rows = np.flatnonzero(codes >= 0)  # of entities that have had a fraud
        rows = rows[np.argsort(codes[rows], kind="stable")]
        width = len(self._time) + 1
        keys = codes[rows] * width + rows
        entity = of_fraud.codes[self._position].astype(np.int64)
        first = np.searchsorted(keys, entity * width + self._start)
        end = np.searchsorted(keys, entity * width + self._end)
        some = (entity >= 0) & (first < end)
        on_time = some & ~self._late
        count[rows] = _covering(first[on_time], end[on_time], len(rows))
        last[rows] = _largest_covering(first[on_time], end[on_time], self._happened[on_time], len(rows))
        for place in np.flatnonzero(some & self._late):
            visible = rows[first[place] : end[place]]
            visible = visible[self._as_of[visible] >= self._visible_from[place]]
            count[visible] += 1
            last[visible] = np.maximum(last[visible], self._happened[place])
        return KnownFrauds(count, np.where(last == NEVER, self._span, self._time - last))


def _in_codes_of(target: Coded, column: Coded) -> Ints:
    """The codes that a column's values have in another column, −1 for those that are missing or not there."""
    code_of = {target.values[code]: code for code in np.unique(target.codes).tolist() if code >= 0}
    used, inverse = np.unique(column.codes, return_inverse=True)
    codes = [-1 if code < 0 else code_of.get(column.values[code], -1) for code in used]
    return np.array(codes, dtype=np.int64)[inverse]


def _covering(first: Ints, end: Ints, n: int) -> Ints:
    """How many ranges [first, end) cover each of n places."""
    balance = np.bincount(first, minlength=n + 1) - np.bincount(end, minlength=n + 1)
    return np.cumsum(balance[:n])


def _largest_covering(first: Ints, end: Ints, value: Ints, n: int) -> Ints:
    """
    The largest value of the ranges [first, end) that cover each of n places, `NEVER` where none does.

    A range is the union of two whose length is a power of two. Those of each length are noted at their start, then handed down
    as two halves, from the longest to single places.
    """
    size = np.frexp(end - first)[1] - 1  # of the longest power of two that is not longer
    largest = np.full(n, NEVER)
    for level in reversed(range(int(size.max(initial=-1)) + 1)):
        chosen, length = size == level, 1 << level
        np.maximum.at(largest, first[chosen], value[chosen])
        np.maximum.at(largest, end[chosen] - length, value[chosen])
        if level:
            halves = largest.copy()
            np.maximum(halves[length // 2 :], largest[: -length // 2], out=halves[length // 2 :])
            largest = halves
    return largest
