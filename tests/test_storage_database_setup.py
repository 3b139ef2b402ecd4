"""Creating databases, and refusing those of other versions; on both engines."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
    insert,
    inspect,
    select,
    text,
)

from pipeline.config.database import open_configured
from pipeline.daemon.daemon import Daemon, serve
from storage.database import tables, views
from storage.database.column_types import IdText, Instant, Json
from storage.database.database import Store
from storage.database.setup import BASELINE, MIGRATIONS, VERSION_TABLE, Upgrade, upgrade, verify
from storage.errors import SchemaOutOfDate, UnsupportedSchema, WrongMonitor
from storage.queries.flags import FlagFilter, flag_page
from tests.support.commands import CONFIG, fraudwatch
from tests.support.databases import Copier, Opener, with_url
from tests.support.sql import execute, query
from tests.support.worlds import FIRST_WEEK, SMALL

COMMANDS = (("init",), ("run",), ("flags", "list"), ("doctor",), ("models", "list"))


def with_schema(url: str, version: str) -> Store:
    """A database that claims another schema version, with a table that only the unreleased versions had."""
    store = open_configured(with_url(SMALL, url))
    with store.write() as connection:
        if store.dialect == "postgresql":
            connection.execute(text(f'CREATE SCHEMA "{store.schema}"'))
        connection.execute(text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES ('{version}')"))
        connection.execute(text("CREATE TABLE unscored (policy TEXT, transaction_id TEXT)"))
    return store


def test_a_second_upgrade_finds_nothing_to_do(opener: Opener) -> None:
    store = opener(SMALL)
    verify(store, SMALL.monitor.name)
    assert upgrade(store, SMALL.monitor.name, 1) == Upgrade(store.display_url, None, ())


EXPRESSIONS = "ignore:Skipped unsupported reflection of expression-based index"


@pytest.mark.filterwarnings(EXPRESSIONS)
def test_the_migrations_make_the_tables_that_the_code_uses(opener: Opener) -> None:
    assert_tables_are_those_of_the_code(opener(SMALL))


def assert_tables_are_those_of_the_code(store: Store) -> None:
    wanted = MetaData()
    for table in [*tables.metadata.tables.values(), store.transactions, store.revisions]:
        table.to_metadata(wanted)
    with store.read() as connection:
        opts = {"version_table": VERSION_TABLE, "include_name": lambda name, *_: name != "labels_once"}
        wanted.tables["labels"].indexes.discard(
            next(i for i in wanted.tables["labels"].indexes if i.name == "labels_once")
        )  # of expressions, which cannot be compared
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, wanted) == []


# Labels and flags as they were in schema 0202.
BEFORE = MetaData()
LABELS = Table(
    "labels",
    BEFORE,
    Column("label_id", Integer, primary_key=True),
    Column("transaction_id", IdText, nullable=False),
    Column("is_fraud", Boolean, nullable=False),
    Column("source", Text, nullable=False),
    Column("known_at", Instant, nullable=False),
    Column("recorded_at", Instant),
    Column("batch_id", Integer),
    Column(tables.BY, Text, nullable=False),
    UniqueConstraint("transaction_id", "source", "known_at", "is_fraud", name="labels_once"),
    CheckConstraint("(batch_id IS NULL) = (recorded_at IS NOT NULL)", name="labels_recorded"),
    Index("labels_by_known_at", "known_at"),
    Index("labels_by_batch", "batch_id"),
    sqlite_autoincrement=True,
)
FLAGS = Table(
    "flags",
    BEFORE,
    Column("policy", Text, primary_key=True),
    Column("transaction_id", IdText, primary_key=True),
    Column("run_id", Integer, nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("reasons", Json, nullable=False),
    Column("status", Text, tables.one_of("status", "open", "fraud", "genuine", "expired"), nullable=False),
    Column("reviewed_at", Instant),
    Column("reviewer", Text),
    Column("muted_by", Integer),
    sqlite_with_rowid=False,
)


def back_to_0202(store: Store) -> None:
    """Give the database the labels, flags and scores of schema 0202, with some rows."""
    with store.write() as connection:
        for name in views.NAMES:
            connection.execute(text(f"DROP VIEW {name}"))
        for table in ("labels", "flags", "verdicts", "limit_checks"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("ALTER TABLE monitor DROP COLUMN case_entity"))
        connection.execute(text("ALTER TABLE scores DROP COLUMN expected_loss"))
        BEFORE.create_all(connection)
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0202'"))
        of_person = {"is_fraud": True, "source": "review", "known_at": 5, "recorded_at": 7, "batch_id": None}
        of_file = {"is_fraud": False, "source": "bank", "known_at": 6, "recorded_at": None, "batch_id": 3}
        for k, label in enumerate((of_person, of_file, of_person)):
            connection.execute(insert(LABELS), {**label, "transaction_id": f"t{k}", "by": "ana"})
        connection.execute(text("DELETE FROM labels WHERE transaction_id = 't2'"))  # 3 is never used again
        for k, status in enumerate(("open", "fraud", "genuine", "expired")):
            of_flag = {
                "run_id": 1,
                "model_id": 2,
                "channel": "rule",
                "reasons": [{"text": "5 €"}],
                "muted_by": None,
            }
            answer = (
                {"reviewed_at": None, "reviewer": None} if k == 0 else {"reviewed_at": 8, "reviewer": "ana"}
            )
            row = {"policy": "live", "transaction_id": f"t{k}", "status": status, **of_flag, **answer}
            connection.execute(insert(FLAGS), row)


def rows_of(store: Store, table: Table, names: Sequence[str]) -> list[Any]:
    """Some columns of all rows."""
    listed = select(*(table.c[name] for name in names)).order_by(table.c.transaction_id)
    with store.read() as connection:
        return list(connection.execute(listed).all())


@pytest.mark.filterwarnings(EXPRESSIONS)
def test_labels_and_flags_of_schema_0202_are_kept(opener: Opener) -> None:
    store = opener(SMALL)
    back_to_0202(store)
    old = {table.name: [column.name for column in table.c] for table in (LABELS, FLAGS)}
    before = [rows_of(store, table, old[table.name]) for table in (LABELS, FLAGS)]
    assert [len(rows) for rows in before] == [2, 4]

    assert upgrade(store, SMALL.monitor.name, 9, SMALL.labels.precedence).version == tables.VERSION
    verify(store, SMALL.monitor.name)
    assert [rows_of(store, table, old[table.name]) for table in (tables.labels, tables.flags)] == before
    added = [column.name for column in tables.labels.c if column.name not in old["labels"]]
    assert {value for row in rows_of(store, tables.labels, added) for value in row} == {None}
    assert_tables_are_those_of_the_code(store)

    label = {"transaction_id": "t9", "source": "bank", "known_at": 6, "recorded_at": 7, "by": "ana"}
    flag = {
        "run_id": 1,
        "model_id": 2,
        "channel": "rule",
        "reasons": [],
        "policy": "live",
        "transaction_id": "t9",
    }
    with store.write() as connection:
        inserted = connection.execute(insert(tables.labels), {"type": "not_received", **label})
        connection.execute(insert(tables.flags), {"status": "closed", **flag})
    assert inserted.inserted_primary_key == (4,)
    for table, row in (
        (tables.labels, {"type": "not_received", **label}),
        (tables.flags, {**flag, "status": "nap", "transaction_id": "t8"}),
    ):
        with pytest.raises(Exception, match=r"(?i)check|unique"), store.write() as connection:
            connection.execute(insert(table), row)


@pytest.mark.filterwarnings(EXPRESSIONS)
def test_flags_of_schema_0206_get_the_columns_that_they_are_listed_by(copier: Copier) -> None:
    store = copier(FIRST_WEEK)
    before = flag_page(store, "live", FlagFilter()).rows
    with store.write() as connection:
        for name in views.NAMES:
            connection.execute(text(f"DROP VIEW {name}"))
        for index in tables.FLAG_ORDERS:
            index.drop(connection)
        for column in ("loss_order", "score", "event_time", "amount_base"):
            connection.execute(text(f"ALTER TABLE flags DROP COLUMN {column}"))
        for table in ("notes", "claims", "idempotency_keys"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0206'"))
    assert upgrade(store, SMALL.monitor.name, 9, SMALL.labels.precedence).version == tables.VERSION
    verify(store, SMALL.monitor.name)
    assert flag_page(store, "live", FlagFilter()).rows == before
    assert len(before) > 5
    assert_tables_are_those_of_the_code(store)


def test_the_version_in_the_code_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == tables.VERSION


def test_versions_grow_from_the_baseline_on() -> None:
    versions = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    assert versions == sorted(versions, reverse=True)
    assert versions[-1] == BASELINE


def test_a_database_without_tables_is_refused_until_init_creates_them(empty_url: str) -> None:
    with open_configured(with_url(SMALL, empty_url)) as store:
        with pytest.raises(SchemaOutOfDate, match="create or upgrade the tables"):
            verify(store, SMALL.monitor.name)
        assert upgrade(store, SMALL.monitor.name, 2).version == tables.VERSION
        verify(store, SMALL.monitor.name)


@pytest.mark.parametrize("table", ["transactions", "users"])
def test_the_database_of_another_program_is_refused_and_stays_as_it_is(empty_url: str, table: str) -> None:
    with open_configured(with_url(SMALL, empty_url)) as store:
        with store.write() as connection:
            if store.dialect == "postgresql":
                connection.execute(text(f'CREATE SCHEMA "{store.schema}"'))
            connection.execute(text(f"CREATE TABLE {table} (a INTEGER)"))
        with pytest.raises(WrongMonitor, match=rf"holds tables of another program \({table}\)") as refused:
            upgrade(store, SMALL.monitor.name, 2)
        assert refused.value.code == "other_program"
        with store.read() as connection:
            schema = store.schema if store.dialect == "postgresql" else None
            assert inspect(connection).get_table_names(schema) == [table]


@pytest.mark.parametrize("version", ["0001", "0007"])
def test_a_database_of_an_unreleased_version_is_refused_and_stays_as_it_is(
    empty_url: str, version: str
) -> None:
    with with_schema(empty_url, version) as store:
        refused = (
            f"schema {version} of a version before 0.2.0, which cannot be upgraded: set storage.url to a new"
        )
        with pytest.raises(UnsupportedSchema, match=refused):
            verify(store, SMALL.monitor.name)
        with pytest.raises(UnsupportedSchema, match=refused):
            upgrade(store, SMALL.monitor.name, 2)
        with store.read() as connection:
            assert sorted(inspect(connection).get_table_names()) == [VERSION_TABLE, "unscored"]


def test_a_database_of_a_newer_version_is_refused(empty_url: str) -> None:
    with with_schema(empty_url, "9999") as store:
        for act in (lambda: verify(store, SMALL.monitor.name), lambda: upgrade(store, SMALL.monitor.name, 2)):
            with pytest.raises(UnsupportedSchema, match="install the newer version"):
                act()


def test_every_command_ends_with_one_sentence_on_a_database_of_an_unreleased_version(
    empty_url: str, tmp_path: Path
) -> None:
    with_schema(empty_url, "0007").close()
    (tmp_path / "config.toml").write_text(f'{CONFIG}[storage]\nurl = "{empty_url}"\n')
    for command in COMMANDS:
        message = fraudwatch(tmp_path, *command, code=1)
        assert message.count("cannot be upgraded") == 1, (command, message)
        assert message.rstrip().endswith("create its tables, and ingest the data again (fraudwatch init)"), (
            command,
            message,
        )


def test_the_daemon_does_not_wait_for_a_database_of_an_unreleased_version(empty_url: str) -> None:
    with_schema(empty_url, "0007").close()
    daemon = Daemon(lambda: with_url(SMALL, empty_url), by="daemon", clock=lambda: 0)
    with pytest.raises(UnsupportedSchema, match="cannot be upgraded"):
        serve(daemon)
    daemon.close()


def test_another_monitors_database_is_refused_by_name(opener: Opener) -> None:
    store = opener(SMALL)
    with pytest.raises(WrongMonitor, match="other"):
        upgrade(store, "other", 2)
    with pytest.raises(WrongMonitor, match="other"):
        verify(store, "other")


def test_words_that_are_none_are_refused_by_the_tables(opener: Opener) -> None:
    store = opener(SMALL)
    nap = "INSERT INTO ledger (policy, kind, window_start, window_end, due_at, status, attempts) VALUES ('live', 'nap', :t, :t, :t, 'pending', 0)"
    with pytest.raises(Exception, match=r"(?i)check"), store.write() as connection:
        connection.execute(text(nap), {"t": "2026-01-01 00:00:00+00"})


def test_a_command_that_reads_creates_no_database(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'{CONFIG}[storage]\nurl = "sqlite:///{tmp_path}/typo.db"\n')
    for command in (("runs",), ("doctor",), ("backfill", "--from", "2026-01-01", "--to", "2026-01-02")):
        message = fraudwatch(tmp_path, *command, code=1)
        assert (
            "typo.db has no tables of fraudwatch: create or upgrade the tables (fraudwatch init)" in message
        )
    assert not (tmp_path / "typo.db").exists()


def test_deleted_rows_are_overwritten_in_an_sqlite_file(sqlite_opener: Opener, tmp_path: Path) -> None:
    store = sqlite_opener(SMALL)
    # as in a library that was compiled without it
    event.listen(
        store.engine, "connect", lambda driver, _: driver.execute("PRAGMA secure_delete=OFF"), insert=True
    )

    def stored() -> bool:
        return any(b"a person who asked" in path.read_bytes() for path in tmp_path.glob("fraudwatch*"))

    execute(store, "INSERT INTO label_precedence (source, rank) VALUES ('a person who asked', 99)")
    assert stored()
    execute(store, "DELETE FROM label_precedence WHERE rank = 99")
    store.close()  # which takes the log into the file
    assert not stored()


def test_connections_stay_open_until_another_file_is_at_the_path(
    sqlite_opener: Opener, tmp_path: Path
) -> None:
    store, opened = sqlite_opener(SMALL), []
    event.listen(store.engine, "connect", lambda driver, _: opened.append(driver))
    file = tmp_path / "fraudwatch.db"
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))
    execute(store, "INSERT INTO label_precedence (source, rank) VALUES ('later', 99)")
    counted = "SELECT COUNT(*) FROM label_precedence WHERE rank = 99"
    assert query(store, counted) == query(store, counted) == [(1,)]
    assert len(opened) == 0
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    backup.replace(file)
    assert query(store, counted) == [(0,)]
    assert len(opened) == 1
