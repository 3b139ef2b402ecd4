"""The pages of the console as a server sends them: who may see what, what they hold, and what forms write."""

import json
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from typing import get_args
from urllib.parse import quote

import numpy as np
import pytest

from pipeline.api.routes import Access
from pipeline.errors import InputError
from pipeline.number_text import counted
from pipeline.rendering.charts import DARK
from pipeline.schedule.run_context import LIVE
from pipeline.services.data.payments import show_payment
from pipeline.services.entity_graph import entity_graph
from pipeline.services.monitoring.doctor import check
from pipeline.services.review import flag_context
from pipeline.services.review.cases import CaseFilter, CaseOrder, list_cases
from pipeline.services.review.flag_context import entity_contexts
from pipeline.services.review.flags import show_flag
from pipeline.services.users.permissions import PERMISSIONS, user_role
from pipeline.web.rendering import NAVIGATION
from pipeline.web.routes import PAGE_ROUTES
from storage.database.column_types import as_texts
from storage.database.database import Store
from storage.frames import DAY, HOUR
from tests.support.console import ConsoleServer, console
from tests.support.reports import CARD, HOSTILE, plant_hostile_values
from tests.support.sql import change_flags, execute, query
from tests.support.users import PASSWORD, hash_fast
from tests.support.worlds import FROM, NOW, SMALL

PAGE_BYTES_MAX = 150_000


@pytest.fixture
def server(first_week: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleServer]:
    """The console over a week of flags."""
    hash_fast(monkeypatch)
    reopen(first_week)
    with console(first_week) as running:
        yield running


def reopen(store: Store) -> None:
    """Make all flags wait for a review, each with an expected loss of its own."""
    change_flags(
        store,
        "DELETE FROM labels",
        "UPDATE flags SET status = 'open', reviewer = NULL, reviewed_at = NULL, loss_order = amount_base / 4",
        "UPDATE scores SET expected_loss = (SELECT amount_base / 4 FROM flags f WHERE f.transaction_id = scores.transaction_id)",
    )


class _Acting(HTMLParser):
    """Elements and attributes that would run, or draw by a style of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and not (given.get("src") or "").startswith("/static/")):
            self.found.append(tag)
        self.found += [name for name in given if name.startswith(("on", "hx-on")) or name == "style"]


def acting(page: str) -> list[str]:
    """What of a page would act by itself."""
    parser = _Acting()
    parser.feed(page)
    return parser.found


def open_ids(server: ConsoleServer) -> list[str]:
    """The transactions of the queue, in its order."""
    return [
        flag.transaction_id
        for case in list_cases(server.api.session, limit=1_000).items
        for flag in case.flags
    ]


def seen(server: ConsoleServer, *names: str) -> str:
    """Flags with the versions that a page shows now."""
    return json.dumps([[name, show_flag(server.api.session, LIVE, name).version] for name in names])


def test_cases_are_those_of_the_view_and_the_dearest_comes_first(server: ConsoleServer) -> None:
    cases = list_cases(server.api.session, limit=1_000)
    view = query(server.api.session.store, "SELECT case_id, open_flags FROM flag_cases WHERE open_flags > 0")
    assert {(case.case_id, len(case.flags)) for case in cases.items} == {tuple(row) for row in view}
    losses = [case.expected_loss.value for case in cases.items if case.expected_loss is not None]
    assert len(losses) > 5
    assert losses == sorted(losses, reverse=True)


def test_a_case_ends_a_day_after_its_first_flag_though_flags_go_on(server: ConsoleServer) -> None:
    store = server.api.session.store
    names = sorted(open_ids(server))
    for place, name in enumerate(names):  # each within a day of the one before
        at = as_texts(np.array([FROM + place * 15 * HOUR]))[0]
        change_flags(
            store,
            f"UPDATE transactions SET customer_id = 'c1', event_time = '{at}' WHERE transaction_id = '{name}'",
            f"UPDATE flags SET event_time = '{at}' WHERE transaction_id = '{name}'",
        )
    first = query(store, "SELECT transaction_id FROM flags ORDER BY event_time LIMIT 1")[0][0]
    server.visitor("reviewer").post("/verdicts", flags=seen(server, first), verdict="genuine")
    view = query(store, "SELECT case_id, open_flags FROM flag_cases WHERE open_flags > 0")
    cases = list_cases(server.api.session, limit=1_000).items
    assert len(cases) == (len(names) + 1) // 2
    assert {(case.case_id, len(case.flags)) for case in cases} == {tuple(row) for row in view}


def test_pages_of_the_queue_have_every_case_once_whatever_is_answered_meanwhile(
    server: ConsoleServer,
) -> None:
    whole = [case.case_id for case in list_cases(server.api.session, limit=1_000).items]
    first = list_cases(server.api.session, limit=3)
    answered = first.items[0].flags[0].transaction_id
    server.visitor("reviewer").post("/verdicts", flags=seen(server, answered), verdict="genuine")
    rest, cursor = [], first.next_cursor
    while cursor is not None:
        page = list_cases(server.api.session, limit=3, cursor=cursor)
        rest += [case.case_id for case in page.items]
        cursor = page.next_cursor
    assert [case.case_id for case in first.items] + rest == whole


def test_payments_drawn_at_random_stand_between_the_others_and_look_like_them(server: ConsoleServer) -> None:
    reasons = json.dumps(
        [
            {
                "code": "AUDIT_SAMPLE",
                "feature": None,
                "value": None,
                "usual": None,
                "share": 0.0,
                "text": "drawn at random",
            }
        ]
    )
    sampled = open_ids(server)[-3:]
    for name in sampled:
        change_flags(
            server.api.session.store,
            "UPDATE flags SET channel = 'audit', reasons = :reasons, loss_order = 0 WHERE transaction_id = :name",
            reasons=reasons, name=name,
        )  # fmt: skip
    cases = list_cases(server.api.session, limit=1_000)
    places = [at for at, case in enumerate(cases.items) if case.flags[0].transaction_id in sampled]
    assert places != list(range(len(cases.items) - 3, len(cases.items)))
    assert "audit" not in cases.facets["channel"]
    for path in ("/queue", f"/flags/{sampled[0]}"):
        page = server.visitor("reviewer").get(path).text
        assert sampled[0] in page
        assert "drawn at random" not in page
        assert "audit" not in page
    server.visitor("reviewer").post("/verdicts", flags=seen(server, sampled[0]), verdict="genuine")
    assert "drawn at random" in server.visitor("reviewer").get(f"/flags/{sampled[0]}").text


def test_a_flag_opens_by_the_link_of_the_queue_whatever_its_id_holds(server: ConsoleServer) -> None:
    store, before, name = server.api.session.store, open_ids(server)[0], 'n<b>1</b>/?a=%2F&#"x\\'
    for table in ("transactions", "scores", "flags"):
        execute(
            store,
            f"UPDATE {table} SET transaction_id = :name WHERE transaction_id = :before",
            name=name,
            before=before,
        )
    reviewer = server.visitor("reviewer")
    links = {
        unescape(link)
        for link in re.findall(r'(?:href|data-open)="(/flags/[^"]+)"', reviewer.get("/queue").text)
    }
    assert {reviewer.get(link).status_code for link in links} == {200}
    link = f"/flags/{quote(name, safe='')}"
    assert link in links
    note = re.search(r'hx-post="(/flags/[^"]+/notes)"', reviewer.get(link).text)
    assert note is not None
    assert reviewer.post(unescape(note.group(1)), note="a note").headers["HX-Redirect"] == link
    assert "a note" in reviewer.get(link).text
    answered = reviewer.post("/verdicts", flags=seen(server, name), verdict="fraud").text
    assert f'data-open="{link}"' in answered


def test_filters_count_what_they_let_through(server: ConsoleServer) -> None:
    facets = list_cases(server.api.session).facets
    for channel, count in facets["channel"].items():
        assert list_cases(server.api.session, CaseFilter(channel=channel)).cases == count
    assert sum(facets["age"].values()) == list_cases(server.api.session).cases
    dear = list_cases(server.api.session, limit=1_000).items[2].expected_loss
    assert dear is not None
    assert list_cases(server.api.session, CaseFilter(min_loss=float(dear.value))).cases == 3


def test_an_answer_that_somebody_else_gave_meanwhile_is_shown_and_not_overwritten(
    server: ConsoleServer,
) -> None:
    name = open_ids(server)[0]
    before = seen(server, name)
    server.visitor("rule_author").post("/verdicts", flags=before, verdict="fraud")
    late = server.visitor("reviewer").post("/verdicts", flags=before, verdict="genuine")
    assert "rule_author" in late.text
    assert "was not written" in late.text
    assert show_flag(server.api.session, LIVE, name).status == "fraud"


def test_an_undo_takes_back_ones_own_answer_and_not_one_that_came_after_it(server: ConsoleServer) -> None:
    name = open_ids(server)[0]
    reviewer = server.visitor("reviewer")
    answered = reviewer.post("/verdicts", flags=seen(server, name), verdict="fraud").text
    flags = re.search(r'name="flags" value="([^"]+)"', answered)
    assert flags is not None
    undo = flags.group(1).replace("&#34;", '"')
    server.visitor("rule_author").post("/verdicts", flags=seen(server, name), verdict="genuine")
    assert reviewer.post("/verdicts/undo", flags=undo).status_code == 409
    assert show_flag(server.api.session, LIVE, name).status == "genuine"
    newest = seen(server, name)
    assert reviewer.post("/verdicts/undo", flags=newest).status_code == 200
    assert show_flag(server.api.session, LIVE, name).status == "fraud"


def test_the_page_of_an_answered_flag_says_who_answered_and_takes_it_back(server: ConsoleServer) -> None:
    name, store = open_ids(server)[0], server.api.session.store
    reviewer, address = server.visitor("reviewer"), f"/flags/{name}"
    waiting = reviewer.get(address).text
    assert "Answered:" not in waiting
    assert 'hx-post="/verdicts/undo"' not in waiting
    for verdict, label in (("fraud", "Fraud"), ("no_opinion", "No opinion")):
        server.visitor("rule_author").post("/verdicts", flags=seen(server, name), verdict=verdict)
        page = reviewer.get(address).text
        assert re.search(rf'Answered: <span class="status \w+">{label}</span>', page), verdict
        assert "by <bdi>rule_author</bdi> <time" in page
        assert 'value="no_opinion"' not in page
        assert page.index("<summary>Answer again") < page.index('hx-post="/verdicts"')
        flags = re.search(r'hx-post="/verdicts/undo".*?name="flags" value="([^"]+)"', page, re.DOTALL)
        assert flags is not None
        undone = reviewer.post("/verdicts/undo", flags=unescape(flags.group(1)), place="flag")
        assert undone.headers["HX-Refresh"] == "true"
        assert show_flag(server.api.session, LIVE, name).status == "open"
    change_flags(
        store,
        f"UPDATE flags SET status = 'fraud', reviewer = 'chargeback', reviewed_at = event_time WHERE transaction_id = '{name}'",
    )
    reported = reviewer.get(address).text
    assert "by <bdi>chargeback</bdi>" in reported
    assert 'hx-post="/verdicts/undo"' not in reported


def test_a_bulk_answer_lists_what_it_labels_and_writes_to_all_in_the_filter(server: ConsoleServer) -> None:
    names = open_ids(server)
    reviewer = server.visitor("reviewer")
    listed = reviewer.post("/bulk", flags="", verdict="fraud").text
    assert all(name in listed for name in names)
    flags = re.search(r'name="flags" value="([^"]+)"', listed)
    assert flags is not None
    done = reviewer.post(
        "/bulk/verdicts", flags=flags.group(1).replace("&#34;", '"'), verdict="fraud", note="one ring"
    )
    assert f"{len(names)} payments" in done.text
    assert open_ids(server) == []
    notes = query(server.api.session.store, "SELECT DISTINCT note FROM verdicts")
    assert [row[0] for row in notes] == ["one ring"]


def test_a_bulk_answer_says_that_whole_cases_go_beyond_a_channel(server: ConsoleServer) -> None:
    reviewer, (first, *_, last) = server.visitor("reviewer"), open_ids(server)
    channel = show_flag(server.api.session, LIVE, first).channel
    change = "UPDATE flags SET channel = '{}' WHERE transaction_id = '{}'"
    execute(server.api.session.store, change.format("audit", last))
    for path in ("/bulk", f"/bulk?channel={channel}"):
        both = reviewer.post(path, flags=seen(server, first, last)).text
        assert "audit" not in both
        assert ("Whole cases are answered" in both) == ("?" in path)
    cells = re.findall(r"<td>(?:<bdi>)?(\w+)(?:</bdi>)?</td></tr>", both)
    assert sorted(cells) == sorted([channel, "another"])
    assert "Whole cases" not in reviewer.post(path, flags=seen(server, first)).text


def test_the_counts_of_the_queue_say_when_they_were_taken(server: ConsoleServer) -> None:
    assert 'as of <time datetime="' in server.visitor("reviewer").get("/queue").text


def test_above_fifty_payments_the_proposal_is_no_opinion(
    first_week: Store, monkeypatch: pytest.MonkeyPatch, server: ConsoleServer
) -> None:
    few = server.visitor("reviewer").post("/bulk", flags="", verdict="fraud").text
    assert re.search(r'value="fraud" checked', few)
    monkeypatch.setattr("pipeline.web.pages.bulk.MANY", 3)
    many = server.visitor("reviewer").post("/bulk", flags="", verdict="fraud").text
    assert re.search(r'value="no_opinion" checked', many)


@pytest.fixture
def hurried(first_week: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleServer]:
    """The console where answers are due within a day, with links to other systems."""
    hash_fast(monkeypatch)
    reopen(first_week)
    alerts = SMALL.alerts.model_copy(update={"answer_within": DAY})
    links = {"Provider": "https://pay.example/p/{id}?c={customer_id}"}
    web = SMALL.web.model_copy(update={"links": links})
    with console(first_week, SMALL.model_copy(update={"alerts": alerts, "web": web})) as running:
        yield running


def test_the_queue_says_what_is_overdue_and_puts_it_first(hurried: ConsoleServer) -> None:
    session = hurried.api.session
    columns = "policy, kind, status, newest_batch, config"
    change_flags(
        session.store,
        "UPDATE runs SET started_at = :late",
        f"INSERT INTO runs (run_id, started_at, {columns}) SELECT 900, :early, {columns} FROM runs WHERE run_id = (SELECT MIN(run_id) FROM runs)",
        "UPDATE flags SET run_id = 900 WHERE case_id IN (SELECT case_id FROM cases ORDER BY case_id LIMIT 3)",
        late=as_texts(np.array([NOW - HOUR]))[0], early=as_texts(np.array([NOW - 30 * HOUR]))[0],
    )  # fmt: skip
    every = list_cases(session, limit=1_000)
    overdue = list_cases(session, CaseFilter(due="overdue"), limit=1_000)
    assert overdue.cases == 3
    assert every.facets["due"] == {"day": every.cases - overdue.cases, "overdue": overdue.cases}
    assert {case.answer.is_overdue for case in overdue.items} == {True}
    first = list_cases(session, order="due", limit=1_000).items
    assert [case.answer.is_overdue for case in first] == sorted(
        (case.answer.is_overdue for case in first), reverse=True
    )
    assert {case.case_id for case in first} == {case.case_id for case in every.items}
    reviewer = hurried.visitor("reviewer")
    assert "overdue since" in reviewer.get("/queue?order=due").text
    assert "overdue since" in reviewer.get(f"/flags/{overdue.items[0].flags[0].transaction_id}").text
    assert f"{counted(overdue.cases, 'case')} overdue" in reviewer.get("/overview").text
    result = next(each for each in check(session, LIVE) if each.subject == "answers")
    assert (result.code, result.failed, vars(result.facts)["cases"]) == ("overdue", True, overdue.cases)


def test_pages_in_every_order_have_every_case_once(hurried: ConsoleServer) -> None:
    session = hurried.api.session
    whole = {case.case_id for case in list_cases(session, limit=1_000).items}
    for order in get_args(CaseOrder):
        found, cursor = [], None
        while cursor is not None or not found:
            page = list_cases(session, order=order, limit=2, cursor=cursor)
            found += [case.case_id for case in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert (len(found), set(found)) == (len(whole), whole), order
    with pytest.raises(InputError, match="no cursor of this list"):
        list_cases(session, order="time", cursor=list_cases(session, limit=2).next_cursor)


def test_filters_are_saved_under_names_of_ones_own_without_an_entity(server: ConsoleServer) -> None:
    reviewer, handles = server.visitor("reviewer"), server.api.app.state.shared.handles
    entity = handles.handle("customer_id", "c1")
    path = "/queue?age=older&min_loss=5"
    saved = reviewer.post(f"/queue/filters?age=older&min_loss=5&entity={entity}", name=" Large & old <b> ")
    assert saved.headers["HX-Redirect"] == path
    page = reviewer.get(path).text
    assert (
        '<a href="/queue?age=older&amp;min_loss=5" aria-current="true"><span><bdi>Large &amp; old &lt;b&gt;</bdi>'
        in page
    )
    assert query(server.api.session.store, "SELECT path FROM saved_filters") == [(path,)]
    reviewer.post("/queue/filters?age=day", name="Large & old <b>")
    assert query(server.api.session.store, "SELECT path FROM saved_filters") == [("/queue?age=day",)]
    assert "Large" not in server.visitor("rule_author").get("/queue").text
    for address, name in (
        ("/queue/filters", "all"),
        (f"/queue/filters?entity={entity}", "one"),
        ("/queue/filters?age=day", " "),
    ):
        assert reviewer.post(address, name=name).status_code == 422, address
    server.visitor("rule_author").post("/queue/filters/remove", name="Large & old <b>")
    assert "Large" in reviewer.get("/queue").text
    reviewer.post("/queue/filters/remove", name="Large & old <b>")
    assert "Large" not in reviewer.get("/queue").text


def test_a_user_has_at_most_so_many_filters(server: ConsoleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.users.saved_filters.FILTERS_MAX", 2)
    reviewer = server.visitor("reviewer")
    codes = [reviewer.post("/queue/filters?age=day", name=name).status_code for name in ("a", "b", "a", "c")]
    assert codes == [204, 204, 204, 409]


def test_links_lead_to_other_systems_with_encoded_values_for_those_who_see_values(
    hurried: ConsoleServer,
) -> None:
    store, name = hurried.api.session.store, open_ids(hurried)[0]
    execute(
        store, f"UPDATE transactions SET customer_id = 'a/b \"?&x={{id}}' WHERE transaction_id = '{name}'"
    )
    page = hurried.visitor("reviewer").get(f"/flags/{name}").text
    address = f"https://pay.example/p/{name}?c=a%2Fb%20%22%3F%26x%3D%7Bid%7D"
    assert f'<a href="{address}" target="_blank" rel="noreferrer noopener">Provider' in page
    assert "pay.example" not in hurried.visitor("viewer").get(f"/flags/{name}").text
    execute(store, f"UPDATE transactions SET customer_id = NULL WHERE transaction_id = '{name}'")
    assert "pay.example" not in hurried.visitor("reviewer").get(f"/flags/{name}").text


def test_the_payment_is_in_the_picture_of_its_busiest_entity_without_a_hole(
    server: ConsoleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, around = server.api.session, 3
    monkeypatch.setattr(flag_context, "PAYMENTS_BEFORE", around)
    monkeypatch.setattr(flag_context, "PAYMENTS_AFTER", around)
    column = "terminal_id"
    (busiest,) = query(session.store, f"SELECT {column} FROM transactions GROUP BY {column} ORDER BY COUNT(*) DESC LIMIT 1")[0]  # fmt: skip
    payments = [
        row[0]
        for row in query(session.store, f"SELECT transaction_id FROM transactions WHERE {column} = '{busiest}' ORDER BY event_time, transaction_id DESC")
    ]  # fmt: skip
    assert len(payments) > 4 * around
    place = len(payments) // 3
    for at in (0, place, len(payments) - 1):
        shown = entity_contexts(session, LIVE, show_payment(session, LIVE, payments[at]))
        mine = next(each for each in shown if each.column == column)
        found = [each.transaction_id for each in mine.payments]
        assert found == payments[max(at - around, 0) : at + around + 1]
    page = server.visitor("reviewer").get(f"/flags/{payments[place]}").text
    assert page.count('class="dot this"') == len(shown) + 1  # one is in the legend


def test_the_threshold_stands_with_the_value_that_it_is_about(server: ConsoleServer) -> None:
    store, name = server.api.session.store, open_ids(server)[0]
    change = "UPDATE scores SET score = 0.999, threshold = 0.032, fraud_probability = {}, decision_value = {} WHERE transaction_id = '{}'"
    for probability, decided, said in (
        ("0.42", "0.42", r"Probability of fraud</dt><dd>42 % <span class=\"quiet\">flagged from 3.2 %"),
        (
            "NULL",
            "0.999",
            r"title=\"score 0.999\">1 in 1,000</span> <span class=\"quiet\">payments rank as high</span> <span class=\"quiet\">flagged from <span class=\"score\" title=\"score 0.032\">1 in 1",
        ),
        ("0.42", "0.7", r"Decision value</dt><dd>0.7 <span class=\"quiet\">flagged from 0.032"),
    ):
        execute(store, change.format(probability, decided, name))
        page = server.visitor("reviewer").get(f"/flags/{name}").text
        assert re.search(said, page), (said, re.findall(r"The score then.*?</dl>", page, re.DOTALL))
        assert page.count("flagged from") == 1


def test_a_claim_is_shown_to_others_and_given_back(server: ConsoleServer) -> None:
    name = open_ids(server)[0]
    server.visitor("reviewer").post("/claims", flags=seen(server, name))
    assert '<span class="claim"><bdi>reviewer</bdi>' in server.visitor("rule_author").get("/queue").text
    assert list_cases(server.api.session, CaseFilter(claim="taken")).cases == 1
    free = [case.case_id for case in list_cases(server.api.session, CaseFilter(claim="free")).items]
    every = [case.case_id for case in list_cases(server.api.session, CaseFilter()).items]
    assert len(free) == len(every) - 1 > 0
    assert set(free) < set(every)
    assert server.visitor("rule_author").get("/queue?claim=free").status_code == 200
    server.visitor("reviewer").post("/claims", flags=seen(server, name), release="yes")
    assert list_cases(server.api.session, CaseFilter(claim="taken")).cases == 0


def form_values(part: str) -> dict[str, str]:
    """The hidden fields of the form that answers what somebody else has claimed."""
    form = re.search(r'<form[^>]*hx-post="/verdicts".*?</form>', part, re.DOTALL)
    assert form is not None
    return {
        name: unescape(value)
        for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.group(0))
    }


def test_what_somebody_else_has_claimed_is_answered_only_anyway(server: ConsoleServer) -> None:
    reviewer, (first, second, third, *_) = server.visitor("reviewer"), open_ids(server)
    before = seen(server, first, second)
    server.visitor("rule_author").post("/claims", flags=seen(server, first))
    reviewer.post("/claims", flags=seen(server, second))
    part = reviewer.post(
        "/verdicts", flags=before, verdict="fraud", note="a ring", action="blocked", place="flag"
    ).text
    assert "<b><bdi>rule_author</bdi></b> works on 1 payment" in part
    assert show_flag(server.api.session, LIVE, first).status == "open"
    assert show_flag(server.api.session, LIVE, second).status == "fraud"
    again = reviewer.post("/verdicts", **form_values(part)).text
    assert "works on" not in again
    flag = show_flag(server.api.session, LIVE, first)
    assert (flag.status, flag.verdict_note, flag.verdict_action) == ("fraud", "a ring", "blocked")
    server.visitor("rule_author").post("/claims", flags=seen(server, third))
    execute(server.api.session.store, "UPDATE claims SET until = :now", now=as_texts(np.array([NOW]))[0])
    assert "works on" not in reviewer.post("/verdicts", flags=seen(server, third), verdict="genuine").text


def test_a_bulk_answer_leaves_what_somebody_else_has_claimed(server: ConsoleServer) -> None:
    reviewer, (first, second, *_) = server.visitor("reviewer"), open_ids(server)
    server.visitor("rule_author").post("/claims", flags=seen(server, first))
    both = seen(server, first, second)
    assert (
        "Also the 1 payment that <bdi>rule_author</bdi> works on" in reviewer.post("/bulk", flags=both).text
    )
    done = reviewer.post("/bulk/verdicts", flags=both, verdict="genuine").text
    assert "1 payment not answered: <bdi>rule_author</bdi> works on it" in done
    assert [show_flag(server.api.session, LIVE, name).status for name in (first, second)] == [
        "open",
        "genuine",
    ]
    reviewer.post("/bulk/verdicts", flags=seen(server, first), verdict="genuine", anyway="true")
    assert show_flag(server.api.session, LIVE, first).status == "genuine"


def test_any_payment_of_an_entity_can_be_labelled(server: ConsoleServer) -> None:
    store = server.api.session.store
    (name, customer), *_ = query(
        store,
        "SELECT transaction_id, customer_id FROM transactions WHERE transaction_id NOT IN (SELECT transaction_id FROM flags)",
    )
    row = server.visitor("reviewer").post(
        "/labels", transaction_id=name, column="customer_id", verdict="fraud"
    )
    assert row.status_code == 200
    assert "investigation" in row.text
    assert query(store, f"SELECT is_fraud FROM current_labels WHERE transaction_id = '{name}'")[0][0]
    handle = server.api.app.state.shared.handles.handle("customer_id", customer)
    assert name in server.visitor("reviewer").get(f"/entities/{handle}").text


def test_a_payment_that_somebody_else_works_on_is_labelled_only_anyway(server: ConsoleServer) -> None:
    reviewer, (name, *_) = server.visitor("reviewer"), open_ids(server)
    server.visitor("rule_author").post("/claims", flags=seen(server, name))
    row = reviewer.post("/labels", transaction_id=name, column="customer_id", verdict="genuine").text
    assert "<b><bdi>rule_author</bdi></b> works on it: not labelled." in row
    assert show_flag(server.api.session, LIVE, name).status == "open"
    values = dict(re.findall(r'name="(\w+)" value="([^"]*)"', row))
    assert "works on it" not in reviewer.post("/labels", **values).text
    assert show_flag(server.api.session, LIVE, name).status == "genuine"


def test_answers_are_found_by_whom_when_and_how(server: ConsoleServer) -> None:
    reviewer, author = server.visitor("reviewer"), server.visitor("rule_author")
    mine, theirs, changed, undone, *_ = open_ids(server)
    assert "You have answered nothing" in reviewer.get("/answered").text
    assert "Answers that came in files are labels" in reviewer.get("/answered?by=anyone").text
    reviewer.post("/verdicts", flags=seen(server, mine), verdict="fraud", note="a ring", action="blocked")
    author.post("/verdicts", flags=seen(server, theirs), verdict="genuine")
    reviewer.post("/verdicts", flags=seen(server, changed), verdict="genuine")
    author.post("/verdicts", flags=seen(server, changed), verdict="fraud")
    reviewer.post("/verdicts", flags=seen(server, undone), verdict="fraud")
    reviewer.post("/verdicts/undo", flags=seen(server, undone))

    def found(query: str) -> set[str]:
        return set(re.findall(r'data-open="/flags/([^"]+)"', reviewer.get(f"/answered{query}").text))

    assert found("") == {mine}
    assert found("?by=anyone") == {mine, theirs, changed}
    assert found("?by=anyone&verdict=genuine") == {theirs}
    assert found("?by=anyone&when=day&verdict=fraud") == {mine, changed}
    page = reviewer.get("/answered").text
    assert ("a ring" in page, "blocked" in page) == (True, True)
    as_json = re.findall(r'href="(/api/v1/verdicts\?[^"]+)">JSON', page)[0].replace("&amp;", "&")
    assert [each["transaction_id"] for each in reviewer.get(as_json).json()["items"]] == [mine]
    execute(
        server.api.session.store, "UPDATE verdicts SET at = :at", at=as_texts(np.array([NOW - 8 * DAY]))[0]
    )
    assert found("?by=anyone&when=week") == set()
    assert found("?by=anyone&when=month") == {mine, theirs, changed}
    assert '<a href="/answered?by=me">' in reviewer.get("/queue").text


def test_the_graph_has_what_shares_payments_and_no_more_than_its_limits(
    server: ConsoleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = entity_graph(server.api.session, "customer_id", "c1")
    assert (graph.nodes[0].column, graph.nodes[0].value, graph.nodes[0].hop) == ("customer_id", "c1", 0)
    direct = query(
        server.api.session.store, "SELECT DISTINCT terminal_id FROM transactions WHERE customer_id = 'c1'"
    )
    assert {node.value for node in graph.nodes if node.hop == 1} == {row[0] for row in direct}
    assert max(node.hop for node in graph.nodes) <= 3
    payments, frauds = query(
        server.api.session.store,
        "SELECT COUNT(*), SUM(CASE WHEN c.is_fraud THEN 1 ELSE 0 END) FROM transactions t "
        "LEFT JOIN current_labels c ON c.transaction_id = t.transaction_id WHERE t.customer_id = 'c1'",
    )[0]
    assert (graph.nodes[0].payments, graph.nodes[0].frauds) == (payments, frauds)
    monkeypatch.setattr("pipeline.services.entity_graph.NEIGHBOURS_MAX", 5)
    leaves = entity_graph(server.api.session, "customer_id", "c1")
    assert all(node.is_leaf for node in leaves.nodes[1:])
    assert max(node.hop for node in leaves.nodes) == 1
    monkeypatch.undo()
    monkeypatch.setattr("pipeline.services.entity_graph.NODES_MAX", 10)
    small = entity_graph(server.api.session, "customer_id", "c1")
    assert (len(small.nodes), small.is_cut) == (10, True)


@pytest.mark.one_engine
def test_every_page_needs_the_permission_of_its_table(server: ConsoleServer) -> None:
    for (method, path), needed in PAGE_ROUTES.items():
        for role in ("viewer", "reviewer", "rule_author", "auditor"):
            visitor, place = server.visitor(role), re.sub(r"\{[a-z_]+\}", "none", path)
            if path == "/log-out" or needed is Access.PUBLIC:
                continue
            answer = visitor.get(place) if method == "GET" else visitor.post(place)
            allowed = isinstance(needed, Access) or needed in PERMISSIONS[user_role(role)]
            assert (answer.status_code != 403) == allowed, (method, path, role, answer.status_code)


@pytest.mark.one_engine
def test_a_write_without_the_token_or_from_another_origin_is_refused(server: ConsoleServer) -> None:
    name = open_ids(server)[0]
    reviewer = server.visitor("reviewer")
    for headers in (
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "x" * 43},
        {"X-CSRF-Token": reviewer.token, "Sec-Fetch-Site": "cross-site"},
        {"X-CSRF-Token": reviewer.token, "Origin": "https://evil.example"},
        {"X-CSRF-Token": reviewer.token, "Origin": "null"},
    ):
        answer = reviewer.http.post(
            "/verdicts", data={"flags": seen(server, name), "verdict": "fraud"}, headers=headers
        )
        assert answer.status_code == 403, headers
    assert show_flag(server.api.session, LIVE, name).status == "open"
    foreign = reviewer.http.post(
        "/log-in", data={"name": "reviewer", "password": PASSWORD}, headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403


@pytest.mark.one_engine
def test_whoever_is_not_logged_in_is_sent_to_the_log_in_and_back(server: ConsoleServer) -> None:
    http = server.visitor("reviewer").http.__class__(base_url=server.url, trust_env=False)
    with http:
        asked = http.get("/queue?age=day", headers={"Accept": "text/html"})
        assert (asked.status_code, asked.headers["Location"]) == (303, "/log-in?next=%2Fqueue%3Fage%3Dday")
        part = http.post("/verdicts", headers={"HX-Request": "true"})
        assert part.headers["HX-Redirect"] == "/log-in"
        wrong = http.post(
            "/log-in", data={"name": "reviewer", "password": "wrong"}, headers={"Accept": "text/html"}
        )
        assert wrong.status_code == 401
        assert "the name or the password is wrong" in wrong.text
        for following in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
            form = {"name": "reviewer", "password": PASSWORD, "next": following}
            assert http.post("/log-in", data=form).headers["Location"] == "/", following
        assert (
            http.post("/log-in", data={**form, "next": "/queue?age=day"}).headers["Location"]
            == "/queue?age=day"
        )


@pytest.mark.one_engine
def test_errors_are_pages_in_the_words_of_the_problem(server: ConsoleServer) -> None:
    reviewer = server.visitor("reviewer")
    missing = reviewer.get("/flags/nobody")
    assert missing.status_code == 404
    assert "there is no transaction" in missing.text
    assert missing.headers["Content-Type"].startswith("text/html")
    program = reviewer.http.get("/flags/nobody", headers={"Accept": "application/json"})
    assert program.json()["code"] == "unknown_transaction"
    assert reviewer.get("/entities/none").status_code == 422


@pytest.mark.one_engine
def test_values_that_would_act_stay_text_and_are_masked_for_viewers(
    first_week: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_fast(monkeypatch)
    reopen(first_week)
    plant_hostile_values(first_week)
    reason = {"code": "RULE", "feature": None, "value": 1.0, "usual": None, "share": 0.5}
    reasons = json.dumps([reason | {"text": f"{HOSTILE} paid with {CARD}"}])
    execute(first_week, "UPDATE flags SET reasons = :reasons", reasons=reasons)
    with console(first_week) as server:
        name = open_ids(server)[0]
        handle = server.api.app.state.shared.handles.handle("customer_id", HOSTILE)
        for role in ("reviewer", "viewer"):
            for path in ("/queue", f"/flags/{name}", f"/entities/{handle}", f"/entities/{handle}/graph"):
                answer = server.visitor(role).get(path)
                assert answer.status_code == 200, (role, path)
                assert HOSTILE not in answer.text
                assert CARD not in answer.text
                assert acting(answer.text) == []
        masked = server.visitor("viewer").get("/queue").text
        assert "•••" in masked
        assert "paid with" not in masked


@pytest.mark.one_engine
def test_pages_are_small_and_load_nothing_from_elsewhere(server: ConsoleServer) -> None:
    name = open_ids(server)[0]
    for path in ("/queue", f"/flags/{name}"):
        answer = server.visitor("reviewer").get(path)
        assert len(answer.content) < PAGE_BYTES_MAX
        assert re.findall(r'(?:src|href)="https?:', answer.text) == []
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
    for address in set(re.findall(r'"(/static/[^"]+)"', answer.text)):
        asset = server.visitor("reviewer").get(address)
        assert asset.status_code == 200
        assert "immutable" in asset.headers["Cache-Control"]


@pytest.mark.one_engine
def test_whoever_looks_is_in_the_audit_trail(server: ConsoleServer) -> None:
    name = open_ids(server)[0]
    handle = server.api.app.state.shared.handles.handle("customer_id", "c1")
    for path in ("/queue", f"/flags/{name}", f"/entities/{handle}", f"/entities/{handle}/graph"):
        assert server.visitor("viewer").get(path).status_code == 200
    server.api.flush()
    rows = query(server.api.session.store, "SELECT DISTINCT action FROM audit WHERE actor = 'viewer'")
    assert {row[0] for row in rows} >= {"view flags", "view flag", "view entity", "view graph"}


@pytest.mark.one_engine
def test_the_jump_box_leads_to_payments_and_entities_without_a_value_in_an_address(
    server: ConsoleServer,
) -> None:
    reviewer = server.visitor("reviewer")
    assert reviewer.post("/jump", text=" t000001 ").headers["HX-Redirect"] == "/flags/t000001"
    entity = reviewer.post("/jump", text="c17").headers["HX-Redirect"]
    assert "c17" not in entity
    assert "c17" in reviewer.get(entity).text
    assert "Nothing has the id or the value" in reviewer.post("/jump", text="nobody at all").text


@pytest.mark.one_engine
def test_a_mute_and_a_rule_from_a_flag_say_first_what_they_hit(server: ConsoleServer) -> None:
    author = server.visitor("rule_author")
    handle = server.api.app.state.shared.handles.handle("customer_id", "c1")
    assert "So far it has" in author.post("/mutes/preview", handle=handle).text
    assert "Muted until" in author.post("/mutes", handle=handle, reason="a test card", days="7").text
    assert "it would have hit" in author.post("/rules/preview", text="amount > 100").text
    assert "in force until" in author.post("/rules", text="amount > 100", reason="a wave", days="7").text
    broken = author.post("/rules/preview", text="amount >")
    assert broken.status_code == 422
    assert server.visitor("reviewer").post("/rules", text="amount > 100").status_code == 403


@pytest.mark.one_engine
def test_every_entry_of_the_navigation_is_a_page_with_the_sections_it_names(server: ConsoleServer) -> None:
    administrator, viewer = server.visitor("administrator"), server.visitor("viewer")
    for _, title, address, _ in NAVIGATION:
        page = administrator.get(address)
        assert page.status_code == 200, address
        assert f"<h1>{title}</h1>" in page.text
        for section in re.findall(r'hx-get="(/sections/[a-z]+)"', page.text):
            answer = administrator.get(section)
            assert answer.status_code == 200, section
            assert "<h2" in answer.text
            assert not acting(answer.text)
    picture = administrator.get("/charts/ledger/dark/wide")
    assert picture.headers["Content-Type"].startswith("image/svg+xml")
    assert DARK["ink"] in picture.text
    widths = [
        int(re.search(r'width="(\d+)"', administrator.get(f"/charts/ledger/light/{name}").text)[1])  # type: ignore[index]
        for name in ("wide", "narrow")
    ]
    assert widths[1] < 400 < widths[0]
    for hidden in ("/sections/attention", "/sections/entities", "/sections/payments", "/sections/queue"):
        assert viewer.get(hidden).status_code == 422, hidden


@pytest.mark.one_engine
def test_rules_and_mutes_end_and_a_model_is_rolled_back_by_those_who_may(server: ConsoleServer) -> None:
    author = server.visitor("rule_author")
    handle = server.api.app.state.shared.handles.handle("customer_id", "c1")
    assert 'name="place" value="rules"' in author.get("/rules").text
    assert "<textarea" not in server.visitor("reviewer").get("/rules").text
    preview = author.post("/rules/preview", text="amount > 100", place="rules").text
    assert "it would have hit" in preview
    added = author.post("/rules", text="amount > 100", reason="a wave", days="7", place="rules")
    assert added.headers["HX-Redirect"] == "/rules"
    author.post("/mutes", handle=handle, reason="a test card", days="7")
    for kind, number in (("rules", 1), ("mutes", 1)):
        assert f"/{kind}/{number}/end" in author.get(f"/{kind}").text
        assert f"/{kind}/{number}/end" not in server.visitor("reviewer").get(f"/{kind}").text
        assert author.post(f"/{kind}/{number}/end").headers["HX-Redirect"] == f"/{kind}"
        assert "ended" in author.get(f"/{kind}").text
    assert author.post("/models/rollback", reason="worse").status_code == 403
    assert server.visitor("administrator").post("/models/rollback", reason="worse").status_code != 403
