"""What moved, by how much and what to do, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

SHARES = ("missing", "out_of_range", "unseen", "flag_rate", "fraud_rate")
SAID = {
    "psi": "population stability index {}",
    "jensen_shannon": "Jensen–Shannon divergence {}",
    "ks": "largest difference of the distribution functions {}",
    "wasserstein": "moved by {} standard deviations",
    "cramers_v": "Cramér's V {}",
    "auc": "a classifier tells it from the reference with AUC {}",
    "missing": "{} missing",
    "out_of_range": "{} outside of all that was seen",
    "unseen": "{} with a value never seen",
    "flag_rate": "{} of the payments flagged",
    "fraud_rate": "{} of the payments fraud",
    "payments": "{} payments",
    "per_entity": "{} payments for each",
    "median_delay": "frauds reported after {} days (median)",
    "complete_lag": "labels complete to {} days ago",
}
FEEDS = "see that files and polls arrive: fraudwatch feeds, fraudwatch gaps"
LABELS = "see that labels still arrive whole: fraudwatch feeds, fraudwatch readiness"
SOURCE = "look at where the field comes from: a lost, renamed or reformatted value; if it is right, fraudwatch train"
MODEL = "look at the newest flags (fraudwatch flags) and at which features moved; thresholds are set anew by a training"
CHANGE = "find out what changed; if it lasts, fraudwatch train, and a shorter training.span if it did not bring it back"
FRAUD = "look at fraudwatch summary: an attack, or labels that come otherwise than they did"


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """The newest window in words: a head line, then a line for each feature that alarms, its clearest metric first."""
    if not rows:
        return
    newest = [row for row in rows if row["window_end"] == rows[0]["window_end"]]
    alarms = [row for row in newest if row["alarm"]]
    yield _head(newest, alarms)
    told: set[str] = set()
    for row in alarms:
        if row["feature"] not in told:
            told.add(row["feature"])
            yield f"  {in_words(row)}"
            yield f"    {remedy(row)}"
    yield from (f"  not judged: {why}" for why in _held_back(newest))


def in_words(row: Row) -> str:
    """One metric: what it is, from when on it is an alarm, and how large the change is."""
    limit = _number(row["metric"], row["threshold"])
    side = "under" if _under(row) else "over"
    bound = "" if row["threshold"] is None else f" (alarm {side} {limit})"
    value = SAID.get(row["metric"], "{}").format(_number(row["metric"], row["value"]))
    effect = "" if row["effect"] is None else f", effect {row['effect']:.3f}"
    used = ", ".join((row["detail"] or {}).get("used", {}))
    return f"{row['feature']}: {value}{bound}{effect}" + (f"; by {used}" if used else "")


def remedy(row: Row) -> str:
    """What a person does about an alarm."""
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
    window = f"{newest[0]['window_start'][:16]} to {newest[0]['window_end'][:16]}"
    n = max(row["n_current"] for row in newest)
    features = len({row["feature"] for row in alarms})
    found = f"{len(alarms)} alarms on {features} features" if alarms else "no alarm"
    pooled = max(row["pooled"] for row in newest)
    more = f", {pooled} windows pooled" if pooled > 1 else ""
    return f"{window}: {found} among {len(newest)} measurements, {n:,} rows{more}"


def _held_back(newest: Sequence[Row]) -> list[str]:
    """Reasons that hold for a whole window, not for a column of it."""
    whole = ("drift.min_rows", "a holiday", "no model", "its model", "too short")
    reasons = {row["why"] for row in newest if row["why"] and any(part in row["why"] for part in whole)}
    return sorted(reasons)


def _under(row: Row) -> bool:
    two_sided = row["metric"] in (*SHARES, "payments", "per_entity", "median_delay")
    if not two_sided or row["value"] is None or row["threshold"] is None:
        return False
    return bool(row["alarm"] and row["value"] < row["threshold"])


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return "unknown"
    if metric in SHARES:
        return f"{value:.2%}"
    return f"{value:,.0f}" if metric == "payments" else f"{value:,.3f}"
