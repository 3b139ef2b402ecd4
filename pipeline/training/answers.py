"""What reviewers answered about payments by a date: on flags, on the random audit sample, and where they looked by themselves."""

from collections.abc import Sequence

import numpy as np

from pipeline.features.history import History
from pipeline.features.label_history import Bools
from storage.frames import FRAUD, GENUINE, REVIEWERS, Ints


def is_answered(history: History, date: int, sources: Sequence[str] = REVIEWERS) -> Bools:
    """Which transactions have a label of these sources at `date`, (n,)."""
    answered = np.zeros(len(history), dtype=bool)
    answered[_positions(history, _standing(history, date) & _is_from(history, sources))] = True
    return answered


def is_reported(history: History, date: int) -> Bools:
    """Which transactions somebody reported as fraud by `date` who is no reviewer, (n,)."""
    reported = np.zeros(len(history), dtype=bool)
    fraud = (history.labels.status == FRAUD) & ~_is_from(history, REVIEWERS)
    reported[_positions(history, _standing(history, date) & fraud)] = True
    return reported


def bulk_of(history: History, date: int) -> Ints:
    """Code of the bulk answer that calls each transaction genuine at `date`, (n,); −1 without one."""
    bulk = np.full(len(history), -1, dtype=np.int64)
    labels = history.labels
    chosen = (labels.bulk.codes >= 0) & (labels.status == GENUINE)
    if chosen.any():
        chosen &= _standing(history, date)
        rows = history.label_positions[chosen]
        bulk[rows[rows >= 0]] = labels.bulk.codes[chosen][rows >= 0]
    return bulk


def reports_by_others(history: History) -> Bools:
    """Which labels say fraud and come from no reviewer, (m,)."""
    fraud: Bools = (history.labels.status == FRAUD) & ~_is_from(history, REVIEWERS)
    return fraud


def _standing(history: History, date: int) -> Bools:
    """Which labels are available at `date` and not retracted, (m,)."""
    labels = history.labels
    available = labels.available_at <= date
    retracted = np.isin(labels.label_id, labels.retracts[available & (labels.retracts >= 0)])
    standing: Bools = available & ~retracted
    return standing


def _is_from(history: History, sources: Sequence[str]) -> Bools:
    source = history.labels.source
    chosen: Bools = np.append(np.isin(source.values.astype(str), list(sources)), False)[source.codes]
    return chosen


def _positions(history: History, labels: Bools) -> Ints:
    """Positions of the transactions of these labels."""
    rows = history.label_positions[labels]
    return rows[rows >= 0]
