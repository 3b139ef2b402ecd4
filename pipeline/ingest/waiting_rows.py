"""
Takes up the rows that waited for a rate of their currency, once there is one.

They become batches of their own, with the source "waiting rows". What was not visible cannot have been known, so they
count as ingested when they are taken up; rows of history stay history as long as no window has been scored. Their
labels were loaded with the batch that brought them.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

import numpy as np

from pipeline.config.config import Config
from pipeline.ingest.checks.rejected_row_text import Rejections
from pipeline.ingest.currencies.currency_rates import Rates, RateUse
from pipeline.ingest.currencies.rate_sources import Clock, current_rates
from pipeline.ingest.early_labels import retract_early_labels
from pipeline.ingest.formats import validators
from pipeline.ingest.formats.validators import Reasons
from pipeline.ingest.ingest_report import HistoryReason, IngestReport
from storage.database.database import Store
from storage.ingest import batches, waiting_rows
from storage.ingest.batches import BatchLoader, RejectedRow
from storage.ingest.chunks import TransactionChunk

SOURCE = "waiting rows"


def take_up(store: Store, config: Config, clock: Clock) -> Iterator[IngestReport]:
    """
    Load the waiting rows that have a rate by now; yield a report for each batch, none if there are no such rows.

    Raises
    ------
    InputError
        If the file schema.rates cannot be used.
    Busy
        If another ingest is running.
    """
    waiting = [payments.currency for payments in waiting_rows.list_waiting(store)]
    if not waiting or not config.schema_.currency:
        return
    rates = current_rates(store, config)
    first_rates = rates.first_rates(waiting)
    modes = waiting_rows.ready_modes(store, first_rates)
    as_history = [mode for mode in modes if mode and batches.history_is_open(store)]
    as_arrived = [mode for mode in modes if mode not in as_history]
    for history, claimed in ((True, as_history), (False, as_arrived)):
        if claimed:
            with batches.begin(store, "transactions", SOURCE, history, clock(), SOURCE) as loader:
                yield _load(store, loader, loader.claim_waiting(first_rates, claimed), config, rates, clock)


def _load(
    store: Store,
    loader: BatchLoader,
    chunks: Iterator[TransactionChunk],
    config: Config,
    rates: Rates,
    clock: Clock,
) -> IngestReport:
    rate_use, rejections, now = RateUse(rates.places), Rejections(()), clock()
    for rows in chunks:
        chunk, reasons = _convert(rows, config, rates, rate_use, now)
        if len(chunk):
            loader.add_transactions(chunk)
        rejected = list(_rejected(rows, reasons))
        loader.reject(rejected)
        rejections.add(rejected)
    early = retract_early_labels(store, loader, config)
    batch = loader.finish(clock(), sha256(f"{SOURCE} {loader.batch_id}".encode()).hexdigest())
    because: HistoryReason = "nothing_scored" if batch.history else "taken_up"
    return IngestReport(
        SOURCE, "transactions", batch.history, because, batch.counts, batch.batch_id,
        reasons=dict(rejections.counts.most_common()), examples=rejections.examples, stale_rates=rate_use.stale, early_labels=early,
    )  # fmt: skip


def _convert(
    rows: TransactionChunk, config: Config, rates: Rates, rate_use: RateUse, now: int
) -> tuple[TransactionChunk, Reasons]:
    """Return the rows with their amounts in the base currency, and the reasons for those that cannot be loaded."""
    schema, reasons = config.schema_, Reasons(len(rows))
    assert rows.currency is not None
    lookup = rates.look_up(rows.currency, rows.event_time)
    base = validators.in_base(rows.amount, lookup.rate, schema.amount, reasons)
    retention = config.retention.transactions
    if retention:
        old = rows.event_time < now - retention
        reasons.add(old, f"{schema.event_time} is older than retention.transactions allows")
    rate_use.add(rows, reasons.good, lookup)
    converted = replace(
        rows,
        amount_base=base,
        kind=rows.kind if schema.kind else None,
        original_id=rows.original_id if schema.original_id else None,
        begins=np.zeros(len(rows), dtype=bool) if config.events.type else None,
    )
    return converted.take(np.flatnonzero(reasons.good)), reasons


def _rejected(rows: TransactionChunk, reasons: Reasons) -> Iterator[RejectedRow]:
    for place in np.flatnonzero(~reasons.good).tolist():
        row = {"transaction_id": rows.transaction_id[place]} | waiting_rows.content(rows, place)
        yield RejectedRow(int(rows.row_number[place]), json.dumps(row, ensure_ascii=False), reasons.of(place))
