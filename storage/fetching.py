"""
A long result → arrays, in parts, so that memory holds the arrays and one part as Python objects.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Column, Connection, Select, cast, extract, type_coerce
from sqlalchemy.sql.elements import Label
from sqlalchemy.types import Text

from storage.columns import POSTGRES, from_texts
from storage.frames import MONEY, SECOND, Coded
from storage.store import Store

ROWS_AT_ONCE = 20_000

Keep = Callable[[Mapping[str, Any]], NDArray[np.bool_]]


def micros(store: Store, column: Column[int], name: str) -> Label[Any]:
    """An instant as the engine gives it fastest: µs on Postgres, text on SQLite."""
    if store.dialect == POSTGRES:
        return cast(extract("epoch", column) * SECOND, BigInteger).label(name)
    return type_coerce(column, Text).label(name)


def money(store: Store, column: Column[float], name: str) -> Label[Any]:
    """An amount as the engine gives it fastest: 1/10,000 on Postgres, a float on SQLite."""
    if store.dialect == POSTGRES:
        return cast(column * MONEY, BigInteger).label(name)
    return column.label(name)


def fetch(
    connection: Connection,
    chosen: Select[Any],
    forms: Mapping[str, type["Numbers"]],
    keep: Keep | None = None,
) -> dict[str, Any]:
    """
    Run a SELECT; returns an array (or Coded) for every column.

    Parameters
    ----------
    forms
        What columns hold; those not named hold whole numbers.
    keep
        Looks at the arrays of a part and says which rows to keep.
    """
    names = [str(column.key) for column in chosen.selected_columns]
    made = {name: forms.get(name, Numbers)() for name in names}
    result = connection.execute(chosen, execution_options={"yield_per": ROWS_AT_ONCE})
    for rows in result.partitions():
        part = {
            name: made[name].read(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
        }
        kept = slice(None) if keep is None else keep(part)
        for name in names:
            made[name].add(part[name][kept])
    return {name: made[name].joined() for name in names}


class Numbers:
    """Whole numbers."""

    dtype: Any = np.int64

    def __init__(self) -> None:
        self._arrays: list[Any] = []

    def read(self, values: Sequence[Any]) -> NDArray[Any]:
        """A part of the column as an array."""
        return np.array([-1 if value is None else value for value in values], dtype=np.int64)

    def add(self, array: NDArray[Any]) -> None:
        """Keep a part."""
        self._arrays.append(array)

    def joined(self) -> Any:
        """The whole column."""
        return np.concatenate(self._arrays) if self._arrays else np.empty(0, dtype=self.dtype)


class Instants(Numbers):
    """µs, or SQLite's texts."""

    def read(self, values: Sequence[Any]) -> NDArray[Any]:
        if isinstance(next((value for value in values if value is not None), None), str):
            return from_texts(["NaT" if value is None else value for value in values])
        return super().read(values)


class Moneys(Numbers):
    """1/10,000, or SQLite's floats."""

    def read(self, values: Sequence[Any]) -> NDArray[Any]:
        if isinstance(values[0], int):
            return np.array(values, dtype=np.int64)
        return np.rint(np.array(values, dtype=np.float64) * MONEY).astype(np.int64)


class Doubles(Numbers):
    """Floats, NaN for missing."""

    dtype = np.float64

    def read(self, values: Sequence[Any]) -> NDArray[Any]:
        return np.array(values, dtype=np.float64)


class Texts(Numbers):
    """Texts, None for missing."""

    dtype = object

    def read(self, values: Sequence[Any]) -> NDArray[Any]:
        texts = np.empty(len(values), dtype=object)
        texts[:] = values
        return texts


class Codes(Texts):
    """Texts as codes, in order of first appearance."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, int] = {}

    def add(self, array: NDArray[Any]) -> None:
        import pandas as pd

        codes, values = pd.factorize(array)
        known = self._known
        places = np.array([known.setdefault(value, len(known)) for value in values] + [-1], dtype=np.int32)
        self._arrays.append(places[codes])

    def joined(self) -> Coded:
        codes = np.concatenate(self._arrays) if self._arrays else np.empty(0, dtype=np.int32)
        values = np.empty(len(self._known), dtype=object)
        values[:] = list(self._known)
        return Coded(codes, values)
