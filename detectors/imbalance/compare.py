"""`compare`: techniques for imbalanced data on arrays, in order of time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats, Ints
from detectors.evaluation.comparison import DAY, FoldRows
from detectors.evaluation.thresholds import Costs, cost_threshold
from detectors.imbalance.backtest import (
    FRAUDS_MIN,
    ComparisonFold,
    FitProgress,
    ReviewTerms,
    TrainingOf,
    backtest,
    is_trainable,
    select_techniques,
)
from detectors.imbalance.results import Comparison
from detectors.imbalance.techniques import Training
from detectors.inputs.arrays import as_codes, as_features, as_partial_labels, as_times
from detectors.inputs.sample import Layout, Sample
from detectors.model.auto_detector import REVIEWED

TESTED = 0.5  # newest share of the time, which is divided into test spans
REVIEW = 1.0  # costs are counted in reviews
USUAL_ROWS = 60_000  # each tree of the outlier detector draws 4,096 rows


def compare(
    X: ArrayLike,
    y: ArrayLike,
    time: ArrayLike,
    *,
    entities: ArrayLike | None = None,
    label_time: ArrayLike | None = None,
    techniques: str | Sequence[str] = (),
    folds: int = 3,
    cost_ratio: float = 100.0,
    per_day: int | None = None,
    max_rows: int = 60_000,
    seed: int = 7,
    threads: int = 1,
    progress: FitProgress | None = None,
) -> Comparison:
    """
    Fit techniques for imbalanced data on earlier rows and evaluate them on later ones, never on a random split.

    The newest half of the time is divided into `folds` test spans of equal length. At the beginning of each, every technique
    is fitted on what was known by then, and evaluated on the rows of the span. Intervals are those of a bootstrap over
    entities, with the same draws for every technique.

    Parameters
    ----------
    X
        (n_samples, n_features) numbers, in any order; missing values are imputed with training medians.
    y
        (n_samples,) 1 fraud, 0 genuine, NaN for rows without a label.
    time
        (n_samples,) when each row happened: datetimes, or seconds since any origin.
    entities
        (n_samples,) who paid, such as a customer or a card, as numbers or text: rows of one entity are drawn together, and
        its frauds count once in the choice of a strategy. By default every row is an entity of its own.
    label_time
        (n_samples,) when each label became known; by default at once. A label is used in training from then on.
    techniques
        A word or several: only techniques whose name or family contains one of them are tried. By default all, which takes
        minutes.
    folds
        Number of test spans, each with a training of its own.
    cost_ratio
        Cost of a missed fraud, in reviews of genuine transactions.
    per_day
        Number of reviews a day for precision and recall at k; 0.5 % of the rows by default.
    max_rows
        Techniques are fitted on at most so many of the newest labelled rows.
    seed, threads
        The same seed, rows and threads give the same results.
    progress
        Called after each fit with the technique, the number of fits done, and of all.

    Raises
    ------
    DetectorError
        An argument has another length or holds something that it must not, no technique has such a name, or no test span has
        frauds both in it and before it.
    """
    candidates = select_techniques([techniques] if isinstance(techniques, str) else techniques)
    if min(folds, max_rows, 1 if per_day is None else per_day) < 1:
        raise DetectorError(
            f"folds, max_rows and per_day must be 1 or more, got {folds}, {max_rows} and {per_day}"
        )
    cost_threshold(cost_ratio, REVIEW)  # refuses costs that make no sense, before minutes of fits
    costs = Costs(cost_ratio, REVIEW, "constant")
    history = _ArrayHistory.of(X, y, time, label_time, entities)
    spans = history.test_spans(folds)
    usable = [span for span in spans if is_trainable(history.y[history.mature(span[0], max_rows)])]
    if not any((history.y[history.tested(span)] == 1).any() for span in usable):
        raise DetectorError(history.no_fold_message(spans))

    def training(mature: Sample, usual: Sample) -> Training:
        return Training(mature, usual, Layout.plain(history.X.shape[1]), cost_ratio, seed, threads)

    prepared = [history.fold(span, max_rows, costs, training) for span in usable]
    terms = ReviewTerms(costs, per_day or history.reviews_a_day, "reviews")
    return backtest(candidates, prepared, terms, progress)


@dataclass(frozen=True)
class _ArrayHistory:
    """The arguments of `compare`, checked and in order of time; all but X (n,)."""

    X: Floats
    y: Floats
    time: Ints  # µs
    known_at: Ints  # µs
    entity: Ints

    @classmethod
    def of(
        cls, X: ArrayLike, y: ArrayLike, time: ArrayLike, label_time: ArrayLike | None, entities: ArrayLike | None
    ) -> Self:  # fmt: skip
        rows = as_features(X)
        labels, at = as_partial_labels(y, len(rows)), as_times(time, len(rows), "time")
        known_at = at if label_time is None else as_times(label_time, len(rows), "label_time")
        codes = np.arange(len(rows)) if entities is None else as_codes(entities, len(rows))
        order = np.argsort(at, kind="stable")
        newest_first = as_codes(codes[order[::-1]], len(rows))  # so that those of test rows are the lowest
        if not len(rows) or at[order[0]] == at[order[-1]]:
            raise DetectorError(
                "time is the same in every row: techniques are compared on later rows than they learn from"
            )
        return cls(
            np.ascontiguousarray(rows[order]), labels[order], at[order], known_at[order], newest_first[::-1]
        )

    def test_spans(self, folds: int) -> list[tuple[int, int]]:
        """[start, end) of each test span in µs, in time order."""
        begin, end = int(self.time[0]), int(self.time[-1]) + 1
        edges = np.linspace(end - TESTED * (end - begin), end, folds + 1).astype(np.int64)
        return [(int(start), int(stop)) for start, stop in pairwise(edges)]

    @property
    def reviews_a_day(self) -> int:
        """The usual share of a day's rows."""
        days = (int(self.time[-1]) - int(self.time[0])) / DAY
        return max(1, round(REVIEWED * len(self.y) / max(days, 1.0)))

    def mature(self, date: int, max_rows: int) -> Ints:
        """The newest rows before a date whose labels were known by then."""
        return np.flatnonzero(self._label_known(date))[-max_rows:]

    def usual(self, date: int) -> Ints:
        """Rows before a date that were not known to be fraud by then, at most `USUAL_ROWS`, evenly spaced."""
        rows = np.flatnonzero((self.time < date) & ~(self._label_known(date) & (self.y == 1)))
        step = max(1, -(-len(rows) // USUAL_ROWS))
        return rows[::step]

    def tested(self, span: tuple[int, int]) -> Ints:
        """The rows of a span that have a label."""
        return np.flatnonzero((self.time >= span[0]) & (self.time < span[1]) & ~np.isnan(self.y))

    def fold(
        self, span: tuple[int, int], max_rows: int, costs: Costs, training: TrainingOf
    ) -> ComparisonFold:
        """The training at the beginning of a span, and its test."""
        mature, test = self.mature(span[0], max_rows), self.tested(span)
        stake = costs.at_stake(np.ones(len(test)))
        rows = FoldRows(self.y[test], stake, self.entity[test], self.time[test], self.time[test] // DAY)
        unlabelled = self._sample(self.usual(span[0]))
        unlabelled = replace(unlabelled, y=np.full(len(unlabelled), np.nan))
        return ComparisonFold.of(span, training, self._sample(mature), unlabelled, self._sample(test), rows)

    def no_fold_message(self, spans: Sequence[tuple[int, int]]) -> str:
        """Why none of the spans can be tested."""
        known = [int((self.y[self.mature(start, len(self.y))] == 1).sum()) for start, _ in spans]
        tested = [int((self.y[self.tested(span)] == 1).sum()) for span in spans]
        return (
            f"y has too few frauds: techniques need {FRAUDS_MIN} or more in the older three quarters of what is known before a test "
            f"span, and one in it; the {len(spans)} test spans have {_listed(tested)}, with {_listed(known)} known before them: pass "
            "more rows, or fewer folds"
        )

    def _label_known(self, date: int) -> NDArray[np.bool_]:
        return (self.time < date) & (self.known_at <= date) & ~np.isnan(self.y)

    def _sample(self, rows: Ints) -> Sample:
        ones = np.ones(len(rows))
        return Sample(
            self.X[rows], self.y[rows], ones, ones, self.time[rows], self.known_at[rows], self.entity[rows]
        )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
