"""
Whether models rank the payments that they learned from: if not, labels or values are wrong.

Where wrong labels or values are stored for the whole past, those of the promotion gate's window are wrong as well, and neither
model ranks them. What the champion has learned tells the difference: it ranks those payments far better than new ones, and so does a
candidate, however few frauds there are in the window.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detectors.evaluation.metrics import average_precision
from detectors.inputs.sample import Sample
from detectors.model.model import Model
from storage.frames import FRAUD

GENUINE_ROWS = 20_000  # that are ranked, beside all frauds
FRAUDS_MIN = 10
MORE_FRAUDS = 1.1  # with more than so many times the frauds that it learned, too many are new to it
# Of average precision. Data unchanged, it is the same a week later and with other trees within 0.05; with amounts of another unit or
# the labels of other payments it falls by 0.2 or more (`python -m benchmarks.gate`).
FALL = 0.1


def learned_ranking(model: Model, mature: Sample) -> dict[str, float]:
    """
    The average precision of a model among the payments that it learned from, and the number of frauds among them.

    Returns
    -------
    An entry of the model's notes; empty with fewer than ten frauds or without genuine payments.
    """
    fraud = mature.y == FRAUD
    step = max(1, int((~fraud).sum()) // GENUINE_ROWS)
    rows = mature.take(fraud | (np.cumsum(~fraud) % step == 0))
    weight = np.where(rows.y == FRAUD, 1.0, step) * rows.weight
    frauds = int(fraud.sum())
    if frauds < FRAUDS_MIN or len(rows) == frauds:
        return {}
    score = model.score(rows.raw, rows.amount).score
    return {"ap": average_precision(rows.y, score, weight), "frauds": frauds}


def is_lower(of_candidate: Mapping[str, Any], of_champion: Mapping[str, Any]) -> bool:
    """Whether the `learned_ranking` of a candidate is much lower than that of the champion among the same payments."""
    return bool(of_candidate and of_champion and of_champion["ap"] - of_candidate["ap"] > FALL)


def has_changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the `learned_ranking` of a model is so much lower now that the payments it learned from must have changed."""
    if not then or not now:
        return False
    return bool(now["frauds"] <= MORE_FRAUDS * then["frauds"] and then["ap"] - now["ap"] > FALL)
