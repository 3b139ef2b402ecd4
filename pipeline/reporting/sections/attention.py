"""Section "Needs attention": failures, alarms, a rejected candidate and old open flags."""

from collections.abc import Iterator

import numpy as np

from pipeline.number_text import counted, money
from pipeline.rendering.elements import ReportSection
from pipeline.rendering.report_data import ReportData, total
from pipeline.rendering.text import instant_text, safe_text
from storage.database.column_types import as_datetime
from storage.queries.choices import newest_findings
from storage.queries.models import check_page

OLD_FLAG_DAYS = 7  # age of an open flag
FINDINGS_MAX = 3  # of a training's readiness, errors first


def section(data: ReportData) -> ReportSection:
    """A bullet point per problem, with its remedy."""
    points = [
        *_gaps(data),
        *_rejected_candidate(data),
        *_findings(data),
        *_drift(data),
        *_quality(data),
        *_old_flags(data),
        *_late_answers(data),
    ]
    sentences = [] if points else ["Nothing: every step is done, there is no alarm and no old open flag."]
    return ReportSection("attention", "Needs attention", sentences, points=points)


def _gaps(data: ReportData) -> Iterator[str]:
    rows = data.ledger_days
    failed = sum(row["n"] for row in rows if row["status"] == "failed")
    if failed:
        yield f"{counted(failed, 'step')} failed: fraudwatch gaps lists the errors with their remedies."


def _rejected_candidate(data: ReportData) -> Iterator[str]:
    """The newest training of the span, if its candidate was rejected."""
    end = as_datetime(data.scope.end)
    checks = [row for row in check_page(data.store, data.scope.policy, 20).rows if row["training_date"] < end]
    if checks and checks[0]["verdict"] == "rejected":
        yield f"The newest candidate was not promoted: {safe_text(checks[0]['sentence'])}"


def _findings(data: ReportData) -> Iterator[str]:
    serious = [
        row for row in newest_findings(data.store, data.scope.policy) if row["level"] in ("error", "warning")
    ]
    for row in serious[:FINDINGS_MAX]:
        yield f"Before the newest training, {row['level']}: {_sentence(row['message'])} {_sentence(row['remedy'])}"
    if len(serious) > FINDINGS_MAX:
        yield f"{counted(len(serious) - FINDINGS_MAX, 'more finding')} before that training: fraudwatch readiness."


def _drift(data: ReportData) -> Iterator[str]:
    names = data.newest_alarms
    if names:
        listed = ", ".join(safe_text(name) for name in names[:3]) + (" …" if len(names) > 3 else "")
        yield f"{counted(len(names), 'feature or score raises', 'features or scores raise')} an alarm in the newest measured window: {listed} (see Drift)."


def _quality(data: ReportData) -> Iterator[str]:
    alarms = [row for row in data.quality_windows if row["alarm"]]
    if alarms:
        newest = max(alarms, key=lambda row: row["window_start"])
        metric = safe_text(newest["metric"]).replace("_", " ")
        day = instant_text(newest["window_start"])[:10]
        yield f"Realised quality differs from its estimate in {counted(len(alarms), 'window')}, the newest is {metric} of {day} (see Quality over time)."


def _old_flags(data: ReportData) -> Iterator[str]:
    today = np.datetime64(instant_text(data.scope.as_of)[:10], "D")
    old = sum(
        row["n"]
        for row in data.queue_days
        if row["status"] == "open"
        and today - np.datetime64(row["day"], "D") > np.timedelta64(OLD_FLAG_DAYS, "D")
    )
    if old:
        yield f"{counted(old, 'open flag is', 'open flags are')} older than {OLD_FLAG_DAYS} days: record verdicts (fraudwatch verdict) or lower alerts.per_day."


def _late_answers(data: ReportData) -> Iterator[str]:
    """Caught frauds that were reported before anybody answered their flags, where flags are answered at all."""
    answered, worth = total(data.daily, "in_time_n"), total(data.daily, "late")
    if answered and worth:
        yield (
            f"{total(data.daily, 'late_n'):,.0f} caught frauds, worth {money(worth, data.currency)}, were neither answered in time nor "
            "stopped: fraudwatch flags list --status open lists the largest expected losses first."
        )


def _sentence(text: str) -> str:
    sentence = safe_text(text).strip()
    return sentence[:1].upper() + sentence[1:] + ("" if sentence.endswith(".") else ".")
