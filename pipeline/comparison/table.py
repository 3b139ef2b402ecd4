"""The table of a stored comparison: titles of its columns, cells, and what they mean."""

from collections.abc import Iterable
from math import nan

from detectors.imbalance.table import COLUMN_TITLES, LEGEND, cell


def column_titles(metrics: Iterable[str]) -> dict[str, str]:
    """Metric → title of its column, with one column for each group of false-flag rates among the metrics."""
    groups = sorted({name for name in metrics if name.startswith("false_flag_rate ")})
    return COLUMN_TITLES | {name: f"FF {name.partition(' ')[2]}" for name in groups}


def cell_text(metric: str, value: float | None, lower: float | None, upper: float | None) -> str:
    """A value with half the width of its interval; a dash where it is not defined."""
    half_width = nan if lower is None or upper is None else (upper - lower) / 2
    return cell(metric, nan if value is None else value, half_width)


def legend(flags_per_day: float) -> str:
    """What the columns mean, if this many of the highest scores of a day are reviewed."""
    return LEGEND.format(per_day=f"{flags_per_day:g}")
