"""A report as a whole: which sections there are, and which charts by name."""

from collections.abc import Callable, Mapping

from pipeline.config.config import Config
from pipeline.errors import InputError, NotReady
from pipeline.rendering import charts, html_page
from pipeline.rendering.elements import Section
from pipeline.rendering.report_data import Facts
from pipeline.reporting.sections import (
    attention,
    choices,
    curves,
    drift,
    entities,
    model_card,
    operations,
    outcome,
    quality,
    scores,
)
from storage.database.database import Store

Sections = Mapping[str, Callable[[Facts], Section]]

# In the order of the page: what happened, why, how good, what moved, what to do.
SECTIONS: Sections = {
    "outcome": outcome.section,
    "attention": attention.section,
    "choices": choices.section,
    "curves": curves.section,
    "scores": scores.section,
    "quality": quality.section,
    "drift": drift.section,
    "ledger": operations.ledger,
    "queue": operations.queue,
    "entities": entities.section,
    "model": model_card.section,
}
# Name → (its section, what it shows).
CHARTS: Mapping[str, tuple[str, str]] = {
    "caught": ("outcome", "money of fraud caught and missed over time"),
    "choice": ("choices", "prevalence with its interval, and the strategy chosen"),
    "precision-recall": ("curves", "precision and recall at every threshold, and where flags were raised"),
    "cost": ("curves", "cost a day by flags a day, and where flags were raised"),
    "scores": ("scores", "where scores of fraud and of all others lie"),
    "calibration": ("scores", "probability promised against fraud found"),
    "quality": ("quality", "realised and estimated quality over time (--show: which measure)"),
    "drift": ("drift", "drift by feature and window"),
    "drift-detail": ("drift", "every drift measure of one feature (--show: which feature)"),
    "ledger": ("ledger", "windows and trainings, done or not"),
    "queue": ("queue", "flags by channel and answer"),
}


def html(store: Store, config: Config, policy: str, start: int, end: int, as_of: int) -> str:
    """The page; the same bytes for the same stored rows, span and `as_of`."""
    facts = Facts.of(store, config, policy, start, end, as_of)
    return html_page.render(facts, [make(facts) for make in SECTIONS.values()])


def picture(
    store: Store,
    config: Config,
    policy: str,
    start: int,
    end: int,
    as_of: int,
    name: str,
    form: str,
    show: str = "",
) -> bytes:
    """
    One chart as PNG or SVG.

    Raises
    ------
    InputError
        There is no such chart, or nothing of it is called `show`.
    NotReady
        There is nothing to draw, with what is missing.
    """
    if name not in CHARTS:
        raise InputError(f"there is no chart {name!r}: choose one of {', '.join(CHARTS)}")
    facts = Facts.of(store, config, policy, start, end, as_of)
    section = SECTIONS[CHARTS[name][0]](facts)
    chart = next((one for one in section.charts if one.name == name), None)
    if chart is None:
        raise NotReady(f"chart {name} has nothing to show: {' '.join(section.missing)}")
    if show and show not in chart.picks:
        has = f"choose one of {', '.join(chart.picks)}" if chart.picks else "it has nothing to choose from"
        raise InputError(f"--show {show!r} is not in chart {name}: {has}")
    return charts.picture(chart, form, show)
