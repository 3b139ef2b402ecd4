"""Keys that follow from the random key of the database, one for each purpose."""

import hashlib
import hmac
from weakref import WeakKeyDictionary

from pipeline.services.session import Session
from storage.database.database import Store
from storage.users.keys import web_key

_KEYS: WeakKeyDictionary[Store, bytes] = WeakKeyDictionary()


def derived_key(session: Session, purpose: str) -> bytes:
    """
    A key of 32 bytes, the same in all processes of this database.

    It follows from one random key in the database, which needs no setting and no keeping: it protects what leaves the database (values
    in addresses, positions in lists) from whoever cannot read the database; whoever can has the values themselves.
    """
    key = _KEYS.get(session.store)
    if key is None:
        key = _KEYS[session.store] = web_key(session.store, session.now)
    return hmac.digest(key, purpose.encode(), hashlib.sha256)
