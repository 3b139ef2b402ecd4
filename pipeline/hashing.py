"""
Keyed hashes of values that must not be stored in plain text.

HMAC-SHA256 of the stripped value in UTF-8, in hex. Equal values have equal hashes, so a hashed card still has a history,
and the key is needed to find it. The field's name is not hashed, so that a card has the same hash in every column.

A value whose shape is known is stored with a display form before its hash: `•••• 4242 · 9f86d0…`. It is hashed without
its separators (card numbers, IBANs, phone numbers) or in lower case (e-mail addresses), so that one card is one entity
however it is written. In a database that began before display forms existed, values are stored as bare hashes as
before: the same value keeps the same text, and its history (see `storage.database.hash_form`).
"""

import hashlib
import hmac
import re
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline.card_numbers import SEPARATORS, is_card_number, last_four, without_separators
from pipeline.sanitize import DISPLAY_END

CACHE_SIZE = 1 << 16  # hashes: entities recur, and a look-up is ten times faster than a hash
KEY_CHECK = "fraudwatch: which key hashes the fields of schema.hash"
STORED = re.compile(rf".+{DISPLAY_END}[0-9a-f]{{64}}")
DISPLAYED = re.compile(r"•••• ?\d{4}|\S…@\S+|[A-Z]{2}… \w{4}|… ?\d{4}", re.ASCII)  # a display form alone
_EMAIL = re.compile(r"[^@\s]+@([^@\s]+\.[^\W\d_]{2,})")
_IBAN = re.compile(rf"[A-Za-z]{{2}}\d\d(?:[.{SEPARATORS}]?[A-Za-z0-9]){{11,30}}", re.ASCII)
_PHONE = re.compile(rf"\+(?:[()./{SEPARATORS}]{{0,2}}\d){{8,15}}", re.ASCII)


class Hasher:
    """
    Hashes values with one key.

    Parameters
    ----------
    displays
        Whether values are stored with their display form, see `storage.database.hash_form`.
    """

    def __init__(self, key: bytes, displays: bool = True) -> None:
        self._displays = displays
        self._hash = lru_cache(CACHE_SIZE)(
            lambda value: hmac.digest(key, value.encode(), hashlib.sha256).hex()
        )
        self._stored = lru_cache(CACHE_SIZE)(self._with_display)

    def __repr__(self) -> str:
        return "Hasher(key not shown)"

    def hash(self, value: str) -> str:
        """Return the hash of one value as it is written, 64 characters."""
        return self._hash(value.strip())

    def stored(self, value: str) -> str:
        """Return one value as it is stored: its display form, if it has one, and its hash."""
        return self._stored(value.strip()) if self._displays else self.hash(value)

    def column(self, values: Any) -> Any:
        """Convert an Arrow column of text to what is stored; missing values stay missing."""
        coded = values.dictionary_encode()
        hashed = pa.array([self.stored(value) for value in coded.dictionary.to_pylist()], pa.string())
        return hashed.take(coded.indices)

    def _with_display(self, value: str) -> str:
        display, normalised = display_form(value)
        return f"{display}{DISPLAY_END}{self.hash(normalised)}" if display else self.hash(value)


def key_check(key: bytes) -> str:
    """The check value of a key: the hash of a constant, by which another key is noticed."""
    return Hasher(key).hash(KEY_CHECK)


def display_form(value: str) -> tuple[str, str]:
    """
    Return the display form of a stripped value, "" if its shape is not known, and the value as it is hashed.

    Card numbers are `•••• 4242`, e-mail addresses `a…@example.com`, IBANs `DE… 3000`, phone numbers `… 1234`.
    """
    if is_card_number(value):
        return last_four(value), without_separators(value)
    if address := _EMAIL.fullmatch(value):
        return f"{value[0].lower()}…@{address[1].lower()}", value.casefold()
    compact = without_separators(value).upper()
    if _IBAN.fullmatch(value) and _is_iban(compact):
        return f"{compact[:2]}… {compact[-4:]}", compact
    if _PHONE.fullmatch(value):
        digits = re.sub(r"[^0-9]", "", value)
        return f"… {digits[-4:]}", f"+{digits}"
    return "", value


def _is_iban(value: str) -> bool:
    from stdnum import iban  # loads its table of national formats

    return bool(iban.is_valid(value))
