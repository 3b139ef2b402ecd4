"""
Amount features: exact sums of amounts over an entity's window, and the columns computed from them.

Everything is summed in int64. Deviations are taken on log-amounts, which are rounded to whole units before they
are summed, so that a window's sums do not depend on where history starts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.features.entity_windows import EntityIndex, QueryRows
from storage.frames import MONEY, Ints

Floats = NDArray[np.float64]

LOG_UNITS = 10_000  # integer units per 1.0 of log-amount
# A row's deviation is measured in the spread of its entity's own past, mixed with a prior of SPREAD_ROWS rows
# that vary by SPREAD_USUAL: amounts of one payer vary by about a factor of two (on the Handbook data the
# log-amounts of a customer have a standard deviation of 0.6). One deviation is at least SPREAD_MIN, because a
# fee or an exchange rate moves an amount by a tenth.
SPREAD_USUAL = 0.7
SPREAD_ROWS = 4.0
SPREAD_MIN = 0.1
# One unit of the base currency is added to both sides of a ratio: it stays finite when all past payments are 0.
RATIO_PRIOR = 1.0
INT64_LIMIT = 2**63
HALF = 32
# The largest amount int64 holds has a log-amount of 344,600 units; this many of its squares fit int64.
LOG_ROWS_MAX = INT64_LIMIT // 344_600**2


@dataclass(frozen=True)
class WindowSums:
    """Exact sums over a window, one value of each for every query row."""

    count: Ints
    amount: Ints  # 1/10,000 of the base currency
    logs: Ints  # integer log-amounts
    squares: Ints  # of integer log-amounts


class AmountSums:
    """
    Counts and sums of amounts over an entity's past.

    Raises
    ------
    OverflowError
        A window sum does not fit int64, or `LOG_ROWS_MAX` rows are exceeded.
    """

    def __init__(self, index: EntityIndex, amount: Ints, logs: Ints) -> None:
        if len(index) > LOG_ROWS_MAX:
            raise OverflowError(
                f"{len(index)} rows at once; at most {LOG_ROWS_MAX} sums of squares fit int64"
            )
        self._index = index
        values = [amount, logs, logs * logs]
        self._may_overflow = _largest(amount) * len(index) >= INT64_LIMIT
        if self._may_overflow:
            values += [amount >> HALF, amount & (2**HALF - 1)]
        self._sums = [index.cumulative_sums(value) for value in values]
        self.late = index.late_arrivals(*values)

    def over(self, queries: QueryRows, first: Ints) -> WindowSums:
        """Sums from the place `first` up to each query row, without the rows that arrived too late for it."""
        end = queries.place
        count = end - first
        totals = [sums[end] - sums[first] for sums in self._sums]
        if self.late is not None:
            places = self._index.count_late_before(first), self._index.count_late_before(end)
            excluded = self.late.sums(*places, queries.as_of)
            count = count - excluded[:, 0]
            totals = [total - excluded[:, 1 + place] for place, total in enumerate(totals)]
        if self._may_overflow:
            _refuse_overflow(*totals[3:])
        return WindowSums(count, *totals[:3])


def log_units(amount: Ints) -> Ints:
    """
    Integer log-amounts: sign · log(1 + |amount|) in 1/10,000, 0 for a zero amount.

    A refund booked as a negative amount is as far from 0 as a payment of its size, on the other side.
    """
    size = np.log1p(np.abs(amount / MONEY))
    logs: Ints = np.sign(amount) * np.rint(size * LOG_UNITS).astype(np.int64)
    return logs


def amount_columns(sums: WindowSums, amount: Ints, logs: Ints) -> Iterator[Floats]:
    """The columns `count` to `amount_ratio` of `catalogue.WINDOW_COLUMNS` for rows of these amounts and log-amounts."""
    count = sums.count
    rows = np.maximum(count, 1)
    mean = sums.amount / rows / MONEY
    log_mean = sums.logs / rows
    scatter = _scatter(sums, rows, log_mean)
    yield count.astype(np.float64)
    yield np.where(count > 0, mean, np.nan)
    yield np.where(count > 1, np.sqrt(scatter / np.maximum(count - 1, 1)) / LOG_UNITS, np.nan)
    yield np.where(count > 0, (logs - log_mean) / _deviation(scatter, rows), 0.0)
    yield np.where(count > 0, (amount / MONEY + RATIO_PRIOR) / (np.maximum(mean, 0.0) + RATIO_PRIOR), 1.0)


def _scatter(sums: WindowSums, rows: Ints, log_mean: Floats) -> Floats:
    """
    Sum of squared differences from the mean, in squared integer log units.

    The sums are first centred, in integers, on the whole number next to the mean: the floats that are then
    subtracted are small, so equal amounts vary by exactly 0.
    """
    middle = np.rint(log_mean).astype(np.int64)
    offset = sums.logs - rows * middle
    about_middle = sums.squares - 2 * middle * sums.logs + rows * middle * middle
    scatter: Floats = np.maximum(about_middle - offset * (offset / rows), 0.0)
    return scatter


def _deviation(scatter: Floats, rows: Ints) -> Floats:
    """
    Standard deviation, in integer log units, of the next log-amount around the mean of `rows` earlier ones.

    The variance of the past is mixed with the prior's, as under a scaled inverse chi-square prior, and grows
    by 1/rows because the mean itself is uncertain (Gelman et al., *Bayesian Data Analysis*, 3.3).
    """
    prior = SPREAD_ROWS * (SPREAD_USUAL * LOG_UNITS) ** 2
    variance = (scatter + prior) / (rows - 1 + SPREAD_ROWS)
    spread: Floats = np.sqrt(np.maximum(variance, (SPREAD_MIN * LOG_UNITS) ** 2) * (1 + 1 / rows))
    return spread


def _largest(values: Ints) -> int:
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


def _refuse_overflow(high: Ints, low: Ints) -> None:
    """Raise OverflowError if high · 2**32 + low, the exact sum, does not fit int64; both halves fit for 2**31 rows."""
    top = high + (low >> HALF)
    if ((top < -(2 ** (63 - HALF))) | (top >= 2 ** (63 - HALF))).any():
        raise OverflowError(
            "the amounts of one entity within a window add up to more than 9.2e14 of the base currency: "
            "check the amounts, or give them in a larger unit"
        )
