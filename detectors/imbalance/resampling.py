"""
Changing how many rows of each class a classifier is trained on, and undoing what that does to its probabilities.

The methods are imbalanced-learn's, but for the generative one; here are one interface, the guard that they see training rows only once, and the prior
correction. Resample what is fitted, never what is judged: a resampled fold has another prevalence and copies of its
own rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import DetectorError, Floats, as_labels, as_training_rows
from detectors.imbalance.flow_generator import FlowGenerator

Method = Literal["none", "under", "over", "smoothed", "smote", "smote_mixed", "under_smote", "generative"]
METHODS: tuple[Method, ...] = (
    "none", "under", "over", "smoothed", "smote", "smote_mixed", "under_smote", "generative",
)  # fmt: skip
NEIGHBOURS = 5  # of SMOTE (Chawla et al. 2002); fewer when there are fewer frauds
SHRINKAGE = 0.3  # of the smoothed bootstrap, relative to Silverman's bandwidth (Menardi & Torelli 2014)
UNDER_FIRST = 0.5  # under_smote: genuine rows go until half the wanted share is reached, SMOTE does the rest


@dataclass(frozen=True)
class Resampled:
    """Rows to train on. `discarded` counts genuine rows left out, `invented` fraud rows that are copies or made up."""

    X: Floats
    y: Floats
    discarded: int
    invented: int
    prior: float  # share of fraud before
    share: float  # and after

    def corrected(self, score: ArrayLike) -> Floats:
        """
        Logits of a model trained on these rows, as they would be under the prior before, (n,).

        Subtracts the change of log-odds (Saerens, Latinne & Decaestecker 2002; for undersampling Dal Pozzolo et al. 2015):
        the order of rows stays, and probabilities mean again what they say.
        """
        return np.asarray(score, dtype=np.float64) - (_log_odds(self.share) - _log_odds(self.prior))


def resample(
    X: ArrayLike,
    y: ArrayLike,
    method: Method,
    *,
    share: float = 0.5,
    seed: int = 7,
    categorical: Sequence[int] = (),
    generator: FlowGenerator | None = None,
) -> Resampled:
    """
    Rows with a share of fraud, by one of the methods.

    Parameters
    ----------
    X, y
        (n_samples, n_features) finite, and 1 for fraud, 0 for genuine; training rows only.
    method
        `under` leaves genuine rows out, `over` repeats frauds, `smoothed` repeats them with noise, `smote` makes rows between
        neighbouring frauds, `smote_mixed` does so with columns that hold categories (SMOTE-NC), `under_smote` does both;
        `generative` makes them by `FlowGenerator`.
    share
        Of fraud afterwards; data that has as much already is left as it is.
    categorical
        Places of columns whose values are names, for `smote_mixed` and `generative`.
    generator
        One that learned these frauds already, for `generative`.

    Raises
    ------
    DetectorError
        An unknown method, a share outside (0, 1), too few frauds for neighbours, or `smote_mixed` without categories.
    """
    rows = as_training_rows(X)
    labels = as_labels(y, len(rows))
    if method not in METHODS:
        raise DetectorError(f"resampling knows no method {method!r}: choose one of {', '.join(METHODS)}")
    if not 0 < share < 1:
        raise DetectorError(f"share must lie between 0 and 1, got {share}")
    prior = float(labels.mean())
    if method == "none" or prior >= share:
        return Resampled(rows, labels, 0, 0, prior, prior)
    frauds = int(labels.sum())
    if "smote" in method and frauds < 2:
        raise DetectorError(
            f"SMOTE makes rows between frauds, got {frauds}: use over, or wait for more labels"
        )
    if method == "generative":
        learned = generator or FlowGenerator(seed).fit(rows[labels == 1], categorical)
        return _generated(rows, labels, share, learned)
    made, answers = rows, labels
    for step in _steps(method, share, seed, frauds, categorical):
        if (answers == 1).sum() / (answers == 0).sum() < step.sampling_strategy:
            made, answers = step.fit_resample(made, answers)
    made = np.ascontiguousarray(made, dtype=np.float64)
    answers = np.asarray(answers, dtype=np.float64)
    return Resampled(
        made,
        answers,
        discarded=int((labels == 0).sum() - (answers == 0).sum()),
        invented=int((answers == 1).sum() - frauds),
        prior=prior,
        share=float(answers.mean()),
    )


def _generated(rows: Floats, labels: Floats, share: float, generator: FlowGenerator) -> Resampled:
    frauds, genuine = int(labels.sum()), int((labels == 0).sum())
    more = round(genuine * share / (1 - share)) - frauds
    made = generator.sample(more)
    prior = frauds / len(labels)
    return Resampled(
        np.vstack([rows, made]),
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
                "smote_mixed needs the places of categorical columns: give some, or use smote"
            )
        return [SMOTENC(categorical_features=list(categorical), k_neighbors=neighbours, **common)]
    smote = SMOTE(k_neighbors=neighbours, **common)
    if method == "smote":
        return [smote]
    half = UNDER_FIRST * share
    return [RandomUnderSampler(sampling_strategy=half / (1 - half), random_state=seed), smote]


def _log_odds(share: float) -> float:
    return float(np.log(share) - np.log1p(-share))
