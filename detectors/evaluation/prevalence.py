"""
Prevalence of fraud: its share among mature transactions, with confidence intervals.

Frauds come in clusters: twenty payments with one stolen card are one theft. Both inputs of the strategy choice account
for that: the count of effective positives and the width of the interval (design effect).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from detectors.base import DetectorError, Floats

Codes = NDArray[np.integer]


@dataclass(frozen=True)
class ReviewCorrection:
    """How reviewed and stopped payments were put right in an estimate (`detectors.evaluation.reviewed_payments`)."""

    reviewed: int
    censored: int  # stopped or refunded without a verdict
    false_verdicts: float  # share of the genuine payments under review that reviewers call fraud
    uncorrected: float  # prevalence with verdicts at their word, and without the censored payments


@dataclass(frozen=True)
class PrevalenceEstimate:
    """Prevalence of fraud; `lower` and `upper` are used by gates, `display_lower` and `display_upper` shown to people."""

    mature: float  # transactions old enough to count as genuine if no fraud was reported
    positives: float  # frauds among them
    effective: float  # the same, clusters on one entity counted once
    prevalence: float | None  # None without a mature transaction
    lower: float  # Clopper–Pearson: coverage is at least the confidence level
    upper: float
    display_lower: float  # Jeffreys: narrower, coverage is the confidence level on average
    display_upper: float
    reviews: ReviewCorrection | None = None
    measured: float | None = None  # of the mature ones, those that prevalence was measured on, if not on all

    @property
    def assumed(self) -> float | None:
        """What an upper guess of probabilities assumes: the prevalence, or the upper end while no fraud is known."""
        return self.prevalence or (None if self.prevalence is None else self.upper)


def upper_guess(score: Floats, prevalence: float | None) -> Floats:
    """
    Upper guess of the probability of fraud by rank alone: min(1, prevalence / share above), share above = 1 − score; elementwise.

    If all fraud ranked at least as high as a row, this would be the share of fraud there, and no ranking can have more of it
    (the argument of Markov's inequality). How much less it has is not known without labels. NaN without a prevalence.
    """
    if prevalence is None:
        return np.full(len(score), np.nan)
    return np.minimum(1.0, prevalence / (1.0 - score))


def estimate_prevalence(
    mature: float,
    positives: float,
    effective: float,
    confidence: float = 0.95,
    display_confidence: float = 0.95,
) -> PrevalenceEstimate:
    """
    Estimate the prevalence among mature transactions, with confidence intervals.

    Clusters make a count less certain than its size suggests: with design effect D = positives / effective,
    both intervals are those of `effective` frauds among mature / D transactions, which keeps the point estimate and
    widens the interval (Korn & Graubard 1998, *Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data*). Without clusters they are the usual intervals.

    Parameters
    ----------
    mature, positives
        Transactions and frauds among them; fractional when they are sums of weights.
    effective
        Effective positives, from 1 to `positives` (`effective_positives`).
    confidence, display_confidence
        Confidence levels of the interval for gates and of the one for people, both two-sided.

    Raises
    ------
    DetectorError
        The counts are impossible, or a confidence level lies outside (0, 1).

    References
    ----------
    Brown, Cai & DasGupta (2001), Interval estimation for a binomial proportion (Jeffreys' ends at 0 and n).
    """
    _check(mature, positives, effective, confidence, display_confidence)
    if mature == 0:
        return PrevalenceEstimate(0.0, 0.0, 0.0, None, 0.0, 1.0, 0.0, 1.0)
    n = mature * effective / positives if positives else mature
    lower, upper = _clopper_pearson(effective, n, 1 - confidence)
    display_lower, display_upper = jeffreys(effective, n, 1 - display_confidence)
    return PrevalenceEstimate(
        mature, positives, effective, positives / mature, lower, upper, display_lower, display_upper
    )


def estimate_weighted_prevalence(
    weight: Floats, fraud: Floats, counted: Floats, clusters: float, variance: float = 0.0
) -> PrevalenceEstimate:
    """
    Estimate the prevalence among weighted transactions whose label may be uncertain: Σ weight · fraud / Σ weight.

    The number of frauds P = Σ weight · fraud has the variance V = D Σ weight² · counted + `variance`, with D the `clusters`.
    Unequal weights make it larger than P (Kish 1965, *Survey Sampling*), and the intervals are those of P² / V effective frauds.

    Parameters
    ----------
    weight
        (n,) how many transactions each row stands for.
    fraud
        (n,) the probability that it is fraud.
    counted
        (n,) 1 for rows that are fraud by a label, right or wrong: they are what varies.
    clusters
        Frauds per effective fraud, 1 or more.
    variance
        Of P for other reasons.
    """
    frauds = float(weight @ fraud)
    spread = clusters * float(weight**2 @ counted) + variance
    effective = min(max(frauds**2 / spread, min(1.0, frauds)), frauds) if frauds else 0.0
    return estimate_prevalence(max(float(weight.sum()), frauds), frauds, effective)


def effective_positives(*frauds: Codes, mature: Sequence[Codes] | None = None) -> float:
    """
    Effective number of frauds: frauds with a common cause count once.

    A fraud counts 1 if it stands alone, and less if an entity value has more frauds than its volume
    explains. A value with m frauds and e expected ones (its share of all mature transactions times all
    frauds) stands for min(m, 1 + e): one cause, and what would have happened there anyway. Twenty frauds on
    one card count once; five hundred at a merchant with half of all payments keep counting, and so do those
    of a shop that is the only merchant in the data. Each fraud counts the smallest share among its
    entities.

    Frauds alone cannot distinguish a stolen card from a popular merchant, so without `mature` related frauds must
    share two entities if there are three or more columns, and one if there are one or two.

    Parameters
    ----------
    frauds
        For each entity column the codes of the frauds, (positives,); negative codes are missing and relate no frauds.
    mature
        For each entity column, in the same order, the codes of all mature transactions, frauds included.

    Returns
    -------
    float
        From 1 to the number of frauds; 0 without frauds.

    Raises
    ------
    DetectorError
        There is no entity column, columns differ in length, or `mature` has another number of columns.
    """
    _check_columns(frauds, mature)
    if mature is None:
        counted = _corroborated(frauds)
    else:
        shares = [_explained(codes, everyone) for codes, everyone in zip(frauds, mature, strict=True)]
        counted = np.min(shares, axis=0)
    return round(float(np.sum(counted)), 6)  # ten tenths are one


def effective_among(fraud: NDArray[np.bool_], columns: Sequence[Codes]) -> float:
    """
    `effective_positives` of the frauds among mature transactions; without entity columns each fraud counts 1.

    Parameters
    ----------
    fraud
        (n,) mask of the frauds.
    columns
        For each entity column the codes of all transactions, (n,).
    """
    if not columns or not fraud.any():
        return float(fraud.sum())
    return effective_positives(*(codes[fraud] for codes in columns), mature=columns)


def describe_prevalence(prevalence: PrevalenceEstimate) -> str:
    """The fraud rate with its interval for people, as the first half of a sentence."""
    mature = f"{prevalence.mature:,.0f} mature transaction{'' if prevalence.mature == 1 else 's'}"
    if prevalence.measured is not None:
        mature = f"the {prevalence.measured:,.0f} of {mature} that are older than any label takes"
    mature += _describe_reviews(prevalence)
    if prevalence.prevalence is None:
        return "No transaction is mature yet, so the fraud rate is unknown"
    if prevalence.positives == 0:
        return (
            f"No known fraud among {mature}, so the fraud rate is at most {percent(prevalence.display_upper)}"
        )
    digits = _decimals(100 * prevalence.prevalence)
    rate, lower, upper = (
        f"{100 * share:.{digits}f}"
        for share in (prevalence.prevalence, prevalence.display_lower, prevalence.display_upper)
    )
    return f"Fraud rate {rate} % ({lower}–{upper} %) among {mature}"


def _describe_reviews(prevalence: PrevalenceEstimate) -> str:
    if prevalence.reviews is None or not prevalence.reviews.reviewed:
        return ""
    looked_at = prevalence.reviews.reviewed + prevalence.reviews.censored
    return f" ({looked_at:,} were stopped or reviewed; comparable ones stand for them)"


def describe_frauds(prevalence: PrevalenceEstimate) -> str:
    """The number of effective frauds; it counts frauds that reviewers found, which the rate leaves out."""
    effective, total = math.floor(prevalence.effective), math.floor(prevalence.positives)
    notes = [f"of {prevalence.positives:,.0f}"] if effective < total else []
    if prevalence.reviews is not None and prevalence.reviews.reviewed and total:
        notes.append("those that reviewers found among them")
    cases = describe_cases(prevalence.effective)
    return f"{cases} ({', '.join(notes)})" if notes else cases


def describe_cases(effective: float) -> str:
    """A number of effective frauds for people, rounded down so that a bound that is not reached never looks reached."""
    cases = math.floor(effective)
    return f"{cases:,} independent fraud case{'' if cases == 1 else 's'}"


def percent(share: float) -> str:
    """A share in percent with two significant digits, without trailing zeros."""
    text = f"{100 * share:.{_decimals(100 * share)}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def _decimals(number: float) -> int:
    """Decimal places that show two significant digits of a number."""
    return max(0, 1 - math.floor(math.log10(number))) if number > 0 else 0


def _corroborated(frauds: Sequence[Codes]) -> Floats:
    """Each fraud counts one over the size of its largest group, or the second largest of three or more columns."""
    sizes = np.sort([_group_sizes(codes) for codes in frauds], axis=0)
    return np.asarray(1.0 / (sizes[-2] if len(frauds) > 2 else sizes[-1]), dtype=np.float64)


def _group_sizes(codes: Codes) -> Floats:
    """Number of frauds that share each fraud's entity value, itself included."""
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return np.where(codes < 0, 1.0, counts[place])


def _explained(codes: Codes, everyone: Codes) -> Floats:
    """How much each fraud counts: min(m, 1 + e) / m of its entity value."""
    values, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    expected = _volumes(values, everyone) * len(codes) / max(len(everyone), 1)
    share = np.minimum(counts, 1.0 + expected) / counts
    return np.where(codes < 0, 1.0, share[place])


def _volumes(values: Codes, everyone: Codes) -> Floats:
    """Number of transactions with each of these values."""
    ordered = np.sort(everyone)
    first, last = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (last - first).astype(np.float64)


def _clopper_pearson(x: float, n: float, alpha: float) -> tuple[float, float]:
    lower = betaincinv(x, n - x + 1, alpha / 2) if x > 0 else 0.0
    upper = betaincinv(x + 1, n - x, 1 - alpha / 2) if x < n else 1.0
    return float(lower), float(upper)


def jeffreys(x: float, n: float, alpha: float) -> tuple[float, float]:
    """Ends of the two-sided Jeffreys interval of x successes in n trials at confidence 1 − `alpha`."""
    lower = betaincinv(x + 0.5, n - x + 0.5, alpha / 2) if x > 0 else 0.0
    upper = betaincinv(x + 0.5, n - x + 0.5, 1 - alpha / 2) if x < n else 1.0
    return float(lower), float(upper)


def _check(mature: float, positives: float, effective: float, *confidences: float) -> None:
    if not (0 <= positives <= mature < np.inf):
        raise DetectorError(
            f"{positives} frauds among {mature} mature transactions are impossible",
            remedy="pass 0 <= positives <= mature",
        )
    if not (min(1.0, positives) <= effective <= positives):
        raise DetectorError(
            f"effective positives lie between 1 and the {positives} frauds counted, got {effective}: "
            "take them from effective_positives"
        )
    for confidence in confidences:
        if not 0 < confidence < 1:
            raise DetectorError(f"a confidence lies between 0 and 1, got {confidence}")


def _check_columns(frauds: Sequence[Codes], mature: Sequence[Codes] | None) -> None:
    if not frauds:
        raise DetectorError("effective positives need one entity column or more")
    if len({len(codes) for codes in frauds}) > 1:
        raise DetectorError(f"entity columns have unequal lengths: {[len(codes) for codes in frauds]}")
    if mature is not None and len(mature) != len(frauds):
        raise DetectorError(f"{len(frauds)} entity columns of frauds, {len(mature)} of mature transactions")
