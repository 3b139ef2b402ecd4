"""A stored model comes back as it was, or not at all."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest

from detectors import codec
from detectors.base import ArtifactError, Floats
from detectors.model.artifact import (
    Seal,
    changed_libraries,
    key_id,
    libraries,
    pack,
    seal,
    sealing_key_id,
    unpack,
    unseal,
    verify_scores,
)


@dataclass(frozen=True)
class Weights:
    """Something to store."""

    names: tuple[str, ...] = ("amount", "ß")
    values: Floats = field(default_factory=lambda: np.arange(6.0).reshape(2, 3))


KEY, OTHER = b"0123456789abcdef", b"fedcba9876543210"
PLAIN, KEYED, TURNED = Seal("cards", 7), Seal("cards", 7, [KEY]), Seal("cards", 7, [OTHER])
CONTENT = pack(Weights())


def test_a_value_comes_back_with_the_libraries_it_was_stored_under():
    again, then = unpack(Weights, unseal(seal(CONTENT, KEYED), KEYED))
    assert again.names == Weights().names
    assert again.values.tolist() == Weights().values.tolist()
    assert then == libraries()


def test_equal_models_are_equal_bytes():
    assert pack(Weights()) == CONTENT
    assert seal(CONTENT, PLAIN) == seal(CONTENT, PLAIN)
    assert seal(CONTENT, KEYED) == seal(CONTENT, KEYED) != seal(CONTENT, PLAIN)


@pytest.mark.parametrize(
    ("sealed_as", "read_as", "message"),
    [
        (KEYED, TURNED, f"another FRAUDWATCH_MODEL_KEY: key '{key_id(KEY)}', not {key_id(OTHER)}: add that key"),
        (KEYED, PLAIN, "sealed with a key: set FRAUDWATCH_MODEL_KEY"),
        (PLAIN, KEYED, "anybody may have written it: train a new model"),
        (KEYED, Seal("cards", 8, [KEY]), "sealed as model 7 of monitor 'cards', not as model 8 of 'cards'"),
        (KEYED, Seal("refunds", 7, [KEY]), "sealed as model 7 of monitor 'cards', not as model 7 of 'refunds'"),
        (PLAIN, Seal("refunds", 7), "put in another's place: train a new model"),
        (Seal('a "\n}', 7), PLAIN, "sealed as model 7 of monitor 'a"),
    ],
)  # fmt: skip
def test_a_model_is_read_only_as_the_one_it_was_sealed_as(sealed_as, read_as, message):
    artifact = seal(CONTENT, sealed_as)
    assert unseal(artifact, sealed_as) == CONTENT
    with pytest.raises(ArtifactError, match=message):
        unseal(artifact, read_as)


def test_a_key_is_rotated_by_writing_the_new_one_before_it():
    old, both = seal(CONTENT, KEYED), Seal("cards", 7, [OTHER, KEY])
    new = seal(CONTENT, both)
    assert unseal(old, both) == unseal(new, both) == unseal(new, TURNED) == CONTENT
    assert [sealing_key_id(each) for each in (old, new, seal(CONTENT, PLAIN), b"PK")] == [
        key_id(KEY), key_id(OTHER), None, None,
    ]  # fmt: skip
    with pytest.raises(ArtifactError, match="another FRAUDWATCH_MODEL_KEY"):
        unseal(old, TURNED)


def test_who_knows_the_format_but_not_the_key_cannot_forge_a_model():
    artifact = seal(CONTENT, KEYED)
    line, _, content = artifact.partition(b"\n")
    for forged in (
        line + b"\n" + content.replace(b"value/values", b"value/wolves"),
        line.replace(b'"model": 7', b'"model": 8') + b"\n" + content,
        line[:-64] + hashlib.sha256(line[:-64] + content).hexdigest().encode() + b"\n" + content,
        line[:-64] + b"0" * 64 + b"\n" + content,
    ):
        with pytest.raises(ArtifactError, match="changed or cut"):
            unseal(forged, KEYED)
    assert KEY not in artifact
    assert "0123" not in repr(KEYED)


def test_every_changed_byte_is_refused():
    artifact = seal(CONTENT, PLAIN)
    for place in range(len(artifact)):
        changed = bytearray(artifact)
        changed[place] ^= 0x01
        with pytest.raises(ArtifactError):
            unseal(bytes(changed), PLAIN)


@pytest.mark.parametrize("cut", [1, 10, 64, 65, 200])
def test_a_cut_or_lengthened_model_is_refused(cut):
    artifact = seal(CONTENT, PLAIN)
    for changed in (artifact[:-cut], artifact[cut:], artifact + b"x" * cut):
        with pytest.raises(ArtifactError):
            unseal(changed, PLAIN)


OLD = codec.pack(Weights(), {}, b"fraudwatch-model 2 sha256:" + b"0" * 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a fraudwatch model: 0 bytes"),
        (b"\x80\x04pickle", "not a fraudwatch model"),
        (b"tree\nversion=v4\n" * 100, "not a fraudwatch model"),
        (CONTENT, "not a fraudwatch model"),
        (OLD, "has format 2, this version reads 4: train a new model"),
        (
            seal(CONTENT, PLAIN).replace(b"model 4", b"model 3", 1),
            "has format 3, this version reads 4: train a new model",
        ),
        (b"fraudwatch-model 4 " + b"{" * 5000, "not a fraudwatch model"),
        (b"fraudwatch-model 4 {" + b"[" * 3000 + b"} sha256:" + b"0" * 64 + b"\n", "do not match its hash"),
    ],
)
def test_other_files_are_refused(content, message):
    with pytest.raises(ArtifactError, match=message):
        unseal(content, PLAIN)


def test_other_content_is_refused_even_under_a_seal_that_fits():
    with pytest.raises(ArtifactError, match=r"cannot be read: value is .*: train a new model"):
        unpack(Weights, pack(Other()))
    with pytest.raises(ArtifactError, match="cannot be read: the stored bytes"):
        unpack(Weights, b"PK" + CONTENT[50:])
    assert unpack(Weights, codec.pack(Weights(), {"libraries": 3}))[1] == {}


@dataclass(frozen=True)
class Other:
    """Something else."""

    size: int = 3


def test_other_libraries_pass_if_the_sample_rows_score_as_before():
    then = libraries() | {"lightgbm": "3.0.0"}
    scores = np.array([0.0, 0.2, 0.4, np.nan])
    verify_scores(scores, scores.copy(), then)
    assert changed_libraries(then) == [f"lightgbm 3.0.0 → {libraries()['lightgbm']}"]
    other = np.nextafter(scores, [0.0, 0.2, 1.0, 0.0])
    with pytest.raises(ArtifactError, match=r"of the model's 4 sample rows .*\(lightgbm 3.0.0 → .*: install"):
        verify_scores(other, scores, then)
    with pytest.raises(ArtifactError, match="with the same libraries"):
        verify_scores(other, scores, libraries())
