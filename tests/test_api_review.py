"""Review over HTTP: flags in pages, verdicts that see each other, batches row by row, notes, claims, masks, and traces of views."""

import base64
import csv
import io
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from pipeline.services.review.flags import FlagRequest, list_flags
from storage.frames import SECOND
from storage.review.idempotency import ANSWER_LIFETIME
from tests.support.api import ApiServer, serving
from tests.support.databases import Copier
from tests.support.sql import execute, query
from tests.support.worlds import FIRST_WEEK, NOW, SMALL


@pytest.fixture
def api(copier: Copier) -> Iterator[ApiServer]:
    """A server over a week of flags, on each engine."""
    with serving(copier(FIRST_WEEK), SMALL) as running:
        yield running


def ids_of(api: ApiServer, **filters: Any) -> list[str]:
    return [
        flag["transaction_id"]
        for flag in api.get("/flags", params={"limit": 1000, **filters}).json()["items"]
    ]


def at_once(number: int, work: Callable[[int], httpx2.Response]) -> list[httpx2.Response]:
    """The answers to requests that are sent at the same time."""
    answers: list[httpx2.Response] = []
    barrier = threading.Barrier(number)

    def run(place: int) -> None:
        barrier.wait()
        answers.append(work(place))

    threads = [threading.Thread(target=run, args=(place,)) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# Lists


@pytest.mark.parametrize("order", ["loss", "time", "score", "amount"])
def test_the_pages_of_flags_are_the_list(api: ApiServer, order: Any) -> None:
    whole = [flag.transaction_id for flag in list_flags(api.session, FlagRequest("live", order=order)).items]
    address, found = f"/flags?limit=2&order={order}", []
    while address:
        response = api.get(address)
        found += [flag["transaction_id"] for flag in response.json()["items"]]
        link = response.links.get("next", {}).get("url", "")
        assert bool(link) == (response.json()["next_cursor"] is not None)
        address = link.removeprefix("/api/v1")
    assert found == whole
    assert len(whole) > 5


def test_a_cursor_is_refused_by_another_list_other_filters_and_another_server(api: ApiServer) -> None:
    cursor = api.get("/flags?limit=1").json()["next_cursor"]
    assert api.get("/flags", params={"limit": 5, "cursor": cursor}).status_code == 200
    changed = cursor[:-2] + ("AA" if not cursor.endswith("AA") else "BB")
    wrong = [
        ("/flags?order=time", cursor), ("/flags?status=open", cursor), ("/verdicts", cursor), ("/drift", cursor),
        ("/flags", changed), ("/flags", cursor[1:]), ("/flags", ""), ("/flags", "WyJ4Il0"), ("/flags", "é"), ("/flags", "a" * 9_000),
    ]  # fmt: skip
    for path, value in wrong:
        separator = "&" if "?" in path else "?"
        response = api.get(f"{path}{separator}cursor={value}")
        assert (response.status_code, response.json()["code"]) == (400, "bad_cursor"), (path, value)
    plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert (
        re.search(rb"t\d{6}", plain + cursor.encode()) is None
    )  # it is sealed: no id can be read from an address


def test_a_list_is_csv_for_those_who_ask_and_begins_no_formula(api: ApiServer) -> None:
    name = ids_of(api)[0]
    api.post(f"/transactions/{name}/verdict", {"verdict": "fraud", "note": "=cmd|' /C calc'!A0"})
    pages = [
        api.get("/flags?limit=1000&format=csv"), api.get("/flags?limit=1000", headers={"Accept": "text/csv"}),
    ]  # fmt: skip
    assert pages[0].text == pages[1].text
    assert pages[0].headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(pages[0].text)))
    assert [row["transaction_id"] for row in rows] == ids_of(api)
    assert rows[0]["amount.currency"] == "EUR"
    assert rows[0]["verdict_note"].startswith("'=")
    both = api.get("/flags", headers={"Accept": "application/json, text/csv"})
    assert both.headers["content-type"] == "application/json"


def test_filters_take_what_sql_would_misread_and_slips_of_the_pen_are_refused(api: ApiServer) -> None:
    everything = len(ids_of(api))
    for text in ("' OR 1=1 --", "live' UNION SELECT 1 --", "%", "_", "\\", "x" * 200, "💥", "\u202e"):
        assert api.get("/flags", params={"policy": text}).json()["items"] == [], text
        assert api.get("/verdicts", params={"transaction_id": text}).status_code == 404
        assert api.get("/flags", params={"channel": text}).json()["code"] == "unknown_channel"
    assert len(ids_of(api)) == everything
    for name in ("polcy", "Status", "limit[]", "order "):
        response = api.get("/flags", params={name: "x"})
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, f"/query/{name}")
    told = api.get("/flags", params={"stauts": "open"}).json()
    assert told["errors"] == [
        {"pointer": "/query/stauts", "detail": "there is no such parameter, did you mean status?"}
    ]
    assert told["detail"].startswith(
        "there is no parameter stauts, did you mean status?; parameters of this address: "
    )
    slips = {"verdicts": [{"transaction_id": "1", "verdikt": "fraud"}], "verdict": []}
    errors = {each["pointer"]: each["detail"] for each in api.post("/verdicts", slips).json()["errors"]}
    assert errors["/body/verdicts/0/verdikt"] == "there is no member verdikt, did you mean verdict?"
    assert errors["/body/verdict"] == "there is no member verdict, did you mean verdicts?"
    hidden = {"target": {"kind": "entity", "colunm": "card_id", "value": "1"}, "reason": "x", "span": "P7D"}
    assert "there is no member colunm, did you mean column?" in api.post("/mutes", hidden).text
    for query_, pointer in (
        ("limit=0", "/query/limit"), ("limit=1001", "/query/limit"), ("min_score=nan", "/query/min_score"), ("status=shut", "/query/status"),
        ("since=2025-01-01", "/query/since"), ("since=2025-01-01T00:00:00", "/query/since"), ("until=0001-01-01T00:00:00%2B14:00", "/query/until"),
        ("policy=%ED%A0%80", None), ("policy=%00", None), ("policy=%ff", None),
    ):  # fmt: skip
        response = api.get(f"/flags?{query_}")
        if pointer is None:
            assert (response.status_code, response.json()["code"]) == (400, "bad_request"), query_
        else:
            assert response.status_code == 422, query_
            assert [each["pointer"] for each in response.json()["errors"]] == [pointer]


# Verdicts


def test_a_verdict_on_a_version_that_somebody_has_answered_says_who_answered_what(api: ApiServer) -> None:
    name = ids_of(api)[0]
    seen = api.get(f"/flags/{name}").json()["version"]
    first = api.post(f"/transactions/{name}/verdict", {"verdict": "fraud", "if_seen": seen}, role="reviewer")
    assert first.status_code == 200
    second = api.post(f"/transactions/{name}/verdict", {"verdict": "genuine", "note": "?", "if_seen": seen})
    assert (second.status_code, second.json()["code"]) == (409, "seen_another")
    current = second.json()["current"]
    assert (current["verdict"], current["by"], current["status"]) == ("fraud", "token test reviewer", "fraud")
    assert (
        current["version"]
        == first.json()["current"]["version"]
        == api.get(f"/flags/{name}").json()["version"]
    )
    again = {"verdict": "genuine", "note": "called the customer", "if_seen": current["version"]}
    assert api.post(f"/transactions/{name}/verdict", again).status_code == 200
    undone = api.post("/verdicts/undo", {"transaction_ids": [name], "reason": "wrong line"})
    assert undone.status_code == 200
    assert api.post(f"/transactions/{name}/verdict", again).status_code == 409  # an undo is seen, too


def test_a_batch_is_answered_row_by_row(api: ApiServer) -> None:
    first, second, third, *_ = ids_of(api)
    seen = api.get(f"/flags/{third}").json()["version"]
    rows = [
        {"transaction_id": first, "verdict": "fraud", "type": "scam"}, {"transaction_id": "nobody", "verdict": "fraud"},
        {"transaction_id": second, "verdict": "fraud", "type": "unheard of"}, {"transaction_id": third, "verdict": "fraud", "if_seen": seen},
        {"transaction_id": "t000001", "verdict": "no_opinion"}, {"transaction_id": second, "verdict": "fraud"},
    ]  # fmt: skip
    assert api.post("/verdicts", {"verdicts": rows}).json()["code"] == "repeated_transaction"
    rows.pop()
    response = api.post("/verdicts", {"verdicts": rows})
    assert response.status_code == 200
    codes = [(row["transaction_id"], row["code"]) for row in response.json()["results"]]
    assert codes == [
        (first, None), ("nobody", "unknown_transaction"), (second, "unknown_fraud_type"), (third, None), ("t000001", "no_flag"),
    ]  # fmt: skip
    stored = query(api.session.store, "SELECT transaction_id FROM verdicts ORDER BY transaction_id")
    assert [name for (name,) in stored] == sorted([first, third])


def test_the_same_key_with_the_same_body_does_nothing_twice_and_another_body_is_refused(
    api: ApiServer,
) -> None:
    name, other, *_ = ids_of(api)
    body = {
        "verdicts": [
            {"transaction_id": name, "verdict": "fraud"},
            {"transaction_id": "nobody", "verdict": "fraud"},
        ]
    }
    key = {"Idempotency-Key": "a-1"}
    first = api.post("/verdicts", body, headers=key)
    second = api.post("/verdicts", body, headers=key)
    assert first.json() == second.json()
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (
        False,
        "true",
    )
    changed = {"verdicts": [{"transaction_id": other, "verdict": "fraud"}]}
    refused = api.post("/verdicts", changed, headers=key)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert (
        api.post("/verdicts", changed, headers=key, role="reviewer").status_code == 200
    )  # keys are the caller's own
    assert query(api.session.store, "SELECT COUNT(*) FROM verdicts") == [(2,)]
    note = f"/transactions/{name}/notes"
    notes = [api.post(note, {"text": "waits"}, headers={"Idempotency-Key": "n"}) for _ in range(2)]
    assert [each.status_code for each in notes] == [201, 201]
    assert notes[0].json() == notes[1].json()
    assert len(api.get(f"/notes?transaction_id={name}").json()["items"]) == 1
    for bad in ("", "x" * 256, "é"):
        response = api.post(note, {"text": "x"}, headers={"Idempotency-Key": bad.encode()})
        assert (response.status_code, response.json()["code"]) == (400, "bad_idempotency_key")


def test_an_answer_is_kept_for_a_day(copier: Copier) -> None:
    store = copier(FIRST_WEEK)
    with serving(store, SMALL) as api:
        name = ids_of(api)[0]
        body, key = {"text": "waits"}, {"Idempotency-Key": "n"}
        api.post(f"/transactions/{name}/notes", body, headers=key)
    for now, notes in ((NOW + ANSWER_LIFETIME - SECOND, 1), (NOW + ANSWER_LIFETIME + SECOND, 2)):
        with serving(store, SMALL, now) as api:
            headers = {"Authorization": f"Bearer {api.token('administrator')}"}
            execute(
                store,
                "UPDATE idempotency_keys SET caller = 'token ' || (SELECT MAX(token_id) FROM api_tokens)",
            )
            api.client(None).post(f"/api/v1/transactions/{name}/notes", json=body, headers={**key, **headers})
            assert query(store, "SELECT COUNT(*) FROM notes") == [(notes,)]


def test_of_many_who_answer_the_same_version_at_once_one_wins(api: ApiServer) -> None:
    name = ids_of(api)[0]
    seen, headers = api.get(f"/flags/{name}").json()["version"], dict(api.client().headers)

    def answer(place: int) -> httpx2.Response:
        body = {"verdict": "fraud", "note": f"{place}", "if_seen": seen}
        return httpx2.post(
            f"{api.url}/api/v1/transactions/{name}/verdict",
            json=body,
            headers=headers,
            timeout=30,
            trust_env=False,
        )

    statuses = sorted(each.status_code for each in at_once(8, answer))
    assert statuses == [200, *[409] * 7]
    assert query(api.session.store, "SELECT COUNT(*) FROM verdicts") == [(1,)]


def test_of_many_who_send_the_same_key_at_once_one_writes(api: ApiServer) -> None:
    name, headers = ids_of(api)[0], dict(api.client().headers) | {"Idempotency-Key": "k"}

    def note(_place: int) -> httpx2.Response:
        address = f"{api.url}/api/v1/transactions/{name}/notes"
        return httpx2.post(address, json={"text": "once"}, headers=headers, timeout=30, trust_env=False)

    answers = at_once(8, note)
    assert {each.status_code for each in answers} == {201}
    assert len({each.text for each in answers}) == 1
    assert query(api.session.store, "SELECT COUNT(*) FROM notes") == [(1,)]


# Claims


def test_a_flag_is_claimed_by_one_until_the_claim_ends_or_a_verdict_is_there(copier: Copier) -> None:
    store = copier(FIRST_WEEK)
    with serving(store, SMALL) as api:
        name, other, *_ = ids_of(api)
        mine = api.post(
            "/claims", {"transaction_ids": [name, "nobody"], "span": "PT10M"}, role="reviewer"
        ).json()["results"]
        assert [(each["transaction_id"], each["by"]) for each in mine] == [
            (name, "token test reviewer"),
            ("nobody", None),
        ]
        unflagged = query(store, "SELECT MIN(transaction_id) FROM transactions WHERE transaction_id NOT IN (SELECT transaction_id FROM flags)")[0][0]  # fmt: skip
        missing = api.post("/claims", {"transaction_ids": [name, unflagged, "nobody"], "span": "PT10M"}, role="reviewer").json()["results"]  # fmt: skip
        assert [each["code"] for each in missing] == [None, "no_flag", "unknown_transaction"]
        assert missing[2]["message"] == "there is no transaction 'nobody'"
        (unknown,) = api.post("/verdicts", {"verdicts": [{"transaction_id": "nobody", "verdict": "fraud"}]}).json()["results"]  # fmt: skip
        assert unknown["remedy"] == "nothing was written of this row; the others stand by themselves"
        theirs = api.post("/claims", {"transaction_ids": [name, other]}).json()["results"]
        assert [(each["by"], each["code"]) for each in theirs] == [
            ("token test reviewer", "claimed"),
            ("token test administrator", None),
        ]
        assert theirs[0]["message"] == f"somebody else works on transaction {name!r}"
        assert api.get(f"/flags/{name}").json()["claimed_by"] == "token test reviewer"
        assert api.post("/claims/release", {"transaction_ids": [name]}).json()["transaction_ids"] == []
        api.post(f"/transactions/{other}/verdict", {"verdict": "fraud"})
        assert [each["transaction_id"] for each in api.get("/claims").json()["items"]] == [name]
        for span in ("PT0S", "P1D", "-PT5M", "soon", 1e30):
            assert api.post("/claims", {"transaction_ids": [name], "span": span}).status_code == 422, span
    with serving(store, SMALL, NOW + 601 * SECOND) as later:
        headers = {"Authorization": f"Bearer {later.token('auditor')}"}
        assert later.client(None).get("/api/v1/claims", headers=headers).json()["items"] == []
        assert later.client(None).get(f"/api/v1/flags/{name}", headers=headers).json()["claimed_by"] is None


def test_of_many_who_claim_at_once_one_wins(api: ApiServer) -> None:
    name, tokens = ids_of(api)[0], [api.token("reviewer") for _ in range(2)]
    execute(api.session.store, "UPDATE api_tokens SET name = 'p' || token_id")

    def claim(place: int) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {tokens[place % 2]}"}
        address = f"{api.url}/api/v1/claims"
        return httpx2.post(
            address, json={"transaction_ids": [name]}, headers=headers, timeout=30, trust_env=False
        )

    assert len({each.json()["results"][0]["by"] for each in at_once(8, claim)}) == 1


# What is seen, and who saw it


def test_a_viewer_sees_no_value_of_an_entity_and_no_note_in_any_list(api: ApiServer) -> None:
    name = ids_of(api)[0]
    whole = api.get(f"/flags/{name}").json()
    customer, handle = whole["fields"]["customer_id"], whole["handles"]["customer_id"]
    quoted = f"customer {customer} called"
    api.post(f"/transactions/{name}/verdict", {"verdict": "fraud", "note": quoted})
    api.post(f"/transactions/{name}/notes", {"text": quoted})
    api.post(
        "/mutes",
        {
            "target": {"kind": "entity", "column": "customer_id", "value": customer},
            "reason": quoted,
            "span": "P1D",
        },
    )
    api.post("/rules", {"text": f'customer_id = "{customer}"', "reason": quoted, "span": "P1D"})
    paths = (
        f"/flags/{name}", "/flags?limit=1000", "/flags?limit=1000&format=csv", f"/transactions/{name}", f"/entities/{handle}",
        f"/entities/{handle}/transactions?limit=1000", "/verdicts", "/notes", "/mutes", "/rules", f"/transactions/{name}/labels",
        "/rates?per=customer_id", "/audit",
    )  # fmt: skip
    for path in paths:
        for role in ("viewer", "auditor"):
            text = api.get(path, role=role).text
            assert f'"{customer}"' not in text, (path, role)
            assert f",{customer}," not in text, (path, role)
            assert quoted not in text, (path, role)
    assert quoted in api.get("/notes", role="reviewer").text
    assert api.get(f"/flags/{name}", role="viewer").json()["handles"]["customer_id"] == handle


def test_an_entity_is_named_in_addresses_by_its_handle_only(api: ApiServer) -> None:
    found = api.post("/entities", {"column": "customer_id", "value": "c1"}).json()
    flagged = ids_of(api, entity=found["handle"])
    timeline = api.get(f"/entities/{found['handle']}/transactions?limit=1000").json()["items"]
    assert {row["fields"]["customer_id"] for row in timeline} == {"c1"}
    assert set(flagged) <= {row["transaction_id"] for row in timeline}
    assert timeline == sorted(timeline, key=lambda row: row["event_time"], reverse=True)
    stored = query(api.session.store, "SELECT COUNT(*) FROM transactions WHERE customer_id = 'c1'")
    assert [(len(timeline),)] == stored
    for wrong in ("c1", "x", found["handle"][:-1], "é"):
        assert api.get(f"/entities/{wrong}/transactions").json()["code"] == "bad_handle"


def test_whoever_looks_at_peoples_data_is_in_the_audit_trail_with_the_number_of_rows(api: ApiServer) -> None:
    name, handle = (
        ids_of(api)[0],
        api.post("/entities", {"column": "customer_id", "value": "c1"}).json()["handle"],
    )
    api.get(f"/flags/{name}", role="viewer")
    api.get(f"/entities/{handle}/transactions?limit=3", role="reviewer")
    api.get("/export/batches")
    api.get("/drift")
    api.flush()
    rows = query(
        api.session.store,
        "SELECT actor, action, subject, after FROM audit WHERE actor LIKE 'token%' ORDER BY audit_id",
    )
    views = [(actor.removeprefix("token test "), action, subject) for actor, action, subject, _ in rows]
    assert views == [
        ("administrator", "view flags", "live"), ("viewer", "view flag", name), ("reviewer", "view entity", "customer_id"),
        ("administrator", "export", "batches"),
    ]  # fmt: skip
    assert '"rows": 3' in str(rows[2][3]).replace("'", '"')
