"""
How good flags will turn out to be, before anybody knows: what calibrated probabilities expect, with an interval.

Probabilities alone are too sure of themselves: a model's calibration is off in one direction or the other, by more in some
weeks than in others, and frauds come in clusters. All three are learned from earlier windows whose truth is known by then:
how far expectation and truth were apart, how much that varied, and how dispersed counts were. What has not been seen yet is a
prior that the first windows outweigh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from detectors.base import DetectorError, Floats

DRAWS = 20_000  # the ends of an alarm's interval, at 1 in 300, then rest on 60 draws a side
LEVEL = 0.5  # prior deviation, in logits, of how far probabilities are off: two thirds more or less
SPREAD = 0.05  # prior scale, in logits, of how much that varies from window to window
SPREADS = np.geomspace(0.02, 2.0, 25)  # the grid of spreads that is weighed
DISPERSION, DISPERSION_LOG = (
    1.0,
    0.4,
)  # prior of a count's variance over that of independent frauds, and its log's deviation
DISPERSIONS = np.geomspace(0.5, 8.0, 13)
HALF_LIFE = 3.0  # windows: what taught long ago was another model
SEED = 7


@dataclass(frozen=True)
class Expected:
    """What probabilities expect of some transactions."""

    n: int
    frauds: float  # Σ p
    variance: float  # Σ p (1 − p)
    loss: float = 0.0  # Σ p · loss
    loss_square: float = 0.0  # Σ p · loss²

    @classmethod
    def of(cls, probability: Floats, loss: Floats) -> "Expected":
        """
        Add up the expectations of transactions.

        Parameters
        ----------
        probability, loss
            (n,) that it is fraud, and what it then costs to miss it.

        Raises
        ------
        DetectorError
            A probability outside [0, 1], or NaN.
        """
        p = np.asarray(probability, dtype=np.float64)
        if not ((p >= 0) & (p <= 1)).all():
            raise DetectorError("expectations need a probability from 0 to 1 for every transaction")
        return cls(len(p), float(p.sum()), float(p @ (1 - p)), float(p @ loss), float(p @ loss**2))

    @property
    def rate(self) -> float:
        """Share of fraud, kept off 0 and 1 by a twentieth of a transaction."""
        return (self.frauds + 0.05) / (self.n + 0.1)

    @property
    def evenness(self) -> float:
        """Variance of the count over that of as many transactions with one probability: less than 1 where they differ."""
        alike = self.frauds * (1 - self.frauds / self.n) if self.n else 0.0
        return min(1.0, (self.variance + 0.05) / (alike + 0.05))

    @property
    def loss_variation(self) -> float:
        """Squared coefficient of variation of the loss of one fraud."""
        if not (self.loss > 0 and self.frauds > 0):
            return 0.0
        found = (self.loss_square / self.loss) / (self.loss / self.frauds) - 1.0
        return found if found > 1e-9 else 0.0


@dataclass(frozen=True)
class Past:
    """A window whose truth is known: what was expected and what came; `age` in windows."""

    expected: Expected
    frauds: float
    age: float


@dataclass(frozen=True)
class Learned:
    """
    How far truth lies from expectation, in logits.

    Weights over a grid of spreads and dispersions, and for each the level's mean and deviation; all (k,).
    """

    weight: Floats
    mean: Floats
    deviation: Floats
    spread: Floats
    dispersion: Floats

    def draw(self, rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
        """Shifts of a window to come, and the dispersions that go with them, (size,) each."""
        place = np.searchsorted(np.cumsum(self.weight), rng.random(size) * self.weight.sum())
        place = np.minimum(place, len(self.weight) - 1)
        deviation = np.hypot(self.deviation[place], self.spread[place])
        shift = self.mean[place] + deviation * rng.standard_normal(size)
        return np.asarray(shift), self.dispersion[place]


@dataclass(frozen=True)
class Estimated:
    """An estimate, the interval that covers the truth at the rate asked for, and a wider one beyond which is an alarm."""

    value: float
    lower: float
    upper: float
    alarm_below: float
    alarm_above: float


def learn(past: Sequence[Past]) -> Learned:
    """
    Learn from windows of the past how far expectations were off, the newest counting most.

    Each window's logit of the true share less that of the expected one is normal around a common level, with the variance of
    its own count times a dispersion, and the spread between windows. For every pair of spread and dispersion of a grid the
    level's posterior is exact, and the pair is weighed by its marginal likelihood (Gelman et al. 2013, *Bayesian Data
    Analysis*, section 5.4); a window of age a counts 2^(−a / `HALF_LIFE`).
    """
    seen = [one for one in past if one.expected.n > 0]
    spread, dispersion = (grid.ravel() for grid in np.meshgrid(SPREADS, DISPERSIONS, indexing="ij"))
    n = np.array([one.expected.n for one in seen], dtype=np.float64)
    came = (np.array([one.frauds for one in seen]) + 0.5) / (
        n + 1
    )  # half a fraud and half a genuine one more, so that
    rate = (np.array([one.expected.frauds for one in seen]) + 0.5) / (n + 1)  # no logit is infinite
    apart = logit(came) - logit(rate)
    of_count = np.array([one.expected.evenness for one in seen]) / (n * rate * (1 - rate))
    variance = dispersion[:, None] * of_count + spread[:, None] ** 2  # (k, windows)
    counted = np.exp2(-np.array([one.age for one in seen]) / HALF_LIFE)
    precision = 1 / LEVEL**2 + np.sum(counted / variance, axis=1)
    mean = np.sum(counted * apart / variance, axis=1) / precision
    fit = np.sum(counted * (np.log(variance) + apart**2 / variance), axis=1) + np.log(precision)
    of_dispersion = np.log(dispersion / DISPERSION) / DISPERSION_LOG
    of_spread = 2 * np.log1p((spread / SPREAD) ** 2) - 2 * np.log(
        spread
    )  # half Cauchy, on an even grid of logarithms
    weight = -0.5 * (fit - mean**2 * precision + of_dispersion**2 + of_spread)
    weight = np.exp(weight - weight.max())
    return Learned(weight / weight.sum(), mean, 1 / np.sqrt(precision), spread, dispersion)


def estimate(
    flagged: Expected,
    rest: Expected,
    of_flagged: Learned,
    of_rest: Learned,
    review: float,
    confidence: float,
    alarm_confidence: float,
) -> Mapping[str, Estimated]:
    """
    Estimate what flags will turn out to have caught, missed and cost.

    Parameters
    ----------
    flagged, rest
        What probabilities expect of the flagged transactions and of all others.
    of_flagged, of_rest
        What the past teaches about either.
    review
        Cost of a flag on a genuine transaction.
    confidence, alarm_confidence
        Of the interval, and of the one beyond which the truth is an alarm.

    Returns
    -------
    Medians of `caught`, `missed`, `frauds`, `cost`, `precision` and `recall` with their intervals; NaN where there is nothing to take a share of.
    """
    rng = np.random.default_rng(SEED)
    caught = _counts(rng, flagged, of_flagged)
    missed = _counts(rng, rest, of_rest)
    lost = _losses(rng, rest, missed)
    drawn = {
        "caught": caught,
        "missed": missed,
        "frauds": caught + missed,
        "cost": lost + review * (flagged.n - caught),
    }
    drawn["precision"] = caught / flagged.n if flagged.n else np.full(DRAWS, np.nan)
    drawn["recall"] = _share(caught, caught + missed)
    return {name: _interval(values, confidence, alarm_confidence) for name, values in drawn.items()}


def _counts(rng: np.random.Generator, expected: Expected, learned: Learned) -> Floats:
    """Frauds among the transactions: their share beta around the shifted expectation, as even and dispersed as learned."""
    if not expected.n:
        return np.zeros(DRAWS)
    shift, dispersion = learned.draw(rng, DRAWS)
    share = expit(logit(expected.rate) + shift)
    concentration = np.maximum(expected.n / (dispersion * expected.evenness) - 1, 0.5)
    drawn = rng.beta(share * concentration, (1 - share) * concentration)
    return np.asarray(np.floor(drawn * expected.n + rng.random(DRAWS)))


def _losses(rng: np.random.Generator, expected: Expected, frauds: Floats) -> Floats:
    """What so many frauds cost together: their mean loss varies less the more of them there are."""
    mean = expected.loss / expected.frauds if expected.frauds > 0 else 0.0
    if expected.loss_variation == 0:
        return frauds * mean
    shape = np.maximum(frauds, 1.0) / expected.loss_variation
    return np.asarray(frauds * mean * rng.gamma(shape) / shape)


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share


def _interval(drawn: Floats, confidence: float, alarm_confidence: float) -> Estimated:
    """The median and the ends; NaN where less than half of the draws are defined."""
    known = drawn[~np.isnan(drawn)]
    if len(known) < len(drawn) / 2:
        return Estimated(*[float("nan")] * 5)
    tails = [
        (1 - confidence) / 2,
        (1 + confidence) / 2,
        (1 - alarm_confidence) / 2,
        (1 + alarm_confidence) / 2,
    ]
    ends = np.quantile(known, tails, method="inverted_cdf")
    return Estimated(float(np.median(known)), *(float(end) for end in ends))
