"""
The blend of outlier detection and classification, and its weight, learned from held-out frauds.

The side of outlier detection is the regression on its families (`detectors.strategy.family_regression`). Both sides give the
surprisal −ln u of a row, where u is the share of genuine training rows that score higher. If one kind of fraud is
detected by the one and another by the classifiers, and the density of either kind is about 1/u, the likelihood ratio
of a row is that of the mixture (Neyman & Pearson 1933), to which a side contributes only where it is confident::

    s = ln((1 − w) e^families + w e^classifiers),   classifiers = (forest + boosting) / 2

In a sum of surprisals or a mean of ranks, the noise of an uninformed side would drown the other. The weight w of the
classifiers starts at a prior and is learned from held-out frauds. A random forest and boosted trees together rank
better than either alone while frauds are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from detectors.base import Floats
from detectors.strategy.validation_folds import ValidationFold

PRIOR_WEIGHT = 0.4  # weight without held-out frauds: uninformed classifiers cost the outlier detector little
# With so many independent frauds to learn from, the prior is a half; with more it is higher.
KNOWN_STRENGTH = 100.0
WEIGHT_GRID = tuple(nth / 10 for nth in range(11))
# A fraud that ranks above all but this share of genuine rows gets half of the detection credit.
HALF_CREDIT_SHARE = 0.02
MOVE_COST = 0.2  # detection credit, in frauds, that a move of the weight from 0 to 1 must gain
# With so many held-out frauds the weight moves halfway from the prior to their optimum.
PRIOR_STRENGTH = 3.0


@dataclass(frozen=True)
class BlendWeight:
    """The learned weight of the classifiers in a blend, and the evidence for it."""

    value: float
    frauds: float  # held out, clusters on one entity counted once
    gain: float  # mean detection credit of a held-out fraud, less that of the outlier detector alone


def blend_surprisal(weight: float, families: Floats, boosting: Floats, forest: Floats) -> Floats:
    """Surprisal of the blend, elementwise."""
    with np.errstate(divide="ignore"):  # ln 0 where a side has weight 0
        s = np.logaddexp(np.log1p(-weight) + families, np.log(weight) + 0.5 * (boosting + forest))
    return np.asarray(s)


def classifier_share(weight: float, families: Floats, boosting: Floats, forest: Floats) -> Floats:
    """The responsibility of the classifiers in the mixture, elementwise in [0, 1]."""
    with np.errstate(divide="ignore"):
        return np.asarray(expit(np.log(weight) - np.log1p(-weight) + 0.5 * (boosting + forest) - families))


def learn_weight(folds: Sequence[ValidationFold], n_known: float = 0.0) -> BlendWeight:
    """
    Learn the weight at which held-out frauds rank highest, shrunk toward a prior.

    The prior is `PRIOR_WEIGHT`, and n / (n + `KNOWN_STRENGTH`) once that is more, n being the independent frauds that the
    classifiers learn from (`n_known`).

    The detection credit of a fraud is h / (h + u) with h = `HALF_CREDIT_SHARE` and u the share of its fold's genuine rows
    that score as high: the precision at its rank if one row in 1 + 1/h were fraud. Moving the weight from 0 to 1 costs
    `MOVE_COST` of credit, and k frauds move it k / (k + `PRIOR_STRENGTH`) of the way to their optimum: one fraud that a
    classifier ranks far better moves it, two that differ little do not. Frauds of one entity within a fold count once.
    """
    clusters = [_cluster_weights(fold) for fold in folds]
    frauds = float(sum(cluster.sum() for cluster in clusters))
    prior = max(PRIOR_WEIGHT, n_known / (n_known + KNOWN_STRENGTH))
    if not frauds:
        return BlendWeight(prior, 0.0, 0.0)

    def credit(scores: Sequence[Floats]) -> float:
        every = zip(clusters, folds, scores, strict=True)
        return float(sum(cluster @ _detection_credit(fold, score) for cluster, fold, score in every))

    def credit_at(weight: float) -> float:
        return credit([blend_of(weight, fold) for fold in folds])

    best = max(WEIGHT_GRID, key=lambda weight: credit_at(weight) - MOVE_COST * abs(weight - prior))
    value = round(prior + (best - prior) * frauds / (frauds + PRIOR_STRENGTH), 4)
    gain = credit_at(value) - credit([fold.outlier for fold in folds])
    return BlendWeight(value, round(frauds, 6), gain / frauds)


def blend_of(weight: float, fold: ValidationFold) -> Floats:
    """Surprisal of the blend of each row of a fold, (n,)."""
    return blend_surprisal(weight, fold.families, fold.boosting, fold.forest)


def _detection_credit(fold: ValidationFold, score: Floats) -> Floats:
    """Detection credit in [0, 1] of each fraud of a fold by a score (n,), (n_frauds,)."""
    genuine = fold.y == 0
    order = np.argsort(score[genuine])
    above = np.append(0.0, np.cumsum(fold.weight[genuine][order]))
    place = np.searchsorted(score[genuine][order], score[fold.y == 1])
    share = (above[-1] - above[place]) / above[-1]
    return np.asarray(HALF_CREDIT_SHARE / (HALF_CREDIT_SHARE + share))


def _cluster_weights(fold: ValidationFold) -> Floats:
    """Weight of each fraud of a fold, so that the frauds of one entity count once together, (n_frauds,)."""
    _, place, counts = np.unique(fold.entity[fold.y == 1], return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[place])
