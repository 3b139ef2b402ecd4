"""Tokens by which programs ask. Only the hash of a token's secret is stored."""

from dataclasses import dataclass, fields

from sqlalchemy import bindparam, insert, select, update

from storage.database.database import Store
from storage.database.tables import api_tokens, users
from storage.errors import Unknown
from storage.review.audit_trail import write_audit
from storage.users.users import UserRow


@dataclass(frozen=True)
class TokenRow:
    """A token without its secret; instants in µs. `user_id` is who issued it, None for the operator of the machine."""

    token_id: int
    name: str
    role: str
    per_minute: int
    user_id: int | None
    by: str
    created_at: int
    expires_at: int
    last_used_at: int | None
    revoked_at: int | None
    revoked_by: str | None


COLUMNS = [api_tokens.c[name] for name in TokenRow.__dataclass_fields__]


def issue(
    store: Store,
    name: str,
    secret_hash: str,
    role: str,
    per_minute: int,
    expires_at: int,
    user_id: int | None,
    by: str,
    now: int,
) -> TokenRow:
    """Add a token, with an entry in the audit trail."""
    row = {
        "name": name,
        "secret_hash": secret_hash,
        "role": role,
        "per_minute": per_minute,
        "user_id": user_id,
        "by": by,
        "created_at": now,
        "expires_at": expires_at,
    }
    with store.write_exclusive() as connection:
        inserted = connection.execute(insert(api_tokens), row)
        assert inserted.inserted_primary_key is not None
        number = int(inserted.inserted_primary_key[0])
        after = {"name": name, "role": role, "expires_at": expires_at}
        write_audit(connection, by, "issue token", f"token {number}", None, after, now)
        mine = select(*COLUMNS).where(api_tokens.c.token_id == number)
        return TokenRow(**connection.execute(mine).mappings().one())


def find(store: Store, secret_hash: str) -> tuple[TokenRow, UserRow | None] | None:
    """The token whose secret has this hash, in force or not, and the user who issued it; None if there is none."""
    with store.read() as connection:
        row = connection.execute(_WITH_ISSUER, {"secret_hash": secret_hash}).one_or_none()
    if row is None:
        return None
    token, user = TokenRow(*row[: len(COLUMNS)]), row[len(COLUMNS) :]
    return token, None if token.user_id is None or user[0] is None else UserRow(*user)


_WITH_ISSUER = (
    select(*COLUMNS, *(users.c[each.name] for each in fields(UserRow)))
    .outerjoin(users, users.c.user_id == api_tokens.c.user_id)
    .where(api_tokens.c.secret_hash == bindparam("secret_hash"))
)


def stored_tokens(store: Store) -> list[TokenRow]:
    """All tokens ever issued, the newest first."""
    with store.read() as connection:
        rows = connection.execute(select(*COLUMNS).order_by(api_tokens.c.token_id.desc())).mappings().all()
    return [TokenRow(**row) for row in rows]


def revoke(store: Store, number: int, by: str, now: int) -> None:
    """
    Revoke a token.

    Raises
    ------
    Unknown
        There is no such token, or it is revoked.
    """
    with store.write_exclusive() as connection:
        mine = api_tokens.c.token_id == number
        row = connection.execute(select(api_tokens.c.revoked_at).where(mine)).one_or_none()
        if row is None:
            raise Unknown(f"there is no token {number}", code="unknown_token")
        if row.revoked_at is not None:
            raise Unknown(f"token {number} is revoked already", code="token_ended")
        connection.execute(update(api_tokens).where(mine).values(revoked_at=now, revoked_by=by))
        write_audit(connection, by, "revoke token", f"token {number}", None, {"revoked_at": now}, now)
