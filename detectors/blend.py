"""
Ranks of scores, and the blend of two detectors' ranks.

Ranks refer to the scores of the training rows, stored as quantiles, never to the batch at hand: a row keeps
its rank whatever rows come with it.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats, NotFitted, State, as_weights

KNOTS = 1024  # quantiles kept between the tails
TAIL = 256  # distinct scores kept one by one at either end, where decisions are made


class RankScale:
    """
    Map a score to the share of training rows below it, strictly increasing and strictly inside (0, 1).

    Between stored quantiles the map is linear. Beyond the training's largest score M it goes on as
    1 − ε / (1 + (s − M) / spread), and likewise below the smallest, where ε is the share the empirical
    distribution leaves there: a score twice as far out still ranks higher, until float64 runs out of numbers
    below 1 (for a million training rows, about 10⁹ spreads out).

    The spread is the mean distance from the median. Constant scores map to 1/2, with the unit as spread.
    """

    def __init__(self) -> None:
        self._scores: Floats | None = None  # ascending
        self._ranks: Floats = np.empty(0)
        self._spread = 1.0

    def fit(self, scores: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
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
        given = np.asarray(scores, dtype=np.float64)
        if given.ndim != 1 or not given.size or not np.isfinite(given).all():
            raise DetectorError(
                f"ranks need one or more finite scores in one dimension, got shape {given.shape}"
            )
        weights = as_weights(sample_weight, len(given))
        given, weights = given[weights > 0], weights[weights > 0]
        values, where = np.unique(given, return_inverse=True)
        mass = np.bincount(where, weights=weights)
        middle = (np.cumsum(mass) - mass / 2) / mass.sum()
        kept = _kept(middle)
        self._scores, self._ranks = values[kept], middle[kept]
        spread = float(np.abs(given - np.median(given)).mean())
        self._spread = spread if np.isfinite(spread) and spread > 0 else 1.0
        return self

    def transform(self, scores: ArrayLike) -> Floats:
        """Rank of each score, elementwise, in (0, 1)."""
        knots, ranks = self._fitted(), self._ranks
        given = np.asarray(scores, dtype=np.float64)
        above = np.clip(np.searchsorted(knots, given, side="right"), 1, max(len(knots) - 1, 1))
        inside = self._between(given, above) if len(knots) > 1 else np.full(given.shape, ranks[0])
        with np.errstate(over="ignore"):  # infinitely far out is the end of the scale
            far_below = ranks[0] / (1.0 + np.maximum(knots[0] - given, 0.0) / self._spread)
            far_above = 1.0 - (1.0 - ranks[-1]) / (1.0 + np.maximum(given - knots[-1], 0.0) / self._spread)
        rank = np.where(given < knots[0], far_below, np.where(given > knots[-1], far_above, inside))
        return np.clip(rank, np.nextafter(0.0, 1.0), np.nextafter(1.0, 0.0))

    def state(self) -> State:
        """The quantiles and the spread."""
        return State({"spread": self._spread}, {"scores": self._fitted(), "ranks": self._ranks})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The scale that `state` was taken from; it maps bit for bit alike."""
        scale = cls()
        scale._scores, scale._ranks = state.arrays["scores"], state.arrays["ranks"]
        scale._spread = float(state.meta["spread"])
        return scale

    def _fitted(self) -> Floats:
        if self._scores is None:
            raise NotFitted("the rank scale has no quantiles yet: call fit first")
        return self._scores

    def _between(self, given: Floats, above: NDArray[np.intp]) -> Floats:
        knots, ranks = self._fitted(), self._ranks
        low, high = knots[above - 1], knots[above]
        share = (np.clip(given, low, high) - low) / (high - low)
        return ranks[above - 1] + share * (ranks[above] - ranks[above - 1])


def _kept(ranks: Floats) -> NDArray[np.intp]:
    """Places of the tails' distinct scores and of `KNOTS` even quantiles between them."""
    n = len(ranks)
    even = np.searchsorted(ranks, np.linspace(ranks[0], ranks[-1], KNOTS))
    ends = np.concatenate([np.arange(min(TAIL, n)), np.arange(max(n - TAIL, 0), n)])
    return np.unique(np.concatenate([ends, np.minimum(even, n - 1)]))


class Blend:
    """
    Blend the ranks of an outlier detector's and a classifier's scores.

    For a few frauds: the classifier lifts what looks like them, the outlier detector what looks like nothing
    else. With many frauds the outlier half only dilutes a classifier that knows better.

    Parameters
    ----------
    weight
        The classifier's share, in [0, 1]; half by default.
    """

    name = "blend"

    def __init__(self, weight: float = 0.5) -> None:
        if not 0.0 <= weight <= 1.0:
            raise DetectorError(f"a blend's weight must lie between 0 and 1, got {weight}")
        self.weight = weight
        self.outlier = RankScale()
        self.classifier = RankScale()

    def fit(
        self, outlier_scores: ArrayLike, classifier_scores: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Store the quantiles of both detectors' scores on training rows, each (n_samples,)."""
        self.outlier.fit(outlier_scores, sample_weight)
        self.classifier.fit(classifier_scores, sample_weight)
        return self

    def anomaly_score(self, outlier_scores: ArrayLike, classifier_scores: ArrayLike) -> Floats:
        """Weighted mean of both ranks, elementwise, in (0, 1); higher = more suspicious."""
        outlier = self.outlier.transform(outlier_scores)
        classifier = self.classifier.transform(classifier_scores)
        return (1.0 - self.weight) * outlier + self.weight * classifier

    def state(self) -> State:
        """Both scales and the weight."""
        parts = {"outlier": self.outlier.state(), "classifier": self.classifier.state()}
        arrays = {
            f"{part}_{name}": array for part, state in parts.items() for name, array in state.arrays.items()
        }
        return State(
            {"weight": self.weight} | {part: dict(state.meta) for part, state in parts.items()}, arrays
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The blend that `state` was taken from."""
        blend = cls(state.meta["weight"])
        blend.outlier = RankScale.from_state(_part(state, "outlier"))
        blend.classifier = RankScale.from_state(_part(state, "classifier"))
        return blend


def _part(state: State, part: str) -> State:
    meta: Mapping[str, float] = state.meta[part]
    return State(meta, {name: state.arrays[f"{part}_{name}"] for name in ("scores", "ranks")})
