"""Texts of drift metrics and alarms: what changed, by how much, and what to do."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectors.drift.metrics import SCALES
from pipeline.monitoring.drift_levels import VOLUME
from pipeline.number_text import counted, percent

Row = Mapping[str, Any]

METRIC_TEXTS = {
    "psi": "population stability index {:,.3f}",
    "jensen_shannon": "Jensen–Shannon divergence {:,.3f}",
    "ks": "largest difference of the distribution functions {:,.3f}",
    "wasserstein": "moved by {:,.3f} standard deviations",
    "cramers_v": "Cramér's V {:,.3f}",
    "auc": "a classifier separates it from the reference with AUC {:,.3f}",
    "missing": "{:%} missing",
    "out_of_range": "{:%} outside the range of the reference",
    "unseen": "{:%} with a value that is not in the reference",
    "flag_rate": "{:%} of the payments flagged",
    "fraud_rate": "{:%} of the payments fraud",
    "payments": "{:,.0f} payments",
    "per_entity": "{:,.3f} payments per entity",
    "median_delay": "frauds reported after {:,.3f} days (median)",
    "complete_lag": "labels complete to {:,.3f} days ago",
}
SHARE = "{:%}"  # the place of a share
VALUE = re.compile(r"\{.*?\}")  # the place of a value in its text, with its format
FEEDS = "check that files and polls arrive, and that no step is left undone"
LABELS = "check that labels arrive completely"
SOURCE = (
    "check the source of the field for a lost, renamed or reformatted value; if it is correct, train again"
)
MODEL = "check the newest flags and which features drift; a training sets new thresholds"
CHANGE = "find out what changed; if it lasts, train again, and shorten training.span if the alarm stays"
FRAUD = "check what was caught and missed: it may be an attack, or labels that arrive differently"


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """The newest window as lines of text: a head line, then two lines for the first alarm of each feature."""
    if not rows:
        return
    newest = [row for row in rows if row["window_end"] == rows[0]["window_end"]]
    alarms = [row for row in newest if row["alarm"]]
    yield _head(newest, alarms)
    done: set[str] = set()
    for row in alarms:
        if row["feature"] not in done:
            done.add(row["feature"])
            yield f"  {metric_text(row)}"
            yield f"    {remedy(row)}"
    yield from (f"  not compared: {why}" for why in _not_compared(newest))


def change_text(row: Row) -> str:
    """One metric with its value and its alarm threshold."""
    text, threshold = METRIC_TEXTS[row["metric"]], row["threshold"]
    side = "under" if _is_below(row) else "over"
    bound = "" if threshold is None else f" (alarm {side} {_number(text, threshold)})"
    return f"{VALUE.sub(_number(text, row['value']), text)}{bound}"


def metric_text(row: Row) -> str:
    """One metric with its feature, its value, its alarm threshold and its effect size."""
    effect = "" if row["effect"] is None else f", effect {row['effect']:.3f}"
    used = ", ".join((row["detail"] or {}).get("used", {}))
    return f"{row['feature']}: {change_text(row)}{effect}" + (f"; by {used}" if used else "")


def remedy(row: Row) -> str:
    """What to do about an alarm."""
    feature, metric = row["feature"], row["metric"]
    if metric == "fraud_rate":
        return FRAUD
    if feature == "labels":
        return LABELS
    if feature.startswith("volume"):
        return FEEDS
    if metric in ("missing", "unseen", "out_of_range"):
        return SOURCE
    return MODEL if feature in ("score", "reasons") or feature.startswith("flags:") else CHANGE


def _head(newest: Sequence[Row], alarms: Sequence[Row]) -> str:
    window = f"{newest[0]['window_start']:%Y-%m-%d %H:%M} to {newest[0]['window_end']:%Y-%m-%d %H:%M} UTC"
    n = max((row["n_current"] for row in newest if row["feature"] == VOLUME), default=0)
    features = len({row["feature"] for row in alarms})
    alarm_text = (
        f"{counted(len(alarms), 'alarm')} on {counted(features, 'feature')}" if alarms else "no alarm"
    )
    pooled = max(row["pooled"] for row in newest)
    more = f", {pooled} windows pooled" if pooled > 1 else ""
    return f"{window}: {alarm_text} among {len(newest)} measurements, {counted(n, 'row')}{more}"


def _not_compared(newest: Sequence[Row]) -> list[str]:
    """Reasons why a whole window, not only a column of it, has no alarms."""
    whole = ("drift.min_rows", "a holiday", "no model", "its model", "too short")
    reasons = {row["suppressed_because"] or "" for row in newest}
    return sorted(reason for reason in reasons if any(part in reason for part in whole))


def _is_below(row: Row) -> bool:
    """Whether the threshold is a lower bound: the one on the side of the value is stored, and what is no alarm is within it."""
    value, threshold = row["value"], row["threshold"]
    if value is None or threshold is None or SCALES[row["metric"]].alarms != "both":
        return False
    return bool(value < threshold if row["alarm"] else value > threshold)


def _number(text: str, value: float | None) -> str:
    place = VALUE.search(text)
    if value is None or place is None:
        return "unknown"
    return percent(value) if place[0] == SHARE else place[0].format(value)
