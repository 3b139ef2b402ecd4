"""A comparison's table, and what it says beyond noise."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation.comparison import Estimate, Verdict, difference
from detectors.imbalance.techniques import PLAIN
from pipeline.comparison.folds import Fold
from storage.models.comparisons import Measured

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats]  # places and values, (k,) each

NOTHING = "always genuine"
MOVED = f"{PLAIN}, threshold moved"
FIXED = (0.5, 0.1)  # thresholds of the article, on what the model says


@dataclass(frozen=True)
class Line:
    """One technique's row of the table."""

    technique: str
    verdict: Verdict = field(default_factory=lambda: Verdict({}))
    seconds: float = 0.0
    ap_train: float = float("nan")
    discarded: int = 0
    invented: int = 0
    note: str = ""
    groups: dict[str, float] = field(default_factory=dict)  # false-flag rate by group
    curve: Curve | None = None  # recall and precision, of the pooled test rows
    costs: Curve | None = None  # flags a day, and cost a day


@dataclass(frozen=True)
class Compared:
    """The table, best first after the line that flags nothing, and what it says."""

    lines: list[Line]
    impossible: dict[str, str]  # technique → why it could not be tried
    folds: list[dict[str, Any]]
    per_day: int
    sentence: str

    def measured(self) -> list[Measured]:
        """The table as it is stored."""
        return [
            Measured(line.technique, place, name, one.value, one.lower, one.upper)
            for place, line in enumerate(self.lines)
            for name, one in estimates(line).items()
        ]

    def notes(self) -> dict[str, str]:
        """What is to be said beside the numbers."""
        told = {line.technique: line.note for line in self.lines if line.note}
        return told | {name: f"not possible: {why}" for name, why in self.impossible.items()}


def estimates(line: Line) -> dict[str, Estimate]:
    """All numbers of a line; those that are counts have no interval."""
    plain = {
        "ap_train": line.ap_train,
        "rows_discarded": float(line.discarded),
        "rows_invented": float(line.invented),
        "seconds": line.seconds,
        **{f"false_flag_rate {group}": rate for group, rate in line.groups.items()},
    }
    nan = float("nan")
    return line.verdict.measures | {name: Estimate(value, nan, nan) for name, value in plain.items()}


def sentence(lines: Sequence[Line], folds: Sequence[Fold], currency: str) -> str:
    """What differs beyond noise, in words; `lines` best first, without the one that flags nothing."""
    frauds = sum(int(fold.rows.y.sum()) for fold in folds)
    rows = sum(len(fold.test) for fold in folds)
    distinct = [
        line for line in lines if line.technique not in {f"{PLAIN}, threshold {at:g}" for at in FIXED}
    ]
    best = distinct[0]
    ap = best.verdict.measures["ap"]
    said = [
        f"on {frauds:,} frauds among {rows:,} transactions in {len(folds)} test span{'' if len(folds) == 1 else 's'}, {best.technique} ranks best: "
        f"average precision {ap.value:.3f} ({ap.lower:.3f} to {ap.upper:.3f})",
        *_beside(best, distinct[1:]),
        *_of_balancing(distinct),
        _of_costs(lines, currency),
    ]
    return " ".join(f"{one[0].upper()}{one[1:]}." for one in said)


def _beside(best: Line, others: Sequence[Line]) -> list[str]:
    gaps = {line.technique: difference(line.verdict, best.verdict, "ap") for line in others}
    near = [name for name, gap in gaps.items() if not gap.upper < 0]
    far = [f"{name} ({gap.value:+.3f})" for name, gap in gaps.items() if gap.upper < 0]
    told = (("not worse beyond noise", near), ("worse beyond noise", far))
    return [f"{what}: {', '.join(names)}" for what, names in told if names]


def _of_balancing(lines: Sequence[Line]) -> list[str]:
    plain = next((line for line in lines if line.technique == MOVED), None)
    balanced = [line for line in lines if line.discarded or line.invented]
    if plain is None or not balanced:
        return []
    gaps = {line.technique: difference(line.verdict, plain.verdict, "ap") for line in balanced}
    told = (
        ("helped", [name for name, gap in gaps.items() if gap.lower > 0]),
        ("harmed", [name for name, gap in gaps.items() if gap.upper < 0]),
        (
            "made no difference beyond noise",
            [n for n, gap in gaps.items() if not (gap.lower > 0 or gap.upper < 0)],
        ),
    )
    return [
        "against no balancing, " + "; ".join(f"{', '.join(names)} {what}" for what, names in told if names)
    ]


def _of_costs(lines: Sequence[Line], currency: str) -> str:
    cheapest = min(lines, key=lambda line: line.verdict.measures["cost"].value)
    cost, saved = cheapest.verdict.measures["cost"], cheapest.verdict.measures["savings"]
    return (
        f"the cheapest flags are those of {cheapest.technique}: {cost.value:,.0f} {currency}, "
        f"{saved.value:.0%} saved ({saved.lower:.0%} to {saved.upper:.0%})"
    )
