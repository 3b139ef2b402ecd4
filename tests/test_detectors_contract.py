"""What every registered detector promises, one test a promise."""

import pickle

import numpy as np
import pytest

from detectors import codec
from detectors.base import ArtifactError, DetectorError, NotFitted, row_sums
from detectors.registry import DETECTORS, check_outlier_detector, detector_class, outlier_detector

ALL = tuple(DETECTORS)
SUPERVISED = tuple(name for name in ALL if DETECTORS[name].supervised)
SMALL = {"isolation_forest": {"n_trees": 50}, "random_forest": {"n_trees": 50}}

every_detector = pytest.mark.parametrize("name", ALL)
supervised_only = pytest.mark.parametrize("name", SUPERVISED)


def make(name, **settings):
    return detector_class(name)(**(SMALL.get(name, {}) | settings))


@pytest.fixture(scope="module")
def world():
    """1,200 usual rows of five columns, 60 frauds among them with a high first and third column."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((1200, 5))
    y = np.zeros(1200)
    y[::20] = 1
    X[y == 1] += [3.0, 0.0, 2.0, 0.0, 0.0]
    return X, y


@pytest.fixture(scope="module")
def fitted(world):
    return {name: make(name).fit(*world) for name in ALL}


@every_detector
def test_it_refuses_to_score_before_fit(name):
    detector = make(name)
    for ask in (detector.anomaly_score, detector.explain):
        with pytest.raises(NotFitted, match="call fit first"):
            ask(np.zeros((1, 5)))
    with pytest.raises(NotFitted, match="call fit first"):
        _ = detector.base_score


@every_detector
def test_frauds_score_higher_than_usual_rows(name, fitted, world):
    X, y = world
    scores = fitted[name].anomaly_score(X)
    assert np.median(scores[y == 1]) > np.quantile(scores[y == 0], 0.9)


@every_detector
def test_a_far_row_outranks_usual_rows(name, fitted, world):
    far = np.array([[25.0, 0.0, 25.0, 0.0, 0.0]])
    assert fitted[name].anomaly_score(far)[0] > np.quantile(fitted[name].anomaly_score(world[0][1::20]), 0.99)


@every_detector
def test_the_same_seed_gives_the_same_scores(name, fitted, world):
    again = make(name).fit(*world)
    assert again.anomaly_score(world[0]).tobytes() == fitted[name].anomaly_score(world[0]).tobytes()


@every_detector
@pytest.mark.parametrize("size", [1, 3, 8, 13, 600, 1200])
@pytest.mark.parametrize("what", ["anomaly_score", "explain"])
def test_scores_do_not_depend_on_the_batch(name, size, what, fitted, world):
    X = world[0]
    ask = getattr(fitted[name], what)
    whole = ask(X)
    pieces = [ask(X[start : start + size]) for start in range(0, 100 if size == 1 else len(X), size)]
    joined = np.concatenate(pieces)
    assert joined.tobytes() == whole[: len(joined)].tobytes()


@every_detector
def test_scores_do_not_depend_on_the_order(name, fitted, world):
    X = world[0]
    shuffled = np.random.default_rng(0).permutation(len(X))
    scores, explained = fitted[name].anomaly_score(X), fitted[name].explain(X)
    assert fitted[name].anomaly_score(X[shuffled]).tobytes() == scores[shuffled].tobytes()
    assert fitted[name].explain(X[shuffled]).tobytes() == explained[shuffled].tobytes()


@every_detector
def test_the_layout_in_memory_does_not_matter(name, fitted, world):
    X = world[0]
    scores = fitted[name].anomaly_score(X).tobytes()
    assert fitted[name].anomaly_score(np.asfortranarray(X)).tobytes() == scores
    assert fitted[name].anomaly_score(np.repeat(X, 2, axis=0)[::2]).tobytes() == scores


@every_detector
def test_inputs_are_left_as_they_were(name, world):
    X, y = (array.copy() for array in world)
    weight = np.ones(len(X))
    for array in (X, y, weight):
        array.setflags(write=False)
    detector = make(name).fit(X, y, weight)
    detector.anomaly_score(X)
    detector.explain(X[:5])
    assert X.tobytes() == world[0].tobytes()


@every_detector
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_column(name, bad, fitted, world):
    X, y = world
    broken = X.copy()
    broken[7, 2] = bad
    with pytest.raises(DetectorError, match=r"column 2 is .* in row 7"):
        make(name).fit(broken, y)
    with pytest.raises(DetectorError, match="column 2 is"):
        fitted[name].anomaly_score(broken)
    with pytest.raises(DetectorError, match="column 2 is"):
        fitted[name].explain(broken)


@every_detector
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 4)), "fitted on 5 features, got 4"),
        (np.zeros((3, 6)), "fitted on 5 features, got 6"),
        (np.zeros(5), r"shape \(n_samples, n_features\), got \(5,\)"),
        (np.zeros((1, 1, 5)), "shape"),
        ([["a", "b", "c", "d", "e"]], "not an array of numbers"),
    ],
)
def test_other_shapes_than_at_fit_are_refused(name, rows, message, fitted):
    with pytest.raises(DetectorError, match=message):
        fitted[name].anomaly_score(rows)


@every_detector
def test_no_rows_have_no_scores(name, fitted):
    assert fitted[name].anomaly_score(np.empty((0, 5))).shape == (0,)
    assert fitted[name].explain(np.empty((0, 5))).shape == (0, 5)


@every_detector
@pytest.mark.parametrize("rows", [np.empty((0, 3)), np.zeros((1, 3)), np.empty((4, 0))])
def test_too_few_rows_or_columns_to_fit_are_refused(name, rows):
    with pytest.raises(DetectorError, match="2 rows and 1 column"):
        make(name).fit(rows, np.zeros(len(rows)))


@every_detector
def test_constant_columns_are_survived(name, world):
    X, y = world
    for rows in (np.where(np.arange(5) == 1, 4.5, X), np.full_like(X, 7.0)):
        scores = make(name).fit(rows, y).anomaly_score(rows)
        assert np.isfinite(scores).all()


@every_detector
def test_huge_and_tiny_values_are_survived(name, world):
    X, y = world
    rows = X.copy()
    rows[:5, 0] = [1e300, -1e300, 1e-300, 5e38, -5e38]
    detector = make(name).fit(rows, y)
    assert np.isfinite(detector.anomaly_score(rows)).all()
    assert np.isfinite(detector.explain(rows)).all()


@every_detector
def test_float32_and_float64_agree(name, fitted, world):
    narrow = world[0].astype(np.float32)
    wide = narrow.astype(np.float64)
    assert fitted[name].anomaly_score(narrow).tobytes() == fitted[name].anomaly_score(wide).tobytes()


@every_detector
def test_a_stored_detector_scores_alike_to_the_bit(name, fitted, world):
    X = world[0]
    stored = codec.pack(fitted[name])
    loaded, _ = codec.unpack(detector_class(name), stored)
    assert loaded.anomaly_score(X).tobytes() == fitted[name].anomaly_score(X).tobytes()
    assert loaded.explain(X[:50]).tobytes() == fitted[name].explain(X[:50]).tobytes()
    assert loaded.base_score == fitted[name].base_score
    assert codec.pack(loaded) == stored
    assert repr(loaded) == repr(fitted[name])  # its parameters


@every_detector
def test_contributions_add_up_to_the_score_where_the_registry_says_so(name, fitted, world):
    detector = fitted[name]
    X = np.concatenate([world[0], [[40.0, -40.0, 0.0, 1e6, 0.0]]])
    total = detector.base_score + detector.explain(X).sum(axis=1)
    assert np.allclose(total, detector.anomaly_score(X), rtol=0, atol=1e-9) is DETECTORS[name].additive


@every_detector
def test_reasons_name_the_columns_that_moved(name, fitted):
    far = np.array([[8.0, 0.0, 6.0, 0.0, 0.0]])
    assert set(np.argsort(-fitted[name].explain(far)[0])[:2]) == {0, 2}


@every_detector
def test_a_weight_of_zero_leaves_a_row_out(name, world):
    X, y = world
    odd = np.arange(len(X)) % 2 == 1
    odd[:200:20] = True  # keep some frauds
    half = make(name).fit(X[odd], y[odd]).anomaly_score(X)
    weighted = make(name).fit(X, y, odd.astype(float)).anomaly_score(X)
    assert np.corrcoef(half, weighted)[0, 1] > 0.9


@every_detector
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), "sample_weight has shape"),
        (np.full(1200, -1.0), "0 or more"),
        (np.full(1200, np.nan), "finite"),
        (np.zeros(1200), "positive for some row"),
    ],
)
def test_impossible_weights_are_refused(name, weight, message, world):
    with pytest.raises(DetectorError, match=message):
        make(name).fit(*world, weight)


@supervised_only
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(1200), "0 frauds and 1200 genuine"),
        (np.ones(1200), "1200 frauds and 0 genuine"),
        (np.full(1200, 0.5), "1 for fraud or 0 for genuine"),
        (np.full(1200, np.nan), "1 for fraud or 0 for genuine"),
        (np.zeros(7), r"y has shape \(7,\)"),
        (None, "needs y"),
    ],
)
def test_labels_that_teach_nothing_are_refused(name, labels, message, world):
    with pytest.raises(DetectorError, match=message):
        make(name).fit(world[0], labels)


@supervised_only
def test_one_fraud_is_enough_to_fit(name, world):
    X, y = world
    one = np.zeros_like(y)
    one[0] = 1
    assert np.isfinite(make(name).fit(X, one).anomaly_score(X)).all()


@supervised_only
def test_the_probability_is_the_logistic_of_the_score(name, fitted, world):
    scores = fitted[name].anomaly_score(world[0])
    np.testing.assert_allclose(
        fitted[name].fraud_probability(world[0]), 1 / (1 + np.exp(-scores)), rtol=1e-12
    )


@supervised_only
@pytest.mark.parametrize("weight", [1.0, 5.0, 20.0])
def test_the_weight_on_frauds_is_undone(name, weight, world):
    X, y = world
    rng = np.random.default_rng(11)
    noisy = np.concatenate([X, X[y == 1] + rng.normal(0, 1e-3, (60, 5))])  # each fraud has a genuine twin
    labels = np.concatenate([y, np.zeros(60)])
    p = make(name, positive_weight=weight).fit(noisy, labels).fraud_probability(noisy)
    assert p.sum() == pytest.approx(labels.sum(), rel=0.35)


@supervised_only
def test_the_sampling_of_genuine_rows_is_undone(name, world):
    X, y = world
    kept = (y == 1) | (np.arange(len(y)) % 4 == 1)
    p = make(name).fit(X[kept], y[kept], np.where(y[kept] == 1, 1.0, 4.0)).fraud_probability(X)
    assert p.sum() == pytest.approx(y.sum(), rel=0.35)


@supervised_only
@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_weight_on_frauds_is_refused(name, weight, world):
    with pytest.raises(DetectorError, match="positive_weight must be"):
        make(name, positive_weight=weight).fit(*world)


def test_row_sums_are_equal_to_the_bit_for_any_number_of_rows():
    values = np.random.default_rng(1).standard_normal((97, 333)) * 1e3
    sums = row_sums(values, 0.5)
    assert row_sums(np.asfortranarray(values), 0.5).tobytes() == sums.tobytes()
    for size in (1, 2, 96):
        assert row_sums(values[:size], 0.5).tobytes() == sums[:size].tobytes()


def test_an_unknown_detector_is_refused_with_the_known_ones():
    with pytest.raises(DetectorError, match="no detector is called 'lof': choose one of isolation_forest"):
        detector_class("lof")


@every_detector
def test_it_is_found_by_the_name_that_its_class_has(name):
    assert detector_class(name).name == name


@every_detector
def test_it_ranks_payments_if_it_needs_no_labels_and_its_contributions_add_up(name):
    if name in SUPERVISED:
        with pytest.raises(
            DetectorError, match=f"'{name}' needs labels: choose one of isolation_forest, hbos"
        ):
            check_outlier_detector(name)
    elif not DETECTORS[name].additive:
        with pytest.raises(
            DetectorError, match=f"'{name}' gives no contributions that add up .*: choose one of"
        ):
            check_outlier_detector(name)
    else:
        assert check_outlier_detector(name) == name
        assert outlier_detector(name, 11).seed == 11


@pytest.mark.parametrize(
    ("kind", "code"), [(DetectorError, "detector"), (NotFitted, "not_fitted"), (ArtifactError, "artifact")]
)
def test_an_error_keeps_its_code_and_remedy_across_processes(kind, code):
    error = pickle.loads(pickle.dumps(kind("the model is cut", remedy="train a new model")))
    assert (type(error), error.code, error.message) == (kind, code, "the model is cut")
    assert (error.remedy, str(error)) == ("train a new model", "the model is cut: train a new model")
    assert str(kind("the model is cut")) == "the model is cut"
