"""
Feature encoding: raw feature columns → the feature matrix of the detectors.

The encoder holds what is learned from the training rows and is therefore part of the model: the base rate that
short fraud histories are shrunk to, the frequency and fraud rate of each category (target encoding), and the
median that imputes a missing value. Rows are encoded independently of each other.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import Bools, DetectorError, Floats, as_weights, require_arrays

Places = NDArray[np.intp]
# Prior strength: every history is mixed with this many transactions at the base rate, so that an entity with one known
# fraud in two payments does not look worse than one with twenty in fifty.
HISTORY_STRENGTH = 5.0
# Categories have few values and many rows, and their rates include the training rows themselves. The prior is strong, so that
# a rare value does not leak a training row's own label.
CATEGORY_STRENGTH = 100.0
CHUNK = 65_536  # rows that are encoded at once, which bounds the copies
MISSING = -1.0  # the hash of a missing category; hashes of texts are 0 or more


@dataclass(frozen=True)
class EncodingPlan:
    """
    Where in the raw matrix each feature comes from; features leave in this order.

    Attributes
    ----------
    passthrough
        (name, column) of numbers used as they are.
    rates
        (name, column of positives, column of total) of pairs of counts.
    categories
        (name, column) of category hashes; each gives `name_frequency` and `name_fraud_rate`.
    """

    passthrough: tuple[tuple[str, int], ...] = ()
    rates: tuple[tuple[str, int, int], ...] = ()
    categories: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        singles = [column for _, column in (*self.passthrough, *self.categories)]
        columns = [*singles, *(min(pair[1:]) for pair in self.rates)]
        if min(columns, default=0) < 0:
            raise DetectorError("columns of an encoding are counted from 0")

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of the encoder's columns."""
        numbers = [name for name, _ in self.passthrough] + [name for name, _, _ in self.rates]
        both = [name + end for name, _ in self.categories for end in ("_frequency", "_fraud_rate")]
        return numbers + both

    @property
    def n_columns(self) -> int:
        """The number of raw columns that the plan needs."""
        singles = [column for _, column in (*self.passthrough, *self.categories)]
        return 1 + max([*singles, *(max(pair[1:]) for pair in self.rates)], default=-1)


@dataclass(frozen=True)
class CategoryRates:
    """Frequency and fraud rate of each value of one categorical field in training."""

    values: Floats  # (n_values,) hashes, ascending
    frequency: Floats  # (n_values,) share of transactions
    rate: Floats  # (n_values,) smoothed share of fraud

    def __post_init__(self) -> None:
        require_arrays("a category", (max(1, len(self.values)),), self.values, self.frequency, self.rate)


@dataclass(frozen=True)
class Encoder:
    """
    Smooth fraud rates, target-encode categories, impute missing values.

    A rate is (frauds + k·base) / (total + k): without history it is the base rate of the training, and
    history outweighs the base rate from k transactions on. An unseen category has frequency 0 and the base rate; a
    missing one is a category of its own. A value that is missing or not finite becomes the training median of
    its column, or 0 if the whole column was missing.

    The encoder learns only from training rows. The fraud rate of a category contains each training row's own label
    (target leakage), which `CATEGORY_STRENGTH` reduces but does not remove.

    Attributes
    ----------
    plan
        Where each feature comes from.
    base_rate
        The share of fraud among the labelled training rows.
    medians
        (n_passthrough,) medians that impute missing numbers.
    categories
        What was learned of each categorical field.

    References
    ----------
    Micci-Barreca (2001), A preprocessing scheme for high-cardinality categorical attributes.
    """

    plan: EncodingPlan
    base_rate: float
    medians: Floats
    categories: tuple[CategoryRates, ...]

    def __post_init__(self) -> None:
        require_arrays("an encoder", (len(self.plan.passthrough),), self.medians)
        if len(self.categories) != len(self.plan.categories) or not np.isfinite(self.base_rate):
            raise DetectorError("what an encoder has learned does not fit its plan")

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of `transform`'s columns."""
        return self.plan.names

    @classmethod
    def fit(cls, plan: EncodingPlan, raw: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None) -> Self:
        """
        Learn the base rate, categories and medians.

        Parameters
        ----------
        raw
            (n, n_raw) raw columns of the training rows.
        y
            (n,) 1 fraud, 0 genuine, NaN unlabelled: unlabelled rows count for frequencies and medians only.
        weight
            (n,) how many transactions each row stands for; 1 by default.
        """
        rows, labels = _rows(plan, raw), np.asarray(y, dtype=np.float64)
        if not len(rows) or labels.shape != (len(rows),):
            raise DetectorError(
                f"an encoder needs rows and a label for each, got {rows.shape} and {labels.shape}"
            )
        weights = as_weights(weight, len(rows))
        labelled = ~np.isnan(labels)
        frauds = np.where(labelled, labels, 0.0) * weights
        base_rate = _share(float(frauds.sum()), float(weights[labelled].sum()))
        return cls(
            plan,
            base_rate,
            np.array([_median(rows[:, column]) for _, column in plan.passthrough], dtype=np.float64),
            tuple(
                _category_rates(rows[:, column], frauds, weights, labelled, base_rate)
                for _, column in plan.categories
            ),
        )

    def transform(self, raw: ArrayLike) -> Floats:
        """Features of each row, (n, n_features), C-contiguous, all finite."""
        rows = _rows(self.plan, raw)
        features = np.empty((len(rows), len(self.names)))
        for start in range(0, len(rows), CHUNK):
            self._encode_chunk(rows[start : start + CHUNK], features[start : start + CHUNK])
        return features

    def _encode_chunk(self, rows: Floats, features: Floats) -> None:
        numbers, frauds, totals = self._places
        at = len(numbers)
        values = rows[:, numbers]
        features[:, :at] = np.where(np.isfinite(values), values, self.medians)
        k = HISTORY_STRENGTH
        counts = np.nan_to_num(rows[:, frauds]), np.nan_to_num(rows[:, totals])
        features[:, at : at + len(frauds)] = (counts[0] + k * self.base_rate) / (counts[1] + k)
        at += len(frauds)
        for place, (_, column) in enumerate(self.plan.categories):
            features[:, at + 2 * place], features[:, at + 2 * place + 1] = self._encode(
                rows[:, column], self.categories[place]
            )

    @cached_property
    def _places(self) -> tuple[Places, Places, Places]:
        """The raw columns of numbers, and of the positives and totals of rates."""
        numbers = [column for _, column in self.plan.passthrough]
        rates = [(frauds, total) for _, frauds, total in self.plan.rates]
        frauds, totals = (np.array([rate[side] for rate in rates], dtype=np.intp) for side in (0, 1))
        return np.array(numbers, dtype=np.intp), frauds, totals

    def _encode(self, column: Floats, category: CategoryRates) -> tuple[Floats, Floats]:
        hashes = _hashes(column)
        place = np.minimum(np.searchsorted(category.values, hashes), len(category.values) - 1)
        in_training = category.values[place] == hashes
        frequency = np.where(in_training, category.frequency[place], 0.0)
        return frequency, np.where(in_training, category.rate[place], self.base_rate)


def _rows(plan: EncodingPlan, raw: ArrayLike) -> Floats:
    rows = np.asarray(raw, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] < plan.n_columns:
        raise DetectorError(
            f"the plan needs {plan.n_columns} raw columns, got an array of shape {rows.shape}"
        )
    return rows


def _category_rates(
    column: Floats, frauds: Floats, weights: Floats, labelled: Bools, base_rate: float
) -> CategoryRates:
    values, codes = np.unique(_hashes(column), return_inverse=True)
    total = np.bincount(codes, weights, len(values))
    n_labelled = np.bincount(codes, weights * labelled, len(values))
    positive = np.bincount(codes, frauds, len(values))
    k = CATEGORY_STRENGTH
    return CategoryRates(values, total / total.sum(), (positive + k * base_rate) / (n_labelled + k))


def _hashes(column: Floats) -> Floats:
    return np.where(np.isnan(column), MISSING, column)


def _median(column: Floats) -> float:
    present = column[np.isfinite(column)]
    return float(np.median(present)) if len(present) else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
