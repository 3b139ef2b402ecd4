"""Stored records as lines of names and values, as people read them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from pipeline.rendering.text import safe_text
from pipeline.web.rendering import moment

CODES = ("verdict", "role", "action", "status", "kind")  # whose values are codes, said with spaces
LISTED = 5  # values of a list
INSTANT_MIN = 10**14  # whole numbers from here on are instants, in µs


def record_text(after: Mapping[str, Any] | None, before: Mapping[str, Any] | None = None) -> Markup:
    """
    What a record holds, "reason: wrong costs; days: 7", or how it has changed, "role: viewer → reviewer".

    What is empty, or as it was, is left out. Instants are times that the script writes in the viewer's zone.
    """
    now, then = after or {}, before or {}
    lines = []
    for name in dict.fromkeys([*then, *now]):
        old, new = (_value_text(record.get(name)) for record in (then, now))
        if name in CODES:
            old, new = old.replace("_", " "), new.replace("_", " ")
        if old == new and before is not None and after is not None:
            continue
        change = Markup("{} → {}").format(old, new or "nothing") if old else new
        if change:
            lines.append(Markup("{}: {}").format(_text(name.replace("_", " ")), change))
    return Markup("; ").join(lines)


def _text(value: object) -> Markup:
    return Markup.escape(safe_text(value))


def _value_text(value: Any) -> Markup:
    if value is None or value in ("", [], {}):
        return Markup()
    if isinstance(value, bool):
        return Markup("yes") if value else Markup("no")
    if isinstance(value, int) and value >= INSTANT_MIN:
        return moment(datetime.fromtimestamp(value / 1_000_000, UTC))
    if isinstance(value, Mapping):
        parts = [
            Markup("{} {}").format(_text(name.replace("_", " ")), text)
            for name, each in value.items()
            if (text := _value_text(each))
        ]
        return Markup(", ").join(parts)
    if isinstance(value, list | tuple):
        more = f" and {len(value) - LISTED:,} more" if len(value) > LISTED else ""
        return Markup(", ").join(_value_text(each) for each in value[:LISTED]) + more
    return _text(value)
