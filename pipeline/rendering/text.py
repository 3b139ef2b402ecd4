"""Values as text for people: instants, shares, thresholds."""

from collections.abc import Mapping

from pipeline.number_text import number, percent
from pipeline.sanitize import for_page
from storage.database.column_types import as_datetime
from storage.queries.runs import GapRemedy

GAP_REMEDIES: dict[GapRemedy, str] = {
    "wait": "the next tick or fraudwatch run does it",
    "at_work": "at work by run {run}",
    "repeat_backfill": "its backfill was interrupted: repeat fraudwatch backfill over the window (fraudwatch doctor has its dates)",
    "repeat_training": "windows are scored with the model before it; fraudwatch train --as-of DATE tries again",
    "repeat_window": "fix what the error names, then fraudwatch backfill over the window",
}


def instant_text(instant: int) -> str:
    """2026-03-01 06:00:00, UTC."""
    return as_datetime(instant).strftime("%Y-%m-%d %H:%M:%S")


def iso_instant(instant: int) -> str:
    """2026-03-01T06:00:00Z, for Vega."""
    return as_datetime(instant).strftime("%Y-%m-%dT%H:%M:%SZ")


def safe_text(value: object) -> str:
    """A value from the data, sanitised and shortened; – for None."""
    return "–" if value is None else for_page(str(value))


def share(part: float, whole: float) -> str:
    """A share in percent; – if the whole is 0."""
    return percent(part / whole) if whole else "–"


def thresholds_text(thresholds: Mapping[str, float | None]) -> str:
    """Thresholds by channel as text; None means infinity, which JSON does not have: the channel flags nothing."""
    texts = {
        name: "flags nothing" if value is None else number(value, 6)
        for name, value in sorted(thresholds.items())
    }
    return ", ".join(f"{name} {value}" for name, value in texts.items())
