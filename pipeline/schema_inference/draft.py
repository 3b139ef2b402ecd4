"""The proposal while it is made: the values of keys so far, their reasons, and the columns without a role."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from pipeline.config.config import as_toml
from pipeline.config.error_text import UNANSWERED
from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.schema_inference.column_profile import ColumnProfile
from storage.frames import DAY, Floats, Ints

CHECK = "CHECK: "
LEFT_OUT = "left out"


@dataclass(frozen=True)
class ReportDelays:
    """When frauds were reported; arrays (n,)."""

    rows: Ints  # of the payments in the sample
    delay: Floats  # days from the payment to the report
    observed: Floats  # days from the payment to the newest time in the files

    @classmethod
    def of(cls, rows: Ints, event_time: Floats, known_at: Floats, end: float) -> Self:
        """Reports of these rows; times in µs."""
        delay = np.maximum(known_at - event_time, 0.0) / DAY
        return cls(rows, delay, np.maximum((end - event_time) / DAY, delay))

    def take(self, places: Ints) -> "ReportDelays":
        """Some of them."""
        return ReportDelays(self.rows[places], self.delay[places], self.observed[places])


@dataclass
class SchemaDraft:
    """
    The config inferred so far; columns in `unassigned` have no role yet.

    A key is that of [schema], or has the name of another section in front: `labels.maturity`. Columns are named as in the
    file until the proposal is written.
    """

    unassigned: dict[str, ColumnProfile]
    rows: int
    time_start: str = (
        "2025-01-01T00:00:00+00:00"  # of times that count from a start which the file does not name
    )
    keys: dict[str, object] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    personal: dict[str, str] = field(default_factory=dict)  # column → kind of its personal data
    entities: list[ColumnProfile] = field(default_factory=list)
    categories: list[ColumnProfile] = field(default_factory=list)
    fraud: ColumnProfile | None = None  # the column of labels
    event_time: ColumnProfile | None = None
    amount: ColumnProfile | None = None
    transaction: ColumnProfile | None = None  # the column of ids
    kind: ColumnProfile | None = None
    order: ColumnProfile | None = None  # the column of ids, if an order has several rows
    currencies: list[str] = field(default_factory=list)
    known_at: ColumnProfile | None = None
    reports: ReportDelays | None = None
    payments: Bools | None = None  # which rows begin a payment, if rows are events

    def decide(self, key: str, value: object, reason: str) -> None:
        """Set the value of a key."""
        self.keys[key] = value
        self.note(key, reason)

    def note(self, key: str, reason: str) -> None:
        """Give a further reason for the value of a key."""
        self.reasons.setdefault(key, []).append(reason)

    def reread(self, form: Mapping[str, str]) -> None:
        """Read the values of all columns with these keys of [format]."""
        for name, column in self.unassigned.items():
            changed = column.form.model_copy(update=form)
            if changed != column.form:
                self.unassigned[name] = replace(column, form=changed)

    def take(self, key: str, column: ColumnProfile, reason: str) -> None:
        """Assign a column to a key."""
        self.decide(key, column.name, reason)
        del self.unassigned[column.name]
        if key == "transaction_id":
            self.transaction = column
        elif key == "kind":
            self.kind = column

    def add(self, key: str, column: ColumnProfile, reason: str) -> None:
        """Append a column to a list key."""
        listed = self.keys.setdefault(key, [])
        assert isinstance(listed, list)
        listed.append(column.name)
        self.note(key, f"{quoted(column.name)}: {reason}")
        self.unassigned.pop(column.name, None)
        if key == "entities":
            self.entities.append(column)
        elif key == "categorical":
            self.categories.append(column)

    def leave_out(self, column: ColumnProfile, reason: str) -> None:
        """Leave a column without a role."""
        self.note(LEFT_OUT, f"{quoted(column.name)}: {reason}")
        del self.unassigned[column.name]


__all__ = ["CHECK", "LEFT_OUT", "UNANSWERED", "ReportDelays", "SchemaDraft", "quoted"]


def quoted(name: str) -> str:
    """Return a name in quotes, escaped to one line."""
    return as_toml(name)
