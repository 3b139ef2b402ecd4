"""
Loads config.toml and the environment into one frozen, validated Config.

The file is the one that --config names, else FRAUDWATCH_CONFIG, else ./config.toml; without a file the built-in
defaults apply (config.toml at the top of the repository lists them). FRAUDWATCH_SECTION__KEY overrides any key.
An invalid setting raises ConfigError with one sentence that names key, value, remedy and place, and no secret.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from pipeline.config import environment
from pipeline.config.config import BUILT_IN, HASH_KEY, MODEL_KEY, Config, read_secret_file
from pipeline.config.error_text import InvalidSetting, first_error, unanswered, with_place
from pipeline.errors import ConfigError


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """
    Load the configuration.

    Parameters
    ----------
    path
        The file that --config names; None to try FRAUDWATCH_CONFIG, then ./config.toml.
    environ
        Environment variables: overrides and secrets.

    Raises
    ------
    ConfigError
        With one sentence about the first invalid setting.
    """
    config_file = find_config(path, environ)
    raw = read_toml(config_file) if config_file else {}
    origin = str(config_file) if config_file else BUILT_IN
    origins = environment.apply(raw, environ)
    if sentence := unanswered(raw, origin, origins):
        raise ConfigError(sentence)
    try:
        _read_secret_files(raw, origins)
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(first_error(error, origin, origins)) from None
    except InvalidSetting as error:
        raise ConfigError(with_place(error, origin, origins)) from None
    secret_variables = {
        HASH_KEY,
        MODEL_KEY,
        config.health.token_env,
        *(source.url_env for source in config.source.values()),
        *(webhook.secret_env for webhook in config.webhook.values()),
    }
    config._origin = origin
    config._secrets.update({name: SecretStr(environ[name]) for name in secret_variables if environ.get(name)})
    return config


def configured_encoding(path: Path | None, environ: Mapping[str, str]) -> str:
    """
    Return format.encoding of the environment, else of a file that is named; other keys may be impossible.

    A file that does not exist yet, and ./config.toml, which may be for other files, say nothing.

    Raises
    ------
    ConfigError
        If the file cannot be read, or the encoding is unknown.
    """
    named = find_config(path, environ) if path or environ.get("FRAUDWATCH_CONFIG") else None
    raw = read_toml(named) if named and named.exists() else {}
    origins = environment.apply(raw, environ)
    section = raw.get("format")
    keys = {"encoding": section["encoding"]} if isinstance(section, dict) and "encoding" in section else {}
    try:
        return Config.model_validate({"format": keys}).format.encoding
    except ValidationError as error:
        raise ConfigError(first_error(error, str(named or BUILT_IN), origins)) from None


def find_config(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read: the named one, else FRAUDWATCH_CONFIG, else ./config.toml if it exists, else None."""
    if path is not None:
        return path
    if environ.get("FRAUDWATCH_CONFIG"):
        return Path(environ["FRAUDWATCH_CONFIG"])
    here = Path("config.toml")
    return here if here.exists() else None


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; raise ConfigError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"config file {path} does not exist", remedy="name another", code="no_config"
        ) from None
    except OSError as error:
        message = f"config file {path} cannot be read ({error.strerror})"
        raise ConfigError(message, remedy="check its path and permissions", code="no_config") from None
    except UnicodeDecodeError as error:
        message = f"config file {path} is not UTF-8 at byte {error.start}"
        raise ConfigError(message, remedy="save it as UTF-8", code="bad_config_file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}", code="bad_config_file") from None


def _read_secret_files(raw: dict[str, Any], origins: Mapping[str, str]) -> None:
    """
    Read the files that storage.url_file, notify.urls_file and notify.ping_url_file name into the keys without _file.

    A setting of the environment wins over one of the file. Other secrets are read when they are asked for.
    """
    for section, key in (("storage", "url"), ("notify", "urls"), ("notify", "ping_url")):
        table = raw.get(section)
        path = table.get(f"{key}_file") if isinstance(table, dict) else None
        if not isinstance(table, dict) or not isinstance(path, str) or not path:
            continue
        name = f"{section}.{key}"
        overridden = name in origins
        if table.get(key) and overridden == (f"{name}_file" in origins):
            requirement = f"must not be set together with {name}; remove one of them"
            raise InvalidSetting(f"{name}_file", path, requirement)
        if overridden:
            table[f"{key}_file"] = ""
        else:
            secret = read_secret_file(name, path)
            table[key] = _lines(secret) if key == "urls" else secret


def _lines(text: str) -> list[str]:
    """The lines of a text; blank lines and lines that begin with # are skipped."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
