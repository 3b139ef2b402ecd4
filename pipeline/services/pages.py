"""Long lists in pages: what a service returns, and the cursor from which the next page begins."""

import base64
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.errors import InputError

Item = TypeVar("Item")
PAGE_ROWS = 1_000  # of a page, unless the caller says otherwise
ROWS_AT_ONCE = 10_000  # of a page when all are wanted: each page sorts the whole list again


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A part of a list, and the cursor of the next part; None if this is the last one."""

    items: tuple[Item, ...]
    next_cursor: str | None


def encode_cursor(position: tuple[Any, ...] | None, order: str | None = None) -> str | None:
    """A position of storage as opaque text, with the order of a list that has several."""
    if position is None:
        return None
    values = position if order is None else (*position, order)
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, keys: int, order: str | None = None) -> tuple[Any, ...] | None:
    """
    The position of a cursor.

    Parameters
    ----------
    keys
        How many sort keys the list has.
    order
        The order that is asked for, of a list that has several.

    Raises
    ------
    InputError
        The cursor was not made by `encode_cursor` for this list in this order.
    """
    if cursor is None:
        return None
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        position = None
    suffix = [] if order is None else [order]
    if not isinstance(position, list) or len(position) != keys + len(suffix) or position[keys:] != suffix:
        raise InputError(
            f"{cursor!r} is no cursor of this list", remedy="begin again without one", code="bad_cursor"
        )
    return tuple(position[:keys])


def slice_page(
    items: Sequence[Item], key: Callable[[Item], tuple[Any, ...]], limit: int, cursor: str | None, keys: int
) -> Page[Item]:
    """
    A page of a list that is computed whole.

    Parameters
    ----------
    items
        The list, ascending by `key`, whose values JSON can hold and which no two items share.
    keys
        How many values the key has.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    position = decode_cursor(cursor, keys)
    positions = [key(item) for item in items]
    try:
        first = 0 if position is None else bisect_right(positions, position)
    except TypeError:
        raise InputError(
            f"{cursor!r} is no cursor of this list", remedy="begin again without one", code="bad_cursor"
        ) from None
    part = tuple(items[first : first + limit])
    more = first + limit < len(items)
    return Page(part, encode_cursor(positions[first + limit - 1]) if more else None)


def every(read: Callable[..., Page[Item]], *arguments: Any, limit: int | None = None) -> Iterator[Item]:
    """
    The items of all pages of a list, or the first `limit` of them.

    Parameters
    ----------
    read
        The service that lists; it is called with `arguments`, and with `limit` and `cursor` by name.
    """
    cursor, left = None, limit
    while left is None or left > 0:
        page = read(
            *arguments, limit=ROWS_AT_ONCE if left is None else min(left, ROWS_AT_ONCE), cursor=cursor
        )
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
        left = None if left is None else left - len(page.items)
