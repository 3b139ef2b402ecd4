"""
Feature encoding: raw feature columns → the feature matrix of the detectors.

The encoder holds what is learned from the training rows and is therefore part of the model: the base rate that
short fraud histories are shrunk to, the frequency and fraud rate of each category (target encoding), and the
median that imputes a missing value. Rows are encoded independently of each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats, NotFitted, State, as_weights

# Prior strength: every history is mixed with this many transactions at the base rate, so that an entity with one known
# fraud in two payments does not look worse than one with twenty in fifty.
HISTORY_STRENGTH = 5.0
# Categories have few values and many rows, and their rates include the training rows themselves. The prior is strong, so that
# a rare value does not leak a training row's own label.
CATEGORY_STRENGTH = 100.0
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

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {
            "passthrough": [list(entry) for entry in self.passthrough],
            "rates": [list(entry) for entry in self.rates],
            "categories": [list(entry) for entry in self.categories],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "EncodingPlan":
        """Restore the plan from `to_json`."""
        return cls(
            tuple((str(name), int(column)) for name, column in stored["passthrough"]),
            tuple((str(name), int(frauds), int(total)) for name, frauds, total in stored["rates"]),
            tuple((str(name), int(column)) for name, column in stored["categories"]),
        )


@dataclass(frozen=True)
class _Category:
    """Frequency and fraud rate of each value of one categorical field in training."""

    values: Floats  # (n_values,) hashes, ascending
    frequency: Floats  # (n_values,) share of transactions
    rate: Floats  # (n_values,) smoothed share of fraud


class Encoder:
    """
    Smooth fraud rates, target-encode categories, impute missing values.

    A rate is (frauds + k·base) / (total + k): without history it is the base rate of the training, and
    history outweighs the base rate from k transactions on. An unseen category has frequency 0 and the base rate; a
    missing one is a category of its own. A value that is missing or not finite becomes the training median of
    its column, or 0 if the whole column was missing.

    The encoder learns only from training rows. The fraud rate of a category contains each training row's own label
    (target leakage), which `CATEGORY_STRENGTH` reduces but does not remove.

    Parameters
    ----------
    history_strength, category_strength
        k of entity histories and of categories, in transactions.

    References
    ----------
    Micci-Barreca (2001), A preprocessing scheme for high-cardinality categorical attributes.
    """

    def __init__(
        self,
        plan: EncodingPlan,
        history_strength: float = HISTORY_STRENGTH,
        category_strength: float = CATEGORY_STRENGTH,
    ) -> None:
        if not (history_strength > 0 and category_strength > 0):
            raise DetectorError(
                f"smoothing needs strengths above 0, got {history_strength} and {category_strength}"
            )
        self.plan = plan
        self.history_strength = history_strength
        self.category_strength = category_strength
        self.base_rate = np.nan
        self._medians: Floats | None = None  # (n_passthrough,)
        self._categories: list[_Category] = []

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of `transform`'s columns."""
        return self.plan.names

    def fit(self, raw: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None) -> "Encoder":
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
        rows, labels = self._rows(raw), np.asarray(y, dtype=np.float64)
        if not len(rows) or labels.shape != (len(rows),):
            raise DetectorError(
                f"an encoder needs rows and a label for each, got {rows.shape} and {labels.shape}"
            )
        weights = as_weights(weight, len(rows))
        labelled = ~np.isnan(labels)
        frauds = np.where(labelled, labels, 0.0) * weights
        self.base_rate = _share(float(frauds.sum()), float(weights[labelled].sum()))
        self._medians = np.array([_median(rows[:, column]) for _, column in self.plan.passthrough])
        self._categories = [
            self._category(rows[:, column], frauds, weights, labelled) for _, column in self.plan.categories
        ]
        return self

    def transform(self, raw: ArrayLike) -> Floats:
        """Features of each row, (n, n_features), C-contiguous, all finite."""
        rows = self._rows(raw)
        if self._medians is None:
            raise NotFitted("the encoder is not fitted: call fit first")
        features = np.empty((len(rows), len(self.names)))
        at = len(self.plan.passthrough)
        for place, (_, column) in enumerate(self.plan.passthrough):
            values = rows[:, column]
            features[:, place] = np.where(np.isfinite(values), values, self._medians[place])
        for place, (_, frauds, total) in enumerate(self.plan.rates, start=at):
            features[:, place] = self._rate(rows[:, frauds], rows[:, total])
        at += len(self.plan.rates)
        for place, (_, column) in enumerate(self.plan.categories):
            category = self._categories[place]
            features[:, at + 2 * place], features[:, at + 2 * place + 1] = self._encode(
                rows[:, column], category
            )
        return features

    def state(self) -> State:
        """The fitted encoder as plain arrays and JSON."""
        if self._medians is None:
            raise NotFitted("the encoder is not fitted: call fit first")
        arrays = {"medians": self._medians}
        for place, category in enumerate(self._categories):
            arrays[f"values_{place}"] = category.values
            arrays[f"frequency_{place}"] = category.frequency
            arrays[f"rate_{place}"] = category.rate
        meta = {
            "plan": self.plan.to_json(),
            "base_rate": self.base_rate,
            "history_strength": self.history_strength,
            "category_strength": self.category_strength,
        }
        return State(meta, arrays)

    @classmethod
    def from_state(cls, state: State) -> "Encoder":
        """Restore the encoder from its `state`; it encodes the same to the bit."""
        plan = EncodingPlan.from_json(state.meta["plan"])
        encoder = cls(plan, state.meta["history_strength"], state.meta["category_strength"])
        encoder.base_rate = float(state.meta["base_rate"])
        encoder._medians = state.arrays["medians"]
        encoder._categories = [
            _Category(*(state.arrays[f"{part}_{place}"] for part in ("values", "frequency", "rate")))
            for place in range(len(plan.categories))
        ]
        return encoder

    def _rows(self, raw: ArrayLike) -> Floats:
        rows = np.asarray(raw, dtype=np.float64)
        needed = self.plan.n_columns
        if rows.ndim != 2 or rows.shape[1] < needed:
            raise DetectorError(f"the plan needs {needed} raw columns, got an array of shape {rows.shape}")
        return rows

    def _rate(self, frauds: Floats, total: Floats) -> Floats:
        k = self.history_strength
        rates: Floats = (np.nan_to_num(frauds) + k * self.base_rate) / (np.nan_to_num(total) + k)
        return rates

    def _category(
        self, column: Floats, frauds: Floats, weights: Floats, labelled: NDArray[np.bool_]
    ) -> _Category:
        values, codes = np.unique(_hashes(column), return_inverse=True)
        total = np.bincount(codes, weights, len(values))
        n_labelled = np.bincount(codes, weights * labelled, len(values))
        positive = np.bincount(codes, frauds, len(values))
        k = self.category_strength
        return _Category(values, total / total.sum(), (positive + k * self.base_rate) / (n_labelled + k))

    def _encode(self, column: Floats, category: _Category) -> tuple[Floats, Floats]:
        hashes = _hashes(column)
        place = np.minimum(np.searchsorted(category.values, hashes), len(category.values) - 1)
        in_training = category.values[place] == hashes
        frequency = np.where(in_training, category.frequency[place], 0.0)
        return frequency, np.where(in_training, category.rate[place], self.base_rate)


def _hashes(column: Floats) -> Floats:
    return np.where(np.isnan(column), MISSING, column)


def _median(column: Floats) -> float:
    present = column[np.isfinite(column)]
    return float(np.median(present)) if len(present) else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
