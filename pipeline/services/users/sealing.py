"""Values that leave the database and come back: encrypted and authenticated by AES-SIV (RFC 5297), the same for the same value."""

import base64
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.services.session import Session
from pipeline.services.users.keys import derived_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV


@dataclass(frozen=True)
class Sealer:
    """Seals values with a key of 64 bytes."""

    key: bytes = field(repr=False)

    def seal(self, value: Any) -> str:
        """A value that JSON can hold, as text that fits into an address or a cookie."""
        text = json.dumps(value, separators=(",", ":"))
        return base64.urlsafe_b64encode(self._cipher.encrypt(text.encode(), None)).decode().rstrip("=")

    def unseal(self, text: str) -> Any:
        """
        The value.

        Raises
        ------
        ValueError
            The text was not sealed with this key.
        """
        from cryptography.exceptions import InvalidTag

        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        try:
            return json.loads(self._cipher.decrypt(sealed, None))
        except InvalidTag as error:
            raise ValueError("not sealed with this key") from error

    @cached_property
    def _cipher(self) -> "AESSIV":
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
        except ImportError as error:
            raise ConfigError(
                "the console and the API need cryptography, which is not installed",
                remedy="pip install 'fraudwatch[web]'",
                code="no_web",
            ) from error
        return AESSIV(self.key)


def sealer(session: Session, purpose: str, extra: str = "") -> Sealer:
    """What seals for a purpose with a key of this database and, if there is one, a secret besides."""
    parts = [derived_key(session, f"{purpose}: {part}: {extra}") for part in ("MAC", "encryption")]
    return Sealer(b"".join(parts))
