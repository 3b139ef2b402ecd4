"""
Stored transactions and labels of a span, as input of feature computation.

A `History` may hold more than a computation is allowed to know. Point-in-time rules are applied per transaction where
features and labels are read, never by limiting what is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.features.catalogue import FeatureCatalogue, build_catalogue
from pipeline.features.compute import raw_features
from pipeline.features.fraud_history import LABEL_BEFORE_PAYMENT, FraudHistory, FraudReader
from pipeline.features.label_history import LabelEvents, label_events, transaction_positions
from pipeline.features.silence import Silence, has_value
from storage.database.database import Store
from storage.frames import REVIEWERS, Completeness, Ints, Labels, Transactions
from storage.ingest import history as stored_history
from storage.ingest.chunks import TransactionChunk
from storage.ingest.payment_changes import load_payment_changes

Floats = NDArray[np.float64]

FEW = 1_000  # transactions that are looked up without an index
AUDIT, *CHOSEN = REVIEWERS  # reviewers chose what they looked at, but for the random audit sample


@dataclass(frozen=True)
class History:
    """Payments (without refunds) of a span, with their labels."""

    transactions: Transactions
    labels: Labels
    events: LabelEvents
    completeness: Completeness
    silence_ok: NDArray[
        np.bool_
    ]  # (n,) False where silence never means genuine by the first version, for features
    precedence: Sequence[str] = ()  # of label sources
    silence: Silence | None = None  # what else decides on silence; None for nothing
    frauds: FraudReader | None = None  # of a longer past; None if only these payments are known

    def __len__(self) -> int:
        return len(self.transactions)

    def positions(self, transaction_ids: NDArray[np.object_], start: int, end: int) -> Ints:
        """
        Positions, in order, of these transactions with start ≤ event_time < end; others are left out.

        Only the span is searched, so that the cost of a window does not grow with the length of the history.
        """
        span = self.transactions.between(start, end)
        if max(len(transaction_ids), span.stop - span.start) <= FEW:
            wanted = set(transaction_ids.tolist())
            ids = self.transactions.transaction_id[span].tolist()
            found = [place for place, name in enumerate(ids, start=span.start) if name in wanted]
            return np.array(found, dtype=np.int64)
        import pandas as pd

        indices = pd.Index(self.transactions.transaction_id[span]).get_indexer(pd.Index(transaction_ids))
        inside = np.sort(indices[indices >= 0]).astype(np.int64)
        moved: Ints = inside + np.int64(span.start)
        return moved

    @cached_property
    def label_positions(self) -> Ints:
        """The position of each label's transaction, (m,); −1 if it is not among them."""
        return transaction_positions(self.transactions, self.labels)

    @cached_property
    def draws(self) -> Floats:
        """The number in [0, 1) by which each transaction is sampled, (n,)."""
        return hash_sampling.uniform(self.transactions.transaction_id)

    @cached_property
    def unreviewed(self) -> LabelEvents:
        """Labels without those of reviewers, who chose what they looked at; verdicts on the random audit sample stay."""
        source = self.labels.source
        from_review = np.append(np.isin(source.values.astype(str), CHOSEN), False)[source.codes]
        reviewed = from_review & (self.labels.retracts < 0)
        return (
            self.events
            if not reviewed.any()
            else label_events(self.transactions, self.labels.take(~reviewed), self.precedence)
        )

    def frauds_since(self, start: int) -> FraudHistory:
        """The stored frauds with event_time ≥ start up to the end of this history; there may be older ones."""
        if self.frauds is None:
            return FraudHistory.of(self.transactions, self.labels, self.precedence)
        return self.frauds.since(start)

    def silence_at(self, instant: int) -> NDArray[np.bool_]:
        """
        Where silence may mean genuine by what was known at an instant, (n,): not for features.

        The newest version of a payment decides, and no payment counts that was refunded in full or stopped by then.
        """
        return self.silence_ok if self.silence is None else self.silence.at(instant)

    def censored_at(self, instant: int) -> NDArray[np.bool_]:
        """Payments that happened, but that were refunded in full or stopped by an instant, so that no chargeback comes, (n,)."""
        none = np.zeros(len(self), dtype=bool)
        return none if self.silence is None else self.silence.censored_at(instant)

    def as_of(self, allowed_lateness: int) -> Ints:
        """as_of(t) of every transaction: the instant up to which its score may use what is known."""
        return self.transactions.as_of(allowed_lateness)


def load(
    store: Store,
    config: Config,
    start: int,
    end: int,
    entities: Mapping[str, Sequence[str]] | None = None,
) -> History:
    """
    Everything stored with start ≤ event_time < end, or only rows of some entities ({column: values}).
    """
    if entities is None:
        rows = stored_history.load_transactions(store, start, end)
    else:
        rows = stored_history.load_entities(store, start, end, entities)
    return _history(store, config, start, end, rows, entities)


def load_arriving(store: Store, config: Config, lookback: int, chunk: TransactionChunk, at: int) -> History:
    """The past of the entities of some payments that are not stored, with them, as if they had arrived at an instant (µs)."""
    start, end = int(chunk.event_time.min()) - lookback, int(chunk.event_time.max()) + 1
    names = [name for name in store.fields.entities if name in chunk.text]
    entities = {name: [value for value in chunk.text[name] if value is not None] for name in names}
    rows = stored_history.load_entities(store, start, end, entities, chunk, at)
    return _history(store, config, start, end, rows, entities)


def _history(
    store: Store,
    config: Config,
    start: int,
    end: int,
    rows: Transactions,
    entities: Mapping[str, Sequence[str]] | None,
) -> History:
    """The history of these rows; `entities` are those that all of them were chosen by, None if they were not."""
    payments = without_refunds(config, rows)
    labels = stored_history.load_labels(store, start, end, entities)
    never = config.labels.never_by_silence
    silence = Silence(
        payments,
        never,
        config.schema_.base_currency,
        partial(load_payment_changes, store, start, end, list(never)),
    )
    return History(
        transactions=payments,
        labels=labels,
        events=label_events(payments, labels, config.labels.precedence),
        completeness=stored_history.completeness(store),
        silence_ok=silence.by_first_version,
        precedence=config.labels.precedence,
        silence=silence,
        frauds=FraudReader(partial(_load_frauds, store, config, end, entities)),
    )


def without_refunds(config: Config, rows: Transactions) -> Transactions:
    """The rows that are no refunds."""
    if not config.schema_.kind:
        return rows
    return rows.take(~has_value(rows.columns["kind"], config.schema_.refund_kinds))


def _load_frauds(
    store: Store, config: Config, end: int, entities: Mapping[str, Sequence[str]] | None, start: int
) -> FraudHistory:
    known_from = start - LABEL_BEFORE_PAYMENT
    rows, labels = stored_history.load_frauds(store, start, end, known_from, entities)
    return FraudHistory.of(without_refunds(config, rows), labels, config.labels.precedence)


def maturity_of(config: Config, transactions: Transactions) -> Ints:
    """Age (µs) from which silence about each transaction may mean genuine, (n,): by `labels.maturity_by`, else `labels.maturity`."""
    maturity = np.full(len(transactions), config.labels.maturity, dtype=np.int64)
    for name, spans in config.labels.maturity_by.items():
        column = transactions.columns[name]
        of_value = [spans.get(str(value), config.labels.maturity) for value in column.values]
        maturity = np.array([*of_value, config.labels.maturity], dtype=np.int64)[column.codes]
    return maturity


def feature_catalogue(config: Config) -> FeatureCatalogue:
    """The feature catalogue of the configured fields and windows."""
    return catalogue_of(feature_fields(config))


def feature_fields(config: Config) -> Mapping[str, Any]:
    """The settings that the feature catalogue is built from; stored with a model, to rebuild it after the config changes."""
    return {
        "entities": list(config.schema_.entities),
        "numeric": list(config.schema_.numeric),
        "categorical": list(config.schema_.categorical),
        "windows": list(config.features.windows),
        "night": list(config.features.night),
        "maturity": config.labels.longest_maturity,
        "holidays": list(config.calendar.holidays),
        "timezone": config.schedule.timezone,
        "initiated_by": config.schema_.initiated_by,
        "merchant_initiated": list(config.schema_.merchant_initiated),
        "fraud_span": config.fraud_span,
    }


def catalogue_of(fields: Mapping[str, Any]) -> FeatureCatalogue:
    """The feature catalogue that a model was trained on, from its stored settings."""
    return build_catalogue(
        entities=fields["entities"],
        numeric=fields["numeric"],
        categorical=fields["categorical"],
        windows=fields["windows"],
        night=(fields["night"][0], fields["night"][1]),
        holidays=fields.get("holidays", ()),
        timezone=fields.get("timezone", "UTC"),
        initiated_by=fields.get("initiated_by", ""),
        merchant_initiated=fields.get("merchant_initiated", ()),
        fraud_span=fields.get("fraud_span", 0),
    )


def raw_matrix(
    history: History,
    rows: Ints,
    features: FeatureCatalogue,
    config: Config,
    fields: Mapping[str, Any] | None = None,
) -> Floats:
    """
    Raw features of the transactions at these positions, (n_rows, n_raw).

    `fields` are the settings stored with a model: its windows and maturity apply, not those of the configuration, which
    may have changed since.
    """
    maturity, lookback = config.labels.longest_maturity, config.lookback
    if fields is not None:
        maturity = fields.get("maturity", maturity)
        lookback = max(fields["windows"]) + maturity
    frauds = None
    if features.fraud_span and len(rows):
        first = int(history.transactions.event_time[rows].min())
        frauds = history.frauds_since(first - features.fraud_span)
    return raw_features(
        history.transactions,
        history.events,
        rows,
        features,
        maturity=maturity,
        allowed_lateness=config.schedule.allowed_lateness,
        lookback=lookback,
        completeness=history.completeness,
        silence_ok=history.silence_ok,
        frauds=frauds,
    )
