"""
Every technique on the user's own history, judged as it would have been lived: train, wait for labels, test.

A fold trains at its date with what was known then and tests on the days that followed. Within its training the
newest quarter of the rows sets calibration and thresholds for a technique fitted on the rest; the technique is then fitted
on all of them. Test rows are never looked at before they are judged.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detectors.base import DetectorError
from detectors.evaluation import comparison
from detectors.evaluation.calibration import fit_calibrator
from detectors.evaluation.comparison import Answer
from detectors.evaluation.metrics import average_precision
from detectors.evaluation.thresholds import best_f1, best_mcc
from detectors.imbalance import techniques
from detectors.imbalance.techniques import PLAIN, TECHNIQUES, Fitted, Technique
from pipeline.comparison.folds import Fold, Wanted, folds_of
from pipeline.comparison.results import FIXED, MOVED, NOTHING, Compared, Line, sentence
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.errors import InputError, NotReady
from pipeline.progress import Progress, Silent
from storage.database.database import Store

Floats = NDArray[np.float64]

PLOTTED = 400  # points of a curve


def chosen(names: Sequence[str]) -> tuple[Technique, ...]:
    """
    The techniques whose name or family contains one of these words.

    Raises
    ------
    InputError
        A word that none contains.
    """
    found = []
    for word in names:
        matching = [one for one in TECHNIQUES if word.lower() in f"{one.name} {one.family}".lower()]
        if not matching:
            raise InputError(
                f"no technique is called {word!r}: choose among {', '.join(t.name for t in TECHNIQUES)}"
            )
        found += matching
    return tuple(one for one in TECHNIQUES if one in found) if names else TECHNIQUES


def compare(
    store: Store, config: Config, wanted: Wanted, as_of: int, progress: Progress | None = None
) -> Compared:
    """
    Fit and judge the techniques on the newest spans whose labels are mature.

    Raises
    ------
    NotReady
        No span of `wanted.test` whose training knows two frauds and which holds one.
    InputError
        `wanted.by` or a technique is unknown.
    """
    named = chosen(wanted.names)
    folds = folds_of(store, config, wanted, as_of)
    bar = progress or Silent()
    bar.start("comparing", float(len(named) * len(folds)), "fits")
    lines: list[Line] = []
    impossible: dict[str, str] = {}
    for one in named:
        try:
            lines += _tried(one, folds, config, bar)
        except DetectorError as error:
            impossible[one.name] = str(error)
    bar.stop()
    if not lines:
        raise NotReady("; ".join(f"{name} is not possible here: {why}" for name, why in impossible.items()))
    lines.sort(key=lambda line: -line.verdict.measures["ap"].value)
    first = _judged(Line(NOTHING), folds, [_nothing(fold) for fold in folds], config)
    first = replace(first, curve=None, costs=None)  # it ranks nothing
    per_day = round(config.alerts.per_day)
    said = sentence(lines, folds, config.schema_.base_currency)
    return Compared([first, *lines], impossible, [fold.told() for fold in folds], per_day, said)


def _tried(one: Technique, folds: list[Fold], config: Config, bar: Progress) -> list[Line]:
    began = time.perf_counter()
    tries = []
    for fold in folds:
        tries.append(_answer(one, fold, config))
        bar.advance(1)
    answers = [answer for answer, _, _ in tries]
    fits = [fitted for _, _, fitted in tries]
    whole = Line(
        MOVED if one.name == PLAIN else one.name,
        seconds=time.perf_counter() - began,
        ap_train=float(np.mean([ap for _, ap, _ in tries])),
        discarded=sum(fitted.discarded for fitted in fits),
        invented=sum(fitted.invented for fitted in fits),
        note="; ".join(dict.fromkeys(fitted.told for fitted in fits if fitted.told)),
    )
    lines = [_judged(whole, folds, answers, config)]
    if one.name == PLAIN:  # the same scores again, cut where the article cuts them
        for threshold in FIXED:
            at = replace(whole, technique=f"{PLAIN}, threshold {threshold:g}")
            lines.append(_judged(at, folds, [_cut_at(answer, threshold) for answer in answers], config))
    return lines


def _answer(one: Technique, fold: Fold, config: Config) -> tuple[Answer, float, Fitted]:
    costs = costs_of(config)
    fitted = one.fit(fold.all)
    # Scores of another strategy have another scale: what chooses is fitted to fewer rows as it chose.
    early = (fitted.again or one.fit)(fold.past)
    held = fold.held
    margin = early.margin(techniques.Rows(held.raw, fold.past.encoder.transform(held.raw)))
    calibrator = fit_calibrator(margin, held.y)
    p = calibrator.probability(margin)
    f1, mcc = best_f1(p, held.y).threshold, best_mcc(p, held.y).threshold
    rows = techniques.Rows(fold.test.raw, fold.all.encoder.transform(fold.test.raw))
    margin = fitted.margin(rows)
    p = calibrator.probability(margin)
    said = np.full(len(p), np.nan) if fitted.as_said is None else fitted.as_said(rows)
    answer = Answer(
        margin=margin,
        f1_flags=p >= f1,
        mcc_flags=p >= mcc,
        cost_flags=costs.decision_value(p, fold.test.amount) >= costs.threshold,
        daily_flags=comparison.daily_flags(margin, fold.rows.day, round(config.alerts.per_day)),
        said=said,
    )
    known = fitted.margin(techniques.Rows(fold.all.mature.raw, fold.all.X))
    return answer, average_precision(fold.all.mature.y, known), fitted


def _cut_at(answer: Answer, threshold: float) -> Answer:
    flags = answer.said >= threshold
    return Answer(answer.margin, flags, flags, flags, answer.daily_flags, answer.said)


def _nothing(fold: Fold) -> Answer:
    none = np.zeros(len(fold.test), dtype=bool)
    return Answer(np.zeros(len(fold.test)), none, none, none, none, np.zeros(len(fold.test)))


def _judged(line: Line, folds: list[Fold], answers: list[Answer], config: Config) -> Line:
    rows = [fold.rows for fold in folds]
    names, review = folds[0].groups, config.costs.review
    rates = sorted(comparison.false_flag_rates(rows, answers).items())
    return replace(
        line,
        verdict=comparison.judge(rows, answers, review),
        groups={names[code] if code >= 0 else "(missing)": rate for code, (rate, _) in rates},
        curve=_precision_recall(rows, answers),
        costs=_cost_curve(rows, answers, review),
    )


def _pooled(rows: list[comparison.Rows], answers: list[Answer]) -> tuple[Floats, Floats]:
    """Labels and stakes of all folds by descending rank within their fold, folds beside one another."""
    share = [np.argsort(np.argsort(-a.margin, kind="stable")) / max(len(a.margin), 1) for a in answers]
    order = np.argsort(np.concatenate(share), kind="stable")
    return np.concatenate([r.y for r in rows])[order], np.concatenate([r.amount for r in rows])[order]


def _precision_recall(rows: list[comparison.Rows], answers: list[Answer]) -> tuple[Floats, Floats]:
    y, _ = _pooled(rows, answers)
    tp = np.cumsum(y)
    at = np.unique(np.searchsorted(tp, np.linspace(1, tp[-1], PLOTTED)))
    return tp[at] / tp[-1], tp[at] / (at + 1.0)


def _cost_curve(rows: list[comparison.Rows], answers: list[Answer], review: float) -> tuple[Floats, Floats]:
    """Flags a day, and what a day costs when so many of the highest ranks are reviewed."""
    y, stake = _pooled(rows, answers)
    days = sum(len(np.unique(one.day)) for one in rows)
    cost = (stake @ y - np.cumsum(stake * y) + review * np.cumsum(1 - y)) / days
    flags = np.arange(1, len(y) + 1) / days
    at = np.unique(np.geomspace(1, len(y), PLOTTED).astype(np.int64)) - 1
    return flags[at], cost[at]
