"""
Backtest of every technique on the user's own history: train, wait for labels, test.

A fold trains at its date on what was known then, and tests on the days after. The newest quarter of its training rows
sets calibration and thresholds for a technique fitted on the rest; then the technique is fitted on all of them. Test
rows are used only for evaluation.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detectors.base import DetectorError
from detectors.evaluation import comparison
from detectors.evaluation.calibration import fit_calibrator
from detectors.evaluation.comparison import FoldPredictions
from detectors.evaluation.metrics import average_precision
from detectors.evaluation.thresholds import best_f1_threshold, best_mcc_threshold
from detectors.imbalance import techniques
from detectors.imbalance.techniques import PLAIN, TECHNIQUES, FittedTechnique, Technique
from pipeline.comparison.folds import ComparisonFold, ComparisonOptions, folds_of
from pipeline.comparison.results import (
    FIXED_THRESHOLDS,
    FLAG_NOTHING,
    MOVED_THRESHOLD,
    ComparisonResult,
    TechniqueResult,
    sentence,
)
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.errors import InputError, NotReady
from pipeline.progress import NoProgress, Progress
from storage.database.database import Store

Floats = NDArray[np.float64]

PLOTTED = 400  # points per curve


def select_techniques(names: Sequence[str]) -> tuple[Technique, ...]:
    """
    The techniques whose name or family contains one of these words.

    Raises
    ------
    InputError
        No technique contains one of the words.
    """
    selected = []
    for word in names:
        matching = [
            technique
            for technique in TECHNIQUES
            if word.lower() in f"{technique.name} {technique.family}".lower()
        ]
        if not matching:
            raise InputError(
                f"no technique is called {word!r}: choose among {', '.join(t.name for t in TECHNIQUES)}"
            )
        selected += matching
    return tuple(technique for technique in TECHNIQUES if technique in selected) if names else TECHNIQUES


def compare(
    store: Store, config: Config, options: ComparisonOptions, as_of: int, progress: Progress | None = None
) -> ComparisonResult:
    """
    Fit and evaluate the techniques on the newest spans whose labels are mature.

    Raises
    ------
    NotReady
        There is no span of `options.test` that has a fraud and whose training knows two.
    InputError
        `options.by` or a technique is unknown.
    """
    techniques_ = select_techniques(options.names)
    folds = folds_of(store, config, options, as_of)
    bar = progress or NoProgress()
    bar.start("comparing", float(len(techniques_) * len(folds)), "fits")
    results: list[TechniqueResult] = []
    not_possible: dict[str, str] = {}
    for technique in techniques_:
        try:
            results += _evaluate(technique, folds, config, bar)
        except DetectorError as error:
            not_possible[technique.name] = str(error)
    bar.stop()
    if not results:
        raise NotReady("; ".join(f"{name} is not possible here: {why}" for name, why in not_possible.items()))
    results.sort(key=lambda line: -line.evaluation.metrics["ap"].value)
    baseline = _with_evaluation(
        TechniqueResult(FLAG_NOTHING), folds, [_no_flags(fold) for fold in folds], config
    )
    baseline = replace(baseline, curve=None, costs=None)  # it has no ranking
    per_day = round(config.alerts.per_day)
    text = sentence(results, folds, config.schema_.base_currency)
    return ComparisonResult(
        [baseline, *results], not_possible, [fold.summary() for fold in folds], per_day, text
    )


def _evaluate(
    technique: Technique, folds: list[ComparisonFold], config: Config, bar: Progress
) -> list[TechniqueResult]:
    began = time.perf_counter()
    attempts = []
    for fold in folds:
        attempts.append(_answer(technique, fold, config))
        bar.advance(1)
    answers = [answer for answer, _, _ in attempts]
    fits = [fitted for _, _, fitted in attempts]
    result = TechniqueResult(
        MOVED_THRESHOLD if technique.name == PLAIN else technique.name,
        seconds=time.perf_counter() - began,
        ap_train=float(np.mean([ap for _, ap, _ in attempts])),
        discarded=sum(fitted.discarded for fitted in fits),
        invented=sum(fitted.invented for fitted in fits),
        note="; ".join(dict.fromkeys(fitted.note for fitted in fits if fitted.note)),
    )
    results = [_with_evaluation(result, folds, answers, config)]
    if technique.name == PLAIN:  # the same scores with the fixed thresholds of the article
        for threshold in FIXED_THRESHOLDS:
            at = replace(result, technique=f"{PLAIN}, threshold {threshold:g}")
            results.append(
                _with_evaluation(
                    at, folds, [_with_threshold(answer, threshold) for answer in answers], config
                )
            )
    return results


def _answer(
    technique: Technique, fold: ComparisonFold, config: Config
) -> tuple[FoldPredictions, float, FittedTechnique]:
    costs = costs_of(config)
    fitted = technique.fit(fold.all)
    # A technique that chooses a strategy is refitted with its choice: scores of another strategy have another scale.
    past_fit = (fitted.refit or technique.fit)(fold.past)
    calibration = fold.calibration
    margin = past_fit.margin(
        techniques.ScoringRows(calibration.raw, fold.past.encoder.transform(calibration.raw))
    )
    calibrator = fit_calibrator(margin, calibration.y)
    p = calibrator.probability(margin)
    f1, mcc = best_f1_threshold(p, calibration.y), best_mcc_threshold(p, calibration.y)
    rows = techniques.ScoringRows(fold.test.raw, fold.all.encoder.transform(fold.test.raw))
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
        daily_flags=comparison.daily_flags(margin, fold.rows.day, round(config.alerts.per_day)),
        raw_probability=raw_probability,
    )
    training_margin = fitted.margin(techniques.ScoringRows(fold.all.mature.raw, fold.all.X))
    return answer, average_precision(fold.all.mature.y, training_margin), fitted


def _with_threshold(answer: FoldPredictions, threshold: float) -> FoldPredictions:
    flags = answer.raw_probability >= threshold
    return FoldPredictions(answer.margin, flags, flags, flags, answer.daily_flags, answer.raw_probability)


def _no_flags(fold: ComparisonFold) -> FoldPredictions:
    none = np.zeros(len(fold.test), dtype=bool)
    return FoldPredictions(np.zeros(len(fold.test)), none, none, none, none, np.zeros(len(fold.test)))


def _with_evaluation(
    result: TechniqueResult, folds: list[ComparisonFold], answers: list[FoldPredictions], config: Config
) -> TechniqueResult:
    rows = [fold.rows for fold in folds]
    names, review = folds[0].groups, config.costs.review
    rates = sorted(comparison.false_flag_rates(rows, answers).items())
    return replace(
        result,
        evaluation=comparison.evaluate_technique(rows, answers, review),
        groups={names[code] if code >= 0 else "(missing)": rate for code, (rate, _) in rates},
        curve=_precision_recall(rows, answers),
        costs=_cost_curve(rows, answers, review),
    )


def _pooled(rows: list[comparison.FoldRows], answers: list[FoldPredictions]) -> tuple[Floats, Floats]:
    """Labels and stakes of all folds, merged by descending rank within their fold."""
    share = [np.argsort(np.argsort(-a.margin, kind="stable")) / max(len(a.margin), 1) for a in answers]
    order = np.argsort(np.concatenate(share), kind="stable")
    return np.concatenate([r.y for r in rows])[order], np.concatenate([r.amount for r in rows])[order]


def _precision_recall(
    rows: list[comparison.FoldRows], answers: list[FoldPredictions]
) -> tuple[Floats, Floats]:
    y, _ = _pooled(rows, answers)
    tp = np.cumsum(y)
    at = np.unique(np.searchsorted(tp, np.linspace(1, tp[-1], PLOTTED)))
    return tp[at] / tp[-1], tp[at] / (at + 1.0)


def _cost_curve(
    rows: list[comparison.FoldRows], answers: list[FoldPredictions], review: float
) -> tuple[Floats, Floats]:
    """Flags a day, and the cost of a day if that many of the highest ranks are reviewed."""
    y, stake = _pooled(rows, answers)
    days = sum(len(np.unique(fold_rows.day)) for fold_rows in rows)
    cost = (stake @ y - np.cumsum(stake * y) + review * np.cumsum(1 - y)) / days
    flags = np.arange(1, len(y) + 1) / days
    at = np.unique(np.geomspace(1, len(y), PLOTTED).astype(np.int64)) - 1
    return flags[at], cost[at]
