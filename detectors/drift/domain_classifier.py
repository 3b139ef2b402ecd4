"""
The domain classifier: multivariate drift as the AUC of a classifier that separates the reference from the current window.

The metric is the out-of-fold AUC of small boosted trees: 0.5 if the samples cannot be distinguished, 1 if they always can.
Rows of one entity are in all folds, so the classifier partly recognises entities: the AUC that is usual without drift is
calibrated like any other metric. 2·AUC − 1 is at most the share of rows that would have to change, and serves as the effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from detectors.base import Floats
from detectors.evaluation.metrics import auc_roc

ROWS_MAX = 1_000  # of each sample
ROWS_MIN = 50  # of each sample; with fewer the AUC is noise
FOLDS = 2
ROUNDS = 20
TOP_FEATURES = 5  # features that are reported
PARAMETERS = {
    "objective": "binary", "learning_rate": 0.2, "num_leaves": 8, "min_data_in_leaf": 20, "max_bin": 63, "seed": 7,
    "deterministic": True, "force_col_wise": True, "num_threads": 1, "verbosity": -1, "feature_fraction": 0.5,
    "feature_pre_filter": False, "bin_construct_sample_cnt": 500,  # as many rows as there are to a fit take twice as long to bin
}  # fmt: skip


@dataclass(frozen=True)
class DomainClassifierResult:
    """Out-of-fold AUC, and the share of the split gain of each of the top columns."""

    auc: float
    gain_shares: Mapping[int, float]


def fit_domain_classifier(reference: Floats, current: Floats) -> DomainClassifierResult | None:
    """
    Train a classifier to separate two samples (n, d), (m, d) and score it out of fold.

    Evenly spaced subsamples of at most `ROWS_MAX` rows each are used. None when one has fewer than `ROWS_MIN` rows, or there are no columns.

    References
    ----------
    Friedman (2003), On multivariate goodness-of-fit and two-sample testing.
    Lopez-Paz & Oquab (2017), Revisiting classifier two-sample tests.
    """
    before, after = subsample(reference), subsample(current)
    if min(len(before), len(after)) < ROWS_MIN or before.shape[1] == 0:
        return None
    X = np.concatenate((before, after))
    y = np.repeat([0.0, 1.0], [len(before), len(after)])
    fold = np.concatenate((np.arange(len(before)), np.arange(len(after)))) % FOLDS
    scores, gain = np.empty(len(y)), np.zeros(X.shape[1])
    for test in range(FOLDS):
        booster = _fit(X[fold != test], y[fold != test])
        scores[fold == test] = rankdata(booster.predict(X[fold == test])) / np.count_nonzero(fold == test)
        gain += booster.feature_importance("gain")
    top = np.argsort(-gain, kind="stable")[:TOP_FEATURES]
    total = gain.sum() or 1.0
    return DomainClassifierResult(
        auc_roc(y, scores), {int(column): float(gain[column] / total) for column in top if gain[column] > 0}
    )


def subsample(rows: Floats) -> Floats:
    """At most `ROWS_MAX` rows, evenly spaced."""
    if len(rows) <= ROWS_MAX:
        return rows
    return rows[np.linspace(0, len(rows) - 1, ROWS_MAX).astype(np.int64)]


def _fit(X: Floats, y: Floats):  # type: ignore[no-untyped-def]
    import lightgbm

    finite = np.where(np.isinf(X), np.nan, X)
    return lightgbm.train(PARAMETERS, lightgbm.Dataset(finite, y, free_raw_data=True), ROUNDS)
