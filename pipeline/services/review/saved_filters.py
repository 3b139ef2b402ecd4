"""Filters of the queue that users keep under names; which one is in force is still said by the address of a page."""

from dataclasses import dataclass

from pipeline.card_numbers import mask_numbers
from pipeline.errors import InputError
from pipeline.services.session import Session
from storage.users import saved_filters


@dataclass(frozen=True)
class SavedFilter:
    """A filter under a name; `path` is the address of the queue with it."""

    name: str
    path: str


def list_filters(session: Session, user_id: int) -> tuple[SavedFilter, ...]:
    """A user's filters, by name."""
    return tuple(SavedFilter(*each) for each in saved_filters.filters_of(session.store, user_id))


def save_filter(session: Session, user_id: int, name: str, path: str) -> SavedFilter:
    """
    Keep an address of the queue under a name, in place of the one that has it.

    Raises
    ------
    InputError
        The name is empty.
    Refused
        The user has too many others.
    """
    name = mask_numbers(name.strip())
    if not name:
        raise InputError("the filter has no name", remedy="write one")
    saved_filters.save_filter(session.store, user_id, name, path)
    return SavedFilter(name, path)


def remove_filter(session: Session, user_id: int, name: str) -> None:
    """Forget a filter, if there is one of that name."""
    saved_filters.remove_filter(session.store, user_id, name)
