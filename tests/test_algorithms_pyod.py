"""The outlier detectors of PyOD that score a stream, against PyOD's own scores."""

import warnings

import numpy as np
import pytest

from detectors.algorithms.hbos import HBOS
from detectors.algorithms.inne import INNE, _isolation_of
from detectors.algorithms.loda import LODA
from detectors.algorithms.scaling import SoftScale

RNG = np.random.default_rng(5)
ROWS = np.column_stack([RNG.standard_t(3, 3000), RNG.exponential(size=3000), RNG.standard_normal((3000, 4))])
NEW = np.vstack([ROWS[:50] * 1.5, RNG.standard_normal((50, 6)) * 4, np.full((1, 6), 1e3)])


def scaled(rows):
    return SoftScale.fit(ROWS).transform(rows)


def pyod(module, name, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(__import__(f"pyod.models.{module}", fromlist=[name]), name)(**settings)


@pytest.mark.parametrize("bins", [5, 20, 50])
def test_hbos_scores_as_pyod_does(bins):
    theirs = pyod("hbos", "HBOS", n_bins=bins).fit(scaled(ROWS))
    ours = HBOS(bins).fit(ROWS)
    for rows in (ROWS, NEW):
        np.testing.assert_allclose(
            ours.anomaly_score(rows), theirs.decision_function(scaled(rows)), rtol=0, atol=1e-12
        )


def test_inne_scores_as_pyod_does():
    theirs = pyod("inne", "INNE", n_estimators=100, max_samples=8, random_state=7).fit(scaled(ROWS))
    ours = INNE(100, 8).fit(ROWS)
    for rows in (ROWS[:200], NEW):
        np.testing.assert_allclose(
            ours.anomaly_score(rows), theirs.decision_function(scaled(rows)), rtol=0, atol=1e-9
        )


def test_innes_reasons_are_what_the_score_loses_without_each_column():
    ours = INNE(100, 8).fit(ROWS)
    explained = ours.explain(NEW)
    learned = ours.fitted
    for column in range(6):
        without = learned.scale.transform(NEW)
        without[:, column] = learned.usual[column]
        score = _isolation_of(
            np.ascontiguousarray(without), learned.centres, learned.radii, learned.isolation
        )
        lost = ours.anomaly_score(NEW) - score
        np.testing.assert_allclose(explained[:, column], lost, rtol=0, atol=1e-9)


def test_loda_differs_from_pyod_only_by_the_bin_that_is_read():
    theirs = pyod("loda", "LODA", n_bins=20, n_random_cuts=100, random_state=7).fit(scaled(ROWS))
    ours = LODA(100, 20).fit(ROWS)
    np.testing.assert_array_equal(ours.fitted.cuts, theirs.projections_)
    along = scaled(ROWS) @ theirs.projections_.T
    own = np.clip(
        [
            np.searchsorted(limits[1:-1], at, side="right")
            for limits, at in zip(theirs.limits_, along.T, strict=True)
        ],
        0,
        19,
    )
    shares = np.take_along_axis(theirs.histograms_, own, axis=1)
    np.testing.assert_allclose(ours.anomaly_score(ROWS), -np.log(shares).mean(axis=0), rtol=0, atol=1e-9)
    # PyOD compares with the bins' lower edges, so the lowest bin is read for values below all bins only.
    lowest = ROWS[along[:, 0].argmin()].reshape(1, -1)
    assert ours.anomaly_score(lowest)[0] > ours.anomaly_score(ROWS).mean()


def test_what_lies_outside_all_bins_is_rarer_than_what_lies_in_a_gap():
    rows = np.concatenate([np.linspace(0, 1, 500), np.linspace(9, 10, 500)]).reshape(-1, 1)
    score = LODA(50, 20).fit(rows).anomaly_score(np.array([[0.5], [5.0], [40.0]]))
    assert score[0] < score[1] <= score[2]
