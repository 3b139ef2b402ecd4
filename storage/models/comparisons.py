"""Stored results of `compare`, with everything that was printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select

from storage.database.database import Store
from storage.database.tables import comparison_results, comparisons
from storage.errors import Unknown


@dataclass(frozen=True)
class TechniqueMetric:
    """One metric of one technique; `rank` is the technique's, best first. None where it is not defined."""

    technique: str
    rank: int
    metric: str
    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class StoredComparison:
    """A stored comparison; `at` in µs."""

    comparison_id: int
    at: int
    by: str
    settings: Mapping[str, Any]
    folds: Sequence[Mapping[str, Any]]
    notes: Mapping[str, str]
    sentence: str
    results: Sequence[TechniqueMetric]
    curves: Mapping[
        str, Mapping[str, Sequence[float]]
    ]  # by technique: recall and precision as the threshold falls


def save(
    store: Store,
    at: int,
    by: str,
    config_text: str,
    settings: Mapping[str, Any],
    folds: Sequence[Mapping[str, Any]],
    notes: Mapping[str, str],
    sentence: str,
    results: Sequence[TechniqueMetric],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
) -> int:
    """Store a comparison in one transaction; returns its id."""
    row = {
        "at": at, "by": by, "config_text": config_text, "settings": dict(settings), "folds": list(folds),
        "notes": dict(notes), "sentence": sentence, "curves": dict(curves),
    }  # fmt: skip
    with store.write() as connection:
        inserted = connection.execute(insert(comparisons), row)
        assert inserted.inserted_primary_key is not None
        number = int(inserted.inserted_primary_key[0])
        rows = [{"comparison_id": number, **vars(result)} for result in results]
        connection.execute(insert(comparison_results), rows)
    return number


def newest(store: Store, as_of: int) -> StoredComparison | None:
    """The newest comparison that was there at an instant (µs)."""
    c = comparisons.c
    with store.read() as connection:
        found = connection.scalar(select(func.max(c.comparison_id)).where(c.at <= as_of))
    return None if found is None else load(store, int(found))


def load(store: Store, comparison_id: int | None = None) -> StoredComparison:
    """
    A stored comparison, the newest by default.

    Raises
    ------
    Unknown
        There is no such comparison.
    """
    c, r = comparisons.c, comparison_results.c
    with store.read() as connection:
        if comparison_id is None:
            comparison_id = connection.scalar(select(func.max(c.comparison_id)))
        mine = select(comparisons).where(c.comparison_id == comparison_id)
        row = connection.execute(mine).mappings().one_or_none()
        if row is None:
            raise Unknown("there is no such comparison", code="unknown_comparison")
        results = select(comparison_results).where(r.comparison_id == comparison_id)
        rows = connection.execute(results.order_by(r.rank, r.technique)).all()
    return StoredComparison(
        comparison_id=row["comparison_id"],
        at=row["at"],
        by=row["by"],
        settings=row["settings"],
        folds=row["folds"],
        notes=row["notes"],
        sentence=row["sentence"],
        results=[
            TechniqueMetric(each.technique, each.rank, each.metric, each.value, each.lower, each.upper)
            for each in rows
        ],
        curves=row["curves"] or {},
    )
