"""Passwords, of which argon2id hashes are stored (RFC 9106, the library's parameters: 64 MiB, three passes)."""

import threading
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, InputError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LENGTH_MIN = 15  # characters; NIST SP 800-63B-4 3.1.1.2, for a password that is the only factor
LENGTH_MAX = 1_000
DISTINCT_MIN = 5  # characters
_AT_ONCE = threading.BoundedSemaphore(
    2
)  # each takes 64 MiB: a flood of log-ins waits instead of filling the memory


@cache
def _hasher() -> "PasswordHasher":
    try:
        from argon2 import PasswordHasher
    except ImportError as error:
        raise ConfigError(
            "users with passwords need argon2-cffi, which is not installed",
            remedy="pip install 'fraudwatch[web]'",
            code="no_web",
        ) from error
    return PasswordHasher()


@cache
def _nobodys_hash() -> str:
    """The hash of a password that nobody knows: the same work for a name that there is not."""
    from pipeline.services.users.secrets import new_secret

    return _hasher().hash(new_secret())


def check_password(name: str, password: str) -> None:
    """
    Check that a new password is hard to guess.

    Raises
    ------
    InputError
        It is too short or too long, has too few different characters, or contains the name.
    """
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        message = f"a password has {LENGTH_MIN} to {LENGTH_MAX:,} characters, got {len(password):,}"
        raise InputError(message, remedy="use several words", code="weak_password")
    if len(set(password)) < DISTINCT_MIN or name in _normalised(password).lower():
        message = "the password contains the name of the user, or hardly any different characters"
        raise InputError(message, remedy="use several other words", code="weak_password")


def password_hash(password: str) -> str:
    """The hash of a password, with its parameters and salt."""
    with _AT_ONCE:
        return _hasher().hash(_normalised(password))


def is_password(stored: str | None, password: str) -> bool:
    """Whether a password is the stored one; None, which no password is, takes as long."""
    from argon2.exceptions import VerificationError

    hasher, known = _hasher(), stored or _nobodys_hash()
    if len(password) > LENGTH_MAX:
        return False
    try:
        with _AT_ONCE:
            hasher.verify(known, _normalised(password))
    except VerificationError:
        return False
    return stored is not None


def needs_new_hash(stored: str) -> bool:
    """Whether a hash was made by other parameters than those of today."""
    return _hasher().check_needs_rehash(stored)


def _normalised(password: str) -> str:
    """The same characters, however a keyboard composes them (NIST SP 800-63B-4 3.1.1.2)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
