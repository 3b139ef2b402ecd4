"""Errors as `application/problem+json` (RFC 9457), for all statuses from 400 on."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pipeline.api.problem_codes import PAGE, PROBLEMS
from pipeline.config.key_names import did_you_mean
from pipeline.errors import FraudwatchError
from pipeline.expected_errors import EXPECTED_ERRORS, error_code
from pipeline.logs import bug

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = {
    **dict.fromkeys(
        (
            "busy", "locked", "step_running", "step_taken", "unreachable", "provider_unreachable", "cancelled", "overloaded", "timeout",
        ),
        2,  # what a short write of another process takes at most
    ),
    "too_many_log_ins": 15 * 60,  # in which failures count
}  # fmt: skip
CODE_OF_STATUS = {
    404: "no_route",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}
ERRORS_MAX = 100  # that one answer lists
WRONG_MAX = 10 * ERRORS_MAX  # that are looked at: of one value there may be several


class ProblemError(BaseModel):
    """One value of the request that is wrong."""

    pointer: str  # RFC 6901, beginning with /body, /query, /path or /header
    detail: str


class Problem(BaseModel):
    """What the API answers with when it cannot do what was asked."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemError] = []
    current: Any = None


class ApiError(FraudwatchError):
    """An error of the API itself, by a code of `PROBLEMS`; `current` and `errors` go into the answer."""

    code = "bad_request"

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        current: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or PROBLEMS[code].title, code=code)
        self.errors = errors
        self.current = current
        self.headers = headers or {}


def problem_type(code: str) -> str:
    """The address of the explanation of a code."""
    return f"{PAGE}#{code}"


def problem_body(
    code: str, detail: str, request_id: str, errors: Sequence[Mapping[str, str]] = (), current: Any = None
) -> dict[str, Any]:
    """The members of a problem."""
    kind = PROBLEMS[code]
    body: dict[str, Any] = {
        "type": problem_type(code), "title": kind.title, "status": kind.status, "detail": detail or kind.title, "code": code,
        "request_id": request_id,
    }  # fmt: skip
    if errors:
        body["errors"] = list(errors)[:ERRORS_MAX]
    if current is not None:
        body["current"] = current
    return body


def problem_response(
    code: str,
    detail: str,
    request_id: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    current: Any = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer with a problem."""
    body = problem_body(code, detail, request_id, errors, current)
    more = {"Retry-After": str(RETRY_AFTER_S[code])} if code in RETRY_AFTER_S else {}
    if body["status"] == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, body["status"], {**more, **(headers or {})}, MEDIA_TYPE)


def request_id_of(request: Request) -> str:
    """The id that the middleware gave to a request."""
    return str(request.scope["state"]["request_id"])


def problem_of_error(error: Exception, request_id: str) -> JSONResponse:
    """
    The answer to an error: an expected one by its code, any other as a bug that the log explains.

    A bug's text may hold values of rows, so it does not go out.
    """
    if isinstance(error, ApiError):
        return problem_response(
            error.code,
            error.message,
            request_id,
            errors=error.errors,
            current=error.current,
            headers=error.headers,
        )
    code = error_code(error)
    if code == "locked":  # of no interest to callers: somebody else is writing, and a moment later they may
        return problem_response("busy", "another program is writing", request_id)
    if isinstance(error, EXPECTED_ERRORS) and code in PROBLEMS:
        return problem_response(code, str(error), request_id)
    bug("request_failed", error, request_id=request_id)
    return problem_response("out_of_memory" if isinstance(error, MemoryError) else "bug", "", request_id)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of an app with a problem."""

    def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        field = getattr(request.scope.get("route"), "body_field", None)
        kind = None if field is None else field.field_info.annotation
        errors = _one_of_each_value([_spoken(each, kind) for each in error.errors()[:WRONG_MAX]], error.body)
        detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors[:3])
        return problem_response("invalid_request", detail, request_id_of(request), errors=errors)

    def by_status(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = CODE_OF_STATUS.get(error.status_code, "bad_request")
        return problem_response(code, "", request_id_of(request), headers=error.headers)

    def expected(request: Request, error: Exception) -> JSONResponse:
        return problem_of_error(error, request_id_of(request))

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, by_status)
    for kind in EXPECTED_ERRORS:
        app.add_exception_handler(kind, expected)


def _one_of_each_value(errors: Sequence[Mapping[str, Any]], body: Any) -> list[dict[str, str]]:
    """
    One error for each value that is wrong.

    Where several types are allowed pydantic says of each why it is not that one. If the value is of one of them and only out of
    bounds, the others do not matter.
    """
    by_pointer: dict[str, list[Mapping[str, Any]]] = {}
    for each in errors:
        by_pointer.setdefault(_pointer(each, body), []).append(each)
    found = []
    for pointer, mine in by_pointer.items():
        of_type = [each for each in mine if not each["type"].endswith(("_type", "_parsing"))]
        first, *more = dict.fromkeys(_detail(each) for each in of_type or mine)
        detail = " or ".join([first, *(each.removeprefix("Input should be ") for each in more)])
        found.append({"pointer": pointer, "detail": detail})
    return found


def _spoken(error: Mapping[str, Any], body_kind: Any) -> Mapping[str, Any]:
    """An error, of a member that is not one with the name that may be meant."""
    if error["type"] != "extra_forbidden":
        return error
    *place, name = error["loc"]
    return {
        **error,
        "msg": f"there is no member {name}{did_you_mean(str(name), _members(body_kind, place[1:]))}",
    }


def _members(kind: Any, place: Sequence[Any]) -> list[str]:
    """The names of the members that an object inside a body may have."""
    models = _models(kind)
    for part in place:  # numbers of a list and names of types are no members
        inside = [each.model_fields[part].annotation for each in models if part in each.model_fields]
        models = [model for each in inside for model in _models(each)] or models
    return [field.alias or name for each in models for name, field in each.model_fields.items()]


def _models(kind: Any) -> list[type[BaseModel]]:
    """The models that a type is, or holds."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in _models(part)]


def _pointer(error: Mapping[str, Any], body: Any) -> str:
    """
    A JSON pointer (RFC 6901) to a value of the request.

    Of the place of an error in the body only what is really there counts, and the name of a field that is missing: after it come the
    types that were tried.
    """
    first, *rest = error["loc"]
    place = [first, *rest]
    if first == "body":
        place, value = [first], body
        for part in rest if error["type"] != "json_invalid" else ():
            inside = (
                part in value
                if isinstance(value, dict)
                else isinstance(value, list) and isinstance(part, int)
            )
            if not inside:
                place += [part] if error["type"] == "missing" else []
                break
            place.append(part)
            value = value[part]
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def _detail(error: Mapping[str, Any]) -> str:
    """What is wrong, and of a body that is not JSON where."""
    if error["type"] != "json_invalid":
        return str(error["msg"])
    return f"{error['msg']} at character {error['loc'][-1]}: {error['ctx']['error']}"
