"""How far a window's features and scores have moved from the training sample of its model."""

import numpy as np
from numpy.typing import NDArray

from detectors.model import Model, Scores
from pipeline.config import Config
from pipeline.features import Plan
from storage.frames import DAY
from storage.results import DriftRow

WEEK = 7 * DAY


def drift_rows(
    model: Model,
    features: Plan,
    raw: NDArray[np.float64],
    scores: Scores,
    window: tuple[int, int],
    config: Config,
) -> list[DriftRow]:
    """
    PSI and Jensen–Shannon divergence of every feature and of the score.

    An alarm needs `drift.min_rows` rows: what a smaller window shows is chance. Its value is stored all the
    same, and so is the count it rests on. Histories of fraud move as labels mature, and the day of the week moves in
    any window shorter than a week, whatever the payments do: they are measured and never an alarm.
    """
    short = window[1] - window[0] < WEEK
    moves_anyway = {
        feature.name
        for feature in features.features
        if not feature.label_free or (short and feature.family == "time")
    }
    limits = {"psi": config.drift.psi_alarm, "jensen_shannon": config.drift.js_alarm}
    speaks = len(raw) >= config.drift.min_rows
    return [
        DriftRow(
            window_start=window[0],
            window_end=window[1],
            feature=found.feature,
            metric=found.metric,
            value=None if np.isnan(found.value) else found.value,
            threshold=limits[found.metric],
            alarm=bool(speaks and found.feature not in moves_anyway and found.value > limits[found.metric]),
            n_reference=found.n_reference,
            n_current=found.n_current,
        )
        for found in model.drift(raw, scores)
    ]
