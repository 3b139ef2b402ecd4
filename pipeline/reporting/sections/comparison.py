"""Section "Techniques compared": the newest comparison on the monitor's own history, as curves and as a table."""

from collections.abc import Mapping
from functools import partial

from pipeline.number_text import counted, number
from pipeline.rendering.elements import ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.technique_curves import METRICS, plotted_techniques, precision_recall
from pipeline.rendering.text import instant_text, safe_text
from storage.models.comparisons import StoredComparison, TechniqueMetric


def section(data: ReportData) -> ReportSection:
    """Curves of the best techniques, and every technique in a table, best first."""
    title, stored = "Techniques compared", data.comparison
    if stored is None:
        none = "No comparison of techniques is stored: fraudwatch compare makes one on this history, in some minutes."
        return ReportSection("comparison", title, missing=[none])
    spans = counted(len(stored.folds), "test span")
    sentences = [
        safe_text(stored.sentence),
        f"Comparison {stored.comparison_id} of {instant_text(stored.at)[:16]}: {spans}, {number(stored.settings['per_day'])} flags a day.",
    ]
    names = list(dict.fromkeys(each.technique for each in stored.results))
    curves = {name: stored.curves[name] for name in plotted_techniques(names) if name in stored.curves}
    chart = [partial(precision_recall, curves, "comparison")] if curves else []
    missing = [] if curves else ["Its curves were not stored: an earlier version made it."]
    return ReportSection(
        "comparison", title, sentences, missing, charts=chart, tables=[_table(stored, names)]
    )


def _table(stored: StoredComparison, names: list[str]) -> Table:
    estimates = {(each.technique, each.metric): each for each in stored.results}
    titles = {
        metric: title
        for metric, title in METRICS.items()
        if any((name, metric) in estimates for name in names)
    }
    rows = [
        [safe_text(name), *(_estimate_text(estimates, name, metric) for metric in titles), safe_text(stored.notes.get(name, ""))]
        for name in names
    ]  # fmt: skip
    columns = ("technique", *(title.lower() for title in titles.values()), "note")
    return Table("Techniques, best first, with 95 % intervals", columns, rows, frozenset(columns[1:-1]))


def _estimate_text(estimates: Mapping[tuple[str, str], TechniqueMetric], name: str, metric: str) -> str:
    each = estimates.get((name, metric))
    if each is None or each.value is None:
        return "–"
    interval = (
        "" if each.lower is None or each.upper is None else f" ({number(each.lower)} to {number(each.upper)})"
    )
    return f"{number(each.value)}{interval}"
