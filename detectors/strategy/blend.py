"""
The blend of outlier detection and classification, and how much of it each may say.

Both sides say how rare a row is: u, the share of training rows that score higher, or its surprisal −ln u. If frauds of one
kind are what the outlier detector finds and of another what classifiers find, and either kind has a density of about 1/u there,
then the likelihood ratio of a row is that of the mixture (Neyman & Pearson 1933), in which each side keeps what it is sure of::

    s = ln((1 − w) e^outlier + w e^classifiers),   classifiers = (forest + boosting) / 2

A sum of surprisals or a mean of ranks would let the noise of a side that knows nothing yet drown the other. The weight w of the
classifiers begins at `UNTRIED` and moves as far as held-out frauds ask for. A forest and boosted trees together rank better than
either alone while frauds are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from detectors.base import Floats
from detectors.strategy.held_out import HeldOut

FORM = "mixture"  # stored with a blend: one that was blended differently would score otherwise than it was calibrated
UNTRIED = 0.4  # weight without a held-out fraud: costs an outlier detector little where classifiers know nothing yet
GRID = tuple(nth / 10 for nth in range(11))
PLACE = 0.02  # a fraud above all but this share of genuine rows is half found
RELUCTANCE = 0.2  # frauds that have to be found more for the weight to move from one end to the other
DOUBT = 3.0  # frauds: with so many held out the weight moves half of the way that they ask for


@dataclass(frozen=True)
class Weight:
    """The classifiers' share of a blend, and what it rests on."""

    value: float
    frauds: float  # held out, clusters on one entity counted once
    gain: float  # how much more of a held-out fraud it finds than the outlier detector alone, on average


def blended(weight: float, outlier: Floats, boosting: Floats, forest: Floats) -> Floats:
    """Surprisal of the blend, elementwise."""
    with np.errstate(divide="ignore"):  # ln 0 of a side that has no say
        s = np.logaddexp(np.log1p(-weight) + outlier, np.log(weight) + 0.5 * (boosting + forest))
    return np.asarray(s)


def classifiers_part(weight: float, outlier: Floats, boosting: Floats, forest: Floats) -> Floats:
    """How much of the blend's value is the classifiers', elementwise in [0, 1]: the mixture's responsibility."""
    with np.errstate(divide="ignore"):
        return np.asarray(expit(np.log(weight) - np.log1p(-weight) + 0.5 * (boosting + forest) - outlier))


def learned_weight(folds: Sequence[HeldOut]) -> Weight:
    """
    The weight at which held-out frauds stand highest, shrunk toward `UNTRIED`.

    How much a fraud counts as found falls with the share u of its fold's genuine rows that score as high:
    PLACE / (PLACE + u), the precision at its place if fraud were one in 1 + 1/PLACE. Moving the weight the whole way
    costs `RELUCTANCE` frauds, and n frauds move it n / (n + `DOUBT`) of the way that they ask for: one that a classifier
    places far better begins, and two that differ little do not. Frauds of one entity within a fold count once.
    """
    counts = [_once_an_entity(fold) for fold in folds]
    frauds = float(sum(one.sum() for one in counts))
    if not frauds:
        return Weight(UNTRIED, 0.0, 0.0)

    def found(weight: float) -> float:
        return float(sum(one @ _found(fold, weight) for one, fold in zip(counts, folds, strict=True)))

    asked = max(GRID, key=lambda weight: found(weight) - RELUCTANCE * abs(weight - UNTRIED))
    value = round(UNTRIED + (asked - UNTRIED) * frauds / (frauds + DOUBT), 4)
    return Weight(value, round(frauds, 6), (found(value) - found(0.0)) / frauds)


def _found(fold: HeldOut, weight: float) -> Floats:
    """How much each fraud of a fold counts as found, (n_frauds,)."""
    score = blended(weight, fold.outlier, fold.boosting, fold.forest)
    genuine = fold.y == 0
    order = np.argsort(score[genuine])
    above = np.append(0.0, np.cumsum(fold.weight[genuine][order]))
    place = np.searchsorted(score[genuine][order], score[fold.y == 1])
    share = (above[-1] - above[place]) / above[-1]
    return np.asarray(PLACE / (PLACE + share))


def _once_an_entity(fold: HeldOut) -> Floats:
    """How much each fraud of a fold counts if those of one entity count once together, (n_frauds,)."""
    _, place, counts = np.unique(fold.entity[fold.y == 1], return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[place])
