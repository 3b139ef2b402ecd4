"""Secrets that are shown once: random, and stored as hashes only."""

import hashlib
import hmac
import secrets

SECRET_BYTES = 32  # 256 random bits need no slow hash


def new_secret() -> str:
    """A secret of 43 characters that fit into a cookie, a header and a URL."""
    return secrets.token_urlsafe(SECRET_BYTES)


def secret_hash(secret: str) -> str:
    """The hash by which a secret is found."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def derived_secret(secret: str, purpose: str) -> str:
    """Another secret that follows from one, and from which that one does not."""
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), purpose.encode(), hashlib.sha256).hex()
