"""
Limits on rates of fraud and disputes: where they stand at an instant, and where the delay curve sees them at the end of
their span.

A check at a local midnight uses what was known then, so it is the same whenever it is made. Payments and reports after
it do not count.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from detectors.base import Floats
from pipeline.config.config import Config
from pipeline.config.sections import LimitSection
from pipeline.monitoring.fraud_rates import Forecaster, RateData, RateReports, Values, groups_of
from pipeline.schedule import grid
from storage.database.database import Store
from storage.frames import DAY, Ints
from storage.monitoring import limit_checks
from storage.monitoring.limit_checks import Level, LimitCheck
from storage.queries.fraud_rates import PaymentCounts

WORST = 10  # values of a field that are stored even if they are far from the limit
RATE_SPAN = (
    90 * DAY
)  # payments whose reports say how many reports come next: older ones may be from other times
RECENT = 28 * DAY  # payments of so many days stand for each day that is still to come
BASIS_POINTS = 10_000.0


def check_due_limits(store: Store, config: Config, as_of: int) -> None:
    """Check and store every limit at the newest local midnight, unless that has been done."""
    at = grid.floor(DAY, config.schedule.timezone, as_of)
    for name in config.limit:
        if not limit_checks.is_checked(store, name, at):
            checks = check_limit(store, config, name, at)
            limit_checks.write(store, _relevant(checks))


def _relevant(checks: Sequence[LimitCheck]) -> list[LimitCheck]:
    """Checks that are near or worse, and the worst ones."""
    return [check for place, check in enumerate(checks) if place < WORST or check.level != "ok"]


def check_limit(store: Store, config: Config, name: str, at: int) -> list[LimitCheck]:
    """
    Where a limit stands at an instant (µs): one check, or one of each value of its field, the worst first.

    A field without any value gives one check of nothing.
    """
    limit, zone = config.limit[name], config.schedule.timezone
    span = _span_of(limit, zone, at)
    divisor = _payments_span(limit, zone, span)
    data = RateData.load(store, config, at, min(span[0], divisor[0]), limit.per, limit.only)
    reports = data.forecasters[limit.rate].reports
    counts = data.payments_between(*divisor)
    values = _values_of(limit, reports, counts)
    payments, total = _aligned(values, counts)
    state = _State(data, limit, span, values, payments, total)
    checks = [
        LimitCheck(
            name, at, str(value), limit.per, grid.month_floor(zone, at - 1), *span, state.levels[k],
            int(state.reports[k]), int(payments[k]), _or_none(state.rate[k]), limit.basis_points, float(state.share[k]),
            _or_none(state.expected_rate[k]), _or_none(state.expected_share[k]),
        )
        for k, value in enumerate(values)
    ]  # fmt: skip
    return sorted(checks, key=lambda check: (-max(check.share, check.expected_share or 0.0), check.value))


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _span_of(limit: LimitSection, zone: str, at: int) -> tuple[int, int]:
    """The days before an instant, or the calendar month of the last moment before it."""
    if limit.days:
        return at - limit.days * DAY, at
    start = grid.month_floor(zone, at - 1)
    return start, grid.following_month(zone, start)


def _payments_span(limit: LimitSection, zone: str, span: tuple[int, int]) -> tuple[int, int]:
    if limit.payments == "same":
        return span
    if limit.days:
        return span[0] - limit.days * DAY, span[0]
    return grid.following_month(zone, span[0], -1), span[0]


def _values_of(limit: LimitSection, reports: RateReports, counts: PaymentCounts) -> Values:
    """The values of the limit's field that have payments or reports; "" for all payments together."""
    named = {*counts.value, *reports.value} - {""} if limit.per else {""}
    return np.array(sorted(named) or [""], dtype=object)


def _aligned(values: Values, counts: PaymentCounts) -> tuple[Floats, Floats]:
    """Number and amount of the payments of each value."""
    place = pd.Index(values).get_indexer(pd.Index(np.array(counts.value, dtype=object)))
    number, total = np.zeros(len(values)), np.zeros(len(values))
    number[place[place >= 0]], total[place[place >= 0]] = counts.n[place >= 0], counts.amount[place >= 0]
    return number, total


class _State:
    """Rates of all values of a limit, now and expected, as arrays."""

    def __init__(
        self,
        data: RateData,
        limit: LimitSection,
        span: tuple[int, int],
        values: Values,
        payments: Floats,
        total: Floats,
    ) -> None:
        self._data, self._limit, self._span, self._values = data, limit, span, values
        self._forecaster = data.forecasters[limit.rate]
        reports = self._inside(self._forecaster.reports)
        now = groups_of(reports, self._places(reports), payments, payments)
        self.reports = now.reports
        self.rate = _rate(
            now.reports if limit.of == "count" else now.amount, payments if limit.of == "count" else total
        )
        self.share = self._share_of(self.rate, now.reports)
        self.expected_rate, self.expected_share = self._expected(now.reports, now.amount, payments, total)

    @property
    def levels(self) -> list[Level]:
        """Of each value; what is expected of one without any report is the rate of all, and no warning."""
        expected = np.where(self.reports > 0, self.expected_share, 0.0)
        near = np.fmax(self.share, expected) >= self._limit.warn_at
        return [
            "crossed" if share >= 1 else "near" if is_near else "ok"
            for share, is_near in zip(self.share, near, strict=True)
        ]

    def _inside(self, reports: RateReports) -> RateReports:
        """Those that count in the span."""
        time = reports.event_time if self._limit.by == "payment" else reports.at
        return self._valued(reports.take((time >= self._span[0]) & (time < self._span[1])))

    def _valued(self, reports: RateReports) -> RateReports:
        return reports.take(self._places(reports) >= 0)

    def _places(self, reports: RateReports) -> Ints:
        return pd.Index(self._values).get_indexer(pd.Index(reports.value)).astype(np.int64)

    def _share_of(self, rate: Floats, reports: Floats) -> Floats:
        """How much of the way to the limit is gone: by the rate, and by the number of reports that it needs."""
        share = np.nan_to_num(rate / self._limit.basis_points)
        return np.minimum(share, reports / self._limit.at_least) if self._limit.at_least else share

    def _expected(
        self, reports: Floats, amount: Floats, payments: Floats, total: Floats
    ) -> tuple[Floats, Floats]:
        """The rate at the end of the span, and its share of the limit; NaN without a forecast."""
        forecaster = self._forecaster
        if not forecaster.is_possible:
            return np.full(len(reports), np.nan), np.full(len(reports), np.nan)
        number, sums = self._expected_reports(forecaster, reports, amount)
        count = self._limit.of == "count"
        rate = _rate(number if count else sums, self._expected_payments(payments if count else total))
        return rate, self._share_of(rate, number)

    def _expected_reports(
        self, forecaster: Forecaster, reports: Floats, amount: Floats
    ) -> tuple[Floats, Floats]:
        """Number and amount of the span's reports in the end: those complete, and those the delay curve expects."""
        data, by_payment = self._data, self._limit.by == "payment"
        since = self._span[0] if by_payment else data.scope.as_of - RATE_SPAN
        recent = forecaster.complete.take(forecaster.complete.event_time >= since)
        complete = self._inside(recent) if by_payment else self._valued(recent)
        noon, number = self._days()
        observed, due = forecaster.shares(noon, None if by_payment else self._span[1])
        weight = self._weights()
        groups = groups_of(
            complete,
            self._places(complete),
            weight * float(observed @ (number * (noon >= since))),
            weight * float(due @ number),
        )
        coming = forecaster.forecast(groups)
        certain = self._inside(forecaster.reports.take(forecaster.reports.at <= data.complete_until))
        known = groups_of(certain, self._places(certain), weight, weight)
        ends = coming.reports.plus(known.reports, reports), coming.amount.plus(known.amount, amount)
        return ends[0].expected, ends[1].expected

    def _days(self) -> tuple[Ints, Floats]:
        """Noon and payments of the days whose payments can be reported in the span, of all values together."""
        noon, number = self._data.noon, self._data.number
        if self._limit.by == "payment":
            inside = (noon >= self._span[0]) & (noon < self._span[1])
            return noon[inside], number[inside]
        future = self._future()
        return np.append(noon, future), np.append(number, np.full(len(future), self._per_day(number)))

    def _future(self) -> Ints:
        """Noon of the days of the span that are still to come."""
        return np.arange(self._data.scope.as_of + DAY // 2, self._span[1], DAY, dtype=np.int64)

    def _per_day(self, values: Floats) -> float:
        """The mean of the newest days."""
        noon, as_of = self._data.noon, self._data.scope.as_of
        if not len(noon):
            return 0.0
        days = np.clip((as_of - noon[0]) / DAY + 0.5, 1, RECENT / DAY)
        return float(values[noon >= as_of - RECENT].sum() / days)

    def _weights(self) -> Floats:
        """The share of each value in the payments whose reports are counted."""
        data = self._data
        if not self._limit.per:
            return np.ones(len(self._values))
        span = self._span if self._limit.by == "payment" else (data.start, data.scope.as_of)
        number, _ = _aligned(self._values, data.payments_between(*span))
        return number / max(self._sum(data.number, span), 1.0)

    def _expected_payments(self, payments: Floats) -> Floats:
        """Payments of the whole span, if reports of the whole span are set against them."""
        if self._limit.by == "payment" or self._limit.payments == "previous":
            return payments
        values = self._data.number if self._limit.of == "count" else self._data.amount
        share = payments / max(self._sum(values, self._span), 1.0)
        return payments + share * self._per_day(values) * len(self._future())

    def _sum(self, values: Floats, span: tuple[int, int]) -> float:
        """Over the days of a span, of all payments together."""
        return float(values[(self._data.noon >= span[0]) & (self._data.noon < span[1])].sum())


def _rate(reports: Floats, payments: Floats) -> Floats:
    """Basis points; NaN without payments."""
    rate = np.full(len(reports), np.nan)
    np.divide(BASIS_POINTS * reports, payments, out=rate, where=payments > 0)
    return rate
