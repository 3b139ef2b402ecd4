"""
The blend of outlier detection and classification, and how much of it each may say.

Both sides speak in surprisals, −ln of the share of training rows that score higher::

    s = (1 − w) · outlier + w · (forest + boosting) / 2

so a row that is extreme to either side is suspicious, which a mean of ranks would deny: there 0.9999 and 0.5 are less than
twice 0.98. The weight w of the classifiers begins at `UNTRIED` and moves as far as held-out frauds ask for. A forest and
boosted trees together rank better than either alone while frauds are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.base import Floats
from detectors.held_out import HeldOut

UNTRIED = 0.2  # weight without a held-out fraud: costs an outlier detector nothing where classifiers know nothing yet
GRID = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
PLACE = 0.05  # a fraud above all but this share of genuine rows is half found
RELUCTANCE = 0.15  # frauds that have to be found more for the weight to move from one end to the other


@dataclass(frozen=True)
class Weight:
    """The classifiers' share of a blend, and what it rests on."""

    value: float
    frauds: float  # held out, clusters on one entity counted once
    gain: float  # how much more of a held-out fraud it finds than the outlier detector alone, on average


def blended(weight: float, outlier: Floats, boosting: Floats, forest: Floats) -> Floats:
    """Surprisal of the blend, elementwise."""
    return (1.0 - weight) * outlier + weight * 0.5 * (boosting + forest)


def learned_weight(folds: Sequence[HeldOut]) -> Weight:
    """
    The weight at which held-out frauds stand highest, shrunk toward `UNTRIED`.

    How much a fraud counts as found falls with the share u of its fold's genuine rows that score as high:
    PLACE / (PLACE + u), the precision at its place if fraud were one in 1 + 1/PLACE. Moving the weight the whole way
    costs `RELUCTANCE` frauds, so one fraud that a classifier places far better is enough, and two that differ little
    are not. Frauds of one entity within a fold count once.
    """
    found = np.zeros(len(GRID))
    frauds = 0.0
    for fold in folds:
        counts = _once_an_entity(fold)
        found += np.array([counts @ _found(fold, weight) for weight in GRID])
        frauds += float(counts.sum())
    if not frauds:
        return Weight(UNTRIED, 0.0, 0.0)
    worth = found - RELUCTANCE * np.abs(np.array(GRID) - UNTRIED)
    best = int(np.argmax(worth))
    return Weight(GRID[best], round(frauds, 6), float(found[best] - found[0]) / frauds)


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
