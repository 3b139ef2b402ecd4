"""The estimator that chooses: by arrays alone, in time order, like any of scikit-learn's."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import clone

from detectors import codec
from detectors.algorithms.hbos import HBOS
from detectors.base import DetectorError, NotFitted
from detectors.evaluation.metrics import auc_roc, average_precision
from detectors.inputs.arrays import as_code_columns
from detectors.inputs.sample import Layout, Sample
from detectors.model import auto_detector
from detectors.model.auto_detector import AutoDetector, FittedStrategy
from detectors.strategy.outlier_team import OutlierTeam
from detectors.strategy.validation_folds import ValidationFold


def world(frauds, n=6000, young=1000, seed=1):
    """Rows in time order; frauds are unusual in two columns; the youngest have no label yet."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 6))
    y = np.zeros(n)
    y[rng.choice(n, frauds, replace=False)] = 1
    X[y == 1] += [2.5, 0, -2.5, 0, 0, 0]
    told = y.copy()
    told[n - young :] = np.nan
    return X, y, told


def detector(**more):
    return AutoDetector(**more)


@pytest.mark.parametrize(
    ("frauds", "strategy"),
    [
        (0, "outlier"),
        (1, "blend"),
        (6, "blend"),
        (60, "blend"),
        (900, "classification"),
    ],
)
def test_the_number_of_known_frauds_decides(frauds, strategy):
    X, y, told = world(frauds)
    found = detector().fit(X, told)
    assert (found.strategy_, found.choice_.strategy) == (strategy, strategy)
    assert found.choice_.sentence
    score = found.anomaly_score(X[5000:])
    assert score.min() >= 0
    assert score.max() <= 1
    if frauds > 1:
        assert auc_roc(y[5000:], score) > 0.9


def test_frauds_of_one_entity_count_once():
    X, _, told = world(60)
    card = np.arange(len(X)) % 500
    card[told == 1] = 7
    assert detector(min_positives_blend=10).fit(X, told).strategy_ == "blend"
    text = pd.Series(card).map("card {}".format)
    assert detector(min_positives_blend=10).fit(X, told, entities=text).strategy_ == "outlier"
    for entities, columns in (
        (card, 1),
        ([card], 1),
        ([text, card], 2),
        (pd.DataFrame({"card": text}), 1),
        ((), 0),
    ):
        codes = as_code_columns(entities, len(X))
        assert len(codes) == columns
        assert all(len(np.unique(each)) == len(np.unique(card)) for each in codes)
    with pytest.raises(DetectorError, match=r"entities has shape \(7,\)"):
        detector().fit(X, told, entities=card[:7])


def test_a_data_frame_is_read_by_its_columns() -> None:
    X, _, told = world(0)
    frame = pd.DataFrame(X, columns=[f"column {place}" for place in range(X.shape[1])])
    found = detector().fit(frame, told)
    np.testing.assert_array_equal(found.anomaly_score(frame), found.anomaly_score(X))
    for other in (frame[frame.columns[::-1]], frame.add_prefix("new ")):
        with pytest.raises(DetectorError, match=r"fitted on the columns column 0, .* pass the same columns"):
            found.anomaly_score(other)
    whole = frame.round().astype("Int64")
    whole.iloc[3, 0] = pd.NA
    numbers = whole.to_numpy(dtype=np.float64, na_value=np.nan)
    np.testing.assert_array_equal(
        detector().fit(whole, told).anomaly_score(whole), detector().fit(numbers, told).anomaly_score(numbers)
    )


def test_rows_may_stand_for_many():
    X, _, told = world(60)
    rare = np.where(told == 1, 1.0, 5000.0)  # 60 in 25 million
    found = detector().fit(X, told, rare)
    assert (found.strategy_, found.choice_.rule) == ("blend", "WEIGHED")
    assert found.weight_.frauds > 20


def test_probabilities_are_calibrated_and_outlier_detection_has_none():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((20_000, 4))
    y = (rng.random(20_000) < expit(2 * X[:, 0] - 4.5)).astype(float)
    found = detector().fit(X[:15_000], y[:15_000])
    p = found.fraud_probability(X[15_000:])
    assert p.mean() == pytest.approx(y[15_000:].mean(), rel=0.15)
    assert np.isnan(detector(strategy="outlier").fit(X, y).fraud_probability(X[:5])).all()


def test_classification_is_calibrated_without_more_outlier_detectors(monkeypatch):
    X, y, _ = world(60)
    mature = Sample(X, y, np.ones(len(y)), np.ones(len(y)))
    fitted, fit = [], OutlierTeam.fit
    monkeypatch.setattr(OutlierTeam, "fit", lambda *given: fitted.append(given) or fit(*given))
    detector().fit_samples(mature, mature.take(y == 0), "classification")
    assert len(fitted) == 1


@pytest.mark.parametrize(
    ("held", "used"),
    [
        ([300, 320, 310, 330], 1),
        ([90, 110, 95, 105], 2),
        ([99, 101, 99, 100], 3),
        ([8, 8, 8, 8], 4),
        ([5], 1),
    ],
)
def test_a_blend_is_calibrated_by_the_newest_folds_whose_detectors_know_nearly_as_much(
    held, used, monkeypatch
):
    rng = np.random.default_rng(0)
    seen = []
    monkeypatch.setattr(auto_detector, "fit_calibrator", lambda scores, y, weight: seen.append(int(y.sum())))
    X, y, _ = world(30)
    mature = Sample(X, y, np.ones(len(y)), np.ones(len(y)))
    folds = []
    for frauds in held:
        n = 1_000 + frauds
        said = rng.exponential(size=(4, n))
        of = np.arange(n) < frauds
        folds.append(
            ValidationFold(
                of, np.ones(n), np.ones(n), np.arange(n), np.arange(n), *said, said[2], n_training_frauds=3
            )
        )
    detector(strategy="blend").fit_samples(mature, mature.take(y == 0), "blend", folds)
    assert seen == [sum(held[-used:])]


def test_with_one_known_fraud_the_classifiers_of_a_blend_have_no_weight():
    X, _, told = world(1)
    found = detector(strategy="blend").fit(X, told)
    assert found.weight_.value == 0.0
    assert detector(strategy="blend").fit(*world(2)[::2]).weight_.value > 0


def test_where_no_fraud_can_be_held_out_independent_frauds_weigh_the_classifiers():
    X, y, _ = world(300)
    entity = np.arange(len(y))
    entity[y == 1] = -1 - np.arange(300) // 2  # two frauds on each card
    mature = Sample(X, y, np.ones(len(y)), np.ones(len(y)), entity=entity)
    found = detector(strategy="blend").fit_samples(mature, mature.take(y == 0), "blend", ())
    assert found.weight_.value == pytest.approx(150 / 250)


def test_missing_values_are_filled_and_input_stays():
    X, _, told = world(400)
    X[::7, 1] = np.nan
    X.setflags(write=False)
    assert np.isfinite(detector().fit(X, told).anomaly_score(X)).all()


def test_a_row_scores_alike_in_any_batch_and_after_storing():
    X, _, told = world(60)
    found = detector(strategy="blend").fit(X, told)
    whole = found.anomaly_score(X)
    assert found.anomaly_score(X[17:18]).tobytes() == whole[17:18].tobytes()
    again = AutoDetector.restored(codec.unpack(FittedStrategy, codec.pack(found.fitted()))[0])
    assert again.anomaly_score(X).tobytes() == whole.tobytes()
    assert again.fraud_probability(X).tobytes() == found.fraud_probability(X).tobytes()
    assert again.explain(X[:3], "blend").tobytes() == found.explain(X[:3], "blend").tobytes()


def test_reasons_of_a_blend_follow_the_side_that_a_score_is_owed_to():
    X, _, told = world(60)
    found = detector(strategy="blend").fit(X, told)
    odd = np.zeros((1, X.shape[1]))
    odd[0, 0] = 50.0  # nothing like it was ever seen, fraud or not
    for weight, part in ((0.0, "families"), (1.0, "classifiers")):
        found.weight_ = replace(found.weight_, value=weight)
        said = found.explain(odd, "blend")
        parts = found.fitted().parts
        encoded = parts.encoder.transform(odd)
        alone = parts.families.explain(parts.outliers, parts.outliers.score(encoded), encoded)
        same = np.allclose(said, alone / np.abs(alone).sum())
        assert same == (part == "families")


def test_the_outlier_detector_may_be_shown_some_columns_only():
    X, y, told = world(400)
    noise = np.column_stack([X, np.random.default_rng(0).standard_normal((len(X), 40))])
    narrow = detector(strategy="outlier", outlier_columns=[0, 2]).fit(noise, told).anomaly_score(noise)
    wide = detector(strategy="outlier").fit(noise, told).anomaly_score(noise)
    assert average_precision(y, narrow) > average_precision(y, wide) + 0.2


def test_without_labels_it_detects_outliers():
    X, y, _ = world(60)
    one = detector().fit(X)
    assert (one.strategy_, one.choice_.rule) == ("outlier", "NO_LABELS")
    assert one.anomaly_score(X).tobytes() == detector(strategy="outlier").fit(X).anomaly_score(X).tobytes()
    assert np.isnan(one.fraud_probability(X)).all()
    assert auc_roc(y, one.anomaly_score(X)) > 0.9
    with pytest.raises(DetectorError, match="needs a known fraud to learn from, there is none"):
        detector(strategy="blend").fit(X)


def test_lists_and_data_frames_are_as_good_as_arrays():
    X, _, told = world(60)
    X[::9, 1] = np.nan
    one = detector(strategy="blend").fit(X, told)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    same = detector(strategy="blend").fit(frame, pd.Series(told))
    expected = one.anomaly_score(X[:20])
    for rows in (X[:20].tolist(), frame.iloc[:20]):
        assert same.anomaly_score(rows).tobytes() == expected.tobytes()
        assert same.explain(rows).tobytes() == one.explain(X[:20]).tobytes()
        assert same.fraud_probability(rows).tobytes() == one.fraud_probability(X[:20]).tobytes()
    with pytest.raises(
        DetectorError,
        match="fitted on the columns a, b, c, d, e, f, got a, b, c, d, e: pass the same columns",
    ):
        same.anomaly_score(frame[list("abcde")])


@pytest.mark.parametrize("strategy", ["outlier", "blend", "classification"])
def test_without_a_channel_the_score_of_the_strategy_is_explained(strategy):
    X, y, told = world(60)
    one = detector(strategy=strategy).fit(X, told)
    contributions = one.explain(X[y == 1])
    assert contributions.tobytes() == one.explain(X[y == 1], strategy).tobytes()
    assert contributions.shape == (60, 6)
    assert set(np.argsort(contributions.mean(axis=0))[-2:]) == {0, 2}  # the columns of fraud


def test_the_outlier_detector_is_any_of_the_registry_that_ranks_and_explains():
    X, y, told = world(40)
    found = detector(strategy="outlier", outlier="hbos").fit(X, told)
    alone = HBOS().fit(X[told != 1])
    assert auc_roc(y, found.anomaly_score(X)) > 0.9
    assert np.argsort(found.anomaly_score(X)).tolist() == np.argsort(alone.anomaly_score(X)).tolist()
    assert found.explain(X[:9], "outlier").tobytes() == alone.explain(X[:9]).tobytes()
    with pytest.raises(
        DetectorError, match=r"'inne' gives no contributions .*: choose one of isolation_forest, hbos"
    ):
        detector(strategy="outlier", outlier="inne").fit(X, told)


def test_it_is_an_estimator_of_scikit_learn():
    one = detector(strategy="blend", seed=3)
    copy = clone(one)
    assert copy.get_params() == one.get_params()
    assert "strategy='blend'" in repr(copy)
    with pytest.raises(NotFitted, match="call fit first"):
        copy.anomaly_score(np.zeros((1, 6)))


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((5, 2)), np.zeros(4), r"y has shape \(4,\), the 5 rows of X need \(5,\)"),
        (np.zeros(5), np.zeros(5), r"X must have the shape \(n_samples, n_features\), got \(5,\)"),
        (pd.DataFrame({"a": [1.0], "shop": ["x"]}), [0], "these columns do not: shop"),
        (np.zeros((5, 2)), np.full(5, 2.0), "1 for fraud, 0 for genuine or NaN"),
        (np.zeros((5, 2)), np.full(5, np.inf), "1 for fraud, 0 for genuine or NaN"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(X, y, message):
    with pytest.raises(DetectorError, match=message):
        detector().fit(X, y)


def test_a_classifier_without_frauds_is_refused():
    X, y, told = world(0)
    with pytest.raises(DetectorError, match="needs 2 known frauds to learn from, there is none: use outlier"):
        detector(strategy="classification").fit(X, told)
    rows = Sample(X, y, np.ones(len(X)), np.ones(len(X)))
    with pytest.raises(DetectorError, match="needs a known fraud to learn from, there is none: use outlier"):
        AutoDetector(layout=Layout.plain(6)).fit_samples(rows, rows, "blend")
