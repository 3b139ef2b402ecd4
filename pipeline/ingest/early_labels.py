"""
Checks labels that arrived before their payment against its time, once it arrives.

A label that was known before its payment has a wrong time, or is for another payment. With its payment at hand it would have
been set aside; so it no longer holds once the payment is visible.
"""

import numpy as np

from pipeline.config.config import Config
from pipeline.ingest.checks.label_check import known_before_payment, on_day_of_payment
from storage.database.database import Store
from storage.ingest.batches import BatchLoader
from storage.ingest.repeated_labels import early_labels


def retract_early_labels(store: Store, loader: BatchLoader, config: Config) -> int:
    """Retract the labels that say they were known more than an hour before a payment of this batch; returns their number."""
    labels = early_labels(store, loader.batch_id)
    known_at = np.array([label.known_at for label in labels], dtype=np.int64)
    event_time = np.array([label.event_time for label in labels], dtype=np.int64)
    known_at = on_day_of_payment(known_at, event_time, config.schema_.timezone)
    early = np.flatnonzero(known_before_payment(known_at, event_time))
    loader.retract([labels[place] for place in early.tolist()])
    return len(early)
