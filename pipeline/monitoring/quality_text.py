"""Texts of detection quality: formatted values, a table of metrics, and alarms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.config.config import Config
from pipeline.number_text import mean_money, number, percent
from storage.monitoring.quality_metrics import QualityMetric

SHARES = frozenset({
    "precision", "recall", "average_precision", "savings", "reviewed_precision", "audit_fraud_share", "audit_recall",
})  # fmt: skip
MONEY = frozenset({"cost", "money_caught", "money_missed", "avoided"})
MAIN = {
    "all": ("precision", "recall", "cost", "average_precision", "savings", "money_caught", "money_missed"),
    "model": ("precision", "recall", "cost", "average_precision"),
    "channel": ("flags", "precision", "recall", "cost", "avoided"),
}
DAYS = frozenset({"detection_delay", "review_delay", "queue_age"})


def format_value(metric: str, value: float | None, currency: str) -> str:
    """Format a value with its unit."""
    if value is None:
        return "–"
    if metric in SHARES:
        return percent(value)
    if metric in MONEY:
        return mean_money(value, currency)
    if metric in DAYS:
        return f"{value:,.1f} days"
    return f"{value:,.0f}" if float(value).is_integer() else number(value)


def day(instant: int) -> str:
    """The UTC date of an instant."""
    return str(np.datetime64(instant, "us").astype("datetime64[D]"))


def alarm_text(row: QualityMetric, estimate: QualityMetric, config: Config) -> str:
    """The text of an alarm: the realised value, the estimate, and its expected range."""
    currency = config.schema_.base_currency
    realised, value, low, high = (
        format_value(row.metric, number, currency)
        for number in (row.value, estimate.value, estimate.alarm_below, estimate.alarm_above)
    )
    direction = "above" if (row.value or 0) > (estimate.value or 0) else "below"
    windows = round(1 / config.quality.alarm_rate)
    return (
        f"{row.metric} of {day(row.window_start)} to {day(row.window_end)} is {realised}, {direction} the estimate of {value}; "
        f"by chance, one window in {windows} is outside {low} to {high}: check calibration and drift, then train"
    )


def side_by_side(rows: Sequence[Mapping[str, Any]], by: str, currency: str) -> list[dict[str, str]]:
    """Stored metrics as a table, one line for each window and metric, with estimated and realised values side by side."""
    lines: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        key = (row["window_end"], row["window_start"], row["model_id"], row["channel"], row["metric"])
        line = lines.setdefault(
            key,
            {
                "from": f"{row['window_start']:%Y-%m-%d}", "to": f"{row['window_end']:%Y-%m-%d}", "channel": row["channel"],
                "model": str(row["model_id"]), "metric": row["metric"],
            },
        )  # fmt: skip
        line["estimated" if row["kind"] == "estimated" else "realised"] = _with_interval(row, currency)
        if row["message"] and (row["alarm"] or row["value"] is None or by == "channel"):
            unknown = "not estimated: " if row["kind"] == "estimated" and row["value"] is None else ""
            line["message"] = ("alarm: " if row["alarm"] else unknown) + row["message"]
    return list(lines.values())


def _with_interval(row: Mapping[str, Any], currency: str) -> str:
    value, lower, upper = (
        format_value(row["metric"], row[name], currency) for name in ("value", "lower", "upper")
    )
    return value if row["lower"] is None else f"{value} ({lower} to {upper})"
