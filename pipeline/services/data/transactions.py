"""Transactions and labels that a program sends, as an ingest of its rows: each is accepted, known already, a revision, or rejected."""

import io
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import InputError
from pipeline.ingest import ingest as ingesting
from pipeline.ingest import waiting_rows
from pipeline.ingest.ingest_report import IngestReport, Kind, Options
from pipeline.ingest.sources import Source
from pipeline.services.session import Session
from storage.errors import Busy, Locked
from storage.ingest.batches import RowOutcome, rejection_reasons

ROWS_MAX = 1_000
WAIT_S = 2.0  # for an ingest of another process
AGAIN_S = 0.05
_ONE_AT_A_TIME = threading.Lock()  # in this process: whoever comes second waits instead of being refused


@dataclass(frozen=True)
class TransactionRows:
    """
    Transactions as objects with the fields of a source ([schema]).

    Attributes
    ----------
    history
        Whether they count as known when they happened, or only from now on; None for history until a window is scored.
    """

    rows: tuple[Mapping[str, Any], ...]
    history: bool | None = None


@dataclass(frozen=True)
class TransactionResult:
    """
    What became of a row; `row` counts from 0.

    Attributes
    ----------
    status
        "duplicate": it is stored already, with this content. "revised": it was stored with other content, and this is a later
        version. "waiting": it waits for a rate of its currency.
    reason
        Why it was rejected.
    """

    row: int
    status: Literal["accepted", "duplicate", "revised", "rejected", "waiting"]
    reason: str | None


@dataclass(frozen=True)
class SubmittedTransactions:
    """A result for each row, in order, and the batch that they came with; None if it was known already."""

    batch_id: int | None
    results: tuple[TransactionResult, ...]


@dataclass(frozen=True)
class LabelRows:
    """Labels as objects with the fields of a source ([labels]); `history` as for transactions."""

    rows: tuple[Mapping[str, Any], ...]
    history: bool | None = None


@dataclass(frozen=True)
class RejectedLabel:
    """A row of labels that was rejected, counted from 0, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class SubmittedLabels:
    """How many labels are new, how many were known, which were rejected, and the batch that they came with; None if it was known."""

    batch_id: int | None
    accepted: int
    duplicate: int
    rejected: tuple[RejectedLabel, ...]


def submit_labels(session: Session, submitted: LabelRows) -> SubmittedLabels:
    """
    Store labels that a program knows, such as chargebacks; as a file of labels does, they say that there are no others up to now.

    Raises
    ------
    InputError
        There is no row, there are too many, or all lack a field that [labels] requires.
    Busy
        Another ingest is running.
    """
    rows = submitted.rows
    report = _submit(session, rows, "labels", submitted.history)
    if report.same_as is not None:
        reasons = rejection_reasons(session.store, report.same_as)
        rejected = tuple(RejectedLabel(number - 1, reason) for number, reason in sorted(reasons.items()))
        return SubmittedLabels(None, 0, len(rows) - len(rejected), rejected)
    outcomes = sorted(report.row_outcomes.items())
    refused = tuple(RejectedLabel(number - 1, each.reason or "") for number, each in outcomes)
    return SubmittedLabels(report.batch_id, report.counts.accepted, report.counts.duplicate, refused)


def submit_transactions(session: Session, submitted: TransactionRows) -> SubmittedTransactions:
    """
    Store transactions.

    Raises
    ------
    InputError
        There is no row, there are too many, or all lack a field that [schema] requires.
    Busy
        Another ingest is running.
    """
    rows = submitted.rows
    report = _submit(session, rows, "transactions", submitted.history)
    outcomes = _outcomes(session, report, len(rows))
    return SubmittedTransactions(
        report.batch_id,
        tuple(TransactionResult(place, each.status, each.reason) for place, each in enumerate(outcomes)),
    )


def _submit(
    session: Session, rows: Sequence[Mapping[str, Any]], kind: Kind, history: bool | None
) -> IngestReport:
    if not 0 < len(rows) <= ROWS_MAX:
        raise InputError(
            f"{len(rows):,} rows were sent", remedy=f"send 1 to {ROWS_MAX:,}", code="too_many_rows"
        )
    try:
        content = "\n".join(json.dumps(row, allow_nan=False) for row in rows).encode()
    except ValueError as error:
        raise InputError("a number is neither finite nor missing", code="bad_file") from error
    until = time.monotonic() + WAIT_S
    with _ONE_AT_A_TIME:
        while True:
            try:
                return _load(
                    session, content, kind, Options(history=history, one_by_one=True, row_outcomes=True)
                )
            except Locked:
                raise
            except Busy:
                if time.monotonic() > until:
                    raise
                time.sleep(AGAIN_S)


def _load(session: Session, content: bytes, kind: Kind, options: Options) -> IngestReport:
    """Load the rows, and what transactions say of labels; returns the report on the rows."""
    store, config, clock = session.store, session.config, session.clock
    source = Source(f"sent by {session.actor}", file_format="jsonl", stream=io.BytesIO(content))
    if kind == "labels":
        (report,) = ingesting.ingest_labels(store, config, [source], clock=clock, options=options)
        return report
    for _ in waiting_rows.take_up(store, config, clock):
        pass
    first, *_ = ingesting.ingest_transactions(store, config, [source], clock=clock, options=options)
    return first


def _outcomes(session: Session, report: IngestReport, rows: int) -> list[RowOutcome]:
    """What became of each row; of a batch that was known already what was rejected then is rejected still."""
    if report.same_as is not None:
        reasons = rejection_reasons(session.store, report.same_as)
        found = {number: RowOutcome("rejected", reason) for number, reason in reasons.items()}
        return [found.get(number, RowOutcome("duplicate")) for number in range(1, rows + 1)]
    return [report.row_outcomes.get(number, RowOutcome("duplicate")) for number in range(1, rows + 1)]
