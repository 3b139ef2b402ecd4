"""Samples of a training set with their raw features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.inputs.encoding import Encoder
from detectors.inputs.sample import Sample
from detectors.strategy.exclude_suspicious import suspicious_rows
from detectors.strategy.validation_folds import GENUINE, FoldSamples
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.config.costs import at_risk
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.history import History, raw_matrix
from pipeline.memory import release_freed_memory
from pipeline.rules.mutes import Mute, muted_entities
from pipeline.training.training_set import TrainingSet, case_entities, complete_through, payers
from storage.frames import DAY, FRAUD, Ints

UNLABELLED_ROWS = (
    60_000  # each tree of the outlier detector draws 4,096 rows; more rows only cost feature computation
)
HOLDOUT_ROWS = 60_000  # enough that the threshold of 50 flags a day rests on hundreds of scores
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Besides all frauds; about ten seconds of fits. A number of rows and not of seconds, so that a choice does not depend on how
# busy the machine is.
EVIDENCE_ROWS = 40_000
# Validation folds by the calendar, where frauds are so many that a fold uses a part of them only: so many to learn from, and to hold out.
FOLD_SPAN = 14 * DAY
FOLD_FRAUDS = 500
FOLDS_MIN, FOLDS_MAX = 2, 3


class SampleMatrix:
    """Raw features computed once for several overlapping samples."""

    def __init__(
        self, config: Config, history: History, features: FeatureCatalogue, samples: list[Ints]
    ) -> None:
        self._history = history
        self._rows = np.unique(np.concatenate(samples))
        self._raw = raw_matrix(history, self._rows, features, config)
        release_freed_memory()  # of what features were computed with, before the samples are copied out
        self._payers = payers(config, history)
        self._at_risk = at_risk(config, history.transactions)

    def sample(
        self, rows: Ints, y: Floats | None = None, weight: Floats | None = None, known_at: Ints | None = None
    ) -> Sample:
        """A sample of these rows of the history; `y` defaults to unknown (NaN), `weight` to 1."""
        transactions = self._history.transactions
        return Sample(
            np.ascontiguousarray(self._raw[np.searchsorted(self._rows, rows)]),
            np.full(len(rows), np.nan) if y is None else y,
            np.ones(len(rows)) if weight is None else weight,
            self._at_risk[rows],
            transactions.event_time[rows],
            known_at,
            self._payers[rows],
        )


@dataclass(frozen=True)
class TrainingSamples:
    """The samples of a training."""

    mature: Sample
    young: Sample
    unlabelled: Sample
    holdout: Sample  # its entities are those that cases are counted by; None without entities
    muted: Bools  # of `holdout`: rows whose flags an entity's mute covers


def for_training(
    config: Config,
    history: History,
    training_set: TrainingSet,
    features: FeatureCatalogue,
    mutes: Sequence[Mute],
) -> TrainingSamples:
    """
    All frauds and about `training.max_rows` other mature rows, young rows that people answered, unlabelled rows for the outlier detector,
    and the holdout.
    """
    draws, most = history.draws, config.training.max_rows
    mature, mature_weight = hash_sampling.sample_rows(
        draws[training_set.mature], most, training_set.y == FRAUD
    )
    unlabelled, unlabelled_weight = hash_sampling.sample_rows(
        draws[training_set.unlabelled], min(UNLABELLED_ROWS, most)
    )
    holdout, holdout_weight = hash_sampling.sample_rows(draws[training_set.holdout], HOLDOUT_ROWS)
    young = training_set.young
    rows = [training_set.mature[mature], training_set.unlabelled[unlabelled], training_set.holdout[holdout]]
    matrix = SampleMatrix(config, history, features, [*rows, young.rows])
    case_codes = case_entities(config, history)
    samples = TrainingSamples(
        _mature_sample(matrix, training_set, mature, mature_weight),
        matrix.sample(young.rows, young.y, young.weight, young.since),
        matrix.sample(rows[1], weight=unlabelled_weight),
        replace(
            matrix.sample(rows[2], weight=holdout_weight),
            entity=None if case_codes is None else case_codes[rows[2]],
        ),
        muted_entities(mutes, history.transactions)[rows[2]],
    )
    if not config.training.exclude_flagged:
        return samples
    keep = ~_flagged_as_outliers(config, features, samples.unlabelled) | training_set.cleared[unlabelled]
    return replace(samples, unlabelled=samples.unlabelled.take(keep))


def for_evidence(
    config: Config, history: History, training_set: TrainingSet, features: FeatureCatalogue
) -> Sample:
    """All frauds and about EVIDENCE_ROWS other mature rows."""
    draws = history.draws[training_set.mature]
    selected, weight = hash_sampling.sample_rows(draws, EVIDENCE_ROWS, training_set.y == FRAUD)
    matrix = SampleMatrix(config, history, features, [training_set.mature[selected]])
    return _mature_sample(matrix, training_set, selected, weight)


def of_calendar_folds(
    config: Config, history: History, training_set: TrainingSet, features: FeatureCatalogue
) -> list[FoldSamples]:
    """
    Rows of validation folds that begin every `FOLD_SPAN`, whatever the date of the training; empty where frauds are too few for them.

    Consecutive trainings have these folds in common. A fold learns from the two `FOLD_SPAN` that were mature at its date, and holds out
    the next one once all of it is mature. How its rows are sampled depends on nothing else.
    """
    times = history.transactions.event_time[training_set.mature]
    fraud, draws = training_set.y == FRAUD, history.draws[training_set.mature]
    maturity, oldest = config.labels.longest_maturity, training_set.date - config.training.span
    end = (complete_through(history, training_set.date) - maturity) // FOLD_SPAN * FOLD_SPAN
    folds: list[tuple[Ints, Ints]] = []
    while len(folds) < FOLDS_MAX and end - 3 * FOLD_SPAN - maturity >= oldest:
        start = end - FOLD_SPAN
        past = (times >= start - 2 * FOLD_SPAN - maturity) & (times < start)
        past &= training_set.mature_since <= start
        validation = (times >= start) & (times < end)
        if min((fraud & past).sum(), (fraud & validation).sum()) < FOLD_FRAUDS:
            break
        folds.append((np.flatnonzero(past), np.flatnonzero(validation)))
        end = start
    if len(folds) < FOLDS_MIN:
        return []

    sampled = [
        [(rows[kept], weight) for rows in fold for kept, weight in [_thinned(draws[rows], fraud[rows])]]
        for fold in reversed(folds)
    ]
    matrix = SampleMatrix(
        config, history, features, [training_set.mature[rows] for fold in sampled for rows, _ in fold]
    )
    return [FoldSamples(*(_mature_sample(matrix, training_set, *part) for part in fold)) for fold in sampled]


def _thinned(draws: Floats, fraud: Bools) -> tuple[Ints, Floats]:
    """All frauds and as many other rows as a fold uses."""
    return hash_sampling.sample_rows(draws, GENUINE + int(fraud.sum()), fraud)


def _mature_sample(
    matrix: SampleMatrix, training_set: TrainingSet, selected: Ints, sampling_weight: Floats
) -> Sample:
    """The sample of some mature rows."""
    return matrix.sample(
        training_set.mature[selected],
        training_set.y[selected],
        sampling_weight * training_set.weight[selected],
        training_set.mature_since[selected],
    )


def _flagged_as_outliers(config: Config, features: FeatureCatalogue, unlabelled: Sample) -> NDArray[np.bool_]:
    """Which unlabelled rows outlier detection would have flagged."""
    if not len(unlabelled):
        return np.zeros(0, dtype=bool)
    encoder = Encoder.fit(features.encoding, unlabelled.raw, unlabelled.y, unlabelled.weight)
    view = features.layout.groups[0].view(encoder.transform(unlabelled.raw))
    return suspicious_rows(
        view, unlabelled.weight, unlabelled.times, config.alerts.per_day, DAY, config.outlier.detector
    )
