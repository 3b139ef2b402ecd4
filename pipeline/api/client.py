"""
A small client for programs in Python: typed results, lists that page by themselves, problems as exceptions.

Needs only `httpx2`, of the extra `fraudwatch[web]`::

    with Client("http://127.0.0.1:8321", token) as api:
        for flag in api.flags(status="open"):
            api.verdict(flag.transaction_id, "fraud", if_seen=flag.version)
"""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2

from pipeline.api.data.entities import VisibleEntity
from pipeline.api.data.transactions import VisiblePayment
from pipeline.api.listing import value_adapter
from pipeline.api.problems import Problem
from pipeline.api.review.flags import VisibleFlag
from pipeline.api.review.verdicts import VerdictResults
from pipeline.api.routes import API
from pipeline.services.data.transactions import SubmittedTransactions
from pipeline.services.review.claims import ClaimRow
from pipeline.services.review.notes import NoteRecord
from pipeline.services.review.verdicts import VerdictRow, VerdictRowResult

Result = TypeVar("Result")
TIMEOUT_S = 65.0  # a little longer than the server takes at most
PAGE = 500


class ApiProblem(Exception):  # noqa: N818 (the word of RFC 9457)
    """The server could not do what was asked; `problem` says why, and `retry_after` in how many seconds to repeat it."""

    def __init__(self, problem: Problem, retry_after: int | None) -> None:
        super().__init__(f"{problem.status} {problem.code}: {problem.detail} (request {problem.request_id})")
        self.problem = problem
        self.retry_after = retry_after


class Client:
    """
    The API of one monitor.

    Parameters
    ----------
    url
        Of the server, without a path.
    token
        The secret of a token.
    """

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def flags(self, **filters: Any) -> Iterator[VisibleFlag]:
        """All flags that pass the filters of `GET /flags`, the largest expected loss first."""
        return self._all("/flags", VisibleFlag, filters)

    def flag(self, transaction_id: str) -> VisibleFlag:
        """The flag on a transaction."""
        return self._get(f"/flags/{_segment(transaction_id)}", VisibleFlag)

    def transaction(self, transaction_id: str) -> VisiblePayment:
        """A transaction, flagged or not."""
        return self._get(f"/transactions/{_segment(transaction_id)}", VisiblePayment)

    def entity(self, column: str, value: str) -> VisibleEntity:
        """The handle of a value of an entity column."""
        return self._post("/entities", VisibleEntity, {"column": column, "value": value})

    def timeline(self, handle: str) -> Iterator[VisiblePayment]:
        """All transactions of an entity, the newest first."""
        return self._all(f"/entities/{handle}/transactions", VisiblePayment, {})

    def submit(self, transactions: Sequence[Mapping[str, Any]]) -> SubmittedTransactions:
        """Store up to 1,000 transactions; sending them again is harmless."""
        return self._post("/transactions", SubmittedTransactions, {"transactions": list(transactions)})

    def verdict(self, transaction_id: str, verdict: str, **more: Any) -> VerdictRowResult:
        """Answer one payment; `type`, `action`, `note` and `if_seen` by name."""
        path = f"/transactions/{_segment(transaction_id)}/verdict"
        return self._post(path, VerdictRowResult, {"verdict": verdict, **more})

    def verdicts(self, rows: Sequence[VerdictRow], key: str | None = None) -> VerdictResults:
        """Answer up to 1,000 payments, each for itself; the same key with the same rows does nothing twice."""
        return self._post("/verdicts", VerdictResults, {"verdicts": [vars(row) for row in rows]}, key)

    def note(self, transaction_id: str, text: str, key: str | None = None) -> NoteRecord:
        """Add a note to a payment; the same key with the same text adds it once."""
        return self._post(f"/transactions/{_segment(transaction_id)}/notes", NoteRecord, {"text": text}, key)

    def claim(self, transaction_ids: Sequence[str], span: str = "PT15M") -> tuple[ClaimRow, ...]:
        """Claim each flag that nobody else works on."""
        body = {"transaction_ids": list(transaction_ids), "span": span}
        results = self._send("POST", "/claims", json=body).json()["results"]
        return tuple(map(_adapter(ClaimRow).validate_python, results))

    def _get(self, path: str, kind: type[Result], **more: Any) -> Result:
        result: Result = _adapter(kind).validate_json(self._send("GET", path, **more).content)
        return result

    def _post(self, path: str, kind: type[Result], body: Mapping[str, Any], key: str | None = None) -> Result:
        headers = {} if key is None else {"Idempotency-Key": key}
        result: Result = _adapter(kind).validate_json(
            self._send("POST", path, json=body, headers=headers).content
        )
        return result

    def _all(self, path: str, kind: type[Result], filters: Mapping[str, Any]) -> Iterator[Result]:
        parameters: dict[str, Any] = {"limit": PAGE, **filters}
        while True:
            page = self._send("GET", path, params=parameters).json()
            yield from map(_adapter(kind).validate_python, page["items"])
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]

    def _send(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """
        Send a request.

        Raises
        ------
        ApiProblem
            The server could not do what was asked.
        """
        response = self._http.request(method, API + path, **more)
        if response.is_error:
            after = response.headers.get("retry-after")
            raise ApiProblem(
                Problem.model_validate_json(response.content), None if after is None else int(after)
            )
        return response


def _adapter(kind: Any) -> Any:
    return value_adapter(kind)


def _segment(text: str) -> str:
    """A part of a path, in which nothing separates."""
    return quote(text, safe="")
