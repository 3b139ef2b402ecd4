"""
The artifact of a model: a line that seals it, and after it a dataclass stored by `detectors.codec`.

    fraudwatch-model 4 {"key": "3f9a02c1", "model": 7, "monitor": "cards"} hmac-sha256:<hash>

The hash covers the line before it and all bytes after it, so a changed byte is detected before anything is parsed. A plain
hash (sha256, key null) detects damage. A keyed one (HMAC, RFC 2104) also authenticates the writer: if others can write to the
database, their models are not loaded. A seal names the monitor and the model that it was made for, so that a sealed model
cannot be put in another's place. With keys, only models sealed with one of them are read.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np

from detectors import codec
from detectors.base import ArtifactError, Floats

FORMAT_VERSION = 4  # goes up when the fields of a stored model change, or the formulas that they belong to
NAME = b"fraudwatch-model "
LINE_MAX = 4096  # bytes of the line of the seal
KEY_ID_LENGTH = 8  # hex digits
LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "lightgbm", "pyod")
LIBRARIES_ENTRY = "libraries"
RETRAIN = "train a new model"
_LINE = re.compile(NAME + rb"%d (\{.*\}) (sha256|hmac-sha256):([0-9a-f]{64})" % FORMAT_VERSION)
_VERSION_2 = re.compile(
    rb"fraudwatch-model (\d+) "
)  # at the end of an archive, where seals were before version 3

T = TypeVar("T")


@dataclass(frozen=True)
class Seal:
    """
    What a model is sealed as.

    Attributes
    ----------
    monitor, model_id
        Whose model it is, and its id there.
    keys
        HMAC keys that authenticate the bytes: the first one seals, each of them opens. None for a plain hash.
    """

    monitor: str
    model_id: int
    keys: Sequence[bytes] = ()

    def __repr__(self) -> str:
        return f"Seal({self.monitor!r}, {self.model_id}, {len(self.keys)} keys not shown)"


def pack(value: object) -> bytes:
    """
    Store a dataclass with the versions of the libraries; equal input gives equal bytes.

    Raises
    ------
    ArtifactError
        A field holds something else than its annotation says.
    """
    return codec.pack(value, {LIBRARIES_ENTRY: libraries()})


def unpack(kind: type[T], content: bytes) -> tuple[T, Mapping[str, str]]:
    """
    Restore a dataclass of type `kind`, and the versions of the libraries that it was stored under.

    Raises
    ------
    ArtifactError
        The content is not a `kind`.
    """
    try:
        value, entries = codec.unpack(kind, content)
    except ArtifactError as error:
        raise ArtifactError(f"the model cannot be read: {error}", remedy=RETRAIN) from error
    then = entries.get(LIBRARIES_ENTRY)
    return value, then if isinstance(then, dict) else {}


def seal(content: bytes, own: Seal) -> bytes:
    """The content under its seal; equal input gives equal bytes."""
    key = own.keys[0] if own.keys else None
    named = {"key": key and key_id(key), "model": own.model_id, "monitor": own.monitor}
    kind = b"sha256" if key is None else b"hmac-sha256"
    line = NAME + b"%d %s %s:" % (FORMAT_VERSION, json.dumps(named).encode(), kind)
    return line + _digest(line + content, key) + b"\n" + content


def unseal(artifact: bytes, own: Seal) -> bytes:
    """
    The content of a sealed artifact.

    Parameters
    ----------
    own
        The seal that it must have.

    Raises
    ------
    ArtifactError
        The format or the key differs, a byte changed, or it was sealed as another model.
    """
    line, _, content = artifact[:LINE_MAX].partition(b"\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise _not_a_seal(artifact, line)
    content = artifact[len(line) + 1 :]
    named, kind, digest = _named(found[1]), found[2], found[3]
    _check_kind(kind == b"hmac-sha256", bool(own.keys))
    signed = line[: -len(digest)] + content
    keys: Sequence[bytes | None] = own.keys or [None]
    if not any(hmac.compare_digest(_digest(signed, key), digest) for key in keys):
        raise _broken(named.get("key"), own.keys)
    if (named.get("monitor"), named.get("model")) != (own.monitor, own.model_id):
        raise ArtifactError(
            f"the model is sealed as model {named.get('model')} of monitor {named.get('monitor')!r:.80}, "
            f"not as model {own.model_id} of {own.monitor!r}: it was put in another's place",
            remedy=RETRAIN,
        )
    return content


def key_id(key: bytes) -> str:
    """The name of a key in seals: a hash of it, which does not tell the key."""
    return hmac.new(key, b"fraudwatch key id", hashlib.sha256).hexdigest()[:KEY_ID_LENGTH]


def sealing_key_id(artifact: bytes) -> str | None:
    """The id of the key that an artifact says it was sealed with; None without one."""
    found = _LINE.fullmatch(artifact[:LINE_MAX].partition(b"\n")[0])
    named = _named(found[1]).get("key") if found else None
    return named if isinstance(named, str) else None


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


def _digest(signed: bytes, key: bytes | None) -> bytes:
    if key is None:
        return hashlib.sha256(signed).hexdigest().encode()
    return hmac.new(key, signed, hashlib.sha256).hexdigest().encode()


def _named(written: bytes) -> Mapping[str, Any]:
    """What the line of a seal says; nothing if it is not JSON."""
    try:
        named = json.loads(written)
    except (ValueError, RecursionError):
        return {}
    return named if isinstance(named, dict) else {}


def _not_a_seal(artifact: bytes, line: bytes) -> ArtifactError:
    older = _VERSION_2.search(artifact[-256:]) if artifact.startswith(b"PK") else _VERSION_2.match(line)
    if older is None or int(older[1]) == FORMAT_VERSION:
        return ArtifactError(f"not a fraudwatch model: {len(artifact)} bytes without its seal")
    return ArtifactError(
        f"the model has format {int(older[1])}, this version reads {FORMAT_VERSION}", remedy=RETRAIN
    )


def _check_kind(keyed: bool, has_keys: bool) -> None:
    if keyed and not has_keys:
        raise ArtifactError(
            "the model is sealed with a key", remedy="set FRAUDWATCH_MODEL_KEY to the one it was trained with"
        )
    if has_keys and not keyed:
        raise ArtifactError(
            "the model carries no seal of a key, so anybody may have written it", remedy=RETRAIN
        )


def _broken(sealed_with: object, keys: Sequence[bytes]) -> ArtifactError:
    """No key gives the hash: a byte changed, or the key is another one."""
    ids = [key_id(key) for key in keys]
    if keys and sealed_with not in ids:
        return ArtifactError(
            f"the model is sealed with another FRAUDWATCH_MODEL_KEY: key {sealed_with!r:.20}, not {' or '.join(ids)}",
            remedy="add that key after a comma, or train a new model",
        )
    return ArtifactError("the model's bytes do not match its hash: it was changed or cut after training")
