"""
The history of entities that scores of arriving payments look at, kept in memory between requests.

An entity's rows, labels and frauds are read when they are first needed. Later the database says, in one query, whether anything has
changed since (`storage.ingest.entity_rows.Mark`), so that any number of processes may write:

- Payments that this process stored itself are added without a read.
- After a new batch, or payments that another process stored, the rows of the entity that became visible since are read, and its labels
  and frauds again.
- After a label or verdict of a person, labels and frauds of the entities that it is about are read again.
- After any other change that a person made (an erasure, an undo, a promotion, …) everything is forgotten, and also if all entities
  together have more than `ROWS_MAX` rows.

What is computed from it is the same to the byte as from `pipeline.features.history.load_arriving`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.config import Config
from pipeline.features.fraud_history import LABEL_BEFORE_PAYMENT, FraudHistory, FraudReader
from pipeline.features.history import History, without_refunds
from pipeline.features.label_history import label_events
from pipeline.features.silence import Silence
from storage.database.database import Store
from storage.frames import DAY, Coded, Codes, Completeness, Ints, Labels, Strings, Transactions, take_rows
from storage.ingest import history as stored_history
from storage.ingest.arrivals import Arrived
from storage.ingest.chunks import TransactionChunk
from storage.ingest.entity_rows import OF_LABELS, EntitySnapshot, Mark
from storage.ingest.history import NEWEST
from storage.ingest.payment_changes import load_payment_changes

ROWS_MAX = 500_000  # of all entities together: some 150 MB
PAYMENTS_MAX = 20  # of a request that is answered from memory: more are read at once sooner than one by one
SLACK = DAY  # how much more is read than the first payment needs, so that the next ones, and late ones, need nothing
LABEL_SOURCE, LABEL_BULK = " source", " bulk"  # no columns of transactions
Bools = NDArray[np.bool_]
Entity = tuple[str, str]  # column, value


class _SharedValues:
    """The values of a column, in the order in which they first appeared; they are only added to."""

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}
        self._values = np.empty(1024, dtype=object)

    def __len__(self) -> int:
        return len(self._code_of)

    def code(self, value: str) -> int:
        """The code of a value."""
        code = self._code_of.setdefault(value, len(self._code_of))
        if code >= len(self._values):
            self._values = np.append(self._values, np.empty(len(self._values), dtype=object))
        self._values[code] = value
        return code

    def find(self, value: str) -> int:
        """The code of a value, −1 if it has not appeared."""
        return self._code_of.get(value, -1)

    def codes_of(self, column: Coded) -> Codes:
        """The codes of a column that has values of its own."""
        used = np.unique(column.codes)
        codes = np.full(len(column.values) + 1, -1, dtype=np.int32)  # the last one is for −1
        for code in used[used >= 0].tolist():
            codes[code] = self.code(column.values[code])
        return codes[column.codes]

    def coded(self, codes: Codes) -> Coded:
        """A column with these codes."""
        return Coded(codes, self._values[: len(self._code_of)])


@dataclass(frozen=True)
class _NumberedPayments:
    """Payments, and the number of each one's id."""

    rows: Transactions
    number: Ints

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: Ints | Bools | slice) -> "_NumberedPayments":
        """The payments with these rows only, which must be ascending."""
        if isinstance(rows, np.ndarray) and rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        return _NumberedPayments(self.rows.take(rows), take_rows(self.number, rows))


@dataclass(frozen=True)
class _NumberedLabels:
    """Labels, and the number of the id of each one's transaction."""

    rows: Labels
    number: Ints

    def take(self, rows: Ints | Bools) -> "_NumberedLabels":
        """The labels with these rows only, which must be ascending."""
        return _NumberedLabels(self.rows.take(rows), self.number[rows])


@dataclass(frozen=True)
class _EntityHistory:
    """What is known of an entity: payments from `start` (µs) on, and frauds of a longer past, as a snapshot of this mark had them."""

    start: int
    mark: Mark
    payments: _NumberedPayments
    labels: _NumberedLabels
    frauds: _NumberedPayments
    fraud_labels: _NumberedLabels

    def __len__(self) -> int:
        return len(self.payments) + len(self.labels.number) + len(self.frauds)


class WarmHistory:
    """
    Histories of arriving payments; one thread at a time may use it.

    Parameters
    ----------
    policy
        Whose promotions are looked at.

    Attributes
    ----------
    rows_changed
        Whether the last `refresh` found that payments or labels were stored by somebody else, or withdrawn.
    lookback, fraud_span
        How far back features look at payments, and at frauds, µs; to be set whenever `refresh` says that models may have changed.
    """

    def __init__(self, store: Store, config: Config, policy: str) -> None:
        self._store, self._config, self._policy = store, config, policy
        self.lookback, self.fraud_span = config.lookback, config.fraud_span
        self._mark: Mark | None = None
        # The newest change of rows and of labels that entities do not have yet, unless they were read since.
        self._rows_changed = self._labels_changed = -1
        self.rows_changed = True
        self._forget()

    def _forget(self) -> None:
        self._entities: dict[Entity, _EntityHistory] = {}
        self._relabelled: set[Entity] = set()
        self._size = 0
        self._ids = _SharedValues()
        self._columns: defaultdict[str, _SharedValues] = defaultdict(_SharedValues)
        self._place_of = np.empty(0, dtype=np.int64)  # by the number of an id; −1 between two uses
        self._completeness: Completeness | None = None

    def refresh(self, snapshot: EntitySnapshot) -> bool:
        """Look whether anything has changed; returns whether that may be a model, a rule or a mute."""
        if max(self._size, len(self._ids)) > ROWS_MAX:
            self._forget()
        mark, before = snapshot.mark(self._policy), self._mark
        self._mark, self.rows_changed = mark, before != mark
        if before is None or mark == before:
            return before is None
        actions = snapshot.actions_since(before.audit_id) if mark.audit_id != before.audit_id else set()
        if mark.visible_at != before.visible_at:
            self._rows_changed, self._completeness = mark.visible_at, None
        if actions & OF_LABELS:
            labelled = snapshot.labelled_since(before.audit_id)
            self._relabelled |= (labelled or set()) & self._entities.keys()
            self._labels_changed = mark.audit_id if labelled is None else self._labels_changed
        others = bool(actions - OF_LABELS) or mark.promotion != before.promotion
        if others:
            self._forget()
        return others

    def read(self, snapshot: EntitySnapshot, chunk: TransactionChunk) -> None:
        """Read what is not known yet of the entities of payments, so that `of` need not read; `snapshot` is as there."""
        for entity in _entities_of(self._store, chunk):
            self._entity(snapshot, entity, int(chunk.event_time.min()) - self.lookback)

    def of(self, snapshot: EntitySnapshot, chunk: TransactionChunk, arrived_at: int | None) -> History:
        """
        The history of payments, as `pipeline.features.history.load_arriving` reads it.

        Parameters
        ----------
        snapshot
            The one that `refresh` saw.
        arrived_at
            When payments arrive that are not stored, µs; None if all of them are stored.
        """
        start, end = int(chunk.event_time.min()) - self.lookback, int(chunk.event_time.max()) + 1
        entities = _entities_of(self._store, chunk)
        known = [self._entity(snapshot, entity, start) for entity in entities]
        if self._completeness is None:
            self._completeness = snapshot.completeness
        spans = [each.payments.take(each.payments.rows.between(start, end)) for each in known]
        largest_first = sorted(range(len(spans)), key=lambda place: -len(spans[place]))
        parts = [
            self._without_earlier(spans[place], [entities[each] for each in largest_first[:rank]])
            for rank, place in enumerate(largest_first)
        ]
        labels = _joined_labels([each.labels for each in known])
        if arrived_at is not None:
            repeated = [self._ids.find(name) for name in chunk.transaction_id.tolist()]
            if max(repeated) >= 0:
                parts, labels = _without(repeated, parts, labels)
            parts.append(self._arriving(chunk, arrived_at, NEWEST))
        payments = self._joined(parts)
        return self._history(start, end, payments, labels, known)

    def add(self, arrived: Arrived, chunk: TransactionChunk) -> bool:
        """
        Add payments that this process has just stored; returns whether they are known now.

        They are not if anything else had changed since the last `refresh`; then they are read after the next one.
        """
        if arrived.before != self._mark or not self._store.fields.loss.is_whole_amount:
            return False
        self._mark = replace(arrived.before, visible_at=arrived.arrived_at)
        if len(arrived.fresh):
            fresh = chunk.take(arrived.fresh)
            rows = self._arriving(fresh, arrived.arrived_at, arrived.before.promotion)
            for column, value in _entities_of(self._store, fresh):
                entity = self._entities.get((column, value))
                if entity is not None:
                    mine = rows.take(rows.rows.columns[column].codes == self._columns[column].code(value))
                    joined = self._joined([entity.payments, mine])
                    self._keep((column, value), replace(entity, payments=joined))
        return True

    def _keep(self, entity: Entity, past: _EntityHistory) -> None:
        before = self._entities.get(entity)
        self._size += len(past) - (0 if before is None else len(before))
        self._entities[entity] = past

    def _entity(self, snapshot: EntitySnapshot, entity: Entity, start: int) -> _EntityHistory:
        """An entity's history from `start` or an earlier instant on, with all that the snapshot knows."""
        known = self._entities.get(entity)
        if known is None or not start - self.lookback <= known.start <= start:
            rows = self._numbered(snapshot.rows(*entity, start - SLACK))
            known = self._with_labels(snapshot, entity, start - SLACK, rows)
        elif known.mark.visible_at < self._rows_changed:
            new = snapshot.rows_since(*entity, known.start, known.mark.visible_at)
            if new is None:
                rows = self._numbered(snapshot.rows(*entity, known.start))
            else:
                rows = self._with_new(known.payments, self._numbered(new))
            known = self._with_labels(snapshot, entity, known.start, rows)
        elif entity in self._relabelled or known.mark.audit_id < self._labels_changed:
            known = self._with_labels(snapshot, entity, known.start, known.payments)
        else:
            return known
        self._relabelled.discard(entity)
        self._keep(entity, known)
        return known

    def _with_labels(
        self, snapshot: EntitySnapshot, entity: Entity, start: int, payments: _NumberedPayments
    ) -> _EntityHistory:
        assert self._mark is not None, "refresh it first"
        first = start - self.fraud_span
        frauds, fraud_labels = snapshot.frauds(*entity, first, first - LABEL_BEFORE_PAYMENT)
        return _EntityHistory(
            start,
            self._mark,
            payments,
            self._numbered_labels(snapshot.labels(*entity, start)),
            self._numbered(frauds),
            self._numbered_labels(fraud_labels),
        )

    def _with_new(self, past: _NumberedPayments, new: _NumberedPayments) -> _NumberedPayments:
        return self._joined([past, new.take(~np.isin(new.number, past.number))])

    def _without_earlier(self, part: _NumberedPayments, earlier: Sequence[Entity]) -> _NumberedPayments:
        """The payments that are of none of these entities, whose payments are in other parts."""
        for column, value in earlier:
            repeated = part.rows.columns[column].codes == self._columns[column].code(value)
            if repeated.any():
                part = part.take(~repeated)
        return part

    def _history(
        self,
        start: int,
        end: int,
        payments: _NumberedPayments,
        labels: _NumberedLabels,
        past: Sequence[_EntityHistory],
    ) -> History:
        config, rows = self._config, payments.rows
        never = config.labels.never_by_silence
        changes = partial(load_payment_changes, self._store, start, end, list(never))
        silence = Silence(rows, never, config.schema_.base_currency, changes)
        assert self._completeness is not None
        precedence = config.labels.precedence
        return History(
            transactions=rows,
            labels=labels.rows,
            events=label_events(rows, labels.rows, precedence, self._positions(payments, labels)),
            completeness=self._completeness,
            silence_ok=silence.by_first_version,
            precedence=precedence,
            silence=silence,
            frauds=FraudReader(partial(self._frauds, past)),
        )

    def _positions(self, payments: _NumberedPayments, labels: _NumberedLabels) -> Ints:
        """The position of each label's transaction, −1 if it is not among the payments."""
        if not len(labels.number):
            return np.empty(0, dtype=np.int64)
        if len(self._place_of) < len(self._ids):
            self._place_of = np.full(2 * len(self._ids), -1, dtype=np.int64)
        self._place_of[payments.number] = np.arange(len(payments))
        positions = self._place_of[labels.number]
        self._place_of[payments.number] = -1
        return positions

    def _frauds(self, past: Sequence[_EntityHistory], _start: int) -> FraudHistory:
        """The frauds of these entities: as far back as any model looks."""
        frauds = self._joined([each.frauds for each in past])
        once = frauds.take(np.sort(np.unique(frauds.number, return_index=True)[1]))
        labels = _joined_labels([each.fraud_labels for each in past])
        return FraudHistory.of(once.rows, labels.rows, self._config.labels.precedence)

    def _numbered(self, rows: Transactions) -> _NumberedPayments:
        """Payments as they were read, without refunds, in codes that all of them share."""
        rows = without_refunds(self._config, rows)
        columns = {name: self._shared(name, column) for name, column in rows.columns.items()}
        promotion = np.full(len(rows), -1, np.int64) if rows.promotion is None else rows.promotion
        shared = replace(rows, columns=columns, promotion=promotion)
        return _NumberedPayments(shared, self._numbers(rows.transaction_id))

    def _numbered_labels(self, rows: Labels) -> _NumberedLabels:
        source, bulk = self._shared(LABEL_SOURCE, rows.source), self._shared(LABEL_BULK, rows.bulk)
        return _NumberedLabels(replace(rows, source=source, bulk=bulk), self._numbers(rows.transaction_id))

    def _shared(self, name: str, column: Coded) -> Coded:
        values = self._columns[name]
        return values.coded(values.codes_of(column))

    def _numbers(self, ids: Strings) -> Ints:
        return np.array([self._ids.code(name) for name in ids.tolist()], dtype=np.int64)

    def _arriving(self, chunk: TransactionChunk, arrived_at: int, promotion: int) -> _NumberedPayments:
        """Payments as they are, or would be, read from the database after they arrived."""
        if not self._store.fields.loss.is_whole_amount:  # SQL says what of an amount is at risk
            return self._numbered(stored_history.load_entities(self._store, 0, 0, {}, chunk, arrived_at))
        return self._numbered(stored_history.as_arrived(self._store, chunk, arrived_at, promotion))

    def _joined(self, parts: Sequence[_NumberedPayments]) -> _NumberedPayments:
        """Payments of several parts in the order (event_time, transaction_id); none may be in two parts."""
        some = [part for part in parts if len(part)] or parts[:1]
        if len(some) == 1:
            return some[0]
        rows = [part.rows for part in some]
        columns = {
            name: self._columns[name].coded(np.concatenate([each.columns[name].codes for each in rows]))
            for name in rows[0].columns
        }
        joined, order = stored_history.joined(rows, columns)
        return _NumberedPayments(joined, np.concatenate([part.number for part in some]).take(order))


def _entities_of(store: Store, chunk: TransactionChunk) -> list[Entity]:
    names = [name for name in store.fields.entities if name in chunk.text]
    pairs = [(name, value) for name in names for value in chunk.text[name].tolist() if value is not None]
    return list(dict.fromkeys(pairs))


def _without(
    repeated: Sequence[int], parts: Sequence[_NumberedPayments], labels: _NumberedLabels
) -> tuple[list[_NumberedPayments], _NumberedLabels]:
    """Without stored payments of these numbers, which arriving ones stand for; these have the labels of those that were among them."""
    stored = np.concatenate([part.number[np.isin(part.number, repeated)] for part in parts])
    others = np.setdiff1d(repeated, stored)
    return [part.take(~np.isin(part.number, stored)) for part in parts], labels.take(
        ~np.isin(labels.number, others)
    )


def _joined_labels(parts: Sequence[_NumberedLabels]) -> _NumberedLabels:
    """Labels of several parts, each once, in the order of their ids."""
    some = [part for part in parts if len(part.number)] or parts[:1]
    if len(some) == 1:
        return some[0]
    rows = [part.rows for part in some]

    def column(of: Callable[[Labels], Any]) -> Any:
        return np.concatenate([of(each) for each in rows])

    def coded(of: Callable[[Labels], Coded]) -> Coded:
        return Coded(column(lambda each: of(each).codes), max((of(each).values for each in rows), key=len))

    joined = Labels(
        column(lambda each: each.label_id),
        column(lambda each: each.transaction_id),
        column(lambda each: each.status),
        coded(lambda each: each.source),
        column(lambda each: each.known_at),
        column(lambda each: each.recorded_at),
        column(lambda each: each.retracts),
        coded(lambda each: each.bulk),
    )
    once = np.unique(joined.label_id, return_index=True)[1]
    return _NumberedLabels(joined.take(once), np.concatenate([part.number for part in some])[once])
