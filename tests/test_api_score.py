"""Scores through the API: by whom, what comes back, and that a request repeated or raced stores nothing twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import HOUR
from tests.support.api import ApiServer, serving
from tests.support.sql import query
from tests.support.worlds import NOW, SMALL


@pytest.fixture
def server(backfilled: Store) -> Iterator[ApiServer]:
    with serving(backfilled, SMALL) as running:
        yield running


def payment(name: str, **others: object) -> dict[str, object]:
    at = as_datetime(NOW - HOUR).isoformat()
    return {
        "transaction_id": name,
        "event_time": at,
        "customer_id": "c1",
        "terminal_id": "m7",
        "amount": 12.5,
    } | others


def score(server: ApiServer, *payments: dict[str, object], store: bool, role: str = "scorer") -> Any:
    return server.post("/score", {"transactions": payments, "store": store}, role)


def test_a_program_scores_and_stores_and_reads_nothing(server: ApiServer) -> None:
    dry = score(server, payment("a", amount=9_000), store=False)
    assert dry.status_code == 200
    (seen,) = dry.json()["payments"]
    assert (seen["status"], seen["flagged"]) == ("dry_run", True)
    assert seen["reasons"]
    (kept,) = score(server, payment("a", amount=9_000), store=True).json()["payments"]
    assert (kept["status"], kept["score"]) == ("scored", seen["score"])
    assert server.get("/flags", "scorer").status_code == 403
    assert server.get("/flags/a").json()["score"] == seen["score"]


def test_only_who_may_scores(server: ApiServer) -> None:
    for role, status in (("viewer", 403), ("reviewer", 403), ("model_owner", 200), (None, 401)):
        assert score(server, payment("a"), store=False, role=role).status_code == status  # type: ignore[arg-type]


def test_twenty_racing_requests_store_a_payment_once(server: ApiServer) -> None:
    server.client("scorer")  # one for all threads
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: score(server, payment("same"), store=True).json(), range(20)))
    statuses = sorted(answer["payments"][0]["status"] for answer in answers)
    assert statuses == ["duplicate"] * 19 + ["scored"]
    assert len({answer["payments"][0]["score"] for answer in answers}) == 1
    assert query(server.session.store, "SELECT COUNT(*) FROM scores WHERE transaction_id = 'same'") == [(1,)]


def test_a_bad_request_is_a_problem_and_a_bad_payment_is_not(server: ApiServer) -> None:
    for body in (
        {"transactions": []},
        {"transactions": [{"transaction_id": "a"}]},
        {"payments": [payment("a")]},
    ):
        answer = server.post("/score", body, "scorer")
        assert answer.status_code == 422
        assert answer.headers["content-type"].startswith("application/problem+json")
    places = [
        (b'{"transactions": [{"transaction_id": "a",}]}', "/body"),
        (b'{"transactions": [{"transaction_id": "a", "amount": NaN}]}', "/body/transactions/0/amount"),
        (b'{"transactions": [{"a/b": [[[[[[[1]]]]]]]}], "store": 7, "more": 1}', "/body/store"),
        (b'{"store": true}', "/body/transactions"),
    ]
    for content, pointer in places:
        answer = server.client("scorer").post("/api/v1/score", content=content, headers={"Content-Type": "application/json"})  # fmt: skip
        assert answer.status_code == 422, answer.text
        assert pointer in [each["pointer"] for each in answer.json()["errors"]], answer.text
    one = server.client("scorer").post("/api/v1/score", content=places[1][0], headers={"Content-Type": "application/json"})  # fmt: skip
    assert one.json()["errors"] == [{"pointer": places[1][1], "detail": "Input should be a finite number"}]
    kinds = server.post("/claims", {"transaction_ids": [7], "span": []}).json()["errors"]
    assert len(kinds) == len({each["pointer"] for each in kinds})
    good, bad = score(server, payment("a"), payment("b", amount="x"), store=True).json()["payments"]
    assert (good["status"], bad["status"]) == ("scored", "rejected")
    assert "amount" in bad["error"]
