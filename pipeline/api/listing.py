"""Lists as pages of JSON or CSV."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Query, Response
from pydantic import BaseModel, TypeAdapter

from pipeline.api.context import Context, RequestContext
from pipeline.sanitize import for_csv
from pipeline.services.pages import Page

Item = TypeVar("Item")
Visible = TypeVar("Visible")
LIMIT_MAX = 1_000
CSV = "text/csv"


class Listing(BaseModel, Generic[Item]):
    """A page of a list; `next_cursor` begins the next one, and is null on the last."""

    items: list[Item]
    next_cursor: str | None


@dataclass(frozen=True)
class ListParameters:
    """Which part of a list a request wants, and in what form."""

    context: RequestContext
    limit: int
    cursor: str | None
    as_csv: bool

    def answer(
        self,
        kind: Any,
        read: Callable[..., Page[Item]],
        show: Callable[[Item], Visible] | None = None,
        *,
        viewed: Callable[[int], None] | None = None,
    ) -> Response:
        """
        A page of a list.

        Parameters
        ----------
        kind
            The type of an item of the answer.
        read
            Reads a page, given `limit` and `cursor` by name.
        show
            Makes an item of the answer of one of the page; None where they are the same.
        viewed
            Writes down that the caller looks at so many rows of people's data; None for other lists.
        """
        request = self.context.request
        place, cursors = (request.url.path, request.query_params.multi_items()), self.context.app.cursors
        page = read(limit=self.limit, cursor=cursors.open(self.cursor, *place))
        if viewed is not None:
            viewed(len(page.items))
        items = page.items if show is None else tuple(show(item) for item in page.items)
        following = cursors.seal(page.next_cursor, *place)
        headers = {"Vary": "Accept"}
        if following is not None:
            link = request.url.include_query_params(cursor=following)
            headers["Link"] = f'<{link.path}?{link.query}>; rel="next"'
        if self.as_csv:
            rows = items_adapter(kind).dump_python(items, mode="json", warnings=False)
            return Response(csv_text(rows), media_type=f"{CSV}; charset=utf-8", headers=headers)
        body = (
            b'{"items":'
            + items_adapter(kind).dump_json(items, warnings=False)
            + b',"next_cursor":'
            + json.dumps(following).encode()
            + b"}"
        )
        return Response(body, media_type="application/json", headers=headers)


def _parameters(
    context: Context,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Items of a page.")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=10_000, description="`next_cursor` of the page before.")
    ] = None,
    format: Annotated[  # noqa: A002 (the name of the parameter)
        Literal["json", "csv"] | None, Query(description="Instead of the header Accept.")
    ] = None,
) -> ListParameters:
    accepts = context.request.headers.get("accept", "")
    wants_csv = CSV in accepts and "application/json" not in accepts
    return ListParameters(context, limit, cursor, format == "csv" or (format is None and wants_csv))


Parameters = Annotated[ListParameters, Depends(_parameters)]


@lru_cache
def items_adapter(kind: Any) -> TypeAdapter[Any]:
    """What writes the items of a list."""
    return TypeAdapter(Sequence[kind])


@lru_cache
def value_adapter(kind: Any) -> TypeAdapter[Any]:
    """What writes one value."""
    return TypeAdapter(kind)


def json_answer(kind: Any, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """One value as JSON."""
    return Response(value_adapter(kind).dump_json(value, warnings=False), status, headers, "application/json")


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows of JSON as CSV: objects become columns with dots in their names, lists stay JSON; nothing begins a formula."""
    flat = [_flattened(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.writer(text)
    if names:
        writer.writerow([for_csv(name) for name in names])
    writer.writerows([[_cell(row.get(name)) for name in names] for row in flat])
    return text.getvalue()


def _flattened(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, part in value.items():
        if isinstance(part, dict) and part:
            flat |= _flattened(part, f"{before}{name}.")
        else:
            flat[before + name] = part
    return flat


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return for_csv(json.dumps(value, ensure_ascii=False))
    return for_csv(value) if isinstance(value, str) else value
