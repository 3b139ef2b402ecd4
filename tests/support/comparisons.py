"""A stored comparison of techniques, as `compare` leaves it."""

from collections.abc import Mapping, Sequence

from storage.database.database import Store
from storage.models import comparisons
from storage.models.comparisons import TechniqueMetric

SETTINGS = {"folds": 1, "test": "7d", "max_rows": 1000, "only": [], "by": "", "seed": 7, "per_day": 5.0}
FOLD = {
    "from": "2025-02-01T00:00:00+00:00", "to": "2025-02-08T00:00:00+00:00",
    "training_rows": 900, "training_frauds": 30, "test_rows": 200, "test_frauds": 6,
}  # fmt: skip


def store_comparison(
    store: Store,
    at: int,
    results: Sequence[TechniqueMetric],
    sentence: str,
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    notes: Mapping[str, str] | None = None,
) -> int:
    """One of a single fold; returns its id."""
    return comparisons.save(store, at, "ann", "", SETTINGS, [FOLD], notes or {}, sentence, results, curves)
