"""Environment variables FRAUDWATCH_SECTION__KEY override the keys of config.toml."""

import json
from collections.abc import Mapping
from typing import Any, Literal, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pipeline.config.key_names import NAMED, did_you_mean, known_keys, overridden_key, what_became_of
from pipeline.errors import ConfigError

PREFIX = "FRAUDWATCH_"
NOT_OVERRIDES = (
    "FRAUDWATCH_CONFIG",
    "FRAUDWATCH_HASH_KEY",
    "FRAUDWATCH_MODEL_KEY",
)  # variables that are not overrides


def apply(raw: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """
    Write the overrides of the environment into the parsed file.

    Returns
    -------
    dict
        Dotted key → the variable that overrides it.

    Raises
    ------
    ConfigError
        If a variable looks like an override but names no key, or a list or table is not JSON.
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
    """Return the dotted key that a variable overrides; None for variables of other programs."""
    if not variable.startswith(PREFIX) or variable in NOT_OVERRIDES:
        return None
    key = variable.removeprefix(PREFIX).lower().replace("__", ".")
    if _field(key) is not None:
        return key
    if gone := what_became_of(key):
        raise ConfigError(f"{variable} no longer overrides a key: {gone} (environment)", code="unknown_key")
    names = [variable_of(key) for key in known_keys() if "*" not in key] + list(NOT_OVERRIDES)
    squeezed = {name.replace("__", "_"): name for name in names}
    if "__" not in variable and variable not in squeezed:
        return None  # another program's variable, or a secret that url_env names
    hint = squeezed.get(variable.replace("__", "_"))
    suggestion = f", did you mean {hint}?" if hint else did_you_mean(variable, names)
    raise ConfigError(
        f"{variable} overrides no key{suggestion or '; see docs/configuration.md'} (environment)",
        code="unknown_key",
    )


def _field(key: str) -> FieldInfo | None:
    section, _, rest = key.partition(".")
    if section == "shadow":
        return known_keys().get(overridden_key(key) or "")
    name, dot, last = rest.rpartition(".")
    pattern = f"{section}.*.{last}" if section in NAMED and dot and "." not in name else key
    return known_keys().get(pattern)


def _table(raw: dict[str, Any], path: list[str]) -> dict[str, Any]:
    table = raw
    for name in path:
        inner = table.get(name)
        if not isinstance(inner, dict):
            # validation refuses a section that is not a table, unless the environment replaces it here
            inner = table[name] = {}
        table = inner
    return table


def _parse(variable: str, field: FieldInfo | None, text: str) -> object:
    """Return text for a key that holds text, else parse JSON; validation refuses what is neither."""
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
    # durations are stored as int but written as text; a BeforeValidator parses them
    return field.annotation is int and any(
        type(item).__name__ == "BeforeValidator" for item in field.metadata
    )
