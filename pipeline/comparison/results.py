"""The results of a comparison: its table, and a summary of significant differences."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation.comparison import Estimate, TechniqueMetrics, difference
from detectors.imbalance.techniques import PLAIN
from pipeline.comparison.folds import ComparisonFold
from storage.models.comparisons import TechniqueMetric

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats]  # places and values, (k,) each

FLAG_NOTHING = "always genuine"
MOVED_THRESHOLD = f"{PLAIN}, threshold moved"
FIXED_THRESHOLDS = (0.5, 0.1)  # thresholds of the article, on uncalibrated probabilities


@dataclass(frozen=True)
class TechniqueResult:
    """The results of one technique: a row of the table."""

    technique: str
    evaluation: TechniqueMetrics = field(default_factory=lambda: TechniqueMetrics({}))
    seconds: float = 0.0
    ap_train: float = float("nan")
    discarded: int = 0
    invented: int = 0
    note: str = ""
    groups: dict[str, float] = field(default_factory=dict)  # false-flag rate by group
    curve: Curve | None = None  # recall and precision, of the pooled test rows
    costs: Curve | None = None  # flags a day, and cost a day


@dataclass(frozen=True)
class ComparisonResult:
    """The table, best technique first after the baseline that flags nothing, and its summary."""

    results: list[TechniqueResult]
    not_possible: dict[str, str]  # technique → why it could not be tried
    folds: list[dict[str, Any]]
    per_day: int
    sentence: str

    def metric_rows(self) -> list[TechniqueMetric]:
        """The table as rows to be stored."""
        return [
            TechniqueMetric(result.technique, place, name, estimate.value, estimate.lower, estimate.upper)
            for place, result in enumerate(self.results)
            for name, estimate in estimates(result).items()
        ]

    def notes(self) -> dict[str, str]:
        """Notes on techniques, and why a technique was not possible."""
        groups = {result.technique: result.note for result in self.results if result.note}
        return groups | {name: f"not possible: {why}" for name, why in self.not_possible.items()}


def estimates(result: TechniqueResult) -> dict[str, Estimate]:
    """All metrics of a result; counts have no interval."""
    plain = {
        "ap_train": result.ap_train,
        "rows_discarded": float(result.discarded),
        "rows_invented": float(result.invented),
        "seconds": result.seconds,
        **{f"false_flag_rate {group}": rate for group, rate in result.groups.items()},
    }
    nan = float("nan")
    return result.evaluation.metrics | {name: Estimate(value, nan, nan) for name, value in plain.items()}


def sentence(results: Sequence[TechniqueResult], folds: Sequence[ComparisonFold], currency: str) -> str:
    """A summary of significant differences; `results` best first, without the baseline that flags nothing."""
    frauds = sum(int(fold.rows.y.sum()) for fold in folds)
    rows = sum(len(fold.test) for fold in folds)
    distinct = [
        result
        for result in results
        if result.technique not in {f"{PLAIN}, threshold {at:g}" for at in FIXED_THRESHOLDS}
    ]
    best = distinct[0]
    ap = best.evaluation.metrics["ap"]
    parts = [
        f"on {frauds:,} frauds among {rows:,} transactions in {len(folds)} test span{'' if len(folds) == 1 else 's'}, {best.technique} ranks best: "
        f"average precision {ap.value:.3f} ({ap.lower:.3f} to {ap.upper:.3f})",
        *_compared_with_best(best, distinct[1:]),
        *_balancing_effect(distinct),
        _cheapest(results, currency),
    ]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def _compared_with_best(best: TechniqueResult, others: Sequence[TechniqueResult]) -> list[str]:
    gaps = {result.technique: difference(result.evaluation, best.evaluation, "ap") for result in others}
    near = [name for name, gap in gaps.items() if not gap.upper < 0]
    far = [f"{name} ({gap.value:+.3f})" for name, gap in gaps.items() if gap.upper < 0]
    groups = (("not significantly worse", near), ("significantly worse", far))
    return [f"{what}: {', '.join(names)}" for what, names in groups if names]


def _balancing_effect(results: Sequence[TechniqueResult]) -> list[str]:
    plain = next((result for result in results if result.technique == MOVED_THRESHOLD), None)
    balanced = [result for result in results if result.discarded or result.invented]
    if plain is None or not balanced:
        return []
    gaps = {result.technique: difference(result.evaluation, plain.evaluation, "ap") for result in balanced}
    groups = (
        ("helped", [name for name, gap in gaps.items() if gap.lower > 0]),
        ("harmed", [name for name, gap in gaps.items() if gap.upper < 0]),
        (
            "made no significant difference",
            [n for n, gap in gaps.items() if not (gap.lower > 0 or gap.upper < 0)],
        ),
    )
    return [
        "against no balancing, " + "; ".join(f"{', '.join(names)} {what}" for what, names in groups if names)
    ]


def _cheapest(results: Sequence[TechniqueResult], currency: str) -> str:
    cheapest = min(results, key=lambda result: result.evaluation.metrics["cost"].value)
    cost, saved = cheapest.evaluation.metrics["cost"], cheapest.evaluation.metrics["savings"]
    return (
        f"the cheapest flags are those of {cheapest.technique}: {cost.value:,.0f} {currency}, "
        f"{saved.value:.0%} saved ({saved.lower:.0%} to {saved.upper:.0%})"
    )
