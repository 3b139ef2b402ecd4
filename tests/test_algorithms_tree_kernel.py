"""The kernel walks the trees exactly as their libraries do."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import ExtraTreeRegressor

from detectors.algorithms.isolation_forest import MAX_SAMPLES, IsolationForest
from detectors.algorithms.isolation_tree import DRAWS, grow_tree
from detectors.algorithms.pyod_support import pyod_class, systematic_sample
from detectors.algorithms.random_forest import RandomForest
from detectors.algorithms.tree_kernel import BLOCK, _float32_at_most, flatten

ROOT = Path(__file__).parent.parent


def rows(kind, n=3000, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "normal":
        return rng.standard_normal((n, 6))
    if kind == "heavy tails":
        return rng.standard_t(1.5, (n, 4)) * 1e4
    if kind == "ties":
        return rng.integers(0, 3, (n, 5)).astype(float)
    if kind == "one column":
        return rng.lognormal(size=(n, 1))
    return np.column_stack([np.full(n, 3.25), rng.standard_normal(n)])  # a constant among them


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "ties", "one column", "constant"])
@pytest.mark.parametrize("max_rows", [2, 256, 1024, 10_000])
def test_the_isolation_forest_scores_like_pyods(kind, max_rows):
    X = rows(kind, 5000)
    ours = IsolationForest(n_trees=40, max_rows=max_rows, seed=5).fit(X)
    learned = X[systematic_sample(np.ones(len(X)), max_rows, 5)]
    theirs = pyod_class("iforest", "IForest")(
        n_estimators=40, max_samples=min(MAX_SAMPLES, len(learned)), random_state=5
    ).fit(learned)
    probes = np.concatenate([X, rows(kind, seed=1) * 3, np.zeros((1, X.shape[1]))])
    np.testing.assert_allclose(
        ours.anomaly_score(probes), theirs.decision_function(probes), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "ties", "one column", "constant"])
@pytest.mark.parametrize("n", [1, 2, 3, 50, 3000])
@pytest.mark.parametrize("distinct", [2, 10**9])  # targets: of few different ones whole nodes are equal
def test_a_random_tree_is_scikit_learns_node_for_node(kind, n, distinct):
    X = rows(kind, 3000)[:n].astype(np.float32)
    for seed in range(5):
        targets = np.random.default_rng(seed).integers(0, distinct, n) / distinct
        theirs = ExtraTreeRegressor(max_depth=12, max_features=1, splitter="random", random_state=seed)
        theirs = theirs.fit(X, targets).tree_
        ours = grow_tree(X, targets, 12, np.random.RandomState(seed).randint(DRAWS))
        leaf = ours.children_left < 0
        for mine, reference in (
            (ours.children_left, theirs.children_left),
            (ours.children_right, theirs.children_right),
            (np.where(leaf, -2, ours.feature), theirs.feature),
            (np.where(leaf, -2.0, ours.threshold), theirs.threshold),
            (ours.n_node_samples, theirs.n_node_samples),
            (ours.depths + 1, theirs.compute_node_depths()),
        ):
            assert mine.tolist() == reference.tolist()
        assert (ours.node_count, ours.max_depth) == (theirs.node_count, theirs.max_depth)


def test_no_score_rests_on_labels():
    X = rows("normal")
    labels = (X[:, 0] > 1).astype(float)
    plain, labelled = (IsolationForest(20).fit(X, y).anomaly_score(X) for y in (None, labels))
    assert plain.tobytes() == labelled.tobytes()


def test_the_random_forest_adds_up_what_scikit_learns_leaves_hold():
    X = rows("normal")
    y = (X[:, 0] + X[:, 1] > 2).astype(float)
    grown = RandomForestClassifier(25, max_depth=6, random_state=1).fit(X, y)
    trees = [tree.tree_ for tree in grown.estimators_]
    forest = flatten(trees, [tree.value[:, 0, 1] for tree in trees])
    np.testing.assert_allclose(forest.sums(X) / 25, grown.predict_proba(X)[:, 1], rtol=0, atol=1e-12)


@given(st.floats(allow_nan=False, width=64, min_value=-1e38, max_value=1e38))
@settings(max_examples=300)
def test_a_threshold_in_float32_splits_as_in_float64(threshold):
    narrow = _float32_at_most(np.array([threshold]))[0]
    near = [np.float32(threshold)]
    near += [np.nextafter(near[0], np.float32(side)) for side in (np.inf, -np.inf)]
    assert [bool(x <= narrow) for x in near] == [float(x) <= threshold for x in near]


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 13])
def test_rows_beside_a_row_do_not_change_it(n):
    X = rows("normal", 2 * BLOCK + 13)
    forest = IsolationForest(30).fit(X).fitted.forest
    assert forest.sums(X[:n]).tobytes() == forest.sums(X)[:n].tobytes()
    assert forest.contributions(X[:n]).tobytes() == forest.contributions(X)[:n].tobytes()


@pytest.mark.parametrize("detector", [IsolationForest(30), RandomForest(30)])
def test_contributions_add_up_tree_by_tree(detector):
    X = rows("heavy tails")
    forest = detector.fit(X, (X[:, 0] > 1e4).astype(float)).fitted.forest
    total = forest.root_sum + forest.contributions(X).sum(axis=1)
    np.testing.assert_allclose(total, forest.sums(X), rtol=1e-12)


def test_a_roots_path_is_the_mean_of_its_training_rows():
    X = rows("normal", 400)
    forest = IsolationForest(20).fit(X).fitted.forest  # every tree has seen every row
    assert forest.sums(X).mean() == pytest.approx(forest.root_sum, rel=1e-12)


@pytest.mark.parametrize(
    ("weights", "at_most", "kept"),
    [
        (np.ones(10), 10, range(10)),  # all fit in
        (np.ones(10), 99, range(10)),
        (np.array([0.0, 1, 0, 1, 1]), 5, [1, 3, 4]),  # no weight, no row
        (np.array([1e9, 1e-9, 1e-9, 1e-9]), 4, [0, 1]),  # never fewer than two
    ],
)
def test_thinning_keeps_what_it_should(weights, at_most, kept):
    assert systematic_sample(weights, at_most, 7).tolist() == list(kept)


def test_thinning_is_even_and_in_proportion_to_weight():
    assert np.diff(systematic_sample(np.ones(1000), 100, 7)).tolist() == [10] * 99
    weights = np.where(np.arange(10_000) < 5000, 3.0, 1.0)
    kept = systematic_sample(weights, 1000, 7)
    assert len(kept) == 1000
    assert (kept < 5000).sum() == pytest.approx(750, abs=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX file system")
def test_it_works_where_no_folder_can_be_written(tmp_path):
    """A copy of the package in a folder numba cannot write to, for a user without a usable home."""
    copy = tmp_path / "detectors"
    (copy / "algorithms").mkdir(parents=True)
    for name in ("__init__.py", "base.py", "algorithms/__init__.py", "algorithms/tree_kernel.py"):
        (copy / name).write_text((ROOT / "detectors" / name).read_text())
    (copy / "algorithms" / "__pycache__").write_text("a file where the cache folder would be")
    (tmp_path / "home").write_text("a file where the home would be")
    script = (
        "import numpy as np, detectors.algorithms.tree_kernel as k\n"
        "u = lambda *v: np.array(v, dtype=np.uint32)\n"
        "cut = np.array([1, 0, 0], np.float32)\n"
        "f = k.Forest(u(0, 0, 0), cut, u(1, 2, 1, 1, 2, 2), np.array([0.0, 1, 2]), u(0), u(1))\n"
        "print(k.__file__, f.sums(np.array([[0.5], [1.5]])).tolist())"
    )
    home = str(tmp_path / "home")
    environ = {"HOME": home, "XDG_CACHE_HOME": home, "PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-B", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environ,
        check=False,
    )
    assert ran.stdout.split(maxsplit=1)[1:] == ["[1.0, 2.0]\n"], ran.stderr
    assert str(tmp_path) in ran.stdout
