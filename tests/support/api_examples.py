"""
One call of every operation of the API, in an order in which each finds what it needs.

Run as a script it writes the examples of the document: `python -m tests.support.api_examples`.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
from pydantic import SecretStr

from pipeline.api.problem_codes import problems_page
from pipeline.config.database import open_configured
from pipeline.config.sections import LimitSection, WebSection
from pipeline.services.users.users import NewUser, add_user
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.models.comparisons import TechniqueMetric
from tests.support.api import ApiServer, serving
from tests.support.comparisons import store_comparison
from tests.support.databases import SESSION_FOLDER, SqliteFiles, copy_world
from tests.support.users import PASSWORD
from tests.support.worlds import BACKFILLED, NOW, SMALL

TARGET = Path(__file__).parents[2] / "pipeline/api/examples.json"
PROBLEMS_PAGE = Path(__file__).parents[2] / "docs/problems.md"
LATER = (as_datetime(NOW) + timedelta(days=7)).isoformat().replace("+00:00", "Z")
LATE_ROWS = {
    "transactions": [
        {"transaction_id": "n1", "event_time": "2025-02-09T09:00:00Z", "amount": 12.5, "customer_id": "c1", "terminal_id": "m1"},
        {"transaction_id": "n2", "event_time": "yesterday", "amount": 3, "customer_id": "c1", "terminal_id": "m1"},
    ]
}  # fmt: skip
EXAMPLES = SMALL.model_copy(
    update={
        "limit": {"visa": LimitSection.model_validate({"basis_points": 90.0, "days": 30, "by": "payment"})},
        "web": WebSection.model_validate({"four_eyes": ["mute"]}),
    },
    deep=True,
)


@dataclass
class Call:
    """An operation, what was sent, and what came back."""

    operation: str
    body: Any
    response: httpx2.Response


def every_call(api: ApiServer) -> Iterator[Call]:
    """Call every operation once."""

    def get(operation: str, path: str, **more: Any) -> Call:
        return Call(operation, None, api.client().get(path, **more))

    def post(operation: str, path: str, body: Any = None, **more: Any) -> Call:
        return Call(operation, body, api.client().post(path, json=body, **more))

    def v1(path: str) -> str:
        return f"/api/v1{path}"

    for operation, path in (
        ("is_alive", "/healthz"),
        ("is_ready", "/readyz"),
        ("read_metrics", "/metrics"),
        ("read_problems", "/docs/problems.md"),
    ):
        yield get(operation, path)
    yield get("read_document", v1("/openapi.json"))
    listed = get("list_flags", v1("/flags?limit=1&order=score"))
    yield listed
    flag = listed.response.json()["items"][0]
    name, handle = flag["transaction_id"], flag["handles"]["customer_id"]
    others = [each["transaction_id"] for each in api.get("/flags?limit=9&order=time").json()["items"]]
    others = [each for each in others if each != name]
    yield get("count_flags", v1("/flags/count?status=open"))
    yield get("show_flag", v1(f"/flags/{name}"))
    yield get("list_missed", v1("/missed?limit=1&since=2025-01-01T00:00:00Z"))
    yield post("claim_flags", v1("/claims"), {"transaction_ids": [name], "span": "PT15M"})
    yield get("list_claims", v1("/claims?limit=1"))
    yield post("release_flags", v1("/claims/release"), {"transaction_ids": [name]})
    body = {"verdict": "fraud", "type": "stolen_card", "action": "blocked", "note": "called the customer"}
    yield post("record_verdict", v1(f"/transactions/{name}/verdict"), body | {"if_seen": flag["version"]})
    rows = [
        {"transaction_id": others[0], "verdict": "genuine", "note": "known device"},
        {"transaction_id": "nobody", "verdict": "fraud"},
    ]
    yield post("record_verdicts", v1("/verdicts"), {"verdicts": rows}, headers={"Idempotency-Key": "7f3a"})
    yield post(
        "undo_verdicts", v1("/verdicts/undo"), {"transaction_ids": [others[0]], "reason": "wrong line"}
    )
    yield get("list_verdicts", v1("/verdicts?limit=1"))
    yield post(
        "add_labels",
        v1("/labels"),
        {"transaction_ids": [others[1]], "verdict": "fraud", "source": "customer"},
    )
    yield get("list_labels", v1(f"/transactions/{others[1]}/labels?limit=1"))
    yield post(
        "retract_labels",
        v1("/labels/retract"),
        {"transaction_ids": [others[1]], "reason": "mistaken", "source": "customer"},
    )
    yield post("add_note", v1(f"/transactions/{name}/notes"), {"text": "waits for the bank"})
    yield get("list_notes", v1(f"/notes?limit=1&transaction_id={name}"))
    yield get("show_transaction", v1(f"/transactions/{name}"))
    yield post("find_entity", v1("/entities"), {"column": "customer_id", "value": "c1"})
    yield get("show_entity", v1(f"/entities/{handle}"))
    yield get("list_entity_transactions", v1(f"/entities/{handle}/transactions?limit=1"))
    target = {"kind": "entity", "column": "customer_id", "value": "c1"}
    yield post("add_mute", v1("/mutes"), {"target": target, "reason": "our own test card", "span": "P7D"})
    yield get("list_mutes", v1("/mutes?limit=1"))
    yield post("end_mute", v1("/mutes/1/end"))
    yield get("list_rule_names", v1("/rules/names"))
    yield post("preview_rule", v1("/rules/preview"), {"text": "amount > 500", "days": 28})
    yield post("add_rule", v1("/rules"), {"text": "amount > 500", "reason": "large", "until": LATER})
    yield get("list_rules", v1("/rules?limit=1"))
    yield post("end_rule", v1("/rules/1/end"))
    asked = {"transactions": [LATE_ROWS["transactions"][0] | {"transaction_id": "n0"}], "store": True}
    yield post("score", v1("/score"), asked)
    yield post("submit_transactions", v1("/transactions"), LATE_ROWS)
    labels = [
        {"transaction_id": name, "is_fraud": 1, "known_at": "2025-02-09T12:00:00Z", "source": "chargeback"},
        {"transaction_id": name, "is_fraud": "perhaps"},
    ]
    yield post("submit_labels", v1("/labels/submit"), {"labels": labels})
    yield get("list_feeds", v1("/feeds?limit=1"))
    yield get("list_waiting", v1("/waiting"))
    yield get("export_table", v1("/export/batches?format=csv"))
    yield get("list_models", v1("/models?limit=1"))
    yield get("show_model", v1("/models/1"))
    yield post(
        "promote_model", v1("/models/1/promote"), {"reason": "known to be good", "effective_from": LATER}
    )
    yield post("roll_back_model", v1("/models/rollback"), {"reason": "too many flags"})
    yield get("list_choices", v1("/choices?limit=1"))
    yield get("show_newest_choice", v1("/choices/newest"))
    yield get("show_choice", v1("/choices/1"))
    yield get("show_readiness", v1("/readiness"))
    yield get("list_comparisons", v1("/comparisons?limit=1"))
    yield get("show_comparison", v1("/comparisons/1"))
    yield get("compare_policies", v1("/policies/live/diff"))
    yield get("list_differences", v1("/policies/live/differences?limit=1"))
    yield get("list_drift", v1("/drift?limit=1"))
    yield get("list_quality", v1("/quality?limit=1"))
    yield get("list_rates", v1("/rates?limit=1"))
    yield get("list_limits", v1("/limits?limit=1"))
    yield get("list_messages", v1("/messages?limit=1"))
    yield get("list_runs", v1("/runs?limit=1"))
    yield get("list_gaps", v1("/gaps?limit=1"))
    yield get("list_windows", v1("/windows?limit=1"))
    yield get("list_backfills", v1("/backfills"))
    yield get("check_audit", v1("/audit/check"))
    yield get("list_audit", v1("/audit?limit=1"))
    values = {"values": [{"column": "customer_id", "value": "c1"}]}
    yield post("summarise_person", v1("/persons/summary"), values)
    yield post("export_person", v1("/persons/export"), values)
    yield post(
        "add_hold", v1("/holds"), {"column": "customer_id", "value": "c2", "reason": "court", "span": "P365D"}
    )
    yield get("list_holds", v1("/holds"))
    yield post("end_hold", v1("/holds/1/end"))
    yield post("erase_person", v1("/persons/erase"), values)
    yield post("add_user", v1("/users"), {"name": "eve", "role": "viewer", "password": PASSWORD})
    yield get("list_users", v1("/users"))
    yield post("set_role", v1("/users/eve/role"), {"role": "reviewer"})
    yield post("set_password", v1("/users/eve/password"), {"password": PASSWORD + "!"})
    yield post("disable_user", v1("/users/eve/disable"))
    yield post("enable_user", v1("/users/eve/enable"))
    yield from _of_sessions(api)
    issued = post("issue_token", v1("/tokens"), {"name": "checkout", "role": "scorer", "span": "P90D"})
    yield issued
    yield get("list_tokens", v1("/tokens"))
    yield post("revoke_token", v1(f"/tokens/{issued.response.json()['token']['token_id']}/revoke"))
    yield from _of_approvals(api)
    batch = api.post(
        "/transactions",
        LATE_ROWS | {"transactions": [LATE_ROWS["transactions"][0] | {"transaction_id": "n3"}]},
    )
    yield post("undo_batch", v1(f"/batches/{batch.json()['batch_id']}/undo"), {"reason": "sent by mistake"})
    yield post("undo_run", v1("/runs/1/undo"), {"reason": "wrong settings"})
    span: dict[str, object] = {"start": "2025-02-01T00:00:00Z", "end": "2025-02-03T00:00:00Z"}
    long_work: list[tuple[str, str, dict[str, object]]] = [
        ("start_run", "/runs", {"as_of": "2025-02-09T02:00:00Z"}),
        ("start_backfill", "/backfills", span),
        ("start_training", "/trainings", {"as_of": "2025-02-09T00:00:00Z"}),
        ("start_comparison", "/comparisons", {"folds": 2, "techniques": ["undersampling"]}),
    ]
    for operation, path, of_work in long_work:
        started = post(operation, v1(path), of_work)
        yield started
        job = started.response.json()["job_id"]
        yield get("show_job", v1(f"/jobs/{job}"))
        yield post("stop_job", v1(f"/jobs/{job}/stop"))
    yield get("list_jobs", v1("/jobs"))


def _of_sessions(api: ApiServer) -> Iterator[Call]:
    """What only a browser does."""
    body = {"name": "eve", "password": PASSWORD + "!"}
    with httpx2.Client(base_url=api.url, trust_env=False) as browser:
        begun = browser.post("/api/v1/session", json=body)
        yield Call("log_in", body, begun)
        yield Call("who_am_i", None, browser.get("/api/v1/session"))
        headers = {"X-CSRF-Token": begun.json()["csrf"]}
        passwords = {"old": PASSWORD + "!", "new": PASSWORD + "?"}
        changed = browser.post("/api/v1/session/password", json=passwords, headers=headers)
        yield Call("change_password", passwords, changed)
        headers = {"X-CSRF-Token": changed.json()["csrf"]}
        yield Call("log_out", None, browser.delete("/api/v1/session", headers=headers))


def _of_approvals(api: ApiServer) -> Iterator[Call]:
    """What one administrator asks for and another decides."""
    mute = {"target": {"kind": "channel", "channel": "audit"}, "reason": "nobody reads them", "span": "P60D"}
    with logged_in(api, "ada", "administrator") as ada, logged_in(api, "bob", "administrator") as bob:
        for _ in range(2):
            assert ada.post("/api/v1/mutes", json=mute).status_code == 202
        yield Call("list_approvals", None, bob.get("/api/v1/approvals?limit=1"))
        yield Call("reject", None, bob.post("/api/v1/approvals/1/reject"))
        yield Call("approve", None, bob.post("/api/v1/approvals/2/approve"))


@contextmanager
def logged_in(api: ApiServer, name: str, role: str) -> Iterator[httpx2.Client]:
    """A browser in which a new user has logged in."""
    add_user(api.session, NewUser(name, role, PASSWORD))
    with httpx2.Client(base_url=api.url, trust_env=False, timeout=30) as browser:
        begun = browser.post("/api/v1/session", json={"name": name, "password": PASSWORD})
        browser.headers["X-CSRF-Token"] = begun.json()["csrf"]
        yield browser


def fill(store: Store) -> None:
    """What no test's world has: a comparison of techniques."""
    results = [TechniqueMetric("undersampling", 1, "average_precision", 0.4, 0.3, 0.5)]
    curve = {"undersampling": {"recall": [0.1, 1.0], "precision": [0.9, 0.2]}}
    store_comparison(store, NOW, results, "undersampling is best", curve)


def example_of(call: Call) -> dict[str, Any]:
    """What the document shows of a call; secrets are not real ones."""
    example: dict[str, Any] = {}
    if call.body is not None:
        example["body"] = call.body
    if (
        call.response.headers.get("content-type", "").startswith("application/json")
        and call.operation != "read_document"
    ):
        example["answer"] = call.response.json()
    if call.operation in ("log_in", "who_am_i", "change_password"):
        example["answer"]["csrf"] = "Vq3R0kTz"
    if call.operation == "issue_token":
        example["answer"]["secret"] = "fw_2QhX"
    return example


def main() -> None:
    """Write the examples and the page of problems anew."""
    PROBLEMS_PAGE.write_text(problems_page(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.environ[SESSION_FOLDER] = folder
        engine = SqliteFiles(Path(folder))
        copy_world(engine, BACKFILLED, "examples")
        storage = EXAMPLES.storage.model_copy(update={"url": SecretStr(engine.url("examples"))})
        config = EXAMPLES.model_copy(update={"storage": storage})
        with open_configured(config) as store, serving(store, config) as api:
            fill(store)
            examples = {}
            for call in every_call(api):
                examples[call.operation] = example_of(call)
                print(call.operation, call.response.status_code)
                if (
                    "answer" in examples[call.operation]
                    and "next_cursor" in examples[call.operation]["answer"]
                ):
                    page = api.client().get(str(call.response.request.url), headers={"Accept": "text/csv"})
                    examples[call.operation]["csv"] = page.text
        TARGET.write_text(json.dumps(examples, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
