"""
Time-ordered, delay-respecting folds of a stored history: train at a date on what was known then, test on the days after.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation import comparison
from detectors.imbalance.techniques import Training
from detectors.inputs.sample import Sample
from detectors.model.auto_detector import FOLD
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.errors import InputError, NotReady
from pipeline.features import history as histories
from pipeline.features.compute import status_at
from pipeline.features.history import History
from pipeline.training.samples import USUAL_ROWS, Matrix
from pipeline.training.training_set import known_at
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY, Ints
from storage.ingest import history as stored

Floats = NDArray[np.float64]

FRAUDS_MIN = 2  # in the older part of a fold's training rows


@dataclass(frozen=True)
class Wanted:
    """What to compare, and on how much."""

    folds: int = 3
    test: int = 7 * DAY
    max_rows: int = 60_000
    names: tuple[str, ...] = ()  # all by default
    by: str = ""  # a field whose false-flag rates are told apart
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True)
class Fold:
    """
    One training date and the days after it.

    Attributes
    ----------
    past, held
        The older three quarters of the training rows, and the newest one, on which calibration and thresholds are set.
    all
        All training rows.
    test, rows
        The days after, to score and to judge on.
    groups
        Values of the field that false flags are told apart by.
    """

    start: int
    end: int
    past: Training
    held: Sample
    all: Training
    test: Sample
    rows: comparison.Rows
    groups: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """For the store and the reader."""
        return {
            "from": as_datetime(self.start).isoformat(),
            "to": as_datetime(self.end).isoformat(),
            "training_rows": len(self.all.mature),
            "training_frauds": self.all.frauds,
            "test_rows": len(self.test),
            "test_frauds": int(self.rows.y.sum()),
        }


def folds_of(store: Store, config: Config, wanted: Wanted, as_of: int) -> list[Fold]:
    """
    The newest folds whose labels are mature.

    Raises
    ------
    NotReady
        No span of `wanted.test` whose training knows two frauds and which holds one.
    InputError
        `wanted.by` is no field.
    """
    if wanted.by and wanted.by not in config.schema_.entities + config.schema_.categorical:
        known = ", ".join(config.schema_.categorical + config.schema_.entities)
        raise InputError(f"--by {wanted.by}: there is no such field, choose one of {known}")
    spans = _spans(store, config, wanted, as_of)
    begin = spans[0][0] - config.training.span - config.lookback
    return _Making(histories.load(store, config, begin, spans[-1][1]), config, wanted, as_of).folds(spans)


def _spans(store: Store, config: Config, wanted: Wanted, as_of: int) -> list[tuple[int, int]]:
    """Test spans in time order, the newest ending where labels are mature."""
    held = stored.span(store)
    complete = int(stored.completeness(store).at(np.array([as_of], dtype=np.int64))[0])
    begin, newest = held or (0, 0)
    end = min(complete - config.labels.maturity, newest + 1) // DAY * DAY
    starts = [end - n * wanted.test for n in range(wanted.folds, 0, -1)]
    spans = [(start, start + wanted.test) for start in starts if held and start > begin]
    if not spans:
        raise NotReady(
            "a comparison needs transactions and labels that are older than labels.maturity: "
            "fraudwatch doctor says how far labels are complete"
        )
    return spans


@dataclass(frozen=True)
class _Known:
    """Positions of what a training date knows."""

    mature: Ints
    y: Floats
    learnable: Ints  # since when each mature one has been so
    usual: Ints

    @property
    def cut(self) -> int:
        return round(len(self.y) * (1 - FOLD))

    @property
    def enough(self) -> bool:
        return float(self.y[: self.cut].sum()) >= FRAUDS_MIN


class _Making:
    """Folds of one history; the features of all their rows are computed together."""

    def __init__(self, history: History, config: Config, wanted: Wanted, as_of: int) -> None:
        self._history = history
        self._config = config
        self._wanted = wanted
        self._truth = status_at(history.transactions, history.events, as_of)
        self._plan = histories.feature_plan(config)

    def folds(self, spans: list[tuple[int, int]]) -> list[Fold]:
        known = {span: self._known(span[0]) for span in spans}
        usable = [
            (span, one, self._test(*span)) for span, one in known.items() if one is not None and one.enough
        ]
        if not any((self._truth[test] == 1).any() for _, _, test in usable):
            raise NotReady(self._refusal(spans))
        rows = [np.concatenate([one.mature, one.usual, test]) for _, one, test in usable]
        self._matrix = Matrix(self._config, self._history, self._plan, rows)
        return [self._fold(span, one, test) for span, one, test in usable]

    def _known(self, date: int) -> _Known | None:
        try:
            at = known_at(self._config, self._history, date)
        except NotReady:
            return None
        newest = slice(-self._wanted.max_rows, None)
        draws = hash_sampling.uniform(self._history.transactions.transaction_id[at.usual])
        return _Known(
            at.mature[newest],
            at.y[newest],
            at.learnable[newest],
            at.usual[hash_sampling.draw(draws, USUAL_ROWS)[0]],
        )

    def _test(self, start: int, end: int) -> Ints:
        times = self._history.transactions.event_time
        known = (self._truth >= 0) | self._history.silence_ok
        return np.flatnonzero((times >= start) & (times < end) & known)

    def _refusal(self, spans: list[tuple[int, int]]) -> str:
        days = self._wanted.test // DAY
        return (
            f"a comparison needs {days} days with mature fraud in them, after {FRAUDS_MIN} or more known ones to learn "
            f"from; none of {len(spans)} spans from {as_datetime(spans[0][0]):%Y-%m-%d} to "
            f"{as_datetime(spans[-1][1]):%Y-%m-%d} has both: wait for labels, or give --folds, --test or --max-rows"
        )

    def _fold(self, span: tuple[int, int], known: _Known, test: Ints) -> Fold:
        mature = self._matrix.sample(known.mature, known.y, known_at=known.learnable)
        usual = self._matrix.sample(known.usual)
        earlier = max(2, round(len(usual) * (1 - FOLD)))
        of_test = self._matrix.sample(test, (self._truth[test] == 1).astype(np.float64))
        return Fold(
            *span,
            past=self._training(mature.take(slice(0, known.cut)), usual.take(slice(0, earlier))),
            held=mature.take(slice(known.cut, len(mature))),
            all=self._training(mature, usual),
            test=of_test,
            rows=self._rows(test, of_test),
            groups=self._groups(),
        )

    def _training(self, mature: Sample, usual: Sample) -> Training:
        wanted, layout = self._wanted, self._plan.layout
        return Training(mature, usual, layout, self._config.costs.missed_fraud, wanted.seed, wanted.threads)

    def _rows(self, test: Ints, sample: Sample) -> comparison.Rows:
        times = self._history.transactions.event_time[test]
        by = self._wanted.by
        group = self._history.transactions.columns[by].codes[test].astype(np.int64) if by else None
        stake = costs_of(self._config).at_stake(sample.amount)
        return comparison.Rows(sample.y, stake, sample.entities, times, times // DAY, group)

    def _groups(self) -> tuple[str, ...]:
        by = self._wanted.by
        return tuple(str(value) for value in self._history.transactions.columns[by].values) if by else ()
