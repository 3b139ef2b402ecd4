"""What forms of pages send: lists of flags with the versions that were seen."""

import json
from typing import Annotated, Any

from fastapi import Form

from pipeline.errors import InputError

FlagList = Annotated[str, Form(max_length=2_000_000)]
Words = Annotated[str, Form(max_length=10_000)]


def seen_flags(text: str) -> list[tuple[str, str | None]]:
    """
    The ids of flags and the versions of them that were seen, each id once.

    Raises
    ------
    InputError
        It is not such a list, or an empty one.
    """
    try:
        rows: Any = json.loads(text)
        seen = dict(rows)
    except (ValueError, TypeError) as error:
        raise InputError("the form names no flags", remedy="load the page again") from error
    if not seen or not all(
        isinstance(name, str) and isinstance(version, str | None) for name, version in seen.items()
    ):
        raise InputError("the form names no flags", remedy="select at least one")
    return list(seen.items())
