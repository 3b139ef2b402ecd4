"""
Can a classifier tell the reference from now? What no single column shows, together they may.

The out-of-fold AUC of small boosted trees: 0.5 where nothing tells the samples apart, 1 where everything does. Rows of
one entity stand in all folds, so some of it is recognition: what AUC is usual without drift has to be calibrated like any
other metric. 2·AUC − 1 is no more than the share of rows that would have to change, so it serves as the effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from detectors.base import Floats
from detectors.evaluation.metrics import auc_roc

ROWS_MAX = 1_000  # of each sample
ROWS_MIN = 50  # of each: fewer say nothing
FOLDS = 2
ROUNDS = 20
NAMED = 5  # features that are named
PARAMETERS = {
    "objective": "binary", "learning_rate": 0.2, "num_leaves": 8, "min_data_in_leaf": 20, "max_bin": 63, "seed": 7,
    "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1, "feature_fraction": 0.5,
    "feature_pre_filter": False,
}  # fmt: skip


@dataclass(frozen=True)
class Separation:
    """Out-of-fold AUC, and the share of the gain that each of the foremost columns brought."""

    auc: float
    used: Mapping[int, float]


def separate(reference: Floats, current: Floats) -> Separation | None:
    """
    Train a classifier to tell two samples (n, d), (m, d) apart and ask it about rows it has not seen.

    The samples are thinned evenly to `ROWS_MAX` each. None when one has fewer than `ROWS_MIN` rows, or there are no columns.

    References
    ----------
    Friedman (2003), On multivariate goodness-of-fit and two-sample testing.
    Lopez-Paz & Oquab (2017), Revisiting classifier two-sample tests.
    """
    before, after = thinned(reference), thinned(current)
    if min(len(before), len(after)) < ROWS_MIN or before.shape[1] == 0:
        return None
    X = np.concatenate((before, after))
    y = np.repeat([0.0, 1.0], [len(before), len(after)])
    fold = np.concatenate((np.arange(len(before)), np.arange(len(after)))) % FOLDS
    scores, gain = np.empty(len(y)), np.zeros(X.shape[1])
    for held in range(FOLDS):
        booster = _fit(X[fold != held], y[fold != held])
        scores[fold == held] = rankdata(booster.predict(X[fold == held])) / np.count_nonzero(fold == held)
        gain += booster.feature_importance("gain")
    foremost = np.argsort(-gain, kind="stable")[:NAMED]
    total = gain.sum() or 1.0
    return Separation(
        auc_roc(y, scores), {int(one): float(gain[one] / total) for one in foremost if gain[one] > 0}
    )


def thinned(rows: Floats) -> Floats:
    """At most `ROWS_MAX` rows, evenly spaced."""
    if len(rows) <= ROWS_MAX:
        return rows
    return rows[np.linspace(0, len(rows) - 1, ROWS_MAX).astype(np.int64)]


def _fit(X: Floats, y: Floats):  # type: ignore[no-untyped-def]
    import lightgbm

    finite = np.where(np.isinf(X), np.nan, X)
    return lightgbm.train(PARAMETERS, lightgbm.Dataset(finite, y, free_raw_data=True), ROUNDS)
