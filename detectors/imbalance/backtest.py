"""
Backtest of techniques on folds in order of time: train, wait for labels, test.

A fold trains at its date on what was known then, and tests on the days after. The newest quarter of its training rows
sets calibration and thresholds for a technique fitted on the rest; then the technique is fitted on all of them. Test
rows are used only for evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detectors.base import DetectorError, Floats
from detectors.evaluation import comparison
from detectors.evaluation.calibration import fit_calibrator
from detectors.evaluation.comparison import FoldPredictions, FoldRows
from detectors.evaluation.metrics import average_precision
from detectors.evaluation.thresholds import Costs, best_f1_threshold, best_mcc_threshold
from detectors.imbalance.results import (
    FIXED_THRESHOLDS,
    FLAG_NOTHING,
    MOVED_THRESHOLD,
    Comparison,
    FoldSummary,
    TechniqueResult,
    sentence,
)
from detectors.imbalance.techniques import (
    PLAIN,
    TECHNIQUES,
    FittedTechnique,
    ScoringRows,
    Technique,
    Training,
)
from detectors.inputs.sample import Sample
from detectors.model.auto_detector import FOLD

PLOTTED = 400  # points per curve
FRAUDS_MIN = 2  # frauds needed in the older part of a fold's training rows

# of labelled rows, and of rows that are not known to be fraud
TrainingOf = Callable[[Sample, Sample], Training]
FitProgress = Callable[[str, int, int], None]  # after each fit: technique, number of fits done, and of all


@dataclass(frozen=True)
class ComparisonFold:
    """
    One training date and the days after it.

    Attributes
    ----------
    start, end
        The test span in µs; `start` is the training date.
    past, calibration
        The older three quarters of the training rows, and the newest quarter, on which calibration and thresholds are set.
    all
        All training rows.
    test, rows
        The days after: features to score, and labels to evaluate on.
    groups
        Values of the field that false-flag rates are grouped by.
    """

    start: int
    end: int
    past: Training
    calibration: Sample
    all: Training
    test: Sample
    rows: FoldRows
    groups: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, span: tuple[int, int], training: TrainingOf, mature: Sample, usual: Sample, test: Sample,
        rows: FoldRows, groups: tuple[str, ...] = (),
    ) -> "ComparisonFold":  # fmt: skip
        """The fold of these training rows, labelled and not known to be fraud, and of these test rows."""
        cut, earlier = _cut(len(mature)), max(2, _cut(len(usual)))
        past = training(mature.take(slice(0, cut)), usual.take(slice(0, earlier)))
        calibration = mature.take(slice(cut, len(mature)))
        return cls(*span, past, calibration, training(mature, usual), test, rows, groups)

    def summary(self) -> FoldSummary:
        """Its size."""
        training, test = self.all, self.rows.y
        return FoldSummary(
            self.start, self.end, len(training.mature), training.frauds, len(test), int(test.sum())
        )


@dataclass(frozen=True)
class ReviewTerms:
    """What flags cost, and how many of a day are reviewed."""

    costs: Costs
    per_day: int
    currency: str


def is_trainable(y: Floats) -> bool:
    """Whether the training rows of a fold, with labels y in order of time, have enough frauds in their older part."""
    return float(y[: _cut(len(y))].sum()) >= FRAUDS_MIN


def select_techniques(names: Sequence[str]) -> tuple[Technique, ...]:
    """
    The techniques whose name or family contains one of these words; all without any.

    Raises
    ------
    DetectorError
        No technique contains one of the words.
    """
    selected = []
    for word in names:
        matching = [each for each in TECHNIQUES if word.lower() in f"{each.name} {each.family}".lower()]
        if not matching:
            raise DetectorError(
                f"no technique is called {word!r}: choose among {', '.join(t.name for t in TECHNIQUES)}"
            )
        selected += matching
    return tuple(technique for technique in TECHNIQUES if technique in selected) if names else TECHNIQUES


def backtest(
    candidates: Sequence[Technique],
    folds: Sequence[ComparisonFold],
    terms: ReviewTerms,
    progress: FitProgress | None = None,
    clock: Callable[[], float] | None = None,
) -> Comparison:
    """
    Fit and evaluate techniques on the same folds.

    Parameters
    ----------
    clock
        Seconds of a running clock, to measure how long each technique takes; without it that is not measured.

    Raises
    ------
    DetectorError
        No technique is possible on these folds.
    """
    run = _Backtest(folds, terms, progress, len(candidates) * len(folds))
    results: list[TechniqueResult] = []
    not_possible: dict[str, str] = {}
    for technique in candidates:
        began = clock() if clock else np.nan
        try:
            evaluated = run.evaluate(technique)
        except DetectorError as error:
            not_possible[technique.name] = str(error)
        else:
            seconds = clock() - began if clock else np.nan
            results += [replace(result, seconds=seconds) for result in evaluated]
    if not results:
        raise DetectorError(
            "; ".join(f"{name} is not possible here: {why}" for name, why in not_possible.items())
        )
    results.sort(key=lambda result: -result.evaluation.metrics["ap"].value)
    summaries = [fold.summary() for fold in folds]
    text = sentence(results, summaries, terms.currency)
    baseline = run.flag_nothing(0.0 if clock else np.nan)
    return Comparison([baseline, *results], not_possible, summaries, terms.per_day, text)


class _Backtest:
    """The folds and terms that all techniques share, and how many fits are done."""

    def __init__(
        self,
        folds: Sequence[ComparisonFold],
        terms: ReviewTerms,
        progress: FitProgress | None,
        n_fits: int,
    ) -> None:
        self._folds, self._terms, self._progress = folds, terms, progress
        self._n_fits, self._n_done = n_fits, 0

    def evaluate(self, technique: Technique) -> list[TechniqueResult]:
        """The results of a technique: several for the one without balancing, which is also tried at fixed thresholds."""
        attempts = []
        for fold in self._folds:
            attempts.append(_answer(technique, fold, self._terms))
            self._n_done += 1
            if self._progress is not None:
                self._progress(technique.name, self._n_done, self._n_fits)
        answers = [answer for answer, _, _ in attempts]
        fits = [fitted for _, _, fitted in attempts]
        result = TechniqueResult(
            MOVED_THRESHOLD if technique.name == PLAIN else technique.name,
            ap_train=float(np.mean([ap for _, ap, _ in attempts])),
            discarded=sum(fitted.discarded for fitted in fits),
            invented=sum(fitted.invented for fitted in fits),
            note="; ".join(dict.fromkeys(fitted.note for fitted in fits if fitted.note)),
        )
        results = [self._evaluated(result, answers)]
        if technique.name == PLAIN:  # the same scores with the fixed thresholds of the article
            for threshold in FIXED_THRESHOLDS:
                at = replace(result, technique=f"{PLAIN}, threshold {threshold:g}")
                results.append(self._evaluated(at, [_with_threshold(each, threshold) for each in answers]))
        return results

    def flag_nothing(self, seconds: float) -> TechniqueResult:
        """The baseline; it has no ranking, so no curves."""
        baseline = TechniqueResult(FLAG_NOTHING, seconds=seconds)
        evaluated = self._evaluated(baseline, [_no_flags(fold) for fold in self._folds])
        return replace(evaluated, curve=None, costs=None)

    def _evaluated(self, result: TechniqueResult, answers: Sequence[FoldPredictions]) -> TechniqueResult:
        rows = [fold.rows for fold in self._folds]
        names, review = self._folds[0].groups, self._terms.costs.review
        rates = sorted(comparison.false_flag_rates(rows, answers).items())
        return replace(
            result,
            evaluation=comparison.evaluate_technique(rows, answers, review),
            groups={names[code] if code >= 0 else "(missing)": rate for code, (rate, _) in rates},
            curve=_precision_recall(rows, answers),
            costs=_cost_curve(rows, answers, review),
        )


def _cut(n: int) -> int:
    """Number of the older rows, without the newest share of them."""
    return round(n * (1 - FOLD))


def _answer(
    technique: Technique, fold: ComparisonFold, terms: ReviewTerms
) -> tuple[FoldPredictions, float, FittedTechnique]:
    """Predictions for the test rows, average precision on the training rows, and the technique as it was fitted."""
    costs = terms.costs
    fitted = technique.fit(fold.all)
    # A technique that chooses a strategy is refitted with its choice: scores of another strategy have another scale.
    past_fit = (fitted.refit or technique.fit)(fold.past)
    calibration = fold.calibration
    margin = past_fit.margin(ScoringRows(calibration.raw, fold.past.encoder.transform(calibration.raw)))
    calibrator = fit_calibrator(margin, calibration.y)
    p = calibrator.probability(margin)
    f1, mcc = best_f1_threshold(p, calibration.y), best_mcc_threshold(p, calibration.y)
    rows = ScoringRows(fold.test.raw, fold.all.encoder.transform(fold.test.raw))
    margin = fitted.margin(rows)
    p = calibrator.probability(margin)
    raw_probability = (
        np.full(len(p), np.nan) if fitted.raw_probability is None else fitted.raw_probability(rows)
    )
    answer = FoldPredictions(
        margin=margin,
        f1_flags=p >= f1,
        mcc_flags=p >= mcc,
        cost_flags=costs.decision_value(p, fold.test.amount) >= costs.threshold,
        daily_flags=comparison.daily_flags(margin, fold.rows.day, terms.per_day),
        raw_probability=raw_probability,
    )
    training_margin = fitted.margin(ScoringRows(fold.all.mature.raw, fold.all.X))
    return answer, average_precision(fold.all.mature.y, training_margin), fitted


def _with_threshold(answer: FoldPredictions, threshold: float) -> FoldPredictions:
    flags = answer.raw_probability >= threshold
    return FoldPredictions(answer.margin, flags, flags, flags, answer.daily_flags, answer.raw_probability)


def _no_flags(fold: ComparisonFold) -> FoldPredictions:
    none = np.zeros(len(fold.test), dtype=bool)
    return FoldPredictions(np.zeros(len(fold.test)), none, none, none, none, np.zeros(len(fold.test)))


def _pooled(rows: Sequence[FoldRows], answers: Sequence[FoldPredictions]) -> tuple[Floats, Floats]:
    """Labels and stakes of all folds, merged by descending rank within their fold."""
    share = [np.argsort(np.argsort(-a.margin, kind="stable")) / max(len(a.margin), 1) for a in answers]
    order = np.argsort(np.concatenate(share), kind="stable")
    return np.concatenate([r.y for r in rows])[order], np.concatenate([r.amount for r in rows])[order]


def _precision_recall(rows: Sequence[FoldRows], answers: Sequence[FoldPredictions]) -> tuple[Floats, Floats]:
    y, _ = _pooled(rows, answers)
    tp = np.cumsum(y)
    at = np.unique(np.searchsorted(tp, np.linspace(1, tp[-1], PLOTTED)))
    return tp[at] / tp[-1], tp[at] / (at + 1.0)


def _cost_curve(
    rows: Sequence[FoldRows], answers: Sequence[FoldPredictions], review: float
) -> tuple[Floats, Floats]:
    """Flags a day, and the cost of a day if that many of the highest ranks are reviewed."""
    y, stake = _pooled(rows, answers)
    days = sum(len(np.unique(fold_rows.day)) for fold_rows in rows)
    cost = (stake @ y - np.cumsum(stake * y) + review * np.cumsum(1 - y)) / days
    flags = np.arange(1, len(y) + 1) / days
    at = np.unique(np.geomspace(1, len(y), PLOTTED).astype(np.int64)) - 1
    return flags[at], cost[at]
