"""Values as text for people: instants, shares, money, thresholds."""

from pipeline.sanitize import for_page
from storage.database.column_types import as_datetime


def text_of(instant: int) -> str:
    """2026-03-01 06:00:00, UTC."""
    return as_datetime(instant).strftime("%Y-%m-%d %H:%M:%S")


def moment(instant: int) -> str:
    """2026-03-01T06:00:00Z, as a drawing reads it."""
    return as_datetime(instant).strftime("%Y-%m-%dT%H:%M:%SZ")


def safe(value: object) -> str:
    """A value of the data, harmless and short; – where there is none."""
    return "–" if value is None else for_page(str(value))


def share(part: float, whole: float) -> str:
    """A share in words, – of nothing."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def money(value: float, currency: str) -> str:
    """Whole units of the currency."""
    return f"{value:,.0f} {currency}"


def thresholds_in_words(of_channels: dict[str, float | None]) -> str:
    """JSON has no infinity: a channel that flags nothing has none."""
    told = {
        name: "flags nothing" if value is None else f"{value:.6g}"
        for name, value in sorted(of_channels.items())
    }
    return ", ".join(f"{name} {value}" for name, value in told.items())
