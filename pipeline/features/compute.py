"""
Transactions and history → raw feature columns, point in time.

What row t may use is a property of t alone: rows before it in the order (event_time, transaction_id) that
were visible at as_of(t) = max(event_time + allowed_lateness, ingested_at), and labels available at
event_time(t). So a raw row is the same to the last byte whether it is computed alone, in its window or with
everything else, and wherever the loaded history starts, if only `lookback` before it. For that every sum is
one of integers, and every float comes from them by elementwise operations.

An entity that is missing has no past, like one never seen; it is never "first seen".
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pipeline.features.amount_windows import LOG_UNITS, AmountSums, amount_columns, log_units
from pipeline.features.catalogue import WINDOW_COLUMNS, Feature, Plan, plan
from pipeline.features.entity_windows import CHUNK, KEY_BITS, Asked, Order, Timeline, combined, dense
from pipeline.features.holidays import is_holiday
from pipeline.features.label_history import Knowledge, KnownCounts, LabelEvents, label_events, status_at
from storage.frames import HOUR, MONEY, SECOND, Coded, Completeness, Ints, Transactions

__all__ = ["Feature", "LabelEvents", "Plan", "label_events", "plan", "raw_features", "status_at"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

HASH_BYTES = 6  # 48 bits: exact in a float64, and 10,000 values collide with a chance of 2 in 10 million


@dataclass(frozen=True)
class _View:
    """The stretch of history that the asked rows look at."""

    history: Transactions
    timeline: Timeline
    knowledge: Knowledge
    plan: Plan
    lookback: int
    logs: Ints  # (n,) integer log-amounts
    recent: list[Ints]  # of each window, the first position that each asked row counts
    matured: list[Ints]  # the same, shifted back by maturity


def raw_features(
    history: Transactions,
    events: LabelEvents,
    rows: Ints,
    plan: Plan,
    maturity: int,
    allowed_lateness: int,
    lookback: int,
    completeness: Completeness,
    silence_ok: Bools,
) -> Floats:
    """
    Raw columns of some rows of a history, (n_rows, n_raw), C-contiguous.

    Parameters
    ----------
    history
        Payments without refunds, from `lookback` before the first of `rows` on; later rows may be there.
    events
        Of the history's labels, from `label_events`.
    rows
        (n_rows,) positions in the history, in any order.
    maturity, allowed_lateness, lookback
        µs; the lookback covers the longest window plus maturity.
    silence_ok
        (n,) False where a missing label never means genuine.

    Raises
    ------
    ValueError
        A lookback too short for the plan.
    OverflowError
        Amounts of one entity whose sum does not fit int64.
    """
    if plan.windows[-1] + maturity > lookback:
        raise ValueError(
            f"features look back {plan.windows[-1]} + {maturity} µs (longest window + maturity), "
            f"but lookback is {lookback} µs: read a longer history"
        )
    if not len(rows):
        return np.empty((0, len(plan.raw_names)))
    asked, back = np.unique(rows, return_inverse=True)
    first = int(np.searchsorted(history.event_time, history.event_time[asked[0]] - lookback, side="right"))
    end = int(asked[-1]) + 1
    held = _slice(history, first, end)
    timeline = Timeline.of(held, asked - first, allowed_lateness)
    knowledge = Knowledge.of(
        timeline, events.between(first, end), maturity, completeness, silence_ok[first:end]
    )
    view = _View(
        history=held,
        timeline=timeline,
        knowledge=knowledge,
        plan=plan,
        lookback=lookback,
        logs=log_units(held.amount),
        recent=[timeline.first_after(window) for window in plan.windows],
        matured=[timeline.first_after(maturity + window) for window in plan.windows],
    )
    raw = _assemble(view)
    return raw if len(rows) == len(asked) and (rows == asked).all() else raw[back]


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


def _assemble(view: _View) -> Floats:
    raw = np.empty((len(view.timeline.rows), len(view.plan.raw_names)))
    at = _fill(raw, 0, _own_columns(view))
    for entity in view.plan.entities:
        width = len(WINDOW_COLUMNS) * len(view.plan.windows) + 1
        _fill_entity(view, view.history.columns[entity], raw[:, at : at + width])
        at += width
    for first, second in view.plan.pairs:
        raw[:, at] = _first_seen(view, view.history.columns[first], view.history.columns[second])
        at += 1
    _fill(raw, at, _field_columns(view))
    return raw


def _fill(raw: Floats, at: int, columns: Iterator[Floats]) -> int:
    """Write columns side by side from place `at` on, some rows at a time; return the place after them."""
    block = list(columns)
    for start in range(0, len(raw), CHUNK):
        span = slice(start, start + CHUNK)
        for place, values in enumerate(block, start=at):
            raw[span, place] = values[span]
    return at + len(block)


def _own_columns(view: _View) -> Iterator[Floats]:
    """The transaction's amount and time, by tables, so that no machine's sine matters."""
    rows = view.timeline.rows
    yield view.history.amount[rows] / MONEY
    yield view.logs[rows] / LOG_UNITS
    hours = view.timeline.event_time[rows] // HOUR
    hour, weekday = hours % 24, (hours // 24 + EPOCH_WEEKDAY) % 7
    yield from (HOUR_SIN[hour], HOUR_COS[hour], WEEKDAY_SIN[weekday], WEEKDAY_COS[weekday])
    yield (weekday >= SATURDAY).astype(np.float64)
    first, last = view.plan.night
    yield ((hour >= first) & (hour <= last)).astype(np.float64)
    if view.plan.holidays:
        yield is_holiday(view.timeline.event_time[rows], view.plan.holidays, view.plan.timezone).astype(
            np.float64
        )


def _field_columns(view: _View) -> Iterator[Floats]:
    rows = view.timeline.rows
    for name in view.plan.numeric:
        yield view.history.numeric[name][rows]
    for name in view.plan.categorical:
        yield _hashed(view.history.columns[name].take(rows))


def _fill_entity(view: _View, column: Coded, out: Floats) -> None:
    """Write an entity's columns over all windows; rows without the entity get those of an empty past."""
    windows = view.plan.windows
    out[column.codes[view.timeline.rows] < 0] = [*NO_PAST * len(windows), view.lookback / SECOND]
    order = Order(view.timeline, column.codes, len(column.values))
    amounts = AmountSums(order, view.history.amount, view.logs)
    known = KnownCounts(order, view.knowledge, windows)
    for asked in order.chunks():
        block = np.empty((len(asked.own), out.shape[1]))
        amount = view.history.amount[asked.position]
        silent_end = order.find(asked, view.knowledge.silent_through[asked.place])
        for window in range(len(windows)):
            recent = order.find(asked, view.recent[window][asked.place])
            matured = order.find(asked, view.matured[window][asked.place])
            at = window * len(WINDOW_COLUMNS)
            sums = amounts.over(asked, recent)
            for values in amount_columns(sums, amount, view.logs[asked.position]):
                block[:, at] = values
                at += 1
            block[:, at] = known.frauds[window][asked.span]
            block[:, at + 1] = known.known(asked, matured, silent_end, window)
            block[:, at + 2] = known.recent[window][asked.span]
        last = order.last_visible(asked, amounts.hidden)
        block[:, -1] = _elapsed(view, order, asked, last) / SECOND
        out[asked.place] = block


def _elapsed(view: _View, order: Order, asked: Asked, last: Ints) -> Ints:
    """µs since each asked row's last visible row, at most the lookback."""
    time = view.timeline.event_time
    since = time[asked.position] - time[order.position[last]]
    return np.where(last >= 0, np.minimum(since, view.lookback), view.lookback)


def _first_seen(view: _View, first: Coded, second: Coded) -> Floats:
    """1 where both are there and have no visible row together within the lookback."""
    codes, n_codes = combined(first, second)
    if n_codes.bit_length() + len(view.timeline).bit_length() > KEY_BITS:
        codes, n_codes = dense(codes)
    order = Order(view.timeline, codes, n_codes)
    hidden = order.hidden()
    new = np.zeros(len(view.timeline.rows))
    for asked in order.chunks():
        last = order.last_visible(asked, hidden)
        new[asked.place] = _elapsed(view, order, asked, last) >= view.lookback
    return new


def _hashed(column: Coded) -> Floats:
    """48-bit hash of each row's text as a float64, NaN where it is missing."""
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


NO_PAST = [0.0, np.nan, np.nan, 0.0, 1.0, 0.0, 0.0, 0.0]  # of WINDOW_COLUMNS
EPOCH_WEEKDAY, SATURDAY = 3, 5  # 1970-01-01 was a Thursday; weeks begin on Monday
HOUR_SIN, HOUR_COS = _cycle(24)
WEEKDAY_SIN, WEEKDAY_COS = _cycle(7)
