"""Whatever is stored comes back equal, and bytes that fit no annotation are refused."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from detectors import codec
from detectors.algorithms.hbos import HBOS
from detectors.algorithms.logistic import Logistic
from detectors.base import ArtifactError, Classifier, Detector, DetectorError, Floats, Ints


@dataclass(frozen=True)
class Inner:
    """Arrays of several kinds."""

    floats: Floats
    whole: Ints
    any_kind: NDArray[Any]
    single: NDArray[np.float32] | None


@dataclass(frozen=True)
class Outer:
    """Everything that a field may hold."""

    inner: Inner
    maybe: Inner | None
    several: tuple[Inner, ...]
    pair: tuple[str, int]
    by_name: Mapping[str, float]
    by_pair: dict[tuple[str, str], Inner]
    notes: Mapping[str, Any]
    kind: Literal["one", "two"]
    flag: bool
    number: float
    text: str


@dataclass(eq=False)
class Learner:
    """Parameters, and a field that the constructor does not take."""

    size: int = 3
    fitted: Inner | None = field(default=None, init=False)


@dataclass(frozen=True)
class Positive:
    """A value that checks itself."""

    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise DetectorError("a value must be above 0")


@dataclass(frozen=True)
class Team:
    """Detectors of the registry."""

    outlier: Detector
    classifier: Classifier | None = None


shapes = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
float_arrays = arrays(np.float64, shapes, elements=st.floats(width=64))
kinds = st.sampled_from([np.float32, np.int32, np.uint8, np.bool_, np.dtype("U3"), np.dtype("<M8[us]")])
inners = st.builds(
    Inner,
    float_arrays,
    arrays(np.int64, shapes),
    kinds.flatmap(lambda kind: arrays(kind, shapes)),
    st.none() | arrays(np.float32, shapes),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
numbers = st.floats() | st.floats(width=32).map(np.float32) | st.integers(-(2**53), 2**53)
outers = st.builds(
    Outer,
    inners,
    st.none() | inners,
    st.lists(inners, max_size=2).map(tuple),
    st.tuples(st.text(), st.integers(1 - 2**63, 2**63 - 1) | st.integers(-9, 9).map(np.int64)),
    st.dictionaries(st.text(), numbers, max_size=3),
    st.dictionaries(st.tuples(st.text(), st.text()), inners, max_size=2),
    st.dictionaries(st.text(), json_values, max_size=3),
    st.sampled_from(["one", "two"]),
    st.booleans() | st.booleans().map(np.bool_),
    numbers,
    st.text() | st.text().filter(lambda text: not text.endswith("\0")).map(np.str_),
)


def equal(one: Any, other: Any) -> bool:
    """Equality that looks into arrays, and for which NaN is NaN."""
    if isinstance(one, np.ndarray):
        same = (one.dtype, one.shape) == (other.dtype, other.shape)
        return same and one.tobytes() == other.tobytes()
    if is_dataclass(one):
        return type(one) is type(other) and all(
            equal(getattr(one, part.name), getattr(other, part.name)) for part in fields(one)
        )
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other or (one != one and other != other))


@settings(max_examples=150, deadline=None)
@given(outers)
def test_what_is_stored_comes_back_equal_and_as_equal_bytes(value: Outer) -> None:
    stored = codec.pack(value, {"entry": 1})
    again, entries = codec.unpack(Outer, stored)
    assert equal(value, again)
    assert entries == {"entry": 1}
    assert codec.pack(again, {"entry": 1}) == stored


def example() -> Outer:
    inner = Inner(np.arange(3.0), np.arange(2), np.array(["ä"]), None)
    by_pair = {("b", "x"): inner, ("a", "y"): inner}
    return Outer(
        inner, inner, (inner,), ("p", 1), {"b": 1.0}, by_pair, {"n": [1, None]}, "one", True, 0.5, "t"
    )


def test_the_order_of_a_mapping_does_not_change_the_bytes() -> None:
    value = example()
    turned = Outer(**{**vars(value), "by_pair": dict(reversed(value.by_pair.items()))})
    assert codec.pack(turned) == codec.pack(value)


def test_numpy_reads_the_arrays_without_pickle() -> None:
    with np.load(io.BytesIO(codec.pack(example())), allow_pickle=False) as arrays_:
        assert arrays_["value/inner/floats"].tolist() == [0, 1, 2]
        assert arrays_["value/by_pair/1/any_kind"].tolist() == ["ä"]


def test_a_field_that_the_constructor_does_not_take_comes_back() -> None:
    learner = Learner(5)
    learner.fitted = example().inner
    again, _ = codec.unpack(Learner, codec.pack(learner))
    assert equal(learner, again)


def test_detectors_come_back_by_their_names_in_the_registry() -> None:
    X, y = np.random.default_rng(1).standard_normal((200, 3)), np.arange(200) % 9 == 0
    team = Team(HBOS(n_bins=7).fit(X), Logistic().fit(X, y))
    again, _ = codec.unpack(Team, codec.pack(team))
    assert repr(again) == repr(team)
    assert again.outlier.anomaly_score(X).tobytes() == team.outlier.anomaly_score(X).tobytes()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Inner(np.arange(3), np.arange(3), np.arange(3), None), r"value/floats is dtype\('int64'\), not of kind float64"),
        (Inner(np.zeros(1), np.arange(3), np.array([{}]), None), "value/any_kind holds Python objects"),
        (Outer(**vars(example()) | {"number": True}), "value/number is True, not of kind float"),
        (Outer(**vars(example()) | {"text": 3}), "value/text is 3, not of kind str"),
        (Outer(**vars(example()) | {"kind": "three"}), "value/kind is 'three'"),
        (Outer(**vars(example()) | {"inner": None}), "value/inner is None, not of kind Inner"),
        (Outer(**vars(example()) | {"notes": {"when": object()}}), "the manifest cannot be stored"),
        (Team(HBOS(), HBOS()), "value/classifier is 'hbos', not of kind Classifier"),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_annotation_is_not_stored(value: object, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        codec.pack(value)


def members_of(stored: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=True)
    return content.getvalue()


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node of a JSON tree."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [path, *(place for key in keys for place in places(tree[key], (*path, key)))]


MEMBERS = members_of(codec.pack(example()))
MANIFEST = json.loads(MEMBERS["manifest.json"])
FREE = ("value", "notes")  # may hold any JSON
ARRAYS = ("floats", "whole", "any_kind", "single")  # a place of an array only says that there is one
HOSTILE = (
    None,
    True,
    10**400,
    -1,
    1.5,
    "os:system",
    "../../etc/passwd",
    [],
    [[]],
    [1, 2],
    {},
    {"fitted": 1},
    "one",
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(places(MANIFEST)), st.sampled_from(HOSTILE) | json_values)
def test_a_hostile_manifest_is_refused_or_gives_what_its_annotations_say(
    place: tuple[Any, ...], hostile: Any
) -> None:
    manifest = json.loads(MEMBERS["manifest.json"])
    if place:
        parent = manifest
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = hostile
    else:
        manifest = hostile
    crafted = zipped(MEMBERS | {"manifest.json": json.dumps(manifest).encode()})
    try:
        value, _ = codec.unpack(Outer, crafted)
    except ArtifactError:
        return
    codec.pack(value)  # which checks every annotation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value/inner/floats.npy": npy(np.array([{}], dtype=object))}, "Object arrays"),
        ({"value/inner/floats.npy": npy(np.arange(3))}, "value/inner/floats is dtype"),
        ({"value/inner/floats.npy": b"\x93NUMPY\x01\x00junk"}, "cannot be read"),
        ({"value/inner/floats.npy": npy(np.zeros(1)).replace(b"(1,)", b"(9999999999999999,)")[:-16]}, "cannot be read"),
        ({"value/more.npy": npy(np.zeros(1))}, "not those that the manifest lists"),
        ({"../value.npy": npy(np.zeros(1))}, "not those that the manifest lists"),
        ({"manifest.json": b"{"}, "cannot be read"),
        ({"manifest.json": b"{}"}, "cannot be read"),
        ({"manifest.json": b"[" * 100_000}, "cannot be read"),
        ({"manifest.json": b"\xff"}, "cannot be read"),
    ],
)  # fmt: skip
def test_members_that_disagree_are_refused(change: dict[str, bytes], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        codec.unpack(Outer, zipped(MEMBERS | change))


@pytest.mark.parametrize("missing", ["manifest.json", "value/inner/floats.npy"])
def test_a_missing_member_is_refused(missing: str) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        codec.unpack(Outer, zipped({name: member for name, member in MEMBERS.items() if name != missing}))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(codec.pack(example())) - 1), st.integers(0, 255))
def test_a_damaged_archive_is_refused_or_equal(place: int, byte: int) -> None:
    stored = codec.pack(example())
    try:
        again, _ = codec.unpack(Outer, stored[:place] + bytes([byte]) + stored[place + 1 :])
    except ArtifactError:
        return
    assert equal(again, example())


@pytest.mark.parametrize(
    "name", ["os:system", "builtins.eval", "detectors.algorithms.hbos:HBOS", 3, None, ["hbos"], "logistic"]
)
def test_only_names_of_the_registry_are_looked_up(name: Any) -> None:
    X = np.random.default_rng(1).standard_normal((50, 2))
    members = members_of(codec.pack(Team(HBOS().fit(X))))
    manifest = json.loads(members["manifest.json"])
    manifest["value"]["outlier"][0] = name
    with pytest.raises(ArtifactError):
        codec.unpack(Team, zipped(members | {"manifest.json": json.dumps(manifest).encode()}))


def test_a_value_that_refuses_itself_is_an_artifact_error() -> None:
    members = members_of(codec.pack(Positive(1.0)))
    crafted = members | {"manifest.json": members["manifest.json"].replace(b"1.0", b"-1.0")}
    with pytest.raises(ArtifactError, match="value is impossible: a value must be above 0"):
        codec.unpack(Positive, zipped(crafted))


def test_a_key_that_is_no_field_is_refused() -> None:
    manifest = json.loads(MEMBERS["manifest.json"])
    manifest["value"]["more"] = 1
    with pytest.raises(ArtifactError, match=r"value is .*, not of kind Outer"):
        codec.unpack(Outer, zipped(MEMBERS | {"manifest.json": json.dumps(manifest).encode()}))


def test_a_truth_value_is_no_whole_number() -> None:
    with pytest.raises(ArtifactError, match="value/pair/1 is True, not of kind int"):
        codec.pack(Outer(**vars(example()) | {"pair": ("p", True)}))


def test_a_whole_number_has_at_most_64_bits() -> None:
    with pytest.raises(ArtifactError, match="value/pair/1 is 92233720"):
        codec.pack(Outer(**vars(example()) | {"pair": ("p", 2**63)}))


def bomb(size: int, declared: int, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive with a member of zeros that declares another size."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, member in MEMBERS.items():
            archive.writestr(name, b"\0" * size if name == "value/inner/floats.npy" else member)
    return content.getvalue().replace(size.to_bytes(4, "little"), declared.to_bytes(4, "little"))


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "declared": (lambda: bomb(500_000, codec.UNPACKED_MAX + 1), "unpacks to 536,87"),
    "more than declared": (lambda: bomb(1 << 26, 500_000), "cannot be read"),  # the checksum is that of the rest, too
    "less than declared": (lambda: bomb(500_000, 1 << 26), "has not the 67,108,864 bytes"),
    "another method": (lambda: bomb(500_000, 500_000, zipfile.ZIP_BZIP2), "compressed or encrypted otherwise"),
    "many members": (
        lambda: zipped(MEMBERS | {f"value/{n}.npy": b"" for n in range(codec.MEMBERS_MAX)}), "members, more than 50,000",
    ),
    "manifest": (
        lambda: zipped(MEMBERS | {"manifest.json": b" " * (codec.MANIFEST_MAX + 1)}), "its manifest to 16,777,217: too much",
    ),
    "two of one name": (
        lambda: zipped(MEMBERS | {"value/inner/flouts.npy": b""}).replace(b"flouts", b"floats"), "two members of one name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_an_archive_that_would_take_too_much_memory_is_refused_before_it_does(name: str) -> None:
    make, message = BOMBS[name]
    crafted = make()
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=message):
            codec.unpack(Outer, crafted)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def header(descr: str = "'<f8'", shape: str = "(1,)") -> bytes:
    """An array of one number whose header says something else."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 8


@pytest.mark.parametrize(
    "member",
    [
        header(shape="(1000000000,)"),
        header(shape="(4294967296, 4294967296)"),  # overflows to 0
        header(shape="(-1,)"),
        header(shape="(-1, -1)"),
        header(shape="(0, 99999999999)"),
        header(shape="()"[:1] * 3000),
        header(descr="'|O'"),
        header(descr="[('a', '<f8')]"),
        header(descr="('<f4', (2,))"),
        header(descr="'|V8'"),
        header(descr="'<U0'", shape="(99999999999,)"),
        header(descr="'<c8'"),
        b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little"),
        b"",
    ],
)
def test_an_array_that_is_not_what_its_header_declares_is_refused(member: bytes) -> None:
    with pytest.raises(ArtifactError):
        codec.unpack(Outer, zipped(MEMBERS | {"value/inner/any_kind.npy": member}))
    codec.unpack(Outer, zipped(MEMBERS | {"value/inner/any_kind.npy": header()}))


def test_the_archive_tells_neither_time_nor_machine() -> None:
    with zipfile.ZipFile(io.BytesIO(codec.pack(example()))) as archive:
        assert {(entry.date_time, entry.create_system) for entry in archive.infolist()} == {(codec.EPOCH, 3)}


def test_a_number_that_no_float_can_hold_is_refused() -> None:
    immense = MEMBERS["manifest.json"].replace(b'"number": 0.5', b'"number": 1' + b"0" * 400)
    assert immense != MEMBERS["manifest.json"]
    with pytest.raises(ArtifactError, match="cannot be read"):
        codec.unpack(Outer, zipped(MEMBERS | {"manifest.json": immense}))
