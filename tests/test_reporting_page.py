"""The report as a browser shows it: real Chromium, no network, two widths, keyboard and paper."""

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.config.database import open_configured
from pipeline.reporting.report import SECTIONS
from tests.support.browser import chromium
from tests.support.databases import SqliteFiles, copy_world, with_url
from tests.support.reports import plant_hostile_values, report_page, write_quality_metrics
from tests.support.worlds import BACKFILLED, SMALL

RENDERED = "document.querySelectorAll('figure.chart:not([data-rendered])').length === 0"
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(sqlite_files: SqliteFiles, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page made of rows whose values would act, if anything let them."""
    folder = tmp_path_factory.mktemp("page")
    copy_world(sqlite_files, BACKFILLED, str(folder / "page"))
    with open_configured(with_url(SMALL, sqlite_files.url(str(folder / "page")))) as store:
        write_quality_metrics(store)
        plant_hostile_values(store)
        file = folder / "report.html"
        file.write_text(report_page(store), encoding="utf-8")
    return file.as_uri()


class OpenPage:
    """A page that was opened, and what went wrong on it."""

    def __init__(self, browser: Any, address: str, width: int = 1280, **context: Any) -> None:
        self.page = browser.new_context(viewport={"width": width, "height": 900}, **context).new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        if context.get("java_script_enabled", True):
            self.page.wait_for_function(RENDERED, timeout=60_000)

    def __call__(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.fixture
def show(browser: Any, report: str) -> Iterator[Any]:
    opened: list[OpenPage] = []

    def open_page(**options: Any) -> OpenPage:
        opened.append(OpenPage(browser, report, **options))
        return opened[-1]

    yield open_page
    for page_view in opened:
        page_view.page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_chart_is_drawn_and_fits_and_nothing_leaves_the_page(
    show: Any, report: str, width: int
) -> None:
    page_view = show(width=width)
    assert page_view.problems == []
    assert [url for url in page_view.requests if not url.startswith("data:")] == [report]
    assert page_view("document.documentElement.scrollWidth") <= width
    wide = page_view(
        "[...document.querySelectorAll('figure.chart svg')].map((one) => one.getBoundingClientRect().width)"
    )
    assert len(wide) == page_view("document.querySelectorAll('figure.chart').length") == 12
    assert all(width * 0.6 < one <= width for one in wide)
    marks = page_view(
        "[...document.querySelectorAll('figure.chart svg')].map((one) => one.querySelectorAll('path, text').length)"
    )
    assert min(marks) > 5


def test_a_narrower_window_redraws_the_charts(show: Any) -> None:
    page_view = show(width=1280)
    page_view.page.set_viewport_size({"width": 390, "height": 900})
    page_view.page.wait_for_function(
        "document.querySelector('#chart-caught svg').getBoundingClientRect().width < 390"
    )
    assert page_view("document.documentElement.scrollWidth") <= 390


def test_a_click_on_the_heat_map_or_the_list_shows_a_feature(show: Any) -> None:
    page_view = show()
    detail = "#chart-drift-detail"
    options = page_view(f"[...document.querySelectorAll('{detail} option')].map((one) => one.value)")
    page_view.page.select_option(f"{detail} select", options[2])
    assert page_view(f"document.querySelector('{detail}').view.signal('selected')") == options[2]
    page_view("document.querySelector('#chart-drift').scrollIntoView()")
    page_view.page.locator("#chart-drift svg .mark-rect path").first.click(force=True)
    page_view.page.wait_for_function(f"document.querySelector('{detail} select').value !== {options[2]!r}")
    picked = page_view(f"document.querySelector('{detail} select').value")
    assert page_view(f"document.querySelector('{detail}').view.signal('selected')") == picked


def test_a_mark_tells_its_numbers_as_text(show: Any) -> None:
    page_view = show()
    page_view.page.locator("#chart-queue svg .mark-rect path").first.hover(force=True)
    page_view.page.wait_for_selector("#tip:not([hidden])")
    assert "fraud" in page_view.page.inner_text("#tip") or "open" in page_view.page.inner_text("#tip")
    page_view.page.keyboard.press("Escape")
    assert page_view.page.is_hidden("#tip")


def test_whoever_cannot_see_or_point_finds_the_way(show: Any) -> None:
    page_view = show()
    assert page_view("document.documentElement.lang") == "en"
    levels = page_view("[...document.querySelectorAll('h1, h2')].map((one) => one.tagName)")
    assert levels == ["H1"] + ["H2"] * len(SECTIONS)
    alts = page_view(
        "[...document.querySelectorAll('.drawing')].map((one) => one.getAttribute('aria-label'))"
    )
    assert all(len(alt) > 40 for alt in alts)
    assert page_view(
        "[...document.querySelectorAll('nav a')].every((one) => document.querySelector(one.hash))"
    )
    assert page_view("[...document.querySelectorAll('select')].every((one) => one.closest('label'))")
    page_view.page.keyboard.press("Tab")
    assert page_view("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(60):
        page_view.page.keyboard.press("Tab")
        seen.add(page_view("document.activeElement.tagName"))
    assert {"A", "SELECT", "SUMMARY"} <= seen


def test_dark_schemes_and_paper_have_colours_of_their_own(show: Any) -> None:
    dark = show(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert dark(ground) == "rgb(20, 24, 29)"
    assert (
        dark("getComputedStyle(document.querySelector('#chart-caught svg text')).fill")
        == "rgb(232, 235, 238)"
    )
    dark.page.emulate_media(media="print", color_scheme="dark")
    assert dark(ground) == "rgb(255, 255, 255)"
    assert dark("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_without_scripts_descriptions_and_tables_stand_in(show: Any) -> None:
    page_view = show(java_script_enabled=False)
    assert page_view.page.locator("noscript p").count() >= 11 or "descriptions" in page_view.page.content()
    assert page_view.page.inner_text("h1") == "Fraud report"
    assert page_view.problems == []
