"""Data cleaning for outlier detection: find rows too suspicious to be learned as normal, although not known to be fraud."""

from itertools import pairwise

import numpy as np

from detectors.algorithms.pyod_support import systematic_sample
from detectors.base import SEED, Bools, Floats, Ints
from detectors.evaluation.thresholds import capacity_threshold
from detectors.registry import outlier_detector

STEPS = 12  # consecutive time periods; more of them take longer and flag nearly the same rows
STEP_ROWS = 10_000  # rows that the detector of a step is fitted on, at most
SHARE_MAX = 0.05  # share of a period that is flagged, at most; beyond that most flags are normal transactions


def suspicious_rows(
    rows: Floats, weight: Floats, times: Ints, per_day: float, day: int, outlier: str
) -> Bools:
    """
    Mask of rows that outlier detection would have flagged in a backtest, (n,).

    Period by period, a detector is fitted on the earlier rows that were not flagged, and flags the rows of the next period.

    Parameters
    ----------
    rows
        (n, n_columns) features of the outlier detector, in time order.
    weight
        (n,) how many transactions each row stands for.
    times
        (n,) ascending; a day is `day` of their units.
    per_day
        Number of flags a day.
    outlier
        Name of the outlier detector.

    Notes
    -----
    A detector that has learned a repeated fraud as normal no longer detects it, and fitting on all rows at once does not
    help, because the repeated fraud is dense by then. The flags of earlier models could be used instead, but they depend on
    which models existed; this backtest depends on the rows alone and is reproducible.
    Nothing is flagged in the first period: fraud that was present from the start is learned as normal.
    """
    flagged = np.zeros(len(rows), dtype=bool)
    if len(rows) < 2 or times[-1] == times[0]:
        return flagged
    edges = np.linspace(float(times[0]), float(times[-1]) + 1, STEPS + 1)
    days = (edges[1] - edges[0]) / day
    cuts = np.searchsorted(times, edges)
    for begin, end in pairwise(cuts[1:].tolist()):
        past = np.flatnonzero(~flagged[:begin])
        if len(past) < 2 or begin == end:
            continue
        learned = past[systematic_sample(weight[past], STEP_ROWS, SEED)]
        detector = outlier_detector(outlier, SEED).fit(rows[learned])
        scores = detector.anomaly_score(rows[begin:end])
        new = weight[begin:end]
        most = min(per_day, SHARE_MAX * float(new.sum()) / days)
        flagged[begin:end] = scores >= capacity_threshold(scores, new, days, most)
    return flagged
