"""Parses and formats durations such as "90s", "15m", "1h", "30d" or "2w"; the code uses whole µs."""

import re

from storage.frames import DAY, HOUR, MINUTE, SECOND, WEEK

__all__ = ["DAY", "HOUR", "MINUTE", "SECOND", "WEEK", "format_duration", "parse_duration"]

_UNITS = {"w": WEEK, "d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND}
_WRITTEN = re.compile(r"(\d{1,6})\s*([wdhms])")


def parse_duration(text: object) -> int:
    """
    Parse a duration such as "30d" into µs.

    Raises
    ------
    ValueError
        If it is not a whole number followed by one of s, m, h, d, w. A number without a unit is an error.
    """
    written = _WRITTEN.fullmatch(text.strip()) if isinstance(text, str) else None
    if written is None:
        raise ValueError('must be a duration such as "90s", "15m", "1h", "30d" or "2w"')
    return int(written[1]) * _UNITS[written[2]]


def format_duration(span: int) -> str:
    """Write µs in the largest unit that is exact; weeks are written as days."""
    unit = next((unit for unit in "dhms" if span % _UNITS[unit] == 0), None)
    if unit is None:
        raise ValueError(f"a duration must be whole seconds, got {span} µs")
    return f"{span // _UNITS[unit]}{unit}" if span else "0s"
