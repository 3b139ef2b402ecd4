"""Tokens of programs: issue, list and revoke them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from pipeline.api.body import Body
from pipeline.api.context import Context
from pipeline.api.listing import json_answer
from pipeline.api.types import Name, PathNumber
from pipeline.services.users.permissions import Role
from pipeline.services.users.tokens import (
    PER_MINUTE,
    NewToken,
    StoredToken,
    issue_token,
    list_tokens,
    revoke_token,
)

router = APIRouter(prefix="/tokens", tags=["Access"])
LONGEST = timedelta(days=366)


class TokenBody(Body):
    """A token for a program: its role, how long it lasts (an ISO 8601 duration such as P90D), and how many requests a minute it allows."""

    name: Name
    role: Role
    span: Annotated[timedelta, Field(gt=timedelta(0), le=LONGEST)]
    per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = PER_MINUTE


@dataclass(frozen=True)
class TokenWithSecret:
    """A token and its secret, which is shown now and never again."""

    token: StoredToken
    secret: str


@dataclass(frozen=True)
class Tokens:
    """All tokens, expired and revoked ones too, without their secrets."""

    tokens: tuple[StoredToken, ...]


@router.get("", operation_id="list_tokens", response_model=Tokens)
def list_(context: Context) -> Response:
    """List the tokens, the newest first."""
    return json_answer(Tokens, Tokens(list_tokens(context.session)))


@router.post("", operation_id="issue_token", response_model=TokenWithSecret, status_code=201)
def issue(context: Context, body: TokenBody) -> Response:
    """Issue a token; its secret is shown only now."""
    new = NewToken(body.name, body.role, body.span, body.per_minute, context.caller.user_id)
    issued = issue_token(context.session, new)
    return json_answer(TokenWithSecret, TokenWithSecret(issued.token, issued.secret), 201)


@router.post("/{token_id}/revoke", operation_id="revoke_token", status_code=204, response_class=Response)
def revoke(context: Context, token_id: PathNumber) -> Response:
    """Revoke a token; its next request is refused."""
    revoke_token(context.session, token_id)
    return Response(status_code=204)
