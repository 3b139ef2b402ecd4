"""
Exact sums of amounts over an entity's window, and the statistics computed from them.

Everything is summed in int64. Deviations are taken on log-amounts, which are rounded to whole units before they
are summed, so that a window's sums do not depend on where history starts.
"""

from dataclasses import dataclass
from functools import cached_property

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
class AmountWindow:
    """Query rows with the exact sums of a window before each, (k,); statistics are floats, by elementwise operations."""

    row_amount: Ints  # of the query row, 1/10,000 of the base currency
    row_logs: Ints  # of the query row, integer log-amount
    count: Ints
    amount: Ints
    logs: Ints
    squares: Ints  # of integer log-amounts

    @cached_property
    def mean(self) -> Floats:
        """Mean amount; NaN over an empty window."""
        return np.where(self.count > 0, self.amount / self._rows / MONEY, np.nan)

    @property
    def spread(self) -> Floats:
        """Standard deviation of log-amounts; NaN over fewer than two rows."""
        spread = np.sqrt(self._scatter / np.maximum(self.count - 1, 1)) / LOG_UNITS
        return np.where(self.count > 1, spread, np.nan)

    @property
    def deviation(self) -> Floats:
        """
        How far the row's log-amount is from the mean, in standard deviations of the next one; 0 over an empty window.

        The variance of the past is mixed with the prior's, as under a scaled inverse chi-square prior, and grows
        by 1/rows because the mean itself is uncertain (Gelman et al., *Bayesian Data Analysis*, 3.3).
        """
        prior = SPREAD_ROWS * (SPREAD_USUAL * LOG_UNITS) ** 2
        variance = (self._scatter + prior) / (self._rows - 1 + SPREAD_ROWS)
        spread = np.sqrt(np.maximum(variance, (SPREAD_MIN * LOG_UNITS) ** 2) * (1 + 1 / self._rows))
        return np.where(self.count > 0, (self.row_logs - self._log_mean) / spread, 0.0)

    @property
    def ratio(self) -> Floats:
        """The row's amount over the mean; 1 over an empty window."""
        ratio = (self.row_amount / MONEY + RATIO_PRIOR) / (np.maximum(self.mean, 0.0) + RATIO_PRIOR)
        return np.where(self.count > 0, ratio, 1.0)

    @cached_property
    def _rows(self) -> Ints:
        return np.maximum(self.count, 1)

    @cached_property
    def _log_mean(self) -> Floats:
        return self.logs / self._rows

    @cached_property
    def _scatter(self) -> Floats:
        """
        Sum of squared differences from the mean, in squared integer log units.

        The sums are first centred, in integers, on the whole number next to the mean: the floats that are then
        subtracted are small, so equal amounts vary by exactly 0.
        """
        middle = np.rint(self._log_mean).astype(np.int64)
        offset = self.logs - self._rows * middle
        about_middle = self.squares - 2 * middle * self.logs + self._rows * middle * middle
        scatter: Floats = np.maximum(about_middle - offset * (offset / self._rows), 0.0)
        return scatter


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
        self.index, self._amount, self._logs = index, amount, logs
        values = [amount, logs, logs * logs]
        self._may_overflow = _largest(amount) * len(index) >= INT64_LIMIT
        if self._may_overflow:
            values += [amount >> HALF, amount & (2**HALF - 1)]
        self._sums = [index.cumulative_sums(value) for value in values]
        self.late = index.late_arrivals(*values)

    def over(self, queries: QueryRows, first: Ints) -> AmountWindow:
        """Sums from the place `first` up to each query row, without the rows that arrived too late for it."""
        end = queries.place
        count = end - first
        totals = [sums[end] - sums[first] for sums in self._sums]
        if self.late is not None:
            places = self.index.count_late_before(first), self.index.count_late_before(end)
            excluded = self.late.sums(*places, queries.as_of)
            count = count - excluded[:, 0]
            totals = [total - excluded[:, 1 + place] for place, total in enumerate(totals)]
        if self._may_overflow:
            _refuse_overflow(*totals[3:])
        at = queries.position
        return AmountWindow(self._amount[at], self._logs[at], count, *totals[:3])


def log_units(amount: Ints) -> Ints:
    """
    Integer log-amounts: sign · log(1 + |amount|) in 1/10,000, 0 for a zero amount.

    A refund booked as a negative amount is as far from 0 as a payment of its size, on the other side.
    """
    size = np.log1p(np.abs(amount / MONEY))
    logs: Ints = np.sign(amount) * np.rint(size * LOG_UNITS).astype(np.int64)
    return logs


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
