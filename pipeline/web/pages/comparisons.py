"""The newest comparison of techniques, as a part of the page of the strategy."""

from fastapi import APIRouter, Response

from pipeline.api.context import Context
from pipeline.rendering.technique_curves import METRICS
from pipeline.services.models.comparisons import ComparedTechnique, list_comparisons, show_comparison
from pipeline.web.drawings import Interval, draw_intervals
from pipeline.web.rendering import page

router = APIRouter()
MAIN = "ap"


@router.get("/comparisons/newest")
def newest(context: Context) -> Response:
    """Show the newest comparison as a picture and as a table."""
    stored = list_comparisons(context.session, limit=1).items
    if not stored:
        return page(context, "comparison.html", place="strategy", comparison=None)
    comparison = show_comparison(context.session, stored[0].comparison_id)
    rows = [(each.technique, _estimates(each)) for each in comparison.techniques]
    intervals = [
        Interval(name, found[MAIN].value, found[MAIN].lower, found[MAIN].upper)
        for name, found in rows
        if MAIN in found
    ]
    titles = {name: title for name, title in METRICS.items() if any(name in found for _, found in rows)}
    return page(
        context,
        "comparison.html",
        place="strategy",
        comparison=comparison,
        picture=draw_intervals(intervals, METRICS[MAIN]),
        has_curves=any(each.curve is not None for each in comparison.techniques),
        titles=titles,
        rows=rows,
    )


def _estimates(technique: ComparedTechnique) -> dict[str, Interval]:
    """The metrics that are defined, by their names."""
    return {
        each.metric: Interval(technique.technique, each.value, each.lower, each.upper)
        for each in technique.metrics
        if each.value is not None
    }
