"""
What people say of payments: verdicts on flags, labels of any payment, and their retraction.

Everything is appended: a row of `verdicts`, the label that comes of it, and a row of the audit trail, in one transaction. A
retraction is known from its own time on; nothing is deleted, so what was computed in between stays as it was.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, delete, insert, select

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import claims, labels, verdicts
from storage.errors import Refused, StorageError, Unknown
from storage.review.audit_trail import write_audits
from storage.review.flag_status import update_flags
from storage.review.idempotency import RequestKey, store_answer, stored_answer
from storage.review.payment_state import Label, PaymentState, payment_states
from storage.review.verdict_log import CUSTOMER, NO_OPINION, RETRACTED

ROWS_A_WRITE = 1_000  # payments of one transaction: well under a second
ROWS_OF_MANY = 500  # of more payments than that, so that others' writes come in between sooner
IDS_MAX = 5  # that an error names

Verdict = Literal["fraud", "genuine", "no_opinion"]
Action = Literal["blocked", "refunded", "contacted", "none"]


@dataclass(frozen=True)
class Statement:
    """
    What a person says of some payments.

    Attributes
    ----------
    type
        Of the fraud.
    by_customer
        Whether the label's source is `customer`; otherwise it is what the person found.
    known_at
        µs; None for now.
    """

    verdict: Verdict
    type: str | None = None
    action: Action = "none"
    note: str = ""
    by_customer: bool = False
    known_at: int | None = None


@dataclass(frozen=True)
class VerdictOutcome:
    """
    What a verdict or a retraction changed.

    Attributes
    ----------
    before, after
        Status of the payment's flag; None if it has none.
    is_fraud
        What the label says that counts now; None without a label, and for a dispute that is not about fraud.
    """

    transaction_id: str
    before: str | None
    after: str | None
    is_fraud: bool | None


def record(
    store: Store, policy: str, ids: Sequence[str], statement: Statement, actor: str, now: int
) -> Iterator[list[VerdictOutcome]]:
    """
    Store what a person says of these payments, flagged or not; yields the outcomes of each written chunk.

    The label's source is `audit` for a flag of the audit sample, `review` for any other, `investigation` for a payment
    without a flag, unless an earlier answer of people has a source that ranks before it: so the newest answer counts.
    The same answer again adds a verdict and no second label.

    Raises
    ------
    Unknown
        There is no such transaction, or no flag to be closed without opinion.
    Refused
        Somebody has answered what is to be closed without opinion, or a fraud that another source reported is called
        genuine without a note.
    """
    return _write(store, policy, ids, _Recording(statement, now), actor, now)


@dataclass(frozen=True)
class StatementOn:
    """What a person says of one payment, and the version of its flag that they have seen; None for any."""

    transaction_id: str
    statement: Statement
    if_seen: str | None = None


@dataclass(frozen=True)
class StatementResult:
    """
    What became of one row of a batch.

    Attributes
    ----------
    code, message, remedy
        Why nothing was written; None if it was.
    before, after
        Status of the payment's flag; None if it has none.
    is_fraud
        What the label says that counts now.
    version
        Of the flag from now on.
    verdict, by, at
        The newest that people said; `at` in µs. None if nobody has said anything.
    """

    transaction_id: str
    code: str | None
    message: str | None
    remedy: str | None
    before: str | None
    after: str | None
    is_fraud: bool | None
    version: str | None
    verdict: str | None
    by: str | None
    at: int | None


def record_each(
    store: Store,
    policy: str,
    rows: Sequence[StatementOn],
    actor: str,
    now: int,
    key: RequestKey | None = None,
) -> tuple[list[StatementResult], bool]:
    """
    Store what a person says of each of at most `ROWS_A_WRITE` payments, in one transaction; a row that is refused fails no other.

    Parameters
    ----------
    rows
        No two of the same payment.
    key
        If its answer is kept already, nothing is written and that answer is returned.

    Returns
    -------
    A result for each row, in order, and whether it is that of an earlier request.

    Raises
    ------
    Refused
        The key belongs to another request.
    """
    with store.write_exclusive() as connection:
        kept = None if key is None else stored_answer(connection, key, now)
        if kept is not None:
            return [StatementResult(**row) for row in kept], True
        states = payment_states(connection, policy, [row.transaction_id for row in rows])
        codes = [_refusal_of(row, state, now) for row, state in zip(rows, states, strict=True)]
        after = {state.transaction_id: state for state in states}
        accepted = [
            (row, state) for row, state, code in zip(rows, states, codes, strict=True) if code is None
        ]
        if accepted:
            actions = [_Recording(row.statement, now) for row, _ in accepted]
            changed = _change(connection, policy, [state for _, state in accepted], actions, actor, now)
            after |= {state.transaction_id: state for state in changed}
        results = [
            _result(code, state, after[state.transaction_id])
            for code, state in zip(codes, states, strict=True)
        ]
        if key is not None:
            store_answer(connection, key, [asdict(result) for result in results], now)
        return results, False


def _refusal_of(row: StatementOn, state: PaymentState, now: int) -> str | None:
    if not state.is_stored:
        return "unknown_transaction"
    if row.if_seen is not None and row.if_seen != state.version:
        return "seen_another"
    return _Recording(row.statement, now).refusal(state)


def _result(code: str | None, before: PaymentState, after: PaymentState) -> StatementResult:
    entry, name = after.last_entry, after.transaction_id
    _, sentence, remedy = REFUSALS[code] if code is not None else (None, "", "")
    if remedy == NOTHING_WRITTEN:
        remedy = "nothing was written of this row; the others stand by themselves"
    return StatementResult(
        transaction_id=name,
        code=code,
        message=sentence.format(repr(name)) if code is not None else None,
        remedy=remedy or None,
        before=before.status,
        after=after.status,
        is_fraud=None if after.current is None else after.current.is_fraud,
        version=after.version if after.is_stored else None,
        verdict=None if entry is None else entry.verdict,
        by=None if entry is None else entry.by,
        at=None if entry is None else entry.at,
    )


def undo(
    store: Store,
    policy: str,
    ids: Sequence[str],
    reason: str,
    actor: str,
    now: int,
    if_seen: Mapping[str, str] | None = None,
) -> Iterator[list[VerdictOutcome]]:
    """
    Retract the newest verdict on each of these payments with its label; yields the outcomes of each written chunk.

    Parameters
    ----------
    if_seen
        By payment, the version of its flag that the person has seen; any version without one.

    Raises
    ------
    Unknown
        There is no such transaction, or no verdict on it.
    Refused
        Somebody has answered since.
    """
    return _write(store, policy, ids, _Undoing(reason, now, if_seen or {}), actor, now)


def retract(
    store: Store, policy: str, ids: Sequence[str], source: str | None, reason: str, actor: str, now: int
) -> Iterator[list[VerdictOutcome]]:
    """
    Retract a label of each of these payments; yields the outcomes of each written chunk.

    Parameters
    ----------
    source
        Whose newest label is retracted; None for the label that counts.

    Raises
    ------
    Unknown
        There is no such transaction, or no such label of it.
    """
    return _write(store, policy, ids, _Retracting(source, reason, now), actor, now)


@dataclass(frozen=True)
class _Change:
    """The rows to be written for a payment: a verdict, and a new label or the id of one that is there already."""

    verdict: Mapping[str, Any]
    label: Mapping[str, Any] | None = None
    label_id: int | None = None


class _Action(Protocol):
    audited_as: str

    def refusal(self, payment: PaymentState) -> str | None:
        """Why nothing may be written, as a key of `REFUSALS`."""

    def change(self, payment: PaymentState) -> _Change:
        """What is written."""


@dataclass(frozen=True)
class _Recording:
    statement: Statement
    now: int
    audited_as = "verdict"

    def refusal(self, payment: PaymentState) -> str | None:
        if self.statement.verdict == NO_OPINION:
            return "no_flag" if payment.status is None else "answered" if payment.is_answered else None
        overrules = self.statement.verdict == "genuine" and not self.statement.by_customer
        counts = payment.current
        overrules = overrules and payment.is_reported and counts is not None and bool(counts.is_fraud)
        return "overrules" if overrules and not self.statement.note else None

    def change(self, payment: PaymentState) -> _Change:
        statement = self.statement
        verdict = {
            "verdict": statement.verdict, "type": statement.type, "action": statement.action,
            "note": statement.note or None,
        }  # fmt: skip
        if statement.verdict == NO_OPINION:
            return _Change(verdict)
        source = CUSTOMER if statement.by_customer else payment.own_source()
        is_fraud, before = statement.verdict == "fraud", payment.newest_of(source)
        same = before is not None and (before.is_fraud, before.type) == (is_fraud, statement.type)
        if before is not None and same and (statement.by_customer or before is payment.current):
            return _Change(verdict, label_id=before.label_id)
        known_at = self._known_at(payment.taken.get(source, frozenset()))
        label = {
            "is_fraud": is_fraud, "source": source, "type": statement.type, "known_at": known_at,
            "recorded_at": max(self.now, known_at), "retracts": None,
        }  # fmt: skip
        return _Change(verdict, label)

    def _known_at(self, taken: frozenset[int]) -> int:
        """Later than all labels of the source if the label is new, else the first free instant."""
        if self.statement.known_at is None:
            return max([self.now, *(instant + 1 for instant in taken)])
        known_at = self.statement.known_at
        while known_at in taken:
            known_at += 1
        return known_at


@dataclass(frozen=True)
class _Retracting:
    source: str | None
    reason: str
    now: int
    audited_as = "retract label"

    def refusal(self, payment: PaymentState) -> str | None:
        return "no_label" if self._label(payment) is None else None

    def change(self, payment: PaymentState) -> _Change:
        return _retraction(self._label(payment), self.reason, self.now)

    def _label(self, payment: PaymentState) -> Label | None:
        return payment.current if self.source is None else payment.newest_of(self.source)


@dataclass(frozen=True)
class _Undoing:
    reason: str
    now: int
    if_seen: Mapping[str, str]
    audited_as = "undo verdict"

    def refusal(self, payment: PaymentState) -> str | None:
        if self.if_seen.get(payment.transaction_id, payment.version) != payment.version:
            return "seen_another"
        return "no_verdict" if payment.newest_verdict is None else None

    def change(self, payment: PaymentState) -> _Change:
        assert payment.newest_verdict is not None
        label_id = payment.newest_verdict.label_id
        label = next((row for row in payment.labels if row.label_id == label_id), None)
        return _retraction(label, self.reason, self.now)


def _retraction(label: Label | None, reason: str, now: int) -> _Change:
    verdict = {"verdict": RETRACTED, "type": None, "action": "none", "note": reason}
    if label is None:  # of a flag that was closed without opinion
        return _Change(verdict)
    known_at = max(now, label.known_at, label.recorded_at or now)
    row = {
        "is_fraud": None, "source": label.source, "type": None, "known_at": known_at, "recorded_at": known_at,
        "retracts": label.label_id,
    }  # fmt: skip
    return _Change(verdict, row)


NOTHING_WRITTEN = "nothing was written"
# Code → the kind of error, its sentence about some transactions, and what to do.
REFUSALS: dict[str, tuple[type[StorageError], str, str]] = {
    "unknown_transaction": (Unknown, "there is no transaction {}", NOTHING_WRITTEN),
    "no_flag": (Unknown, "there is no flag to close on transaction {}", NOTHING_WRITTEN),
    "answered": (
        Refused,
        "there is an answer on transaction {}, so it cannot be closed without opinion",
        "undo the verdict first",
    ),
    "overrules": (
        Refused,
        "there is a report of fraud on transaction {}",
        "add a note that says why it is genuine all the same, which overrules the report",
    ),
    "seen_another": (
        Refused,
        "somebody has answered transaction {} since it was looked at",
        "look at it again, and send its version of now",
    ),
    "no_verdict": (Unknown, "there is no verdict to undo on transaction {}", NOTHING_WRITTEN),
    "no_label": (Unknown, "there is no such label to retract on transaction {}", NOTHING_WRITTEN),
}


def _write(
    store: Store, policy: str, ids: Sequence[str], action: _Action, actor: str, now: int
) -> Iterator[list[VerdictOutcome]]:
    """Check all payments before the first is written, then write them in chunks, each whole or not at all."""
    distinct = list(dict.fromkeys(ids))
    rows = ROWS_A_WRITE if len(distinct) <= ROWS_A_WRITE else ROWS_OF_MANY
    chunks = [distinct[start : start + rows] for start in range(0, len(distinct), rows)]
    if len(chunks) > 1:
        with store.read() as connection:
            _check(payment_states(connection, policy, distinct), action)
    bulk_id = _bulk_id(len(distinct))
    for chunk in chunks:
        with store.write_exclusive() as connection:
            before = payment_states(connection, policy, chunk)
            _check(before, action)
            after = _change(connection, policy, before, [action] * len(before), actor, now, bulk_id)
        yield [_outcome(*states) for states in zip(before, after, strict=True)]


def _bulk_id(payments: int) -> str | None:
    return secrets.token_hex(8) if payments > 1 else None


def _change(
    connection: Connection,
    policy: str,
    before: Sequence[PaymentState],
    actions: Sequence[_Action],
    actor: str,
    now: int,
    bulk_id: str | None = None,
) -> list[PaymentState]:
    """Write the change of each payment, end claims on its flag, and return the states after that."""
    ids = [payment.transaction_id for payment in before]
    changes = [action.change(payment) for action, payment in zip(actions, before, strict=True)]
    shared = {"by": actor, "bulk_id": bulk_id or _bulk_id(len(ids))}
    _insert(connection, before, changes, shared, now)
    listed = bulk.with_listed_ids(bulk.listed_ids(connection.dialect.name), ids)
    connection.execute(delete(claims).where(claims.c.policy == policy, claims.c.transaction_id.in_(listed)))
    update_flags(connection, ids)
    after = payment_states(connection, policy, ids)
    _audit(connection, actions[0], before, after, changes, shared, now)
    return after


def _check(payments: Sequence[PaymentState], action: _Action) -> None:
    """Refuse all if one must be refused; the error names those with the same fault."""
    faults: dict[str, list[str]] = {}
    for payment in payments:
        code = action.refusal(payment) if payment.is_stored else "unknown_transaction"
        if code is not None:
            faults.setdefault(code, []).append(payment.transaction_id)
    for code, (kind, sentence, remedy) in REFUSALS.items():
        if code in faults:
            raise kind(sentence.format(_listed(faults[code])), remedy=remedy, code=code)


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - IDS_MAX:,} more" if len(ids) > IDS_MAX else ""
    return ", ".join(map(repr, ids[:IDS_MAX])) + more


def _insert(
    connection: Connection,
    payments: Sequence[PaymentState],
    changes: Sequence[_Change],
    shared: Mapping[str, Any],
    now: int,
) -> None:
    pairs = list(zip(payments, changes, strict=True))
    new = [
        {**shared, **change.label, "transaction_id": payment.transaction_id}
        for payment, change in pairs
        if change.label is not None
    ]
    new_ids = _insert_labels(connection, new) if new else {}
    rows = [
        {
            **shared, **change.verdict, "transaction_id": payment.transaction_id, "at": now,
            "label_id": change.label_id if change.label is None else new_ids[payment.transaction_id],
        }
        for payment, change in pairs
    ]  # fmt: skip
    connection.execute(insert(verdicts), rows)


def _insert_labels(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Insert one label a payment in one statement; returns their label_ids by transaction."""
    c = labels.c
    connection.execute(insert(labels), rows)
    listed = bulk.listed_ids(connection.dialect.name)
    mine = bulk.with_listed_ids(listed, [row["transaction_id"] for row in rows])
    # Of a source and an instant a payment has one label at most, and what takes it back.
    key = ("transaction_id", "source", "known_at", "retracts")
    keys = {tuple(row[name] for name in key) for row in rows}
    found = connection.execute(
        select(*(c[name] for name in key), c.label_id).where(c.transaction_id.in_(mine))
    )
    return {row.transaction_id: row.label_id for row in found if tuple(row[:-1]) in keys}


def _audit(
    connection: Connection,
    action: _Action,
    before: Sequence[PaymentState],
    after: Sequence[PaymentState],
    changes: Sequence[_Change],
    shared: Mapping[str, Any],
    now: int,
) -> None:
    rows = []
    for old, new, change in zip(before, after, changes, strict=True):
        source = None if change.label is None else change.label["source"]
        details = {**change.verdict, "source": source, "bulk_id": shared["bulk_id"]}
        written = {name: value for name, value in details.items() if value is not None}
        rows.append(
            {
                "subject": old.transaction_id,
                "before": {"status": old.status},
                "after": {"status": new.status, **written},
            }
        )
    write_audits(connection, shared["by"], action.audited_as, rows, now)


def _outcome(before: PaymentState, after: PaymentState) -> VerdictOutcome:
    current = after.current
    is_fraud = None if current is None else current.is_fraud
    return VerdictOutcome(after.transaction_id, before.status, after.status, is_fraud)
