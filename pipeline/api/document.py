"""The OpenAPI 3.1 document: what the routes say of themselves, every error with an example, and who may do what."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from pipeline.api.authorization import CSRF_HEADER
from pipeline.api.listing import CSV
from pipeline.api.problem_codes import PROBLEMS
from pipeline.api.problems import MEDIA_TYPE, Problem, problem_body
from pipeline.api.routes import ROUTES, Access

router = APIRouter(tags=["Health"])
EXAMPLES = "examples.json"  # answers of a server on simulated data, by operation; a test keeps them true
REQUEST_ID = "5f0c1d2e3b4a5968"
METHODS = ("get", "post", "delete")
ALWAYS = (400, 408, 413, 421, 422, 500, 503)  # statuses that any request may end with
DESCRIPTION = """
What programs do with the monitor. `docs/api.md` has a call for each task and says what is stable.

A program sends `Authorization: Bearer TOKEN`; a page of this server has the cookie of a session, and sends `X-CSRF-Token` with every
write. Lists are pages: `next_cursor` begins the next one. Amounts are exact decimals in strings, times RFC 3339 with their offset.
Every error is `application/problem+json`, and its `type` is an address of `/docs/problems.md`.
"""


@router.get("/openapi.json", operation_id="read_document", response_class=Response)
async def read(request: Request) -> Response:
    """Describe the API (OpenAPI 3.1)."""
    return Response(json.dumps(request.app.openapi(), ensure_ascii=False), media_type="application/json")


@lru_cache(maxsize=1)
def examples() -> Mapping[str, Mapping[str, Any]]:
    """By operation an example of its answer, and of its body if it has one."""
    text = files("pipeline.api").joinpath(EXAMPLES).read_text("utf-8")
    stored: Mapping[str, Mapping[str, Any]] = json.loads(text)
    return stored


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document of an app, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version="1",
            openapi_version="3.1.0",
            description=DESCRIPTION,
            routes=app.routes,
        )
        _describe_problems(document)
        for path, method, operation in operations(document):
            _complete(path, method, operation)
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": "fraudwatch"},
        }
        app.openapi_schema = document
    return app.openapi_schema


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of every operation."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield path, method, methods[method]


def _describe_problems(document: dict[str, Any]) -> None:
    """A response for each status, with an example for each of its codes."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs")
    schemas["Problem"] = schema
    schema["properties"]["code"]["enum"] = sorted(PROBLEMS)
    responses = document["components"].setdefault("responses", {})
    for status in sorted({problem.status for problem in PROBLEMS.values()}):
        codes = [code for code, problem in PROBLEMS.items() if problem.status == status]
        responses[f"Problem{status}"] = {
            "description": HTTPStatus(status).phrase,
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {code: {"value": _example(code)} for code in sorted(codes)},
                }
            },
        }


def _example(code: str) -> dict[str, Any]:
    errors = [{"pointer": "/query/limit", "detail": "Input should be less than or equal to 1000"}]
    current = {
        "version": "12-fraud",
        "status": "fraud",
        "verdict": "fraud",
        "by": "ann",
        "at": "2026-11-30T22:15:00Z",
    }
    return problem_body(
        code,
        "",
        REQUEST_ID,
        errors if code == "invalid_request" else (),
        current if code == "seen_another" else None,
    )


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    needed = ROUTES[method.upper(), path]
    statuses = {*ALWAYS, *_statuses(path, method, operation)}
    if needed is not Access.PUBLIC:
        statuses |= {401, 403, 429}
        operation["security"] = [{"token": []}, {"session": []}]
    if needed is not Access.PUBLIC and not isinstance(needed, Access):
        operation["description"] = (
            f"{operation.get('description', '')}\n\nPermission: `{needed.value}`.".strip()
        )
    if method != "get" and needed is not Access.PUBLIC:
        operation.setdefault("parameters", []).append(
            {
                "name": CSRF_HEADER, "in": "header", "required": False, "schema": {"type": "string"},
                "description": "Of a session of a browser; a token needs none.",
            }
        )  # fmt: skip
    responses = operation["responses"]
    responses.pop("422", None)
    for status in sorted(statuses):
        if str(status) not in responses:
            responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    for status, response in responses.items():
        if "$ref" not in response and status.startswith("2"):
            response["headers"] = {"X-Request-ID": {"schema": {"type": "string"}}}
            _add_examples(operation, status, response)


def _statuses(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[int]:
    yield 404  # a policy, model or flag that is not there
    if path.endswith("/session"):
        yield from (401, 403, 429)  # a log-in is refused without one
    if "requestBody" in operation:
        yield 415
    if method != "get" or path.endswith(("preview", "readiness", "newest")):
        yield 409


def _add_examples(operation: dict[str, Any], status: str, response: dict[str, Any]) -> None:
    example = examples().get(operation["operationId"], {})
    is_beside_another = any(code in operation["responses"] for code in ("200", "201", "204"))
    if status == "202" and is_beside_another:  # an approval, whatever was asked for
        example = {
            "answer": next(iter(examples().get("list_approvals", {}).get("answer", {}).get("items", [])), {})
        }
    content = response.get("content", {})
    json_part = content.get("application/json", {})
    if "Listing_" in json.dumps(json_part.get("schema", {})):
        content[CSV] = {"schema": {"type": "string"}, "example": example.get("csv", "")}
        response["headers"]["Link"] = {
            "description": 'The next page, rel="next".', "schema": {"type": "string"},
        }  # fmt: skip
    if json_part and "answer" in example:
        json_part["example"] = example["answer"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None and "body" in example:
        body["example"] = example["body"]
