"""
Time-ordered, delay-respecting folds of a stored history: train at a date on what was known then, test on the days after.
"""

from dataclasses import dataclass

import numpy as np

from detectors.base import Floats
from detectors.evaluation.comparison import FoldRows
from detectors.imbalance.backtest import FRAUDS_MIN, ComparisonFold, is_trainable
from detectors.imbalance.techniques import Training
from detectors.inputs.sample import Sample
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.errors import InputError, NotReady
from pipeline.features import history as feature_history
from pipeline.features.history import History
from pipeline.features.label_history import has_known_status, status_at
from pipeline.training.samples import UNLABELLED_ROWS, SampleMatrix
from pipeline.training.training_set import training_set_at
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY, Ints
from storage.ingest import history as stored_history


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of a comparison: techniques, folds and rows."""

    folds: int = 3
    test: int = 7 * DAY
    max_rows: int = 60_000
    names: tuple[str, ...] = ()  # techniques, all by default
    by: str = ""  # a field to group false-flag rates by
    seed: int = 7
    threads: int = 1


def folds_of(store: Store, config: Config, options: ComparisonOptions, as_of: int) -> list[ComparisonFold]:
    """
    The newest folds whose labels are mature.

    Raises
    ------
    NotReady
        There is no span of `options.test` that has a fraud and whose training knows two.
    InputError
        `options.by` is not a field.
    """
    if options.by and options.by not in config.schema_.entities + config.schema_.categorical:
        fields = ", ".join(config.schema_.categorical + config.schema_.entities)
        raise InputError(
            f"there is no field {options.by!r}", remedy=f"choose one of {fields}", code="unknown_field"
        )
    spans = _spans(store, config, options, as_of)
    begin = spans[0][0] - config.training.span - config.lookback
    return _FoldBuilder(
        feature_history.load(store, config, begin, spans[-1][1]), config, options, as_of
    ).folds(spans)


def _spans(store: Store, config: Config, options: ComparisonOptions, as_of: int) -> list[tuple[int, int]]:
    """Test spans in time order, the newest ending where labels are mature."""
    span = stored_history.span(store)
    complete = int(stored_history.completeness(store).at(np.array([as_of], dtype=np.int64))[0])
    begin, newest = span or (0, 0)
    end = min(complete - config.labels.longest_maturity, newest + 1) // DAY * DAY
    starts = [end - n * options.test for n in range(options.folds, 0, -1)]
    spans = [(start, start + options.test) for start in starts if span and start > begin]
    if not spans:
        raise NotReady(
            "a comparison needs transactions and labels that are older than labels.maturity",
            remedy="see how far labels are complete",
            code="no_mature_span",
        )
    return spans


@dataclass(frozen=True)
class _FoldTraining:
    """Training rows of a fold, as positions in the history."""

    mature: Ints
    y: Floats
    weight: Floats  # of `mature`
    mature_since: Ints  # of `mature`, µs
    unlabelled: Ints


class _FoldBuilder:
    """Builds the folds of one history; the features of all their rows are computed together."""

    def __init__(self, history: History, config: Config, options: ComparisonOptions, as_of: int) -> None:
        self._history = history
        self._config = config
        self._options = options
        self._truth = status_at(history.transactions, history.events, as_of)
        self._has_truth = has_known_status(self._truth, history.silence_at(as_of))
        self._catalogue = feature_history.feature_catalogue(config)

    def folds(self, spans: list[tuple[int, int]]) -> list[ComparisonFold]:
        known = {span: self._training_at(span[0]) for span in spans}
        usable = [
            (span, training, self._test(*span))
            for span, training in known.items()
            if training is not None and is_trainable(training.y)
        ]
        if not any((self._truth[test] == 1).any() for _, _, test in usable):
            raise NotReady(self._no_fold_message(spans))
        rows = [np.concatenate([training.mature, training.unlabelled, test]) for _, training, test in usable]
        self._matrix = SampleMatrix(self._config, self._history, self._catalogue, rows)
        return [self._fold(span, training, test) for span, training, test in usable]

    def _training_at(self, date: int) -> _FoldTraining | None:
        try:
            at = training_set_at(self._config, self._history, date)
        except NotReady:
            return None
        newest = slice(-self._options.max_rows, None)
        draws = self._history.draws[at.unlabelled]
        return _FoldTraining(
            at.mature[newest],
            at.y[newest],
            at.weight[newest],
            at.mature_since[newest],
            at.unlabelled[hash_sampling.sample_rows(draws, UNLABELLED_ROWS)[0]],
        )

    def _test(self, start: int, end: int) -> Ints:
        times = self._history.transactions.event_time
        return np.flatnonzero((times >= start) & (times < end) & self._has_truth)

    def _no_fold_message(self, spans: list[tuple[int, int]]) -> str:
        days = self._options.test // DAY
        return (
            f"a comparison needs {days} days with mature fraud in them, after {FRAUDS_MIN} or more known ones to learn "
            f"from; none of {len(spans)} spans from {as_datetime(spans[0][0]):%Y-%m-%d} to "
            f"{as_datetime(spans[-1][1]):%Y-%m-%d} has both: wait for labels, or change --folds, --test or --max-rows"
        )

    def _fold(self, span: tuple[int, int], training: _FoldTraining, test: Ints) -> ComparisonFold:
        mature = self._matrix.sample(training.mature, training.y, training.weight, training.mature_since)
        unlabelled = self._matrix.sample(training.unlabelled)
        test_sample = self._matrix.sample(test, (self._truth[test] == 1).astype(np.float64))
        rows = self._rows(test, test_sample)
        return ComparisonFold.of(span, self._training, mature, unlabelled, test_sample, rows, self._groups())

    def _training(self, mature: Sample, usual: Sample) -> Training:
        options, layout = self._options, self._catalogue.layout
        return Training(mature, usual, layout, self._config.costs.missed_fraud, options.seed, options.threads)

    def _rows(self, test: Ints, sample: Sample) -> FoldRows:
        times = self._history.transactions.event_time[test]
        by = self._options.by
        group = self._history.transactions.columns[by].codes[test].astype(np.int64) if by else None
        stake = costs_of(self._config).at_stake(sample.amount)
        return FoldRows(sample.y, stake, sample.entities, times, times // DAY, group)

    def _groups(self) -> tuple[str, ...]:
        by = self._options.by
        return tuple(str(value) for value in self._history.transactions.columns[by].values) if by else ()
