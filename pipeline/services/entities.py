"""Entities that people name: a value as it was typed, and as the database has it."""

from pipeline.errors import InputError
from pipeline.ingest.checks.stored_values import stored_values
from pipeline.services.session import Session
from storage.database.hash_form import has_displays


def entity_filter(session: Session, column: str, value: str) -> str:
    """
    The value of an entity as it is stored, to compare stored values with: a value of a `schema.hash` column is hashed.

    Parameters
    ----------
    column
        One of `schema.entities`.
    value
        As a person typed it.

    Raises
    ------
    InputError
        There is no such entity column, or the value is empty or only a display form.
    ConfigError
        The column is hashed, and there is no key.
    """
    require_entity_column(session, column)
    if not value.strip():
        raise InputError(f"the value of {column} is empty", code="empty_entity")
    return stored_values(session.config, has_displays(session.store))(column, value)


def require_entity_column(session: Session, column: str) -> None:
    """Raise InputError unless a column is one of `schema.entities`."""
    entities = session.config.schema_.entities
    if column not in entities:
        raise InputError(
            f"{column!r} is no entity column",
            remedy=f"choose {', '.join(entities)}",
            code="unknown_entity_column",
        )
