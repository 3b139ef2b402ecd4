"""Section "Fraud and dispute rates": basis points by payment month, what is expected in the end, and limits."""

from functools import partial
from typing import Any

from pipeline.monitoring.fraud_rates import ExpectedReports, MonthlyRate, ReportTotals
from pipeline.monitoring.limits import check_limit
from pipeline.number_text import counted, exact, number, percent
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import instant_text, safe_text
from storage.monitoring.limit_checks import LimitCheck

VALUES_MAX = 10  # of a limit's field, the worst first
REPORTED, EXPECTED = "reported", "expected in the end"
SIDES = {"frauds": "fraud", "disputes": "dispute"}
OF = {"number": "count", "value": "value"}
FEW = "How many reports are still to come is not known: too few have come yet to say how long they take."


def section(data: ReportData) -> ReportSection:
    """Rates of the months up to the end of the span as known at `as_of`, and limits at the end of the span."""
    scope, months = data.scope, data.months
    if not months.rows:
        missing = "No payment of these months is stored: fraudwatch ingest transactions reads some."
        return ReportSection("rates", "Fraud and dispute rates", missing=[missing])
    at = min(scope.as_of, scope.end)
    checks = {name: check_limit(data.store, data.config, name, at) for name in data.config.limit}
    tables = [_months(months.rows), *([_limits(checks, at)] if checks else [])]
    return ReportSection(
        "rates",
        "Fraud and dispute rates",
        sentences=[_newest(months.rows)],
        missing=[] if all(months.has_forecast.values()) else [FEW],
        charts=[partial(over_time, data, months.rows)],
        tables=tables,
    )


def _newest(rows: list[MonthlyRate]) -> str:
    """The newest month that is over, or the only one, as a sentence."""
    row = rows[min(1, len(rows) - 1)]
    return (
        f"Known so far of the {counted(row.payments, 'payment')} of {row.month:%Y-%m}: {_basis_points(row.frauds.n, row.payments)} basis points were fraud{_in_the_end(row, row.frauds)}, "
        f"and {_basis_points(row.disputes.n, row.payments)} were disputed{_in_the_end(row, row.disputes)}."
    )


def _in_the_end(row: MonthlyRate, totals: ReportTotals) -> str:
    expected = totals.expected
    if expected is None or expected.n_upper <= totals.n:
        return ""
    low, middle, high = (
        _basis_points(n, row.payments) for n in (expected.n_lower, expected.n, expected.n_upper)
    )
    return f" ({middle} are expected in the end, {low} to {high})"


def _basis_points(part: float, whole: float) -> str:
    return number(1e4 * part / whole) if whole > 0 else "–"


def _months(rows: list[MonthlyRate]) -> Table:
    columns = (
        "month",
        "payments",
        "frauds",
        "bp",
        "bp of value",
        "disputes",
        "bp ",
        "bp of value ",
        "expected in the end",
    )
    cells = [
        [
            f"{row.month:%Y-%m}", f"{row.payments:,}", f"{row.frauds.n:,}", _basis_points(row.frauds.n, row.payments),
            _basis_points(row.frauds.total, row.total), f"{row.disputes.n:,}", _basis_points(row.disputes.n, row.payments),
            _basis_points(row.disputes.total, row.total), _expected_text(row),
        ]
        for row in rows
    ]  # fmt: skip
    caption = (
        "By month of the payment, as reported so far, in basis points (bp) of payments and of their value"
    )
    return Table(caption, columns, cells, frozenset(columns) - {"month", "expected in the end"})


def _expected_text(row: MonthlyRate) -> str:
    parts = [
        f"{_counted(totals.expected)} {name}, {_basis_points(totals.expected.n, row.payments)} bp"
        for name, totals in (("frauds", row.frauds), ("disputes", row.disputes))
        if totals.expected is not None and totals.expected.n_upper > totals.n
    ]
    return "; ".join(parts) or "–"


def _counted(expected: ExpectedReports) -> str:
    return f"{expected.n:,.0f} ({expected.n_lower:,.0f} to {expected.n_upper:,.0f})"


def _limits(checks: dict[str, list[LimitCheck]], at: int) -> Table:
    columns = ("limit", "of", "span", "reports", "bp", "limit bp", "reached", "at its end", "level")
    cells = [
        [
            check.name, safe_text(check.value) if check.value else "all payments",
            f"{instant_text(check.span_start)[:10]} to {instant_text(check.span_end)[:10]}", f"{check.reports:,}",
            "–" if check.basis_points is None else number(check.basis_points), exact(check.limit_basis_points),
            percent(check.share), "–" if check.expected_share is None else percent(check.expected_share), check.level,
        ]
        for each in checks.values()
        for check in each[:VALUES_MAX]
    ]  # fmt: skip
    right_aligned = frozenset(columns) - {"limit", "of", "span", "level"}
    return Table(
        f"Limits as known {instant_text(at)[:16]}, the worst values first", columns, cells, right_aligned
    )


def over_time(data: ReportData, rows: list[MonthlyRate]) -> Chart:
    """A rate by month, which the reader selects: reported, expected in the end with its interval, and its limits."""
    options = [f"{side} by {of}" for side in SIDES for of in OF]
    points = [point for row in rows for point in _points(row)]
    newest = [point["tooltip"] for point in points if point["rate"] == options[0]]
    return Chart(
        "rates",
        "Rate by month of the payment, in basis points",
        f"{options[0]} over {len({point['month'] for point in points})} months. The newest: {newest[0] if newest else '–'}.",
        lambda: charts.to_spec(_marks(points, _limit_lines(data), options[0])),
        note="Filled marks are what is reported so far, hollow ones what is expected in the end; dashed lines are limits on it.",
        options=options,
    )


def _points(row: MonthlyRate) -> list[dict[str, Any]]:
    """Two marks a rate: reported, and expected with its interval."""
    points = []
    for side, totals in (("frauds", row.frauds), ("disputes", row.disputes)):
        expected = totals.expected
        for of, whole, part in (
            ("number", float(row.payments), float(totals.n)),
            ("value", row.total, totals.total),
        ):
            if whole <= 0:
                continue
            points.append(_point(row, f"{side} by {of}", REPORTED, part / whole))
            if expected is not None:
                ends = (
                    (expected.n, expected.n_lower, expected.n_upper)
                    if of == "number"
                    else (expected.total, expected.total_lower, expected.total_upper)
                )
                points.append(_point(row, f"{side} by {of}", EXPECTED, *(end / whole for end in ends)))
    return points


def _point(
    row: MonthlyRate,
    rate: str,
    kind: str,
    value: float,
    lower: float | None = None,
    upper: float | None = None,
) -> dict[str, Any]:
    value, lower, upper = (
        float(f"{1e4 * each:.6g}")
        for each in (value, value if lower is None else lower, value if upper is None else upper)
    )
    interval = f" ({number(lower)} to {number(upper)})" if kind == EXPECTED else ""
    return {
        "month": f"{row.month:%Y-%m}", "rate": rate, "kind": kind, "value": value, "lower": lower, "upper": upper,
        "tooltip": f"{row.month:%Y-%m} {rate}, {kind}: {number(value)} basis points{interval}",
    }  # fmt: skip


def _limit_lines(data: ReportData) -> list[dict[str, Any]]:
    """Limits on all payments by the month of the payment or report; those of single values are in the table."""
    return [
        {"rate": f"{side} by {of}", "value": limit.basis_points, "tooltip": f"limit {name}: {exact(limit.basis_points)} basis points"}
        for side, rate in SIDES.items()
        for of, basis in OF.items()
        for name, limit in data.config.limit.items()
        if limit.rate in (rate, "fraud_and_dispute") and limit.of == basis and not limit.per
    ]  # fmt: skip


def _marks(points: list[dict[str, Any]], lines: list[dict[str, Any]], first: str) -> Any:
    import altair

    scale, axis = altair.Scale(zero=True, nice=True), altair.Axis(format=",~r", tickCount=5)
    base = (
        altair.Chart(charts.inline_data(points))
        .transform_filter("datum.rate === selected")
        .encode(
            x=altair.X("month:O", title=None, axis=altair.Axis(labelAngle=0, labelOverlap="greedy")),
            tooltip="tooltip:N",
        )
    )
    dots = base.mark_point(size=80, strokeWidth=1.8, opacity=1).encode(
        y=altair.Y("value:Q", title=None, scale=scale, axis=axis),
        color=charts.styled_channel("Color", "kind:N", {REPORTED: charts.PRIMARY, EXPECTED: charts.ACCENT}),
        shape=charts.styled_channel("Shape", "kind:N", {REPORTED: "circle", EXPECTED: "diamond"}),
        fill=charts.styled_channel("Fill", "kind:N", {REPORTED: charts.PRIMARY, EXPECTED: "transparent"}),
    )
    bars = base.mark_rule(strokeWidth=1.6, color=charts.ACCENT).encode(
        y=altair.Y("lower:Q", title=None, scale=scale), y2="upper:Q"
    )
    selection = altair.param(name="selected", value=first)
    if not lines:
        return (bars + dots).add_params(selection)
    limits = (
        altair.Chart(charts.inline_data(lines))
        .transform_filter("datum.rate === selected")
        .mark_rule(strokeDash=[6, 4], strokeWidth=1.6, color=charts.MUTED)
        .encode(y=altair.Y("value:Q", title=None, scale=scale), tooltip="tooltip:N")
    )
    return (bars + dots + limits).add_params(selection)
