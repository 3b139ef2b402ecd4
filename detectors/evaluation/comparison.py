"""
Judge techniques on the same rows: every measure with an interval, and differences against noise.

Whole entities are resampled, the same ones for every technique, so that differences are paired. Ranking measures are
taken fold by fold and averaged, since scores of different trainings need not be comparable; counts and money are summed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detectors.base import DetectorError, Floats, Ints
from detectors.evaluation.metrics import mcc_of, percentiles, ratio

REPEATS = 200
CHUNK = 25  # resamples at a time: 200,000 rows then take 20 MB
CONFIDENCE = 0.95
# Differences that matter. Models that rank nearly alike differ by little and yet beyond noise, since they rank the same rows: of
# ten of the same settings, a week apart (benchmarks/hygiene.py), by 0.003 and 1.9 % at most, one of them beyond noise.
AP_MATTERS = 0.01
COST_MATTERS = 0.02  # of what the other costs
Bools = NDArray[np.bool_]
RECALLS = (0.5, 0.2, 0.1)  # thresholds at which recall is told as the model says it
RANKING = ("ap", "auc")


@dataclass(frozen=True)
class Rows:
    """What one fold judges on; all (n,)."""

    y: Floats
    amount: Floats  # what a missed fraud costs, in the currency of reviews
    entity: Ints  # codes from 0, the same in all folds
    time: Ints  # µs
    day: Ints
    group: Ints | None = None  # codes of a field whose false-flag rates are compared
    weight: Floats | None = None  # how many transactions the row stands for; 1 by default


@dataclass(frozen=True)
class Answer:
    """What one technique says of a fold's rows; `said` before any correction, NaN where there is no probability."""

    margin: Floats
    f1_flags: Bools
    mcc_flags: Bools
    cost_flags: Bools
    daily_flags: Bools
    said: Floats


@dataclass(frozen=True)
class Estimate:
    """A measure and its interval; NaN where it is not defined."""

    value: float
    lower: float
    upper: float


@dataclass
class Verdict:
    """All measures of one technique."""

    measures: dict[str, Estimate]
    samples: dict[str, Floats] = field(
        repr=False, default_factory=dict
    )  # of each resample, for paired differences


def daily_flags(scores: Floats, day: Ints, k: int) -> Bools:
    """The k highest scores of each day; ties in the order of the rows."""
    flags = np.zeros(len(scores), dtype=bool)
    for one in np.unique(day):
        rows = np.flatnonzero(day == one)
        flags[rows[np.argsort(-scores[rows], kind="stable")[:k]]] = True
    return flags


def judge(folds: Sequence[Rows], answers: Sequence[Answer], review: float, seed: int = 7) -> Verdict:
    """
    Measure one technique over folds.

    Parameters
    ----------
    review
        Cost of a flag on a genuine transaction.
    seed
        Of the resamples: the same for all techniques that are compared.

    Raises
    ------
    DetectorError
        There is no fraud in any fold.
    """
    if not any(rows.y.any() for rows in folds):
        raise DetectorError(
            "techniques are judged on frauds, and there is none in the test spans: choose others"
        )
    cases = [_Case(rows, answer, review) for rows, answer in zip(folds, answers, strict=True)]
    entities = 1 + max(int(rows.entity.max(initial=0)) for rows in folds)
    whole = _measured(cases, np.ones((1, entities), dtype=np.float32))
    parts = [_measured(cases, weights) for weights in resamples(entities, seed)]
    samples = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    return Verdict({name: _estimate(float(whole[name][0]), samples[name]) for name in whole}, samples)


def difference(of: Verdict, other: Verdict, measure: str) -> Estimate:
    """How much higher one technique's measure is than another's, paired over the resamples."""
    value = of.measures[measure].value - other.measures[measure].value
    return _estimate(value, of.samples[measure] - other.samples[measure])


def false_flag_rates(folds: Sequence[Rows], answers: Sequence[Answer]) -> dict[int, tuple[float, int]]:
    """Share of genuine rows flagged within the daily budget, and their number, for each group."""
    flagged: dict[int, int] = {}
    genuine: dict[int, int] = {}
    for rows, answer in zip(folds, answers, strict=True):
        if rows.group is None:
            continue
        usual = rows.y == 0
        for one in np.unique(rows.group[usual]):
            mine = usual & (rows.group == one)
            genuine[int(one)] = genuine.get(int(one), 0) + int(mine.sum())
            flagged[int(one)] = flagged.get(int(one), 0) + int(answer.daily_flags[mine].sum())
    return {one: (flagged[one] / n, n) for one, n in genuine.items()}


def resamples(entities: int, seed: int, chunk: int = CHUNK) -> Iterator[NDArray[np.float32]]:
    """How often each entity is drawn, (chunk, entities) at a time, the same whatever the chunk."""
    rng = np.random.default_rng(seed)
    for done in range(0, REPEATS, chunk):
        drawn = [
            np.bincount(rng.integers(entities, size=entities), minlength=entities)
            for _ in range(min(chunk, REPEATS - done))
        ]
        yield np.array(drawn, dtype=np.float32)


def _estimate(value: float, samples: Floats) -> Estimate:
    return Estimate(value, *percentiles(samples, CONFIDENCE))


class _Case:
    """One technique on one fold: everything that resampling only weighs."""

    def __init__(self, rows: Rows, answer: Answer, review: float) -> None:
        self.entity = rows.entity
        self.weight = None if rows.weight is None else rows.weight.astype(np.float32)
        self.curve = Curve(rows.y, answer.margin)
        fraud, genuine = rows.y == 1, rows.y == 0
        self.sums: dict[str, Floats] = {"frauds": fraud, "genuine": genuine}
        for name in ("f1", "mcc", "cost", "daily"):
            flags: Bools = getattr(answer, f"{name}_flags")
            self.sums |= {f"{name}_tp": fraud & flags, f"{name}_fp": genuine & flags}
        self.sums["said"] = fraud & ~np.isnan(answer.said)
        for threshold in RECALLS:
            self.sums[f"said_{threshold}"] = fraud & (answer.said >= threshold)
        self.sums["missed"] = rows.amount * (fraud & ~answer.cost_flags)
        self.sums["at_stake"] = rows.amount * fraud
        self.review = review
        self.delays = delays(rows, answer.daily_flags)

    def weights(self, of_entities: NDArray[np.float32]) -> NDArray[np.float32]:
        """What each row counts for in each resample, (resamples, n)."""
        drawn = of_entities[:, self.entity]
        return drawn if self.weight is None else drawn * self.weight

    def counts(self, weights: NDArray[np.float32]) -> dict[str, Floats]:
        """Weighted sums, one a resample."""
        matrix = np.array(list(self.sums.values()), dtype=np.float64)
        found = matrix @ weights.T.astype(np.float64)
        return dict(zip(self.sums, found, strict=True))


def _measured(cases: Sequence[_Case], of_entities: NDArray[np.float32]) -> dict[str, Floats]:
    weights = [case.weights(of_entities) for case in cases]
    found: dict[str, Floats] = {}
    curves = [case.curve.measured(weight) for case, weight in zip(cases, weights, strict=True)]
    for place, name in enumerate(RANKING):
        found[name] = _mean_of_known(np.array([curve[place] for curve in curves]))
    counts = _summed([case.counts(weight) for case, weight in zip(cases, weights, strict=True)])
    return found | _of_counts(counts, cases[0].review) | _of_delays(cases, of_entities)


def _of_counts(n: Mapping[str, Floats], review: float) -> dict[str, Floats]:
    frauds, genuine = n["frauds"], n["genuine"]
    tp, fp = n["f1_tp"], n["f1_fp"]
    cost = n["missed"] + review * n["cost_fp"]
    trivial = np.minimum(n["at_stake"], review * genuine)
    tells = n["said"] > 0
    return {
        "f1": np.where(frauds > 0, ratio(2 * tp, tp + fp + frauds), np.nan),
        "mcc": mcc_of(n["mcc_tp"], n["mcc_fp"], frauds - n["mcc_tp"], genuine - n["mcc_fp"]),
        "balanced_accuracy": (ratio(tp, frauds) + ratio(genuine - fp, genuine)) / 2,
        "accuracy": ratio(tp + genuine - fp, frauds + genuine),
        **{f"recall_{at}": np.where(tells, ratio(n[f"said_{at}"], frauds), np.nan) for at in RECALLS},
        "precision_at_k": ratio(n["daily_tp"], n["daily_tp"] + n["daily_fp"]),
        "recall_at_k": ratio(n["daily_tp"], frauds),
        "cost": cost,
        "savings": 1 - ratio(cost, trivial),
    }


def _of_delays(cases: Sequence[_Case], of_entities: NDArray[np.float32]) -> dict[str, Floats]:
    entity = np.concatenate([case.delays[0] for case in cases])
    delay = np.concatenate([case.delays[1] for case in cases])
    caught = ~np.isnan(delay)
    weight = of_entities[:, entity].astype(np.float64)
    days = weight[:, caught] @ delay[caught]
    return {
        "entities_caught": ratio(weight @ caught, weight.sum(axis=1)),
        "detection_delay": ratio(days, weight @ caught),
    }


def delays(rows: Rows, flags: Bools) -> tuple[Ints, Floats]:
    """Each entity with fraud, and days from its first fraud to its first flagged one; NaN if none is."""
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


class Curve:
    """
    Scores in descending order, cut where groups of equal scores hold a fraud.

    Between two such groups only the weight matters, so a resample costs one pass over its weights.
    """

    def __init__(self, y: Floats, scores: Floats) -> None:
        if np.isnan(scores).any():
            raise DetectorError("a row without a score cannot be judged")
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

    def measured(self, weights: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Average precision and area under the ROC curve of each resample, NaN where undefined."""
        if not len(self._cuts):
            nothing = np.full(len(weights), np.nan)
            return nothing, nothing
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
        """Sums over gap, group, gap, group …, (resamples, 2 × groups)."""
        starts = np.append(0, self._cuts[:-1])
        found = np.add.reduceat(w, np.minimum(starts, self._n - 1), axis=1, dtype=np.float64)
        if self._cuts[-1] < self._n:  # the last piece would run on to the end
            found[:, -1] = w[:, self._cuts[-2] : self._cuts[-1]].sum(axis=1, dtype=np.float64)
        found[:, starts == self._cuts] = 0.0  # an empty gap
        return found


def _mean_of_known(values: Floats) -> Floats:
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))


def _summed(parts: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
