"""The header Idempotency-Key, of requests without a key of their own: the same request again gets the same answer for a day."""

from typing import Annotated

from fastapi import Header

from pipeline.api.context import RequestContext
from pipeline.api.cursors import request_hash
from pipeline.api.problems import ApiError
from pipeline.services.review.verdicts import RequestKey

KEY_MAX = 255  # characters
REPLAYED = "Idempotency-Replayed"
IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="The same key with the same body does nothing twice."),
]


async def request_key(context: RequestContext, key: str | None) -> RequestKey | None:
    """
    The key of a request, with a hash of what it asks for; None without one.

    Raises
    ------
    ApiError
        The key is empty, too long or not printable ASCII.
    """
    if key is None:
        return None
    if not 0 < len(key) <= KEY_MAX or not key.isascii() or not key.isprintable():
        raise ApiError("bad_idempotency_key")
    caller = context.caller
    of = f"token {caller.token_id}" if caller.token_id is not None else f"user {caller.user_id}"
    return RequestKey(of, key, request_hash(context.request.url.path, await context.request.body()))


def replay_headers(replayed: bool) -> dict[str, str]:
    """Says that nothing was done, because it had been."""
    return {REPLAYED: "true"} if replayed else {}
