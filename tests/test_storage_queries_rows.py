"""Rows of the read side: typed values, and pages that neither repeat nor leave out a row."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from sqlalchemy import select

from pipeline.errors import InputError
from pipeline.services.pages import Page, decode_cursor, encode_cursor, every
from storage.database import tables
from storage.database.column_types import as_micros
from storage.database.database import Store
from storage.queries.rows import Row, SortKey, fetch_page, stream
from storage.review.audit_trail import write_audit
from tests.support.databases import Opener
from tests.support.worlds import SMALL

NOON = as_micros(datetime(2026, 3, 1, 12, tzinfo=UTC))
A = tables.audit.c
NEWEST_FIRST = (SortKey(A.at, descending=True), SortKey(A.audit_id))


@pytest.fixture
def store(opener: Opener) -> Store:
    """Seven entries of the audit trail, of which three have one time."""
    opened = opener(SMALL)
    times = [NOON + offset for offset in (0, 1, 2, 2, 2, 3, 4)]
    with opened.write_exclusive() as connection:
        for at in times:
            write_audit(connection, "ann", "verdict", str(at), None, None, at)
    return opened


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8])
def test_pages_of_any_size_hold_each_row_once_in_order(store: Store, size: int) -> None:
    query, read = select(A.audit_id, A.at), []

    def page(query: Any, *, limit: int, cursor: str | None) -> Page[Row]:
        found = fetch_page(store, query, NEWEST_FIRST, min(limit, size), decode_cursor(cursor, 2))
        assert len(found.rows) <= size
        read.append(len(found.rows))
        return Page(tuple(found.rows), encode_cursor(found.next_position))

    everything = list(stream(store, query.order_by(A.at.desc(), A.audit_id)))
    assert len(everything) == 7
    assert list(islice(every(page, query), 8)) == everything  # a cursor that goes round would go on for ever
    assert len(read) == -(-7 // size)  # no empty page after the last row
    assert list(every(page, query, limit=5)) == everything[:5]


def test_rows_that_arrive_in_the_meantime_neither_repeat_nor_hide_others(store: Store) -> None:
    first = fetch_page(store, select(A.audit_id), NEWEST_FIRST, 3)
    with store.write_exclusive() as connection:
        write_audit(connection, "bob", "undo", "run 1", None, None, NOON + 9)
    second = fetch_page(store, select(A.audit_id), NEWEST_FIRST, 100, first.next_position)
    assert [row["audit_id"] for row in first.rows + second.rows] == [7, 6, 3, 4, 5, 2, 1]
    assert second.next_position is None


def test_instants_are_aware_and_money_is_exact(first_week: Store) -> None:
    t = first_week.transactions.c
    row = next(stream(first_week, select(t.event_time, t.amount).order_by(t.transaction_id)))
    assert row["event_time"].tzinfo is UTC
    assert isinstance(row["amount"], Decimal)
    assert row["amount"] == round(row["amount"], 2)


@pytest.mark.parametrize("cursor", ["", "x", "bm90IGpzb24", encode_cursor((1, 2, 3)), "W10", "e30", "äöü"])
def test_a_cursor_of_another_list_is_refused(cursor: str) -> None:
    with pytest.raises(InputError, match="cursor") as caught:
        decode_cursor(cursor, 2)
    assert caught.value.code == "bad_cursor"
