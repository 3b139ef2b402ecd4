"""
Evidence for the strategy choice: the strategies compared on held-out frauds, with a paired cluster bootstrap.

All strategies score the same held-out rows. Whole entities are resampled, the same ones for every strategy, so that
differences are paired and twenty frauds on one card are one observation. A blend's weight in a fold is learned from the
folds before it; the first fold has none before it and is left out of the comparison.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations

import numpy as np
from numpy.typing import NDArray

from detectors.base import SEED, STRATEGIES, Floats, Ints, Strategy
from detectors.evaluation.comparison import CONFIDENCE, RankingCurve, bootstrap_weights
from detectors.evaluation.metrics import percentile_interval, ratio
from detectors.evaluation.thresholds import Costs
from detectors.strategy.blend import blend_of, learn_weight
from detectors.strategy.choice import (
    MIN_VALIDATION_FRAUDS,
    Evidence,
    Metric,
    StrategyComparison,
)
from detectors.strategy.validation_folds import ValidationFold

METRIC_SIGNS: dict[Metric, float] = {"cost": -1.0, "average precision": 1.0}
BootstrapWeights = NDArray[np.float32]  # bootstrap counts of each entity, (r, n_entities)


@dataclass(frozen=True)
class ReviewBudget:
    """The costs of flags and the review capacity."""

    costs: Costs
    share: float  # of transactions that reviewers can look at


def gather_evidence(
    folds: Sequence[ValidationFold], review: ReviewBudget, seed: int = SEED
) -> Evidence | None:
    """
    Compare the strategies on held-out frauds; None without any.

    The comparison needs `MIN_VALIDATION_FRAUDS` effective frauds after the first fold. With fewer, differences are noise, and
    the evidence holds only the learned weight of a blend.
    """
    weight = learn_weight(folds)
    if not weight.frauds:
        return None
    if learn_weight(folds[1:]).frauds < MIN_VALIDATION_FRAUDS:
        return Evidence(weight.frauds, (), weight.value, weight.gain)
    samples = _bootstrap_metrics(folds, review, seed)
    values = {f"{name}.{metric}": float(sample[0]) for (name, metric), sample in samples.items()}
    return Evidence(weight.frauds, tuple(_comparisons(samples)), weight.value, weight.gain, values)


def _comparisons(samples: Mapping[tuple[Strategy, Metric], Floats]) -> Iterator[StrategyComparison]:
    """Every strategy against every other, by both metrics; positive = better."""
    for one, other in permutations(STRATEGIES, 2):
        for metric, sign in METRIC_SIGNS.items():
            differences = sign * (samples[one, metric] - samples[other, metric])[1:]
            yield StrategyComparison(one, other, metric, *percentile_interval(differences, CONFIDENCE))


def _bootstrap_metrics(
    folds: Sequence[ValidationFold], review: ReviewBudget, seed: int
) -> dict[tuple[Strategy, Metric], Floats]:
    """Mean average precision over folds and total cost of each strategy: of all rows, then of each bootstrap resample."""
    _, codes = np.unique(np.concatenate([fold.entity for fold in folds]), return_inverse=True)
    entities = np.split(codes, np.cumsum([len(fold.y) for fold in folds])[:-1])
    scored = zip(folds, entities, _strategy_scores(folds), strict=True)
    comparisons = [_FoldComparison(*fold, review) for fold in islice(scored, 1, None)]
    n = int(codes.max()) + 1
    resamples = [np.ones((1, n), dtype=np.float32), *bootstrap_weights(n, seed)]
    parts = [_over_folds([fold.metrics(weights) for fold in comparisons]) for weights in resamples]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _over_folds(
    folds: Sequence[Mapping[tuple[Strategy, Metric], Floats]],
) -> dict[tuple[Strategy, Metric], Floats]:
    """Average precision is averaged over the folds in which it is defined; cost is summed."""
    combined = {}
    for key in folds[0]:
        values = np.array([fold[key] for fold in folds])
        defined = ~np.isnan(values)
        total = np.where(defined, values, 0.0).sum(axis=0)
        combined[key] = ratio(total, defined.sum(axis=0)) if key[1] == "average precision" else total
    return combined


def _strategy_scores(folds: Sequence[ValidationFold]) -> list[dict[Strategy, Floats]]:
    """The scores of each strategy, fold by fold."""
    scores: list[dict[Strategy, Floats]] = []
    for place, fold in enumerate(folds):
        weight = learn_weight(folds[:place])
        scores.append(
            {
                "outlier": fold.outlier,
                "blend": blend_of(weight.value, fold),
                "classification": fold.margin,
            }
        )
    return scores


class _FoldComparison:
    """One fold's rows with the scores and costs of every strategy."""

    def __init__(
        self, fold: ValidationFold, entity: Ints, scores: Mapping[Strategy, Floats], review: ReviewBudget
    ) -> None:
        self._fold, self._entity = fold, entity
        self._curves = {name: RankingCurve(fold.y, score) for name, score in scores.items()}
        self._costs = {name: _cost_of_rows(fold, score, review) for name, score in scores.items()}

    def metrics(self, of_entities: BootstrapWeights) -> dict[tuple[Strategy, Metric], Floats]:
        """Both metrics of each strategy for each resample (r, n_entities)."""
        weights = of_entities[:, self._entity] * self._fold.weight.astype(np.float32)
        metrics: dict[tuple[Strategy, Metric], Floats] = {}
        for name, curve in self._curves.items():
            metrics[name, "average precision"] = curve.ap_and_auc(weights)[0]
            metrics[name, "cost"] = weights.astype(np.float64) @ self._costs[name]
        return metrics


def _cost_of_rows(fold: ValidationFold, score: Floats, review: ReviewBudget) -> Floats:
    """Cost of each row if the highest scores are reviewed up to the review capacity."""
    order = np.argsort(-score, kind="stable")
    flagged = np.zeros(len(score), dtype=bool)
    flagged[order] = np.cumsum(fold.weight[order]) <= review.share * fold.weight.sum()
    missed = np.where(flagged, 0.0, review.costs.at_stake(fold.amount))
    return np.where(fold.y == 1, missed, flagged * review.costs.review)
