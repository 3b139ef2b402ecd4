"""
The artifact of a model: a dataclass stored by `detectors.codec`, sealed.

The comment of the archive is "fraudwatch-model 2 sha256:", or hmac-sha256, and the hash of all bytes before it. The seal comes
last and covers all bytes before it, so a changed byte is detected before anything is parsed. A plain hash detects damage. A
keyed one (HMAC, RFC 2104) also authenticates the writer: if others can write to the database, their models are not loaded.
With a key, only models sealed with that key are read.
"""

import hashlib
import hmac
from collections.abc import Mapping
from importlib.metadata import version
from typing import TypeVar

import numpy as np

from detectors import codec
from detectors.base import ArtifactError, Floats

FORMAT_VERSION = 2  # goes up when the fields of a stored model change, or the formulas that they belong to
NAME = b"fraudwatch-model "
PLAIN = NAME + f"{FORMAT_VERSION} sha256:".encode()
KEYED = NAME + f"{FORMAT_VERSION} hmac-sha256:".encode()
DIGEST = 64  # hex digits of SHA-256
LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "lightgbm", "pyod")
LIBRARIES_ENTRY = "libraries"
RETRAIN = "train a new model"

T = TypeVar("T")


def seal(value: object, key: bytes | None = None) -> bytes:
    """
    Store a dataclass as a sealed artifact; equal input gives equal bytes.

    Parameters
    ----------
    key
        HMAC key that authenticates the bytes; None for a plain hash.

    Raises
    ------
    ArtifactError
        A field holds something else than its annotation says.
    """
    mark = PLAIN if key is None else KEYED
    body = codec.pack(value, {LIBRARIES_ENTRY: libraries()}, mark + b"0" * DIGEST)[:-DIGEST]
    return body + _digest(body, key)


def unseal(kind: type[T], artifact: bytes, key: bytes | None = None) -> tuple[T, Mapping[str, str]]:
    """
    Restore a dataclass of type `kind`, and the versions of the libraries that it was stored under.

    Parameters
    ----------
    key
        The key with which the bytes must be sealed.

    Raises
    ------
    ArtifactError
        The format or the key differs, a byte changed, or the content is not a `kind`.
    """
    _check_seal(artifact, key)
    try:
        value, entries = codec.unpack(kind, artifact)
    except ArtifactError as error:
        raise ArtifactError(f"the model cannot be read: {error}", remedy=RETRAIN) from error
    then = entries.get(LIBRARIES_ENTRY)
    return value, then if isinstance(then, dict) else {}


def verify_scores(scores: Floats, expected: Floats, then: Mapping[str, str]) -> None:
    """
    Check that the stored sample rows still score the same, to the bit.

    This check, not a list of versions, decides whether other library versions than those of the training are accepted.

    Parameters
    ----------
    scores, expected
        (n,) scores of the sample rows here and when the model was stored.
    then
        The libraries that it was stored under.

    Raises
    ------
    ArtifactError
        A row scores differently; the message names the libraries that changed.
    """
    if not np.array_equal(scores, expected, equal_nan=True):
        changed = ", ".join(changed_libraries(then)) or "with the same libraries"
        differing = int(np.sum(scores != expected))
        raise ArtifactError(
            f"{differing} of the model's {len(expected)} sample rows score differently here ({changed})",
            remedy=f"install the versions it was trained with, or {RETRAIN}",
        )


def libraries() -> dict[str, str]:
    """Installed versions of the libraries that affect scores."""
    return {name: version(name) for name in LIBRARIES}


def changed_libraries(then: Mapping[str, str]) -> list[str]:
    """Libraries whose installed version differs from the training's, as "name old → new"."""
    now = libraries()
    return [f"{name} {then.get(name, 'none')} → {now[name]}" for name in now if then.get(name) != now[name]]


def _digest(body: bytes, key: bytes | None) -> bytes:
    if key is None:
        return hashlib.sha256(body).hexdigest().encode()
    return hmac.new(key, body, hashlib.sha256).hexdigest().encode()


def _check_seal(artifact: bytes, key: bytes | None) -> None:
    body, digest = artifact[:-DIGEST], artifact[-DIGEST:]
    if not artifact.startswith(b"PK") or NAME not in body[-64:]:
        raise ArtifactError(f"not a fraudwatch model: {len(artifact)} bytes without its seal")
    if not body.endswith((PLAIN, KEYED)):
        written = body[-64:].partition(NAME)[2].decode(errors="replace")
        raise ArtifactError(
            f"the model has format {written!r}, this version reads {FORMAT_VERSION} sha256", remedy=RETRAIN
        )
    if body.endswith(KEYED) and key is None:
        raise ArtifactError(
            "the model is sealed with a key", remedy="set FRAUDWATCH_MODEL_KEY to the one it was trained with"
        )
    if body.endswith(PLAIN) and key is not None:
        raise ArtifactError(
            "the model carries no seal of a key, so anybody may have written it", remedy=RETRAIN
        )
    if not hmac.compare_digest(_digest(body, key), digest):
        other = "" if key is None else ", or sealed with another FRAUDWATCH_MODEL_KEY"
        raise ArtifactError(
            f"the model's bytes do not match its hash: it was changed or cut after training{other}"
        )
