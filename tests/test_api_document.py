"""The OpenAPI document is what the server does: every operation, every answer, every error, each with an example."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.api.document import EXAMPLES as EXAMPLES_FILE
from pipeline.api.document import operations
from pipeline.api.problem_codes import PROBLEMS, problems_page
from pipeline.api.problems import MEDIA_TYPE
from pipeline.api.routes import API, ROUTES
from tests.support.api import ApiServer, serving
from tests.support.api_examples import EXAMPLES, every_call, fill
from tests.support.databases import Copier
from tests.support.worlds import BACKFILLED

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.one_engine


@pytest.fixture
def api(copier: Copier) -> Iterator[ApiServer]:
    store = copier(BACKFILLED, EXAMPLES)
    with serving(store, EXAMPLES) as running:
        fill(store)
        yield running


def schema_of(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    return part | {"components": document["components"]}


def validate(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    jsonschema.Draft202012Validator(schema_of(document, schema)).validate(value)


def resolved(document: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    name = response.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["responses"][name] if name else response
    return found


def test_every_operation_answers_as_the_document_says(api: ApiServer) -> None:
    document = api.get("/openapi.json").json()
    by_id = {operation["operationId"]: operation for _, _, operation in operations(document)}
    called = {}
    for call in every_call(api):
        response = call.response
        assert response.status_code < 300, (call.operation, response.text)
        described = resolved(document, by_id[call.operation]["responses"][str(response.status_code)])
        kind = response.headers.get("content-type", "").partition(";")[0]
        if kind == "application/json" and call.operation not in ("read_document", "export_person"):
            validate(document, described["content"][kind]["schema"], response.json())
        called[call.operation] = kind
    assert set(called) == set(by_id)


def test_the_document_has_every_route_of_the_table_and_no_other(api: ApiServer) -> None:
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, method, _ in operations(document)}
    assert described == {route for route in ROUTES if not route[1].startswith("/oidc/")}  # pages for browsers


def test_every_answer_and_every_error_has_an_example_that_is_valid(api: ApiServer) -> None:
    document = api.get("/openapi.json").json()
    for path, method, operation in operations(document):
        place = f"{method} {path}"
        for status, response in operation["responses"].items():
            for kind, content in resolved(document, response).get("content", {}).items():
                examples = [each["value"] for each in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                if kind in ("application/json", MEDIA_TYPE, "text/csv") and path.startswith(API):
                    assert examples or content.get("schema") in ({}, {"type": "string"}), (
                        f"{place} {status} {kind}"
                    )
                for example in examples:
                    validate(document, content["schema"], example)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if body:
            assert "example" in body, place
            validate(document, body["schema"], body["example"])


def test_the_examples_hold_no_secret_of_a_session_or_a_token() -> None:
    text = (ROOT / "pipeline/api" / EXAMPLES_FILE).read_text("utf-8")
    assert [found for found in re.findall(r"\b[0-9a-f]{64}\b", text) if f'"csrf": "{found}"' in text] == []
    assert re.findall(r"fw_[\w-]{8,}", text) == []


# Problems


def literal_codes() -> Iterator[str]:
    """Every code that an error of services and what is beneath them can have."""
    for package in ("pipeline", "storage", "detectors"):
        for path in (ROOT / package).rglob("*.py"):
            if path.parts[len(ROOT.parts) + 1] in ("cli", "daemon"):
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield from (
                        keyword.value.value
                        for keyword in node.keywords
                        if keyword.arg == "code"
                        and isinstance(keyword.value, ast.Constant)
                        and keyword.value.value
                    )
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ApiError" and node.args:
                    first = node.args[0]
                    yield from [first.value] if isinstance(first, ast.Constant) else []
                if isinstance(node, ast.ClassDef):
                    yield from (
                        statement.value.value
                        for statement in node.body
                        if isinstance(statement, ast.Assign | ast.AnnAssign)
                        and "code" in {getattr(each, "id", "") for each in targets(statement)}
                        and isinstance(statement.value, ast.Constant)
                        and statement.value.value
                    )


def targets(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


MADE = {  # codes that are put together
    *(f"{noun}_ended" for noun in ("rule", "mute")), *(f"unknown_{noun}" for noun in ("rule", "mute")),
    "batch_loading", "batch_withdrawn", "answered", "no_flag", "no_label", "no_verdict", "overrules", "seen_another",
    "unreadable", "bug", "out_of_memory", "invalid_request", "claimed",
}  # fmt: skip


def test_the_page_of_problems_explains_every_code_and_no_other() -> None:
    codes = {*literal_codes(), *MADE} - {"locked"}  # a lock is said to be "busy"
    assert codes - PROBLEMS.keys() == set()
    assert PROBLEMS.keys() - codes == set()
    page = (ROOT / "docs/problems.md").read_text("utf-8")
    assert page == problems_page(), "python -m tests.support.api_examples writes it anew"
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == set(PROBLEMS)


def test_the_server_answers_the_page_that_problems_refer_to(api: ApiServer) -> None:
    problem = api.get("/nothing").json()
    page, _, code = problem["type"].partition("#")
    assert f"## {code}\n" in api.client(None).get(page).text


def test_the_page_of_the_api_has_a_call_of_every_operation(api: ApiServer) -> None:
    document = api.get("/openapi.json").json()
    text = (ROOT / "docs/api.md").read_text("utf-8")
    missing = []
    for path, method, _ in operations(document):
        pattern = re.sub(r"\\\{\w+\\\}", r"[^\\s/?\"']+", re.escape(path.replace(API, "$FRAUD")))
        calls = re.findall(rf"^.*curl.*{pattern}(?=[\s?\"']|$).*$", text, re.MULTILINE)
        if not any(("-X DELETE" in call) == (method == "delete") for call in calls):
            missing.append(f"{method} {path}")
    assert missing == []
