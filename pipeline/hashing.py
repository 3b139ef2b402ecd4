"""
Keyed hashes in place of values that must not be stored.

HMAC-SHA256 of the trimmed value in UTF-8, written in hex: equal values stay equal, so a hashed card still has a
history, and whoever holds the key can find it. The field's name is no part of it, so that one card is the same
in two columns.
"""

import hashlib
import hmac
from functools import lru_cache
from typing import Any

import pyarrow as pa

from storage.frames import Strings

KEPT = 1 << 16  # hashes remembered: entities come back, and a look-up is ten times faster than a hash


class Hasher:
    """Hashes values under one key."""

    def __init__(self, key: bytes) -> None:
        self._hash = lru_cache(KEPT)(lambda value: hmac.digest(key, value.encode(), hashlib.sha256).hex())

    def __repr__(self) -> str:
        return "Hasher(key not shown)"

    def hash(self, value: str) -> str:
        """Return the hash of one value, 64 characters."""
        return self._hash(value.strip())

    def column(self, values: Any) -> Any:
        """Hash an Arrow column of text, each different value once; missing stays missing."""
        coded = values.dictionary_encode()
        hashed = pa.array([self.hash(value) for value in coded.dictionary.to_pylist()], pa.string())
        return hashed.take(coded.indices)

    def texts(self, values: Strings) -> list[str | None]:
        """Hash a few values."""
        return [None if value is None else self.hash(value) for value in values]
