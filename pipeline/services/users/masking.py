"""What of an entity's value those see whose role does not allow `see_values`."""

import re

from pipeline.hashing import STORED, display_form
from pipeline.sanitize import DISPLAY_END
from pipeline.services.users.permissions import Caller, Permission

HIDDEN = "•••"
VISIBLE = 2  # characters at the end of a value without a known form
LENGTH_MIN = 6  # characters of a value; of a shorter one nothing is shown
_HASH = re.compile(r"[0-9a-f]{64}")


def masked(value: str) -> str:
    """
    A value as those see it who may not see it whole: `•••• 4242`, `a…@example.com`, `•••34`.

    Equal values look alike, but so may different ones; handles tell them apart.
    """
    if STORED.fullmatch(value):
        return value.rpartition(DISPLAY_END)[0]
    if _HASH.fullmatch(value):
        return HIDDEN
    display, _ = display_form(value.strip())
    if display:
        return display
    return HIDDEN + value[-VISIBLE:] if len(value) >= LENGTH_MIN else HIDDEN


def value_for(caller: Caller, value: str | None) -> str | None:
    """A value of an entity as the caller may see it."""
    return value if value is None or caller.may(Permission.SEE_VALUES) else masked(value)


def text_for(caller: Caller, text: str | None) -> str | None:
    """A note, reason or rule, which may quote any value, as the caller may see it: whole or not at all."""
    return text if not text or caller.may(Permission.SEE_VALUES) else HIDDEN
