"""
Comparison of techniques on the same held-out rows: metrics and their differences, with confidence intervals.

The intervals are those of a paired cluster bootstrap: whole entities are resampled, the same ones for every technique.
Ranking metrics are computed per fold and averaged, since scores of different trainings may not be comparable; counts and
money are summed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detectors.base import DetectorError, Floats, Ints
from detectors.evaluation.metrics import mcc_of, percentile_interval, ratio

REPEATS = 200  # bootstrap resamples
SEED = 7  # of the bootstrap: the same for all techniques, so that differences are paired
CHUNK = 25  # resamples at a time: 200,000 rows then take 20 MB
CONFIDENCE = 0.95
# Minimum relevant differences. Nearly equal models can differ significantly, since they rank the same rows: ten models of the
# same settings, trained a week apart (benchmarks/hygiene.py), differ by 0.003 and 1.9 % at most, one of them significantly.
MIN_AP_DIFFERENCE = 0.01
MIN_COST_DIFFERENCE = 0.02  # relative to the other model's cost
# Standard deviations of a difference between two trainings of the same settings beyond what the test rows explain: other trees, or
# the other strategy that was chosen, which was 0.03 lower on web-shop payments (`python -m benchmarks.gate`).
TRAINING_SD_AP = 0.015
TRAINING_SD_COST = 0.04  # relative to the other model's cost
TRAINING_Z = 1.645  # of the interval of a difference between trainings: 5 % beyond each bound
Bools = NDArray[np.bool_]
RECALLS = (0.5, 0.2, 0.1)  # probability thresholds at which recall is reported for uncorrected probabilities
RANKING = ("ap", "auc")


@dataclass(frozen=True)
class FoldRows:
    """The held-out rows of one fold; all (n,)."""

    y: Floats
    amount: Floats  # cost of missing the row if it is fraud, in the currency of review costs
    entity: Ints  # codes from 0, the same in all folds
    time: Ints  # µs
    day: Ints
    group: Ints | None = None  # codes of a field by which false-flag rates are compared
    weight: Floats | None = None  # how many transactions the row stands for; 1 by default


@dataclass(frozen=True)
class FoldPredictions:
    """Margin, flags and uncorrected probability of one technique for the rows of a fold; NaN without a probability."""

    margin: Floats
    f1_flags: Bools
    mcc_flags: Bools
    cost_flags: Bools
    daily_flags: Bools
    raw_probability: Floats  # before any correction for balancing or weighting


@dataclass(frozen=True)
class Estimate:
    """A metric and its confidence interval; NaN where it is not defined."""

    value: float
    lower: float
    upper: float


@dataclass
class TechniqueMetrics:
    """All metrics of one technique."""

    metrics: dict[str, Estimate]
    samples: dict[str, Floats] = field(
        repr=False, default_factory=dict
    )  # metrics of each resample, for paired differences


def daily_flags(scores: Floats, day: Ints, k: int) -> Bools:
    """Flags on the k highest scores of each day; ties rank in the order of the rows."""
    flags = np.zeros(len(scores), dtype=bool)
    for date in np.unique(day):
        rows = np.flatnonzero(day == date)
        flags[rows[np.argsort(-scores[rows], kind="stable")[:k]]] = True
    return flags


def evaluate_technique(
    folds: Sequence[FoldRows], answers: Sequence[FoldPredictions], review: float
) -> TechniqueMetrics:
    """
    Compute the metrics of one technique over all folds.

    Parameters
    ----------
    review
        Cost of a flag on a genuine transaction.

    Raises
    ------
    DetectorError
        There is no fraud in any fold.
    """
    if not any(rows.y.any() for rows in folds):
        raise DetectorError(
            "techniques are compared on frauds, and there is none in the test spans",
            remedy="choose other spans",
        )
    evaluations = [_FoldEvaluation(rows, answer, review) for rows, answer in zip(folds, answers, strict=True)]
    entities = 1 + max(int(rows.entity.max(initial=0)) for rows in folds)
    whole = _metrics(evaluations, np.ones((1, entities), dtype=np.float32))
    parts = [_metrics(evaluations, weights) for weights in bootstrap_weights(entities, SEED)]
    samples = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    return TechniqueMetrics(
        {name: _estimate(float(whole[name][0]), samples[name]) for name in whole}, samples
    )


def difference(of: TechniqueMetrics, other: TechniqueMetrics, metric: str) -> Estimate:
    """How much higher a metric is for one technique than for another, paired over the resamples."""
    value = of.metrics[metric].value - other.metrics[metric].value
    return _estimate(value, of.samples[metric] - other.samples[metric])


def training_difference(
    of: TechniqueMetrics, other: TechniqueMetrics, metric: str, training_sd: float
) -> Estimate:
    """
    How much higher a metric is for one model than for another, with the chance of training beside that of the rows.

    A bootstrap of the rows takes both models for given, but each of them is one draw of what its training could have made. So the
    variance of the resampled differences and that of a training are added, and the interval is normal; of 90 %.

    Parameters
    ----------
    training_sd
        Standard deviation of the difference between trainings of the same settings, in units of the metric.
    """
    value = of.metrics[metric].value - other.metrics[metric].value
    rows_sd = float(np.nanstd(of.samples[metric] - other.samples[metric]))
    half = TRAINING_Z * float(np.hypot(rows_sd, training_sd))
    return Estimate(value, value - half, value + half)


def false_flag_rates(
    folds: Sequence[FoldRows], answers: Sequence[FoldPredictions]
) -> dict[int, tuple[float, int]]:
    """Share of genuine rows flagged within the daily budget, and their number, for each group."""
    flagged: dict[int, int] = {}
    genuine: dict[int, int] = {}
    for rows, answer in zip(folds, answers, strict=True):
        if rows.group is None:
            continue
        is_genuine = rows.y == 0
        for group in np.unique(rows.group[is_genuine]):
            members = is_genuine & (rows.group == group)
            genuine[int(group)] = genuine.get(int(group), 0) + int(members.sum())
            flagged[int(group)] = flagged.get(int(group), 0) + int(answer.daily_flags[members].sum())
    return {group: (flagged[group] / n, n) for group, n in genuine.items()}


def bootstrap_weights(entities: int, seed: int, chunk: int = CHUNK) -> Iterator[NDArray[np.float32]]:
    """Bootstrap counts of each entity, in chunks of (chunk, entities); the result does not depend on `chunk`."""
    rng = np.random.default_rng(seed)
    for start in range(0, REPEATS, chunk):
        counts = [
            np.bincount(rng.integers(entities, size=entities), minlength=entities)
            for _ in range(min(chunk, REPEATS - start))
        ]
        yield np.array(counts, dtype=np.float32)


def _estimate(value: float, samples: Floats) -> Estimate:
    return Estimate(value, *percentile_interval(samples, CONFIDENCE))


class _FoldEvaluation:
    """One technique on one fold: the sums and curves that a bootstrap resample only reweights."""

    def __init__(self, rows: FoldRows, answer: FoldPredictions, review: float) -> None:
        self.entity = rows.entity
        self.weight = None if rows.weight is None else rows.weight.astype(np.float32)
        self.curve = RankingCurve(rows.y, answer.margin)
        fraud, genuine = rows.y == 1, rows.y == 0
        self.sums: dict[str, Floats] = {"frauds": fraud, "genuine": genuine}
        for name in ("f1", "mcc", "cost", "daily"):
            flags: Bools = getattr(answer, f"{name}_flags")
            self.sums |= {f"{name}_tp": fraud & flags, f"{name}_fp": genuine & flags}
        self.sums["with_probability"] = fraud & ~np.isnan(answer.raw_probability)
        for threshold in RECALLS:
            self.sums[f"probability_{threshold}"] = fraud & (answer.raw_probability >= threshold)
        self.sums["missed"] = rows.amount * (fraud & ~answer.cost_flags)
        self.sums["at_stake"] = rows.amount * fraud
        self.review = review
        self.delays = delays(rows, answer.daily_flags)

    def weights(self, of_entities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weight of each row in each resample, (resamples, n)."""
        counts = of_entities[:, self.entity]
        return counts if self.weight is None else counts * self.weight

    def counts(self, weights: NDArray[np.float32]) -> dict[str, Floats]:
        """Weighted sums of each resample."""
        matrix = np.array(list(self.sums.values()), dtype=np.float64)
        totals = matrix @ weights.T.astype(np.float64)
        return dict(zip(self.sums, totals, strict=True))


def _metrics(evaluations: Sequence[_FoldEvaluation], of_entities: NDArray[np.float32]) -> dict[str, Floats]:
    weights = [fold.weights(of_entities) for fold in evaluations]
    ranking: dict[str, Floats] = {}
    curves = [fold.curve.ap_and_auc(weight) for fold, weight in zip(evaluations, weights, strict=True)]
    for place, name in enumerate(RANKING):
        ranking[name] = _nan_mean(np.array([curve[place] for curve in curves]))
    counts = _summed([fold.counts(weight) for fold, weight in zip(evaluations, weights, strict=True)])
    return ranking | _count_metrics(counts, evaluations[0].review) | _delay_metrics(evaluations, of_entities)


def _count_metrics(n: Mapping[str, Floats], review: float) -> dict[str, Floats]:
    frauds, genuine = n["frauds"], n["genuine"]
    tp, fp = n["f1_tp"], n["f1_fp"]
    cost = n["missed"] + review * n["cost_fp"]
    trivial = np.minimum(n["at_stake"], review * genuine)
    has_probability = n["with_probability"] > 0
    return {
        "f1": np.where(frauds > 0, ratio(2 * tp, tp + fp + frauds), np.nan),
        "mcc": mcc_of(n["mcc_tp"], n["mcc_fp"], frauds - n["mcc_tp"], genuine - n["mcc_fp"]),
        "balanced_accuracy": (ratio(tp, frauds) + ratio(genuine - fp, genuine)) / 2,
        "accuracy": ratio(tp + genuine - fp, frauds + genuine),
        **{
            f"recall_{at}": np.where(has_probability, ratio(n[f"probability_{at}"], frauds), np.nan)
            for at in RECALLS
        },
        "precision_at_k": ratio(n["daily_tp"], n["daily_tp"] + n["daily_fp"]),
        "recall_at_k": ratio(n["daily_tp"], frauds),
        "cost": cost,
        "savings": 1 - ratio(cost, trivial),
    }


def _delay_metrics(
    evaluations: Sequence[_FoldEvaluation], of_entities: NDArray[np.float32]
) -> dict[str, Floats]:
    entity = np.concatenate([fold.delays[0] for fold in evaluations])
    delay = np.concatenate([fold.delays[1] for fold in evaluations])
    caught = ~np.isnan(delay)
    weight = of_entities[:, entity].astype(np.float64)
    days = weight[:, caught] @ delay[caught]
    return {
        "entities_caught": ratio(weight @ caught, weight.sum(axis=1)),
        "detection_delay": ratio(days, weight @ caught),
    }


def delays(rows: FoldRows, flags: Bools) -> tuple[Ints, Floats]:
    """Detection delays: each entity with fraud, and days from its first fraud to its first flagged one, NaN without one."""
    fraud = np.flatnonzero(rows.y == 1)
    entities, where = np.unique(rows.entity[fraud], return_inverse=True)
    first = np.full(len(entities), np.iinfo(np.int64).max)
    caught = first.copy()
    np.minimum.at(first, where, rows.time[fraud])
    hit = flags[fraud]
    np.minimum.at(caught, where[hit], rows.time[fraud][hit])
    never = caught == np.iinfo(np.int64).max
    return entities, np.where(never, np.nan, (caught - first) / DAY)


DAY = 86_400_000_000  # µs


class RankingCurve:
    """
    Ranking metrics of one set of scores for many weightings of its rows.

    Scores are sorted once and cut at groups of equal scores with a fraud. Between two such groups only the total weight
    matters, so a resample costs one pass over its weights.
    """

    def __init__(self, y: Floats, scores: Floats) -> None:
        if np.isnan(scores).any():
            raise DetectorError("a row without a score cannot be evaluated", remedy="leave rows with NaN out")
        self._order = np.argsort(-scores, kind="stable")
        ranked, labels = scores[self._order], y[self._order]
        start = (
            np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])) if len(y) else np.empty(0, np.int64)
        )
        end = np.append(start[1:], len(y))
        with_fraud = np.add.reduceat(labels, start) > 0 if len(y) else np.empty(0, bool)
        self._cuts = np.stack([start[with_fraud], end[with_fraud]], axis=1).ravel()
        self._labels = labels
        self._n = len(y)

    def ap_and_auc(self, weights: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Average precision and area under the ROC curve of each resample, NaN where undefined."""
        if not len(self._cuts):
            undefined = np.full(len(weights), np.nan)
            return undefined, undefined
        w = weights[:, self._order]
        everything = self._pieces(w)
        frauds = self._pieces(w * self._labels.astype(np.float32))[:, 1::2]  # none lie between the groups
        total = np.cumsum(everything, axis=1)[:, 1::2]
        tp = np.cumsum(frauds, axis=1)
        positives, negatives = tp[:, -1], w.sum(axis=1, dtype=np.float64) - tp[:, -1]
        ap = ratio(np.nansum(frauds * ratio(tp, total), axis=1), positives)
        beside = everything[:, 1::2] - frauds  # genuine rows with the same score
        below = negatives[:, None] - (total - tp) + beside / 2
        auc = ratio((frauds * below).sum(axis=1), positives * negatives)
        return ap, auc

    def _pieces(self, w: NDArray[np.float32]) -> Floats:
        """Sums over alternating gaps and groups, (resamples, 2 × groups)."""
        starts = np.append(0, self._cuts[:-1])
        sums = np.add.reduceat(w, np.minimum(starts, self._n - 1), axis=1, dtype=np.float64)
        if self._cuts[-1] < self._n:  # the last piece would extend to the end
            sums[:, -1] = w[:, self._cuts[-2] : self._cuts[-1]].sum(axis=1, dtype=np.float64)
        sums[:, starts == self._cuts] = 0.0  # an empty gap
        return sums


def _nan_mean(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0))


def _summed(parts: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
