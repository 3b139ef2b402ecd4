"""The results of a comparison of techniques: its table, and a summary of significant differences."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from detectors.base import Floats
from detectors.evaluation.comparison import Estimate, TechniqueMetrics, difference
from detectors.evaluation.prevalence import percent
from detectors.imbalance.table import COLUMN_TITLES, LEGEND, cell
from detectors.imbalance.techniques import PLAIN

if TYPE_CHECKING:
    import pandas as pd

Curve = tuple[Floats, Floats]  # places and values, (k,) each

FLAG_NOTHING = "always genuine"
MOVED_THRESHOLD = f"{PLAIN}, threshold moved"
FIXED_THRESHOLDS = (0.5, 0.1)  # thresholds of the article, on uncalibrated probabilities
NAN = float("nan")


@dataclass(frozen=True)
class TechniqueResult:
    """The results of one technique: a row of the table."""

    technique: str
    evaluation: TechniqueMetrics = field(default_factory=lambda: TechniqueMetrics({}))
    seconds: float = NAN  # that its fits and scores took; NaN if they were not measured
    ap_train: float = NAN
    discarded: int = 0
    invented: int = 0
    note: str = ""
    groups: dict[str, float] = field(default_factory=dict)  # false-flag rate by group
    curve: Curve | None = None  # recall and precision, of the pooled test rows
    costs: Curve | None = None  # flags a day, and cost a day


@dataclass(frozen=True)
class FoldSummary:
    """The size of one fold; `start` and `end` of its test span in µs."""

    start: int
    end: int
    training_rows: int
    training_frauds: int
    test_rows: int
    test_frauds: int


@dataclass(frozen=True)
class Comparison:
    """
    Techniques evaluated on the same held-out rows. Its text is a table with a summary; `to_frame` has every metric.

    Attributes
    ----------
    results
        One row a technique, best first after the baseline that flags nothing.
    not_possible
        Technique → why it could not be tried.
    per_day
        Number of highest scores a day in precision and recall at k.
    sentence
        The significant differences.
    """

    results: list[TechniqueResult]
    not_possible: dict[str, str]
    folds: list[FoldSummary]
    per_day: int
    sentence: str

    def notes(self) -> dict[str, str]:
        """Notes on techniques, and why a technique was not possible."""
        notes = {result.technique: result.note for result in self.results if result.note}
        return notes | {name: f"not possible: {why}" for name, why in self.not_possible.items()}

    def to_frame(self) -> "pd.DataFrame":
        """Columns technique, metric, value, lower and upper (95 % confidence interval, NaN where there is none)."""
        import pandas as pd

        rows = [
            (result.technique, name, estimate.value, estimate.lower, estimate.upper)
            for result in self.results
            for name, estimate in estimates(result).items()
        ]
        return pd.DataFrame(rows, columns=["technique", "metric", "value", "lower", "upper"])

    def __str__(self) -> str:
        titles = {name: title for name, title in COLUMN_TITLES.items() if name in estimates(self.results[-1])}
        lines = [["technique", *titles.values()]]
        for result in self.results:
            metrics = estimates(result)
            cells = [
                cell(name, metrics[name].value, (metrics[name].upper - metrics[name].lower) / 2)
                for name in titles
            ]
            lines.append([result.technique, *cells])
        notes = [f"{name}: {note}" for name, note in self.notes().items()]
        return "\n".join(
            [*_aligned(lines), *notes, "", self.sentence, "", LEGEND.format(per_day=self.per_day)]
        )


def estimates(result: TechniqueResult) -> dict[str, Estimate]:
    """All metrics of a result; counts have no interval."""
    plain = {
        "ap_train": result.ap_train,
        "rows_discarded": float(result.discarded),
        "rows_invented": float(result.invented),
        **({} if result.seconds != result.seconds else {"seconds": result.seconds}),
        **{f"false_flag_rate {group}": rate for group, rate in result.groups.items()},
    }
    return result.evaluation.metrics | {name: Estimate(value, NAN, NAN) for name, value in plain.items()}


def sentence(results: Sequence[TechniqueResult], folds: Sequence[FoldSummary], currency: str) -> str:
    """A summary of significant differences; `results` best first, without the baseline that flags nothing."""
    frauds = sum(fold.test_frauds for fold in folds)
    rows = sum(fold.test_rows for fold in folds)
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
        f"{percent(saved.value)} saved ({percent(saved.lower)} to {percent(saved.upper)})"
    )


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            [
                first.ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)),
            ]
        ).rstrip()
        for first, *rest in lines
    ]
