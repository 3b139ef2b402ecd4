"""Scores of payments while the caller waits: would it be flagged, and why; stored or only looked at."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from io import BytesIO
from typing import Any, Literal

import numpy as np

from pipeline.config.key_names import similar_name
from pipeline.errors import InputError
from pipeline.ingest.checks.card_data import plain_card_number_check
from pipeline.ingest.checks.rejected_row_text import collect_rejected
from pipeline.ingest.checks.transaction_check import TransactionCheck, source_name
from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.ingest.formats.jsonl_reader import read_jsonl
from pipeline.ingest.formats.row_batch import RowBatch
from pipeline.ingest.formats.validators import Reasons
from pipeline.runs.arrivals import ArrivalScorer, Look, PaymentScore
from pipeline.schedule.run_context import LIVE
from pipeline.services.records import Amount, as_amount, as_record
from pipeline.services.review.flags import FlagReason
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.database.hash_form import has_displays
from storage.frames import Ints
from storage.ingest import batches
from storage.ingest.batches import RejectedRow
from storage.ingest.chunks import TransactionChunk
from storage.ingest.entity_rows import entity_snapshot
from storage.ingest.revisions import changed
from storage.queries.rows import Row
from storage.queries.scores import scores_of

PAYMENTS_MAX = 1_000  # of one request
UNKNOWN_FIELDS_MAX = 20  # of one answer
SOURCE = "payments to be scored"  # in messages
NO_MODEL = "no model was in force when it happened: ingest it, and backfill that time"
AHEAD = "its time is ahead of the clock here, so it has not happened yet"
BEING_LOADED = "an ingest that is not finished holds the same id: send it again"
REPEATED = "another payment of the request has the same id"
REFUND = "it is a refund, which is stored but never scored: ingest it"

PaymentStatus = Literal["dry_run", "known", "scored", "duplicate", "revised", "rejected"]


@dataclass(frozen=True)
class ScoreRequest:
    """
    Payments to score.

    Attributes
    ----------
    payments
        1 to 1,000, each with the columns of a source of transactions as its keys.
    store
        Whether to store them and their scores, each once, and rejected ones with their reasons; otherwise nothing is written.
    """

    payments: Sequence[Mapping[str, Any]]
    store: bool = False


@dataclass(frozen=True)
class ScoredPayment:
    """
    What became of a payment, and its score.

    Attributes
    ----------
    status
        "dry_run": it was scored as if it had arrived now. "known": so it was, but a payment of this id is stored already. "scored": stored and scored. "duplicate": it was stored already, with the
        same content. "revised": it was stored already, and this is a revision, which changes no score. "rejected": `error` says why.
    score
        1 − the share of the reference transactions that rank higher; None without a score (yet).
    expected_loss
        Fraud probability × (exposure + fee), in the base currency.
    flagged
        Whether it is flagged, or would be; also if a mute keeps the flag out of lists (`muted_by`).
    reasons
        Of a flag, the strongest first.
    arrived_at
        The instant whose knowledge the score uses; None for a payment that was ingested and waits, or waited, for its window.
    """

    transaction_id: str | None
    status: PaymentStatus
    error: str | None = None
    score: float | None = None
    fraud_probability: float | None = None
    expected_loss: Amount | None = None
    decision_value: float | None = None
    threshold: float | None = None
    channel: str | None = None
    flagged: bool | None = None
    muted_by: int | None = None
    reasons: tuple[FlagReason, ...] = ()
    strategy: str | None = None
    model_id: int | None = None
    arrived_at: datetime | None = None


PAYMENT_FIELDS = tuple(each.name for each in fields(ScoredPayment))


@dataclass(frozen=True)
class UnknownField:
    """The name that is not configured, and the most similar field that is; None if none is similar."""

    name: str
    field: str | None


@dataclass(frozen=True)
class ScoreAnswer:
    """
    The payments in the order of the request.

    Attributes
    ----------
    history_through
        When the newest ingested payment happened; None if none is stored. Those that were stored by a score do not count: they say
        nothing of the others.
    is_stale
        Whether that is longer ago than a window and `schedule.allowed_lateness`, so that scores miss what happened since.
    unknown_fields
        Fields of the payments that are not configured, and were left out; at most 20.
    """

    payments: tuple[ScoredPayment, ...]
    history_through: datetime | None
    is_stale: bool
    unknown_fields: tuple[UnknownField, ...]


@dataclass(frozen=True)
class _Checked:
    """What a request has: its payments, and why those that cannot be scored cannot."""

    check: TransactionCheck
    rows: RowBatch
    payments: TransactionChunk
    reasons: Reasons

    def refuse(self, wrong: Bools, why: str) -> None:
        """Give a reason to those of `payments` that have none yet."""
        of_rows = np.zeros(self.reasons.size, dtype=bool)
        of_rows[np.searchsorted(self.rows.row_number, self.payments.row_number[wrong])] = True
        self.reasons.add(of_rows, why)

    def errors(self) -> dict[int, str]:
        """The reasons, by the place of the payment in the request."""
        numbers = self.rows.row_number.tolist()
        of_rows = {number - 1: self.reasons.of(place) for place, number in enumerate(numbers)}
        unreadable = {row.row_number - 1: row.reason for row in self.rows.unreadable}
        return {place: reason for place, reason in (of_rows | unreadable).items() if reason}

    def rejected(self) -> list[RejectedRow]:
        """The rows with a reason, without what must not be stored."""
        check = self.check
        return list(
            collect_rejected(
                self.rows, self.reasons, check.hashed_columns, check.hasher, check.unmasked_columns
            )
        )

    def unknown_fields(self, payments: Sequence[Mapping[str, Any]]) -> tuple[UnknownField, ...]:
        """Fields that are not configured, each once."""
        names = list(self.rows.columns)
        outer = {*names, *(name.partition(".")[0] for name in names)}
        unknown = dict.fromkeys(key for payment in payments for key in payment if key not in outer)
        listed = list(unknown)[:UNKNOWN_FIELDS_MAX]
        return tuple(UnknownField(name, similar_name(name, names)) for name in listed)


def score(session: Session, request: ScoreRequest, scorer: ArrivalScorer | None = None) -> ScoreAnswer:
    """
    Score payments by the model in force, the rules and the audit sample.

    Parameters
    ----------
    scorer
        Needed to store payments; without one models are loaded anew.

    Raises
    ------
    InputError
        There is no payment or too many, none has a required column, or the sources of this monitor hold events.
    Busy
        A payment is a revision of a stored one, and an ingest is running.
    """
    scorer = scorer or ArrivalScorer(session.store, session.config)
    checked = _checked(session, scorer, request)
    payments, found = checked.payments, dict[str, ScoredPayment]()
    with scorer.looking() as look:
        good = payments.take(_scorable(session, look, checked))
        if len(good) and request.store:
            look.read_ahead(good)
        elif len(good):
            found = _looked_at(session, look, good)
    known = {
        "history_through": None if look.through is None else as_datetime(look.through),
        "is_stale": look.through is None or look.through < session.now - _stale_after(session),
    }
    errors = checked.errors()
    if request.store and errors:
        scorer.reject(checked.rejected(), session.now)
    if request.store and len(good):
        found = _stored(session, scorer, good)
    id_column = source_name(session.config.schema_, session.config.schema_.transaction_id)
    names = dict(zip((payments.row_number - 1).tolist(), payments.transaction_id.tolist(), strict=True))
    listed = tuple(
        ScoredPayment(_text(payment.get(id_column)), "rejected", errors[place])
        if place in errors
        else found[names[place]]
        for place, payment in enumerate(request.payments)
    )
    return ScoreAnswer(listed, unknown_fields=checked.unknown_fields(request.payments), **known)  # type: ignore[arg-type]


def _checked(session: Session, scorer: ArrivalScorer, request: ScoreRequest) -> _Checked:
    config, count = session.config, len(request.payments)
    if not 1 <= count <= PAYMENTS_MAX:
        raise InputError(
            f"a request scores 1 to {PAYMENTS_MAX:,} payments, this one has {count:,}",
            remedy="send several requests",
            code="payment_count",
        )
    if config.events.type:
        raise InputError(
            "the sources of this monitor hold events, of which several make a payment",
            remedy="ingest them; payments are scored with their window",
            code="events_not_scored",
        )
    displays = not config.schema_.hash or has_displays(session.store)
    check = TransactionCheck(config, scorer.rates.current(), displays, one_by_one=True)
    lines = "\n".join(json.dumps(dict(payment)) for payment in request.payments)
    rows, *more = read_jsonl(BytesIO(lines.encode()), check.expected_columns(), SOURCE)
    if more:
        raise InputError(
            "the payments of the request are too long", remedy="send several requests", code="payment_count"
        )
    plain_card_number_check(config.schema_, SOURCE).check(rows)
    chunk, _, reasons = check.check(rows, session.now)
    return _Checked(check, rows, chunk, reasons)


def _scorable(session: Session, look: Look, checked: _Checked) -> Ints:
    """Positions of the payments that can be scored; the others are given a reason."""
    chunk = checked.payments
    if not len(chunk):
        return np.arange(0)
    refund = np.ones(len(chunk), dtype=bool)
    refund[chunk.payment_places(session.store.fields.refund_kinds)] = False
    repeated = np.ones(len(chunk), dtype=bool)
    repeated[np.unique(chunk.transaction_id.astype(str), return_index=True)[1]] = False
    entities = [name for name in session.store.fields.entities if name in chunk.text]
    nobody = np.array([all(chunk.text[name][k] is None for name in entities) for k in range(len(chunk))])
    good = np.ones(len(chunk), dtype=bool)
    for wrong, why in (
        (repeated, REPEATED),
        (refund, REFUND),
        (nobody, f"it has none of {', '.join(entities)}, so nothing is known of who paid"),
        (chunk.event_time > session.now, AHEAD),
        (~look.has_model(chunk), NO_MODEL),
    ):
        checked.refuse(wrong, why)
        good &= ~wrong
    return np.flatnonzero(good)


def _looked_at(session: Session, look: Look, chunk: TransactionChunk) -> dict[str, ScoredPayment]:
    now = session.now
    scores, known = look.score(chunk, now), look.stored(chunk)
    return {
        name: _of_score(session, one, "known" if name in known else "dry_run", now)
        for name, one in scores.items()
    }


def _of_score(session: Session, of: PaymentScore, status: PaymentStatus, arrived_at: int) -> ScoredPayment:
    base, flag = session.config.schema_.base_currency, of.flag
    reasons = () if flag is None else json.loads(flag.reasons)
    return ScoredPayment(
        of.transaction_id,
        status,
        score=of.score,
        fraud_probability=of.fraud_probability,
        expected_loss=None if of.expected_loss is None else as_amount(of.expected_loss, base),
        decision_value=of.decision_value,
        threshold=of.threshold,
        channel=of.channel,
        flagged=flag is not None,
        muted_by=None if flag is None else flag.muted_by,
        reasons=tuple(as_record(FlagReason, reason) for reason in reasons),
        strategy=of.strategy,
        model_id=of.model_id,
        arrived_at=as_datetime(arrived_at),
    )


def _stored(session: Session, scorer: ArrivalScorer, chunk: TransactionChunk) -> dict[str, ScoredPayment]:
    added, names = scorer.add(chunk, session.now), chunk.transaction_id.tolist()
    status: dict[str, PaymentStatus] = dict.fromkeys(added.fresh, "scored")
    if len(added.fresh) < len(names):
        with entity_snapshot(session.store) as snapshot:
            known = snapshot.visible(names) - added.fresh
        others = chunk.take(np.array([place for place, name in enumerate(names) if name in known], np.int64))
        differing = others.take(changed(session.store, others))
        status |= dict.fromkeys(known, "duplicate")
        if len(differing):
            _revise(session, differing)
            status |= dict.fromkeys(differing.transaction_id.tolist(), "revised")
    found = {name: _of_score(session, one, "scored", added.arrived_at) for name, one in added.scores.items()}
    unanswered = [name for name in names if name not in found]
    rows = scores_of(session.store, LIVE, unanswered) if unanswered else {}
    return found | {
        name: _of_row(session, name, status[name], rows.get(name))
        if name in status
        else ScoredPayment(name, "rejected", BEING_LOADED)
        for name in unanswered
    }


def _revise(session: Session, chunk: TransactionChunk) -> None:
    """Store revisions in a batch of their own: what became of a payment is known from when its batch is visible."""
    holder = f"{session.actor}, who revises payments"
    with batches.begin(session.store, "transactions", SOURCE, False, session.now, holder) as loader:
        loader.add_transactions(chunk)
        content = f"{loader.batch_id} {chunk.transaction_id.tolist()}"
        loader.finish(session.now, hashlib.sha256(content.encode()).hexdigest())


def _of_row(session: Session, name: str, status: PaymentStatus, row: Row | None) -> ScoredPayment:
    if row is None:
        return ScoredPayment(name, status)
    base, loss = session.config.schema_.base_currency, row["expected_loss"]
    return as_record(
        ScoredPayment,
        row,
        status=status,
        error=None,
        expected_loss=None if loss is None else as_amount(loss, base),
        reasons=tuple(as_record(FlagReason, reason) for reason in row["reasons"] or ()),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _stale_after(session: Session) -> int:
    return int(session.config.schedule.window + session.config.schedule.allowed_lateness)
