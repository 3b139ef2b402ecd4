"""The commands `rates` and `limits`: rates of fraud and disputes in basis points, and how near limits are."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import CliContext, Command, InstantParam, output_options, to_utc

if TYPE_CHECKING:
    from pipeline.services.monitoring.fraud_rates import LimitRecord, RateRecord, ReportRate

SIDES = ("frauds", "disputes")
OF_A_SIDE = (
    "amount", "basis_points", "value_basis_points", "expected", "expected_lower", "expected_upper", "expected_amount",
    "expected_basis_points", "expected_value_basis_points",
)  # fmt: skip
COLUMNS = [
    "month",
    "value",
    "payments",
    "amount",
    *(name for side in SIDES for name in (side, *(f"{side}_{part}" for part in OF_A_SIDE))),
]
LIMIT_COLUMNS = [
    "name", "column", "value", "span_start", "span_end", "level", "reports", "payments", "basis_points", "limit_basis_points",
    "share", "expected_basis_points", "expected_share",
]  # fmt: skip
NO_PAYMENTS = "no payment of these months is stored: fraudwatch ingest transactions"
NO_LIMITS = "no limit is configured: add a section [limit.NAME] (docs/report.md has examples)"


@click.command(
    cls=Command,
    epilog="""
    fraudwatch rates
    fraudwatch rates --by report --per merchant_id --from 2026-01-01
    fraudwatch rates --per channel --format csv --output rates.csv
    """,
)
@click.option(
    "--by",
    type=click.Choice(["payment", "report"]),
    default="payment",
    show_default=True,
    help="Whether a report counts in the month of its payment, or in its own.",
)
@click.option("--per", default="", metavar="FIELD", help="Count by the values of this field.")
@click.option(
    "--from", "start", type=InstantParam(), help="From the month of this time on (default: twelve months)."
)
@click.option("--to", "end", type=InstantParam(), help="Months that start before this time (default: now).")
@click.option("--as-of", type=InstantParam(), help="Use the data known at this time (default: now).")
@output_options
@click.pass_obj
def rates(
    context: CliContext,
    by: Any,
    per: str,
    start: Any,
    end: Any,
    as_of: Any,
    output_format: str,
    output: Path | None,
) -> None:
    """List rates of fraud and disputes by month.

    Rates are basis points of payments and of their value; months are those of schedule.timezone. By payment month, frauds and
    disputes are shown as reported so far, and as expected in the end by the delays of the reports known (docs/report.md).
    """
    from pipeline.cli.output import write_rows
    from pipeline.services.monitoring.fraud_rates import RateRequest, list_rates
    from pipeline.services.pages import every

    with context.session() as session:
        zone = session.config.schedule.timezone
        start, end, as_of = (to_utc(value, zone) if value else None for value in (start, end, as_of))
        listed = list(every(list_rates, session, RateRequest(by, per, start, end, as_of)))
    if output_format != "table":
        write_rows(map(_flat, listed), COLUMNS, output_format, output, NO_PAYMENTS)
        return
    rows, columns = map(_short, listed), ["month", *([per] if per else []), *TABLE_COLUMNS]
    write_rows(({per: row["value"]} | row for row in rows), columns, output_format, output, NO_PAYMENTS)
    _explain_missing(listed)


TABLE_COLUMNS = [
    "payments",
    *(f"{side}{part}" for side in SIDES for part in ("", " bp", " bp of value", " expected")),
]


def _short(record: "RateRecord") -> dict[str, Any]:
    """A row of a table: counts, rates, and what is expected."""
    row: dict[str, Any] = {
        "month": f"{record.month:%Y-%m}",
        "value": record.value,
        "payments": record.payments,
    }
    for side in SIDES:
        rate: ReportRate = getattr(record, side)
        row |= {
            side: rate.reports, f"{side} bp": _rounded(rate.basis_points), f"{side} bp of value": _rounded(rate.value_basis_points),
            f"{side} expected": _expected(rate),
        }  # fmt: skip
    return row


def _expected(rate: "ReportRate") -> str | None:
    forecast = rate.forecast
    if forecast is None:
        return None
    if forecast.upper <= rate.reports:
        return "all reported"
    return f"{forecast.reports:,.0f} ({forecast.lower:,.0f} to {forecast.upper:,.0f}), {forecast.basis_points:,.1f} bp"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _flat(record: "RateRecord") -> dict[str, Any]:
    """A row for programs, with every figure."""
    row: dict[str, Any] = {
        "month": record.month,
        "value": record.value,
        "payments": record.payments,
        "amount": record.amount,
    }
    for side in SIDES:
        rate: ReportRate = getattr(record, side)
        expected = rate.forecast
        row |= {
            side: rate.reports, f"{side}_amount": rate.amount, f"{side}_basis_points": rate.basis_points,
            f"{side}_value_basis_points": rate.value_basis_points,
        }  # fmt: skip
        if expected is not None:
            row |= {
                f"{side}_expected": expected.reports, f"{side}_expected_lower": expected.lower,
                f"{side}_expected_upper": expected.upper, f"{side}_expected_amount": expected.amount,
                f"{side}_expected_basis_points": expected.basis_points,
                f"{side}_expected_value_basis_points": expected.value_basis_points,
            }  # fmt: skip
    return row


def _explain_missing(listed: "Iterable[RateRecord]") -> None:
    from pipeline.services.monitoring.fraud_rates import REPORTS_MIN

    if any(record.no_forecast == "few_reports" for record in listed):
        click.echo(
            f"where nothing is expected, fewer than {REPORTS_MIN} reports say how long reports take",
            err=True,
        )


@click.command(
    cls=Command,
    epilog="""
    fraudwatch limits
    fraudwatch limits --as-of 2026-03-01 --format json
    """,
)
@click.option("--as-of", type=InstantParam(), help="Use the data known at this time (default: now).")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Maximum number of rows."
)
@output_options
@click.pass_obj
def limits(context: CliContext, as_of: Any, limit: int, output_format: str, output: Path | None) -> None:
    """Show how near each limit is, now and at the end of its span.

    The worst come first; a limit with a field has a row for each of its values.
    """
    from pipeline.cli.output import write_rows
    from pipeline.services.monitoring.fraud_rates import list_limits
    from pipeline.services.pages import every

    with context.session() as session:
        at = to_utc(as_of, session.config.schedule.timezone) if as_of else None
        listed = every(list_limits, session, at, limit=limit)
        if output_format != "table":
            write_rows(map(vars, listed), LIMIT_COLUMNS, output_format, output, NO_LIMITS)
            return
        rows = _limit_rows(listed)
        columns = [
            "limit",
            "of",
            "from",
            "to",
            "level",
            "reports",
            "payments",
            "bp",
            "limit bp",
            "share",
            "expected bp",
            "expected",
        ]
        write_rows(rows, columns, output_format, output, NO_LIMITS)


def _limit_rows(listed: "Iterable[LimitRecord]") -> Iterator[dict[str, Any]]:
    from pipeline.number_text import percent

    for each in listed:
        yield {
            "limit": each.name, "of": each.value or ("all payments" if each.column is None else None),
            "from": f"{each.span_start:%Y-%m-%d}", "to": f"{each.span_end:%Y-%m-%d}", "level": each.level, "reports": each.reports,
            "payments": each.payments, "bp": _rounded(each.basis_points), "limit bp": each.limit_basis_points,
            "share": percent(each.share), "expected bp": _rounded(each.expected_basis_points),
            "expected": None if each.expected_share is None else percent(each.expected_share),
        }  # fmt: skip
