"""
A model as bytes: a zip of arrays (npz) and one JSON manifest, without pickle.

    manifest.json              format, libraries, hashes of arrays, meta of parts, the caller's entries
    <part>/<array>.npy         what numpy.load(…, allow_pickle=False) reads
    comment of the archive     "fraudwatch-model 1 sha256:", or hmac-sha256, and the hash of all bytes before it

The seal comes last and covers everything, so a changed byte is found before anything is parsed. A plain hash finds damage.
A keyed one (HMAC, RFC 2104) also proves that whoever wrote the model holds the key: where others can write to the database,
nothing of theirs is loaded. With a key only models sealed with it are read.
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

from detectors.base import ArtefactError, Floats, State

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
    Store parts and manifest; equal input gives equal bytes.

    Parameters
    ----------
    parts
        State of each part by name.
    manifest
        JSON entries of the caller's, `features` (the list of feature names) usually among them.
    key
        Seals the bytes, so that only who holds it can have written them; None for a plain hash.

    Raises
    ------
    ArtefactError
        An array of objects, a name with a slash, an entry that JSON cannot hold or whose name is taken.
    """
    taken = sorted(set(RESERVED) & set(manifest))
    if taken:
        raise ArtefactError(f"the manifest's entry {taken[0]!r} is the artefact's own: choose another name")
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
    artefact: bytes, features: Sequence[str] | None = None, key: bytes | None = None
) -> tuple[dict[str, State], dict[str, Any]]:
    """
    Parts and manifest as they were packed; the manifest also tells `format`, `libraries` and `members`.

    Parameters
    ----------
    features
        The feature names the caller computes; another list in the manifest is refused.
    key
        What the bytes must have been sealed with.

    Raises
    ------
    ArtefactError
        Another format, a changed byte, another key or none, an array of objects, or another feature list.
    """
    _check_seal(artefact, key)
    try:
        with zipfile.ZipFile(io.BytesIO(artefact)) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            parts = _parts(archive, manifest)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(f"the model cannot be read: {error}") from error
    if features is not None and list(features) != manifest.get("features"):
        raise ArtefactError(_other_features(list(features), manifest.get("features") or []))
    return parts, manifest


def verify_samples(
    parts: Mapping[str, State], manifest: Mapping[str, Any], score: Callable[[Floats], Floats]
) -> None:
    """
    Score the stored sample rows again: they must score as before, to the bit.

    This, not a list of versions, decides whether other libraries than the training's will do.

    Parameters
    ----------
    parts
        With the part `samples`: arrays `raw` (n, n_columns) and `score` (n,).
    score
        The unpacked model's scores of rows.

    Raises
    ------
    ArtefactError
        No samples, or one that scores differently; names the libraries that changed.
    """
    if "samples" not in parts:
        raise ArtefactError("the model holds no sample rows to verify: train anew with fraudwatch train")
    expected = parts["samples"].arrays["score"]
    scores = score(parts["samples"].arrays["raw"])
    if not np.array_equal(scores, expected, equal_nan=True):
        changed = ", ".join(changed_libraries(manifest)) or "with the same libraries"
        differing = int(np.sum(scores != expected))
        raise ArtefactError(
            f"{differing} of the model's {len(expected)} sample rows score differently here ({changed}): "
            "install the versions it was trained with, or train anew with fraudwatch train"
        )


def libraries() -> dict[str, str]:
    """Installed versions of the libraries that can change a score."""
    return {name: version(name) for name in LIBRARIES}


def changed_libraries(manifest: Mapping[str, Any]) -> list[str]:
    """Libraries whose installed version is not the training's, as "name then → now"."""
    now = libraries()
    then = manifest["libraries"]
    return [f"{name} {then.get(name, 'none')} → {now[name]}" for name in now if then.get(name) != now[name]]


def _member(part: str, name: str) -> str:
    if not part or not name or "/" in part + name:
        raise ArtefactError(f"a stored array is named part/array without further slashes, got {part}/{name}")
    return f"{part}/{name}.npy"


def _npy(part: str, name: str, array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    try:
        np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
    except ValueError as error:
        raise ArtefactError(f"{part}/{name} holds Python objects, which only pickle could store") from error
    return content.getvalue()


def _json(entries: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(entries, sort_keys=True, ensure_ascii=False, default=_plain).encode()
    except TypeError as error:
        raise ArtefactError(f"the manifest cannot be stored: {error}") from error


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


def _check_seal(artefact: bytes, key: bytes | None) -> None:
    body, digest = artefact[:-DIGEST], artefact[-DIGEST:]
    if not artefact.startswith(b"PK") or NAME not in body[-64:]:
        raise ArtefactError(f"not a fraudwatch model: {len(artefact)} bytes without its seal")
    if not body.endswith((PLAIN, KEYED)):
        seal = body[-64:].partition(NAME)[2].decode(errors="replace")
        raise ArtefactError(f"the model has format {seal!r}, this version reads {FORMAT_VERSION} sha256")
    if body.endswith(KEYED) and key is None:
        raise ArtefactError(
            "the model is sealed with a key: set FRAUDWATCH_MODEL_KEY to the one it was trained with"
        )
    if body.endswith(PLAIN) and key is not None:
        raise ArtefactError(
            "the model carries no seal of a key, so anybody may have written it: train anew with fraudwatch train"
        )
    if not hmac.compare_digest(_digest(body, key), digest):
        other = "" if key is None else ", or sealed with another FRAUDWATCH_MODEL_KEY"
        raise ArtefactError(
            f"the model's bytes do not match its hash: it was changed or cut after training{other}"
        )


def _parts(archive: zipfile.ZipFile, manifest: Mapping[str, Any]) -> dict[str, State]:
    arrays: dict[str, dict[str, NDArray[Any]]] = {part: {} for part in manifest["parts"]}
    members = manifest["members"]
    if set(archive.namelist()) != {MANIFEST, *members}:
        raise ArtefactError("the model's arrays are not those its manifest lists")
    for member, expected in members.items():
        content = archive.read(member)
        if hashlib.sha256(content).hexdigest() != expected:
            raise ArtefactError(f"{member} does not match the hash in the model's manifest")
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
