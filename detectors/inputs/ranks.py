"""
Ranks of scores: the empirical distribution function of the training scores.

Ranks refer to the scores of the training rows, stored as quantiles, not to the current batch: a row has the same
rank in any batch.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats, as_weights, require_arrays
from detectors.compilation import compiled

KNOTS = 1024  # quantiles stored between the tails
LOWEST, HIGHEST = float(np.nextafter(0.0, 1.0)), float(np.nextafter(1.0, 0.0))
TAIL = 256  # distinct scores stored individually at either end, where thresholds lie


@dataclass(frozen=True)
class RankScale:
    """
    Map a score to the share of training rows below it: strictly increasing, strictly inside (0, 1).

    Between stored quantiles the map is linear. Beyond the largest training score M it continues as
    1 − ε / (1 + (s − M) / spread), and likewise below the smallest, where ε is the share the empirical
    distribution leaves there: a score twice as far out still ranks higher, until float64 runs out of numbers
    below 1 (for a million training rows, about 10⁹ spreads out).

    The spread is the mean distance from the median. Constant scores map to 1/2, with the unit as spread.
    """

    scores: Floats  # (k,) quantiles of the training scores, ascending
    ranks: Floats  # (k,)
    spread: float

    def __post_init__(self) -> None:
        require_arrays("a rank scale", (max(1, len(self.scores)),), self.scores, self.ranks)
        rising = bool((np.diff(self.scores) > 0).all() and (np.diff(self.ranks) >= 0).all())
        if not (rising and self.ranks[0] > 0 and self.ranks[-1] < 1 and 0 < self.spread < np.inf):
            raise DetectorError("a rank scale must rise from above 0 to below 1")

    @classmethod
    def fit(cls, scores: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """
        Store the quantiles of training scores.

        Parameters
        ----------
        scores
            (n_samples,) finite.
        sample_weight
            (n_samples,) how many transactions each score stands for.

        Raises
        ------
        DetectorError
            No scores, or one that is not finite.
        """
        sample = np.asarray(scores, dtype=np.float64)
        if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
            raise DetectorError(
                f"ranks need one or more finite scores in one dimension, got shape {sample.shape}"
            )
        weights = as_weights(sample_weight, len(sample))
        sample, weights = sample[weights > 0], weights[weights > 0]
        values, where = np.unique(sample, return_inverse=True)
        mass = np.bincount(where, weights=weights)
        middle = (np.cumsum(mass) - mass / 2) / mass.sum()
        knots = _knot_places(middle)
        spread = float(np.abs(sample - np.median(sample)).mean())
        return cls(values[knots], middle[knots], spread if np.isfinite(spread) and spread > 0 else 1.0)

    def transform(self, scores: ArrayLike) -> Floats:
        """Rank of each score, elementwise, in (0, 1)."""
        values = np.asarray(scores, dtype=np.float64)
        flat = np.ascontiguousarray(values).ravel()
        return _ranks_of(flat, self.scores, self.ranks, self.spread).reshape(values.shape)


@compiled
def _ranks_of(values: Floats, knots: Floats, ranks: Floats, spread: float) -> Floats:
    out = np.empty(len(values))
    last = len(knots) - 1
    for place, value in enumerate(values):
        if np.isnan(value):
            rank = value
        elif value < knots[0]:
            rank = ranks[0] / (1.0 + (knots[0] - value) / spread)
        elif value > knots[last]:
            rank = 1.0 - (1.0 - ranks[last]) / (1.0 + (value - knots[last]) / spread)
        elif last == 0:
            rank = ranks[0]
        else:
            above = min(max(np.searchsorted(knots, value, side="right"), 1), last)
            low, high = knots[above - 1], knots[above]
            share = (value - low) / (high - low)
            rank = ranks[above - 1] + share * (ranks[above] - ranks[above - 1])
        if rank < LOWEST:
            rank = LOWEST
        elif rank > HIGHEST:
            rank = HIGHEST
        out[place] = rank
    return out


def surprisal(rank: Floats) -> Floats:
    """−ln(1 − rank), elementwise: 0 at rank 0, and 1 more for each e-fold rarer score."""
    return -np.log1p(-rank)


def _knot_places(ranks: Floats) -> NDArray[np.intp]:
    """Indices of the distinct scores in the tails and of `KNOTS` evenly spaced quantiles between them."""
    n = len(ranks)
    even = np.searchsorted(ranks, np.linspace(ranks[0], ranks[-1], KNOTS))
    ends = np.concatenate([np.arange(min(TAIL, n)), np.arange(max(n - TAIL, 0), n)])
    return np.unique(np.concatenate([ends, np.minimum(even, n - 1)]))
