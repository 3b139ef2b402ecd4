"""The risk that a classifier of its time saw in each payment: about what decided whether people looked at it."""

from itertools import pairwise

import numpy as np

from detectors.algorithms.boosting import Boosting
from detectors.base import MIN_FRAUDS_TO_FIT, Bools, Floats
from detectors.inputs.encoding import Encoder
from detectors.inputs.sample import Layout, Sample
from detectors.strategy.outlier_team import FitSettings

BLOCKS = 4  # of equally many frauds; more follow the trainings of the past more closely, but each costs a fit
COARSE = {"max_bin": 255, "num_iterations": 60, "learning_rate": 0.1}  # strata need no finer order


def past_risk(sample: Sample, layout: Layout, settings: FitSettings) -> Floats:
    """
    Logit of boosted trees for each row, (n,), fitted on what was known before the row's block of time.

    The first block, which nothing precedes, gets that of the trees fitted on all later blocks: no row's own label is in its risk.
    All 0 if there are too few frauds to fit.

    Parameters
    ----------
    sample
        Rows in time order with `known_at`; y is NaN where neither fraud nor genuine is known.
    """
    risk = np.zeros(len(sample))
    times, frauds = sample.times, sample.times[sample.y == 1]
    if len(frauds) < BLOCKS * MIN_FRAUDS_TO_FIT:
        return risk
    cuts = [int(frauds[len(frauds) * nth // BLOCKS]) for nth in range(1, BLOCKS)]
    edges = [int(times[0]), *sorted(set(cuts) - {int(times[0])}), int(times[-1]) + 1]
    for start, end in pairwise(edges):
        block = (times >= start) & (times < end)
        known = (times < start) & (sample.learnable_at <= start) & ~np.isnan(sample.y)
        if not _is_fit_for_training(sample, known):
            known = ~block & ~np.isnan(sample.y)
        if _is_fit_for_training(sample, known):
            risk[block] = _fitted_on(sample.take(known), sample.raw[block], layout, settings)
    return risk


def _is_fit_for_training(sample: Sample, rows: Bools) -> bool:
    frauds = int(np.count_nonzero(sample.y[rows] == 1))
    return MIN_FRAUDS_TO_FIT <= frauds < int(np.count_nonzero(rows))


def _fitted_on(past: Sample, raw: Floats, layout: Layout, settings: FitSettings) -> Floats:
    encoder = Encoder.fit(layout.encoding, past.raw, past.y, past.weight)
    boosting = Boosting(seed=settings.seed, threads=settings.threads, overrides=COARSE)
    boosting.fit(encoder.transform(past.raw), past.y, past.weight)
    return boosting.anomaly_score(encoder.transform(np.ascontiguousarray(raw)))
