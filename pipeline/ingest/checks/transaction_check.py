"""Validates the rows of a source of transactions: the roles of its columns, and the order in which they are checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.config import Config
from pipeline.config.consistency import FIELDS, ROLES
from pipeline.config.sections import LabelsSection, SchemaSection
from pipeline.ingest.checks.card_data import mask_card_numbers, reject_card_numbers, reject_track_data
from pipeline.ingest.checks.disputes import DisputeRows, dispute_meaning
from pipeline.ingest.checks.source_state import SourceState
from pipeline.ingest.checks.stored_values import hasher_of
from pipeline.ingest.currencies.currency_codes import ISO_4217
from pipeline.ingest.currencies.currency_rates import RateLookup, Rates, RateUse, unknown_currencies
from pipeline.ingest.currencies.rate_sources import load_rates
from pipeline.ingest.formats import validators
from pipeline.ingest.formats.arrow_arrays import Bools, as_bools, as_objects
from pipeline.ingest.formats.columns import numbers as parse_numbers
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.row_batch import ExpectedColumns, RowBatch
from pipeline.ingest.formats.validators import LabelWords, Reasons
from pipeline.ingest.inline_labels import InlineLabels
from storage.frames import NEVER, Ints, Strings
from storage.ingest.chunks import TransactionChunk


def label_words(labels: LabelsSection) -> LabelWords:
    """The words of [labels] that say what a label is."""
    return LabelWords(labels.fraud_words, labels.genuine_words, labels.unlabelled_words)


def source_name(schema: SchemaSection, name: str) -> str:
    """What the sources call a column that the configuration calls `name`."""
    return next((source for source, renamed in schema.columns.items() if renamed == name), name)


class TransactionCheck:
    """
    Validates transactions by one configuration.

    Parameters
    ----------
    displays
        Whether hashed values have a display form.
    one_by_one
        Whether the rows are single ones that a program sends: any of them may lack a field, and each value of an entity is looked at
        for itself.
    """

    def __init__(
        self, config: Config, rates: Rates | None = None, displays: bool = True, one_by_one: bool = False
    ) -> None:
        self.one_by_one = one_by_one
        self.schema = schema = config.schema_
        self.events, self.reason = config.events, config.labels.reason
        self.form, self.labels, self.vocabulary = config.format, config.labels, label_words(config.labels)
        self.hasher = hasher_of(config, displays)
        self.rates = load_rates(schema.rates, schema.base_currency) if rates is None else rates
        self.text = (*schema.entities, *schema.categorical)
        self.retention = config.retention.transactions
        self._source_names = {name: source for source, name in schema.columns.items()}

    def new_state(self) -> SourceState:
        """What is remembered of a source before its first row."""
        return SourceState(RateUse(self.rates.places))

    def source_name(self, name: str) -> str:
        """What the sources call a column that the configuration calls `name`."""
        return source_name(self.schema, name)

    @property
    def hashed_columns(self) -> list[str]:
        """The fields of schema.hash as the sources call them."""
        return [self.source_name(name) for name in self.schema.hash]

    @property
    def unmasked_columns(self) -> set[str]:
        """Columns of the sources that may look like card numbers, and are kept as they are with a rejected row."""
        schema = self.schema
        names = (schema.transaction_id, schema.original_id, *schema.plain_card_numbers)
        return {self.source_name(name) for name in names}

    def expected_columns(self) -> ExpectedColumns:
        """The columns that the configuration names, as the sources call them; all are required, unless rows come one by one."""
        named = [(getattr(self.schema, role), role) for role in ROLES]
        named += [(name, key) for key in FIELDS for name in getattr(self.schema, key)]
        if self.events.type:
            return self._columns_of_events(named)
        required = self._required(named)
        if not self.one_by_one:
            return ExpectedColumns(required)
        schema = self.schema
        needed = {
            self.source_name(name) for name in (schema.transaction_id, schema.event_time, schema.amount)
        }
        return ExpectedColumns(
            {name: key for name, key in required.items() if name in needed},
            {name: key for name, key in required.items() if name not in needed},
            flat=True,
        )

    def _columns_of_events(self, named: list[tuple[str, str]]) -> ExpectedColumns:
        """Kind and original_id are made from the events; a file may also hold the reasons of disputes."""
        required = self._required([(name, key) for name, key in named if key not in ("kind", "original_id")])
        for key in ("type", "id"):
            if name := getattr(self.events, key):
                required.setdefault(self.source_name(name), f"events.{key}")
        return ExpectedColumns(required, {self.reason: "labels.reason"} if self.reason else {})

    def _required(self, named: list[tuple[str, str]]) -> dict[str, str]:
        """Columns of the source, each with the key that names it."""
        required = dict[str, str]()
        for name, key in named:
            if name:
                renamed = name in self._source_names
                required.setdefault(self.source_name(name), "schema.columns" if renamed else f"schema.{key}")
        return required

    def without_items(self, rows: RowBatch, now: int, state: SourceState) -> RowBatch:
        """Return the rows without the further items of orders, which are counted (`schema.line_items`)."""
        if not self.schema.line_items or not len(rows):
            return rows
        columns = _Columns(rows, self._source_names)
        ids, amounts = columns[self.schema.transaction_id][0], columns[self.schema.amount][0]
        numbers = parse_numbers(amounts, self.form.decimal, self.form.thousands)
        items, others = state.items.further_items(ids, numbers, self._can_be_transactions(rows, now))
        state.other_amounts = rows.row_number[others]
        kept = np.flatnonzero(~items)
        taken = {name: column.take(pa.array(kept)) for name, column in rows.columns.items()}
        return RowBatch(rows.row_number[kept], taken, rows.unreadable) if len(kept) < len(rows) else rows

    def _can_be_transactions(self, rows: RowBatch, now: int) -> Bools:
        """Which rows are good by themselves, or lack nothing but a rate."""
        state = self.new_state()
        _, _, reasons = self.check(rows, now, state)
        waiting = state.rate_use.waiting
        numbers = () if waiting is None else waiting.transactions.row_number
        return reasons.good | np.isin(rows.row_number, numbers)

    def check(
        self, rows: RowBatch, now: int, state: SourceState | None = None
    ) -> tuple[TransactionChunk, InlineLabels | None, Reasons]:
        """
        Validate rows; the chunk and the labels hold the good ones.

        A row that lacks nothing but a rate has a reason, is in `state.rate_use.waiting`, and its label is among the others.
        """
        schema, reasons = self.schema, Reasons(len(rows))
        state = state or self.new_state()
        reject_track_data(rows.columns, reasons)
        columns = _Columns(rows, self._source_names)
        if self.one_by_one:
            reject_card_numbers(schema, {name: columns[name] for name in schema.entities}, reasons)
        names = self._ids(columns, len(rows), reasons)
        if schema.line_items:
            self._explain_items(columns, reasons)
            another = "differs from that of the row above of the same order: schema.line_items needs the order's total"
            reasons.add(
                np.isin(rows.row_number, state.other_amounts),
                f"{self.source_name(schema.amount)} {another} in its first row, or the same in all rows",
            )
        times = self._times(columns, now, reasons)
        codes = self._currency_codes(columns, len(rows))
        amounts = validators.amounts(*columns[schema.amount], reasons, self.form, codes)
        currency, base, lookup = self._in_base(columns, amounts, times, reasons, state)
        if self.form.amount_unit == "minor":
            self._require_minor_units(codes, reasons)
        others = [
            as_objects(check(*columns[name], reasons, validators.ID_MAX)) if name else None
            for check, name in ((validators.texts, schema.kind), (validators.identifiers, schema.original_id))
        ]
        text = {name: self._text(columns, name, reasons) for name in self.text}
        numeric = {
            name: validators.numbers(*columns[name], reasons, self.form, codes) for name in schema.numeric
        }
        labels = self._inline_labels(columns, now)
        chunk = TransactionChunk(
            rows.row_number, names, times, amounts, base, currency, others[0], others[1], text, numeric
        )
        if not schema.transaction_id:
            chunk = replace(chunk, transaction_id=self._make_ids(chunk, np.flatnonzero(reasons.good), state))
        inline = None if labels is None else labels.of(chunk, reasons.good)
        if lookup is not None:
            waits = state.rate_use.add(chunk, reasons.good, lookup)
            remedy = f"add one to {' or '.join(self.rates.places)}"
            reasons.add(
                waits, f"{self.source_name(schema.currency)} has no rate at or before that day: {remedy}"
            )
        good = np.flatnonzero(reasons.good)
        return chunk if len(good) == len(rows) else chunk.take(good), inline, reasons

    def _make_ids(self, chunk: TransactionChunk, good: Ints, state: SourceState) -> Strings:
        """Ids of the good rows; the others get none."""
        names = np.full(len(chunk), None, dtype=object)
        names[good] = state.ids.make(chunk.take(good), self.schema.entities)
        return names

    def _ids(self, columns: "_Columns", size: int, reasons: Reasons) -> Strings:
        """The ids of the rows; none yet if they are made."""
        name = self.schema.transaction_id
        return (
            as_objects(validators.ids(*columns[name], reasons)) if name else np.full(size, None, dtype=object)
        )

    def _explain_items(self, columns: "_Columns", reasons: Reasons) -> None:
        """Items that follow their order are gone; a blank amount or time that is left belongs to no good row above it."""
        order = self.source_name(self.schema.transaction_id)
        for column, name in (columns[self.schema.amount], columns[self.schema.event_time]):
            reasons.add(
                as_bools(texts(column).is_null()),
                f"{name} is missing, and the row follows no good row of the same {order}: sort items behind their order "
                "(schema.line_items)",
            )

    def _times(self, columns: "_Columns", now: int, reasons: Reasons) -> Ints:
        schema = self.schema
        column, name = columns[schema.event_time]
        clock = columns[schema.time_of_day] if schema.time_of_day else None
        times, missing = validators.instants(column, name, schema.timezone, now, reasons, self.form, clock)
        reasons.add(missing, f"{name} is missing: every transaction needs its time")
        if self.retention:  # pruned rows must not come back and be scored again
            old = ~missing & (times < now - self.retention)
            reasons.add(old, f"{name} is older than retention.transactions allows")
        return times

    def _currency_codes(self, columns: "_Columns", size: int) -> Strings:
        """The currency of each row in capitals, unchecked."""
        if not self.schema.currency:
            return np.full(size, self.schema.base_currency, dtype=object)
        return validators.currency_codes(columns[self.schema.currency][0])

    def _require_minor_units(self, codes: Strings, reasons: Reasons) -> None:
        """Only ISO 4217 says how many of the smallest units of a currency make one."""
        name = self.source_name(self.schema.amount)
        for code in set(codes[reasons.good].tolist()) - ISO_4217:
            reason = f"{name} is in {code}, whose smallest unit ISO 4217 does not know: "
            reason += f'write whole {code} with format.amount_unit = "major"'
            reasons.add(np.asarray(codes == code, dtype=bool), reason)

    def _in_base(
        self, columns: "_Columns", amounts: Any, times: Ints, reasons: Reasons, state: SourceState
    ) -> tuple[Any, Ints, RateLookup | None]:
        """Return the currency column, if there is one, the amounts in the base currency, and the rates."""
        amount = self.source_name(self.schema.amount)
        if not self.schema.currency:
            return None, validators.in_base(amounts, np.ones(len(amounts)), amount, reasons), None
        column, name = columns[self.schema.currency]
        currency = validators.currencies(column, name, reasons)
        lookup = self.rates.look_up(currency, times)
        for unknown, reason in unknown_currencies(
            currency, lookup, name, self.rates.places, state.named_codes
        ):
            reasons.add(unknown, reason)
        return currency, validators.in_base(amounts, lookup.rate, amount, reasons), lookup

    def _text(self, columns: "_Columns", name: str, reasons: Reasons) -> Strings:
        check = validators.identifiers if name in self.schema.entities else validators.texts
        text = check(*columns[name], reasons)
        if self.hasher is not None and name in self.schema.hash:
            text = self.hasher.column(text)
        elif name not in self.schema.plain_card_numbers:
            text = mask_card_numbers(text, whole=name in self.schema.categorical)
        return as_objects(text)

    def _inline_labels(self, columns: "_Columns", now: int) -> "_RowLabels | None":
        """What the column of labels says; a word that has no meaning sets its label aside, not its payment."""
        schema = self.schema
        if not schema.is_fraud:
            return None
        column, name = columns[schema.is_fraud]
        fraud, missing, unknown = validators.label_kinds(column, name, self.vocabulary)
        rejections, word = Reasons(len(missing)), as_objects(mask_card_numbers(texts(column), whole=True))
        reason, stated, nothing = (np.full(len(word), None, dtype=object) for _ in range(3))
        reason[unknown] = word[unknown]
        labelled = ~missing & ~unknown
        stated[labelled] = fraud[labelled]
        meaning = dispute_meaning(DisputeRows(stated, reason, nothing, nothing), self.labels)
        rejections.add(meaning.unknown_reason, f"{name} {validators.UNKNOWN_WORD}")
        known_at = np.full(len(word), NEVER, dtype=np.int64)
        if schema.known_at:
            # the time of no label does not matter
            silent = missing | (labelled & ~fraud & (schema.genuine_means == "silence"))
            column, name = columns[schema.known_at]
            dated = pc.if_else(pa.array(~silent), column, None)
            times, unstated = validators.instants(dated, name, schema.timezone, now, rejections, self.form)
            known_at = np.where(unstated, NEVER, times)
        return _RowLabels(missing, word, meaning.is_fraud, meaning.type, reason, known_at, rejections)


class _Columns:
    """The columns of a batch by the names of the configuration, each with the name that its source gives it."""

    def __init__(self, rows: RowBatch, source_names: Mapping[str, str]) -> None:
        self._rows, self._source_names = rows, source_names

    def __getitem__(self, name: str) -> tuple[Any, str]:
        source = self._source_names.get(name, name)
        return self._rows.columns[source], source


@dataclass(frozen=True)
class _RowLabels:
    """The labels of a batch; arrays (n,)."""

    missing: Bools
    word: Strings
    is_fraud: Strings
    type: Strings
    reason: Strings
    known_at: Ints  # µs; NEVER if the row does not say
    rejections: Reasons  # for setting a label aside: its payment is good

    def of(self, chunk: TransactionChunk, good: Bools) -> InlineLabels:
        """Return the labels of the good transactions."""
        labelled = good & ~self.missing
        return InlineLabels(
            chunk.row_number[labelled],
            chunk.transaction_id[labelled],
            chunk.event_time[labelled],
            self.word[labelled],
            self.is_fraud[labelled],
            self.type[labelled],
            self.reason[labelled],
            self.known_at[labelled],
            np.array(
                [self.rejections.of(place) for place in np.flatnonzero(labelled).tolist()], dtype=object
            ),
        )
