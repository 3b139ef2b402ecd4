"""
Time-ordered validation folds that respect label delay: scores of detectors on held-out frauds.

A fold has a date. Its detectors are fitted on rows whose labels were known by then, and score the rows between that date
and the next fold's date. Dates are set so that folds hold about equally many frauds; the frauds before the first date are
only trained on. A caller may set dates and rows itself (`fit_folds`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from detectors.algorithms.pyod_support import thin_genuine
from detectors.base import Floats, Ints
from detectors.inputs.sample import Layout, Sample, digest_of
from detectors.strategy.components import Components
from detectors.strategy.outlier_team import FitSettings

FOLDS = 4
# Genuine rows that a fold trains on, and that it scores, at most. Detectors of a fold have the usual
# size: with 6,000 training rows and half the trees, two of eight samples of 5 known frauds made the learned weight of a blend
# worse by chance (average precision lower by .04 and .16); with this size none did.
GENUINE = 10_000
FRAUDS = 1_000  # likewise of frauds: classifiers that learned from so many are compared as well as from more
GENUINE_MIN = 100  # fewer do not define what is normal
REMEMBERED = 8  # folds whose scores this process keeps, half a megabyte each
_scores_by_rows: dict[str, dict[str, Floats]] = {}


@dataclass(frozen=True)
class ValidationFold:
    """The held-out rows of one fold and their scores, (n,) each; scores are surprisals except for `margin`."""

    y: Floats
    weight: Floats
    amount: Floats
    time: Ints
    entity: Ints
    outlier: Floats
    families: Floats  # of the regression on the outlier detectors' families
    boosting: Floats
    forest: Floats
    margin: Floats  # boosting's logit
    n_training_frauds: int  # frauds that its detectors were trained on

    def before(self, instant: int) -> "ValidationFold":
        """The rows before an instant."""
        rows = self.time < instant
        arrays = {name: values[rows] for name, values in vars(self).items() if name != "n_training_frauds"}
        return replace(self, **arrays)


@dataclass(frozen=True)
class FoldSamples:
    """The labelled rows of one fold: those that were known at its date, and those that are held out."""

    past: Sample
    validation: Sample


def fit_validation_folds(mature: Sample, layout: Layout, settings: FitSettings) -> tuple[ValidationFold, ...]:
    """
    Fit all detectors and score the held-out rows, fold by fold; folds without training or held-out frauds are left out.

    Parameters
    ----------
    mature
        Labelled rows, y in {0, 1}, with `time` and `known_at`.
    """
    if (mature.y == 1).sum() < 2:
        return ()
    return fit_folds((_rows_between(mature, *span) for span in fold_spans(mature)), layout, settings)


def fit_folds(
    rows: Iterable[FoldSamples], layout: Layout, settings: FitSettings
) -> tuple[ValidationFold, ...]:
    """Fit all detectors to each fold's past and score what it holds out; folds without frauds on both sides are left out."""
    fitted = (_fold(each, layout, settings) for each in rows)
    return tuple(fold for fold in fitted if fold is not None)


def fold_spans(mature: Sample) -> list[tuple[int, int]]:
    """
    [start, end) of each fold's rows, in time order.

    With n frauds and k folds, these begin at fraud number n/(k + 1), 2n/(k + 1) …; equal dates are merged.
    """
    times = mature.times[mature.y == 1]
    n = len(times)
    n_folds = min(FOLDS, n - 1)
    places = [min(round(n * nth / (n_folds + 1)), n - 1) for nth in range(1, n_folds + 1)]
    starts = np.unique(times[places])
    ends = np.append(starts[1:], mature.times[-1] + 1)
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _rows_between(mature: Sample, start: int, end: int) -> FoldSamples:
    return FoldSamples(
        mature.take((mature.times < start) & (mature.learnable_at <= start)),
        mature.take((mature.times >= start) & (mature.times < end)),
    )


def _fold(rows: FoldSamples, layout: Layout, settings: FitSettings) -> ValidationFold | None:
    past, validation = rows.past, rows.validation
    if not (past.y == 1).any() or not (validation.y == 1).any():
        return None
    if min((past.y == 0).sum(), (validation.y == 0).sum()) < GENUINE_MIN:
        return None
    past, validation = _thinned(past, settings.seed), _thinned(validation, settings.seed)
    return ValidationFold(
        y=validation.y,
        weight=validation.weight,
        amount=validation.amount,
        time=validation.times,
        entity=validation.entities,
        **_scores(past, validation, layout, settings),
        n_training_frauds=int(past.y.sum()),
    )


def _scores(past: Sample, validation: Sample, layout: Layout, settings: FitSettings) -> dict[str, Floats]:
    """
    What detectors that are fitted to the past say of the rows held out.

    Trainings of consecutive dates share folds: what was computed of exactly the same rows is not computed again.
    """
    key = digest_of([past, validation], repr((layout, settings)))
    scores = _scores_by_rows.pop(key, None)
    if scores is None:
        parts = Components.fit(layout, past, past.take(past.y == 0), settings, "blend")
        sides = parts.sides(parts.encoder.transform(validation.raw))
        scores = {
            "outlier": sides.team.surprisal,
            "families": sides.families,
            "boosting": sides.boosting,
            "forest": sides.forest,
            "margin": sides.margin,
        }
    _scores_by_rows[key] = scores  # the last one used is the last to go
    while len(_scores_by_rows) > REMEMBERED:
        _scores_by_rows.pop(next(iter(_scores_by_rows)), None)
    return scores


def _thinned(sample: Sample, seed: int) -> Sample:
    """At most about `GENUINE` genuine rows and `FRAUDS` frauds, weighted to represent all of them."""
    sample = subsample_genuine(sample, GENUINE, seed)
    if np.count_nonzero(sample.y == 1) <= FRAUDS:
        return sample
    rows, weight = thin_genuine(1.0 - sample.y, sample.weight, FRAUDS, seed)  # the other class
    return replace(sample.take(rows), weight=weight)


def subsample_genuine(sample: Sample, genuine: int, seed: int) -> Sample:
    """All frauds and about `genuine` genuine rows at most, weighted to represent all of them."""
    if np.count_nonzero(sample.y != 1) <= genuine:
        return sample
    rows, weight = thin_genuine(sample.y, sample.weight, genuine, seed)
    return replace(sample.take(rows), weight=weight)
