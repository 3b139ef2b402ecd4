"""Notes on payments: what people write without answering."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.card_numbers import mask_numbers
from pipeline.errors import InputError
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.review.statements import named_ids
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.queries.notes import note_page
from storage.review import notes
from storage.review.idempotency import RequestKey


@dataclass(frozen=True)
class NewNote:
    """A note to be added; the same `key` again adds it once, for a day."""

    transaction_id: str
    text: str
    key: RequestKey | None = None


@dataclass(frozen=True)
class NoteRequest:
    """Whose notes to list; None for those of all payments."""

    transaction_id: str | None = None


@dataclass(frozen=True)
class NoteRecord:
    """A note on a payment."""

    note_id: int
    transaction_id: str
    text: str
    at: datetime
    by: str


@dataclass(frozen=True)
class AddedNote:
    """A note that was added, and whether an earlier request with the same key has added it."""

    note: NoteRecord
    replayed: bool


def add_note(session: Session, note: NewNote) -> AddedNote:
    """
    Add a note to a payment; whole card numbers in it are masked.

    Raises
    ------
    InputError
        The note is empty, or names no transaction.
    Unknown
        There is no such transaction.
    Refused
        The key belongs to another request.
    """
    (name,) = named_ids([note.transaction_id])
    text = mask_numbers(note.text.strip())
    if not text:
        raise InputError("the note is empty", remedy="write something")
    number, at, replayed = notes.add_note(session.store, name, text, session.actor, session.now, note.key)
    return AddedNote(NoteRecord(number, name, text, as_datetime(at), session.actor), replayed)


def list_notes(
    session: Session, request: NoteRequest, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[NoteRecord]:
    """
    Notes, the newest first.

    Raises
    ------
    Unknown
        There is no such transaction.
    InputError
        The cursor is not one of this list.
    """
    page = note_page(session.store, request.transaction_id, limit, decode_cursor(cursor, keys=1))
    return Page(tuple(as_record(NoteRecord, row) for row in page.rows), encode_cursor(page.next_position))
