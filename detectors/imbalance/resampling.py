"""
Resampling of training rows for imbalanced classes, and the prior correction of the resulting probabilities.

The methods are imbalanced-learn's, except for the generative one; this module gives them one interface and the prior
correction. Resample training rows only, never test rows: a resampled fold has another prevalence and copies of its
own rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import SEED, DetectorError, Floats, as_labels, as_training_rows
from detectors.imbalance.flow_generator import FlowGenerator

Method = Literal["none", "under", "over", "smoothed", "smote", "smote_mixed", "under_smote", "generative"]
METHODS: tuple[Method, ...] = (
    "none", "under", "over", "smoothed", "smote", "smote_mixed", "under_smote", "generative",
)  # fmt: skip
NEIGHBOURS = 5  # of SMOTE (Chawla et al. 2002); fewer when there are fewer frauds
SHRINKAGE = 0.3  # of the smoothed bootstrap, relative to Silverman's bandwidth (Menardi & Torelli 2014)
# under_smote: genuine rows are dropped until half the share is reached, SMOTE does the rest.
UNDER_FIRST = 0.5


@dataclass(frozen=True)
class Resampled:
    """Rows to train on. `discarded` counts dropped genuine rows, `invented` added fraud rows, copied or synthetic."""

    X: Floats
    y: Floats
    discarded: int
    invented: int
    prior: float  # share of fraud before resampling
    share: float  # share of fraud after resampling

    def corrected(self, score: ArrayLike) -> Floats:
        """
        Prior-corrected logits of a model trained on these rows, (n,): as under the share of fraud before resampling.

        Subtracts the change of log-odds (Saerens, Latinne & Decaestecker 2002; for undersampling Dal Pozzolo et al. 2015):
        the ranking does not change, and probabilities refer to the original prevalence again.
        """
        return np.asarray(score, dtype=np.float64) - (_log_odds(self.share) - _log_odds(self.prior))


def resample(
    X: ArrayLike,
    y: ArrayLike,
    method: Method,
    *,
    share: float = 0.5,
    seed: int = SEED,
    categorical: Sequence[int] = (),
    generator: FlowGenerator | None = None,
) -> Resampled:
    """
    Resample rows to a share of fraud by one of the methods.

    Parameters
    ----------
    X, y
        (n_samples, n_features) finite, and (n_samples,) 1 for fraud, 0 for genuine; training rows only.
    method
        `under` drops genuine rows, `over` repeats frauds, `smoothed` repeats them with noise (smoothed bootstrap), `smote`
        interpolates between neighbouring frauds, `smote_mixed` does so with categorical columns (SMOTE-NC), `under_smote`
        combines `under` and `smote`; `generative` samples from a `FlowGenerator`.
    share
        Share of fraud after resampling; data that already has this share is not changed.
    categorical
        Indices of categorical columns, for `smote_mixed` and `generative`.
    generator
        A generator already fitted to these frauds, for `generative`.

    Raises
    ------
    DetectorError
        The method is unknown, the share is outside (0, 1), there are too few frauds for neighbours, or `smote_mixed` has no
        categorical columns.
    """
    rows = as_training_rows(X)
    labels = as_labels(y, len(rows))
    if method not in METHODS:
        raise DetectorError(
            f"no resampling method is called {method!r}", remedy=f"choose one of {', '.join(METHODS)}"
        )
    if not 0 < share < 1:
        raise DetectorError(f"share must lie between 0 and 1, got {share}")
    prior = float(labels.mean())
    if method == "none" or prior >= share:
        return Resampled(rows, labels, 0, 0, prior, prior)
    frauds = int(labels.sum())
    if "smote" in method and frauds < 2:
        raise DetectorError(
            f"SMOTE needs 2 frauds or more, got {frauds}", remedy="use over, or wait for more labels"
        )
    if method == "generative":
        fitted = generator or FlowGenerator(seed).fit(rows[labels == 1], categorical)
        return _generated(rows, labels, share, fitted)
    resampled, y_resampled = rows, labels
    for step in _steps(method, share, seed, frauds, categorical):
        if (y_resampled == 1).sum() / (y_resampled == 0).sum() < step.sampling_strategy:
            resampled, y_resampled = step.fit_resample(resampled, y_resampled)
    resampled = np.ascontiguousarray(resampled, dtype=np.float64)
    y_resampled = np.asarray(y_resampled, dtype=np.float64)
    return Resampled(
        resampled,
        y_resampled,
        discarded=int((labels == 0).sum() - (y_resampled == 0).sum()),
        invented=int((y_resampled == 1).sum() - frauds),
        prior=prior,
        share=float(y_resampled.mean()),
    )


def _generated(rows: Floats, labels: Floats, share: float, generator: FlowGenerator) -> Resampled:
    frauds, genuine = int(labels.sum()), int((labels == 0).sum())
    more = round(genuine * share / (1 - share)) - frauds
    synthetic = generator.sample(more)
    prior = frauds / len(labels)
    return Resampled(
        np.vstack([rows, synthetic]),
        np.append(labels, np.ones(more)),
        discarded=0,
        invented=more,
        prior=prior,
        share=(frauds + more) / (len(labels) + more),
    )


def _steps(method: Method, share: float, seed: int, frauds: int, categorical: Sequence[int]) -> list[Any]:
    from imblearn.over_sampling import SMOTE, SMOTENC, RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

    neighbours = min(NEIGHBOURS, frauds - 1)
    ratio = share / (1 - share)  # frauds per genuine row, which is how imbalanced-learn counts
    common: dict[str, Any] = {"sampling_strategy": ratio, "random_state": seed}
    if method == "under":
        return [RandomUnderSampler(**common)]
    if method == "over":
        return [RandomOverSampler(**common)]
    if method == "smoothed":
        return [RandomOverSampler(**common, shrinkage=SHRINKAGE)]
    if method == "smote_mixed":
        if not len(categorical):
            raise DetectorError(
                "smote_mixed needs the indices of categorical columns", remedy="pass them, or use smote"
            )
        return [SMOTENC(categorical_features=list(categorical), k_neighbors=neighbours, **common)]
    smote = SMOTE(k_neighbors=neighbours, **common)
    if method == "smote":
        return [smote]
    half = UNDER_FIRST * share
    return [RandomUnderSampler(sampling_strategy=half / (1 - half), random_state=seed), smote]


def _log_odds(share: float) -> float:
    return float(np.log(share) - np.log1p(-share))
