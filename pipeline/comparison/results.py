"""A comparison as it is stored."""

from math import isnan
from typing import Any

from detectors.imbalance.results import Comparison, FoldSummary, estimates
from storage.database.column_types import as_datetime
from storage.models.comparisons import TechniqueMetric


def metric_rows(comparison: Comparison) -> list[TechniqueMetric]:
    """The table as rows."""
    return [
        TechniqueMetric(
            result.technique, place, name, *map(_defined, (estimate.value, estimate.lower, estimate.upper))
        )
        for place, result in enumerate(comparison.results)
        for name, estimate in estimates(result).items()
    ]


def _defined(value: float) -> float | None:
    return None if isnan(value) else value


def fold_row(fold: FoldSummary) -> dict[str, Any]:
    """A fold, as it is also printed."""
    return {
        "from": as_datetime(fold.start).isoformat(),
        "to": as_datetime(fold.end).isoformat(),
        "training_rows": fold.training_rows,
        "training_frauds": fold.training_frauds,
        "test_rows": fold.test_rows,
        "test_frauds": fold.test_frauds,
    }
