"""Comparisons of techniques, kept as they were printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select

from storage.database.database import Store
from storage.database.tables import comparison_results, comparisons
from storage.errors import Unknown


@dataclass(frozen=True)
class Measured:
    """One measure of one technique; `place` is the technique's, best first. NaN is stored as NULL."""

    technique: str
    place: int
    measure: str
    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Comparison:
    """A stored comparison; `at` in µs."""

    comparison_id: int
    at: int
    settings: Mapping[str, Any]
    folds: Sequence[Mapping[str, Any]]
    notes: Mapping[str, str]
    sentence: str
    results: Sequence[Measured]


def save(
    store: Store,
    at: int,
    by: str,
    config_text: str,
    settings: Mapping[str, Any],
    folds: Sequence[Mapping[str, Any]],
    notes: Mapping[str, str],
    sentence: str,
    results: Sequence[Measured],
) -> int:
    """Keep a comparison, whole or not at all; returns its id."""
    row = {
        "at": at, "by": by, "config_text": config_text, "settings": dict(settings), "folds": list(folds),
        "notes": dict(notes), "sentence": sentence,
    }  # fmt: skip
    with store.write() as connection:
        made = connection.execute(insert(comparisons), row)
        assert made.inserted_primary_key is not None
        number = int(made.inserted_primary_key[0])
        rows = [{"comparison_id": number, **_without_nan(one)} for one in results]
        connection.execute(insert(comparison_results), rows)
    return number


def load(store: Store, comparison_id: int | None = None) -> Comparison:
    """
    A stored comparison, the newest by default.

    Raises
    ------
    Unknown
        There is none.
    """
    c, r = comparisons.c, comparison_results.c
    with store.read() as connection:
        wanted = (
            connection.scalar(select(func.max(c.comparison_id))) if comparison_id is None else comparison_id
        )
        row = (
            connection.execute(select(comparisons).where(c.comparison_id == wanted)).mappings().one_or_none()
        )
        if row is None:
            raise Unknown("there is no such comparison: fraudwatch compare makes one")
        chosen = select(comparison_results).where(r.comparison_id == wanted).order_by(r.place, r.technique)
        found = connection.execute(chosen).all()
    return Comparison(
        comparison_id=row["comparison_id"],
        at=row["at"],
        settings=row["settings"],
        folds=row["folds"],
        notes=row["notes"],
        sentence=row["sentence"],
        results=[
            Measured(one.technique, one.place, one.measure, *map(_nan, (one.value, one.lower, one.upper)))
            for one in found
        ],
    )


def _without_nan(one: Measured) -> dict[str, Any]:
    numbers = {name: getattr(one, name) for name in ("value", "lower", "upper")}
    known = {name: None if number != number else number for name, number in numbers.items()}  # noqa: PLR0124
    return {"technique": one.technique, "place": one.place, "measure": one.measure, **known}


def _nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
