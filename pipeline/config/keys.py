"""The keys of config.toml: which there are, and the known name closest to an unknown one."""

import difflib
from functools import cache

from pydantic.fields import FieldInfo

from pipeline.config.sections import Sections, ShadowSection, SourceSection, WatchSection

NAMED = ("source", "watch", "shadow")  # sections of which there may be any number, each with a name


@cache
def known_keys() -> dict[str, FieldInfo]:
    """Return every key that may be set, dotted, with its field; a source's as `source.*.key`."""
    known = dict[str, FieldInfo]()
    for name, section in Sections.model_fields.items():
        fields = getattr(section.annotation, "model_fields", {})
        title = section.alias or name
        known.update({f"{title}.{field.alias or key}": field for key, field in fields.items()})
    known.update({f"source.*.{key}": field for key, field in SourceSection.model_fields.items()})
    known.update({f"watch.*.{key}": field for key, field in WatchSection.model_fields.items()})
    return known


def in_shadow(key: str) -> str | None:
    """The key that `shadow.NAME.section.key` stands in for; None for one that a shadow may not give."""
    parts = key.split(".", 2)
    own = parts[2] if len(parts) == 3 else ""
    return own if own.partition(".")[0] in ShadowSection.model_fields else None


def closest(name: str, known: list[str]) -> str:
    """Return `, did you mean …?` if one of the known names is close, else nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""
