"""In real Chromium, on both engines: a gap filled, a model promoted and rolled back, and every page without an error of the console."""

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.config.config import Config
from pipeline.services.models.models import list_models
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY
from tests.support.browser import chromium
from tests.support.console import ConsoleServer, console
from tests.support.databases import with_url
from tests.support.sql import execute, query
from tests.support.users import hash_fast
from tests.support.worlds import FROM, SMALL
from tests.test_web_browser import Person

FILL_MS = 90_000
PAGES = {  # with what says that a page is whole
    "/missed": "table", "/runs": ".matrix", "/models": "table", "/models/1": ".pairs", "/approvals": ".empty", "/users": "table",
    "/rules": ".empty", "/mutes": ".empty", "/audit": "table", "/overview": "#outcome", "/strategy": "#comparison-title",
    "/drift": "#newest-drift",
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def server(backfilled: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleServer]:
    """The console over three weeks of flags, by a model each."""
    yield from serving_console(backfilled, SMALL, monkeypatch)


@pytest.fixture
def filling(first_week: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleServer]:
    """The console over a week, and two more that nothing has scored; with the address and the key that other processes need."""
    yield from serving_console(first_week, with_url(SMALL, url), monkeypatch)


def serving_console(store: Store, config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleServer]:
    """The console over open flags."""
    hash_fast(monkeypatch)
    execute(store, "UPDATE flags SET status = 'open', reviewer = NULL, reviewed_at = NULL")
    with console(store, config) as running:
        yield running


def test_a_gap_is_filled_while_the_page_shows_how_far_it_is(browser: Any, filling: ConsoleServer) -> None:
    person = Person(browser, filling, "administrator")
    store, page = filling.api.session.store, person.page
    page.goto(f"{filling.url}/runs")
    never = page.locator("td .window.never-scored").count()
    start, end = (f"{as_datetime(FROM + days * DAY):%Y-%m-%d}" for days in (7, 9))
    page.locator("#start").fill(start)
    page.locator("#end").fill(end)
    page.get_by_role("button", name="Fill", exact=True).click()
    page.locator(".job.running").wait_for()
    page.locator(".job:not(.running)").wait_for(timeout=FILL_MS)
    assert "done" in page.locator(".job").inner_text()
    page.wait_for_function(
        "count => document.querySelectorAll('td .window.never-scored').length === count", arg=never - 2
    )
    days = f"'{start} 00:00:00.000000' AND t.event_time < '{end} 00:00:00.000000'"
    unscored = query(
        store,
        f"""SELECT COUNT(*) FROM transactions t LEFT JOIN scores s ON s.policy = 'live' AND s.transaction_id = t.transaction_id
        WHERE t.event_time >= {days} AND s.transaction_id IS NULL""",
    )
    assert unscored == [(0,)]
    person.close()


def test_a_model_is_promoted_from_its_card_and_rolled_back_with_a_reason(
    browser: Any, server: ConsoleServer
) -> None:
    person = Person(browser, server, "administrator")
    session, page = server.api.session, person.page
    viewer = server.visitor("viewer")
    before = list_models(session, "live").items
    first = before[-1].model_id
    page.goto(f"{server.url}/models")
    in_force = int(page.locator("tr.active td").first.inner_text())
    page.get_by_role("link", name=str(first), exact=True).last.click()
    page.locator("#reason").fill("known to be good")
    page.get_by_role("button", name="Promote").click()
    page.wait_for_url("**/models")
    assert int(page.locator("tr.active td").first.inner_text()) == first
    assert "/promote" not in server.visitor("administrator").get(f"/models/{first}").text
    assert "/promote" not in viewer.get(f"/models/{in_force}").text
    page.locator("#reason").fill("too many flags")
    page.get_by_role("button", name="Roll back").click()
    page.wait_for_function("id => document.querySelector('tr.active td').innerText === id", arg=str(in_force))
    newest = list_models(session, "live").items[0]
    assert (newest.model_id, newest.reason, newest.by) == (in_force, "too many flags", "administrator")
    person.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.one_engine
def test_pages_can_be_read_without_seeing_them_at_any_width(
    browser: Any, server: ConsoleServer, scheme: str
) -> None:
    person = Person(browser, server, "administrator", color_scheme=scheme, bypass_csp=True)
    for path, awaited in PAGES.items():
        person.page.goto(f"{server.url}{path}")
        person.page.locator(awaited).first.wait_for()
        assert person.grave_faults() == [], path
        for width in (360, 2_000):
            person.page.set_viewport_size({"width": width, "height": 800})
            assert person.page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
    person.close()


@pytest.mark.one_engine
def test_on_a_narrow_screen_rows_are_blocks_whose_buttons_and_fields_are_in_reach(
    browser: Any, server: ConsoleServer
) -> None:
    person = Person(browser, server, "administrator")
    page = person.page
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/missed", "/models", "/models/1", "/users", "/audit", "/runs"):
        page.goto(f"{server.url}{path}")
        page.locator("main h1").wait_for()
        beyond = page.evaluate(
            """() => [...document.querySelectorAll('main button, main input:not(.hidden), main select, main .labelled td')]
            .filter(each => each.getClientRects().length && each.getBoundingClientRect().right > innerWidth).map(each => each.outerHTML.slice(0, 90))"""
        )
        assert beyond == [], path
    page.goto(f"{server.url}/users")
    for name in ("name", "role", "password"):
        above, field = (page.locator(each).bounding_box() for each in (f"label[for={name}]", f"#{name}"))
        assert 0 <= field["y"] - above["y"] - above["height"] < 12, name
    assert page.locator("td[data-label=Role] select").first.is_visible()
    flag = query(server.api.session.store, "SELECT MIN(transaction_id) FROM flags WHERE policy = 'live'")[0][
        0
    ]
    page.goto(f"{server.url}/flags/{flag}")
    page.goto(server.url + page.locator("main a[href^='/entities/']").first.get_attribute("href"))
    page.locator(".picture .graph").wait_for()
    assert (
        page.evaluate(
            "(() => { const it = document.querySelector('.picture'); return it.scrollWidth - it.clientWidth })()"
        )
        <= 0
    )
    person.close()


@pytest.mark.one_engine
def test_a_rule_that_cannot_be_tried_takes_the_result_of_the_one_before_away(
    browser: Any, server: ConsoleServer
) -> None:
    person = Person(browser, server, "administrator")
    page = person.page
    transaction = query(
        server.api.session.store, "SELECT MIN(transaction_id) FROM flags WHERE policy = 'live'"
    )[0][0]
    page.goto(f"{server.url}/flags/{transaction}")
    page.get_by_text("Add a rule", exact=True).click()
    page.get_by_role("button", name="Try on history").click()
    page.locator("#rule-answer p").wait_for()
    page.locator("textarea[name=text]").fill("amount >")
    page.get_by_role("button", name="Try on history").click()
    page.locator("#notice p").wait_for()
    assert page.locator("#rule-answer").inner_text() == ""
    assert [each for each in person.problems if "422" not in each] == []
    person.context.close()
