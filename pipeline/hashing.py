"""
Keyed hashes of values that must not be stored in plain text.

HMAC-SHA256 of the stripped value in UTF-8, in hex. Equal values have equal hashes, so a hashed card still has a history,
and the key is needed to find it. The field's name is not hashed, so that a card has the same hash in every column.
"""

import hashlib
import hmac
from functools import lru_cache
from typing import Any

import pyarrow as pa

from storage.frames import Strings

CACHE_SIZE = 1 << 16  # hashes: entities recur, and a look-up is ten times faster than a hash


class Hasher:
    """Hashes values with one key."""

    def __init__(self, key: bytes) -> None:
        self._hash = lru_cache(CACHE_SIZE)(
            lambda value: hmac.digest(key, value.encode(), hashlib.sha256).hex()
        )

    def __repr__(self) -> str:
        return "Hasher(key not shown)"

    def hash(self, value: str) -> str:
        """Return the hash of one value, 64 characters."""
        return self._hash(value.strip())

    def column(self, values: Any) -> Any:
        """Hash an Arrow column of text; missing values stay missing."""
        coded = values.dictionary_encode()
        hashed = pa.array([self.hash(value) for value in coded.dictionary.to_pylist()], pa.string())
        return hashed.take(coded.indices)

    def texts(self, values: Strings) -> list[str | None]:
        """Hash an array of texts; None stays None."""
        return [None if value is None else self.hash(value) for value in values]
