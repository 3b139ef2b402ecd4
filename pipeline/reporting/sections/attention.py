"""What waits for a person: failures, alarms, refusals and flags that grow old."""

from collections.abc import Iterator

import numpy as np

from pipeline.rendering.elements import Section
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import safe, text_of
from storage.queries import listings, report_counts

OLD_DAYS = 7  # of an open flag
FINDINGS = 3  # of a training's readiness, the gravest first


def section(facts: Facts) -> Section:
    """A point each, with what to do; a calm sentence where there is none."""
    points = [
        *_gaps(facts),
        *_refusal(facts),
        *_findings(facts),
        *_drift(facts),
        *_quality(facts),
        *_old_flags(facts),
    ]
    said = [] if points else ["Nothing: every step is done, no alarm is raised and no flag grows old."]
    return Section("attention", "What needs somebody", said, points=points)


def _gaps(facts: Facts) -> Iterator[str]:
    rows = report_counts.ledger_days(facts.store, facts.scope)
    failed = sum(row["n"] for row in rows if row["status"] == "failed")
    if failed:
        yield f"{failed:,} steps failed: fraudwatch gaps names the errors and what to do."


def _refusal(facts: Facts) -> Iterator[str]:
    """The newest training of the span, where its model was refused."""
    end = text_of(facts.scope.end)
    checks = [
        row for row in listings.checks(facts.store, facts.scope.policy) if row["training_date"][:19] < end
    ]
    if checks and checks[0]["verdict"] == "refused":
        yield f"The newest model was not promoted: {safe(checks[0]['sentence'])}"


def _findings(facts: Facts) -> Iterator[str]:
    grave = [
        row
        for row in listings.readiness(facts.store, facts.scope.policy)
        if row["level"] in ("error", "warning")
    ]
    for row in grave[:FINDINGS]:
        yield f"Before the newest training, {row['level']}: {_sentence(row['said'])} {_sentence(row['remedy'])}"
    if len(grave) > FINDINGS:
        yield f"{len(grave) - FINDINGS} more findings before that training: fraudwatch readiness."


def _drift(facts: Facts) -> Iterator[str]:
    names = report_counts.newest_alarms(facts.store, facts.scope)
    if names:
        shown = ", ".join(safe(name) for name in names[:3]) + (" …" if len(names) > 3 else "")
        yield f"{len(names)} features or scores are in alarm in the newest window measured: {shown} (see Drift)."


def _quality(facts: Facts) -> Iterator[str]:
    alarms = [row for row in report_counts.quality_windows(facts.store, facts.scope) if row["alarm"]]
    if alarms:
        newest = max(alarms, key=lambda row: row["window_start"])
        measure = safe(newest["metric"]).replace("_", " ")
        day = text_of(newest["window_start"])[:10]
        yield f"Quality came out other than estimated in {len(alarms)} windows, newest {measure} of {day} (see Quality over time)."


def _old_flags(facts: Facts) -> Iterator[str]:
    today = np.datetime64(text_of(facts.scope.as_of)[:10], "D")
    old = sum(
        row["n"]
        for row in report_counts.queue_days(facts.store, facts.scope)
        if row["status"] == "open" and today - np.datetime64(row["day"], "D") > np.timedelta64(OLD_DAYS, "D")
    )
    if old:
        yield f"{old:,} open flags are older than {OLD_DAYS} days: answer them (fraudwatch verdict), or lower alerts.per_day."


def _sentence(text: str) -> str:
    shown = safe(text).strip()
    return shown[:1].upper() + shown[1:] + ("" if shown.endswith(".") else ".")
