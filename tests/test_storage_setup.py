"""Creating, upgrading and refusing databases."""

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text

from storage import schema as tables
from storage.errors import SchemaOutOfDate, StorageError, Unreachable, WrongMonitor
from storage.schema import Fields
from storage.setup import MIGRATIONS, VERSION_TABLE, upgrade, verify
from storage.store import Store, open_store
from tests.conftest import Opened
from tests.factories import FIELDS, MONITOR, PRECEDENCE, T0, load, transactions


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def columns(store: Store, table: str) -> dict[str, str]:
    with store.read() as connection:
        return {one["name"]: str(one["type"]) for one in inspect(connection).get_columns(table)}


def test_a_new_database_is_created_and_a_second_upgrade_finds_nothing_to_do(opened: Opened) -> None:
    store = opened()
    said = upgrade(store, MONITOR, T0, PRECEDENCE)
    assert any("schema version 0001" in line for line in said)
    verify(store, MONITOR)
    assert ["nothing to do" in line for line in upgrade(store, MONITOR, T0, PRECEDENCE)] == [True]


def test_the_migrations_make_the_tables_that_the_code_uses(store: Store) -> None:
    wanted = MetaData()
    for table in [*tables.metadata.tables.values(), store.transactions, store.revisions]:
        table.to_metadata(wanted)
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        differences = compare_metadata(context, wanted)
    assert differences == []


def test_the_version_in_the_code_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == tables.VERSION


def test_both_ways_to_a_table_refuse_the_same_words(store: Store) -> None:
    insert = "INSERT INTO ledger VALUES ('live', 'nap', :t, :t, :t, 'due', 0, NULL, NULL, NULL)"
    with pytest.raises(Exception, match=r"(?i)check"), store.write() as connection:
        connection.execute(text(insert), {"t": "2026-01-01 00:00:00+00"})


def test_configured_fields_are_real_typed_columns_in_both_tables(store: Store) -> None:
    for table in ("transactions", "revisions"):
        found = columns(store, table)
        assert found["customer_id"] == "TEXT"
        assert found["age"].startswith("DOUBLE")


def test_entity_columns_are_indexed_with_time(store: Store) -> None:
    with store.read() as connection:
        indexed = {tuple(one["column_names"]) for one in inspect(connection).get_indexes("transactions")}
    assert {("event_time",), ("customer_id", "event_time"), ("terminal_id", "event_time")} <= indexed


def test_a_new_field_adds_a_column_and_shows_in_the_views(opened: Opened) -> None:
    before = opened()
    upgrade(before, MONITOR, T0, PRECEDENCE)
    load(before, transactions(["t1"]))
    more = replace(FIELDS, entities=(*FIELDS.entities, "device_id"), numeric=("age", "distance"))
    after = opened(more)
    with pytest.raises(
        SchemaOutOfDate, match=r"lacks the configured device_id, distance: run fraudwatch init"
    ):
        verify(after, MONITOR)
    said = upgrade(after, MONITOR, T0)
    assert any("device_id, distance" in line for line in said)
    verify(after, MONITOR)
    assert {"device_id", "distance"} <= columns(after, "visible_transactions").keys()
    assert {"device_id", "distance"} <= columns(after, "flagged_transactions").keys()
    assert rows(after, "SELECT transaction_id, customer_id, device_id FROM visible_transactions") == [
        ("t1", "c0", None)
    ]


def test_a_removed_field_keeps_its_column_and_its_place_in_the_views(opened: Opened) -> None:
    upgrade(opened(), MONITOR, T0)
    fewer = opened(Fields(("customer_id",)))
    upgrade(fewer, MONITOR, T0)
    verify(fewer, MONITOR)
    assert "terminal_id" in columns(fewer, "transactions")
    assert "terminal_id" in columns(fewer, "visible_transactions")


def test_a_field_that_changes_its_type_is_refused_with_the_remedy(opened: Opened) -> None:
    upgrade(opened(), MONITOR, T0)
    changed = opened(Fields(entities=("age",)))
    for attempt in (lambda: upgrade(changed, MONITOR, T0), lambda: verify(changed, MONITOR)):
        with pytest.raises(SchemaOutOfDate, match=r"column age .* holds numbers.*another name"):
            attempt()


def test_field_names_that_are_key_words_or_ours_elsewhere_work(opened: Opened) -> None:
    fields = Fields(
        ("order", "Group", "policy"), ("select", "score", "status", "transaction_status"), ("limit",)
    )
    store = opened(fields)
    upgrade(store, MONITOR, T0)
    shown = columns(store, "flagged_transactions")
    assert {"order", "Group", "select", "limit", "transaction_policy", "transaction_score"} <= shown.keys()
    assert {"transaction_status", "transaction_transaction_status"} <= shown.keys()


def test_an_index_name_fits_postgres_however_long_the_field() -> None:
    names = {tables.index_name("a" * 63), tables.index_name("a" * 62 + "b"), tables.index_name("short")}
    assert len(names) == 3
    assert max(map(len, names)) <= tables.NAME_MAX


def test_another_monitors_config_is_refused_by_name(store: Store) -> None:
    for attempt in (lambda: verify(store, "other"), lambda: upgrade(store, "other", T0)):
        with pytest.raises(WrongMonitor, match=r'belongs to monitor "tests", the config is for "other"'):
            attempt()


def test_somebody_elses_tables_are_never_touched(opened: Opened) -> None:
    store = opened()
    with store.write() as connection:
        if store.dialect == "postgresql":
            connection.execute(text(f'CREATE SCHEMA "{store.schema}"'))
        connection.execute(text("CREATE TABLE transactions (id INTEGER)"))
    with pytest.raises(WrongMonitor, match="has a table transactions that is not fraudwatch's"):
        upgrade(store, MONITOR, T0)
    assert columns(store, "transactions").keys() == {"id"}


def test_a_database_without_tables_says_what_to_do(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(SchemaOutOfDate, match="run fraudwatch init"):
        verify(opened(), MONITOR)
    assert list(tmp_path.iterdir()) == []


def test_a_query_without_tables_says_what_to_do(opened: Opened) -> None:
    store = opened()
    with pytest.raises(SchemaOutOfDate, match="run fraudwatch init"):
        rows(store, "SELECT * FROM scores")


def test_a_newer_database_asks_for_a_newer_program(store: Store) -> None:
    with store.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for attempt in (lambda: verify(store, MONITOR), lambda: upgrade(store, MONITOR, T0)):
        with pytest.raises(SchemaOutOfDate, match="upgrade fraudwatch"):
            attempt()


def test_upgrading_twice_at_once_does_it_once(opened: Opened) -> None:
    said: list[list[str]] = []
    failed: list[Exception] = []

    def work(store: Store) -> None:
        try:
            said.append(upgrade(store, MONITOR, T0, PRECEDENCE))
        except Exception as error:  # noqa: BLE001 (a thread has nobody to raise to)
            failed.append(error)

    threads = [threading.Thread(target=work, args=(opened(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted("nothing to do" in lines[0] for lines in said) == [False, True, True, True]


def test_precedence_is_stored_and_kept_when_nothing_is_said_of_it(store: Store) -> None:
    upgrade(store, MONITOR, T0)
    assert rows(store, "SELECT source FROM label_precedence ORDER BY place") == [
        (name,) for name in PRECEDENCE
    ]
    upgrade(store, MONITOR, T0, ("customer", "audit"))
    assert rows(store, "SELECT source FROM label_precedence ORDER BY place") == [("customer",), ("audit",)]


def test_two_monitors_share_one_postgres_database_in_two_schemas(postgres: str, schema: str) -> None:
    with (
        open_store(postgres, schema + "a", FIELDS) as first,
        open_store(postgres, schema + "b", FIELDS) as second,
    ):
        upgrade(first, "first", T0)
        upgrade(second, "second", T0)
        load(first, transactions(["t1"]))
        assert rows(first, "SELECT count(*) FROM transactions") == [(1,)]
        assert rows(second, "SELECT count(*) FROM transactions") == [(0,)]


def test_what_was_granted_on_a_view_survives_an_upgrade(postgres: str, schema: str) -> None:
    granted = "SELECT has_table_privilege('analyst', 'flagged_transactions', 'SELECT')"
    with open_store(postgres, schema, FIELDS) as store:
        upgrade(store, MONITOR, T0)
        with store.write() as connection:
            role = "SELECT count(*) FROM pg_roles WHERE rolname = 'analyst'"
            if connection.execute(text(role)).scalar_one() == 0:
                connection.execute(text("CREATE ROLE analyst"))
            connection.execute(text("GRANT SELECT ON flagged_transactions TO analyst"))
    with open_store(postgres, schema, replace(FIELDS, numeric=("age", "distance"))) as store:
        upgrade(store, MONITOR, T0)
        assert rows(store, granted) == [(True,)]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/x.db", "does not exist: make it first"),
        (".", "is a folder"),
        ("text.db", "not a database"),
        ("", "names no file"),
    ],
)
def test_a_sqlite_path_that_cannot_work_is_refused_in_one_sentence(
    tmp_path: Path, path: str, reason: str
) -> None:
    (tmp_path / "text.db").write_text("transaction_id,amount\n" * 100)
    with pytest.raises(Unreachable, match=reason) as caught:
        open_store(f"sqlite:///{tmp_path}/{path}" if path else "sqlite://", "", FIELDS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://joe:hunter2@127.0.0.1:1/db",
        "postgresql://joe@127.0.0.1:1/db?password=hunter2",
        "postgres://joe:hunter2@no-such-host.invalid/db",
        "mysql://joe:hunter2@host/db",
        "not a url hunter2",
        "postgresql://joe:hunter2@host:port/db",
    ],
)
def test_a_server_that_does_not_answer_is_one_sentence_without_the_password(url: str) -> None:
    with pytest.raises(Unreachable) as caught:
        open_store(url, "fraudwatch", FIELDS)
    error: BaseException | None = caught.value
    assert "\n" not in str(error)
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or error.__context__


def test_a_database_that_somebody_holds_too_long_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.store.BUSY_TIMEOUT_MS", 50)
    with open_store(f"sqlite:///{tmp_path}/x.db", "", FIELDS) as store:
        upgrade(store, MONITOR, T0)
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="is busy with another process"), store.write():
            pass
        other.close()
