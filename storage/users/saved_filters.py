"""Filters of the queue that users keep under names (table `saved_filters`)."""

from sqlalchemy import delete, func, insert, select

from storage.database.database import Store
from storage.database.tables import saved_filters
from storage.errors import Refused

F = saved_filters.c
FILTERS_MAX = 50  # of a user: all are on every page of the queue


def filters_of(store: Store, user_id: int) -> list[tuple[str, str]]:
    """Name and path of each of a user's filters, by name."""
    with store.read() as connection:
        rows = connection.execute(select(F.name, F.path).where(F.user_id == user_id).order_by(F.name))
        return [(row.name, row.path) for row in rows]


def save_filter(store: Store, user_id: int, name: str, path: str) -> None:
    """
    Keep a path under a name, in place of the one that has it.

    Raises
    ------
    Refused
        The user has `FILTERS_MAX` others.
    """
    with store.write() as connection:
        connection.execute(delete(saved_filters).where(F.user_id == user_id, F.name == name))
        if int(connection.scalar(select(func.count()).where(F.user_id == user_id)) or 0) >= FILTERS_MAX:
            raise Refused(f"there are {FILTERS_MAX} saved filters already", remedy="remove one first")
        connection.execute(insert(saved_filters), {"user_id": user_id, "name": name, "path": path})


def remove_filter(store: Store, user_id: int, name: str) -> None:
    """Forget a filter, if there is one of that name."""
    with store.write() as connection:
        connection.execute(delete(saved_filters).where(F.user_id == user_id, F.name == name))
