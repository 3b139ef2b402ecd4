"""
Stored transactions and labels of a span, ready to compute features from.

A `History` may hold more than one computation is allowed to know; every rule of knowledge is applied where
features and labels are read, per transaction, never by what happened to be loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.config import Config
from pipeline.features.compute import LabelEvents, Plan, label_events, plan, raw_features
from storage.database.database import Store
from storage.frames import Coded, Completeness, Ints, Labels, Transactions
from storage.ingest import history as stored

Floats = NDArray[np.float64]

REVIEW = "review"  # source of labels that a verdict on a flag gives


@dataclass(frozen=True)
class History:
    """Payments (refunds are left out) of a span, with what is known of them."""

    transactions: Transactions
    labels: Labels
    events: LabelEvents
    completeness: Completeness
    silence_ok: NDArray[np.bool_]  # (n,) False where silence never means genuine
    precedence: Sequence[str] = ()  # of label sources

    def __len__(self) -> int:
        return len(self.transactions)

    def positions(self, transaction_ids: NDArray[np.object_], start: int, end: int) -> Ints:
        """
        Positions, in order, of these transactions with start ≤ event_time < end; others are left out.

        Looking only at the span keeps a window's cost its own, however long the history at hand is.
        """
        import pandas as pd

        span = self.transactions.between(start, end)
        found = pd.Index(self.transactions.transaction_id[span]).get_indexer(pd.Index(transaction_ids))
        inside = np.sort(found[found >= 0]).astype(np.int64)
        moved: Ints = inside + np.int64(span.start)
        return moved

    @cached_property
    def unreviewed(self) -> LabelEvents:
        """Labels as if nobody had ever answered a flag: what customers and banks reported alone."""
        source = self.labels.source
        reviewed = np.append(np.isin(source.values.astype(str), [REVIEW]), False)[source.codes]
        return (
            self.events
            if not reviewed.any()
            else label_events(self.transactions, self.labels.take(~reviewed), self.precedence)
        )

    def as_of(self, allowed_lateness: int) -> Ints:
        """as_of(t) of every transaction: the instant whose knowledge its score may use."""
        of_time = self.transactions.event_time + allowed_lateness
        return np.maximum(of_time, self.transactions.ingested_at)


def load(
    store: Store,
    config: Config,
    start: int,
    end: int,
    wanted: Mapping[str, Sequence[str]] | None = None,
) -> History:
    """
    Everything stored with start ≤ event_time < end, or only the entities of `wanted` ({column: values}).
    """
    if wanted is None:
        rows = stored.load_transactions(store, start, end)
    else:
        rows = stored.load_entities(store, start, end, wanted)
    payments = rows.take(~_among(rows, "kind", config.schema_.refund_kinds)) if config.schema_.kind else rows
    labels = stored.load_labels(store, start, end)
    return History(
        transactions=payments,
        labels=labels,
        events=label_events(payments, labels, config.labels.precedence),
        completeness=stored.completeness(store),
        silence_ok=_silence_means_genuine(payments, config.labels.never_by_silence),
        precedence=config.labels.precedence,
    )


def feature_plan(config: Config) -> Plan:
    """The features that the configured fields and windows ask for."""
    return plan(
        entities=config.schema_.entities,
        numeric=config.schema_.numeric,
        categorical=config.schema_.categorical,
        windows=config.features.windows,
        night=config.features.night,
        holidays=config.calendar.holidays,
        timezone=config.schedule.timezone,
    )


def fields_of(config: Config) -> Mapping[str, Any]:
    """What the plan of features is made from, to make it again when the config has moved on."""
    return {
        "entities": list(config.schema_.entities),
        "numeric": list(config.schema_.numeric),
        "categorical": list(config.schema_.categorical),
        "windows": list(config.features.windows),
        "night": list(config.features.night),
        "maturity": config.labels.maturity,
        "holidays": list(config.calendar.holidays),
        "timezone": config.schedule.timezone,
    }


def plan_of(fields: Mapping[str, Any]) -> Plan:
    """The features that a model was trained on, from what it remembers of them."""
    return plan(
        entities=fields["entities"],
        numeric=fields["numeric"],
        categorical=fields["categorical"],
        windows=fields["windows"],
        night=(fields["night"][0], fields["night"][1]),
        holidays=fields.get("holidays", ()),
        timezone=fields.get("timezone", "UTC"),
    )


def raw_matrix(
    history: History, rows: Ints, features: Plan, config: Config, fields: Mapping[str, Any] | None = None
) -> Floats:
    """
    Raw features of the transactions at these positions, (n_rows, n_raw).

    `fields` is what a model remembers of its training: its windows and its maturity count, not the
    configuration's, which may have moved on.
    """
    maturity, lookback = config.labels.maturity, config.lookback
    if fields is not None:
        maturity = fields.get("maturity", maturity)
        lookback = max(fields["windows"]) + maturity
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
    )


def _silence_means_genuine(rows: Transactions, never: Mapping[str, Sequence[str]]) -> NDArray[np.bool_]:
    silent = np.ones(len(rows), dtype=bool)
    for name, values in never.items():
        silent &= ~_among(rows, name, values)
    return silent


def _among(rows: Transactions, name: str, values: Sequence[str]) -> NDArray[np.bool_]:
    column: Coded = rows.columns[name]
    matching = np.isin(column.values.astype(str), list(values)) if len(column.values) else np.zeros(0, bool)
    return np.append(matching, False)[column.codes]
