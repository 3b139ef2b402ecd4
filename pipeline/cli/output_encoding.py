"""Standard output and errors in any encoding: a character that it lacks is written in a simpler form, never an error."""

import codecs
import sys
from io import TextIOWrapper

HANDLER = "fraudwatch.simpler"
SIMPLER = {
    "✓": "+", "✗": "x", "→": "->", "─": "-", "━": "-", "–": "-", "—": "-", "−": "-", "…": "...", "•": "*", "·": ".",
    "×": "x", "±": "+/-", "≥": ">=", "≤": "<=", "∞": "inf",
}  # fmt: skip


def degrade_characters() -> None:
    """Let standard output and errors write every text; to be called before anything is printed."""
    codecs.register_error(HANDLER, _simpler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _simpler(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for the characters that cannot be written: ours in ASCII, those of data as an escape such as `\\u015f`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(SIMPLER.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end
