"""
Cursors of lists, opaque to callers: encrypted and authenticated, and bound to the path and the filters of their list.

A position of a list may hold values of payments, which must not stand in addresses; and a cursor of another list, of other filters or
of another database is refused.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from pipeline.api.problems import ApiError
from pipeline.services.session import Session
from pipeline.services.users.keys import derived_key

PAGING = ("limit", "cursor", "format")  # parameters that may change from page to page


class Cursors:
    """Seals and opens the cursors of one database."""

    def __init__(self, session: Session) -> None:
        self._cipher = AESSIV(
            derived_key(session, "cursors: MAC") + derived_key(session, "cursors: encryption")
        )

    def seal(self, cursor: str | None, path: str, parameters: Sequence[tuple[str, str]]) -> str | None:
        """The cursor of a service as callers get it; None after the last page."""
        if cursor is None:
            return None
        sealed = self._cipher.encrypt(cursor.encode(), [_list_id(path, parameters)])
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, sealed: str | None, path: str, parameters: Sequence[tuple[str, str]]) -> str | None:
        """
        The cursor of the service; None for the first page.

        Raises
        ------
        ApiError
            It was not made here for this list.
        """
        if sealed is None:
            return None
        try:
            raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
            return self._cipher.decrypt(raw, [_list_id(path, parameters)]).decode()
        except (InvalidTag, ValueError):
            raise ApiError(
                "bad_cursor", "the cursor was not made here for this list and these filters"
            ) from None


def _list_id(path: str, parameters: Sequence[tuple[str, str]]) -> bytes:
    filters = sorted((name, value) for name, value in parameters if name not in PAGING)
    return hashlib.sha256(json.dumps([path, filters]).encode()).digest()


def request_hash(path: str, body: bytes) -> str:
    """What a request with an Idempotency-Key asks for."""
    return hmac.new(b"", path.encode() + b"\0" + body, hashlib.sha256).hexdigest()
