"""What a training learns of categories, rates and missing values."""

import numpy as np
import pytest

from detectors import codec
from detectors.base import DetectorError
from detectors.inputs.encoding import CATEGORY_STRENGTH, HISTORY_STRENGTH, Encoder, EncodingPlan

NAN = np.nan
PLAN = EncodingPlan(
    passthrough=(("amount", 0),),
    rates=(("customer_fraud_rate_7d", 1, 2),),
    categories=(("channel", 3),),
)
# amount, frauds, known, channel
RAW = np.array(
    [
        [10.0, 0, 0, 5.0],
        [20.0, 1, 2, 5.0],
        [NAN, 0, 50, 7.0],
        [40.0, 20, 50, NAN],
    ]
)
Y = np.array([0.0, 1.0, 0.0, 0.0])


def fitted(**more):
    return Encoder.fit(PLAN, RAW, Y, **more)


def test_names_say_what_the_columns_are():
    expected = ["amount", "customer_fraud_rate_7d", "channel_frequency", "channel_fraud_rate"]
    assert fitted().names == expected


def test_rates_are_drawn_to_the_base_rate_until_history_outweighs_it():
    k, base = HISTORY_STRENGTH, 0.25
    rates = fitted().transform(RAW)[:, 1]
    assert rates[0] == base
    assert rates.tolist() == [(f + k * base) / (n + k) for f, n in RAW[:, 1:3]]


def test_categories_give_frequency_and_smoothed_rate():
    k, base = CATEGORY_STRENGTH, 0.25
    found = fitted().transform(RAW)
    assert found[:, 2].tolist() == [0.5, 0.5, 0.25, 0.25]  # missing is a category of its own
    rare = k * base / (1 + k)
    assert found[:, 3].tolist() == [pytest.approx(r) for r in ((1 + k * base) / (2 + k),) * 2 + (rare, rare)]


def test_an_unseen_category_has_no_frequency_and_the_base_rate():
    unseen = np.array([[1.0, 0, 0, 6.0], [1.0, 0, 0, 2.0**47], [1.0, 0, 0, 0.0]])
    assert fitted().transform(unseen)[:, 2:].tolist() == [[0.0, 0.25]] * 3


@pytest.mark.parametrize("missing", [NAN, np.inf, -np.inf])
def test_what_is_missing_becomes_the_training_median(missing):
    found = fitted().transform(np.array([[missing, NAN, NAN, NAN]]))
    assert found[0, 0] == 20.0
    assert found[0, 1] == 0.25
    assert np.isfinite(found).all()


def test_a_column_missing_throughout_becomes_zero():
    raw = RAW.copy()
    raw[:, 0] = NAN
    assert Encoder.fit(PLAN, raw, Y).transform(raw)[:, 0].tolist() == [0.0] * 4


def test_unknown_labels_count_for_frequencies_only():
    unknown = np.array([NAN, 1.0, 0.0, NAN])
    encoder = Encoder.fit(PLAN, RAW, unknown)
    assert encoder.base_rate == 0.5
    assert encoder.transform(RAW)[:, 2].tolist() == [0.5, 0.5, 0.25, 0.25]
    nobody_knows = Encoder.fit(PLAN, RAW, np.full(4, NAN))
    assert nobody_knows.base_rate == 0.0
    assert np.isfinite(nobody_knows.transform(RAW)).all()


def test_a_row_that_stands_for_ten_counts_ten_times():
    weight = np.array([10.0, 1.0, 10.0, 10.0])
    many = np.repeat(RAW, weight.astype(int), axis=0), np.repeat(Y, weight.astype(int))
    assert fitted(weight=weight).base_rate == 1 / 31
    np.testing.assert_allclose(
        fitted(weight=weight).transform(RAW)[:, 1:],
        Encoder.fit(PLAN, *many).transform(RAW)[:, 1:],
        rtol=1e-12,
    )


def test_rows_do_not_depend_on_the_rows_beside_them():
    rng = np.random.default_rng(3)
    raw = np.column_stack(
        [rng.normal(size=999), rng.integers(0, 9, 999), rng.integers(9, 99, 999), rng.integers(0, 40, 999)]
    )
    encoder = Encoder.fit(PLAN, raw[:500], rng.random(500) < 0.2)
    whole = encoder.transform(raw)
    assert whole.flags.c_contiguous
    singly = np.concatenate([encoder.transform(raw[row : row + 1]) for row in range(999)])
    assert singly.tobytes() == whole.tobytes()
    assert encoder.transform(np.asfortranarray(raw)).tobytes() == whole.tobytes()


def test_a_stored_encoder_encodes_alike_to_the_last_bit():
    again, _ = codec.unpack(Encoder, codec.pack(fitted()))
    assert again.transform(RAW).tobytes() == fitted().transform(RAW).tobytes()
    assert again.plan == PLAN


def test_input_is_left_as_it_is():
    raw = RAW.copy()
    Encoder.fit(PLAN, raw, Y).transform(raw)
    assert raw.tobytes() == RAW.tobytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Encoder.fit(PLAN, RAW[:, :3], Y), "needs 4 raw columns"),
        (lambda: Encoder.fit(PLAN, RAW, Y[:2]), "a label for each"),
        (lambda: Encoder.fit(PLAN, RAW[:0], Y[:0]), "needs rows"),
    ],
)
def test_wrong_use_is_refused_in_words(wrong, message):
    with pytest.raises(DetectorError, match=message):
        wrong()


def test_no_rows_give_no_rows():
    assert fitted().transform(RAW[:0]).shape == (0, 4)


def test_a_plan_without_columns_gives_a_matrix_without_columns():
    assert Encoder.fit(EncodingPlan(), RAW, Y).transform(RAW).shape == (4, 0)
