"""Users of a test's database, whose passwords are hashed with little work."""

from typing import Any

import pytest
from argon2 import PasswordHasher

from pipeline.expected_errors import EXPECTED_ERRORS
from pipeline.services.session import Session
from pipeline.services.users import passwords
from pipeline.services.users.permissions import Caller, user_role
from pipeline.services.users.users import NewUser, add_user
from tests.support.sql import query

PASSWORD = "violet otters hum at noon"
FAST = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


def hash_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same algorithm with less work."""
    passwords._nobodys_hash.cache_clear()
    monkeypatch.setattr(passwords, "_hasher", lambda: FAST)


def add_caller(session: Session, name: str, role: str) -> Caller:
    """A new user, as one who calls a service."""
    user = add_user(session, NewUser(name, role, PASSWORD))
    return Caller(name, user_role(role), user.user_id)


def code(call: Any, *arguments: Any, **named: Any) -> str:
    """The code of the expected error that a call ends with."""
    with pytest.raises(EXPECTED_ERRORS) as caught:
        call(*arguments, **named)
    return str(caught.value.code)  # type: ignore[attr-defined]


def audited(session: Session) -> list[tuple[str, str, str]]:
    """Actor, action and subject of each entry of the audit trail."""
    rows = query(session.store, "SELECT actor, action, subject FROM audit ORDER BY audit_id")
    return [(row[0], row[1], row[2]) for row in rows]
