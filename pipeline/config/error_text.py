"""Turns validation errors into one sentence that names key, requirement, value and place."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.config.key_names import NAMED, did_you_mean, known_keys, overridden_key, what_became_of
from pipeline.config.sections import ShadowSection
from pipeline.errors import ConfigError
from pipeline.number_text import exact

UNANSWERED = "CHECK"  # a value that `init --from` leaves to somebody who knows the data
VALUE_MAX = 80  # characters of a value repeated in a message
# Keys whose values may be secrets, whatever they are written in, and values that may be secrets under any key.
SECRET_KEYS = re.compile(r"(.*_)?(urls?|key|keys|password|passwd|token|secret|env)")
SECRET_VALUES = re.compile(r"[^\"]@|://|passw|secret|token|sslkey", re.IGNORECASE)

# pydantic's error type → requirement; names in braces come from the error's context
_REQUIREMENTS = {
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text in quotes",
    "string_sub_type": "must be text in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": "must be {max_length} characters or fewer",
    "literal_error": "must be one of {expected}",
    "tuple_type": "must be a list in square brackets",
    "list_type": "must be a list in square brackets",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "too_short": "must hold at least {min_length} value(s)",
    "too_long": "must hold at most {max_length} values",
}


class InvalidSetting(ConfigError):  # noqa: N818 (internal; what escapes is a ConfigError)
    """A setting violates a requirement; `load_config` adds where the value came from."""

    def __init__(self, key: str, value: object, requirement: str) -> None:
        super().__init__(f"{key} {requirement}, got {format_value(key, value)}")
        self.key = key


def with_place(error: InvalidSetting, file: str, origins: Mapping[str, str]) -> str:
    """Return the error's sentence with the place that the value came from."""
    return f"{error} ({place(error.key, file, origins)})"


def first_error(error: ValidationError, file: str, origins: Mapping[str, str]) -> str:
    """Return one sentence about the first error that pydantic found."""
    # a key that does not exist may be the one that is missing, written in another way
    first = min(error.errors(include_url=False), key=lambda each: each["type"] == "missing")
    path = [str(part) for part in first["loc"]]
    key = ".".join(path[: _depth(path)])
    where = place(key, file, origins)
    if first["type"] == "extra_forbidden":
        gone = what_became_of(key)
        if path[0] == "shadow" and path[1] in ShadowSection.model_fields:
            return f"{key} is not a key: write [shadow.NAME] above it, with a name of your choice ({where})"
        return (
            f"{key} is no longer a key: {gone} ({where})"
            if gone
            else f"{key} is not a key{_suggestion(key)} ({where})"
        )
    if first["type"] == "missing":
        return f"{key} is missing; set it ({where})"
    context = first.get("ctx", {})
    template = "{error}" if "error" in context else _REQUIREMENTS.get(first["type"], first["msg"])
    requirement = template.format_map({name: _plain_number(value) for name, value in context.items()})
    value = first["input"]
    # of a table only the keys are shown: its values may be secrets
    value = sorted(value) if isinstance(value, dict) else value
    text = format_value(key, value)
    return f"{key} {requirement}, got {text}{_remedy(path, first['type'], text)} ({where})"


def _remedy(path: list[str], error_type: str, text: str) -> str:
    """What to write instead, where the requirement alone does not say it."""
    if error_type == "model_type" and len(path) == 2 and path[0] in NAMED:
        return f": write the keys of [{path[0]}] below [{path[0]}.NAME], with a name of your choice"
    if error_type == "tuple_type" and text.startswith('"') and text.endswith('"'):
        return f": write {path[-1]} = [{text}]"
    return ""


def unanswered(raw: Mapping[str, Any], file: str, origins: Mapping[str, str]) -> str:
    """Return one sentence about the first key that is `UNANSWERED`, "" if there is none."""
    key = _unanswered_key(raw, "")
    if not key:
        return ""
    where = place(key, file, origins)
    return f"{key} is not answered yet: write one of the values that the lines above it name ({where})"


def _unanswered_key(value: object, key: str) -> str:
    if isinstance(value, dict):
        named = ((item, f"{key}.{name}" if key else str(name)) for name, item in value.items())
        return next(filter(None, (_unanswered_key(item, name) for item, name in named)), "")
    return key if value == UNANSWERED or (isinstance(value, list) and UNANSWERED in value) else ""


def place(key: str, file: str, origins: Mapping[str, str]) -> str:
    """Return where a key's value came from: an environment variable, or a section of a file."""
    if key in origins:
        return f"environment, {origins[key]}"
    section = key.rpartition(".")[0] or key
    return f"{file}, [{section}]"


def format_value(key: str, value: object) -> str:
    """Write a value for a message: shortened, and hidden if it may hold a secret."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    if SECRET_KEYS.fullmatch(key.rpartition(".")[2]) or SECRET_VALUES.search(text):
        return "a value not shown here"
    return text if len(text) <= VALUE_MAX else text[: VALUE_MAX - 1] + "…"


def _plain_number(value: object) -> object:
    return exact(value) if isinstance(value, float) else value


def _depth(path: list[str]) -> int:
    return {"source": 3, "watch": 3, "limit": 3, "shadow": 4, "webhook": 3}.get(path[0], 2)


def _suggestion(key: str) -> str:
    sections = sorted({name.partition(".")[0] for name in known_keys()} | set(NAMED))
    if "." not in key:
        return did_you_mean(key, sections) or f"; sections are {', '.join(sections)}"
    section, name = key.rsplit(".", 1)
    if section.startswith("shadow."):
        keys = _keys_of_shadow(overridden_key(key))
    else:
        keys = [
            known.rpartition(".")[2]
            for known in known_keys()
            if known.partition(".")[0] == section.partition(".")[0]
        ]
    near = did_you_mean(name, keys)
    return (
        near.replace("mean ", f"mean {section}.") if near else f"; keys are {', '.join(keys) or 'none yet'}"
    )


def _keys_of_shadow(own: str | None) -> list[str]:
    """The keys or sections that may stand in place of `own`, a key without `shadow.NAME.`."""
    if own is None or "." not in own:
        return list(ShadowSection.model_fields)
    section = own.partition(".")[0]
    return [known.partition(".")[2] for known in known_keys() if known.partition(".")[0] == section]
