"""
The artifact of a model: a zip of arrays (npz) and one JSON manifest, without pickle.

    manifest.json              format, library versions, hashes of arrays, metadata of parts, the caller's entries
    <part>/<array>.npy         read by numpy.load(…, allow_pickle=False)
    comment of the archive     "fraudwatch-model 1 sha256:", or hmac-sha256, and the hash of all bytes before it

The seal comes last and covers all bytes before it, so a changed byte is detected before anything is parsed. A plain hash
detects damage. A keyed one (HMAC, RFC 2104) also authenticates the writer: if others can write to the database, their models
are not loaded. With a key, only models sealed with that key are read.
"""

import hashlib
import hmac
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.base import ArtifactError, Floats, State

FORMAT_VERSION = 1
NAME = b"fraudwatch-model "
PLAIN = NAME + f"{FORMAT_VERSION} sha256:".encode()
KEYED = NAME + f"{FORMAT_VERSION} hmac-sha256:".encode()
DIGEST = 64  # hex digits of SHA-256
MANIFEST = "manifest.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: equal models are equal bytes
LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "lightgbm", "pyod")
RESERVED = ("format", "libraries", "members", "parts")


def pack(parts: Mapping[str, State], manifest: Mapping[str, Any], key: bytes | None = None) -> bytes:
    """
    Serialize parts and manifest; equal input gives equal bytes.

    Parameters
    ----------
    parts
        State of each part by name.
    manifest
        JSON entries of the caller's, `features` (the list of feature names) usually among them.
    key
        HMAC key that authenticates the bytes; None for a plain hash.

    Raises
    ------
    ArtifactError
        An array holds objects, a name holds a slash, or a manifest entry is not JSON or has a reserved name.
    """
    taken = sorted(set(RESERVED) & set(manifest))
    if taken:
        raise ArtifactError(f"the manifest's entry {taken[0]!r} is reserved: choose another name")
    members = {
        _member(part, name): _npy(part, name, array)
        for part, state in sorted(parts.items())
        for name, array in sorted(state.arrays.items())
    }
    complete = dict(manifest) | {
        "format": FORMAT_VERSION,
        "libraries": libraries(),
        "members": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
        "parts": {part: dict(state.meta) for part, state in parts.items()},
    }
    return _sealed({MANIFEST: _json(complete)} | members, key)


def unpack(
    artifact: bytes, features: Sequence[str] | None = None, key: bytes | None = None
) -> tuple[dict[str, State], dict[str, Any]]:
    """
    Deserialize parts and manifest; the manifest also holds `format`, `libraries` and `members`.

    Parameters
    ----------
    features
        The feature names that the caller computes; a manifest with other names is rejected.
    key
        The key with which the bytes must be sealed.

    Raises
    ------
    ArtifactError
        The format, the key or the feature list differs, a byte changed, or an array holds objects.
    """
    _check_seal(artifact, key)
    try:
        with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            parts = _parts(archive, manifest)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"the model cannot be read: {error}") from error
    if features is not None and list(features) != manifest.get("features"):
        raise ArtifactError(_other_features(list(features), manifest.get("features") or []))
    return parts, manifest


def verify_samples(
    parts: Mapping[str, State], manifest: Mapping[str, Any], score: Callable[[Floats], Floats]
) -> None:
    """
    Check that the stored sample rows still score the same, to the bit.

    This check, not a list of versions, decides whether other library versions than those of the training are accepted.

    Parameters
    ----------
    parts
        With the part `samples`: arrays `raw` (n, n_columns) and `score` (n,).
    score
        The scoring function of the unpacked model.

    Raises
    ------
    ArtifactError
        There are no samples, or one scores differently; the message names the libraries that changed.
    """
    if "samples" not in parts:
        raise ArtifactError("the model holds no sample rows to verify: train a new model")
    expected = parts["samples"].arrays["score"]
    scores = score(parts["samples"].arrays["raw"])
    if not np.array_equal(scores, expected, equal_nan=True):
        changed = ", ".join(changed_libraries(manifest)) or "with the same libraries"
        differing = int(np.sum(scores != expected))
        raise ArtifactError(
            f"{differing} of the model's {len(expected)} sample rows score differently here ({changed}): "
            "install the versions it was trained with, or train a new model"
        )


def libraries() -> dict[str, str]:
    """Installed versions of the libraries that affect scores."""
    return {name: version(name) for name in LIBRARIES}


def changed_libraries(manifest: Mapping[str, Any]) -> list[str]:
    """Libraries whose installed version differs from the training's, as "name old → new"."""
    now = libraries()
    then = manifest["libraries"]
    return [f"{name} {then.get(name, 'none')} → {now[name]}" for name in now if then.get(name) != now[name]]


def _member(part: str, name: str) -> str:
    if not part or not name or "/" in part + name:
        raise ArtifactError(f"a stored array is named part/array without further slashes, got {part}/{name}")
    return f"{part}/{name}.npy"


def _npy(part: str, name: str, array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    try:
        np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
    except ValueError as error:
        raise ArtifactError(f"{part}/{name} holds Python objects, which only pickle could store") from error
    return content.getvalue()


def _json(entries: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(entries, sort_keys=True, ensure_ascii=False, default=_plain).encode()
    except TypeError as error:
        raise ArtifactError(f"the manifest cannot be stored: {error}") from error


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _sealed(members: Mapping[str, bytes], key: bytes | None) -> bytes:
    """A zip of the members whose comment ends in the hash of all bytes before it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, member in members.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # as on Unix, whatever the machine
            archive.writestr(entry, member)
        archive.comment = (PLAIN if key is None else KEYED) + b"0" * DIGEST
    body = content.getvalue()[:-DIGEST]
    return body + _digest(body, key)


def _digest(body: bytes, key: bytes | None) -> bytes:
    if key is None:
        return hashlib.sha256(body).hexdigest().encode()
    return hmac.new(key, body, hashlib.sha256).hexdigest().encode()


def _check_seal(artifact: bytes, key: bytes | None) -> None:
    body, digest = artifact[:-DIGEST], artifact[-DIGEST:]
    if not artifact.startswith(b"PK") or NAME not in body[-64:]:
        raise ArtifactError(f"not a fraudwatch model: {len(artifact)} bytes without its seal")
    if not body.endswith((PLAIN, KEYED)):
        seal = body[-64:].partition(NAME)[2].decode(errors="replace")
        raise ArtifactError(f"the model has format {seal!r}, this version reads {FORMAT_VERSION} sha256")
    if body.endswith(KEYED) and key is None:
        raise ArtifactError(
            "the model is sealed with a key: set FRAUDWATCH_MODEL_KEY to the one it was trained with"
        )
    if body.endswith(PLAIN) and key is not None:
        raise ArtifactError(
            "the model carries no seal of a key, so anybody may have written it: train a new model"
        )
    if not hmac.compare_digest(_digest(body, key), digest):
        other = "" if key is None else ", or sealed with another FRAUDWATCH_MODEL_KEY"
        raise ArtifactError(
            f"the model's bytes do not match its hash: it was changed or cut after training{other}"
        )


def _parts(archive: zipfile.ZipFile, manifest: Mapping[str, Any]) -> dict[str, State]:
    arrays: dict[str, dict[str, NDArray[Any]]] = {part: {} for part in manifest["parts"]}
    members = manifest["members"]
    if set(archive.namelist()) != {MANIFEST, *members}:
        raise ArtifactError("the model's arrays are not those its manifest lists")
    for member, expected in members.items():
        content = archive.read(member)
        if hashlib.sha256(content).hexdigest() != expected:
            raise ArtifactError(f"{member} does not match the hash in the model's manifest")
        part, _, name = member.removesuffix(".npy").partition("/")
        arrays[part][name] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return {part: State(meta, arrays[part]) for part, meta in manifest["parts"].items()}


def _other_features(computed: list[str], stored: list[str]) -> str:
    missing = [name for name in stored if name not in computed]
    extra = [name for name in computed if name not in stored]
    what = (
        f"lacks {missing[0]!r}" if missing else f"adds {extra[0]!r}" if extra else "orders them differently"
    )
    return f"the model was trained on {len(stored)} other features (the list here {what}): train anew"
