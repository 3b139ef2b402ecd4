"""
Answers to requests that have a key of their caller's (table `idempotency_keys`): the same request again gets the same answer.

An answer is kept in the transaction of what it answers, so a request is done once however often it is sent, at once or later.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from storage.database.tables import idempotency_keys
from storage.errors import Refused
from storage.frames import DAY

ANSWER_LIFETIME = DAY  # µs


@dataclass(frozen=True)
class RequestKey:
    """Who sends a request, the key that they gave it, and a hash of everything that it asks for."""

    caller: str
    key: str
    request_hash: str


def stored_answer(connection: Connection, request: RequestKey, now: int) -> Any:
    """
    The answer to the same request, if it was sent less than `ANSWER_LIFETIME` ago; else None.

    Raises
    ------
    Refused
        The key belongs to another request.
    """
    k = idempotency_keys.c
    connection.execute(delete(idempotency_keys).where(k.at <= now - ANSWER_LIFETIME))
    same = select(k.request_hash, k.answer).where(k.caller == request.caller, k.key == request.key)
    row = connection.execute(same).one_or_none()
    if row is None:
        return None
    if row.request_hash != request.request_hash:
        raise Refused(
            f"the key {request.key!r} belongs to another request",
            remedy="use a new key for a new request",
            code="idempotency_key_reused",
        )
    return row.answer


def store_answer(connection: Connection, request: RequestKey, answer: Any, now: int) -> None:
    """Keep the answer to a request."""
    row = {
        "caller": request.caller, "key": request.key, "request_hash": request.request_hash, "answer": answer, "at": now,
    }  # fmt: skip
    connection.execute(insert(idempotency_keys), row)
