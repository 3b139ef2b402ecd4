"""Long lists in pages: what a service returns, and the cursor from which the next page begins."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.errors import InputError

Item = TypeVar("Item")
PAGE_ROWS = 1_000  # the largest page: a program that wants more asks again


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A part of a list, and the cursor of the next part; None if this is the last one."""

    items: tuple[Item, ...]
    next_cursor: str | None


def encode_cursor(position: tuple[Any, ...] | None) -> str | None:
    """A position of storage as opaque text."""
    if position is None:
        return None
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, keys: int) -> tuple[Any, ...] | None:
    """
    The position of a cursor.

    Parameters
    ----------
    keys
        How many sort keys the list has.

    Raises
    ------
    InputError
        The cursor was not made by `encode_cursor` for this list.
    """
    if cursor is None:
        return None
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        position = None
    if not isinstance(position, list) or len(position) != keys:
        raise InputError(
            f"{cursor!r} is no cursor of this list", remedy="begin again without one", code="bad_cursor"
        )
    return tuple(position)


def every(read: Callable[[str | None, int], Page[Item]], limit: int | None = None) -> Iterator[Item]:
    """
    The items of all pages, or the first `limit` of them.

    Parameters
    ----------
    read
        A page by its cursor (None for the first one) and its largest number of items.
    """
    cursor, left = None, limit
    while left is None or left > 0:
        page = read(cursor, PAGE_ROWS if left is None else min(left, PAGE_ROWS))
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
        left = None if left is None else left - len(page.items)
