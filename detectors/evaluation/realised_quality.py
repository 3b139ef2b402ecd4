"""
Realised quality of flags, computed from the mature labels of a span.

Rates have binomial confidence intervals with effective counts: frauds with a common cause count once, so that twenty on one
card count as one. Sums, means and ranking metrics have cluster bootstrap intervals. A metric that cannot be computed is NaN
with the reason, never zero.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats, Ints
from detectors.evaluation import comparison
from detectors.evaluation.calibration import reliability
from detectors.evaluation.comparison import Bools
from detectors.evaluation.metrics import percentile_interval, ratio
from detectors.evaluation.prevalence import effective_among, estimate_prevalence

BINS = 5  # of about equal size, for reliability
CELLS = 4_000_000  # bootstrap weights in memory at once: 16 MB
SEED = 7
NAN = float("nan")

NO_FLAG = "nothing was flagged"
NO_FRAUD = "no fraud is known among them"
NO_CAUGHT = "no fraud is known among what was flagged"
NO_PROBABILITY = "the outlier detector ranks, it gives no probability"
NO_STAKE = "flagging nothing, or everything, would have been free"
NO_ROWS = "no transaction with a known truth"


@dataclass(frozen=True)
class Outcome:
    """Scored transactions with mature labels, in order of time; all (n,)."""

    y: Floats  # 1 fraud, 0 genuine
    flagged: Bools  # by a detector; random audits are not flags
    channel: NDArray[np.object_]  # of the flag
    model_id: Ints
    score: Floats
    probability: Floats  # NaN under `outlier`
    loss: Floats  # cost of missing the transaction if it is fraud; other rows may have any
    money: Floats  # of a fraud: what was at risk if it is flagged, what is lost if it is not
    time: Ints  # µs
    entities: Sequence[Ints]  # codes of each entity column, −1 for none; the bootstrap resamples the first

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Bools) -> "Outcome":
        """A subset of the rows."""
        arrays = {name: value[rows] for name, value in vars(self).items() if name != "entities"}
        return replace(self, **arrays, entities=[codes[rows] for codes in self.entities])

    @property
    def fraud(self) -> Bools:
        """Mask of the frauds."""
        return np.asarray(self.y == 1)

    def effective(self, rows: Bools) -> float:
        """Effective number of frauds among the rows: those with a common cause count once."""
        return effective_among(rows, self.entities)


@dataclass(frozen=True)
class RealisedMetric:
    """One metric with its confidence interval and its count; NaN if it is not defined, then with the reason."""

    metric: str
    value: float
    lower: float = NAN
    upper: float = NAN
    n: int = 0
    undefined_because: str | None = None


def realised_metrics(outcome: Outcome, review: float, confidence: float) -> list[RealisedMetric]:
    """
    All metrics of all flags of a span together.

    Parameters
    ----------
    review
        Cost of a flag on a genuine transaction.
    confidence
        Confidence level of every interval.
    """
    return [
        *core_metrics(outcome, review, confidence),
        *_calibration(outcome, confidence),
        _delay(outcome, confidence),
    ]


def core_metrics(outcome: Outcome, review: float, confidence: float) -> list[RealisedMetric]:
    """Counts, precision, recall, average precision, cost, savings and money."""
    flagged, fraud = outcome.flagged, outcome.fraud
    caught = flagged & fraud
    counts = {"flags": flagged, "frauds": fraud, "caught": caught, "missed": fraud & ~flagged}
    metrics = [RealisedMetric("transactions", float(len(outcome)), n=len(outcome))]
    metrics += [RealisedMetric(name, float(rows.sum()), n=len(outcome)) for name, rows in counts.items()]
    metrics.append(_precision(outcome, flagged, confidence))
    metrics.append(_recall(outcome, flagged, confidence))
    return metrics + list(_bootstrapped(outcome, review, confidence))


def channel_metrics(outcome: Outcome, channel: str, review: float, confidence: float) -> list[RealisedMetric]:
    """
    Metrics of the flags of one channel: precision, recall and money.

    `cost` is that of reviewing its genuine flags, `avoided` the cost that the frauds it caught would have had.
    """
    flags = outcome.flagged & (outcome.channel == channel)
    caught = flags & outcome.fraud
    n = int(flags.sum())
    return [
        RealisedMetric("flags", float(n), n=n),
        RealisedMetric(
            "caught", float(caught.sum()), n=n, undefined_because=None if caught.any() or not n else NO_CAUGHT
        ),
        _precision(outcome, flags, confidence),
        _recall(outcome, flags, confidence),
        RealisedMetric("cost", review * float((flags & ~outcome.fraud).sum()), n=n),
        RealisedMetric("avoided", float(outcome.loss[caught].sum()), n=n),
    ]


def audit_metrics(reviewed: Floats, rest: int, caught: int, confidence: float) -> list[RealisedMetric]:
    """
    Estimate missed frauds that nobody reports from a random audit sample of the transactions that were not flagged.

    Parameters
    ----------
    reviewed
        (k,) 1 fraud, 0 genuine, of the audited transactions that were reviewed.
    rest
        Number of transactions that were not flagged.
    caught
        Number of frauds that were flagged.
    """
    n, frauds = len(reviewed), float(np.sum(reviewed))
    if not n:
        return []
    estimate = estimate_prevalence(n, frauds, frauds, confidence=confidence)
    low, value, high = (share * rest for share in (estimate.lower, frauds / n, estimate.upper))
    recall, worst, best = (float(ratio(caught, caught + missed)) for missed in (value, high, low))
    return [
        RealisedMetric("audit_fraud_share", frauds / n, estimate.lower, estimate.upper, n),
        RealisedMetric(
            "audit_recall", recall, worst, best, n, undefined_because=None if caught + value else NO_FRAUD
        ),
    ]


def binomial_interval(part: float, whole: float, effective: float, confidence: float) -> tuple[float, float]:
    """
    Clopper–Pearson interval of part / whole with `effective` independent successes.

    NaN if `whole` is 0.
    """
    if whole <= 0:
        return NAN, NAN
    estimate = estimate_prevalence(
        whole, part, min(max(effective, min(1.0, part)), part), confidence=confidence
    )
    return estimate.lower, estimate.upper


def _precision(outcome: Outcome, flags: Bools, confidence: float) -> RealisedMetric:
    n, caught = int(flags.sum()), flags & outcome.fraud
    if not n:
        return RealisedMetric("precision", NAN, undefined_because=NO_FLAG)
    ends = binomial_interval(float(caught.sum()), n, outcome.effective(caught), confidence)
    return RealisedMetric("precision", float(caught.sum()) / n, *ends, n=n)


def _recall(outcome: Outcome, flags: Bools, confidence: float) -> RealisedMetric:
    """Frauds with a common cause are caught or missed together, so the interval counts causes."""
    n, caught = int(outcome.fraud.sum()), float((flags & outcome.fraud).sum())
    if not n:
        return RealisedMetric("recall", NAN, undefined_because=NO_FRAUD)
    causes = outcome.effective(outcome.fraud)
    part = caught / n * causes
    ends = binomial_interval(part, causes, part, confidence)
    return RealisedMetric("recall", caught / n, *ends, n=n)


def _bootstrapped(outcome: Outcome, review: float, confidence: float) -> Iterator[RealisedMetric]:
    """Sums and average precision, with cluster bootstrap intervals."""
    n, frauds = len(outcome), int(outcome.fraud.sum())
    names = ("average_precision", "cost", "savings", "money_caught", "money_missed")
    if not n:
        yield from (RealisedMetric(name, NAN, undefined_because=NO_ROWS) for name in names)
        return
    entity, sums = _codes(outcome), _row_sums(outcome, review)
    whole = _metrics_of_sums(sums.sum(axis=1, keepdims=True))
    by_entity = np.array([np.bincount(entity, weights=row) for row in sums])
    curve = comparison.RankingCurve(outcome.y, outcome.score)
    parts: list[dict[str, Floats]] = []
    for weights in comparison.bootstrap_weights(by_entity.shape[1], SEED, max(1, CELLS // n)):
        ap, _ = curve.ap_and_auc(weights[:, entity])
        metrics = _metrics_of_sums(by_entity @ weights.T.astype(np.float64))
        parts.append({"average_precision": ap} | metrics)
    ones = np.ones((1, n), dtype=np.float32)
    values = {"average_precision": curve.ap_and_auc(ones)[0]} | whole
    for name in names:
        value = float(values[name][0])
        ends = percentile_interval(np.concatenate([part[name] for part in parts]), confidence)
        reason = None if not np.isnan(value) else NO_STAKE if frauds else NO_FRAUD
        yield RealisedMetric(name, value, *ends, n=n, undefined_because=reason)


def _row_sums(outcome: Outcome, review: float) -> Floats:
    caught, missed = outcome.fraud & outcome.flagged, outcome.fraud & ~outcome.flagged
    needless = review * (outcome.flagged & ~outcome.fraud)
    return np.array(
        [
            outcome.loss * missed + needless,
            outcome.loss * outcome.fraud,
            review * ~outcome.fraud,
            outcome.money * caught,
            outcome.money * missed,
        ],
        dtype=np.float64,
    )


def _metrics_of_sums(sums: Floats) -> dict[str, Floats]:
    cost, flag_none, flag_all, caught, missed = sums
    savings = 1 - ratio(cost, np.minimum(flag_none, flag_all))
    return {"cost": cost, "savings": savings, "money_caught": caught, "money_missed": missed}


def _calibration(outcome: Outcome, confidence: float) -> Iterator[RealisedMetric]:
    """Observed over expected frauds, the Brier score, and reliability by bins of equal size."""
    rows = outcome.take(~np.isnan(outcome.probability))
    if not len(rows):
        yield RealisedMetric(
            "observed_over_expected", NAN, undefined_because=NO_PROBABILITY if len(outcome) else NO_ROWS
        )
        yield RealisedMetric("brier", NAN, undefined_because=NO_PROBABILITY if len(outcome) else NO_ROWS)
        return
    p, n = rows.probability, len(rows)
    low, high = binomial_interval(float(rows.y.sum()), n, rows.effective(rows.fraud), confidence)
    over = n / float(p.sum())
    yield RealisedMetric("observed_over_expected", float(rows.y.mean()) * over, low * over, high * over, n)
    squares = np.bincount(_codes(rows), weights=(p - rows.y) ** 2).astype(np.float64)
    sizes = np.bincount(_codes(rows)).astype(np.float64)
    yield RealisedMetric(
        "brier", float(np.mean((p - rows.y) ** 2)), *_bootstrap_mean_interval(squares, sizes, confidence), n=n
    )
    cluster = rows.effective(rows.fraud) / max(1.0, float(rows.y.sum()))
    for place, group in enumerate(reliability(p, rows.y, bins=BINS), start=1):
        interval = binomial_interval(group.frauds, group.rows, group.frauds * cluster, confidence)
        yield RealisedMetric(f"reliability_{place}", group.rate, *interval, n=group.rows)
        yield RealisedMetric(f"predicted_{place}", group.mean, group.lower, group.upper, n=group.rows)


def _delay(outcome: Outcome, confidence: float) -> RealisedMetric:
    """Detection delay: mean days from an entity's first fraud to its first flagged one, over entities with a flagged fraud."""
    entity = _codes(outcome)
    rows = comparison.FoldRows(outcome.y, outcome.loss, entity, outcome.time, outcome.time // comparison.DAY)
    _, days = comparison.delays(rows, outcome.flagged)
    caught = days[~np.isnan(days)]
    if not len(caught):
        return RealisedMetric("detection_delay", NAN, undefined_because=NO_CAUGHT if len(days) else NO_FRAUD)
    ends = _bootstrap_mean_interval(caught, np.ones(len(caught)), confidence)
    return RealisedMetric("detection_delay", float(caught.mean()), *ends, n=len(caught))


def _codes(outcome: Outcome) -> Ints:
    """Clusters of the bootstrap, as codes from 0: the first entity, or the transaction itself if it has none."""
    alone = np.arange(len(outcome), dtype=np.int64)
    if not outcome.entities:
        return alone
    codes = outcome.entities[0].astype(np.int64)
    named = np.where(codes < 0, codes.max(initial=0) + 1 + alone, codes)
    return np.unique(named, return_inverse=True)[1].astype(np.int64)


def _bootstrap_mean_interval(sums: Floats, sizes: Floats, confidence: float) -> tuple[float, float]:
    means = [
        ratio(weights @ sums, weights @ sizes)
        for part in comparison.bootstrap_weights(len(sums), SEED, max(1, CELLS // len(sums)))
        for weights in [part.astype(np.float64)]
    ]
    return percentile_interval(np.concatenate(means), confidence)
