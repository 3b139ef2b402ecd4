"""
Transactions and history → raw feature columns, point in time.

What row t may use depends on t alone: rows before it in the order (event_time, transaction_id) that
were visible at as_of(t) = max(event_time + allowed_lateness, ingested_at), and labels available at
event_time(t). So a raw row is the same to the last byte whether it is computed alone, in its window or with
all others, and wherever the loaded history starts, as long as it starts `lookback` earlier. To ensure this, all sums
are integer sums, and floats are derived from them by elementwise operations.

A missing entity has no past, like a new one; it is never "first seen".

Payments that a merchant initiated, such as recurring and retried ones, stay out of velocity and of first meetings: what a
customer does is counted without them, so that neither a monthly subscription nor a card that is tried again every hour looks
like a burst, and none of them is a first meeting, or makes the customer's own first visit a second one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features.amount_windows import AmountSums, log_units
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.columns import (
    ENTITY_COLUMNS,
    FIELD_COLUMNS,
    PAIR_COLUMNS,
    WINDOW_COLUMNS,
    WITHOUT_MERCHANT_INITIATED,
    Column,
    EntityRows,
    FieldRows,
    PaymentRows,
    WindowRows,
)
from pipeline.features.entity_windows import (
    CHUNK,
    KEY_BITS,
    EntityIndex,
    EventTimeline,
    QueryRows,
    combined,
    dense,
)
from pipeline.features.fraud_history import FraudHistory, KnownFraudCounts
from pipeline.features.label_history import LabelCounts, LabelEvents, LabelState
from storage.frames import SECOND, Coded, Codes, Completeness, Ints, Transactions

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
    frauds: KnownFraudCounts | None  # None if the catalogue has no column of known frauds
    merchant_initiated: Bools | None  # (n,) rows that stay out of velocity and first meetings

    def of_customers(self, codes: Ints | Codes) -> Ints | Codes:
        """Codes of entities, −1 for rows that a merchant initiated."""
        return codes if self.merchant_initiated is None else np.where(self.merchant_initiated, -1, codes)


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
    frauds: FraudHistory | None = None,
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
    frauds
        Frauds of `catalogue.fraud_span` before the first of `rows` and up to the last; they may be more. Not needed without
        a span.

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
        frauds=_known_frauds(visible_history, timeline, catalogue, frauds),
        merchant_initiated=_merchant_initiated(visible_history, catalogue),
    )
    raw = _assemble(view)
    if catalogue.raw_names != catalogue.computed:
        raw = np.take(raw, [catalogue.computed.index(name) for name in catalogue.raw_names], axis=1)
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
    catalogue, columns = view.catalogue, view.history.columns
    raw = np.empty((len(view.timeline.rows), len(catalogue.computed)))
    payments = _payment_rows(view)
    at = _fill(raw, 0, (column.values(payments) for column in catalogue.payment_columns))
    width = len(WINDOW_COLUMNS) * len(catalogue.windows) + len(ENTITY_COLUMNS)
    for entity in catalogue.entities:
        _fill_entity(view, columns[entity], raw[:, at : at + width])
        at += width
        if view.frauds is not None:
            known = view.frauds.of_entity(entity, columns[entity].take(view.timeline.rows))
            at = _fill(raw, at, (column.values(known) for column in catalogue.fraud_columns))
    for first, second in catalogue.pairs:
        _fill_pair(view, columns[first], columns[second], raw[:, at : at + len(PAIR_COLUMNS)])
        at += len(PAIR_COLUMNS)
    _fill(raw, at, _field_columns(view))
    return raw


def _fill(raw: Floats, at: int, columns: Iterator[NDArray[Any]]) -> int:
    """Write columns side by side from column `at` on, a chunk of rows at a time; return the next free column."""
    block = list(columns)
    for start in range(0, len(raw), CHUNK):
        span = slice(start, start + CHUNK)
        for place, values in enumerate(block, start=at):
            raw[span, place] = values[span]
    return at + len(block)


def _payment_rows(view: _HistoryView) -> PaymentRows:
    rows, catalogue = view.timeline.rows, view.catalogue
    return PaymentRows(
        view.history.amount[rows],
        view.logs[rows],
        view.timeline.event_time[rows],
        catalogue.night,
        catalogue.holidays,
        catalogue.timezone,
    )


def _field_columns(view: _HistoryView) -> Iterator[Floats]:
    rows = view.timeline.rows
    for name in view.catalogue.numeric:
        both = FieldRows(view.history.amount[rows], view.history.numeric[name][rows])
        yield from (column.values(both) for column in FIELD_COLUMNS)
    for name in view.catalogue.numeric:
        yield view.history.numeric[name][rows]
    for name in view.catalogue.categorical:
        yield _text_hashes(view.history.columns[name].take(rows))


def _fill_entity(view: _HistoryView, column: Coded, out: Floats) -> None:
    """Write an entity's columns over all windows; rows without the entity get the columns of an empty past."""
    windows = range(len(view.catalogue.windows))
    empty = _missing((*WINDOW_COLUMNS * len(windows), *ENTITY_COLUMNS), view.lookback)
    out[column.codes[view.timeline.rows] < 0] = empty
    index = EntityIndex(view.timeline, column.codes, len(column.values))
    amounts = AmountSums(index, view.history.amount, view.logs)
    labels = LabelCounts(index, view.label_state, view.catalogue.windows)
    for queries in index.chunks():
        silent_end = index.count_before(queries, view.label_state.silent_through[queries.query_index])
        by_window = [_window_rows(view, queries, amounts, labels, silent_end, window) for window in windows]
        values = [feature.values(rows) for rows in by_window for feature in WINDOW_COLUMNS]
        rows = EntityRows(index, queries, amounts.late, view.lookback)
        out[queries.query_index] = np.column_stack(
            [*values, *(feature.values(rows) for feature in ENTITY_COLUMNS)]
        )
    if view.merchant_initiated is not None:
        _fill_velocity(view, column, out)


def _fill_velocity(view: _HistoryView, column: Coded, out: Floats) -> None:
    """Write the columns of velocity once more, without rows that a merchant initiated: these get those of an empty past."""
    columns: list[Column[Any]] = [*WINDOW_COLUMNS * len(view.catalogue.windows), *ENTITY_COLUMNS]
    places = [place for place, each in enumerate(columns) if each.code in WITHOUT_MERCHANT_INITIATED]
    out[:, places] = _missing([columns[place] for place in places], view.lookback)
    index = EntityIndex(view.timeline, view.of_customers(column.codes), len(column.values))
    late = index.late_arrivals()
    for queries in index.chunks():
        starts = [index.count_before(queries, start[queries.query_index]) for start in view.window_start]
        counts = [index.count_visible(queries, start, late) for start in starts]
        rows = EntityRows(index, queries, late, view.lookback)
        out[queries.query_index[:, None], places] = np.column_stack(
            [*counts, *(feature.values(rows) for feature in ENTITY_COLUMNS)]
        )


def _window_rows(
    view: _HistoryView,
    queries: QueryRows,
    amounts: AmountSums,
    labels: LabelCounts,
    silent_end: Ints,
    window: int,
) -> WindowRows:
    """What is known of an entity over one window."""
    start = amounts.index.count_before(queries, view.window_start[window][queries.query_index])
    matured = amounts.index.count_before(queries, view.matured_window_start[window][queries.query_index])
    return WindowRows(
        amounts.over(queries, start),
        labels.matured_frauds[window][queries.span],
        labels.with_known_status(queries, matured, silent_end, window),
        labels.known_frauds[window][queries.span],
    )


def _missing(columns: Iterable[Column[Any]], lookback: int) -> list[float]:
    """The values of a row that lacks the entity."""
    return [lookback / SECOND if column.missing is None else column.missing for column in columns]


def _fill_pair(view: _HistoryView, first: Coded, second: Coded, out: Floats) -> None:
    """Write the columns of a pair of entities."""
    codes, n_codes = combined(first, second)
    if n_codes.bit_length() + len(view.timeline).bit_length() > KEY_BITS:
        codes, n_codes = dense(codes)
    index = EntityIndex(view.timeline, view.of_customers(codes), n_codes)
    late = index.late_arrivals()
    out[:] = _missing(PAIR_COLUMNS, view.lookback)
    for queries in index.chunks():
        rows = EntityRows(index, queries, late, view.lookback)
        out[queries.query_index] = np.column_stack([column.values(rows) for column in PAIR_COLUMNS])


def _known_frauds(
    history: Transactions, timeline: EventTimeline, catalogue: FeatureCatalogue, frauds: FraudHistory | None
) -> KnownFraudCounts | None:
    """What the query rows know of frauds; None if no column needs it."""
    if not catalogue.fraud_span:
        return None
    if frauds is None:
        raise ValueError("the catalogue counts known frauds: pass them")
    rows = timeline.rows
    return KnownFraudCounts(
        frauds, history.transaction_id[rows], timeline.event_time[rows], timeline.as_of, catalogue.fraud_span
    )


def _merchant_initiated(history: Transactions, catalogue: FeatureCatalogue) -> Bools | None:
    """Rows that a merchant initiated, (n,); None if no field says so."""
    if not catalogue.initiated_by:
        return None
    words = {word.strip().casefold() for word in catalogue.merchant_initiated}
    column = history.columns[catalogue.initiated_by]
    matching = [str(value).strip().casefold() in words for value in column.values]
    return np.array([*matching, False], dtype=bool)[column.codes]


def _text_hashes(column: Coded) -> Floats:
    """48-bit hash of each row's text as a float64, NaN if missing."""
    used = np.unique(column.codes)
    hashes = np.full(len(used), np.nan)
    for place, code in enumerate(used):
        if code >= 0:
            digest = blake2b(str(column.values[code]).encode(), digest_size=HASH_BYTES).digest()
            hashes[place] = int.from_bytes(digest, "big")
    return hashes[np.searchsorted(used, column.codes)]
