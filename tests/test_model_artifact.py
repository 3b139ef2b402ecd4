"""A stored model comes back as it was, or not at all."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest

from detectors import codec
from detectors.base import ArtifactError, Floats
from detectors.model.artifact import DIGEST, PLAIN, changed_libraries, libraries, seal, unseal, verify_scores


@dataclass(frozen=True)
class Weights:
    """Something to store."""

    names: tuple[str, ...] = ("amount", "ß")
    values: Floats = field(default_factory=lambda: np.arange(6.0).reshape(2, 3))


KEY, OTHER = b"0123456789abcdef", b"fedcba9876543210"


def sealed(body):
    """Any bytes under a seal that fits them, as one who knows the format could make."""
    body = body[: -len(PLAIN) - DIGEST] + PLAIN
    return body + hashlib.sha256(body).hexdigest().encode()


def test_a_value_comes_back_with_the_libraries_it_was_stored_under():
    again, then = unseal(Weights, seal(Weights()))
    assert again.names == Weights().names
    assert again.values.tolist() == Weights().values.tolist()
    assert then == libraries()


def test_equal_models_are_equal_bytes():
    assert seal(Weights()) == seal(Weights())
    assert seal(Weights(), KEY) == seal(Weights(), KEY) != seal(Weights())


@pytest.mark.parametrize(
    ("sealed_with", "read_with", "message"),
    [
        (KEY, OTHER, "another FRAUDWATCH_MODEL_KEY"),
        (KEY, None, "sealed with a key: set FRAUDWATCH_MODEL_KEY"),
        (None, KEY, "anybody may have written it: train a new model"),
    ],
)
def test_a_model_is_read_only_with_the_key_it_was_sealed_with(sealed_with, read_with, message):
    artifact = seal(Weights(), sealed_with)
    assert unseal(Weights, artifact, sealed_with)[0].names == Weights().names
    with pytest.raises(ArtifactError, match=message):
        unseal(Weights, artifact, read_with)


def test_who_knows_the_format_but_not_the_key_cannot_forge_a_model():
    artifact = seal(Weights(), KEY)
    changed = artifact.replace(b"value/values", b"value/wolves")[:-DIGEST]
    for digest in (hashlib.sha256(changed).hexdigest(), "0" * DIGEST):
        with pytest.raises(ArtifactError, match="changed or cut"):
            unseal(Weights, changed + digest.encode(), KEY)
    assert KEY not in artifact


def test_every_changed_byte_is_refused():
    artifact = seal(Weights())
    for place in range(len(artifact)):
        changed = bytearray(artifact)
        changed[place] ^= 0x01
        with pytest.raises(ArtifactError):
            unseal(Weights, bytes(changed))


@pytest.mark.parametrize("cut", [1, 10, 64, 65, 200])
def test_a_cut_or_lengthened_model_is_refused(cut):
    artifact = seal(Weights())
    for changed in (artifact[:-cut], artifact[cut:], artifact + b"x" * cut):
        with pytest.raises(ArtifactError):
            unseal(Weights, changed)


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
        unseal(Weights, content)


@pytest.mark.parametrize("version", [b"1", b"3"])
def test_another_format_is_refused_by_name(version):
    other = seal(Weights()).replace(PLAIN, b"fraudwatch-model %s sha256:" % version)
    with pytest.raises(
        ArtifactError, match=r"has format '. sha256:', this version reads 2 sha256: train a new model"
    ):
        unseal(Weights, other)


def test_other_content_is_refused_even_under_a_seal_that_fits():
    with pytest.raises(ArtifactError, match=r"cannot be read: value is .*: train a new model"):
        unseal(Weights, seal(Other()))
    with pytest.raises(ArtifactError, match="cannot be read: the stored bytes"):
        unseal(Weights, sealed(b"PK" + seal(Weights())[50:]))
    foreign = codec.pack(Weights(), {"libraries": 3}, PLAIN + b"0" * DIGEST)
    assert unseal(Weights, sealed(foreign))[1] == {}


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
