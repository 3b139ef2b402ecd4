"""Rows of a source → validated chunks: which columns play which part, and in which order they are checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.hashing import Hasher
from pipeline.ingest.currency_rates import Rates, load_rates
from pipeline.ingest.formats import columns as parsing
from pipeline.ingest.formats import validators
from pipeline.ingest.formats.columns import Bools
from pipeline.ingest.formats.row_batch import Rows, Wanted
from pipeline.ingest.formats.validators import Reasons
from pipeline.ingest.inline_labels import Answers
from storage.frames import NEVER, Ints, Strings
from storage.ingest.chunks import LabelChunk, TransactionChunk

EventTimes = Callable[[Strings], Ints]


def hasher_of(config: Config) -> Hasher | None:
    """Return what hashes the fields of schema.hash, None when there are none."""
    return Hasher(config.hash_key()) if config.schema_.hash else None


class TransactionCheck:
    """Checks transactions by one configuration."""

    def __init__(self, config: Config) -> None:
        self.schema = schema = config.schema_
        self.hasher = hasher_of(config)
        self.rates: Rates = load_rates(schema.rates, schema.base_currency)
        self.text = (*schema.entities, *schema.categorical)
        self.kept = config.retention.transactions

    def wanted(self) -> Wanted:
        """The columns that the configuration names; all of them have to be there."""
        roles = ("transaction_id", "event_time", "amount", "currency", "kind", "original_id", "is_fraud")
        needed = {
            getattr(self.schema, role): f"schema.{role}" for role in roles if getattr(self.schema, role)
        }
        for key in ("entities", "categorical", "numeric"):
            needed |= {name: f"schema.{key}" for name in getattr(self.schema, key) if name not in needed}
        return Wanted(needed)

    def check(self, rows: Rows, now: int) -> tuple[TransactionChunk, Answers | None, Reasons]:
        """Validate rows; the chunk and the answers hold the good ones."""
        schema, columns, reasons = self.schema, rows.columns, Reasons(len(rows))
        ids = validators.ids(columns[schema.transaction_id], schema.transaction_id, reasons)
        times, missing = validators.instants(
            columns[schema.event_time], schema.event_time, schema.timezone, now, reasons
        )
        reasons.add(missing, f"{schema.event_time} is missing: every transaction needs its time")
        if self.kept:  # what was pruned must not come back and be scored a second time
            old = ~missing & (times < now - self.kept)
            reasons.add(old, f"{schema.event_time} is older than retention.transactions keeps")
        given = validators.amounts(columns[schema.amount], schema.amount, reasons)
        currency, base = self._in_base(columns, given, times, reasons)
        others = [
            parsing.objects(validators.texts(columns[name], name, reasons, validators.ID_MAX))
            if name
            else None
            for name in (schema.kind, schema.original_id)
        ]
        text = {name: self._text(columns[name], name, reasons) for name in self.text}
        numeric = {name: validators.numbers(columns[name], name, reasons) for name in schema.numeric}
        answers = self._answers(columns, reasons)
        names = parsing.objects(ids)
        chunk = TransactionChunk(
            rows.row_number, names, times, given, base, currency, others[0], others[1], text, numeric
        )
        good = np.flatnonzero(reasons.good)
        chunk = chunk if len(good) == len(rows) else chunk.take(good)
        return chunk, answers and _said(chunk, answers[0][good], answers[1][good]), reasons

    def _in_base(self, columns: Any, given: Any, times: Ints, reasons: Reasons) -> tuple[Any, Ints]:
        """The currency column, if there is one, and the amounts in the base currency."""
        name, amount = self.schema.currency, self.schema.amount
        if not name:
            return None, validators.in_base(given, np.ones(len(given)), amount, reasons)
        currency = validators.currencies(columns[name], name, reasons)
        rate, known = self.rates.look_up(currency, times)
        reasons.add(~known, f"{name} is unknown: add it to {self.schema.rates} (schema.rates)")
        reasons.add(
            np.isnan(rate), f"{name} has no rate at or before that day: add one to {self.schema.rates}"
        )
        return currency, validators.in_base(given, rate, amount, reasons)

    def _text(self, column: Any, name: str, reasons: Reasons) -> Strings:
        text = validators.texts(column, name, reasons)
        if self.hasher is not None and name in self.schema.hash:
            text = self.hasher.column(text)
        return parsing.objects(text)

    def _answers(self, columns: Any, reasons: Reasons) -> tuple[Bools, Bools] | None:
        name = self.schema.is_fraud
        return validators.answers(columns[name], name, reasons) if name else None


def _said(chunk: TransactionChunk, is_fraud: Bools, missing: Bools) -> Answers:
    there = ~missing
    return Answers(
        chunk.row_number[there], chunk.transaction_id[there], chunk.event_time[there], is_fraud[there]
    )


@dataclass(frozen=True)
class LabelCheck:
    """
    Checks labels by one configuration.

    A row without known_at became known `known_after` its event; without that, now, unless it is history, of
    which somebody has to say when it was known.
    """

    config: Config
    history: bool
    known_after: int | None  # µs
    event_times: EventTimes

    @property
    def hasher(self) -> Hasher | None:
        """For lines that cannot be split: one may hold a field that is to be hashed."""
        return hasher_of(self.config)

    def wanted(self) -> Wanted:
        """transaction_id and is_fraud have to be there; known_at and source may."""
        labels = self.config.labels
        needed = {labels.transaction_id: "labels.transaction_id", labels.is_fraud: "labels.is_fraud"}
        optional = {labels.known_at: "labels.known_at", labels.source: "labels.source"}
        return Wanted(needed, {name: key for name, key in optional.items() if name})

    def check(self, rows: Rows, now: int, shown: str) -> tuple[LabelChunk, Reasons]:
        """
        Validate rows; the chunk holds the good ones.

        Raises
        ------
        InputError
            If it is history and neither a column nor --known-after says when the labels became known.
        """
        labels, columns, reasons = self.config.labels, rows.columns, Reasons(len(rows))
        if len(rows) and labels.known_at not in columns and self.history and self.known_after is None:
            raise InputError(
                f'{shown} has no column "{labels.known_at}" (labels.known_at), so nothing says when its labels became '
                "known: add it, or pass --known-after, such as --known-after 7d"
            )
        ids = parsing.objects(validators.ids(columns[labels.transaction_id], labels.transaction_id, reasons))
        is_fraud, missing = validators.answers(columns[labels.is_fraud], labels.is_fraud, reasons)
        reasons.add(missing, f"{labels.is_fraud} is missing: write 1 or 0")
        source = self._sources(columns, len(rows), reasons)
        known_at = self._known_at(columns, ids, now, reasons)
        good = reasons.good
        return LabelChunk(
            rows.row_number[good], ids[good], is_fraud[good], source[good], known_at[good]
        ), reasons

    def _sources(self, columns: Any, size: int, reasons: Reasons) -> Strings:
        name, default = self.config.labels.source, self.config.labels.default_source
        if name not in columns:
            return np.full(size, default, dtype=object)
        found = parsing.objects(validators.texts(columns[name], name, reasons, validators.ID_MAX))
        return np.where(found == None, default, found)  # noqa: E711 (elementwise)

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
            unseen = missing & (times == NEVER)
            reasons.add(
                unseen, f"{name} is missing and its transaction not here yet: ingest that first, or add it"
            )
            return np.where(missing, assumed(times, self.known_after, now), known_at)
        if self.history:
            reasons.add(
                missing, f"{name} is missing: add it, or pass --known-after, such as --known-after 7d"
            )
        return np.where(missing, now, known_at)


def assumed(event_time: Ints, known_after: int, now: int) -> Ints:
    """When a label became known that does not say so: so long after the event, at the latest now."""
    return np.minimum(event_time + known_after, now)
