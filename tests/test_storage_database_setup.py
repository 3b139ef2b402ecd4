"""Creating databases, and refusing those of other versions; on both engines."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text

from pipeline.config.database import open_configured
from pipeline.daemon.daemon import Daemon, serve
from storage.database import tables
from storage.database.database import Store
from storage.database.setup import BASELINE, MIGRATIONS, VERSION_TABLE, Upgrade, upgrade, verify
from storage.errors import SchemaOutOfDate, UnsupportedSchema, WrongMonitor
from tests.support.commands import CONFIG, fraudwatch
from tests.support.databases import Opener, with_url
from tests.support.worlds import SMALL

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


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migrations_make_the_tables_that_the_code_uses(opener: Opener) -> None:
    store = opener(SMALL)
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
