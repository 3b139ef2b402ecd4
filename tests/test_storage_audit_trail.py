"""The audit trail: insert-only by triggers, chained by hashes, pruned from its oldest end; on both engines."""

import os
import time
from pwd import getpwuid
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from storage.database import audit_guard
from storage.database.database import Store
from storage.errors import StorageError
from storage.frames import DAY
from storage.review import audit_chain
from storage.review.audit_chain import check_chain
from storage.review.audit_trail import os_user, redact, write_audit, write_audits
from tests.support.databases import Opener
from tests.support.sql import query
from tests.support.worlds import NOW, SMALL

GUARDS = ("audit_guard_insert", "audit_guard_update", "audit_guard_delete")
CHANGE = {"amount": 1e16, "share": 0.1, "name": "Łukasz", "nothing": None, "list": [1.0, 2]}


def entry(store: Store, subject: str, now: int = NOW, *, action: str = "promote", after: Any = CHANGE) -> int:
    with store.write_exclusive() as connection:
        return write_audit(connection, "ann", action, subject, {"status": "open"}, after, now)


@pytest.fixture
def store(opener: Opener) -> Store:
    """Six rows of which the last redacts the third."""
    store = opener(SMALL)
    for number in range(5):
        entry(store, f"model {number}", NOW + number * DAY)
    erased = entry(store, "customer_id erased-1", NOW + 5 * DAY, action="erase")
    with store.write_exclusive() as connection:
        redact(connection, 3, None, {"name": "erased-1"}, erased)
    return store


def tamper(store: Store, *statements: str) -> None:
    """As somebody who owns the table: without its triggers."""
    with store.write() as connection:
        if store.dialect == "sqlite":
            statements = (*(f"DROP TRIGGER {name}" for name in GUARDS), *statements)
        else:
            statements = ("ALTER TABLE audit DISABLE TRIGGER ALL", *statements)
        for statement in statements:
            connection.execute(text(statement))


def test_a_row_says_who_it_was_and_follows_from_the_one_before(store: Store) -> None:
    users = query(store, "SELECT DISTINCT os_user, database_user FROM audit")
    server = None if store.dialect == "sqlite" else query(store, "SELECT session_user")[0][0]
    assert users == [(os_user(), server)]
    assert os_user().split(" (sudo by ")[0] == getpwuid(os.getuid()).pw_name
    check = check_chain(store)
    assert (check.rows, check.redacted, check.older, check.first_broken) == (6, 1, 0, None)
    assert query(store, "SELECT salt FROM audit WHERE audit_id = 3") == [(None,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'bob' WHERE audit_id = 2",
        "UPDATE audit SET after = NULL WHERE audit_id = 2",  # nothing says why
        "UPDATE audit SET after = NULL, salt = NULL, redacted_by = 1 WHERE audit_id = 2",  # an earlier row
        "UPDATE audit SET after = NULL, salt = NULL, redacted_by = 5 WHERE audit_id = 2",  # not of that kind
        "UPDATE audit SET after = NULL, salt = NULL, redacted_by = 6, at = NULL WHERE audit_id = 2",
        "UPDATE audit SET hash = 'x' WHERE audit_id = 2",
        "DELETE FROM audit WHERE audit_id = 1",
        "DELETE FROM audit",
        "INSERT INTO audit (at, actor, action, subject) VALUES ('2025-01-01 00:00:00.000000', 'a', 'b', 'c')",
        "TRUNCATE audit",
        "REPLACE INTO audit (audit_id, at, actor, action, subject, hash) VALUES (1, '2025-01-01 00:00:00.000000', 'a', 'b', 'c', 'd')",
    ],
)
def test_a_row_can_be_added_and_nothing_else(store: Store, statement: str) -> None:
    only = {"TRUNCATE": "postgresql", "REPLACE": "sqlite"}.get(statement.split(maxsplit=1)[0], store.dialect)
    if only != store.dialect:
        return
    before = query(store, "SELECT * FROM audit ORDER BY audit_id")
    with pytest.raises(DBAPIError, match=audit_guard.REFUSAL), store.write() as connection:
        connection.execute(text(statement))
    assert query(store, "SELECT * FROM audit ORDER BY audit_id") == before


@pytest.mark.parametrize(
    ("statement", "broken_at", "fault"),
    [
        ("UPDATE audit SET actor = 'bob' WHERE audit_id = 2", 2, "changed_or_missing_before"),
        ("UPDATE audit SET os_user = 'bob' WHERE audit_id = 5", 5, "changed_or_missing_before"),
        ("UPDATE audit SET before = NULL WHERE audit_id = 4", 4, "content_changed"),
        ("UPDATE audit SET hash = NULL WHERE audit_id = 4", 4, "not_chained"),
        ("UPDATE audit SET redacted_by = 5, salt = NULL WHERE audit_id = 2", 2, "redacted_without_reason"),
        ("DELETE FROM audit WHERE audit_id = 1", 2, "changed_or_missing_before"),
        ("DELETE FROM audit WHERE audit_id = 4", 5, "changed_or_missing_before"),
        ("DELETE FROM audit WHERE audit_id = 6", 3, "redacted_without_reason"),
    ],
)
def test_the_chain_tells_the_first_row_that_was_tampered_with(
    store: Store, statement: str, broken_at: int, fault: str
) -> None:
    tamper(store, statement)
    check = check_chain(store)
    assert (check.first_broken, check.fault, check.is_whole) == (broken_at, fault, False)


def test_rows_that_were_cut_off_are_missed_by_a_hash_that_was_noted(store: Store) -> None:
    entry(store, "model 6")
    noted = check_chain(store).newest_hash
    assert check_chain(store, noted).is_whole
    tamper(store, "DELETE FROM audit WHERE audit_id = 7")
    check = check_chain(store, noted)
    assert (check.first_broken, check.has_expected, check.is_whole) == (None, False, False)


def test_the_oldest_rows_go_and_the_chain_stays_whole(store: Store) -> None:
    noted = query(store, "SELECT hash FROM audit WHERE audit_id = 2")[0][0]
    assert audit_chain.count_oldest(store, NOW + 2 * DAY) == 2
    assert audit_chain.delete_oldest(store, NOW + 2 * DAY, "ann", NOW) == 2
    assert check_chain(store, str(noted)).is_whole
    assert audit_chain.delete_oldest(store, NOW + 2 * DAY, "ann", NOW) == 0
    assert query(store, "SELECT actor, subject FROM audit ORDER BY audit_id DESC LIMIT 1") == [
        ("ann", "audit 2")
    ]
    tamper(store, "DELETE FROM audit WHERE audit_id = 3")
    assert check_chain(store).first_broken == 4


def test_a_trail_without_its_triggers_is_not_whole(opener: Opener) -> None:
    store = opener(SMALL)
    entry(store, "model 1")
    assert check_chain(store).is_whole
    with store.write() as connection:
        drop = (
            "ALTER TABLE audit DISABLE TRIGGER audit_guard"
            if store.dialect == "postgresql"
            else "DROP TRIGGER audit_guard_delete"
        )
        connection.execute(text(drop))
    assert not check_chain(store).is_whole
    with store.write() as connection:
        audit_guard.recreate(connection, store.schema)
    assert check_chain(store).is_whole


def test_rows_from_before_there_were_hashes_come_first(opener: Opener) -> None:
    store = opener(SMALL)
    tamper(
        store,
        "INSERT INTO audit (at, actor, action, subject) VALUES ('2025-01-01 00:00:00.000000', 'a', 'b', 'c')",
    )
    with store.write() as connection:
        audit_guard.recreate(connection, store.schema)
    entry(store, "model 1")
    check = check_chain(store)
    assert (check.rows, check.older, check.is_whole) == (1, 1, True)


def test_ten_thousand_rows_are_chained_at_once(opener: Opener) -> None:
    store = opener(SMALL)
    changes = [{"subject": f"t{n}", "before": {"status": "open"}, "after": CHANGE} for n in range(10_000)]
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    began = time.process_time()
    with store.write_exclusive() as connection:
        write_audits(connection, "ann", "verdict", changes, NOW)
    assert time.process_time() - began < 10
    assert len(statements) < 20
    assert check_chain(store).rows == 10_000


def as_role(store: Store, role: str, statement: str) -> None:
    with store.write() as connection:
        connection.execute(text(f"SET LOCAL ROLE {role}"))
        connection.execute(text(statement))


def test_a_runtime_role_without_update_and_delete_adds_rows_only(opener: Opener) -> None:
    store = opener(SMALL)
    if store.dialect == "sqlite":
        return
    role = f"runtime_{os.getpid()}"
    grants = [
        f"CREATE ROLE {role}",
        f"GRANT USAGE ON SCHEMA fraudwatch TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fraudwatch TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA fraudwatch TO {role}",
        f"REVOKE UPDATE, DELETE ON fraudwatch.audit FROM {role}",
    ]
    with store.write() as connection:
        for statement in grants:
            connection.execute(text(statement))
    try:
        with store.write_exclusive() as connection:
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            write_audit(connection, "ann", "promote", "model 1", None, None, NOW)
        assert check_chain(store).rows == 1
        for statement in ("DELETE FROM audit", "UPDATE audit SET actor = 'bob'", "TRUNCATE audit"):
            with pytest.raises(StorageError, match="permission denied for table audit"):
                as_role(store, role, statement)
    finally:
        with store.write() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))
