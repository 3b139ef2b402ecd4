"""The stored cases of the queue, against a computation from scratch, after whatever changes flags; both engines."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text

from storage.admin.erase import erase
from storage.admin.personal_rows import PersonValue
from storage.admin.prune import prune
from storage.admin.undo import undo_batch, undo_run
from storage.database import tables
from storage.database.cases import lock_cases, rebuild_cases, refresh_cases
from storage.database.database import Store
from storage.database.setup import MIGRATIONS, VERSION_TABLE, upgrade
from storage.database.setup_sql import upgrade_sql
from storage.errors import StorageError
from storage.frames import DAY, HOUR
from storage.review import verdicts
from storage.review.expiry import expire_flags
from storage.runs.runs import begin_run
from storage.runs.scores import Flag, ModelScores, write_scores
from tests.support.databases import Opener
from tests.support.reviews import answer
from tests.support.sql import query
from tests.support.worlds import FROM, SMALL
from tests.test_storage_flag_cases import add_flags, flag, with_entity

PAYMENTS, STEPS = 240, 60
NOW = FROM + 60 * DAY


def stored_cases(store: Store) -> list[Any]:
    """What is stored of cases; a rank that was drawn at random is left out."""
    with store.read() as connection:
        f, c = tables.flags.c, tables.cases.c
        listed = connection.execute(select(tables.cases).order_by(c.policy, c.case_id)).all()
        counts = connection.execute(select(tables.case_counts)).all()
        of_flags = connection.execute(select(f.transaction_id, f.case_id).order_by(f.transaction_id)).all()
    cases = [
        tuple(value for name, value in row._mapping.items() if name != "rank" or row.channels)
        for row in listed
    ]
    return [cases, sorted(tuple(row) for row in counts), [tuple(row) for row in of_flags]]


def assert_are_those_of_the_flags(store: Store, step: str) -> None:
    before = stored_cases(store)
    with store.write() as connection:
        rebuild_cases(connection, store.fields.case_entity)
    after = stored_cases(store)
    for kept, computed in zip(before, after, strict=True):
        assert kept == computed, step
    rows = "SELECT case_id, open_flags FROM {} WHERE open_flags > 0 ORDER BY case_id"
    assert query(store, rows.format("cases")) == query(store, rows.format("flag_cases")), step


def add_payments(store: Store, rng: np.random.Generator) -> None:
    """Payments of a few customers in two batches, some of them on the hour and some of nobody."""
    batches = [
        {
            "batch_id": number, "kind": "transactions", "source": "s", "status": "done", "history": True, "holder": "h",
            "read": PAYMENTS // 2, "accepted": PAYMENTS // 2, "started_at": FROM, "visible_at": FROM,
        }
        for number in (1, 2)
    ]  # fmt: skip
    rows = [
        {
            "transaction_id": f"t{number:04}",
            "event_time": FROM + int(rng.integers(16 * 24)) * HOUR // 2,
            "customer_id": [None, "a", "b", "c", "d"][rng.integers(5)],
            "amount": 1,
            "amount_base": 1,
            "batch_id": number % 2 + 1,
        }
        for number in range(PAYMENTS)
    ]
    with store.write() as connection:
        connection.execute(insert(tables.batches), batches)
        connection.execute(insert(store.transactions), rows)


def raise_flags(store: Store, rng: np.random.Generator) -> None:
    """Score some payments that have no score, and flag most of them."""
    free = query(
        store,
        "SELECT transaction_id FROM transactions WHERE transaction_id NOT IN (SELECT transaction_id FROM scores)",
    )
    names = [row[0] for row in free]
    chosen = np.array(rng.permutation(names)[: rng.integers(1, 30)], dtype=object)
    n = len(chosen)
    if not n:
        return
    numbers = np.full(n, 0.5)
    channels = rng.choice(np.array(["blend", "rule", "audit"], dtype=object), n)
    losses = np.where(rng.random(n) < 0.2, np.nan, rng.random(n) * 100)
    scored = ModelScores(
        chosen, 1, "s", numbers, numbers, numbers, numbers, numbers, channels, np.ones(n, dtype=bool), losses
    )
    raised = [
        Flag(str(name), 1, str(channel), "[]", 1 if rng.random() < 0.1 else None)
        for name, channel in zip(chosen, channels, strict=True)
        if rng.random() < 0.9
    ]
    run_id = begin_run(store, "live", "manual", NOW + int(rng.integers(3)) * HOUR, "", 2)
    write_scores(store, "live", run_id, scored, raised)


def some_flag(store: Store, rng: np.random.Generator) -> str:
    names = query(store, "SELECT transaction_id FROM flags ORDER BY transaction_id")
    return str(names[rng.integers(len(names))][0]) if names else ""


def some_answered(store: Store, rng: np.random.Generator) -> str:
    names = query(
        store,
        "SELECT transaction_id FROM flags WHERE status NOT IN ('open', 'expired') ORDER BY transaction_id",
    )
    return str(names[rng.integers(len(names))][0]) if names else ""


def withdraw_run(store: Store, rng: np.random.Generator) -> None:
    runs = query(store, "SELECT DISTINCT run_id FROM scores ORDER BY run_id")
    if runs and rng.random() < 0.5:
        undo_run(store, runs[rng.integers(len(runs))][0], "wrong", "ann", NOW)


CHANGES: dict[str, Callable[[Store, np.random.Generator], object]] = {
    "raise": raise_flags,
    "fraud": lambda store, rng: answer(store, some_flag(store, rng), "fraud", NOW),
    "genuine": lambda store, rng: answer(store, some_flag(store, rng), "genuine", NOW),
    "close": lambda store, rng: answer(store, some_flag(store, rng), "no_opinion", NOW),
    "undo": lambda store, rng: list(verdicts.undo(store, "live", [some_answered(store, rng)], "wrong", "ann", NOW)),
    "expire": lambda store, rng: expire_flags(store, FROM + int(rng.integers(3)) * DAY, NOW),
    "undo run": withdraw_run,
    "prune": lambda store, rng: prune(store, {"transactions": FROM + int(rng.integers(20)) * HOUR}, NOW, by="ann"),
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_cases_are_those_of_the_flags_whatever_has_changed_them(opener: Opener, seed: int) -> None:
    store, rng = opener(SMALL), np.random.default_rng(seed)
    add_payments(store, rng)
    names, done = [*CHANGES, "raise", "fraud", "genuine", "close", "undo"], set()
    for number in range(STEPS):
        step = "raise" if number < 2 else names[rng.integers(len(names))]
        try:
            CHANGES[step](store, rng)
            done.add(step)
        except StorageError:  # the flag cannot be closed, or there is nothing to be undone
            continue
        assert_are_those_of_the_flags(store, f"{number}: {step}")
    assert done == set(CHANGES)
    erase(store, [PersonValue("customer_id", "a")], "ann", NOW)
    assert_are_those_of_the_flags(store, "erase")
    undo_batch(store, 2, "wrong", "ann", NOW)
    assert_are_those_of_the_flags(store, "undo batch")
    assert stored_cases(store)[0]


def test_two_changes_of_one_case_follow_each_other(opener: Opener) -> None:
    store = opener(SMALL)
    add_flags(store, [flag("a", 1), flag("a", 2), flag("a", 9)])
    with store.write() as connection:
        rebuild_cases(connection, store.fields.case_entity)
    with ThreadPoolExecutor() as pool:
        with store.write() as connection:
            lock_cases(connection)
            connection.execute(text("UPDATE flags SET status = 'fraud' WHERE transaction_id = 't0000'"))
            refresh_cases(connection, ["t0000"])
            expired = pool.submit(expire_flags, store, FROM + 3 * HOUR, NOW)  # t0001
            time.sleep(0.5)
        assert expired.result() == 1
    assert query(store, "SELECT open_flags FROM cases") == [(1,)]
    assert_are_those_of_the_flags(store, "both")


def test_another_entity_makes_other_cases(opener: Opener) -> None:
    store, rng = opener(SMALL), np.random.default_rng(3)
    add_payments(store, rng)
    raise_flags(store, rng)
    other = opener(with_entity(SMALL, "terminal_id"))
    upgrade(other, SMALL.monitor.name, 1)
    flagged = query(other, "SELECT COUNT(*) FROM flags WHERE muted_by IS NULL")
    assert query(other, "SELECT COUNT(*) FROM cases") == flagged
    assert_are_those_of_the_flags(other, "upgrade")


def test_an_upgrade_finds_the_cases_of_stored_flags(opener: Opener) -> None:
    store, rng = opener(SMALL), np.random.default_rng(5)
    add_payments(store, rng)
    raise_flags(store, rng)
    answer(store, some_flag(store, rng), "fraud", NOW)
    before = stored_cases(store)
    with store.write() as connection:
        migration = ScriptDirectory(str(MIGRATIONS)).get_revision("0210")
        with Operations.context(MigrationContext.configure(connection)):
            migration.module.downgrade()
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{migration.down_revision}'"))
    if store.dialect == "postgresql":
        printed = upgrade_sql(store, SMALL.monitor.name, 9)
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.connection.cursor().execute(printed)
    else:
        assert upgrade(store, SMALL.monitor.name, 9).version is not None
    assert stored_cases(store) == before
    assert_are_those_of_the_flags(store, "upgrade")
