"""
What detectors would have said of frauds they did not know: folds in time order that respect the delay of labels.

A fold has a date. Its detectors are fitted on rows that could be learned from by then, and asked about the rows that
happened from then on until the next fold's date. Dates are set so that folds hold about equally many frauds, the first
of which there is nothing to learn from.
"""

from dataclasses import dataclass, replace

import numpy as np

from detectors.algorithms.pyod_support import thin
from detectors.base import Floats, Ints
from detectors.inputs.sample import Layout, Sample
from detectors.strategy.components import Fitting, Parts, surprisal

FOLDS = 4
# Genuine rows that a fold learns from, and that it is asked about, at most; all frauds beside. Detectors of a fold are of the
# usual size: learning from 6,000 rows with half the trees, two in eight draws of 5 known frauds led a blend astray by luck
# (average precision lower by .04 and .16), with these none.
GENUINE = 10_000
GENUINE_MIN = 100  # fewer do not say what is usual


@dataclass(frozen=True)
class HeldOut:
    """The rows of one fold and what was said of them; all (n,), surprisals but for `margin`."""

    y: Floats
    weight: Floats
    amount: Floats
    time: Ints
    entity: Ints
    outlier: Floats
    boosting: Floats
    forest: Floats
    margin: Floats  # boosting's logit
    known: int  # frauds that its detectors knew

    def before(self, instant: int) -> "HeldOut":
        """The rows that happened before an instant."""
        rows = self.time < instant
        arrays = {name: values[rows] for name, values in vars(self).items() if name != "known"}
        return replace(self, **arrays)


def held_out(mature: Sample, layout: Layout, how: Fitting, folds: int = FOLDS) -> tuple[HeldOut, ...]:
    """
    Fit and ask all detectors, fold by fold; folds that know or hold no fraud are left out.

    Parameters
    ----------
    mature
        Labelled rows, y in {0, 1}, with `time` and `known_at`.
    """
    if (mature.y == 1).sum() < 2:
        return ()
    made = (_fold(mature, layout, how, start, end) for start, end in spans(mature, folds))
    return tuple(one for one in made if one is not None)


def spans(mature: Sample, folds: int = FOLDS) -> list[tuple[int, int]]:
    """
    [start, end) of each fold's rows, in time order.

    With n frauds the folds begin at fraud number n/(folds + 1), 2n/(folds + 1) …, each date once.
    """
    times = mature.times[mature.y == 1]
    n = len(times)
    wanted = min(folds, n - 1)
    places = [min(round(n * nth / (wanted + 1)), n - 1) for nth in range(1, wanted + 1)]
    starts = np.unique(times[places])
    ends = np.append(starts[1:], mature.times[-1] + 1)
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _fold(mature: Sample, layout: Layout, how: Fitting, start: int, end: int) -> HeldOut | None:
    past = mature.take((mature.times < start) & (mature.learnable_at <= start))
    held = mature.take((mature.times >= start) & (mature.times < end))
    if not (past.y == 1).any() or not (held.y == 1).any():
        return None
    if min((past.y == 0).sum(), (held.y == 0).sum()) < GENUINE_MIN:
        return None
    past, held = thinned(past, GENUINE, how.seed), thinned(held, GENUINE, how.seed)
    return _asked(Parts.fit(layout, past, past.take(past.y == 0), how, "blend"), held, int(past.y.sum()))


def _asked(parts: Parts, held: Sample, known: int) -> HeldOut:
    X = parts.encoder.transform(held.raw)
    assert parts.boosting is not None
    assert parts.forest is not None
    margin = parts.boosting.classifier.anomaly_score(X)
    return HeldOut(
        y=held.y,
        weight=held.weight,
        amount=held.amount,
        time=held.times,
        entity=held.entities,
        outlier=surprisal(parts.outlier_rank(X)),
        boosting=surprisal(parts.boosting.scale.transform(margin)),
        forest=parts.forest.surprisal(X),
        margin=margin,
        known=known,
    )


def thinned(sample: Sample, genuine: int, seed: int) -> Sample:
    """All frauds and at most about so many genuine rows, which then stand for all of them."""
    others = np.flatnonzero(sample.y != 1)
    if len(others) <= genuine:
        return sample
    kept = others[thin(sample.weight[others], genuine, seed)]
    rows = np.sort(np.concatenate([np.flatnonzero(sample.y == 1), kept]))
    fewer = sample.take(rows)
    share = float(sample.weight[others].sum()) / len(kept)
    return Sample(
        fewer.raw,
        fewer.y,
        np.where(fewer.y == 1, fewer.weight, share),
        fewer.amount,
        fewer.time,
        fewer.known_at,
        fewer.entity,
    )
