"""Transactions over HTTP, by the typed client: told apart by their ids, each row with its own answer, none doubled, none lost."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.api.client import ApiProblem, Client
from pipeline.services.review.verdicts import VerdictRow
from storage.database import leases
from storage.frames import SECOND
from storage.ingest.batches import LEASE
from tests.support.api import ApiServer, serving
from tests.support.databases import Copier, Opener
from tests.support.sql import query
from tests.support.worlds import FIRST_WEEK, SMALL


@pytest.fixture
def api(opener: Opener) -> Iterator[ApiServer]:
    """A server over an empty database, on each engine."""
    with serving(opener(SMALL), SMALL) as running:
        yield running


@pytest.fixture
def client(api: ApiServer) -> Iterator[Client]:
    """A client that may do everything."""
    with Client(api.url, api.token("administrator")) as client:
        yield client


def row(name: str, amount: float = 5.0, **more: Any) -> dict[str, Any]:
    return {
        "transaction_id": name, "event_time": "2025-02-09T10:00:00Z", "amount": amount, "customer_id": "c1", "terminal_id": "m1", **more,
    }  # fmt: skip


def statuses(client: Client, *rows: dict[str, Any]) -> list[str]:
    return [result.status for result in client.submit(rows).results]


def stored(api: ApiServer) -> list[tuple[Any, ...]]:
    return query(api.session.store, "SELECT transaction_id, amount FROM transactions ORDER BY transaction_id")


def test_each_row_says_what_became_of_it(api: ApiServer, client: Client) -> None:
    assert statuses(client, row("a"), row("b")) == ["accepted", "accepted"]
    assert statuses(client, row("a"), row("b")) == ["duplicate", "duplicate"]  # the same request again
    assert statuses(client, row("a"), row("c"), row("b", 6.0), row("c")) == [
        "duplicate",
        "accepted",
        "revised",
        "duplicate",
    ]
    assert [name for name, _ in stored(api)] == ["a", "b", "c"]
    revisions = query(api.session.store, "SELECT transaction_id, revision, amount FROM revisions")
    assert [(name, number, float(amount)) for name, number, amount in revisions] == [("b", 1, 6.0)]
    assert [api.get(f"/transactions/{name}").json()["revision"] for name in "ab"] == [0, 1]


def test_single_rows_may_lack_a_field_but_hold_neither_card_numbers_nor_lists(
    api: ApiServer, client: Client
) -> None:
    without = {key: value for key, value in row("a").items() if key != "terminal_id"}
    card = row("b", customer_id="4111111111111111")
    results = client.submit([without, card]).results
    assert [each.status for each in results] == ["accepted", "rejected"]
    assert "customer_id holds a card number" in (results[1].reason or "")
    with pytest.raises(ApiProblem, match="/body/transactions/0/customer_id"):
        client.submit([row("c", customer_id=["c1"])])
    assert [name for name, _ in stored(api)] == ["a"]
    kept = query(api.session.store, "SELECT row FROM rejected_rows WHERE reason LIKE '%card number%'")
    assert "4111111111111111" not in str(kept)


def test_a_row_that_is_rejected_says_why_and_fails_no_other_now_and_when_it_is_sent_again(
    api: ApiServer, client: Client
) -> None:
    rows = [row("a"), row("b") | {"event_time": "yesterday"}, row("c") | {"amount": "much"}, row("")]
    for good in ("accepted", "duplicate"):
        results = client.submit(rows).results
        assert [each.status for each in results] == [good, "rejected", "rejected", "rejected"]
        assert [each.reason is None for each in results] == [True, False, False, False]
        assert "event_time" in str(results[1].reason)
        assert "amount" in str(results[2].reason)
    assert [name for name, _ in stored(api)] == ["a"]
    assert query(api.session.store, "SELECT COUNT(*) FROM rejected_rows") == [(3,)]
    assert statuses(client, rows[1]) == ["rejected"]
    assert statuses(client, rows[1]) == ["rejected"]


def test_what_was_sent_is_shown_with_exact_money_and_a_handle(client: Client) -> None:
    client.submit([row("a/b c", 12.34, note=None)])
    payment = client.transaction("a/b c")
    assert (str(payment.amount.value), payment.amount.currency) == ("12.34", "EUR")
    assert (payment.score, payment.status, payment.is_fraud) == (None, None, None)
    entity = client.entity("customer_id", "c1")
    assert payment.handles["customer_id"] == entity.handle
    assert [each.transaction_id for each in client.timeline(entity.handle)] == ["a/b c"]
    with pytest.raises(ApiProblem) as caught:
        client.transaction("a")
    assert (caught.value.problem.status, caught.value.problem.code) == (404, "unknown_transaction")


def test_rows_that_cannot_be_read_are_refused_together(api: ApiServer) -> None:
    deep = row("a") | {"customer_id": {"a": {"b": {"c": 1}}}}
    for body, pointer in (
        ({"transactions": []}, "/body/transactions"), ({"transactions": [row("a")] * 1_001}, "/body/transactions"),
        ({"transactions": ["a"]}, "/body/transactions/0"), ({"transactions": [deep]}, None), ({"rows": []}, "/body/transactions"),
        ({"transactions": [row("a")], "history": "perhaps"}, "/body/history"),
    ):  # fmt: skip
        response = api.post("/transactions", body)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), body
        assert pointer is None or pointer in [each["pointer"] for each in response.json()["errors"]]
    missing = api.post("/transactions", {"transactions": [{"transaction_id": "a"}]})
    assert (missing.status_code, missing.json()["code"]) == (422, "missing_column")
    assert stored(api) == []


def test_labels_of_a_program_are_stored_once_and_say_why_one_is_rejected(
    api: ApiServer, client: Client
) -> None:
    client.submit([row("a"), row("b")])
    label = {"transaction_id": "a", "is_fraud": 1, "known_at": "2025-02-09T12:00:00Z", "source": "chargeback"}
    body = {"labels": [label, {**label, "transaction_id": "b", "is_fraud": "perhaps"}]}
    for accepted, duplicate in ((1, 0), (0, 1)):
        answer = api.post("/labels/submit", body, role="scorer").json()
        assert (answer["accepted"], answer["duplicate"]) == (accepted, duplicate)
        assert [each["row"] for each in answer["rejected"]] == [1]
    more = api.post("/labels/submit", {"labels": [label, {**label, "transaction_id": "b"}]}).json()
    assert (more["accepted"], more["duplicate"], more["rejected"]) == (1, 1, [])
    assert [client.transaction(name).is_fraud for name in ("a", "b")] == [True, True]


def test_many_who_send_the_same_transactions_at_once_store_each_once(api: ApiServer) -> None:
    token, found = api.token("scorer"), list[str]()

    def send(place: int) -> None:
        with Client(api.url, token) as client:
            for result in client.submit([row("same"), row(f"own{place}")]).results:
                found.append(result.status)

    threads = [threading.Thread(target=send, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["accepted"] * 9 + ["duplicate"] * 7
    assert len(stored(api)) == 9


def test_while_another_process_ingests_a_sender_waits_and_is_told_to_repeat(
    api: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.services.data.transactions.WAIT_S", 0.2)
    with leases.hold(api.session.store, LEASE, "another ingest", 60 * SECOND):
        with pytest.raises(ApiProblem) as caught:
            client.submit([row("a")])
        assert (caught.value.problem.status, caught.value.problem.code, caught.value.retry_after) == (
            503,
            "busy",
            2,
        )
    assert statuses(client, row("a")) == ["accepted"]


def test_the_client_pages_answers_and_says_what_is_wrong(copier: Copier) -> None:
    store = copier(FIRST_WEEK)
    with serving(store, SMALL) as api, Client(api.url, api.token("reviewer")) as client:
        flags = list(client.flags(order="time", limit=2))
        assert len(flags) == query(store, "SELECT COUNT(*) FROM flags")[0][0]
        first, second = flags[:2]
        assert client.flag(first.transaction_id) == first
        assert client.claim([first.transaction_id])[0].by == "token test reviewer"
        result = client.verdict(first.transaction_id, "fraud", if_seen=first.version)
        assert (result.code, result.current.verdict) == (None, "fraud")
        with pytest.raises(ApiProblem, match="seen_another") as caught:
            client.verdict(first.transaction_id, "genuine", note="?", if_seen=first.version)
        assert caught.value.problem.current["by"] == "token test reviewer"
        rows = [VerdictRow(second.transaction_id, "fraud"), VerdictRow("nobody", "fraud")]
        for _ in range(2):
            assert [each.code for each in client.verdicts(rows, "k").results] == [None, "unknown_transaction"]
        assert (
            client.note(first.transaction_id, "paid by card 4111 1111 1111 1111").text
            == "paid by card •••• 1111"
        )
        with pytest.raises(ApiProblem, match="not_allowed"):
            client.submit([row("x")])
