"""
The codec of everything that is stored: dataclasses ↔ a zip of arrays (npy) and one JSON manifest, without pickle.

    manifest.json      the caller's entries, and under `value` the fields of the dataclass as JSON
    <path>.npy         an array, at the path of its field; read by numpy.load(…, allow_pickle=False)

What a field may hold is said by its annotation, in both directions: `str`, `bool`, `int`, `float`, a `Literal` of texts, an
array, another dataclass, `Any` for JSON, and `… | None`, tuples and mappings of these. A field of type `Detector` or
`Classifier` holds a detector of the registry under its name there: no other name in the bytes is looked up, and none imported.
What does not fit the annotations is refused. Equal values give equal bytes.

Bytes may be hostile: `unpack` looks at what is declared before it allocates, and never reads more than that. What arrays must
have besides their dtype, so that code that indexes by them stays inside of memory and ends, each dataclass checks itself.
"""

import io
import json
import math
import types
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from functools import cache
from tokenize import TokenError
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from detectors.base import ArtifactError, Classifier, Detector, DetectorError
from detectors.registry import DETECTORS, detector_class

MANIFEST = "manifest.json"
VALUE = "value"  # the entry of the manifest with the fields, and the first part of every path
UNPACKED_MAX = 1 << 29  # bytes of all members; the largest models have some 50 MB
MANIFEST_MAX = (
    1 << 24
)  # bytes; boosted trees are text in it, and JSON takes up to thirty times its size in memory
MEMBERS_MAX = 50_000  # a histogram has four, and each column has one
DIMENSION_MAX = 1 << 32
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others do not unpack piece by piece
NPY_VERSION = (1, 0)
PLAIN_KINDS = "biufUM"  # numbers, truth values, texts and times
LARGEST_INT = 2**63
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: equal values are equal bytes
# What zipfile, json and numpy raise on bytes that `pack` did not write.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError,
    ArithmeticError, RuntimeError, MemoryError, SyntaxError, TokenError,
)  # fmt: skip

T = TypeVar("T")
Read = Callable[[str], NDArray[Any]]


def pack(value: object, entries: Mapping[str, Any] | None = None, comment: bytes = b"") -> bytes:
    """
    Store a dataclass.

    Parameters
    ----------
    entries
        JSON entries of the manifest beside the value.
    comment
        Comment of the archive: its last bytes.

    Raises
    ------
    ArtifactError
        A field holds something else than its annotation says, or an entry is not JSON.
    """
    members: dict[str, bytes] = {}
    manifest = {**(entries or {}), VALUE: _encode(type(value), value, VALUE, members)}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, member in ({MANIFEST: _json(manifest)} | members).items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # as on Unix, whatever the machine
            archive.writestr(entry, member)
        archive.comment = comment
    return content.getvalue()


def unpack(kind: type[T], content: bytes) -> tuple[T, dict[str, Any]]:
    """
    Restore a dataclass of type `kind` and the manifest's entries from `pack`.

    Raises
    ------
    ArtifactError
        The bytes cannot be read, or hold something else than a `kind`.
    """
    members = [MANIFEST]

    def read(path: str) -> NDArray[Any]:
        members.append(f"{path}.npy")
        return _array(_member(archive, members[-1]), path)

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_sizes(archive.infolist())
            manifest = json.loads(_member(archive, MANIFEST))
            value: T = _decode(kind, manifest.pop(VALUE), VALUE, read)
            if sorted(archive.namelist()) != sorted(members):
                raise ArtifactError("the stored arrays are not those that the manifest lists")
    except UNREADABLE as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"the stored bytes cannot be read: {error}") from error
    return value, manifest


def _check_sizes(members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive that would take too much memory, before any of it is unpacked."""
    if len(members) > MEMBERS_MAX:
        raise ArtifactError(f"the archive has {len(members):,} members, more than {MEMBERS_MAX:,}")
    if len({member.filename for member in members}) != len(members):
        raise ArtifactError("the archive has two members of one name")
    if any(member.compress_type not in METHODS or member.flag_bits & 1 for member in members):
        raise ArtifactError("the archive is compressed or encrypted otherwise than any that is stored")
    unpacked = sum(member.file_size for member in members)
    manifest = max((member.file_size for member in members if member.filename == MANIFEST), default=0)
    if unpacked > UNPACKED_MAX or manifest > MANIFEST_MAX:
        raise ArtifactError(
            f"the archive unpacks to {unpacked:,} bytes, its manifest to {manifest:,}: too much"
        )


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of an archive; no more than its declared size is unpacked, and another size does not match its checksum."""
    member = archive.getinfo(name)
    with archive.open(member) as stream:
        content = stream.read(member.file_size)
        if len(content) != member.file_size or stream.read(1):
            raise ArtifactError(f"{name} has not the {member.file_size:,} bytes that it declares")
    return content


def _array(content: bytes, path: str) -> NDArray[Any]:
    """An array from the bytes of `numpy.save`, whose header must declare as many values as there are."""
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != NPY_VERSION:
        raise ArtifactError(f"{path} is no array of format {NPY_VERSION[0]}.{NPY_VERSION[1]}")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ArtifactError(f"Object arrays are not read: {path}")
    values, size = math.prod(shape), len(content) - stream.tell()
    plain = dtype.kind in PLAIN_KINDS and dtype.itemsize > 0
    if not plain or values * dtype.itemsize != size or not all(0 <= each < DIMENSION_MAX for each in shape):
        raise ArtifactError(f"{path} cannot be read: {size:,} bytes are no {dtype} of shape {shape!s:.40}")
    flat = np.frombuffer(content, dtype, values, stream.tell()).copy()
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _encode(kind: Any, value: Any, path: str, members: dict[str, bytes]) -> Any:
    """The value as JSON; its arrays are added to `members`."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _encode(parts[0], value, path, members)
    if origin is np.ndarray:
        members[f"{path}.npy"] = _npy(_checked(kind, np.asarray(value), path), path)
        return path
    if origin is tuple:
        elements = zip(_element_kinds(parts, value, path), value, strict=True)
        return [_encode(each, one, f"{path}/{n}", members) for n, (each, one) in enumerate(elements)]
    if origin in (dict, Mapping):
        return [
            [_encode(parts[0], key, path, members), _encode(parts[1], value[key], f"{path}/{n}", members)]
            for n, key in enumerate(sorted(value))
        ]
    if kind in (Detector, Classifier):
        return [value.name, _fields(_registered(kind, value.name, path), value, path, members)]
    return _fields(kind, value, path, members) if is_dataclass(kind) else _leaf(kind, _plain(value), path)


def _decode(kind: Any, stored: Any, path: str, read: Read) -> Any:
    """The value that `_encode` made JSON of."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if stored is None else _decode(parts[0], stored, path, read)
    if origin is np.ndarray:
        return _checked(kind, read(path), path)
    if origin is tuple:
        elements = zip(_element_kinds(parts, stored, path), stored, strict=True)
        return tuple(_decode(each, one, f"{path}/{n}", read) for n, (each, one) in enumerate(elements))
    if origin in (dict, Mapping):
        return {
            _decode(parts[0], key, path, read): _decode(parts[1], value, f"{path}/{n}", read)
            for n, (key, value) in enumerate(stored)
        }
    if kind in (Detector, Classifier):
        name, of_detector = stored
        return _decode(_registered(kind, name, path), of_detector, path, read)
    return _restore(kind, stored, path, read) if is_dataclass(kind) else _leaf(kind, stored, path)


def _fields(kind: Any, value: Any, path: str, members: dict[str, bytes]) -> Any:
    """The fields of a dataclass."""
    kinds = _field_kinds(kind)
    if type(value) is not kind:
        raise _misfit(kind, value, path)
    return {
        field.name: _encode(each, getattr(value, field.name), f"{path}/{field.name}", members)
        for field, each in kinds
    }


def _restore(kind: Any, stored: Any, path: str, read: Read) -> Any:
    """A dataclass from its fields; one that the constructor does not take is set afterwards."""
    kinds = _field_kinds(kind)
    if not isinstance(stored, dict) or set(stored) != {field.name for field, _ in kinds}:
        raise _misfit(kind, stored, path)
    values = {field: _decode(each, stored[field.name], f"{path}/{field.name}", read) for field, each in kinds}
    try:
        restored = kind(**{field.name: value for field, value in values.items() if field.init})
    except DetectorError as error:
        raise ArtifactError(f"{path} is impossible: {error}") from error
    for field, value in values.items():
        if not field.init:
            setattr(restored, field.name, value)
    return restored


def _leaf(kind: Any, value: Any, path: str) -> Any:
    """A text, truth value, number or any JSON; whole numbers pass as floats."""
    if get_origin(kind) is Literal:
        fits = isinstance(value, str) and value in get_args(kind)
    else:
        fits = kind is Any or type(value) is kind or (kind is float and type(value) is int)
        fits = fits and not (kind is int and abs(value) >= LARGEST_INT)
    if not fits:
        raise _misfit(kind, value, path)
    return float(value) if kind is float else value


def _checked(kind: Any, array: NDArray[Any], path: str) -> NDArray[Any]:
    """The array if it has the dtype of its annotation, which may be any."""
    (scalar,) = get_args(get_args(kind)[1])
    if scalar is not Any and array.dtype != np.dtype(scalar):
        raise _misfit(np.dtype(scalar), array.dtype, path)
    return array


def _element_kinds(parts: tuple[Any, ...], values: Any, path: str) -> Sequence[Any]:
    """The kind of each element of a tuple, which is a list in JSON."""
    if not isinstance(values, list | tuple):
        raise _misfit(tuple, values, path)
    return parts[:1] * len(values) if parts[-1:] == (Ellipsis,) else parts


@cache
def _field_kinds(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field, hints[field.name]) for field in fields(kind))


def _registered(kind: Any, name: Any, path: str) -> type[Detector]:
    """The class of a detector of the registry."""
    if name not in DETECTORS or (kind is Classifier and not DETECTORS[name].supervised):
        raise _misfit(kind, name, path)
    return detector_class(name)


def _misfit(kind: Any, value: object, path: str) -> ArtifactError:
    return ArtifactError(f"{path} is {value!r:.80}, not of kind {getattr(kind, '__name__', kind)}")


def _npy(array: NDArray[Any], path: str) -> bytes:
    content = io.BytesIO()
    try:
        np.lib.format.write_array(content, array, allow_pickle=False)
    except ValueError as error:
        raise ArtifactError(f"{path} holds Python objects, which only pickle could store") from error
    return content.getvalue()


def _json(manifest: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(manifest, sort_keys=True, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the manifest cannot be stored: {error}") from error


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python; anything else as it is, which `json` refuses as circular."""
    return value.item() if isinstance(value, np.generic) else value
