"""
Raw feature columns → the matrix detectors see.

Raw columns know nothing of a training. What has to be learned from one, and is therefore part of the model,
is learned here: the base rate that thin fraud histories are drawn to, how frequent and how fraudulent each
category is, and the median that stands in for a missing value. A row's result does not depend on the rows
beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats, NotFitted, State, as_weights

# Transactions at the base rate that every history is mixed with: an entity with one known fraud in two known
# payments must not look worse than one with twenty in fifty.
HISTORY_STRENGTH = 5.0
# Categories have few values and many rows, and their rates include the training rows themselves: a rare value
# must not tell a training row its own label.
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
        """How many raw columns there must be at least."""
        singles = [column for _, column in (*self.passthrough, *self.categories)]
        return 1 + max([*singles, *(max(pair[1:]) for pair in self.rates)], default=-1)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        return {
            "passthrough": [list(entry) for entry in self.passthrough],
            "rates": [list(entry) for entry in self.rates],
            "categories": [list(entry) for entry in self.categories],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "EncodingPlan":
        """The plan that `to_json` was taken from."""
        return cls(
            tuple((str(name), int(column)) for name, column in stored["passthrough"]),
            tuple((str(name), int(frauds), int(total)) for name, frauds, total in stored["rates"]),
            tuple((str(name), int(column)) for name, column in stored["categories"]),
        )


@dataclass(frozen=True)
class _Category:
    """What a training knew of one categorical field."""

    values: Floats  # (n_values,) hashes, ascending
    frequency: Floats  # (n_values,) share of transactions
    rate: Floats  # (n_values,) smoothed share of fraud


class Encoder:
    """
    Smooth fraud histories, encode categories, fill what is missing.

    A rate is (frauds + k·base) / (total + k): with no history it is the base rate of the training, and
    history outweighs it from k transactions on. An unseen category has frequency 0 and the base rate; a
    missing one is a category of its own. A value that is missing or not finite becomes the training median of
    its column, 0 where the whole column was missing.

    It learns only from training rows; a rate per category still contains each training row's own label,
    which `CATEGORY_STRENGTH` dilutes and does not remove.

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
        Learn base rate, categories and medians.

        Parameters
        ----------
        raw
            (n, n_raw) raw columns of the training rows.
        y
            (n,) 1 fraud, 0 genuine, NaN unknown: unknown rows count for frequencies and medians only.
        weight
            (n,) how many transactions each row stands for; 1 by default.
        """
        rows, labels = self._rows(raw), np.asarray(y, dtype=np.float64)
        if not len(rows) or labels.shape != (len(rows),):
            raise DetectorError(
                f"an encoder needs rows and a label for each, got {rows.shape} and {labels.shape}"
            )
        weights = as_weights(weight, len(rows))
        known = ~np.isnan(labels)
        frauds = np.where(known, labels, 0.0) * weights
        self.base_rate = _share(float(frauds.sum()), float(weights[known].sum()))
        self._medians = np.array([_median(rows[:, column]) for _, column in self.plan.passthrough])
        self._categories = [
            self._category(rows[:, column], frauds, weights, known) for _, column in self.plan.categories
        ]
        return self

    def transform(self, raw: ArrayLike) -> Floats:
        """Features of each row, (n, n_features), C-contiguous, all finite."""
        rows = self._rows(raw)
        if self._medians is None:
            raise NotFitted("the encoder has learned nothing yet: fit it first")
        features = np.empty((len(rows), len(self.names)))
        at = len(self.plan.passthrough)
        for place, (_, column) in enumerate(self.plan.passthrough):
            values = rows[:, column]
            features[:, place] = np.where(np.isfinite(values), values, self._medians[place])
        for place, (_, frauds, total) in enumerate(self.plan.rates, start=at):
            features[:, place] = self._rate(rows[:, frauds], rows[:, total])
        at += len(self.plan.rates)
        for place, (_, column) in enumerate(self.plan.categories):
            known = self._categories[place]
            features[:, at + 2 * place], features[:, at + 2 * place + 1] = self._encode(
                rows[:, column], known
            )
        return features

    def state(self) -> State:
        """What was learned, as plain arrays and JSON."""
        if self._medians is None:
            raise NotFitted("the encoder has learned nothing yet: fit it first")
        arrays = {"medians": self._medians}
        for place, known in enumerate(self._categories):
            arrays[f"values_{place}"] = known.values
            arrays[f"frequency_{place}"] = known.frequency
            arrays[f"rate_{place}"] = known.rate
        meta = {
            "plan": self.plan.to_json(),
            "base_rate": self.base_rate,
            "history_strength": self.history_strength,
            "category_strength": self.category_strength,
        }
        return State(meta, arrays)

    @classmethod
    def from_state(cls, state: State) -> "Encoder":
        """The encoder that `state` was taken from; it encodes bit for bit alike."""
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
        self, column: Floats, frauds: Floats, weights: Floats, known: NDArray[np.bool_]
    ) -> _Category:
        values, codes = np.unique(_hashes(column), return_inverse=True)
        total = np.bincount(codes, weights, len(values))
        labelled = np.bincount(codes, weights * known, len(values))
        positive = np.bincount(codes, frauds, len(values))
        k = self.category_strength
        return _Category(values, total / total.sum(), (positive + k * self.base_rate) / (labelled + k))

    def _encode(self, column: Floats, known: _Category) -> tuple[Floats, Floats]:
        hashes = _hashes(column)
        place = np.minimum(np.searchsorted(known.values, hashes), len(known.values) - 1)
        seen = known.values[place] == hashes
        return np.where(seen, known.frequency[place], 0.0), np.where(seen, known.rate[place], self.base_rate)


def _hashes(column: Floats) -> Floats:
    return np.where(np.isnan(column), MISSING, column)


def _median(column: Floats) -> float:
    present = column[np.isfinite(column)]
    return float(np.median(present)) if len(present) else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
