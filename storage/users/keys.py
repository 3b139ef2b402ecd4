"""The random key of the console and the API."""

import secrets

from sqlalchemy import insert, select

from storage.database.database import Store
from storage.database.tables import web_keys

SECRET_BYTES = 32


def web_key(store: Store, now: int) -> bytes:
    """The key, which is made when it is first asked for; all processes of a database have the same."""
    newest = select(web_keys.c.secret).order_by(web_keys.c.key_id.desc()).limit(1)
    with store.read() as connection:
        secret: bytes | None = connection.scalar(newest)
    if secret is None:
        with store.write_exclusive() as connection:
            secret = connection.scalar(newest)  # another process may have been faster
            if secret is None:
                secret = secrets.token_bytes(SECRET_BYTES)
                connection.execute(insert(web_keys), {"secret": secret, "created_at": now})
    return bytes(secret)
