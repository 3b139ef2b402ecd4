"""A comparison as it is stored."""

from math import isnan
from typing import Any

import numpy as np

from detectors.imbalance.results import Comparison, FoldSummary, estimates
from storage.database.column_types import as_datetime
from storage.models.comparisons import TechniqueMetric

CURVE_POINTS = 200  # of a stored curve; more are not visible


def metric_rows(comparison: Comparison) -> list[TechniqueMetric]:
    """The table as rows."""
    return [
        TechniqueMetric(
            result.technique, place, name, *map(_defined, (estimate.value, estimate.lower, estimate.upper))
        )
        for place, result in enumerate(comparison.results)
        for name, estimate in estimates(result).items()
    ]


def curve_rows(comparison: Comparison) -> dict[str, dict[str, list[float]]]:
    """By technique recall and precision as the threshold falls, at `CURVE_POINTS` places or fewer."""
    rows = {}
    for result in comparison.results:
        if result.curve is not None:
            recall, precision = result.curve
            places = np.unique(np.linspace(0, len(recall) - 1, CURVE_POINTS).round().astype(np.int64))
            rows[result.technique] = {
                "recall": [round(float(each), 4) for each in recall[places]],
                "precision": [round(float(each), 4) for each in precision[places]],
            }
    return rows


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
