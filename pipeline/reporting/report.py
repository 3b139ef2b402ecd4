"""The report: its sections in order, its charts by name, and the functions that render them."""

from collections.abc import Callable, Mapping

from pipeline.errors import InputError, NotReady
from pipeline.rendering import charts, html_page
from pipeline.rendering.elements import ReportPage, ReportSection
from pipeline.rendering.report_data import ReportData
from pipeline.reporting.sections import (
    attention,
    choices,
    comparison,
    curves,
    drift,
    entities,
    model_card,
    operations,
    outcome,
    quality,
    rates,
    scores,
    terms,
)

Sections = Mapping[str, Callable[[ReportData], ReportSection]]

# In the order of the page.
SECTIONS: Sections = {
    "outcome": outcome.section,
    "rates": rates.section,
    "attention": attention.section,
    "choices": choices.section,
    "curves": curves.section,
    "comparison": comparison.section,
    "scores": scores.section,
    "quality": quality.section,
    "drift": drift.section,
    "ledger": operations.ledger,
    "queue": operations.queue,
    "entities": entities.top_entities,
    "payments": entities.largest_losses,
    "model": model_card.section,
    "terms": terms.section,
}
# Name → (its section, its description).
CHARTS: Mapping[str, tuple[str, str]] = {
    "caught": ("outcome", "amounts of fraud caught and missed over time"),
    "rates": ("rates", "fraud and dispute rates by month, expected ones and limits (--show: the rate)"),
    "choice": ("choices", "prevalence with its interval, and the strategy chosen"),
    "precision-recall": ("curves", "precision and recall at every threshold, and the operating point"),
    "cost": ("curves", "cost per day by flags per day, and the operating point"),
    "comparison": ("comparison", "precision and recall of the techniques of the newest comparison"),
    "scores": ("scores", "distribution of scores, fraud and all others"),
    "calibration": ("scores", "predicted probability against observed fraud"),
    "quality": ("quality", "realised and estimated quality over time (--show: the metric)"),
    "drift": ("drift", "drift by feature and window"),
    "drift-detail": ("drift", "every drift metric of one feature (--show: the feature)"),
    "ledger": ("ledger", "windows and trainings by status"),
    "queue": ("queue", "flags by channel and verdict"),
}
FOOTER = "Made by fraudwatch. All figures are counted in the database; nothing is sampled."


def render_html(data: ReportData) -> str:
    """Render the HTML page; the same stored rows, span and `as_of` give the same bytes."""
    name = data.config.monitor.name
    sections = [section(data) for section in SECTIONS.values()]
    title = f"{name}: {data.span_text} UTC"
    return html_page.render(ReportPage(title, name, "Fraud report", data.subtitle, sections, FOOTER))


def render_chart(data: ReportData, name: str, image_format: str, option: str = "") -> bytes:
    """
    Render one chart as PNG or SVG.

    Raises
    ------
    InputError
        There is no such chart, or it has no such option.
    NotReady
        There are no data for the chart; the message says which.
    """
    if name not in CHARTS:
        raise InputError(
            f"there is no chart {name!r}", remedy=f"choose one of {', '.join(CHARTS)}", code="no_such_chart"
        )
    section = SECTIONS[CHARTS[name][0]](data)
    chart = next((chart for make in section.charts if (chart := make()).name == name), None)
    if chart is None:
        raise NotReady(f"chart {name} has no data: {' '.join(section.missing)}", code="chart_without_data")
    if option and option not in chart.options:
        remedy = f"choose one of {', '.join(chart.options)}" if chart.options else "it has no options"
        raise InputError(f"{option!r} is not an option of chart {name}", remedy=remedy, code="no_such_option")
    return charts.render_image([chart], image_format, option)
