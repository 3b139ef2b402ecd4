"""
Handles of entities: what stands for a column and its value in addresses.

A handle is the column and the value, encrypted and authenticated by AES-SIV (RFC 5297) with a key of the database. It is stored
nowhere, so a page of a thousand flags writes nothing, and a message has the same handle as a page; equal values have equal handles,
so an address can be kept; a handle that was not made here is refused; and histories and logs of browsers and proxies hold nothing that
can be read without the database.
"""

import base64
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, InputError
from pipeline.services.session import Session
from pipeline.services.users.keys import derived_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV


@dataclass(frozen=True)
class EntityHandle:
    """A column and a value of it, as it is stored."""

    column: str
    value: str


@dataclass(frozen=True)
class EntityHandles:
    """Makes and reads handles."""

    key: bytes = field(repr=False)

    def handle(self, column: str, value: str) -> str:
        """The handle of a stored value, which fits into an address."""
        text = json.dumps([column, value], ensure_ascii=True, separators=(",", ":"))
        sealed = self._cipher.encrypt(text.encode(), None)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def resolve(self, handle: str) -> EntityHandle:
        """
        The column and the value of a handle.

        Raises
        ------
        InputError
            It is none, or was made for another database.
        """
        from cryptography.exceptions import InvalidTag

        try:
            padded = handle + "=" * (-len(handle) % 4)
            sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
            column, value = json.loads(self._cipher.decrypt(sealed, None))
        except (InvalidTag, ValueError):
            raise InputError(
                "this is no handle of an entity", remedy="search for it", code="bad_handle"
            ) from None
        return EntityHandle(column, value)

    @cached_property
    def _cipher(self) -> "AESSIV":
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
        except ImportError as error:
            raise ConfigError(
                "handles of entities need cryptography, which is not installed",
                remedy="pip install 'fraudwatch[web]'",
                code="no_web",
            ) from error
        return AESSIV(self.key)


def entity_handles(session: Session) -> EntityHandles:
    """What makes and reads the handles of this database."""
    return EntityHandles(derived_key(session, "handles: MAC") + derived_key(session, "handles: encryption"))
