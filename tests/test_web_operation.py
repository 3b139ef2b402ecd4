"""Pages for whoever keeps the monitor going: what was missed, runs and gaps, models, approvals, users, and every table as a file."""

import re
import time
from collections.abc import Iterator

import httpx2
import pytest

from pipeline.config.sections import WebSection
from pipeline.services.audit import list_audit
from pipeline.services.models.models import list_models
from pipeline.services.runs.runs import StepStatus, WindowRecord
from pipeline.services.users.users import NewUser, add_user, list_users
from pipeline.web.console import CONSOLE
from pipeline.web.pages.runs import _newest_gap
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY
from storage.models.comparisons import TechniqueMetric
from tests.support.api import serving
from tests.support.comparisons import store_comparison
from tests.support.console import ConsoleServer, console
from tests.support.oidc import config_of
from tests.support.reports import CARD, HOSTILE, plant_hostile_values
from tests.support.sql import execute, query
from tests.support.users import PASSWORD, hash_fast
from tests.support.worlds import FROM, NOW, SMALL, small_at
from tests.test_web_pages import acting

pytestmark = pytest.mark.one_engine
WAIT_S = 120.0
TWO_PEOPLE = WebSection.model_validate({"four_eyes": ["role", "promote"]})
OPERATION = (
    "/missed",
    "/answered",
    "/runs",
    "/models",
    "/models/1",
    "/rules",
    "/mutes",
    "/approvals",
    "/users",
    "/audit",
)


@pytest.fixture
def server(first_week: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleServer]:
    """The console over a week of flags, of frauds that were reported since, and with two more weeks of payments to score."""
    hash_fast(monkeypatch)
    with console(first_week, small_at(url)) as running:
        yield running


@pytest.fixture
def careful(first_week: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleServer]:
    """The same, where a role and a rejected model need two people."""
    hash_fast(monkeypatch)
    config = small_at(url).model_copy(update={"web": TWO_PEOPLE})
    with console(first_week, config) as running:
        add_user(running.api.session, NewUser("second", "administrator", PASSWORD))
        yield running


def until_at_rest(server: ConsoleServer) -> str:
    """The part of what is at work when nothing is any more."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        part = server.visitor("administrator").get("/runs/work").text
        if "every 2s" not in part:
            return part
        time.sleep(0.2)
    raise AssertionError(part)


def test_missed_frauds_are_listed_with_the_filters_of_the_address(server: ConsoleServer) -> None:
    viewer, store = server.visitor("viewer"), server.api.session.store
    page = viewer.get("/missed").text
    missed = query(
        store,
        """SELECT c.transaction_id FROM current_labels c
        JOIN scores s ON s.policy = 'live' AND s.transaction_id = c.transaction_id LEFT JOIN flags f ON f.transaction_id = c.transaction_id
        WHERE c.is_fraud AND f.transaction_id IS NULL ORDER BY c.known_at DESC, c.transaction_id""",
    )
    assert missed
    assert f'href="/flags/{missed[0][0]}"' in page
    assert re.search(r'class="score" title="score [0-9.]+">1 in [0-9.,]+<', page)
    assert "more flags on that day" in page
    cleared = viewer.get("/missed?kind=cleared&since=2025-01-01").text
    assert ("no flag" not in cleared, missed[0][0] not in cleared) == (True, True)
    assert "No missed fraud became known since 01 Jan 2026." in viewer.get("/missed?since=2026-01-01").text
    assert viewer.get("/missed?kind=nothing").status_code == 422
    assert viewer.get("/missed?since=2025-02-30").status_code == 422
    link = re.findall(r'href="(/api/v1/missed\?[^"]+)"', page)[0].replace("&amp;", "&")
    listed = viewer.get(link).json()["items"]
    assert [each["payment"]["transaction_id"] for each in listed] == [row[0] for row in missed][: len(listed)]


def test_a_gap_is_filled_from_the_page_by_a_process_of_its_own(server: ConsoleServer) -> None:
    store, administrator = server.api.session.store, server.visitor("administrator")
    page = administrator.get("/runs").text
    assert page.count('class="window never-scored"') > 10
    assert "goes into the queue, however old it is" in page
    start, end = (f"{as_datetime(FROM + days * DAY):%Y-%m-%d}" for days in (7, 9))
    reversed_ = administrator.post("/runs/backfill", start=end, end=start)
    assert (reversed_.status_code, "the first day must be before the last" in reversed_.text) == (422, True)
    assert "[start, end)" not in reversed_.text
    scored = "SELECT COUNT(*) FROM scores WHERE policy = 'live'"
    before = query(store, scored)[0][0]
    answer = administrator.post("/runs/backfill", start=start, end=end)
    assert answer.headers["HX-Redirect"] == "/runs"
    assert "every 2s" in administrator.get("/runs/work").text
    assert 'hx-get="/runs/matrix" hx-trigger="every 5s"' in administrator.get("/runs").text
    assert "every 5s" in administrator.get("/runs/matrix").text
    part = until_at_rest(server)
    assert "Backfill</b> by <bdi>administrator</bdi>" in part
    assert ": done" in part
    assert query(store, scored)[0][0] > before
    assert administrator.get("/runs").text.count("never-scored") == page.count("never-scored") - 2
    matrix = administrator.get("/runs/matrix").text
    assert "hx-trigger" not in matrix
    assert matrix.count('class="window never-scored"') == page.count('class="window never-scored"') - 2
    rested = administrator.get("/runs/work?was=yes")
    assert (rested.status_code, rested.headers["HX-Refresh"]) == (204, "true")
    assert "start backfill" in {row.action for row in list_audit(server.api.session).items}


def window(day: int, score: StepStatus | None) -> WindowRecord:
    start, end = as_datetime(FROM + day * DAY), as_datetime(FROM + (day + 1) * DAY)
    return WindowRecord(start, end, score, None, None, None, None, None)


@pytest.mark.parametrize(
    ("scores", "gap"),
    [
        ([None] * 9 + ["done"] * 3 + ["failed", None] + ["done"], [12, 13]),  # not the history before it
        ([None] * 9 + ["done"], list(range(9))),
        ([None] * 100, list(range(72, 100))),
        (["done", None, "done", "pending", "running"], [3]),
        (["done"], []),
    ],
)
def test_the_form_offers_the_newest_gap_and_never_the_whole_history(
    scores: list[StepStatus | None], gap: list[int]
) -> None:
    windows = [window(day, score) for day, score in enumerate(scores)]
    assert _newest_gap(windows) == [windows[day] for day in gap]


def test_a_gap_says_why_and_offers_its_remedy_to_those_who_may(server: ConsoleServer) -> None:
    store = server.api.session.store
    execute(
        store,
        f"UPDATE ledger SET status = 'failed', attempts = 5, error = 'no column {CARD}' "
        "WHERE kind IN ('score', 'train') AND window_end = (SELECT MAX(window_end) FROM ledger WHERE kind = 'score')",
        "UPDATE ledger SET status = 'failed', attempts = 5, error = 'leak' WHERE kind = 'train'",
    )
    page = server.visitor("administrator").get("/runs").text
    assert "no column" in page
    assert CARD not in page
    assert "mend what the error names" in page
    assert page.count("<button>Fill</button>") == 1
    assert page.count("<button>Train again</button>") >= 1
    assert 'class="window failed"' in page
    for role in ("viewer", "reviewer", "auditor"):
        other = server.visitor(role).get("/runs").text
        assert "<button>Fill" not in other
        assert ("no column" in other) == (role == "reviewer"), role
    masked = server.visitor("viewer").get("/api/v1/gaps").json()["items"]
    assert {gap["error"] for gap in masked if gap["status"] == "failed"} == {"•••"}


def test_late_payments_are_counted(server: ConsoleServer) -> None:
    execute(
        server.api.session.store,
        "INSERT INTO scoring_queue (policy, transaction_id) SELECT 'live', transaction_id FROM scores WHERE policy = 'live' "
        "ORDER BY transaction_id LIMIT 3",
    )
    tile = re.findall(
        r"<dt>Late payments that wait</dt><dd>(\d+)", server.visitor("viewer").get("/runs").text
    )
    assert tile == ["3"]


def test_a_model_is_promoted_and_rolled_back_with_a_reason(server: ConsoleServer) -> None:
    session, administrator = server.api.session, server.visitor("administrator")
    first = list_models(session, "live").items[-1].model_id
    card = administrator.get(f"/models/{first}").text
    assert f"<h1>Model {first}</h1>" in card
    assert ("It is in force" in card, "/promote" in card) == (True, False)
    assert administrator.post(f"/models/{first}/promote", reason="").status_code == 422
    answer = administrator.post(f"/models/{first}/promote", reason="known to be good")
    assert answer.headers["HX-Redirect"] == "/models", answer.text
    newest = list_models(session, "live").items[0]
    assert (newest.model_id, newest.by, newest.reason) == (first, "administrator", "known to be good")
    page = administrator.get("/models").text
    assert page.count("<b>in force</b>") == 1
    assert administrator.get("/models/999").status_code == 404


def test_what_needs_two_people_waits_on_the_page_of_approvals(careful: ConsoleServer) -> None:
    first, second = careful.visitor("administrator"), careful.visitor("second")
    assert first.post("/users/viewer/role", role="model_owner").headers["HX-Redirect"] == "/approvals"
    own = first.get("/approvals").text
    assert "change a role" in own
    assert "Withdraw" in own
    assert ">Approve<" not in own
    assert first.post("/approvals/1/approve").status_code == 403
    assert "Approve" in second.get("/approvals").text
    assert second.post("/approvals/1/approve").headers["HX-Redirect"] == "/approvals"
    assert {user.name: user.role for user in list_users(careful.api.session)}["viewer"] == "model_owner"
    reviewer = careful.visitor("reviewer")
    first.post("/users/auditor/role", role="administrator")
    assert "<button" not in reviewer.get("/approvals").text.split("<main")[1].split("</main>")[0]
    assert reviewer.post("/approvals/2/reject").status_code == 403
    assert first.post("/approvals/2/reject").headers["HX-Redirect"] == "/approvals"
    assert {user.name: user.role for user in list_users(careful.api.session)}["auditor"] == "auditor"
    assert first.post("/users", name="third", role="administrator", password=PASSWORD).status_code == 403
    masked = careful.visitor("auditor").get("/approvals").text
    assert "model_owner" not in masked
    assert "hidden" in masked


def test_users_are_added_changed_and_disabled(server: ConsoleServer) -> None:
    administrator, session = server.visitor("administrator"), server.api.session
    assert administrator.post("/users", name="eve", role="reviewer", password="short").status_code == 422
    assert (
        administrator.post("/users", name="eve", role="reviewer", password=PASSWORD).headers["HX-Redirect"]
        == "/users"
    )
    assert server.visitor("eve").get("/queue").status_code == 200
    administrator.post("/users/eve/role", role="viewer")
    administrator.post("/users/eve/password", password=PASSWORD + "!")
    assert server.visitor("eve").get("/queue").status_code == 303
    administrator.post("/users/eve/disable")
    eve = next(user for user in list_users(session) if user.name == "eve")
    assert (eve.role, eve.disabled_at is None) == ("viewer", False)
    assert "Enable" in administrator.get("/users").text
    administrator.post("/users/eve/enable")
    assert next(user for user in list_users(session) if user.name == "eve").disabled_at is None


def test_every_table_is_there_as_a_file_too_and_masked_as_the_page_is(server: ConsoleServer) -> None:
    administrator, viewer = server.visitor("administrator"), server.visitor("viewer")
    author = server.visitor("rule_author")
    author.post("/rules", text="amount > 100", reason="a wave", days="7")
    handle = server.api.app.state.shared.handles.handle("customer_id", "c1")
    author.post("/mutes", handle=handle, reason="a test card", days="7")
    for path in ("/missed", "/runs", "/models", "/rules", "/mutes", "/users", "/audit"):
        page = administrator.get(path).text
        links = [link.replace("&amp;", "&") for link in re.findall(r'href="(/api/v1/[^"]+)"', page)]
        assert links, path
        for link in links:
            answer = administrator.http.get(link)
            assert answer.status_code == 200, link
            kind = "text/csv" if "format=csv" in link else "application/json"
            assert answer.headers["Content-Type"].startswith(kind), link
    assert "amount > 100" in administrator.http.get("/api/v1/rules?format=csv").text
    assert "amount > 100" not in viewer.http.get("/api/v1/rules?format=csv").text
    assert viewer.http.get("/api/v1/audit?format=csv").status_code == 403


def test_a_stored_comparison_is_a_picture_and_a_table(server: ConsoleServer) -> None:
    administrator, store = server.visitor("administrator"), server.api.session.store
    assert "No comparison is stored" in administrator.get("/comparisons/newest").text
    assert 'hx-get="/comparisons/newest"' in administrator.get("/strategy").text
    results = [
        TechniqueMetric("HBOS", 1, "ap", 0.4, 0.3, 0.5), TechniqueMetric("HBOS", 1, "seconds", 3.0, None, None),
        TechniqueMetric("SMOTE 10 %", 2, "ap", 0.2, None, None),
    ]  # fmt: skip
    curve = {"HBOS": {"recall": [0.5, 1.0], "precision": [0.8, 0.1]}}
    store_comparison(store, NOW, results, "HBOS is best", curve, notes={"HBOS": "quick"})
    part = administrator.get("/comparisons/newest").text
    assert part.count('class="whisker"') == 1
    assert part.count('class="dot this"') == 2
    for text in ("HBOS is best", "0.3–0.5", "SMOTE 10 %", "quick", "Seconds"):
        assert text in part, text
    assert "hx-post" not in server.visitor("viewer").get("/comparisons/newest").text


def test_values_that_would_act_stay_text_on_these_pages_too(server: ConsoleServer) -> None:
    store = server.api.session.store
    plant_hostile_values(store)
    execute(
        store,
        "UPDATE labels SET source = :bad, type = :bad WHERE source = 'chargeback'",
        "UPDATE promotions SET reason = :bad, " + '"by" = :bad',
        "UPDATE runs SET error = :bad, status = 'failed'",
        bad=HOSTILE,
    )
    administrator = server.visitor("administrator")
    administrator.post("/runs/train", as_of="2025-01-25T00:00:00Z")
    for path in (*OPERATION, "/runs/work", "/comparisons/newest"):
        for role in ("administrator", "viewer"):
            answer = server.visitor(role).get(path)
            if role == "viewer" and path in ("/users", "/audit"):
                continue
            assert answer.status_code == 200, (role, path)
            assert HOSTILE not in answer.text, (role, path)
            assert CARD not in answer.text, (role, path)
            assert acting(answer.text) == [], (role, path)
            assert len(answer.content) < 150_000, path
    viewer = server.visitor("viewer").get("/runs").text
    assert "alert(1)" not in viewer
    for job in server.api.app.state.shared.jobs.list():
        server.api.app.state.shared.jobs.stop(job.job_id)


def test_the_log_in_offers_the_identity_provider_where_there_is_one(first_week: Store) -> None:
    provided = config_of("http://127.0.0.1:9/realm")
    without = provided.model_copy(update={"oidc": provided.oidc.model_copy(update={"passwords": False})})
    for config, expected in ((SMALL, (False, True)), (provided, (True, True)), (without, (True, False))):
        with serving(first_week, config, pages=CONSOLE) as api:
            page = httpx2.get(f"{api.url}/log-in", headers={"Accept": "text/html"}, trust_env=False).text
            assert ('href="/oidc/login"' in page, 'type="password"' in page) == expected
