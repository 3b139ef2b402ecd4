"""The rows of a training, in time order, and how raw columns become features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats, Ints
from detectors.inputs.encoding import EncodingPlan


@dataclass(frozen=True)
class Sample:
    """
    Rows of a training, in time order.

    Without `time` the order of the rows is their time; without `known_at` a label is known at once; without `entity` every row
    stands alone.
    """

    raw: Floats  # (n, n_raw)
    y: Floats  # (n,) 1 fraud, 0 genuine, NaN unknown
    weight: Floats  # (n,) how many transactions the row stands for
    amount: Floats  # (n,) in the base currency
    time: Ints | None = None  # (n,) any unit, ascending
    known_at: Ints | None = None  # (n,) in that unit: when the row and its label could be learned from
    entity: Ints | None = None  # (n,) codes from 0 of who paid

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: slice | NDArray[np.bool_] | Ints) -> "Sample":
        """These rows only."""
        return Sample(
            np.ascontiguousarray(self.raw[rows]),
            self.y[rows],
            self.weight[rows],
            self.amount[rows],
            None if self.time is None else self.time[rows],
            None if self.known_at is None else self.known_at[rows],
            None if self.entity is None else self.entity[rows],
        )

    @property
    def times(self) -> Ints:
        """(n,) when each row happened."""
        return np.arange(len(self), dtype=np.int64) if self.time is None else self.time

    @property
    def learnable_at(self) -> Ints:
        """(n,) from when on each row could be learned from."""
        return self.times if self.known_at is None else self.known_at

    @property
    def entities(self) -> Ints:
        """(n,) codes from 0 of who paid."""
        return np.arange(len(self), dtype=np.int64) if self.entity is None else self.entity


@dataclass(frozen=True)
class Layout:
    """How raw columns become features, and which features the outlier detector looks at."""

    encoding: EncodingPlan
    outlier_columns: tuple[int, ...]  # positions among the encoder's outputs

    @classmethod
    def plain(cls, n_columns: int, outlier_columns: Sequence[int] | None = None) -> "Layout":
        """Columns as they are, missing values filled with medians; the outlier detector sees all, or these."""
        plan = EncodingPlan(passthrough=tuple((f"x{place}", place) for place in range(n_columns)))
        return cls(plan, tuple(range(n_columns) if outlier_columns is None else outlier_columns))

    def outlier_view(self, X: Floats) -> Floats:
        """The features that the outlier detector looks at, (n, n_outlier_columns)."""
        return np.ascontiguousarray(X[:, list(self.outlier_columns)])
