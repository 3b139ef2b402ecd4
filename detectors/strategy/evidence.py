"""
Which strategy would have found more: candidates compared on frauds that none of them knew.

All candidates answer for the same held-out rows. Whole entities are resampled, the same ones for every candidate, so that a
difference is paired and twenty frauds on one card are one observation. A blend's weight in a fold is learned from the
folds before it; the first fold, before which there is none, is left out of the comparison.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats, Ints
from detectors.evaluation.comparison import CONFIDENCE, Curve, resamples
from detectors.evaluation.metrics import percentiles, ratio
from detectors.evaluation.thresholds import Costs
from detectors.strategy.blend import blended, learned_weight
from detectors.strategy.choice import HELD_OUT_FRAUDS, LEVELS, Comparison, Evidence, Measure, Strategy
from detectors.strategy.held_out import HeldOut

SIGNS: dict[Measure, float] = {"cost": -1.0, "average precision": 1.0}
Resampled = NDArray[np.float32]  # how often each entity is drawn, (r, n_entities)


@dataclass(frozen=True)
class Review:
    """What flags cost, and how many there may be."""

    costs: Costs
    share: float  # of transactions that reviewers have time for


def evidence(folds: Sequence[HeldOut], review: Review, seed: int = 7) -> Evidence | None:
    """
    What held-out frauds say of the strategies, None without any.

    Strategies are compared from `HELD_OUT_FRAUDS` behind the first fold on; below, a difference between them is chance, and only the weight that
    a blend gives its classifiers is told.
    """
    weight = learned_weight(folds)
    if not weight.frauds:
        return None
    if learned_weight(folds[1:]).frauds < HELD_OUT_FRAUDS:
        return Evidence(weight.frauds, (), weight.value, weight.gain)
    samples = _measured(folds, review, seed)
    values = {f"{name}.{measure}": float(of_all[0]) for (name, measure), of_all in samples.items()}
    return Evidence(weight.frauds, tuple(_comparisons(samples)), weight.value, weight.gain, values)


def _comparisons(samples: Mapping[tuple[Strategy, Measure], Floats]) -> Iterator[Comparison]:
    """Every strategy against every other, by both measures; positive = better."""
    for one, other in permutations(LEVELS, 2):
        for measure, sign in SIGNS.items():
            differences = sign * (samples[one, measure] - samples[other, measure])[1:]
            yield Comparison(one, other, measure, *percentiles(differences, CONFIDENCE))


def _measured(folds: Sequence[HeldOut], review: Review, seed: int) -> dict[tuple[Strategy, Measure], Floats]:
    """For each candidate its mean average precision over folds and its cost: of all rows, then of each resample."""
    _, everyone = np.unique(np.concatenate([fold.entity for fold in folds]), return_inverse=True)
    entities = np.split(everyone, np.cumsum([len(fold.y) for fold in folds])[:-1])
    answers = zip(folds, entities, _candidates(folds), strict=True)
    judges = [_Judge(*answer, review) for answer in islice(answers, 1, None)]
    n = int(everyone.max()) + 1
    drawn = [np.ones((1, n), dtype=np.float32), *resamples(n, seed)]
    parts = [_over_folds([judge.measured(weights) for judge in judges]) for weights in drawn]
    return {of: np.concatenate([part[of] for part in parts]) for of in parts[0]}


def _over_folds(
    folds: Sequence[Mapping[tuple[Strategy, Measure], Floats]],
) -> dict[tuple[Strategy, Measure], Floats]:
    """Average precision is averaged over the folds that have one, money is summed."""
    found = {}
    for of in folds[0]:
        values = np.array([fold[of] for fold in folds])
        known = ~np.isnan(values)
        total = np.where(known, values, 0.0).sum(axis=0)
        found[of] = ratio(total, known.sum(axis=0)) if of[1] == "average precision" else total
    return found


def _candidates(folds: Sequence[HeldOut]) -> list[dict[Strategy, Floats]]:
    told: list[dict[Strategy, Floats]] = []
    for place, fold in enumerate(folds):
        weight = learned_weight(folds[:place])
        told.append(
            {
                "outlier": fold.outlier,
                "blend": blended(weight.value, fold.outlier, fold.boosting, fold.forest),
                "classification": fold.margin,
            }
        )
    return told


class _Judge:
    """One fold's rows and every candidate's answer."""

    def __init__(
        self, fold: HeldOut, entity: Ints, scores: Mapping[Strategy, Floats], review: Review
    ) -> None:
        self._fold, self._entity = fold, entity
        self._curves = {name: Curve(fold.y, one) for name, one in scores.items()}
        self._costs = {name: _cost_of_rows(fold, one, review) for name, one in scores.items()}

    def measured(self, of_entities: Resampled) -> dict[tuple[Strategy, Measure], Floats]:
        """Both measures of each candidate for each resample (r, n_entities)."""
        weights = of_entities[:, self._entity] * self._fold.weight.astype(np.float32)
        found: dict[tuple[Strategy, Measure], Floats] = {}
        for name, curve in self._curves.items():
            found[name, "average precision"] = curve.measured(weights)[0]
            found[name, "cost"] = weights.astype(np.float64) @ self._costs[name]
        return found


def _cost_of_rows(fold: HeldOut, score: Floats, review: Review) -> Floats:
    """What each row costs when the highest scores are reviewed as far as there is time."""
    order = np.argsort(-score, kind="stable")
    flagged = np.zeros(len(score), dtype=bool)
    flagged[order] = np.cumsum(fold.weight[order]) <= review.share * fold.weight.sum()
    missed = np.where(flagged, 0.0, review.costs.at_stake(fold.amount))
    return np.where(fold.y == 1, missed, flagged * review.costs.review)
