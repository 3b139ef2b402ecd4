"""
config.toml and the environment → one frozen, validated Config.

Found by --config, then FRAUDWATCH_CONFIG, then ./config.toml, else built in (config.toml at the top of the
repository spells these defaults out). FRAUDWATCH_SECTION__KEY overrides any key. Whatever is wrong stops here
with one sentence that names key, value and remedy, and shows no secret.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from pipeline.config import environment
from pipeline.config.config import BUILT_IN, HASH_KEY, MODEL_KEY, Config, read_secret
from pipeline.config.messages import Refused, explain, sentence
from pipeline.errors import ConfigError


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """
    Read the configuration that applies.

    Parameters
    ----------
    path
        What --config names; None to look for FRAUDWATCH_CONFIG and ./config.toml.
    environ
        The environment: overrides, and the secrets that come from it.

    Raises
    ------
    ConfigError
        With one sentence about the first thing that is wrong.
    """
    found = find_config(path, environ)
    raw = read_toml(found) if found else {}
    file = str(found) if found else BUILT_IN
    origins = environment.apply(raw, environ)
    try:
        _take_url_from_file(raw, origins)
        _take_urls_from_file(raw, origins)
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, file, origins)) from None
    except Refused as refused:
        raise ConfigError(sentence(refused, file, origins)) from None
    wanted = {
        HASH_KEY,
        MODEL_KEY,
        config.health.token_env,
        *(source.url_env for source in config.source.values()),
    }
    config._origin = file
    config._secrets.update({name: SecretStr(environ[name]) for name in wanted if environ.get(name)})
    return config


def find_config(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read: the one named, or ./config.toml if it is there, or None."""
    if path is not None:
        return path
    if environ.get("FRAUDWATCH_CONFIG"):
        return Path(environ["FRAUDWATCH_CONFIG"])
    here = Path("config.toml")
    return here if here.exists() else None


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; refuse with one sentence what cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist; name another with --config") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"config file {path} is not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from None


def _take_url_from_file(raw: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Put what storage.url_file holds into storage.url; the environment's wins over the file's."""
    storage = raw.get("storage")
    if (
        not isinstance(storage, dict)
        or not storage.get("url_file")
        or not isinstance(storage["url_file"], str)
    ):
        return
    url_from_outside, file_from_outside = "storage.url" in origins, "storage.url_file" in origins
    if "url" in storage and url_from_outside == file_from_outside:
        raise Refused("storage.url_file", storage["url_file"], "must not be set beside storage.url; keep one")
    if url_from_outside:
        del storage["url_file"]
    else:
        storage["url"] = read_secret(storage["url_file"], "storage.url_file")


def _take_urls_from_file(raw: dict[str, Any], origins: Mapping[str, str]) -> None:
    """The same for notify.urls, one a line; blank lines and lines that begin with # are skipped."""
    notify = raw.get("notify")
    if (
        not isinstance(notify, dict)
        or not notify.get("urls_file")
        or not isinstance(notify["urls_file"], str)
    ):
        return
    urls_from_outside, file_from_outside = "notify.urls" in origins, "notify.urls_file" in origins
    if notify.get("urls") and urls_from_outside == file_from_outside:
        raise Refused("notify.urls_file", notify["urls_file"], "must not be set beside notify.urls; keep one")
    if not urls_from_outside:
        lines = read_secret(notify["urls_file"], "notify.urls_file").splitlines()
        notify["urls"] = [
            line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")
        ]
