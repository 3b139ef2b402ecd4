"""
Transactions and history → raw feature columns, point in time.

What row t may use depends on t alone: rows before it in the order (event_time, transaction_id) that
were visible at as_of(t) = max(event_time + allowed_lateness, ingested_at), and labels available at
event_time(t). So a raw row is the same to the last byte whether it is computed alone, in its window or with
all others, and wherever the loaded history starts, as long as it starts `lookback` earlier. To ensure this, all sums
are integer sums, and floats are derived from them by elementwise operations.

A missing entity has no past, like a new one; it is never "first seen".
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pipeline.features.amount_windows import LOG_UNITS, AmountSums, amount_columns, log_units
from pipeline.features.catalogue import WINDOW_COLUMNS, Feature, FeatureCatalogue, build_catalogue
from pipeline.features.entity_windows import (
    CHUNK,
    KEY_BITS,
    EntityIndex,
    EventTimeline,
    QueryRows,
    combined,
    dense,
)
from pipeline.features.holidays import is_holiday
from pipeline.features.label_history import LabelCounts, LabelEvents, LabelState, label_events, status_at
from storage.frames import HOUR, MONEY, SECOND, Coded, Completeness, Ints, Transactions

__all__ = [
    "Feature",
    "FeatureCatalogue",
    "LabelEvents",
    "build_catalogue",
    "label_events",
    "raw_features",
    "status_at",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

HASH_BYTES = 6  # 48 bits: exact in a float64, and 10,000 values collide with a chance of 2 in 10 million


@dataclass(frozen=True)
class _HistoryView:
    """The part of history that the query rows use."""

    history: Transactions
    timeline: EventTimeline
    label_state: LabelState
    catalogue: FeatureCatalogue
    lookback: int
    logs: Ints  # (n,) integer log-amounts
    window_start: list[Ints]  # for each window, the first position that each query row counts
    matured_window_start: list[Ints]  # the same, shifted back by maturity


def raw_features(
    history: Transactions,
    events: LabelEvents,
    rows: Ints,
    catalogue: FeatureCatalogue,
    maturity: int,
    allowed_lateness: int,
    lookback: int,
    completeness: Completeness,
    silence_ok: Bools,
) -> Floats:
    """
    Compute the raw columns of some rows of a history, (n_rows, n_raw), C-contiguous.

    Parameters
    ----------
    history
        Payments without refunds, from `lookback` before the first of `rows` on; it may contain later rows.
    events
        Events of the history's labels, from `label_events`.
    rows
        (n_rows,) positions in the history, in any order.
    maturity, allowed_lateness, lookback
        µs; the lookback covers the longest window plus maturity.
    silence_ok
        (n,) False where a missing label never means genuine.

    Raises
    ------
    ValueError
        The lookback is too short for the catalogue's windows.
    OverflowError
        The amounts of one entity have a sum that does not fit int64.
    """
    if catalogue.windows[-1] + maturity > lookback:
        raise ValueError(
            f"features look back {catalogue.windows[-1]} + {maturity} µs (longest window + maturity), "
            f"but lookback is {lookback} µs: read a longer history"
        )
    if not len(rows):
        return np.empty((0, len(catalogue.raw_names)))
    queries, inverse = np.unique(rows, return_inverse=True)
    first = int(np.searchsorted(history.event_time, history.event_time[queries[0]] - lookback, side="right"))
    end = int(queries[-1]) + 1
    visible_history = _slice(history, first, end)
    timeline = EventTimeline.of(visible_history, queries - first, allowed_lateness)
    label_state = LabelState.of(
        timeline, events.between(first, end), maturity, completeness, silence_ok[first:end]
    )
    view = _HistoryView(
        history=visible_history,
        timeline=timeline,
        label_state=label_state,
        catalogue=catalogue,
        lookback=lookback,
        logs=log_units(visible_history.amount),
        window_start=[timeline.window_start(window) for window in catalogue.windows],
        matured_window_start=[timeline.window_start(maturity + window) for window in catalogue.windows],
    )
    raw = _assemble(view)
    return raw if len(rows) == len(queries) and (rows == queries).all() else raw[inverse]


def _slice(history: Transactions, first: int, end: int) -> Transactions:
    """`Transactions.take` without copies."""
    part = slice(first, end)
    return Transactions(
        history.transaction_id[part],
        history.event_time[part],
        history.ingested_at[part],
        history.amount[part],
        {name: Coded(column.codes[part], column.values) for name, column in history.columns.items()},
        {name: column[part] for name, column in history.numeric.items()},
    )


def _assemble(view: _HistoryView) -> Floats:
    raw = np.empty((len(view.timeline.rows), len(view.catalogue.raw_names)))
    at = _fill(raw, 0, _transaction_columns(view))
    for entity in view.catalogue.entities:
        width = len(WINDOW_COLUMNS) * len(view.catalogue.windows) + 1
        _fill_entity(view, view.history.columns[entity], raw[:, at : at + width])
        at += width
    for first, second in view.catalogue.pairs:
        raw[:, at] = _new_pair(view, view.history.columns[first], view.history.columns[second])
        at += 1
    _fill(raw, at, _field_columns(view))
    return raw


def _fill(raw: Floats, at: int, columns: Iterator[Floats]) -> int:
    """Write columns side by side from column `at` on, a chunk of rows at a time; return the next free column."""
    block = list(columns)
    for start in range(0, len(raw), CHUNK):
        span = slice(start, start + CHUNK)
        for place, values in enumerate(block, start=at):
            raw[span, place] = values[span]
    return at + len(block)


def _transaction_columns(view: _HistoryView) -> Iterator[Floats]:
    """Columns of the transaction's amount and time; sines come from a table, so that all machines agree."""
    rows = view.timeline.rows
    yield view.history.amount[rows] / MONEY
    yield view.logs[rows] / LOG_UNITS
    hours = view.timeline.event_time[rows] // HOUR
    hour, weekday = hours % 24, (hours // 24 + EPOCH_WEEKDAY) % 7
    yield from (HOUR_SIN[hour], HOUR_COS[hour], WEEKDAY_SIN[weekday], WEEKDAY_COS[weekday])
    yield (weekday >= SATURDAY).astype(np.float64)
    first, last = view.catalogue.night
    yield ((hour >= first) & (hour <= last)).astype(np.float64)
    if view.catalogue.holidays:
        yield is_holiday(
            view.timeline.event_time[rows], view.catalogue.holidays, view.catalogue.timezone
        ).astype(np.float64)


def _field_columns(view: _HistoryView) -> Iterator[Floats]:
    rows = view.timeline.rows
    for name in view.catalogue.numeric:
        yield view.history.numeric[name][rows]
    for name in view.catalogue.categorical:
        yield _text_hashes(view.history.columns[name].take(rows))


def _fill_entity(view: _HistoryView, column: Coded, out: Floats) -> None:
    """Write an entity's columns over all windows; rows without the entity get the columns of an empty past."""
    windows = view.catalogue.windows
    out[column.codes[view.timeline.rows] < 0] = [*NO_PAST * len(windows), view.lookback / SECOND]
    index = EntityIndex(view.timeline, column.codes, len(column.values))
    amounts = AmountSums(index, view.history.amount, view.logs)
    label_counts = LabelCounts(index, view.label_state, windows)
    for queries in index.chunks():
        block = np.empty((len(queries.place), out.shape[1]))
        amount = view.history.amount[queries.position]
        silent_end = index.count_before(queries, view.label_state.silent_through[queries.query_index])
        for window in range(len(windows)):
            start = index.count_before(queries, view.window_start[window][queries.query_index])
            matured_start = index.count_before(
                queries, view.matured_window_start[window][queries.query_index]
            )
            at = window * len(WINDOW_COLUMNS)
            sums = amounts.over(queries, start)
            for values in amount_columns(sums, amount, view.logs[queries.position]):
                block[:, at] = values
                at += 1
            block[:, at] = label_counts.matured_frauds[window][queries.span]
            block[:, at + 1] = label_counts.with_known_status(queries, matured_start, silent_end, window)
            block[:, at + 2] = label_counts.known_frauds[window][queries.span]
        last = index.last_visible(queries, amounts.late)
        block[:, -1] = _elapsed(view, index, queries, last) / SECOND
        out[queries.query_index] = block


def _elapsed(view: _HistoryView, index: EntityIndex, queries: QueryRows, last: Ints) -> Ints:
    """µs since each query row's last visible row, at most the lookback."""
    event_time = view.timeline.event_time
    since = event_time[queries.position] - event_time[index.position[last]]
    return np.where(last >= 0, np.minimum(since, view.lookback), view.lookback)


def _new_pair(view: _HistoryView, first: Coded, second: Coded) -> Floats:
    """1 where both entities are present and have no visible row together within the lookback."""
    codes, n_codes = combined(first, second)
    if n_codes.bit_length() + len(view.timeline).bit_length() > KEY_BITS:
        codes, n_codes = dense(codes)
    index = EntityIndex(view.timeline, codes, n_codes)
    late = index.late_arrivals()
    is_new = np.zeros(len(view.timeline.rows))
    for queries in index.chunks():
        last = index.last_visible(queries, late)
        is_new[queries.query_index] = _elapsed(view, index, queries, last) >= view.lookback
    return is_new


def _text_hashes(column: Coded) -> Floats:
    """48-bit hash of each row's text as a float64, NaN if missing."""
    used = np.unique(column.codes)
    hashes = np.full(len(used), np.nan)
    for place, code in enumerate(used):
        if code >= 0:
            digest = blake2b(str(column.values[code]).encode(), digest_size=HASH_BYTES).digest()
            hashes[place] = int.from_bytes(digest, "big")
    return hashes[np.searchsorted(used, column.codes)]


def _cycle(length: int) -> tuple[Floats, Floats]:
    """Sine and cosine around a cycle, to 12 digits: the same on every machine."""
    turns = [math.tau * step / length for step in range(length)]
    return _rounded(math.sin, turns), _rounded(math.cos, turns)


def _rounded(wave: Callable[[float], float], turns: Sequence[float]) -> Floats:
    return np.array([round(wave(turn), 12) + 0.0 for turn in turns])


NO_PAST = [0.0, np.nan, np.nan, 0.0, 1.0, 0.0, 0.0, 0.0]  # WINDOW_COLUMNS of an entity without a past
EPOCH_WEEKDAY, SATURDAY = 3, 5  # 1970-01-01 was a Thursday; weeks begin on Monday
HOUR_SIN, HOUR_COS = _cycle(24)
WEEKDAY_SIN, WEEKDAY_COS = _cycle(7)
