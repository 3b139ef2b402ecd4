"""
How good flags were, once the truth of a span is known.

Shares are binomial, their intervals those of effective counts: frauds with a common cause count once, so that twenty on one
card are not twenty. Sums, means and rankings have intervals by resampling whole entities. What cannot be computed is NaN with
a sentence that says why, never a zero.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats, Ints
from detectors.evaluation import comparison
from detectors.evaluation.calibration import reliability
from detectors.evaluation.metrics import percentiles, ratio
from detectors.evaluation.prevalence import effective_among, measure

BINS = 5  # of about equal weight, for reliability
CELLS = 4_000_000  # resampled weights held at once: 16 MB
SEED = 7
NAN = float("nan")
Bools = NDArray[np.bool_]

NO_FLAG = "nothing was flagged"
NO_FRAUD = "no fraud is known among them"
NO_CAUGHT = "no fraud is known among what was flagged"
NO_PROBABILITY = "the outlier detector ranks, it gives no probability"
NO_STAKE = "flagging nothing, or everything, would have been free"
NO_ROWS = "no transaction with a known truth"


@dataclass(frozen=True)
class Outcome:
    """Scored transactions whose truth is known, in order of time; all (n,)."""

    y: Floats  # 1 fraud, 0 genuine
    flagged: Bools  # by a detector; what was drawn at random is not
    channel: NDArray[np.object_]  # of the flag
    model_id: Ints
    score: Floats
    probability: Floats  # NaN under `outlier`
    loss: Floats  # what missing it costs or would cost
    money: Floats  # its newest amount less refunds
    time: Ints  # µs
    entities: Sequence[Ints]  # codes of each entity column, −1 for none; the first one's are resampled

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Bools) -> "Outcome":
        """The rows asked for."""
        one_each = {name: value[rows] for name, value in vars(self).items() if name != "entities"}
        return replace(self, **one_each, entities=[codes[rows] for codes in self.entities])

    @property
    def fraud(self) -> Bools:
        """Which are fraud."""
        return np.asarray(self.y == 1)

    def effective(self, rows: Bools) -> float:
        """How many frauds these are if those with a common cause count once."""
        return effective_among(rows, self.entities)


@dataclass(frozen=True)
class Measured:
    """One measure with its interval and the count it rests on; NaN where it is not defined, and then `said` why."""

    metric: str
    value: float
    lower: float = NAN
    upper: float = NAN
    n: int = 0
    said: str | None = None


def measured(outcome: Outcome, review: float, confidence: float) -> list[Measured]:
    """
    Everything about all flags of a span together.

    Parameters
    ----------
    review
        Cost of a flag on a genuine transaction.
    confidence
        Of every interval.
    """
    return [
        *core(outcome, review, confidence),
        *_calibration(outcome, confidence),
        _delay(outcome, confidence),
    ]


def core(outcome: Outcome, review: float, confidence: float) -> list[Measured]:
    """Counts, precision, recall, average precision, cost, savings and money."""
    flagged, fraud = outcome.flagged, outcome.fraud
    caught = flagged & fraud
    counts = {"flags": flagged, "frauds": fraud, "caught": caught, "missed": fraud & ~flagged}
    found = [Measured("transactions", float(len(outcome)), n=len(outcome))]
    found += [Measured(name, float(rows.sum()), n=len(outcome)) for name, rows in counts.items()]
    found.append(_precision(outcome, flagged, confidence))
    found.append(_recall(outcome, flagged, confidence))
    return found + list(_resampled(outcome, review, confidence))


def of_channel(outcome: Outcome, channel: str, review: float, confidence: float) -> list[Measured]:
    """
    What one channel's flags were worth: its share of frauds among them, its share of all frauds, and the money.

    `cost` is that of reviewing its genuine flags, `avoided` what the frauds it caught would have cost.
    """
    flags = outcome.flagged & (outcome.channel == channel)
    caught = flags & outcome.fraud
    n = int(flags.sum())
    return [
        Measured("flags", float(n), n=n),
        Measured("caught", float(caught.sum()), n=n, said=None if caught.any() or not n else NO_CAUGHT),
        _precision(outcome, flags, confidence),
        _recall(outcome, flags, confidence),
        Measured("cost", review * float((flags & ~outcome.fraud).sum()), n=n),
        Measured("avoided", float(outcome.loss[caught].sum()), n=n),
    ]


def of_audit(drawn: Floats, rest: int, caught: int, confidence: float) -> list[Measured]:
    """
    What transactions drawn at random from those not flagged say of the frauds that nobody reports.

    Parameters
    ----------
    drawn
        (k,) 1 fraud, 0 genuine, of those that were reviewed.
    rest
        How many were not flagged.
    caught
        Frauds that were.
    """
    n, frauds = len(drawn), float(np.sum(drawn))
    if not n:
        return []
    found = measure(n, frauds, frauds, confidence=confidence)
    low, value, high = (share * rest for share in (found.lower, frauds / n, found.upper))
    recall, worst, best = (float(ratio(caught, caught + missed)) for missed in (value, high, low))
    return [
        Measured("audit_fraud_share", frauds / n, found.lower, found.upper, n),
        Measured("audit_recall", recall, worst, best, n, said=None if caught + value else NO_FRAUD),
    ]


def binomial(part: float, whole: float, effective: float, confidence: float) -> tuple[float, float]:
    """
    Ends of the Clopper–Pearson interval of part / whole, `effective` being how many independent successes there were.

    NaN without anything to take a share of.
    """
    if whole <= 0:
        return NAN, NAN
    found = measure(whole, part, min(max(effective, min(1.0, part)), part), confidence=confidence)
    return found.lower, found.upper


def _precision(outcome: Outcome, flags: Bools, confidence: float) -> Measured:
    n, caught = int(flags.sum()), flags & outcome.fraud
    if not n:
        return Measured("precision", NAN, said=NO_FLAG)
    ends = binomial(float(caught.sum()), n, outcome.effective(caught), confidence)
    return Measured("precision", float(caught.sum()) / n, *ends, n=n)


def _recall(outcome: Outcome, flags: Bools, confidence: float) -> Measured:
    """Frauds of one cause are caught or missed together: the interval counts causes."""
    n, caught = int(outcome.fraud.sum()), float((flags & outcome.fraud).sum())
    if not n:
        return Measured("recall", NAN, said=NO_FRAUD)
    causes = outcome.effective(outcome.fraud)
    part = caught / n * causes
    ends = binomial(part, causes, part, confidence)
    return Measured("recall", caught / n, *ends, n=n)


def _resampled(outcome: Outcome, review: float, confidence: float) -> Iterator[Measured]:
    """Sums, and average precision, with intervals by resampling entities."""
    n, frauds = len(outcome), int(outcome.fraud.sum())
    names = ("average_precision", "cost", "savings", "money_caught", "money_missed")
    if not n:
        yield from (Measured(name, NAN, said=NO_ROWS) for name in names)
        return
    entity, sums = _codes(outcome), _sums(outcome, review)
    whole = _from_sums(sums.sum(axis=1, keepdims=True))
    by_entity = np.array([np.bincount(entity, weights=row) for row in sums])
    curve = comparison.Curve(outcome.y, outcome.score)
    parts: list[dict[str, Floats]] = []
    for weights in comparison.resamples(by_entity.shape[1], SEED, max(1, CELLS // n)):
        ap, _ = curve.measured(weights[:, entity])
        of_sums = _from_sums(by_entity @ weights.T.astype(np.float64))
        parts.append({"average_precision": ap} | of_sums)
    ones = np.ones((1, n), dtype=np.float32)
    values = {"average_precision": curve.measured(ones)[0]} | whole
    for name in names:
        value = float(values[name][0])
        ends = percentiles(np.concatenate([part[name] for part in parts]), confidence)
        why = None if not np.isnan(value) else NO_STAKE if frauds else NO_FRAUD
        yield Measured(name, value, *ends, n=n, said=why)


def _sums(outcome: Outcome, review: float) -> Floats:
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


def _from_sums(sums: Floats) -> dict[str, Floats]:
    cost, flag_none, flag_all, caught, missed = sums
    savings = 1 - ratio(cost, np.minimum(flag_none, flag_all))
    return {"cost": cost, "savings": savings, "money_caught": caught, "money_missed": missed}


def _calibration(outcome: Outcome, confidence: float) -> Iterator[Measured]:
    """Observed over expected frauds, the Brier score, and reliability by bins of equal weight."""
    known = outcome.take(~np.isnan(outcome.probability))
    if not len(known):
        yield Measured("observed_over_expected", NAN, said=NO_PROBABILITY if len(outcome) else NO_ROWS)
        yield Measured("brier", NAN, said=NO_PROBABILITY if len(outcome) else NO_ROWS)
        return
    p, n = known.probability, len(known)
    low, high = binomial(float(known.y.sum()), n, known.effective(known.fraud), confidence)
    over = n / float(p.sum())
    yield Measured("observed_over_expected", float(known.y.mean()) * over, low * over, high * over, n)
    squares = np.bincount(_codes(known), weights=(p - known.y) ** 2).astype(np.float64)
    sizes = np.bincount(_codes(known)).astype(np.float64)
    yield Measured(
        "brier", float(np.mean((p - known.y) ** 2)), *_interval_of_mean(squares, sizes, confidence), n=n
    )
    cluster = known.effective(known.fraud) / max(1.0, float(known.y.sum()))
    for place, one in enumerate(reliability(p, known.y, bins=BINS), start=1):
        inside = binomial(one.frauds, one.rows, one.frauds * cluster, confidence)
        yield Measured(f"reliability_{place}", one.rate, *inside, n=one.rows)
        yield Measured(f"predicted_{place}", one.mean, one.lower, one.upper, n=one.rows)


def _delay(outcome: Outcome, confidence: float) -> Measured:
    """Mean days from an entity's first fraud to its first flagged one, of entities that had one."""
    entity = _codes(outcome)
    rows = comparison.Rows(outcome.y, outcome.loss, entity, outcome.time, outcome.time // comparison.DAY)
    _, days = comparison.delays(rows, outcome.flagged)
    caught = days[~np.isnan(days)]
    if not len(caught):
        return Measured("detection_delay", NAN, said=NO_CAUGHT if len(days) else NO_FRAUD)
    ends = _interval_of_mean(caught, np.ones(len(caught)), confidence)
    return Measured("detection_delay", float(caught.mean()), *ends, n=len(caught))


def _codes(outcome: Outcome) -> Ints:
    """Who is resampled, from 0 on: the first entity; a transaction without one stands alone."""
    alone = np.arange(len(outcome), dtype=np.int64)
    if not outcome.entities:
        return alone
    codes = outcome.entities[0].astype(np.int64)
    named = np.where(codes < 0, codes.max(initial=0) + 1 + alone, codes)
    return np.unique(named, return_inverse=True)[1].astype(np.int64)


def _interval_of_mean(sums: Floats, sizes: Floats, confidence: float) -> tuple[float, float]:
    drawn = [
        ratio(weights @ sums, weights @ sizes)
        for part in comparison.resamples(len(sums), SEED, max(1, CELLS // len(sums)))
        for weights in [part.astype(np.float64)]
    ]
    return percentiles(np.concatenate(drawn), confidence)
