"""
Finds leaks: fields that tell fraud almost perfectly, as a field does that is filled in once a fraud is known.

What a field tells may be its value or that it is present at all. Which of its values point to fraud is learned on the
earlier frauds and measured on the later ones, so that values that occur once, as of an identifier, prove nothing. A leak
is a property of how data is made: it holds over the whole span and for many customers, unlike an attack.

When it does not work: a field that is filled in for some genuine payments as well (a dispute that was won) looks like a
strong legitimate field, and a legitimate field that is as good as a label looks like a leak; `schema.trusted` names it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config.config import Config, as_toml
from pipeline.features.history import History
from pipeline.number_text import percent
from pipeline.training.training_set import payers
from storage.frames import Coded, Floats, Ints

# A field leaks if, on later frauds, it is right about so many of the payments that it points to, these are so large a
# share of all frauds, and they are of so many customers. Real fields stay far below: docs/operations.md has the figures.
PRECISION_MIN, RECALL_MIN, PAYERS_MIN = 0.9, 0.25, 8
POINTS_TO_FRAUD = 0.5  # share of fraud among the earlier payments with a value that points to fraud
EDGES = 16  # quantiles of the earlier frauds' numbers, between which a number is like a category
MISSING, PRESENT = -1, 0

Codes = tuple[NDArray[np.int64], Coded | None]  # of the mature rows, and the column of a category


@dataclass(frozen=True)
class Leak:
    """
    A field that tells fraud.

    Attributes
    ----------
    state
        What points to fraud: "missing", "present", a value, or "" for several values.
    precision, recall
        Share of fraud among the payments with this state, and their share of all frauds; of the later frauds.
    """

    name: str
    state: str
    precision: float
    recall: float

    @property
    def sentence(self) -> str:
        """What the field tells."""
        state = f" where it is {self.state}" if self.state else " with certain values of it"
        return (
            f"{self.name} tells the label: of the payments{state} {percent(self.precision)} are fraud, and they are {percent(self.recall)} "
            "of all frauds"
        )


def trusted_line(config: Config, leaks: Iterable[Leak]) -> str:
    """The line of the configuration with which these fields are used."""
    names = dict.fromkeys((*config.schema_.trusted, *(leak.name for leak in leaks)))
    return f"trusted = {as_toml(tuple(names))}"


def find_leaks(config: Config, history: History, mature: Ints, y: Floats) -> list[Leak]:
    """
    The fields of [schema] that tell fraud and are not in `schema.trusted`.

    Parameters
    ----------
    mature
        Positions of the labelled rows, in time order.
    y
        Their labels, 1 for fraud.
    """
    frauds = np.flatnonzero(y == 1)
    if len(frauds) < 2 * PAYERS_MIN:
        return []
    split = int(frauds[len(frauds) // 2])
    owner = payers(config, history)[mature]
    leaks = []
    for name, candidates in _fields(config, history, mature, mature[frauds[: len(frauds) // 2]]):
        if name in config.schema_.trusted:
            continue
        measured = (_measure(name, codes, column, y, split, owner) for codes, column in candidates)
        leaks += [leak for leak in measured if leak is not None][:1]
    return leaks


def _fields(
    config: Config, history: History, mature: Ints, earlier_frauds: Ints
) -> Iterator[tuple[str, list[Codes]]]:
    """The codes of each field: whether it is present, then its values."""
    schema, transactions = config.schema_, history.transactions
    for name in (*schema.categorical, *schema.entities):
        column = transactions.columns[name]
        codes = column.codes[mature].astype(np.int64)
        values = [(codes, column)] if name in schema.categorical else []  # one customer's fraud is no leak
        yield name, [(np.minimum(codes, 0), None), *values]
    for name in schema.numeric:
        numbers = transactions.numeric[name]
        codes = _number_codes(numbers[mature], numbers[earlier_frauds])
        yield name, [(np.minimum(codes, 0), None), (codes, None)]


def _number_codes(values: Floats, of_frauds: Floats) -> NDArray[np.int64]:
    """Which of the frauds' quantiles each number is equal to or between."""
    known = of_frauds[np.isfinite(of_frauds)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, EDGES))) if len(known) else known
    codes = np.searchsorted(edges, values, side="left") + np.searchsorted(edges, values, side="right")
    return np.where(np.isfinite(values), codes, MISSING).astype(np.int64)


def _measure(
    name: str, codes: NDArray[np.int64], column: Coded | None, y: Floats, split: int, owner: Ints
) -> Leak | None:
    places = codes - MISSING
    rows = np.bincount(places[:split])
    points = np.zeros(int(places.max(initial=0)) + 1, dtype=bool)
    points[: len(rows)] = np.bincount(places[:split], y[:split]) >= POINTS_TO_FRAUD * np.maximum(rows, 1)
    pointed, fraud = points[places[split:]], y[split:] == 1
    both = pointed & fraud
    if not both.any():
        return None
    precision, recall = float(both.sum() / pointed.sum()), float(both.sum() / fraud.sum())
    if precision < PRECISION_MIN or recall < RECALL_MIN or len(np.unique(owner[split:][both])) < PAYERS_MIN:
        return None
    pointing = np.flatnonzero(points) + MISSING
    return Leak(name, _state(pointing, is_presence=codes.max() <= PRESENT, column=column), precision, recall)


def _state(pointing: NDArray[np.int64], is_presence: bool, column: Coded | None) -> str:
    if is_presence:
        return "missing" if MISSING in pointing else "present"
    return repr(str(column.values[pointing[0]])) if len(pointing) == 1 and column is not None else ""
