"""What pydantic and the rules refuse, said in one sentence with key, value, remedy and place."""

import json
from collections.abc import Mapping

from pydantic import ValidationError

from pipeline.config.keys import NAMED, closest, in_shadow, known_keys
from pipeline.config.sections import ShadowSection
from pipeline.errors import ConfigError

SHOWN_MAX = 80  # characters of a value repeated in a message
SECRET_KEYS = frozenset({"url", "urls", "hash_key", "password", "token"})

# pydantic's error type → the rest of the sentence; names in braces come from the error's context
_SAID = {
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
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


class Refused(ConfigError):  # noqa: N818 (internal; what escapes is a ConfigError)
    """A rule is broken; `load_config` adds where the value came from."""

    def __init__(self, key: str, value: object, rest: str) -> None:
        super().__init__(f"{key} {rest}, got {shown(key, value)}")
        self.key = key


def sentence(refused: Refused, file: str, origins: Mapping[str, str]) -> str:
    """Return the rule's sentence with the place the value came from."""
    return f"{refused} ({place(refused.key, file, origins)})"


def explain(error: ValidationError, file: str, origins: Mapping[str, str]) -> str:
    """Return one sentence about the first thing pydantic refused."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path[: _depth(path)])
    where = place(key, file, origins)
    if first["type"] == "extra_forbidden":
        return f"{key} is not a key{_suggestion(key)} ({where})"
    if first["type"] == "missing":
        return f"{key} is missing; set it ({where})"
    context = first.get("ctx", {})
    said = "{error}" if "error" in context else _SAID.get(first["type"], first["msg"])
    rest = said.format_map({name: _bare(value) for name, value in context.items()})
    value = first["input"]
    # pydantic names the item of a list it refused; of a table the keys say enough, its values may be secret
    value = sorted(value) if isinstance(value, dict) else value
    return f"{key} {rest}, got {shown(key, value)} ({where})"


def place(key: str, file: str, origins: Mapping[str, str]) -> str:
    """Say where a key's value came from: a variable of the environment, or a section of a file."""
    if key in origins:
        return f"environment, {origins[key]}"
    section = key.rpartition(".")[0] or key
    return f"{file}, [{section}]"


def shown(key: str, value: object) -> str:
    """Write a value for a message: shortened, and hidden where it is or holds a secret."""
    written = json.dumps(value, default=str, ensure_ascii=False)
    if key.rpartition(".")[2] in SECRET_KEYS or "://" in written:
        return "a value not shown here"
    return written if len(written) <= SHOWN_MAX else written[: SHOWN_MAX - 1] + "…"


def _bare(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value


def _depth(path: list[str]) -> int:
    return {"source": 3, "watch": 3, "shadow": 4}.get(path[0], 2)


def _suggestion(key: str) -> str:
    sections = sorted({name.partition(".")[0] for name in known_keys()} | set(NAMED))
    if "." not in key:
        return closest(key, sections) or f"; sections are {', '.join(sections)}"
    section, name = key.rsplit(".", 1)
    if section.startswith("shadow."):
        keys = _keys_of_shadow(in_shadow(key))
    else:
        keys = [
            one.rpartition(".")[2]
            for one in known_keys()
            if one.partition(".")[0] == section.partition(".")[0]
        ]
    near = closest(name, keys)
    return (
        near.replace("mean ", f"mean {section}.") if near else f"; keys are {', '.join(keys) or 'none yet'}"
    )


def _keys_of_shadow(own: str | None) -> list[str]:
    """What stands beside a key that a shadow gives, `own` being the key without the shadow's name."""
    if own is None or "." not in own:
        return list(ShadowSection.model_fields)
    section = own.partition(".")[0]
    return [one.partition(".")[2] for one in known_keys() if one.partition(".")[0] == section]
