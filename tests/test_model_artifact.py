"""A stored model comes back as it was, or not at all."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest

from detectors.base import ArtifactError, State
from detectors.model.artifact import DIGEST, PLAIN, changed_libraries, libraries, pack, unpack, verify_samples

FEATURES = ["amount", "hour"]


def parts():
    return {
        "first": State(
            {"a": 1, "b": [0.1, None], "limit": float("inf")},
            {"x": np.arange(6.0).reshape(2, 3), "n": np.array(3)},
        ),
        "second": State({}, {"names": np.array(["ä", "bc"]), "empty": np.empty((0, 2), dtype=np.int32)}),
        "third": State({"text": "только"}, {}),
    }


def sealed(body):
    """Any bytes under a seal that fits them, as one who knows the format could make."""
    body = body[: -len(PLAIN) - DIGEST] + PLAIN
    return body + hashlib.sha256(body).hexdigest().encode()


def rebuilt(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
        archive.comment = PLAIN + b"0" * DIGEST
    return sealed(content.getvalue())


def members_of(artifact):
    with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_parts_and_manifest_come_back_as_they_were():
    loaded, manifest = unpack(pack(parts(), {"features": FEATURES, "note": "ß"}))
    assert list(loaded) == ["first", "second", "third"]
    assert loaded["first"].meta == parts()["first"].meta
    for part, state in parts().items():
        for name, array in state.arrays.items():
            found = loaded[part].arrays[name]
            assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert (manifest["features"], manifest["note"], manifest["format"]) == (FEATURES, "ß", 1)
    assert manifest["libraries"] == libraries()


def test_equal_models_are_equal_bytes():
    backwards = dict(reversed(parts().items()))
    assert pack(parts(), {"a": 1, "b": 2}) == pack(backwards, {"b": 2, "a": 1})


KEY, OTHER = b"0123456789abcdef", b"fedcba9876543210"


@pytest.mark.parametrize(
    ("sealed_with", "read_with", "message"),
    [
        (KEY, OTHER, "another FRAUDWATCH_MODEL_KEY"),
        (KEY, None, "sealed with a key: set FRAUDWATCH_MODEL_KEY"),
        (None, KEY, "anybody may have written it"),
    ],
)
def test_a_model_is_read_only_with_the_key_it_was_sealed_with(sealed_with, read_with, message):
    artifact = pack(parts(), {}, sealed_with)
    assert list(unpack(artifact, key=sealed_with)[0]) == ["first", "second", "third"]
    with pytest.raises(ArtifactError, match=message):
        unpack(artifact, key=read_with)


def test_who_knows_the_format_but_not_the_key_cannot_forge_a_model():
    artifact = pack(parts(), {}, KEY)
    changed = artifact.replace(b"first", b"worst")[:-DIGEST]
    for seal in (hashlib.sha256(changed).hexdigest(), "0" * DIGEST):
        with pytest.raises(ArtifactError, match="changed or cut"):
            unpack(changed + seal.encode(), key=KEY)
    assert KEY not in artifact


def test_numpy_reads_the_arrays_without_pickle():
    with np.load(io.BytesIO(pack(parts(), {})), allow_pickle=False) as arrays:
        assert arrays["first/x"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_numbers_of_numpy_may_stand_in_a_manifest():
    _, manifest = unpack(pack({}, {"rows": np.int64(3), "share": np.float64(0.1), "ok": np.bool_(True)}))
    assert (manifest["rows"], manifest["share"], manifest["ok"]) == (3, 0.1, True)


def test_every_changed_byte_is_refused():
    artifact = pack(parts(), {"features": FEATURES})
    for place in range(len(artifact)):
        changed = bytearray(artifact)
        changed[place] ^= 0x01
        with pytest.raises(ArtifactError):
            unpack(bytes(changed))


@pytest.mark.parametrize("cut", [1, 10, 64, 65, 200])
def test_a_cut_or_lengthened_model_is_refused(cut):
    artifact = pack(parts(), {})
    for changed in (artifact[:-cut], artifact[cut:], artifact + b"x" * cut):
        with pytest.raises(ArtifactError):
            unpack(changed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a fraudwatch model: 0 bytes"),
        (b"\x80\x04pickle", "not a fraudwatch model"),
        (b"tree\nversion=v4\n" * 100, "not a fraudwatch model"),
    ],
)
def test_other_files_are_refused(content, message):
    with pytest.raises(ArtifactError, match=message):
        unpack(content)


def test_another_format_is_refused_by_name():
    newer = pack(parts(), {}).replace(PLAIN, b"fraudwatch-model 2 sha256:")
    with pytest.raises(ArtifactError, match="has format '2 sha256:', this version reads 1"):
        unpack(newer)


def test_arrays_of_objects_are_refused_on_the_way_in_and_out():
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ArtifactError, match="first/x holds Python objects"):
        pack({"first": State({}, {"x": objects})}, {})
    content = io.BytesIO()
    np.lib.format.write_array(content, objects, allow_pickle=True)
    members = members_of(pack({"first": State({}, {"x": np.ones(2)})}, {}))
    manifest = json.loads(members["manifest.json"])
    manifest["members"]["first/x.npy"] = hashlib.sha256(content.getvalue()).hexdigest()
    crafted = members | {"manifest.json": json.dumps(manifest), "first/x.npy": content.getvalue()}
    with pytest.raises(ArtifactError, match="cannot be read: Object arrays"):
        unpack(rebuilt(crafted))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"first/x.npy": m["first/n.npy"]}, "first/x.npy does not match the hash"),
        (lambda m: m | {"first/more.npy": m["first/n.npy"]}, "arrays are not those"),
        (lambda m: {k: v for k, v in m.items() if k != "first/x.npy"}, "arrays are not those"),
        (lambda m: {k: v for k, v in m.items() if k != "manifest.json"}, "cannot be read"),
        (lambda m: m | {"manifest.json": b"{"}, "cannot be read"),
        (lambda m: m | {"manifest.json": b"{}"}, "cannot be read"),
    ],
)
def test_members_that_disagree_are_refused_even_under_a_seal_that_fits(change, message):
    with pytest.raises(ArtifactError, match=message):
        unpack(rebuilt(change(members_of(pack(parts(), {})))))


@pytest.mark.parametrize(
    ("computed", "message"),
    [
        (["amount"], "lacks 'hour'"),
        (["amount", "hour", "weekday"], "adds 'weekday'"),
        (["hour", "amount"], "orders them differently"),
        ([], "lacks 'amount'"),
    ],
)
def test_another_feature_list_is_refused(computed, message):
    artifact = pack(parts(), {"features": FEATURES})
    assert unpack(artifact, FEATURES)
    with pytest.raises(ArtifactError, match=message):
        unpack(artifact, computed)


@pytest.mark.parametrize(
    ("stored", "manifest", "message"),
    [
        ({"a/b": State({}, {"x": np.ones(1)})}, {}, "without further slashes"),
        ({}, {"members": {}}, "'members' is reserved"),
        ({}, {"when": object()}, "object is not a JSON value"),
    ],
)
def test_what_cannot_be_stored_is_refused(stored, manifest, message):
    with pytest.raises(ArtifactError, match=message):
        pack(stored, manifest)


def test_other_libraries_pass_if_the_sample_rows_score_as_before():
    rows = np.arange(8.0).reshape(4, 2)
    stored = {"samples": State({}, {"raw": rows, "score": rows[:, 0] * 0.1})}
    loaded, manifest = unpack(pack(stored, {}))
    manifest["libraries"]["lightgbm"] = "3.0.0"
    verify_samples(loaded, manifest, lambda raw: raw[:, 0] * 0.1)
    assert changed_libraries(manifest) == [f"lightgbm 3.0.0 → {libraries()['lightgbm']}"]
    with pytest.raises(ArtifactError, match=r"1 of the model's 4 sample rows .*\(lightgbm 3.0.0 → "):
        verify_samples(
            loaded, manifest, lambda raw: np.nextafter(raw[:, 0] * 0.1, raw[:, 0] * 0.1 * [1, 1, 2, 1])
        )


def test_a_model_without_sample_rows_is_not_trusted():
    loaded, manifest = unpack(pack(parts(), {}))
    with pytest.raises(ArtifactError, match="no sample rows"):
        verify_samples(loaded, manifest, lambda raw: raw)
