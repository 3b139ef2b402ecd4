"""Which of the rows that are not known to be fraud are too unusual to learn "normal" from."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detectors.algorithms.isolation_forest import IsolationForest
from detectors.base import Floats, Ints
from detectors.evaluation.thresholds import capacity_threshold

STEPS = 12  # stretches of time that are lived through; more cost time and flag nearly the same rows
STEP_ROWS = 10_000  # a forest of a step draws its trees from so many rows at most
SHARE_MAX = 0.05  # of a stretch; where reviewers look at more than that, most of what they look at is normal


def flagged_in_turn(
    rows: Floats, weight: Floats, times: Ints, per_day: float, trees: int, seed: int, day: int
) -> NDArray[np.bool_]:
    """
    Rows that outlier detection would have flagged, had it lived through them, (n,).

    Stretch by stretch: a forest is fitted on what came before and was not flagged, and flags the next stretch.

    Parameters
    ----------
    rows
        (n, n_columns) what the outlier detector looks at, in time order.
    weight
        (n,) how many transactions each row stands for.
    times
        (n,) ascending; a day is `day` of their units.
    per_day
        Flags a day.

    Notes
    -----
    A detector that has learned a repeated fraud as normal no longer sees it, and looking back at all rows at once
    does not help: by then it is dense. What earlier models flagged would do, but depends on which models there
    were; this depends on the rows alone, so a training finds the same however the past is lived through.
    The first stretch is taken as it is: fraud that has been there all the time is normal.
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
        forest = IsolationForest(trees, max_rows=STEP_ROWS, seed=seed)
        scores = forest.fit(rows[past], sample_weight=weight[past]).anomaly_score(rows[begin:end])
        new = weight[begin:end]
        most = min(per_day, SHARE_MAX * float(new.sum()) / days)
        flagged[begin:end] = scores >= capacity_threshold(scores, new, days, most)
    return flagged
