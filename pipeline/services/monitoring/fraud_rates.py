"""Rates of fraud and disputes by month in basis points, and the limits on them."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from detectors.evaluation.report_forecast import REPORTS_MIN
from pipeline.errors import InputError
from pipeline.monitoring import fraud_rates, limits
from pipeline.monitoring.fraud_rates import By, MonthlyRate, ReportTotals
from pipeline.schedule import grid
from pipeline.services.pages import PAGE_ROWS, Page, slice_page
from pipeline.services.records import Amount, as_amount
from pipeline.services.session import Session, past_instant
from storage.database.column_types import as_datetime, as_micros
from storage.ingest import history
from storage.monitoring.limit_checks import LimitCheck

__all__ = ["REPORTS_MIN", "LimitRecord", "RateRecord", "RateRequest", "list_limits", "list_rates"]

MONTHS = 12  # that are listed unless the request names a start


@dataclass(frozen=True)
class RateRequest:
    """
    Which rates to list.

    Attributes
    ----------
    by
        Whether a report counts in the month of its payment, or in its own.
    per
        A field by whose values everything is counted; "" for all payments together.
    start, end
        The months that [start, end) touches, in schedule.timezone; the twelve up to the newest payment if missing.
    as_of
        Labels and payments known at this time count; now if missing.
    """

    by: By = "payment"
    per: str = ""
    start: datetime | None = None
    end: datetime | None = None
    as_of: datetime | None = None


@dataclass(frozen=True)
class RateForecast:
    """Reports that a month will have in the end, with the interval of `quality.confidence`, and their rates."""

    reports: float
    lower: float
    upper: float
    amount: Amount
    amount_lower: Amount
    amount_upper: Amount
    basis_points: float
    value_basis_points: float | None


@dataclass(frozen=True)
class ReportRate:
    """
    Reports of a month so far.

    Attributes
    ----------
    basis_points, value_basis_points
        Of payments, and of their value; None without payments.
    forecast
        None by report month, or if fewer than `REPORTS_MIN` reports are known.
    """

    reports: int
    amount: Amount
    basis_points: float | None
    value_basis_points: float | None
    forecast: RateForecast | None


@dataclass(frozen=True)
class RateRecord:
    """
    Rates of a month, of all payments or of those with one value of a field.

    Attributes
    ----------
    value
        None for payments without a value, and if payments are counted together.
    payments
        That happened: without refunds, and without `labels.never_by_silence`.
    no_forecast
        Why a rate has no forecast, if one has none.
    """

    month: date
    value: str | None
    payments: int
    amount: Amount
    frauds: ReportRate
    disputes: ReportRate
    no_forecast: Literal["by_report", "few_reports"] | None


@dataclass(frozen=True)
class LimitRecord:
    """
    Where a limit stands, on all payments or on those with one value of a field.

    Attributes
    ----------
    share
        Of the limit: of its rate, or of the number of reports that it needs, if that is less.
    expected_basis_points, expected_share
        At the end of the span; None without a forecast.
    """

    name: str
    column: str | None
    value: str | None
    span_start: datetime
    span_end: datetime
    level: Literal["ok", "near", "crossed"]
    reports: int
    payments: int
    basis_points: float | None
    limit_basis_points: float
    share: float
    expected_basis_points: float | None
    expected_share: float | None


def list_rates(
    session: Session,
    request: RateRequest = RateRequest(),
    *,
    limit: int = PAGE_ROWS,
    cursor: str | None = None,
) -> Page[RateRecord]:
    """
    Rates by month, the newest first; within a month the values with most reports first.

    Raises
    ------
    InputError
        There is no such field, the span is empty, the time is in the future, or the cursor is not one of this list.
    """
    config = session.config
    fields = (*config.schema_.entities, *config.schema_.categorical)
    if request.per and request.per not in fields:
        raise InputError(
            f"{request.per!r} is no field to count by",
            remedy=f"choose {', '.join(fields)}",
            code="unknown_field",
        )
    as_of = past_instant(session, request.as_of)
    start, end = _span(session, request, as_of)
    months = fraud_rates.monthly_rates(session.store, config, as_of, start, end, request.by, request.per)
    why: Literal["by_report", "few_reports"] | None = (
        "by_report"
        if request.by == "report"
        else None
        if all(months.has_forecast.values())
        else "few_reports"
    )
    currency = config.schema_.base_currency
    records = [_record(row, currency, why) for row in months.rows]
    return slice_page(records, _rate_key, limit, cursor, keys=3)


def list_limits(
    session: Session, as_of: datetime | None = None, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[LimitRecord]:
    """
    Where each limit stands by what is known at a time, now if it is missing: the worst first, each value of a field alone.

    Raises
    ------
    InputError
        The time is in the future, or the cursor is not one of this list.
    """
    at = past_instant(session, as_of)
    checks = [
        check
        for name in session.config.limit
        for check in limits.check_limit(session.store, session.config, name, at)
    ]
    checks.sort(key=_limit_key)
    page = slice_page(checks, _limit_key, limit, cursor, keys=3)
    return Page(tuple(map(_limit_record, page.items)), page.next_cursor)


def _span(session: Session, request: RateRequest, as_of: int) -> tuple[int, int]:
    zone, stored = session.config.schedule.timezone, history.span(session.store)
    newest_payment = as_of if stored is None else min(as_of, stored[1] + 1)
    end = newest_payment if request.end is None else as_micros(request.end)
    newest = grid.month_floor(zone, min(end, as_of) - 1)
    start = (
        grid.following_month(zone, newest, 1 - MONTHS) if request.start is None else as_micros(request.start)
    )
    if start >= end:
        raise InputError(
            "the span is empty",
            remedy="its start must be before its end, which is not part of it",
            code="empty_span",
        )
    return start, end


def _rate_key(record: RateRecord) -> tuple[int, int, str]:
    reports = record.frauds.reports + record.disputes.reports
    return -record.month.toordinal(), -reports, record.value or ""


def _limit_key(check: LimitCheck) -> tuple[float, str, str]:
    return -max(check.share, check.expected_share or 0.0), check.name, check.value


def _record(row: MonthlyRate, currency: str, why: Literal["by_report", "few_reports"] | None) -> RateRecord:
    frauds, disputes = (_report_rate(totals, row, currency) for totals in (row.frauds, row.disputes))
    amount = as_amount(row.total, currency)
    return RateRecord(row.month, row.value or None, row.payments, amount, frauds, disputes, why)


def _report_rate(totals: ReportTotals, row: MonthlyRate, currency: str) -> ReportRate:
    expected = totals.expected
    forecast = None
    if expected is not None and row.payments:
        forecast = RateForecast(
            reports=expected.n,
            lower=expected.n_lower,
            upper=expected.n_upper,
            amount=as_amount(expected.total, currency),
            amount_lower=as_amount(expected.total_lower, currency),
            amount_upper=as_amount(expected.total_upper, currency),
            basis_points=1e4 * expected.n / row.payments,
            value_basis_points=_basis_points(expected.total, row.total),
        )
    return ReportRate(
        totals.n, as_amount(totals.total, currency), _basis_points(totals.n, row.payments),
        _basis_points(totals.total, row.total), forecast,
    )  # fmt: skip


def _basis_points(part: float, whole: float) -> float | None:
    return 1e4 * part / whole if whole > 0 else None


def _limit_record(check: LimitCheck) -> LimitRecord:
    return LimitRecord(
        check.name, check.field or None, check.value or None, as_datetime(check.span_start), as_datetime(check.span_end),
        check.level, check.reports, check.payments, check.basis_points, check.limit_basis_points, check.share,
        check.expected_basis_points, check.expected_share,
    )  # fmt: skip
