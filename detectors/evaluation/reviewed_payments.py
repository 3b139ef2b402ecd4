"""
Fraud among payments that people reviewed or stopped: what their labels are worth, and which other payments stand for them.

A payment that was stopped never gets a chargeback, so its silence proves nothing, and reviewers err. Reviewed payments are
not a random sample either. Both are repaired by payments that nobody looked at and that are as suspicious: these are compared
in strata of a score of how likely a payment is to be reviewed.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.base import Bools, DetectorError, Floats

Ints = NDArray[np.int64]

STRATA = 10  # at most; more follow the score more closely, but hold fewer frauds each
REVIEWED_MIN = 20  # reviewed payments in a stratum, and in all: with fewer, verdicts are taken at their word
COMPARABLE_MIN = 0.1  # unreviewed payments per reviewed one; a stratum with fewer compares nothing
CENSORED_MAX = 0.9  # share of a stratum that others stand for at most
# What is assumed of reviewers before anything is compared: they call 5 % of genuine payments fraud, give or take 5 %. More than a
# comparison in few strata, it keeps a chance difference from acquitting all that they stopped.
PRIOR_FALSE, PRIOR_SPREAD = 0.05, 0.05


@dataclass(frozen=True)
class KnownOutcomes:
    """
    What is known of n mature payments, (n,) each.

    Attributes
    ----------
    weight
        How many payments the row stands for.
    fraud
        Fraud by a report that no review brought: a chargeback, or the random audit sample.
    reviewed
        A verdict of a reviewer holds or once held.
    accused
        Fraud by a verdict alone. Such a payment was stopped, so that nobody else would report it.
    censored
        Stopped or refunded without a verdict: neither fraud nor genuine by silence.
    """

    weight: Floats
    fraud: Bools
    reviewed: Bools
    accused: Bools
    censored: Bools


@dataclass(frozen=True)
class CorrectedOutcomes:
    """
    The same payments as they count in estimates.

    Attributes
    ----------
    weight
        (n,) 0 for censored payments, more for those that stand for them.
    fraud
        (n,) the probability that each is fraud: 1 or 0, and between them for an accusation by reviewers alone.
    false_verdicts
        Share of the genuine payments under review that reviewers call fraud.
    variance
        Of the weighted number of frauds, as far as it comes from the uncertainty of `false_verdicts`.
    """

    weight: Floats
    fraud: Floats
    false_verdicts: float
    variance: float

    @property
    def frauds(self) -> float:
        """The weighted number of frauds."""
        return float(self.weight @ self.fraud)


def review_strata(score: Floats, reviewed: Bools) -> Ints:
    """
    Stratum of each payment, (n,) from 0: equally many reviewed payments in each, at most `STRATA`.

    Parameters
    ----------
    score
        (n,) how likely a payment is to be reviewed, in any unit. Payments below every reviewed one are a stratum of their own.
    """
    strata = min(STRATA, int(reviewed.sum()) // REVIEWED_MIN)
    if not strata:
        return np.zeros(len(score), dtype=np.int64)
    edges = np.unique(np.quantile(score[reviewed], np.arange(strata) / strata, method="inverted_cdf"))
    return np.searchsorted(edges, score, side="right").astype(np.int64)


def correct_outcomes(outcomes: KnownOutcomes, stratum: Ints) -> CorrectedOutcomes:
    """
    Replace censored payments by comparable ones, and weigh the accusations of reviewers.

    Parameters
    ----------
    stratum
        (n,) from 0, of `review_strata`. The result depends on the rows of each stratum, not on their order.

    Notes
    -----
    Censored: with c the weighted share of censored payments in a stratum, the others get weight 1 / (1 − c) and the
    censored ones 0 (inverse probability weighting; Horvitz & Thompson 1952, A generalization of sampling without replacement).

    Accused: a payment that a reviewer calls genuine goes on, and a chargeback tells if it was fraud. So among R reviewed payments of
    a stratum, W known frauds (accused or reported) are all T real ones and u (R − T) false accusations, where u is the share of genuine
    payments that reviewers accuse (Rogan & Gladen 1978, Estimating prevalence from the results of a screening test, with a
    sensitivity of 1). Unreviewed payments of the stratum have the share p of fraud, and if reviewed ones have it as well,
    W / R = p + u (1 − p). Each stratum gives an estimate of u; their mean by precision, shrunk toward `PRIOR_FALSE`, is
    used in all of them, also where nearly everything was reviewed and nothing compares. The u (R − W) / (1 − u) false accusations are
    spread evenly over the accused of the stratum.

    Leaving reviewed payments out and weighing unreviewed ones by 1 / (1 − r), with r the share of reviewed ones, needs the second
    assumption (p is that of reviewed payments) in each stratum for the number of frauds itself, and fails where everything was
    reviewed. Here it is needed for u alone, and u is best seen where fraud is rare, where the assumption matters least.
    In simulated worlds the interval covers the truth more often (docs/why.md).

    Limits: reviewers who err more often on suspicious payments than on others are trusted too much there. Payments that are
    reviewed for reasons that the score does not see are riskier than those that they are compared with, so u comes out too
    large and the number of frauds too small.

    Raises
    ------
    DetectorError
        Lengths differ.
    """
    _check(outcomes, stratum)
    strata = int(stratum.max(initial=-1)) + 1
    weight = _without_censored(outcomes, stratum, strata)
    of_reviewed, of_others = (
        np.where(chosen, weight, 0.0) for chosen in (outcomes.reviewed, ~outcomes.reviewed)
    )
    counts = _StratumCounts(
        reviewed=_sums(stratum, of_reviewed, strata),
        known_frauds=_sums(stratum, of_reviewed * (outcomes.fraud | outcomes.accused), strata),
        others=_sums(stratum, of_others, strata),
        other_frauds=_sums(stratum, of_others * outcomes.fraud, strata),
    )
    rate, variance = _false_verdicts(counts)
    false = rate / (1 - rate) * (counts.reviewed - counts.known_frauds)
    accused = _sums(stratum, weight * outcomes.accused, strata)
    share = np.divide(false, accused, out=np.zeros(strata), where=accused > 0)
    fraud = np.where(outcomes.fraud, 1.0, outcomes.accused * (1 - np.minimum(share, 1.0))[stratum])
    genuine = float((counts.reviewed - counts.known_frauds)[accused > 0].sum())
    return CorrectedOutcomes(weight, fraud, rate, genuine**2 * variance / (1 - rate) ** 4)


def weights_without_reviewed(outcomes: KnownOutcomes, stratum: Ints) -> Floats:
    """
    Weights of the payments, (n,), with unreviewed ones standing for reviewed and censored ones wherever there are enough.

    To compare models: the one that raised the flags brought the labels of reviewed payments, and may have learned from them. Reviewed
    payments keep their weight in strata of which they are more than `CENSORED_MAX`, or if there are fewer than `REVIEWED_MIN` in all.
    """
    _check(outcomes, stratum)
    strata = int(stratum.max(initial=-1)) + 1
    total = _sums(stratum, outcomes.weight, strata)
    reviewed = _sums(stratum, outcomes.weight * outcomes.reviewed, strata)
    replaced = outcomes.reviewed & (reviewed <= CENSORED_MAX * total)[stratum]
    if outcomes.reviewed.sum() < REVIEWED_MIN:
        replaced = np.zeros(len(stratum), dtype=bool)
    return _without_censored(replace(outcomes, censored=outcomes.censored | replaced), stratum, strata)


@dataclass(frozen=True)
class _StratumCounts:
    """Weighted payments of each stratum, (k,)."""

    reviewed: Floats
    known_frauds: Floats  # of `reviewed`: accused or reported
    others: Floats
    other_frauds: Floats


def _without_censored(outcomes: KnownOutcomes, stratum: Ints, strata: int) -> Floats:
    """Weights of payments, with those of a stratum's censored ones given to the others of the stratum."""
    total = _sums(stratum, outcomes.weight, strata)
    censored = _sums(stratum, outcomes.weight * outcomes.censored, strata)
    share = np.divide(censored, total, out=np.zeros(strata), where=total > 0)
    return np.where(outcomes.censored, 0.0, outcomes.weight / (1 - np.minimum(share, CENSORED_MAX))[stratum])


def _false_verdicts(counts: _StratumCounts) -> tuple[float, float]:
    """The share of genuine reviewed payments that reviewers call fraud, and its variance; 0 without enough reviews."""
    if counts.reviewed.sum() < REVIEWED_MIN:
        return 0.0, 0.0
    comparable = (counts.reviewed > 0) & (counts.others > COMPARABLE_MIN * counts.reviewed)
    n, m = counts.reviewed[comparable], counts.others[comparable]
    accused, fraud = counts.known_frauds[comparable] / n, counts.other_frauds[comparable] / m
    precision = 1 / (_variance(accused, n) + _variance(fraud, m))
    genuine = float(precision @ (1 - fraud))
    compared, variance = PRIOR_FALSE, np.inf
    if genuine:
        compared, variance = (
            float(precision @ (accused - fraud)) / genuine,
            float(precision.sum()) / genuine**2,
        )
    # a difference from the prior that chance does not explain (two standard errors) widens it
    spread = max(PRIOR_SPREAD**2, (compared - PRIOR_FALSE) ** 2 - 4 * variance)
    weight = spread / (spread + variance)
    rate = PRIOR_FALSE + weight * (compared - PRIOR_FALSE)
    return float(np.clip(rate, 0.0, 0.9)), spread * (1 - weight)


def _sums(stratum: Ints, weight: Floats, strata: int) -> Floats:
    """Sum of the weights of each stratum, (k,)."""
    return np.bincount(stratum, weight, strata).astype(np.float64)


def _variance(share: Floats, n: Floats) -> Floats:
    """Variance of a share of n, with one success and one failure more, so that a share of 0 is not certain."""
    smooth = (share * n + 1) / (n + 2)
    return np.asarray(smooth * (1 - smooth) / n)


def _check(outcomes: KnownOutcomes, stratum: Ints) -> None:
    lengths = {len(stratum), *(len(column) for column in vars(outcomes).values())}
    if len(lengths) > 1:
        raise DetectorError(f"outcomes and strata need one length, got {sorted(lengths)}")
