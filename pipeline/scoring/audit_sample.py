"""
A random look at what is not flagged.

Each transaction's id is turned into a number in [0, 1) that nothing else knows of. Those at or above the threshold that
the training set for the wanted daily number are put before a reviewer on channel `audit`. The draw belongs to the id,
so every way of running draws the same ones.
"""

from dataclasses import replace
from hashlib import blake2b

import numpy as np

from detectors.model.model import AUDIT, Model, Scores
from storage.frames import Floats, Strings

DRAWS = 2**53  # numbers that can be drawn: as many as floats below 1 tell apart


def with_audit(model: Model, scores: Scores, ids: Strings) -> Scores:
    """Scores in which some of the rows that are not flagged are, by chance; the same where none are wanted."""
    if AUDIT not in model.thresholds:
        return scores
    drawn = draw(ids)
    chosen = ~scores.flagged & (drawn >= model.thresholds[AUDIT])
    return replace(
        scores,
        decision_value=np.where(chosen, drawn, scores.decision_value),
        threshold=np.where(chosen, model.thresholds[AUDIT], scores.threshold),
        channel=np.where(chosen, AUDIT, scores.channel).astype(object),
        flagged=scores.flagged | chosen,
    )


def draw(ids: Strings) -> Floats:
    """A number in [0, 1) for each id, independent of the one that thins training rows."""
    numbers = (int.from_bytes(blake2b(one.encode(), digest_size=8, person=b"audit").digest()) for one in ids)
    return np.array([number % DRAWS for number in numbers], dtype=np.float64) / DRAWS
