"""Chunks of validated transactions and labels for loading, one array per column."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.database import bulk
from storage.frames import MONEY, Floats, Ints, Strings


@dataclass(frozen=True)
class TransactionChunk:
    """Validated transactions in the order of their source."""

    row_number: Ints
    transaction_id: Strings
    event_time: Ints  # µs
    amount: Floats  # in the currency of the row
    amount_base: Ints  # 1/10,000 of the base currency
    currency: Strings | None
    kind: Strings | None
    original_id: Strings | None
    text: Mapping[str, Strings]  # None for missing
    numeric: Mapping[str, Floats]  # NaN for missing

    def __len__(self) -> int:
        return len(self.transaction_id)

    def columns(self, batch_id: int) -> dict[str, list[Any]]:
        """The columns of the table `transactions`, as lists of plain Python values."""
        optional = {"currency": self.currency, "kind": self.kind, "original_id": self.original_id}
        return {
            "transaction_id": self.transaction_id.tolist(),
            "event_time": bulk.instants(self.event_time),
            "amount": self.amount.tolist(),
            "amount_base": (self.amount_base / MONEY).tolist(),
            **{name: column.tolist() for name, column in optional.items() if column is not None},
            **{name: column.tolist() for name, column in self.text.items()},
            **{name: bulk.numbers(column) for name, column in self.numeric.items()},
            "batch_id": [batch_id] * len(self),
        }

    def take(self, rows: Ints) -> "TransactionChunk":
        """The chunk with these rows only."""

        def some(column: Any) -> Any:
            return None if column is None else column[rows]

        return TransactionChunk(
            self.row_number[rows],
            self.transaction_id[rows],
            self.event_time[rows],
            self.amount[rows],
            self.amount_base[rows],
            some(self.currency),
            some(self.kind),
            some(self.original_id),
            {name: column[rows] for name, column in self.text.items()},
            {name: column[rows] for name, column in self.numeric.items()},
        )


@dataclass(frozen=True)
class WaitingChunk:
    """Transactions that wait for a rate of their currency; their amounts in the base currency mean nothing."""

    transactions: TransactionChunk

    def __len__(self) -> int:
        return len(self.transactions)


@dataclass(frozen=True)
class LabelChunk:
    """Validated labels in the order of their source."""

    row_number: Ints
    transaction_id: Strings
    is_fraud: NDArray[np.bool_]
    source: Strings
    known_at: Ints  # µs

    def __len__(self) -> int:
        return len(self.transaction_id)

    def take(self, rows: Ints) -> "LabelChunk":
        """The chunk with these rows only."""
        return LabelChunk(
            self.row_number[rows],
            self.transaction_id[rows],
            self.is_fraud[rows],
            self.source[rows],
            self.known_at[rows],
        )
