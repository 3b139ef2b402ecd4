"""
Rates of fraud and of disputes by month, as known at an instant, with a forecast for months whose reports are still coming.

A fraud is a payment whose current label is fraud, a dispute one that somebody outside disputed; both are set against all
payments that happened. By payment month, reports count where their payments are, so young months lack reports; the
delay curve of the reports known says how many. By report month, they count when they became known.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats
from detectors.evaluation.label_delay import DelayCurve, delay_curve
from detectors.evaluation.report_forecast import (
    REPORTS_MIN,
    ReportForecast,
    ReportGroups,
    forecast_reports,
)
from pipeline.config.config import Config
from pipeline.schedule import grid
from storage.database.database import Store
from storage.frames import DAY, HOUR, NEVER, Ints
from storage.ingest import history
from storage.queries import fraud_rates
from storage.queries.fraud_rates import PaymentCounts, RateScope, ReportedPayments

Rate = Literal["fraud", "dispute", "fraud_and_dispute"]
By = Literal["payment", "report"]
SIDES: tuple[Rate, Rate] = ("fraud", "dispute")
Values = NDArray[np.object_]

CURVE_SPAN = (
    400 * DAY
)  # of payments whose reports make the delay curve: what cards and direct debits take, and a season


@dataclass(frozen=True)
class RateReports:
    """Reports of fraud or disputes, arrays of one length; instants in µs."""

    event_time: Ints
    at: Ints
    amount: Floats
    value: Values

    def take(self, chosen: NDArray[np.bool_]) -> "RateReports":
        """The reports of a mask."""
        return RateReports(*(part[chosen] for part in vars(self).values()))

    @classmethod
    def of(cls, reported: ReportedPayments, rate: Rate) -> "RateReports":
        """Frauds, disputes, or both one after the other: a payment that has both then counts twice."""
        times = {"fraud": (reported.fraud_at,), "dispute": (reported.dispute_at,)}
        both = (reported.fraud_at, reported.dispute_at)
        parts = [
            cls(reported.event_time, at, reported.amount, reported.value).take(at > NEVER)
            for at in times.get(rate, both)
        ]
        return cls(
            *(np.concatenate(part) for part in zip(*(vars(each).values() for each in parts), strict=True))
        )


@dataclass(frozen=True)
class RateData:
    """
    Payments by day and reports, as known at `scope.as_of`.

    Attributes
    ----------
    start
        Payments from this instant (µs) on are counted by day.
    complete_until
        Reports are complete up to this instant (µs).
    noon
        (n,) noon of every local day with payments, µs; `number` and `amount` are its payments and their sum.
    """

    store: Store
    config: Config
    scope: RateScope
    start: int
    complete_until: int
    noon: Ints
    day: Sequence[str]
    number: Floats
    amount: Floats
    reported: ReportedPayments

    @classmethod
    def load(
        cls,
        store: Store,
        config: Config,
        as_of: int,
        since: int,
        per: str = "",
        only: Mapping[str, Sequence[str]] | None = None,
    ) -> "RateData":
        """What counts since an instant, and as far back as the delay curve needs."""
        zone, start = config.schedule.timezone, min(since, as_of - CURVE_SPAN)
        scope = RateScope(as_of, config.labels.never_by_silence, only or {}, per)
        counts = fraud_rates.count_payments(
            store, RateScope(as_of, scope.never_by_silence, scope.only), start, as_of, zone, "day"
        )
        midnights = [grid.midnight(date.fromisoformat(day), zone) for day in counts.bucket]
        return cls(
            store, config, scope, start,
            complete_until=int(history.completeness(store).at(np.array([as_of], dtype=np.int64))[0]),
            noon=np.array(midnights, dtype=np.int64) + 12 * HOUR,
            day=counts.bucket,
            number=counts.n.astype(np.float64),
            amount=counts.amount,
            reported=fraud_rates.reported_payments(store, scope, start),
        )  # fmt: skip

    def payments_between(self, start: int, end: int) -> PaymentCounts:
        """Payments of a span by the values of the scope's field."""
        return fraud_rates.count_payments(
            self.store, self.scope, start, end, self.config.schedule.timezone, "all"
        )

    @cached_property
    def forecasters(self) -> dict[Rate, "Forecaster"]:
        """By what is counted."""
        rates: tuple[Rate, ...] = ("fraud", "dispute", "fraud_and_dispute")
        return {rate: Forecaster(self, RateReports.of(self.reported, rate)) for rate in rates}


@dataclass(frozen=True)
class Forecaster:
    """Forecasts reports by the delay curve of those known; impossible with fewer than `REPORTS_MIN`."""

    data: RateData
    reports: RateReports

    @cached_property
    def complete(self) -> RateReports:
        """The reports of the counted days from the time in which they are complete."""
        reports = self.reports
        inside = (reports.event_time >= self.data.start) & (reports.event_time <= self.data.complete_until)
        return reports.take(inside & (reports.at <= self.data.complete_until))

    @cached_property
    def curve(self) -> DelayCurve:
        """F by delay in days. A report that is dated before its payment has no delay."""
        delay = np.maximum(self.complete.at - self.complete.event_time, 0) / DAY
        age = (self.data.complete_until - self.complete.event_time) / DAY
        return delay_curve(np.minimum(delay, age), age)

    @property
    def is_possible(self) -> bool:
        """Whether the curve rests on enough reports."""
        return self.curve.n >= REPORTS_MIN

    def shares(self, noon: Ints, end: int | None) -> tuple[Floats, Floats]:
        """Of payments at these times: the share of reports observed by now, and of those due until `end` (None: ever)."""
        now = self.curve((self.data.complete_until - noon) / DAY)
        later = np.ones(len(noon)) if end is None else self.curve((end - noon) / DAY)
        return now, np.maximum(later - now, 0.0)

    def forecast(self, groups: ReportGroups) -> ReportForecast:
        """Reports still to come of groups of payments, each with a rate between its own and that of all."""
        observed, _ = self.shares(self.data.noon, None)
        pool = groups_of(
            self.complete,
            np.zeros(len(self.complete.at), dtype=np.int64),
            (observed * self.data.number).sum(keepdims=True),
            np.zeros(1),
        )
        return forecast_reports(groups, pool, self.data.config.quality.confidence)


def groups_of(reports: RateReports, group: Ints, observed: Floats, due: Floats) -> ReportGroups:
    """The reports by the number of their group; `observed` and `due` are in the order of the numbers."""

    def total(weights: Floats) -> Floats:
        return np.bincount(group, weights=weights, minlength=len(due)).astype(np.float64)

    return ReportGroups(
        total(np.ones(len(group))), total(reports.amount), total(reports.amount**2), observed, due
    )


@dataclass(frozen=True)
class ExpectedReports:
    """Reports that a month will have in the end: how many and the sum of their amounts, with intervals."""

    n: float
    n_lower: float
    n_upper: float
    total: float
    total_lower: float
    total_upper: float


@dataclass(frozen=True)
class ReportTotals:
    """Reports until now, the sum of their amounts, and what is expected; None by report month, or without a curve."""

    n: int
    total: float
    expected: ExpectedReports | None


@dataclass(frozen=True)
class MonthlyRate:
    """Payments and reports of a month, for all or for one value of a field."""

    month: date
    value: str
    payments: int
    total: float
    frauds: ReportTotals
    disputes: ReportTotals


@dataclass(frozen=True)
class RateMonths:
    """The months of a span, and whether there is a forecast of each rate."""

    rows: list[MonthlyRate]
    has_forecast: Mapping[Rate, bool]


def monthly_rates(
    store: Store, config: Config, as_of: int, start: int, end: int, by: By = "payment", per: str = ""
) -> RateMonths:
    """
    Rates of the calendar months, in schedule.timezone, that [start, end) touches; newest first, then by number of reports.

    Parameters
    ----------
    as_of
        Payments and labels known at this instant (µs) count.
    per
        A field by whose values everything is counted; "" for all payments together.
    """
    zone = config.schedule.timezone
    edges = _month_edges(zone, start, min(end, as_of))
    if len(edges) < 2:
        return RateMonths([], {})
    data = RateData.load(store, config, as_of, edges[0], per)
    until = min(edges[-1], as_of)
    counts = fraud_rates.count_payments(store, data.scope, edges[0], until, zone, "month") if per else None
    months = _Months(data, np.array(edges, dtype=np.int64), by)
    payments = months.payments() if counts is None else {
        (month, value): (int(n), float(total))
        for month, value, n, total in zip(counts.bucket, counts.value, counts.n, counts.amount, strict=True)
    }  # fmt: skip
    sides = {rate: months.totals(rate, payments) for rate in SIDES}
    keys = {*payments, *(key for side in sides.values() for key in side)}
    rows = [_row(key, payments.get(key, (0, 0.0)), sides) for key in keys]
    rows.sort(key=lambda row: (-row.month.toordinal(), -row.frauds.n - row.disputes.n, row.value))
    possible = {rate: by == "payment" and data.forecasters[rate].is_possible for rate in SIDES}
    return RateMonths(rows, possible)


Key = tuple[str, str]  # month, such as 2026-03, and value


def _row(
    key: Key, payments: tuple[int, float], sides: Mapping[Rate, Mapping[Key, ReportTotals]]
) -> MonthlyRate:
    nothing = ReportTotals(0, 0.0, None)
    frauds, disputes = (sides[rate].get(key, nothing) for rate in SIDES)
    return MonthlyRate(date.fromisoformat(f"{key[0]}-01"), key[1], *payments, frauds, disputes)


def _month_edges(zone: str, start: int, end: int) -> list[int]:
    edges = [grid.month_floor(zone, start)]
    while edges[-1] < end:
        edges.append(grid.following_month(zone, edges[-1]))
    return edges


@dataclass(frozen=True)
class _Months:
    """Reports and payments of months that begin at `edges`, the last of which ends the last month."""

    data: RateData
    edges: Ints
    by: By

    @cached_property
    def names(self) -> list[str]:
        zone = self.data.config.schedule.timezone
        return [str(grid.local_date(edge, zone))[:7] for edge in self.edges[:-1]]

    def place(self, instants: Ints) -> Ints:
        """Number of the month of each instant; −1 or `len(names)` outside."""
        return np.searchsorted(self.edges, instants, side="right").astype(np.int64) - 1

    def payments(self) -> dict[Key, tuple[int, float]]:
        """Payments of all days of each month."""
        place, n = self.place(self.data.noon), len(self.names)
        inside = (place >= 0) & (place < n)
        number, total = (
            np.bincount(place[inside], weights=weights[inside], minlength=n)
            for weights in (self.data.number, self.data.amount)
        )
        return {
            (name, ""): (int(number[k]), float(total[k])) for k, name in enumerate(self.names) if number[k]
        }

    def totals(self, rate: Rate, payments: Mapping[Key, tuple[int, float]]) -> dict[Key, ReportTotals]:
        """Reports by month and value, with what is expected where there are payments."""
        forecaster = self.data.forecasters[rate]
        keys = list(payments)
        reports, places = self._grouped(forecaster.reports, keys)
        sums = groups_of(reports, places, np.zeros(len(keys)), np.zeros(len(keys)))
        expected = self._expected(forecaster, keys, payments, sums) if self.by == "payment" and keys else None
        return {
            key: ReportTotals(int(sums.reports[k]), float(sums.amount[k]), expected[k] if expected else None)
            for k, key in enumerate(keys)
        }

    def _grouped(self, reports: RateReports, keys: list[Key]) -> tuple[RateReports, Ints]:
        """The reports inside the months, and the place of each in `keys`, which get what they lack."""
        place = self.place(reports.event_time if self.by == "payment" else reports.at)
        inside = (place >= 0) & (place < len(self.names))
        numbers = {key: number for number, key in enumerate(keys)}
        groups = []
        for month, value in zip(place[inside].tolist(), reports.value[inside].tolist(), strict=True):
            key = (self.names[month], value)
            if key not in numbers:
                numbers[key] = len(keys)
                keys.append(key)
            groups.append(numbers[key])
        return reports.take(inside), np.array(groups, dtype=np.int64)

    def _expected(
        self,
        forecaster: Forecaster,
        keys: list[Key],
        payments: Mapping[Key, tuple[int, float]],
        sums: ReportGroups,
    ) -> list[ExpectedReports] | None:
        if not forecaster.is_possible:
            return None
        known, places = self._grouped(forecaster.complete, list(keys))
        share = dict(self._shares(forecaster))
        number = np.array([payments.get(key, (0, 0.0))[0] for key in keys], dtype=np.float64)
        observed, due = (
            number * np.array([share.get(key[0], (1.0, 0.0))[end] for key in keys]) for end in (0, 1)
        )
        groups = groups_of(known, places, observed, due)
        coming = forecaster.forecast(groups)
        n = coming.reports.plus(groups.reports, sums.reports)
        total = coming.amount.plus(groups.amount, sums.amount)
        ends = (n.expected, n.lower, n.upper, total.expected, total.lower, total.upper)
        return [ExpectedReports(*map(float, row)) for row in zip(*ends, strict=True)]

    def _shares(self, forecaster: Forecaster) -> Iterator[tuple[str, tuple[float, float]]]:
        """Of the reports of each month: the share that is observed, and the share that is due."""
        observed, due = forecaster.shares(self.data.noon, None)
        place, number = self.place(self.data.noon), self.data.number
        for month, name in enumerate(self.names):
            days = place == month
            n = number[days].sum()
            if n:
                yield name, (float(observed[days] @ number[days] / n), float(due[days] @ number[days] / n))
