"""FRAUDWATCH_SECTION__KEY → the key of the section, in place of what the file says."""

import json
from collections.abc import Mapping
from typing import Any, Literal, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pipeline.config.keys import NAMED, closest, in_shadow, known_keys
from pipeline.errors import ConfigError

PREFIX = "FRAUDWATCH_"
PLAIN = (
    "FRAUDWATCH_CONFIG",
    "FRAUDWATCH_HASH_KEY",
    "FRAUDWATCH_MODEL_KEY",
)  # variables that are not overrides


def apply(raw: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """
    Write the environment's overrides into what the file said.

    Returns
    -------
    dict
        Dotted key → the variable it came from.

    Raises
    ------
    ConfigError
        If a variable looks like an override and is none, or a list or table is not JSON.
    """
    origins = dict[str, str]()
    for variable in sorted(environ):
        key = _key(variable)
        if key is not None:
            *tables, name = key.split(".")
            _table(raw, tables)[name] = _parse(variable, _field(key), environ[variable])
            origins[key] = variable
    return origins


def variable_of(key: str) -> str:
    """Return the variable that overrides a dotted key."""
    return PREFIX + key.upper().replace(".", "__")


def _key(variable: str) -> str | None:
    """Return the dotted key a variable overrides, None for a variable that is not ours."""
    if not variable.startswith(PREFIX) or variable in PLAIN:
        return None
    key = variable.removeprefix(PREFIX).lower().replace("__", ".")
    if _field(key) is not None:
        return key
    names = [variable_of(known) for known in known_keys() if "*" not in known] + list(PLAIN)
    squeezed = {name.replace("__", "_"): name for name in names}
    if "__" not in variable and variable not in squeezed:
        return None  # some other program's, or a secret that url_env names
    hint = squeezed.get(variable.replace("__", "_"))
    said = f", did you mean {hint}?" if hint else closest(variable, names)
    raise ConfigError(f"{variable} overrides no key{said or '; see docs/configuration.md'} (environment)")


def _field(key: str) -> FieldInfo | None:
    section, _, rest = key.partition(".")
    if section == "shadow":
        return known_keys().get(in_shadow(key) or "")
    name, dot, last = rest.rpartition(".")
    wanted = f"{section}.*.{last}" if section in NAMED and dot and "." not in name else key
    return known_keys().get(wanted)


def _table(raw: dict[str, Any], path: list[str]) -> dict[str, Any]:
    table = raw
    for name in path:
        inner = table.get(name)
        if not isinstance(inner, dict):
            # a section that is no table is refused all the same, unless the environment now replaces it
            inner = table[name] = {}
        table = inner
    return table


def _parse(variable: str, field: FieldInfo | None, text: str) -> object:
    """Read text as itself where the key holds text, else as JSON; what is neither is left to be refused."""
    if field is None or _holds_text(field):
        return text
    try:
        return json.loads(text)
    except ValueError:
        if get_origin(field.annotation) in (tuple, dict):
            example = '["a", "b"]' if get_origin(field.annotation) is tuple else '{"status": ["declined"]}'
            raise ConfigError(f"{variable} must be JSON such as {example} (environment)") from None
        return text


def _holds_text(field: FieldInfo) -> bool:
    if field.annotation in (str, SecretStr) or get_origin(field.annotation) is Literal:
        return True
    # durations are held as int and written as text; they have a reader before pydantic's own
    return field.annotation is int and any(
        type(item).__name__ == "BeforeValidator" for item in field.metadata
    )
