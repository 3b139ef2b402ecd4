"""What forms of pages send: lists of flags with the versions that were versions."""

import json
from typing import Annotated, Any

from fastapi import Form

from pipeline.errors import InputError

FlagList = Annotated[str, Form(max_length=2_000_000)]
Anyway = Annotated[bool, Form()]  # whether to answer what somebody else has claimed, too
NoteText = Annotated[str, Form(max_length=10_000)]


def flag_versions(text: str) -> list[tuple[str, str | None]]:
    """
    The ids of flags and the versions of them that a page has shown, each id once.

    Raises
    ------
    InputError
        It is not such a list, or an empty one.
    """
    try:
        rows: Any = json.loads(text)
        versions = dict(rows)
    except (ValueError, TypeError) as error:
        raise InputError("the form names no flags", remedy="load the page again") from error
    if not versions or not all(
        isinstance(name, str) and isinstance(version, str | None) for name, version in versions.items()
    ):
        raise InputError("the form names no flags", remedy="select at least one")
    return list(versions.items())
