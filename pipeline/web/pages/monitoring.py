"""The overview, the strategy, drift and quality, and runs: sections of the report on the newest weeks, each read when it is shown."""

from fastapi import APIRouter, Response

from pipeline.api.context import Context
from pipeline.api.types import PathName
from pipeline.errors import InputError
from pipeline.monitoring.drift_text import change_text, remedy
from pipeline.schedule.run_context import LIVE
from pipeline.services.monitoring.drift import newest_drift
from pipeline.services.monitoring.reports import ChartWidth, Scheme
from pipeline.services.review.cases import count_overdue
from pipeline.services.users.permissions import Permission
from pipeline.web.rendering import html, page

router = APIRouter()
# By the page, its title and its sections. Sections with values of entities or figures by reviewer are on none.
PAGES = {
    "overview": ("Overview", ("attention", "outcome", "rates")),
    "strategy": ("Strategy", ("choices", "curves", "model")),
    "drift": ("Drift and quality", ("drift", "quality", "scores")),
}
# What is no section of the report: before the sections, and after them.
FIRST, LAST = {"drift": ["/drift/newest"]}, {"strategy": ["/comparisons/newest"]}
DRIFT_ROWS = 20
SECTIONS = {name for _, names in PAGES.values() for name in names}
QUOTING = ("attention",)  # whose sentences may quote values of rows


@router.get("/overview")
def overview(context: Context) -> Response:
    """Show whether all is well, and what was caught."""
    return _page(context, "overview")


@router.get("/strategy")
def strategy(context: Context) -> Response:
    """Show how the monitor detects fraud now, and why."""
    return _page(context, "strategy")


@router.get("/drift")
def drift(context: Context) -> Response:
    """Show what has changed in payments and scores, and how good flags are."""
    return _page(context, "drift")


@router.get("/drift/newest")
def drift_now(context: Context) -> Response:
    """Show the newest window against the reference."""
    metrics = newest_drift(context.session, LIVE)
    first = {each.feature: each for each in reversed(metrics) if each.effect is not None and not each.alarm}
    shown = [
        each for each in metrics if each.effect is not None and (each.alarm or first[each.feature] is each)
    ]
    rows = [
        (each, change_text(vars(each)), remedy(vars(each)) if each.alarm else "")
        for each in shown[:DRIFT_ROWS]
    ]
    counts = {
        "alarms": sum(each.alarm for each in metrics),
        "features": len({each.feature for each in metrics}),
        "metrics": len(metrics),
    }
    return page(context, "newest_drift.html", place="drift", rows=rows, counts=counts)


@router.get("/sections/{name}")
def section(context: Context, name: PathName) -> Response:
    """Show a section of the report."""
    if name not in SECTIONS or (name in QUOTING and not context.caller.may(Permission.SEE_VALUES)):
        raise InputError(f"there is no section {name!r}", remedy="open a page of the navigation")
    return html(context.app.report.section(context.session, name).decode())


@router.get("/charts/{name}/{scheme}/{width}")
def chart(context: Context, name: PathName, scheme: Scheme, width: ChartWidth) -> Response:
    """Show a chart of the report as a picture."""
    return Response(
        context.app.report.chart(context.session, name, scheme, width), media_type="image/svg+xml"
    )


def _page(context: Context, name: str) -> Response:
    title, names = PAGES[name]
    sees = context.caller.may(Permission.SEE_VALUES)
    sections = [f"/sections/{each}" for each in names if sees or each not in QUOTING]
    return page(
        context,
        "sections.html",
        place=name,
        title=title,
        overdue=count_overdue(context.session) if name == "overview" else 0,
        parts=[*FIRST.get(name, ()), *sections, *LAST.get(name, ())],
    )
