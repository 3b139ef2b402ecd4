"""Validates the rows of a source: the roles of its columns, and the order in which they are checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.hashing import STORED, Hasher
from pipeline.ingest.card_data import reject_track_data
from pipeline.ingest.currency_rates import RateLookup, Rates, RateUse, load_rates, unknown_currencies
from pipeline.ingest.formats import validators
from pipeline.ingest.formats.arrow_arrays import Bools, as_objects
from pipeline.ingest.formats.row_batch import ExpectedColumns, RowBatch
from pipeline.ingest.formats.validators import Reasons
from pipeline.ingest.inline_labels import InlineLabels
from storage.frames import NEVER, Ints, Strings
from storage.ingest.chunks import LabelChunk, TransactionChunk

DEFAULT_SOURCE = "chargeback"  # of labels without one: nearly all that arrive in files are

KNOWN_AFTER = "pass known-after, such as 7d"  # the time from a payment until its label is known

EventTimes = Callable[[Strings], Ints]


def hasher_of(config: Config, displays: bool) -> Hasher | None:
    """Return the hasher for the fields of schema.hash; None if there are none."""
    return Hasher(config.hash_key(), displays) if config.schema_.hash else None


def stored_values(config: Config, displays: bool) -> Callable[[str, str], str]:
    """
    Return the function from a column and a value that a person typed to the value as the database has it.

    `displays` says whether the database stores hashed values with a display form. Such a value may also be given as
    it is stored, display form and hash, as exports have it.
    """
    hasher = hasher_of(config, displays)

    def stored_value(column: str, value: str) -> str:
        if hasher is None or column not in config.schema_.hash or STORED.fullmatch(value.strip()):
            return value.strip()
        return hasher.stored(value)

    return stored_value


class TransactionCheck:
    """Validates transactions by one configuration; `displays` says whether hashed values have a display form."""

    def __init__(self, config: Config, rates: Rates | None = None, displays: bool = True) -> None:
        self.schema = schema = config.schema_
        self.hasher = hasher_of(config, displays)
        self.rates = load_rates(schema.rates, schema.base_currency) if rates is None else rates
        self.named_codes = set[str]()  # unknown currencies that reasons name
        self.text = (*schema.entities, *schema.categorical)
        self.retention = config.retention.transactions

    def expected_columns(self) -> ExpectedColumns:
        """The columns that the configuration names; all are required."""
        roles = ("transaction_id", "event_time", "amount", "currency", "kind", "original_id", "is_fraud")
        required = {
            getattr(self.schema, role): f"schema.{role}" for role in roles if getattr(self.schema, role)
        }
        for key in ("entities", "categorical", "numeric"):
            required |= {name: f"schema.{key}" for name in getattr(self.schema, key) if name not in required}
        return ExpectedColumns(required)

    def check(
        self, rows: RowBatch, now: int, rate_use: RateUse | None = None
    ) -> tuple[TransactionChunk, InlineLabels | None, Reasons]:
        """
        Validate rows; the chunk and the labels hold the good ones.

        A row that lacks nothing but a rate has a reason, is in `rate_use.waiting`, and its label is among the others.
        """
        schema, columns, reasons = self.schema, rows.columns, Reasons(len(rows))
        reject_track_data(columns, reasons)
        ids = validators.ids(columns[schema.transaction_id], schema.transaction_id, reasons)
        times, missing = validators.instants(
            columns[schema.event_time], schema.event_time, schema.timezone, now, reasons
        )
        reasons.add(missing, f"{schema.event_time} is missing: every transaction needs its time")
        if self.retention:  # pruned rows must not come back and be scored again
            old = ~missing & (times < now - self.retention)
            reasons.add(old, f"{schema.event_time} is older than retention.transactions allows")
        amounts = validators.amounts(columns[schema.amount], schema.amount, reasons)
        currency, base, lookup = self._in_base(columns, amounts, times, reasons)
        others = [
            as_objects(check(columns[name], name, reasons, validators.ID_MAX)) if name else None
            for check, name in ((validators.texts, schema.kind), (validators.identifiers, schema.original_id))
        ]
        text = {name: self._text(columns[name], name, reasons) for name in self.text}
        numeric = {name: validators.numbers(columns[name], name, reasons) for name in schema.numeric}
        fraud_labels = self._fraud_labels(columns, reasons)
        names = as_objects(ids)
        chunk = TransactionChunk(
            rows.row_number, names, times, amounts, base, currency, others[0], others[1], text, numeric
        )
        labels = fraud_labels and _inline_labels(chunk, *fraud_labels, reasons.good)
        if lookup is not None:
            waits = (rate_use or RateUse(self.rates.places)).add(chunk, reasons.good, lookup)
            remedy = f"add one to {' or '.join(self.rates.places)}"
            reasons.add(waits, f"{schema.currency} has no rate at or before that day: {remedy}")
        good = np.flatnonzero(reasons.good)
        return chunk if len(good) == len(rows) else chunk.take(good), labels, reasons

    def _in_base(
        self, columns: Any, amounts: Any, times: Ints, reasons: Reasons
    ) -> tuple[Any, Ints, RateLookup | None]:
        """Return the currency column, if there is one, the amounts in the base currency, and the rates."""
        name, amount = self.schema.currency, self.schema.amount
        if not name:
            return None, validators.in_base(amounts, np.ones(len(amounts)), amount, reasons), None
        currency = validators.currencies(columns[name], name, reasons)
        lookup = self.rates.look_up(currency, times)
        for unknown, reason in unknown_currencies(
            currency, lookup, name, self.rates.places, self.named_codes
        ):
            reasons.add(unknown, reason)
        return currency, validators.in_base(amounts, lookup.rate, amount, reasons), lookup

    def _text(self, column: Any, name: str, reasons: Reasons) -> Strings:
        check = validators.identifiers if name in self.schema.entities else validators.texts
        text = check(column, name, reasons)
        if self.hasher is not None and name in self.schema.hash:
            text = self.hasher.column(text)
        return as_objects(text)

    def _fraud_labels(self, columns: Any, reasons: Reasons) -> tuple[Bools, Bools] | None:
        name = self.schema.is_fraud
        return validators.fraud_labels(columns[name], name, reasons) if name else None


def _inline_labels(chunk: TransactionChunk, is_fraud: Bools, missing: Bools, usable: Bools) -> InlineLabels:
    labelled = usable & ~missing
    return InlineLabels(
        chunk.row_number[labelled],
        chunk.transaction_id[labelled],
        chunk.event_time[labelled],
        is_fraud[labelled],
    )


@dataclass(frozen=True)
class LabelCheck:
    """
    Validates labels by one configuration.

    A row without known_at became known `known_after` after its event. Without that option it became known now, and
    history is an error: it needs the time at which each label became known.
    """

    config: Config
    history: bool
    known_after: int | None  # µs
    event_times: EventTimes

    @property
    def hasher(self) -> Hasher | None:
        """For lines that cannot be split into columns: they may hold a field of schema.hash."""
        return hasher_of(self.config, displays=False)

    def expected_columns(self) -> ExpectedColumns:
        """transaction_id and is_fraud are required, known_at and source optional."""
        labels = self.config.labels
        required = {labels.transaction_id: "labels.transaction_id", labels.is_fraud: "labels.is_fraud"}
        optional = {labels.known_at: "labels.known_at", labels.source: "labels.source"}
        return ExpectedColumns(required, {name: key for name, key in optional.items() if name})

    def check(self, rows: RowBatch, now: int, source_name: str) -> tuple[LabelChunk, Reasons]:
        """
        Validate rows; the chunk holds the good ones.

        Raises
        ------
        InputError
            If labels are history and neither a column nor --known-after says when they became known.
        """
        labels, columns, reasons = self.config.labels, rows.columns, Reasons(len(rows))
        reject_track_data(columns, reasons)
        if len(rows) and labels.known_at not in columns and self.history and self.known_after is None:
            raise InputError(
                f'{source_name} has no column "{labels.known_at}" (labels.known_at), so nothing says when its labels '
                "became known",
                remedy=f"add it, or {KNOWN_AFTER}",
                code="no_known_at",
            )
        ids = as_objects(validators.ids(columns[labels.transaction_id], labels.transaction_id, reasons))
        is_fraud, missing = validators.fraud_labels(columns[labels.is_fraud], labels.is_fraud, reasons)
        reasons.add(missing, f"{labels.is_fraud} is missing: write 1 or 0")
        source = self._sources(columns, len(rows), reasons)
        known_at = self._known_at(columns, ids, now, reasons)
        good = reasons.good
        return LabelChunk(
            rows.row_number[good], ids[good], is_fraud[good], source[good], known_at[good]
        ), reasons

    def _sources(self, columns: Any, size: int, reasons: Reasons) -> Strings:
        name, default = self.config.labels.source, DEFAULT_SOURCE
        if name not in columns:
            return np.full(size, default, dtype=object)
        sources = as_objects(validators.texts(columns[name], name, reasons, validators.ID_MAX))
        return np.where(sources == None, default, sources)  # noqa: E711 (elementwise)

    def _known_at(self, columns: Any, ids: Strings, now: int, reasons: Reasons) -> Ints:
        name = self.config.labels.known_at
        known_at, missing = np.zeros(len(ids), dtype=np.int64), np.ones(len(ids), dtype=bool)
        if name in columns:
            zone = self.config.schema_.timezone
            known_at, missing = validators.instants(columns[name], name, zone, now, reasons)
        missing &= reasons.good
        if self.known_after is not None:
            times = np.full(len(ids), NEVER, dtype=np.int64)
            times[missing] = self.event_times(ids[missing])
            unknown = missing & (times == NEVER)
            reasons.add(
                unknown,
                f"{name} is missing and its transaction is not loaded yet: ingest that first, or add {name}",
            )
            return np.where(missing, assumed_known_at(times, self.known_after, now), known_at)
        if self.history:
            reasons.add(missing, f"{name} is missing: add it, or {KNOWN_AFTER}")
        return np.where(missing, now, known_at)


def assumed_known_at(event_time: Ints, known_after: int, now: int) -> Ints:
    """When a label without known_at became known: `known_after` (µs) after the event, at the latest now."""
    return np.minimum(event_time + known_after, now)
