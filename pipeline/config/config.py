"""The validated, frozen configuration of one monitor. Secrets are stored apart from it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, SecretStr, model_validator

from pipeline.config.consistency import find_violations
from pipeline.config.error_text import InvalidSetting
from pipeline.config.key_names import NAMED
from pipeline.config.sections import ConfigSection, LabelsSection, SchemaSection, Sections
from pipeline.errors import ConfigError

HASH_KEY = "FRAUDWATCH_HASH_KEY"
MODEL_KEY = "FRAUDWATCH_MODEL_KEY"
KEY_LENGTH_MIN = 16  # characters; a shorter key can be found by brute force
BUILT_IN = "built-in defaults"
# Keys left out of the stored text and the hash: secrets, and where this machine keeps them.
PRIVATE = re.compile(r"(.*_)?(urls?|url_env)|secret(_env)?|.*_file")


class Config(Sections):
    """All settings that a run depends on. Durations are int µs; `schema_` is the section [schema]."""

    _origin: str = PrivateAttr(default=BUILT_IN)
    _secrets: dict[str, SecretStr] = PrivateAttr(default_factory=dict)  # environment variable → value

    @model_validator(mode="before")
    @classmethod
    def _adapt_defaults(cls, data: Any) -> Any:
        return _without_shipped_columns(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _check_consistency(self) -> "Config":
        for key, value, requirement in find_violations(self):
            raise InvalidSetting(key, value, requirement)
        return self

    @property
    def origin(self) -> str:
        """The file the settings came from, or `built-in defaults`."""
        return self._origin

    @property
    def storage_url(self) -> str:
        """
        The database's URL with its password; use it only to open the database.

        A file that holds it is read each time, so the next connection uses a password that was changed.

        Raises
        ------
        ConfigError
            The file cannot be read.
        """
        if self.storage.url_file:
            return read_secret_file("storage.url", self.storage.url_file)
        return self.storage.url.get_secret_value()

    def for_policy(self, policy: str) -> "Config":
        """Return the settings of a policy: a challenger's own, or these for any other policy."""
        return self.for_challenger(policy) if policy in self.shadow else self

    def source_url(self, name: str) -> str:
        """
        Return the URL of [source.NAME] from the key, the file or the environment variable that holds it.

        Raises
        ------
        ConfigError
            If there is no such source, or its file or environment variable is missing or empty.
        """
        if name not in self.source:
            names = ", ".join(sorted(self.source)) or "none"
            raise ConfigError(
                f"source.{name} is not configured",
                remedy=f"add [source.{name}], or use one of those in {self.origin}: {names}",
                code="no_source",
            )
        source = self.source[name]
        return (
            read_secret_file(f"source.{name}.url", source.url_file)
            or self._named_secret(f"source.{name}.url_env", source.url_env)
            or source.url.get_secret_value()
        )

    def webhook_secret(self, name: str) -> bytes:
        """
        Return the key that requests of a webhook are signed with.

        Raises
        ------
        ConfigError
            Its file or environment variable is missing or empty, or it is not `whsec_` and 24 to 64 bytes in base64.
        """
        webhook, key = self.webhook[name], f"webhook.{name}.secret"
        text = (
            read_secret_file(key, webhook.secret_file)
            or self._named_secret(f"{key}_env", webhook.secret_env)
            or webhook.secret.get_secret_value()
        )
        try:
            secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except ValueError:
            secret = b""
        if not text.startswith("whsec_") or not 24 <= len(secret) <= 64:
            raise ConfigError(
                f"{key} is not whsec_ and 24 to 64 bytes in base64",
                remedy='make one: echo "whsec_$(openssl rand -base64 32)"',
                code="no_secret",
            )
        return secret

    @property
    def notifies(self) -> bool:
        """Whether people or programs are told of events."""
        return self.notify.enabled or bool(self.webhook)

    def hash_key(self) -> bytes:
        """
        Return the key for hashing the fields in schema.hash.

        Raises
        ------
        ConfigError
            If neither FRAUDWATCH_HASH_KEY nor schema.hash_key_file holds 16 characters or more.
        """
        key = self._secret(HASH_KEY) or read_secret_file("schema.hash_key", self.schema_.hash_key_file)
        if len(key) < KEY_LENGTH_MIN:
            raise ConfigError(
                f"schema.hash needs a key of {KEY_LENGTH_MIN} characters or more, got {len(key)}",
                remedy=f"set {HASH_KEY} or schema.hash_key_file, and keep the key: with another one, known entities are not found",
                code="no_hash_key",
            )
        return key.encode()

    def model_keys(self) -> tuple[bytes, ...]:
        """
        Return the keys of models: the first one seals, each of them opens; none on SQLite, which may go without.

        Whoever can write to an SQLite file can change everything in it anyway. Several keys are separated by commas or lines, each
        of 16 characters or more; a text with a shorter part is one key.

        Raises
        ------
        ConfigError
            If the key has fewer than 16 characters, or a shared database has none.
        """
        text = self._secret(MODEL_KEY) or read_secret_file("storage.model_key", self.storage.model_key_file)
        if not text and self.storage_url.startswith("sqlite"):
            return ()
        if len(text) < KEY_LENGTH_MIN:
            raise ConfigError(
                f"models in a shared database are sealed with a key of {KEY_LENGTH_MIN} characters or more, got {len(text)}",
                remedy=f"set {MODEL_KEY} or storage.model_key_file, and keep the key: models cannot be read without it",
                code="no_model_key",
            )
        keys = [part.strip() for part in re.split(r"[,\n]", text) if part.strip()]
        if min(map(len, keys), default=0) < KEY_LENGTH_MIN:
            keys = [text]
        return tuple(key.encode() for key in keys)

    def health_token(self) -> str:
        """
        Return the token that requests to the health port must carry, empty if none is configured.

        Raises
        ------
        ConfigError
            If the environment variable that holds it is not set.
        """
        return self._named_secret("health.token_env", self.health.token_env)

    def oidc_secret(self) -> str:
        """
        Return the secret by which the identity provider knows this program.

        Raises
        ------
        ConfigError
            Its file or environment variable is missing or empty.
        """
        return read_secret_file("oidc.client_secret", self.oidc.client_secret_file) or self._named_secret(
            "oidc.client_secret_env", self.oidc.client_secret_env
        )

    def _secret(self, variable: str) -> str:
        return self._secrets[variable].get_secret_value() if variable in self._secrets else ""

    def _named_secret(self, key: str, variable: str) -> str:
        """Return the secret in the environment variable that a key names; "" if it names none."""
        if variable and variable not in self._secrets:
            raise ConfigError(
                f"{key} names {variable}, which is not set", remedy="export it", code="no_secret"
            )
        return self._secret(variable)

    def public_text(self, *sections: str) -> str:
        """Return these sections, or all, as TOML without secrets, in a fixed order."""
        public = self.model_dump(mode="json", by_alias=True, exclude=set(NAMED))
        named: dict[str, Mapping[str, ConfigSection]] = {
            "source": self.source,
            "watch": self.watch,
            "limit": self.limit,
            "webhook": self.webhook,
        }
        for section, tables in named.items():
            public[section] = {name: tables[name].model_dump(mode="json") for name in sorted(tables)}
        public["shadow"] = dict(self._public_shadows())
        lines: list[str] = []
        for section in sections or public:
            section_tables = public[section] if section in NAMED else {"": public[section]}
            for name, table in section_tables.items():
                lines.append(f"[{section}.{name}]" if name else f"[{section}]")
                values = {key: value for key, value in table.items() if not PRIVATE.fullmatch(key)}
                lines += [f"{key} = {as_toml(value)}" for key, value in values.items()]
        return "\n".join(lines) + "\n"

    def _public_shadows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in sorted(self.shadow):
            yield name, {}
            shown = self.shadow[name].model_dump(mode="json", exclude_unset=True)
            for part in sorted(shown):
                yield f"{name}.{part}", shown[part]

    def hash(self, *sections: str) -> str:
        """Return the SHA-256 of `public_text` of these sections: equal settings have equal hashes."""
        return hashlib.sha256(self.public_text(*sections).encode()).hexdigest()


def read_secret_file(key: str, path: str) -> str:
    """Read the secret `key` from the file that `key`_file names, without surrounding blanks; "" if it names none."""
    if not path:
        return ""
    named = f'{key}_file names "{path}"'
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        remedy = "check its path, permissions and encoding"
        raise ConfigError(f"{named}, which cannot be read as text", remedy=remedy, code="no_secret") from None
    if not secret:
        remedy = "put the secret on its first line"
        raise ConfigError(f"{named}, which is empty", remedy=remedy, code="no_secret")
    return secret


def as_toml(value: object) -> str:
    """Write a value of a key: text, number, list or one-line table."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{as_toml_key(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    # for text, numbers and booleans JSON and TOML agree, except that TOML forbids a bare DEL
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def as_toml_key(key: str) -> str:
    """Write a key, in quotes only where TOML needs them."""
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else as_toml(key)


def _without_shipped_columns(data: dict[str, Any]) -> dict[str, Any]:
    """
    Adapt defaults to the user's schema.

    The defaults of schema.original_id and labels.never_by_silence name columns of the shipped schema. Where
    the user's schema lacks those columns and does not set the keys, they become empty.
    """
    name = "schema_" if "schema_" in data else "schema"
    schema, labels = data.get(name, {}), data.get("labels", {})
    if not isinstance(schema, dict) or not isinstance(labels, dict):
        return data
    changed = dict(data)
    if schema.get("kind") == "" and "original_id" not in schema:
        changed[name] = {**schema, "original_id": ""}
    categorical = schema.get("categorical", SchemaSection().categorical)
    if "never_by_silence" not in labels and isinstance(categorical, list | tuple):
        shipped = LabelsSection().never_by_silence
        usable = {field: values for field, values in shipped.items() if field in categorical}
        changed["labels"] = {**labels, "never_by_silence": usable}
    return changed
