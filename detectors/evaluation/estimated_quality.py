"""
Estimated quality of flags before labels arrive: the expectation of calibrated probabilities, with prediction intervals.

Probabilities alone would give intervals that are too narrow: a model is miscalibrated in one direction, by more in some weeks
than in others, and frauds come in clusters (overdispersion). All three are learned from earlier windows with mature labels:
the calibration shift, its variation between windows, and the dispersion of counts. Until windows outweigh them, priors hold,
which come from the training: the fewer frauds were held out to calibrate on, the larger the shift may be, and counts are as
dispersed as the known frauds are clustered. With fewer than `MIN_FRAUDS` held-out frauds nothing should be estimated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from detectors.base import DetectorError, Floats

# Number of Monte Carlo samples: the ends of an alarm's interval, at 1 in 300, rest on 60 samples a side.
N_SAMPLES = 20_000
SHIFT = 0.5  # prior standard deviation, in logits, of the calibration shift under many held-out frauds: two thirds more or less
SHIFT_FEW = 2.0  # the standard deviation that one held-out fraud adds; n add a share 1/√n of it
MIN_FRAUDS = 20.0  # held-out frauds, clusters counted once: with fewer an interval would say next to nothing
SPREAD = 0.05  # prior scale, in logits, of the variation of the shift between windows
SPREADS = np.geomspace(0.02, 2.0, 25)  # grid of spreads
# Prior standard deviation of the logarithm of a count's variance relative to independent frauds.
DISPERSION_LOG = 0.4
DISPERSIONS = np.geomspace(0.5, 8.0, 13)
HALF_LIFE = 3.0  # windows: older windows were scored by older models
SEED = 7


@dataclass(frozen=True)
class ExpectedFrauds:
    """Expected frauds and losses of a set of transactions, from calibrated probabilities."""

    n: int
    frauds: float  # Σ p
    variance: float  # Σ p (1 − p)
    loss: float = 0.0  # Σ p · loss
    loss_square: float = 0.0  # Σ p · loss²

    @classmethod
    def of(cls, probability: Floats, loss: Floats) -> "ExpectedFrauds":
        """
        Sum the expectations of transactions.

        Parameters
        ----------
        probability, loss
            (n,) probability of fraud, and the loss if the fraud is missed.

        Raises
        ------
        DetectorError
            A probability is NaN or outside [0, 1].
        """
        p = np.asarray(probability, dtype=np.float64)
        if not ((p >= 0) & (p <= 1)).all():
            raise DetectorError("expectations need a probability from 0 to 1 for every transaction")
        return cls(len(p), float(p.sum()), float(p @ (1 - p)), float(p @ loss), float(p @ loss**2))

    @property
    def rate(self) -> float:
        """Expected share of fraud, kept away from 0 and 1 by a twentieth of a transaction."""
        return (self.frauds + 0.05) / (self.n + 0.1)

    @property
    def variance_ratio(self) -> float:
        """Variance of the count relative to transactions with equal probabilities; below 1 if probabilities differ."""
        equal = self.frauds * (1 - self.frauds / self.n) if self.n else 0.0
        return min(1.0, (self.variance + 0.05) / (equal + 0.05))

    @property
    def loss_variation(self) -> float:
        """Squared coefficient of variation of the loss of one fraud."""
        if not (self.loss > 0 and self.frauds > 0):
            return 0.0
        variation = (self.loss_square / self.loss) / (self.loss / self.frauds) - 1.0
        return variation if variation > 1e-9 else 0.0


@dataclass(frozen=True)
class PastWindow:
    """A window with mature labels: its expected and observed frauds; `age` in windows."""

    expected: ExpectedFrauds
    frauds: float
    age: float


@dataclass(frozen=True)
class Calibration:
    """
    What a model's probabilities rest on.

    Attributes
    ----------
    frauds
        Frauds that were held out from fitting and calibrated on; clusters on one entity count once.
    cluster
        Mean number of known frauds with a common cause, 1 or more.
    """

    frauds: float
    cluster: float


@dataclass(frozen=True)
class ShiftPosterior:
    """
    Posterior of the calibration shift: how far observed fraud rates lie from expected ones, in logits.

    Weights over a grid of spreads and dispersions, and for each the mean and standard deviation of the shift; all (k,).
    """

    weight: Floats
    mean: Floats
    deviation: Floats
    spread: Floats
    dispersion: Floats

    def sample(self, rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
        """Samples of the shift of a future window and of the dispersion, (size,) each."""
        place = np.searchsorted(np.cumsum(self.weight), rng.random(size) * self.weight.sum())
        place = np.minimum(place, len(self.weight) - 1)
        deviation = np.hypot(self.deviation[place], self.spread[place])
        shift = self.mean[place] + deviation * rng.standard_normal(size)
        return np.asarray(shift), self.dispersion[place]


@dataclass(frozen=True)
class QualityEstimate:
    """An estimated metric with its prediction interval, and a wider interval outside of which an alarm is raised."""

    value: float
    lower: float
    upper: float
    alarm_below: float
    alarm_above: float


def fit_shift_posterior(past: Sequence[PastWindow], calibration: Calibration) -> ShiftPosterior:
    """
    Learn the calibration shift from past windows, of which newer ones have more weight.

    Before any, the shift has the variance `SHIFT`² + `SHIFT_FEW`² / frauds, as that of a rate that is estimated from so many.

    In each window the logit of the observed share minus that of the expected share is normal around a common shift; its variance
    is the count's variance times a dispersion, plus the spread between windows. For every pair of spread and dispersion of a grid
    the posterior of the shift is exact, and the pair is weighted by its marginal likelihood (Gelman et al. 2013, *Bayesian Data
    Analysis*, section 5.4); a window of age a has weight 2^(−a / `HALF_LIFE`).
    """
    windows = [window for window in past if window.expected.n > 0]
    spread, dispersion = (grid.ravel() for grid in np.meshgrid(SPREADS, DISPERSIONS, indexing="ij"))
    n = np.array([window.expected.n for window in windows], dtype=np.float64)
    # Half a fraud and half a genuine transaction are added, so that no logit is infinite.
    observed = (np.array([window.frauds for window in windows]) + 0.5) / (n + 1)
    rate = (np.array([window.expected.frauds for window in windows]) + 0.5) / (n + 1)
    shift = logit(observed) - logit(rate)
    count_variance = np.array([window.expected.variance_ratio for window in windows]) / (
        n * rate * (1 - rate)
    )
    own = SHIFT_FEW / np.sqrt(max(calibration.frauds, 1.0))
    between = np.hypot(spread, own)
    variance = dispersion[:, None] * count_variance + between[:, None] ** 2  # (k, windows)
    recency = np.exp2(-np.array([window.age for window in windows]) / HALF_LIFE)
    precision = 1 / SHIFT**2 + np.sum(recency / variance, axis=1)
    mean = np.sum(recency * shift / variance, axis=1) / precision
    fit = np.sum(recency * (np.log(variance) + shift**2 / variance), axis=1) + np.log(precision)
    dispersion_prior = np.log(dispersion / calibration.cluster) / DISPERSION_LOG
    spread_prior = 2 * np.log1p((spread / SPREAD) ** 2) - 2 * np.log(
        spread
    )  # half-Cauchy prior on a logarithmic grid
    weight = -0.5 * (fit - mean**2 * precision + dispersion_prior**2 + spread_prior)
    weight = np.exp(weight - weight.max())
    return ShiftPosterior(weight / weight.sum(), mean, 1 / np.sqrt(precision), between, dispersion)


def estimate(
    flagged: ExpectedFrauds,
    rest: ExpectedFrauds,
    flagged_shift: ShiftPosterior,
    rest_shift: ShiftPosterior,
    review: float,
    confidence: float,
    alarm_confidence: float,
) -> Mapping[str, QualityEstimate]:
    """
    Estimate the frauds that flags caught and missed, and their cost.

    Parameters
    ----------
    flagged, rest
        Expectations of the flagged transactions and of all others.
    flagged_shift, rest_shift
        Posterior of the calibration shift of either.
    review
        Cost of a flag on a genuine transaction.
    confidence, alarm_confidence
        Confidence levels of the prediction interval and of the interval outside of which an alarm is raised.

    Returns
    -------
    Medians of `caught`, `missed`, `frauds`, `cost`, `precision` and `recall` with their intervals; NaN where undefined.
    """
    rng = np.random.default_rng(SEED)
    caught, _ = _counts(rng, flagged, flagged_shift)
    missed, dispersion = _counts(rng, rest, rest_shift)
    lost = _losses(rng, rest, missed, dispersion)
    samples = {
        "caught": caught,
        "missed": missed,
        "frauds": caught + missed,
        "cost": lost + review * (flagged.n - caught),
    }
    samples["precision"] = caught / flagged.n if flagged.n else np.full(N_SAMPLES, np.nan)
    samples["recall"] = _share(caught, caught + missed)
    return {name: _interval(values, confidence, alarm_confidence) for name, values in samples.items()}


def _counts(
    rng: np.random.Generator, expected: ExpectedFrauds, posterior: ShiftPosterior
) -> tuple[Floats, Floats]:
    """Samples of the number of frauds and of its dispersion: a beta-distributed share around the shifted expectation."""
    if not expected.n:
        return np.zeros(N_SAMPLES), np.ones(N_SAMPLES)
    shift, dispersion = posterior.sample(rng, N_SAMPLES)
    share = expit(logit(expected.rate) + shift)
    concentration = np.maximum(expected.n / (dispersion * expected.variance_ratio) - 1, 0.5)
    samples = rng.beta(share * concentration, (1 - share) * concentration)
    return np.floor(samples * expected.n + rng.random(N_SAMPLES)), dispersion


def _losses(rng: np.random.Generator, expected: ExpectedFrauds, frauds: Floats, dispersion: Floats) -> Floats:
    """Samples of the total loss of so many frauds: the more clusters of frauds, the less their mean loss varies."""
    mean = expected.loss / expected.frauds if expected.frauds > 0 else 0.0
    if expected.loss_variation == 0:
        return frauds * mean
    shape = np.maximum(frauds / dispersion, 1.0) / expected.loss_variation
    return np.asarray(frauds * mean * rng.gamma(shape) / shape)


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share


def _interval(samples: Floats, confidence: float, alarm_confidence: float) -> QualityEstimate:
    """The median and the ends of the intervals; NaN if less than half of the samples are defined."""
    defined = samples[~np.isnan(samples)]
    if len(defined) < len(samples) / 2:
        return QualityEstimate(*[float("nan")] * 5)
    tails = [
        (1 - confidence) / 2,
        (1 + confidence) / 2,
        (1 - alarm_confidence) / 2,
        (1 + alarm_confidence) / 2,
    ]
    ends = np.quantile(defined, tails, method="inverted_cdf")
    return QualityEstimate(float(np.median(defined)), *(float(end) for end in ends))
