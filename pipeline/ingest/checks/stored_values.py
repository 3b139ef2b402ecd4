"""Values as the database has them: hashed where schema.hash says so."""

from collections.abc import Callable

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.hashing import DISPLAYED, STORED, Hasher


def hasher_of(config: Config, displays: bool) -> Hasher | None:
    """Return the hasher for the fields of schema.hash; None if there are none."""
    return Hasher(config.hash_key(), displays) if config.schema_.hash else None


def stored_values(config: Config, displays: bool) -> Callable[[str, str], str]:
    """
    Return the function from a column and a value that a person typed to the value as the database has it.

    `displays` says whether the database stores hashed values with a display form. Such a value may also be given as
    it is stored, display form and hash, as exports have it. A display form alone raises InputError.
    """
    hasher = hasher_of(config, displays)

    def stored_value(column: str, value: str) -> str:
        if hasher is None or column not in config.schema_.hash or STORED.fullmatch(value.strip()):
            return value.strip()
        if DISPLAYED.fullmatch(value.strip()):
            raise InputError(
                f"{value.strip()} is how a hashed {column} is shown, and stands for many values",
                remedy="type the value itself, or copy it with its hash from an export",
                code="display_form",
            )
        return hasher.stored(value)

    return stored_value
