"""
How rare fraud is: the share of fraud among mature transactions, always with its interval.

Frauds come in clusters: twenty payments with one stolen card are one theft. Both numbers the choice rests on
account for that, the count of effective positives and the width of the interval.
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
class Rarity:
    """Prevalence of fraud; `lower` and `upper` are for gates, `shown_lower` and `shown_upper` for people."""

    mature: float  # transactions whose silence may be read
    positives: float  # frauds among them
    effective: float  # the same, clusters on one entity counted once
    prevalence: float | None  # None without a mature transaction
    lower: float  # Clopper–Pearson: covers at least as often as it says
    upper: float
    shown_lower: float  # Jeffreys: narrower, covers as often as it says on average
    shown_upper: float


def measure(
    mature: float,
    positives: float,
    effective: float,
    confidence: float = 0.95,
    display_confidence: float = 0.95,
) -> Rarity:
    """
    Prevalence among mature transactions with its intervals.

    Clusters make a count less certain than its size suggests: with design effect D = positives / effective,
    both intervals are those of `effective` frauds among mature / D transactions, which keeps the point and
    widens the interval (Korn & Graubard 1998, *Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data*). Without clusters they are the textbook's.

    Parameters
    ----------
    mature, positives
        Transactions and frauds among them; fractional when they are sums of weights.
    effective
        Effective positives, from 1 to `positives` (`effective_positives`).
    confidence, display_confidence
        Of the interval for gates and of the one for people, both two-sided.

    Raises
    ------
    DetectorError
        Counts that cannot be, or a confidence outside (0, 1).

    References
    ----------
    Brown, Cai & DasGupta (2001), Interval estimation for a binomial proportion (Jeffreys' ends at 0 and n).
    """
    _check(mature, positives, effective, confidence, display_confidence)
    if mature == 0:
        return Rarity(0.0, 0.0, 0.0, None, 0.0, 1.0, 0.0, 1.0)
    n = mature * effective / positives if positives else mature
    lower, upper = _clopper_pearson(effective, n, 1 - confidence)
    shown_lower, shown_upper = jeffreys(effective, n, 1 - display_confidence)
    return Rarity(mature, positives, effective, positives / mature, lower, upper, shown_lower, shown_upper)


def effective_positives(*frauds: Codes, mature: Sequence[Codes] | None = None) -> float:
    """
    How many frauds there are if those with a common cause count once.

    A fraud counts 1 where it stands alone, less where an entity value has more frauds than its volume
    explains. A value with m frauds and e expected ones (its share of all mature transactions times all
    frauds) stands for min(m, 1 + e): one cause, and what would have happened there anyway. Twenty frauds on
    one card count once; five hundred at a merchant with half of all payments keep counting, and so do those
    of a shop that is the only merchant in the data. Each fraud takes the smallest share that any of its
    entities leaves it.

    Frauds alone cannot tell a stolen card from a popular merchant, so without `mature` related frauds have to
    share more: two entities where there are three or more columns, one where there are one or two.

    Parameters
    ----------
    frauds
        For each entity column the codes of the frauds, (positives,); negative = missing: relates nothing.
    mature
        For each entity column, in the same order, the codes of all mature transactions, frauds included.

    Returns
    -------
    float
        From 1 to the number of frauds; 0 without frauds.

    Raises
    ------
    DetectorError
        No entity column, columns of unequal length, or another number of columns in `mature`.
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
    `effective_positives` of the frauds among mature transactions; without entity columns each counts.

    Parameters
    ----------
    fraud
        (n,) which of them are fraud.
    columns
        For each entity column the codes of all of them, (n,).
    """
    if not columns or not fraud.any():
        return float(fraud.sum())
    return effective_positives(*(codes[fraud] for codes in columns), mature=columns)


def in_words(rarity: Rarity) -> str:
    """How rare fraud is, as the first half of a sentence, with the interval for people."""
    mature = f"{rarity.mature:,.0f} mature transaction{'' if rarity.mature == 1 else 's'}"
    if rarity.prevalence is None:
        return "No transaction is mature yet, so how rare fraud is cannot be measured"
    if rarity.positives == 0:
        most, unit = _in_unit(rarity.shown_upper, rarity.shown_upper)
        return f"No fraud is known among {mature}, so its share is at most {most} in {unit}"
    shares = (rarity.prevalence, rarity.shown_lower, rarity.shown_upper)
    about, low, high = (_in_unit(share, rarity.prevalence)[0] for share in shares)
    return f"Fraud is about {about} in {_in_unit(0, rarity.prevalence)[1]} ({low} to {high}) among {mature}"


def frauds_in_words(rarity: Rarity) -> str:
    """Effective frauds, rounded down so that a bound not reached never looks reached."""
    effective = math.floor(rarity.effective)
    known = f" (of {rarity.positives:,.0f})" if effective < math.floor(rarity.positives) else ""
    return f"{effective:,} effective fraud{'' if effective == 1 else 's'}{known}"


def per_10_000(share: float) -> str:
    """A share as a count in 10,000, to two digits."""
    return _short(share * 10_000)


def _in_unit(share: float, scale: float) -> tuple[str, str]:
    """A share as a count in 10,000, or in a million where that would be a small fraction."""
    unit = 10_000 if scale >= 1e-5 else 1_000_000
    return _short(share * unit), f"{unit:,}"


def _short(number: float) -> str:
    """Two significant digits, all digits before the point."""
    return f"{number:,.0f}" if number >= 9.95 else f"{number:.2g}"


def _corroborated(frauds: Sequence[Codes]) -> Floats:
    """Each fraud counts one over the size of its largest group, the second largest of three or more."""
    sizes = np.sort([_group_sizes(codes) for codes in frauds], axis=0)
    return np.asarray(1.0 / (sizes[-2] if len(frauds) > 2 else sizes[-1]), dtype=np.float64)


def _group_sizes(codes: Codes) -> Floats:
    """How many frauds share each fraud's value, itself included."""
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return np.where(codes < 0, 1.0, counts[place])


def _explained(codes: Codes, everyone: Codes) -> Floats:
    """For each fraud the part of it that counts: min(m, 1 + e) / m of its entity value."""
    values, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    expected = _volumes(values, everyone) * len(codes) / max(len(everyone), 1)
    share = np.minimum(counts, 1.0 + expected) / counts
    return np.where(codes < 0, 1.0, share[place])


def _volumes(values: Codes, everyone: Codes) -> Floats:
    """How many transactions each of these values has."""
    ordered = np.sort(everyone)
    first, last = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (last - first).astype(np.float64)


def _clopper_pearson(x: float, n: float, alpha: float) -> tuple[float, float]:
    lower = betaincinv(x, n - x + 1, alpha / 2) if x > 0 else 0.0
    upper = betaincinv(x + 1, n - x, 1 - alpha / 2) if x < n else 1.0
    return float(lower), float(upper)


def jeffreys(x: float, n: float, alpha: float) -> tuple[float, float]:
    """Ends of Jeffreys' interval of x successes in n, left out on both sides together: `alpha`."""
    lower = betaincinv(x + 0.5, n - x + 0.5, alpha / 2) if x > 0 else 0.0
    upper = betaincinv(x + 0.5, n - x + 0.5, 1 - alpha / 2) if x < n else 1.0
    return float(lower), float(upper)


def _check(mature: float, positives: float, effective: float, *confidences: float) -> None:
    if not (0 <= positives <= mature < np.inf):
        raise DetectorError(f"{positives} frauds among {mature} mature transactions cannot be")
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
