"""Texts of detection quality: formatted values, a table of metrics, the summary's paragraph, and alarms."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from detectors.model.auto_detector import NOVELTY
from pipeline.config.config import Config
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
        return f"{value:.0%}" if abs(value) >= 0.1 or value == 0 else f"{value:.1%}"
    if metric in MONEY:
        return f"{value:,.0f} {currency}"
    if metric in DAYS:
        return f"{value:,.1f} days"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


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


def paragraph(
    of_all: Sequence[Mapping[str, Any]], of_channels: Sequence[Mapping[str, Any]], currency: str
) -> Iterator[str]:
    """Detection quality of a span for the summary: of mature windows, by channel, and the newest estimate."""
    total = _sums(row for row in of_all if row["kind"] == "realised")
    windows = sorted(
        row["window_end"] for row in of_all if row["kind"] == "realised" and row["metric"] == "frauds"
    )
    if windows:
        yield (
            f"mature to {windows[-1]:%Y-%m-%d}: precision {_share(total, 'caught', 'flags')}, recall {_share(total, 'caught', 'frauds')}, "
            f"cost {format_value('cost', total.get('cost'), currency)}"
        )
    for channel in sorted({row["channel"] for row in of_channels}):
        counts = _sums(row for row in of_channels if row["channel"] == channel)
        yield _channel_sentence(channel, counts | {"frauds": total.get("frauds", 0.0)}, currency)
    ahead = [row for row in of_all if row["kind"] == "estimated" and row["window_end"] not in windows]
    for row in ahead:
        if row["metric"] in ("precision", "recall", "cost") and row["window_end"] == ahead[0]["window_end"]:
            value = (
                _with_interval(row, currency)
                if row["value"] is not None
                else f"not estimated: {row['message']}"
            )
            yield f"not mature yet, {row['window_start']:%Y-%m-%d} to {row['window_end']:%Y-%m-%d}: {row['metric']} {value}"


def _channel_sentence(channel: str, n: Mapping[str, float], currency: str) -> str:
    flags = n.get("flags", 0.0)
    if not flags:
        return f"  {channel}: flagged nothing"
    if channel == NOVELTY and not n.get("caught"):
        return (
            f"  {channel}: the outlier detector's own share found nothing: none of its {flags:,.0f} flags is known fraud; "
            f"reviewing them cost {format_value('cost', n.get('cost'), currency)}"
        )
    return (
        f"  {channel}: {flags:,.0f} flags, precision {_share(n, 'caught', 'flags')}, recall {_share(n, 'caught', 'frauds')}; "
        f"reviewing genuine ones cost {format_value('cost', n.get('cost'), currency)}, caught frauds would have cost "
        f"{format_value('cost', n.get('avoided'), currency)}"
    )


def _sums(rows: Iterator[Mapping[str, Any]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for row in rows:
        sums[row["metric"]] = sums.get(row["metric"], 0.0) + (row["value"] or 0.0)
    return sums


def _share(n: Mapping[str, float], part: str, whole: str) -> str:
    return format_value("precision", n[part] / n[whole], "") if n.get(whole) else "not known"
