"""Chunks of validated transactions and labels for loading, one array per column."""

from collections.abc import Callable, Mapping, Sequence
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
    # Of feeds of events: which rows begin their payment, and so never change one that is stored. None for other feeds.
    begins: NDArray[np.bool_] | None = None

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
            some(self.begins),
        )

    @classmethod
    def joined(cls, chunks: Sequence["TransactionChunk"]) -> "TransactionChunk":
        """One chunk of the rows of some, which have the same columns."""
        first = chunks[0]

        def column(of: Callable[["TransactionChunk"], Any]) -> Any:
            return None if of(first) is None else np.concatenate([of(chunk) for chunk in chunks])

        return cls(
            column(lambda chunk: chunk.row_number),
            column(lambda chunk: chunk.transaction_id),
            column(lambda chunk: chunk.event_time),
            column(lambda chunk: chunk.amount),
            column(lambda chunk: chunk.amount_base),
            column(lambda chunk: chunk.currency),
            column(lambda chunk: chunk.kind),
            column(lambda chunk: chunk.original_id),
            {name: column(lambda chunk, name=name: chunk.text[name]) for name in first.text},  # type: ignore[misc]
            {name: column(lambda chunk, name=name: chunk.numeric[name]) for name in first.numeric},  # type: ignore[misc]
        )

    def payments(self, refund_kinds: Sequence[str]) -> "TransactionChunk":
        """The rows that are no refunds."""
        return self if self.kind is None else self.take(self.payment_places(refund_kinds))

    def payment_places(self, refund_kinds: Sequence[str]) -> Ints:
        """Positions of the rows that are no refunds."""
        if self.kind is None:
            return np.arange(len(self))
        return np.flatnonzero(~np.isin(self.kind.astype(str), list(refund_kinds)))


@dataclass(frozen=True)
class WaitingChunk:
    """Transactions that wait for a rate of their currency; their amounts in the base currency mean nothing."""

    transactions: TransactionChunk

    def __len__(self) -> int:
        return len(self.transactions)


@dataclass(frozen=True)
class LabelChunk:
    """
    Validated labels in the order of their source; arrays (n,).

    A row with a type and without `is_fraud` is a dispute about something else: neither fraud nor genuine. One with a
    stage alone is the end of a dispute, and changes no label.
    """

    row_number: Ints
    transaction_id: Strings
    is_fraud: Strings  # True, False, None for neither
    source: Strings
    known_at: Ints  # µs
    type: Strings | None = None  # of these four, None for missing values, or for no column at all
    reason: Strings | None = None
    stage: Strings | None = None  # inquiry, dispute, won or lost
    amount: Floats | None = None  # disputed, in the base currency; NaN for missing
    undated: NDArray[np.bool_] | None = None  # whether known_at is assumed; None for no row

    def __len__(self) -> int:
        return len(self.transaction_id)

    def columns(self, batch_id: int, by: str) -> dict[str, list[Any]]:
        """The columns of the table `labels`, as lists of plain Python values."""
        optional = {"type": self.type, "reason": self.reason, "stage": self.stage}
        missing = [None] * len(self)
        return {
            "transaction_id": self.transaction_id.tolist(),
            "is_fraud": self.is_fraud.tolist(),
            "source": self.source.tolist(),
            "known_at": bulk.instants(self.known_at),
            **{name: missing if column is None else column.tolist() for name, column in optional.items()},
            "amount": missing if self.amount is None else bulk.numbers(self.amount),
            "batch_id": [batch_id] * len(self),
            "by": [by] * len(self),
        }

    def take(self, rows: Ints | NDArray[np.bool_]) -> "LabelChunk":
        """The chunk with these rows only."""
        taken = {name: column[rows] for name, column in vars(self).items() if column is not None}
        return LabelChunk(**taken)
