"""
Columns of transactions and labels, as arrays, as they are read from storage.

Every instant is an int64 count of microseconds since 1970-01-01 UTC, every amount an int64 count of
1/10,000 of the monitor's base currency: sums of them are exact, so they do not depend on where they start.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Floats = NDArray[np.float64]
Strings = NDArray[np.object_]

SECOND = 1_000_000  # µs
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
MONEY = 10_000  # units of `amount` in one of the base currency

# Label status of a transaction. NEITHER: a dispute that is not about fraud, so that silence does not mean genuine.
FRAUD, GENUINE, UNKNOWN, NEITHER = 1, 0, -1, -2
# Sources of labels that people found themselves: on flags of the audit sample, on other flags, on payments without one.
REVIEWERS = ("audit", "review", "investigation")


def take_rows(column: Any, rows: Ints | NDArray[np.bool_] | slice) -> Any:
    """These rows of an array; `take` is a third of the work of an index."""
    if isinstance(rows, np.ndarray) and rows.dtype != np.bool_:
        return column.take(rows)
    return column[rows]


@dataclass(frozen=True)
class Coded:
    """A column of strings as codes into its values; −1 is missing."""

    codes: Codes  # (n,)
    values: Strings  # (n_values,)

    def take(self, rows: Ints | NDArray[np.bool_] | slice) -> "Coded":
        """The column with these rows only; the values stay."""
        return Coded(take_rows(self.codes, rows), self.values)


@dataclass(frozen=True)
class Transactions:
    """
    Transactions in the order (event_time, transaction_id); each array has one entry per row.

    `columns` holds the entity and categorical columns and, when configured, `kind`, `currency` and
    `original_id`; `numeric` holds float64 with NaN for missing.
    """

    transaction_id: Strings  # (n,)
    event_time: Ints  # (n,) µs
    ingested_at: Ints  # (n,) µs: event_time for history, else when the batch became visible
    amount: Ints  # (n,) 1/10,000 of the base currency
    columns: Mapping[str, Coded] = field(default_factory=dict)
    numeric: Mapping[str, Floats] = field(default_factory=dict)
    at_risk: Ints | None = None  # (n,) what of the amount is at risk; None where it is all of it
    # (n,) of rows that were scored on arrival the newest promotion then, −1 for the others; None if there are only others
    promotion: Ints | None = None

    def __len__(self) -> int:
        return len(self.event_time)

    def as_of(self, allowed_lateness: int) -> Ints:
        """
        The instant (µs) up to which the score of each row may use what is known, (n,).

        A row that was scored on arrival knows what was known then; the others wait for what comes late.
        """
        waited = np.maximum(self.event_time + allowed_lateness, self.ingested_at)
        return waited if self.promotion is None else np.where(self.promotion >= 0, self.ingested_at, waited)

    @property
    def exposure(self) -> Ints:
        """What of the amount is at risk, (n,) 1/10,000 of the base currency."""
        return self.amount if self.at_risk is None else self.at_risk

    def take(self, rows: Ints | NDArray[np.bool_] | slice) -> "Transactions":
        """The transactions with these rows only; `rows` must be ascending."""
        if isinstance(rows, np.ndarray) and rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        return Transactions(
            take_rows(self.transaction_id, rows),
            take_rows(self.event_time, rows),
            take_rows(self.ingested_at, rows),
            take_rows(self.amount, rows),
            {name: column.take(rows) for name, column in self.columns.items()},
            {name: take_rows(column, rows) for name, column in self.numeric.items()},
            None if self.at_risk is None else take_rows(self.at_risk, rows),
            None if self.promotion is None else take_rows(self.promotion, rows),
        )

    def between(self, start: int, end: int) -> slice:
        """The rows with start ≤ event_time < end."""
        first, last = np.searchsorted(self.event_time, [start, end])
        return slice(int(first), int(last))


@dataclass(frozen=True)
class Labels:
    """
    Labels ordered by label_id; a transaction may have several.

    A row that retracts another says nothing itself: its status is UNKNOWN.
    """

    label_id: Ints  # (m,)
    transaction_id: Strings  # (m,)
    status: NDArray[np.int8]  # (m,) FRAUD, GENUINE, NEITHER, or UNKNOWN for a retraction
    source: Coded  # (m,)
    known_at: Ints  # (m,) µs: when it became known in the world
    recorded_at: Ints  # (m,) µs: known_at for history, else when its batch became visible
    retracts: Ints  # (m,) label_id of the label that no longer holds once this row is available; −1 for none
    bulk: Coded  # (m,) shared by labels that one person gave at once; −1 for others

    @classmethod
    def from_answers(
        cls,
        label_id: Ints,
        transaction_id: Strings,
        is_fraud: NDArray[np.bool_],
        source: Coded,
        known_at: Ints,
        recorded_at: Ints,
    ) -> "Labels":
        """Labels that say fraud or genuine; none of them retracts another or was given in bulk."""
        m = len(label_id)
        none, bulk = np.full(m, -1, dtype=np.int64), np.full(m, -1, dtype=np.int32)
        return cls(
            label_id,
            transaction_id,
            is_fraud.astype(np.int8),
            source,
            known_at,
            recorded_at,
            none,
            Coded(bulk, np.empty(0, dtype=object)),
        )

    def __len__(self) -> int:
        return len(self.label_id)

    def take(self, rows: Ints | NDArray[np.bool_]) -> "Labels":
        """The labels with these rows only; `rows` must be ascending."""
        return Labels(
            self.label_id[rows],
            self.transaction_id[rows],
            self.status[rows],
            self.source.take(rows),
            self.known_at[rows],
            self.recorded_at[rows],
            self.retracts[rows],
            self.bulk.take(rows),
        )

    @property
    def is_fraud(self) -> NDArray[np.bool_]:
        """Whether each row says fraud, (m,)."""
        fraud: NDArray[np.bool_] = self.status == FRAUD
        return fraud

    @property
    def available_at(self) -> Ints:
        """The first instant at which the label may be used, max(known_at, recorded_at)."""
        return np.maximum(self.known_at, self.recorded_at)


@dataclass(frozen=True)
class Completeness:
    """
    Up to which instant labels are complete, as known at some instant (point in time).

    A label batch loaded as history counts as if it had arrived continuously: at any instant x up to
    `history_through`, labels known by x are available. Any other batch makes labels complete through `through` from
    `visible_at` on.
    """

    history_through: int  # µs; a large negative number without history
    visible_at: Ints  # (k,) ascending
    through: Ints  # (k,) running maximum

    def at(self, instants: Ints) -> Ints:
        """Newest instant through which labels are complete, as known at each of `instants` (µs)."""
        through = np.concatenate(([np.int64(NEVER)], self.through))
        arrived = through[np.searchsorted(self.visible_at, instants, side="right")]
        historic = np.minimum(instants, self.history_through)
        return np.minimum(np.maximum(arrived, historic), instants)

    def reached(self, instants: Ints) -> Ints:
        """The earliest instant at which labels are complete through each of `instants` (µs); `FOREVER` if never."""
        batch = np.append(self.visible_at, FOREVER)[np.searchsorted(self.through, instants)]
        return np.where(instants <= self.history_through, instants, np.maximum(batch, instants))


FOREVER = 2**62  # µs
NEVER = -(2**62)  # µs; before every instant, and far enough from overflow to be shifted by a lookback
