"""The console in real Chromium: a shift without a mouse, two people at once, and every page for people who cannot see it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.database import open_configured
from tests.support.browser import chromium
from tests.support.console import ConsoleServer, console
from tests.support.databases import SqliteFiles, copy_world, with_url
from tests.support.sql import change_flags, query
from tests.support.users import FAST, PASSWORD
from tests.support.worlds import BACKFILLED, SMALL

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
FLAGS, KEYS_MAX = 50, 120
WAIT_MS = 20_000
MORE_FLAGS = """
    INSERT INTO flags (policy, transaction_id, run_id, model_id, channel, reasons, status, score, event_time, amount_base)
    SELECT s.policy, s.transaction_id, s.run_id, s.model_id, f.channel, f.reasons, 'open', s.score, t.event_time, t.amount_base
    FROM scores s JOIN transactions t ON t.transaction_id = s.transaction_id
    CROSS JOIN (SELECT channel, reasons FROM flags LIMIT 1) f
    WHERE s.policy = 'live' AND s.transaction_id NOT IN (SELECT transaction_id FROM flags)
    ORDER BY s.score DESC LIMIT 60"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def server(
    sqlite_files: SqliteFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ConsoleServer]:
    """The console over three weeks of flags, none of which is answered."""
    monkeypatch.setattr("pipeline.services.users.passwords._hasher", lambda: FAST)
    copy_world(sqlite_files, BACKFILLED, str(tmp_path / "world"))
    with open_configured(with_url(SMALL, sqlite_files.url(str(tmp_path / "world")))) as store:
        change_flags(
            store,
            "DELETE FROM labels",
            MORE_FLAGS,
            "UPDATE flags SET status = 'open', reviewer = NULL, reviewed_at = NULL, loss_order = amount_base",
        )
        with console(store) as running:
            yield running


class Person:
    """Somebody at a browser: what they pressed, and what went wrong on their pages."""

    def __init__(self, browser: Any, server: ConsoleServer, name: str, **context: Any) -> None:
        self.server = server
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **context)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.keys = 0
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.set_default_timeout(WAIT_MS)
        self.page.goto(f"{server.url}/log-in?next=/queue")
        self.page.keyboard.type(name)
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(PASSWORD)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector(".case.active")

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.keys += 1

    def grave_faults(self) -> list[tuple[str, list[str]]]:
        """What axe calls serious or critical about the page, with the first elements of each."""
        self.page.add_script_tag(path=AXE)
        found = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            (each["id"], [node["html"][:120] for node in each["nodes"][:3]])
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    def close(self) -> None:
        """Leave; nothing may have gone wrong, and nothing may have been asked of another host."""
        self.context.close()
        assert self.problems == []
        assert [url for url in self.requests if not url.startswith(self.server.url)] == []


@pytest.fixture
def person(browser: Any, server: ConsoleServer) -> Iterator[Person]:
    someone = Person(browser, server, "reviewer")
    yield someone
    someone.close()


def statuses(server: ConsoleServer) -> dict[str, int]:
    """How many flags have each status."""
    rows = query(server.api.session.store, "SELECT status, COUNT(*) FROM flags GROUP BY status")
    return dict(rows)


def test_fifty_flags_are_answered_by_keys_alone(server: ConsoleServer, person: Person) -> None:
    before = statuses(server)["open"]
    assert before >= FLAGS
    while before - statuses(server)["open"] < FLAGS:
        case = person.page.locator(".case.active:not(.sent)")
        case.wait_for()
        name = case.get_attribute("id")
        person.press("gf"[person.keys % 2])
        person.page.locator(f'[id="{name}"]').wait_for(state="detached")
    assert person.keys <= KEYS_MAX


def test_a_note_a_claim_and_an_undo_by_keys(server: ConsoleServer, person: Person) -> None:
    store = server.api.session.store
    person.press("c")
    person.page.wait_for_selector(".case.active .claim")
    assert query(store, 'SELECT DISTINCT "by" FROM claims') == [("reviewer",)]
    person.press("n")
    person.page.keyboard.type("seen at f and g")
    person.press("Enter")
    person.press("f")
    person.page.wait_for_selector("[data-answered]")
    assert query(store, "SELECT DISTINCT note FROM verdicts") == [("seen at f and g",)]
    assert statuses(server)["fraud"] > 0
    person.press("u")
    person.page.locator("[data-answered]").wait_for(state="detached")
    assert "fraud" not in statuses(server)
    person.press("Enter")
    person.page.wait_for_url("**/flags/*")
    first = person.page.url
    person.press("f")
    person.page.wait_for_selector("[data-answered]")
    assert statuses(server)["fraud"] == 1
    person.page.reload()
    person.page.wait_for_selector("#answer >> text=Answered: Fraud")
    person.press("g")  # of a form that is folded
    person.press("u")
    person.page.wait_for_selector("form.verdict:visible")
    assert statuses(server).keys() == {"open"}
    person.press("g")
    person.page.wait_for_selector("[data-answered]")
    person.press("Enter")
    person.page.wait_for_url(lambda url: "/flags/" in url and url != first)


def test_a_bulk_answer_and_its_undo_by_keys(server: ConsoleServer, person: Person) -> None:
    before = statuses(server)["open"]
    for _ in range(3):
        person.press("x")
        person.press("j")
    person.press("g")
    person.page.wait_for_selector("#bulk-dialog[open] table")
    listed = person.page.locator("#bulk-dialog tbody tr").count()
    assert listed >= 3
    person.press("Enter")
    person.page.wait_for_selector("#bulk-dialog [data-done]")
    assert statuses(server) == {"open": before - listed, "genuine": listed}
    person.press("u")
    person.page.wait_for_selector("#bulk-dialog >> text=undone")
    assert statuses(server) == {"open": before}


def test_keys_answer_nothing_between_select_all_and_its_dialog(server: ConsoleServer, person: Person) -> None:
    before = statuses(server)
    held: list[Any] = []
    person.page.route("**/bulk", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it calls
    person.page.locator("[data-select-all]").click()
    for key in "fgocsj":
        person.press(key)
    person.page.wait_for_timeout(500)
    assert [len(held), statuses(server), query(server.api.session.store, "SELECT * FROM claims")] == [
        1,
        before,
        [],
    ]
    held[0].continue_()
    person.page.wait_for_selector("#bulk-dialog[open] table")
    assert person.page.locator(".sent, [data-answered]").count() == 0
    person.page.locator("#bulk-dialog [data-close]").click()
    person.page.locator("[data-select-all]").click()
    assert person.problems == []
    held[1].abort()
    person.page.locator("#notice >> text=Nothing was written").wait_for()
    person.press("f")
    person.page.wait_for_selector("[data-answered]")
    person.problems.clear()  # the request that failed


def test_a_filter_is_saved_and_there_after_a_reload(server: ConsoleServer, person: Person) -> None:
    person.page.locator('.facets a[href*="age="]').first.click()
    person.page.wait_for_url("**/queue?age=*")
    address, cases = person.page.url, person.page.locator(".heading p").inner_text()
    person.page.fill("#filter-name", "old ones")
    person.page.keyboard.press("Enter")
    person.page.locator(".saved a[aria-current] >> text=old ones").wait_for()
    person.page.goto(f"{server.url}/queue?order=time")
    person.page.reload()
    person.page.locator(".saved a >> text=old ones").click()
    person.page.wait_for_url(address)
    assert person.page.locator(".heading p").inner_text() == cases
    person.page.locator(".saved button[aria-label='Remove old ones']").click()
    person.page.locator(".saved a >> text=old ones").wait_for(state="detached")


def test_whoever_comes_second_sees_who_was_first(browser: Any, server: ConsoleServer, person: Person) -> None:
    other = Person(browser, server, "rule_author")
    other.press("f")
    other.page.wait_for_selector("[data-answered]")
    person.press("g")
    conflict = person.page.locator("[data-refused] .conflict").first
    conflict.wait_for()
    assert "rule_author has answered fraud" in conflict.inner_text()
    assert set(statuses(server)) == {"open", "fraud"}
    other.close()


def test_an_open_page_asks_before_it_answers_what_somebody_else_works_on(
    browser: Any, server: ConsoleServer, person: Person
) -> None:
    other, before = Person(browser, server, "rule_author"), statuses(server)
    other.press("c")
    other.page.wait_for_selector(".case.active .claim")
    person.press("f")
    line = person.page.locator("[data-refused]")
    line.locator("text=rule_author works on").wait_for()
    assert statuses(server) == before
    line.locator("button >> text=anyway").click()
    person.page.locator("[data-answered]:not([data-refused])").wait_for()
    assert set(statuses(server)) == {"open", "fraud"}
    other.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_without_seeing_it(browser: Any, server: ConsoleServer, scheme: str) -> None:
    person = Person(browser, server, "administrator", color_scheme=scheme, bypass_csp=True)
    flag = person.page.locator(".case").first.get_attribute("data-open")
    entity = person.page.locator(".case a.entity").first.get_attribute("href")
    for path, awaited in (
        ("/queue", ".case.active"), (flag, "#answer"), (entity, "svg.graph"), ("/overview", "#outcome"), ("/models", "table"),
        ("/users", "table"), ("/rules", ".empty"), ("/audit", "table"), ("/nothing", "h1"),
    ):  # fmt: skip
        person.page.goto(f"{server.url}{path}")
        person.page.wait_for_selector(awaited)
        assert person.grave_faults() == [], path
    person.problems = [text for text in person.problems if "404" not in text]
    person.close()


def test_no_page_is_wider_than_its_window(browser: Any, server: ConsoleServer) -> None:
    person = Person(browser, server, "administrator")
    flag = person.page.locator(".case").first.get_attribute("data-open")
    entity = person.page.locator(".case a.entity").first.get_attribute("href")
    for width in (360, 2_000):
        person.page.set_viewport_size({"width": width, "height": 800})
        for path in ("/queue", flag, entity):
            person.page.goto(f"{server.url}{path}")
            assert person.page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
    person.close()
