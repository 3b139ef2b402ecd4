"""Feeds: polled queries and watched folders, and how far each has been read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.queries.status import feed_page


@dataclass(frozen=True)
class FeedRecord:
    """
    A feed as it ended the last time, or a file of a watched folder.

    Attributes
    ----------
    read_through
        Of a query with a cursor: the newest instant that has been read.
    path
        Of a file.
    at
        When it was read.
    status
        Whether that worked; a folder fails while it has a file that was refused.
    """

    feed: str
    read_through: datetime | None
    path: str | None
    at: datetime
    batch_id: int | None
    status: Literal["done", "failed"]
    error: str | None


def list_feeds(session: Session, *, limit: int = PAGE_ROWS, cursor: str | None = None) -> Page[FeedRecord]:
    """
    Polled queries and watched folders, then files of these, those that were read last first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = feed_page(session.store, limit, decode_cursor(cursor, keys=4))
    return Page(tuple(as_record(FeedRecord, row) for row in page.rows), encode_cursor(page.next_position))
