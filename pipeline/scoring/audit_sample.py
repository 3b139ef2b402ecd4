"""
Random audit sample: flags transactions at random, to estimate the fraud that other channels miss.

The transaction's id is hashed to a number in [0, 1) that is used for nothing else. Rows at or above a threshold, which the
training sets for the configured number a day, are flagged on channel `audit`. The number depends on the id alone, so
every way of running selects the same rows.
"""

from dataclasses import replace
from hashlib import blake2b

import numpy as np

from detectors.model.model import AUDIT, Model, Scores
from storage.frames import Floats, Strings

DRAWS = 2**53  # possible draws: as many numbers as float64 can tell apart below 1


def with_audit(model: Model, scores: Scores, ids: Strings) -> Scores:
    """Scores with some unflagged rows flagged at random on channel `audit`; unchanged if no audit sample is configured."""
    if AUDIT not in model.thresholds:
        return scores
    draws = audit_draw(ids)
    sampled = ~scores.flagged & (draws >= model.thresholds[AUDIT])
    return replace(
        scores,
        decision_value=np.where(sampled, draws, scores.decision_value),
        threshold=np.where(sampled, model.thresholds[AUDIT], scores.threshold),
        channel=np.where(sampled, AUDIT, scores.channel).astype(object),
        flagged=scores.flagged | sampled,
    )


def audit_draw(ids: Strings) -> Floats:
    """A number in [0, 1) for each id, independent of the one that samples training rows."""
    numbers = (
        int.from_bytes(blake2b(transaction_id.encode(), digest_size=8, person=b"audit").digest())
        for transaction_id in ids
    )
    return np.array([number % DRAWS for number in numbers], dtype=np.float64) / DRAWS
