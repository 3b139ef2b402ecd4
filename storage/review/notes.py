"""What people write about a payment without answering (table `notes`): rows are only added."""

from sqlalchemy import insert, text

from storage.database.database import Store
from storage.database.tables import notes
from storage.errors import Unknown
from storage.review.audit_trail import write_audit
from storage.review.idempotency import RequestKey, store_answer, stored_answer

STORED = text("SELECT 1 FROM visible_transactions WHERE transaction_id = :id")


def add_note(
    store: Store, transaction_id: str, note: str, actor: str, now: int, key: RequestKey | None = None
) -> tuple[int, int, bool]:
    """
    Add a note; returns its number, when it was added (µs), and whether an earlier request with the same key has done that.

    Raises
    ------
    Unknown
        There is no such transaction.
    Refused
        The key belongs to another request.
    """
    with store.write_exclusive() as connection:
        kept = None if key is None else stored_answer(connection, key, now)
        if kept is not None:
            return int(kept["note_id"]), int(kept["at"]), True
        if connection.scalar(STORED, {"id": transaction_id}) is None:
            raise Unknown(f"there is no transaction {transaction_id!r}", code="unknown_transaction")
        row = {"transaction_id": transaction_id, "text": note, "at": now, "by": actor}
        number = int(connection.execute(insert(notes).returning(notes.c.note_id), row).scalar_one())
        write_audit(connection, actor, "note", transaction_id, None, {"note_id": number, "note": note}, now)
        if key is not None:
            store_answer(connection, key, {"note_id": number, "at": now}, now)
        return number, now, False
