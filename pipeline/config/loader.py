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
from pipeline.config.config import BUILT_IN, HASH_KEY, MODEL_KEY, Config, read_secret
from pipeline.config.error_text import InvalidSetting, first_error, with_place
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
    try:
        _take_url_from_file(raw, origins)
        _take_urls_from_file(raw, origins)
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
    }
    config._origin = origin
    config._secrets.update({name: SecretStr(environ[name]) for name in secret_variables if environ.get(name)})
    return config


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
        raise ConfigError(f"config file {path} does not exist; name another with --config") from None
    except OSError as error:
        raise ConfigError(
            f"config file {path} cannot be read: {error.strerror}; check its path and permissions"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"config file {path} is not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from None


def _take_url_from_file(raw: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Read storage.url_file into storage.url; a setting of the environment wins over one of the file."""
    storage = raw.get("storage")
    if (
        not isinstance(storage, dict)
        or not storage.get("url_file")
        or not isinstance(storage["url_file"], str)
    ):
        return
    url_from_environment, file_from_environment = "storage.url" in origins, "storage.url_file" in origins
    if "url" in storage and url_from_environment == file_from_environment:
        raise InvalidSetting(
            "storage.url_file",
            storage["url_file"],
            "must not be set together with storage.url; remove one of them",
        )
    if url_from_environment:
        del storage["url_file"]
    else:
        storage["url"] = read_secret(storage["url_file"], "storage.url_file")


def _take_urls_from_file(raw: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Read notify.urls_file into notify.urls: one URL a line; blank lines and lines that begin with # are skipped."""
    notify = raw.get("notify")
    if (
        not isinstance(notify, dict)
        or not notify.get("urls_file")
        or not isinstance(notify["urls_file"], str)
    ):
        return
    urls_from_environment, file_from_environment = "notify.urls" in origins, "notify.urls_file" in origins
    if notify.get("urls") and urls_from_environment == file_from_environment:
        raise InvalidSetting(
            "notify.urls_file",
            notify["urls_file"],
            "must not be set together with notify.urls; remove one of them",
        )
    if not urls_from_environment:
        lines = read_secret(notify["urls_file"], "notify.urls_file").splitlines()
        notify["urls"] = [
            line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")
        ]
