"""Training rows in time order, and the layout that turns raw columns into features."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.base import Bools, DetectorError, Floats, Ints
from detectors.inputs.encoding import EncodingPlan


@dataclass(frozen=True)
class Sample:
    """
    Training rows in time order.

    Without `time` the position of a row is its time; without `known_at` labels have no delay; without `entity` every row is an
    entity of its own.
    """

    raw: Floats  # (n, n_raw)
    y: Floats  # (n,) 1 fraud, 0 genuine, NaN unknown
    weight: Floats  # (n,) how many transactions the row stands for
    amount: Floats  # (n,) what is at risk, in the base currency
    time: Ints | None = None  # (n,) any unit, ascending
    known_at: Ints | None = None  # (n,) in the same unit: from when on the row and its label were known
    entity: Ints | None = None  # (n,) codes from 0 of the paying entity

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: slice | Bools | Ints) -> "Sample":
        """A subset of the rows."""
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
        """(n,) event time of each row."""
        return np.arange(len(self), dtype=np.int64) if self.time is None else self.time

    @property
    def learnable_at(self) -> Ints:
        """(n,) from when on each row and its label were known, and may be trained on."""
        return self.times if self.known_at is None else self.known_at

    @property
    def entities(self) -> Ints:
        """(n,) codes from 0 of the paying entity."""
        return np.arange(len(self), dtype=np.int64) if self.entity is None else self.entity

    def with_examples(self, more: "Sample") -> "Sample":
        """
        These labelled rows and more of them, with the same weighted share of fraud, in time order.

        `more` may be any mixture of fraud and genuine rows: the weights of all frauds are scaled so that the base rate that is
        learned stays that of these rows.
        """
        if not len(more):
            return self
        order = np.argsort(np.append(self.times, more.times), kind="stable")
        y, weight = np.append(self.y, more.y), np.append(self.weight, more.weight)
        fraud = y == 1
        odds = _fraud_odds(self.weight, self.y == 1)
        if odds:
            weight[fraud] *= odds / _fraud_odds(weight, fraud)
        return Sample(
            np.ascontiguousarray(np.concatenate([self.raw, more.raw])[order]),
            y[order],
            weight[order],
            np.append(self.amount, more.amount)[order],
            np.append(self.times, more.times)[order],
            np.append(self.learnable_at, more.learnable_at)[order],
            np.append(self.entities, more.entities)[order],
        )


def _fraud_odds(weight: Floats, fraud: Bools) -> float:
    """The odds of fraud by weight; 0 if there is only one class."""
    frauds, genuine = float(weight[fraud].sum()), float(weight[~fraud].sum())
    return frauds / genuine if frauds and genuine else 0.0


def digest_of(samples: Sequence[Sample], settings: str = "") -> str:
    """A digest of settings as text, and of all in these samples that a detector may learn from."""
    digest = hashlib.blake2b(settings.encode(), digest_size=16)
    for sample in samples:
        for values in (sample.raw, sample.y, sample.weight, sample.times):
            digest.update(repr((values.dtype.str, values.shape)).encode())
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class FeatureGroup:
    """Features that one outlier detector sees together."""

    name: str
    columns: tuple[int, ...]  # positions among the encoder's outputs
    distinct: bool = False  # whether columns that say the same as another are left out in training

    def __post_init__(self) -> None:
        if min(self.columns, default=0) < 0:
            raise DetectorError("columns of a group of features are counted from 0")

    def view(self, X: Floats) -> Floats:
        """The features of the group, (n, n_group_columns)."""
        return np.ascontiguousarray(X[:, list(self.columns)])


@dataclass(frozen=True)
class Layout:
    """How raw columns become features, and the groups of features for which an outlier detector is fitted."""

    encoding: EncodingPlan
    groups: tuple[FeatureGroup, ...]

    @classmethod
    def plain(cls, n_columns: int, outlier_columns: Sequence[int] | None = None) -> "Layout":
        """Columns used as they are, missing values imputed with medians; one group of all columns or `outlier_columns`."""
        plan = EncodingPlan(passthrough=tuple((f"x{place}", place) for place in range(n_columns)))
        columns = range(n_columns) if outlier_columns is None else outlier_columns
        return cls(plan, (FeatureGroup("outlier", tuple(columns), distinct=True),))
