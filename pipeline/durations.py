"""Spans of time as people write them ("90s", "15m", "1h", "30d", "2w") and as the code has them: whole µs."""

import re

SECOND = 1_000_000  # µs
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

_UNITS = {"w": WEEK, "d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND}
_WRITTEN = re.compile(r"(\d{1,6})\s*([wdhms])")


def parse_duration(text: object) -> int:
    """
    Read a duration such as "30d" into µs.

    Raises
    ------
    ValueError
        If it is anything but a whole number followed by one of s, m, h, d, w. A bare number is refused,
        because nothing says which unit was meant.
    """
    written = _WRITTEN.fullmatch(text.strip()) if isinstance(text, str) else None
    if written is None:
        raise ValueError('must be a duration such as "90s", "15m", "1h", "30d" or "2w"')
    return int(written[1]) * _UNITS[written[2]]


def format_duration(span: int) -> str:
    """Write µs the shortest way that reads back as the same span; weeks are written as days."""
    unit = next((unit for unit in "dhms" if span % _UNITS[unit] == 0), None)
    if unit is None:
        raise ValueError(f"a duration is written in whole seconds, got {span} µs")
    return f"{span // _UNITS[unit]}{unit}" if span else "0s"
