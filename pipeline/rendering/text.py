"""Values as text for people: instants, shares, thresholds."""

from collections.abc import Mapping

from pipeline.number_text import number, percent, score_text
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


def thresholds_text(thresholds: Mapping[str, float | None], basis: str) -> str:
    """
    Thresholds by channel as text; None means infinity, which JSON does not have: the channel flags nothing.

    Parameters
    ----------
    basis
        `costs.missed_fraud_basis`: constant costs compare probabilities, costs by amount expected losses.
    """
    return ", ".join(
        f"{name} {_threshold_text(name, value, basis)}" for name, value in sorted(thresholds.items())
    )


def _threshold_text(channel: str, value: float | None, basis: str) -> str:
    if value is None:
        return "flags nothing"
    if channel in ("outlier", "novelty"):
        return f"score {score_text(value)}"
    # Models of before the basis was set may have compared a loss: above 1 it is no probability.
    return percent(value) if basis == "constant" and value <= 1 else number(value, 6)
