"""A database of a newer version, one whose owner is another role, and the statements that make it."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import CheckConstraint, Column, MetaData, Table, text

from pipeline.config.database import open_configured
from pipeline.daemon.daemon import Daemon
from pipeline.runs.scoring_run import run
from storage.database import setup_sql, tables, views
from storage.database.database import Store
from storage.database.setup import VERSION_TABLE, upgrade, verify
from storage.errors import Locked, NewerSchema, Refused, Unreachable, UnsupportedSchema
from storage.frames import HOUR
from storage.runs import ledger, runs
from storage.runs.ledger import Entry
from tests.support.commands import CONFIG, fraudwatch, invoke
from tests.support.databases import Copier, Opener, PostgresServer, with_url
from tests.support.payments import PAYMENT_HEADER, payments
from tests.support.sql import count, execute, query
from tests.support.worlds import FIRST_WEEK, FROM, LOADED, NOW, SMALL, load_arrivals
from tests.test_storage_database_setup import EXPRESSIONS, assert_tables_are_those_of_the_code

NEWER = "9999"
READ = (
    ("flags", "list"), ("summary", "--from", "2025-01-20", "--to", "2025-01-27"), ("runs",), ("gaps",), ("quality",),
    ("drift",), ("models", "list"), ("strategy", "list"), ("feeds",), ("export", "scores", "-o", "scores.csv"),
    ("report", "--from", "2025-01-20", "--to", "2025-01-27", "-o", "report.html"),
)  # fmt: skip
WRITE = (
    ("run",), ("train",), ("prune",), ("backfill", "--from", "2025-01-20", "--to", "2025-01-27"),
    ("label", "add", "t001200", "--fraud", "--source", "customer"), ("ingest", "transactions", "new.csv"),
    ("mutes", "add", "--channel", "audit", "--for", "1d", "--reason", "noise"),
)  # fmt: skip


def test_an_older_program_reads_and_does_not_write(
    sqlite_copier: Copier, sqlite_url: str, tmp_path: Path
) -> None:
    store = sqlite_copier(FIRST_WEEK)
    upgrade(store, SMALL.monitor.name, 1, SMALL.labels.precedence)
    execute(store, f"UPDATE {VERSION_TABLE} SET version_num = '{NEWER}'")
    (tmp_path / "config.toml").write_text(
        CONFIG.replace('kind = ""', 'kind = ""\noriginal_id = ""') + f'[storage]\nurl = "{sqlite_url}"\n'
    )
    (tmp_path / "new.csv").write_text(f"{PAYMENT_HEADER}\n")
    before = [count(store, name) for name in ("runs", "labels", "mutes", "batches", "audit", "models")]
    for command in READ:
        fraudwatch(tmp_path, *command)
    examined = invoke(tmp_path, "doctor")
    assert f"its schema is {NEWER}, this program's {tables.VERSION}: it can be read" in examined.out
    assert examined.code == 1
    for command in WRITE:
        message = fraudwatch(tmp_path, *command, code=1)
        told = (
            f"has schema {NEWER}, this program has {tables.VERSION} and may only read it: install the newer"
        )
        assert message.count(told) == 1, (command, message)
    assert [
        count(store, name) for name in ("runs", "labels", "mutes", "batches", "audit", "models")
    ] == before

    daemon = Daemon(lambda: with_url(SMALL, sqlite_url), by="daemon", clock=lambda: NOW)
    daemon.check_schema()
    assert daemon.tick() is None
    assert daemon.health.ready() == (True, "standby")
    daemon.close()
    execute(store, "UPDATE monitor SET readable_from = '9998'")
    with pytest.raises(UnsupportedSchema, match="install the newer version"):
        verify(store, SMALL.monitor.name)


def test_a_program_at_work_stops_writing_when_the_database_is_upgraded(loaded: Store) -> None:
    verify(loaded, SMALL.monitor.name)
    bare = Store(loaded.engine, loaded.fields, loaded.schema)
    execute(bare, f"UPDATE {VERSION_TABLE} SET version_num = '{NEWER}'")
    with pytest.raises(NewerSchema):
        runs.begin_run(loaded, "live", "manual", NOW, "", 0)


CATALOGUE = {
    "columns": "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default, collation_name "
    "FROM information_schema.columns WHERE table_schema = 'fraudwatch' ORDER BY 1, 3",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'fraudwatch'::regnamespace ORDER BY 1, 2",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'fraudwatch' ORDER BY 1",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'fraudwatch' ORDER BY 1",
    "functions": "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'fraudwatch'::regnamespace ORDER BY 1",
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    "version": "SELECT * FROM fraudwatch.schema_version",
    "monitor": "SELECT * FROM fraudwatch.monitor",
    "sources": "SELECT * FROM fraudwatch.label_precedence ORDER BY rank",
    "losses": "SELECT * FROM fraudwatch.loss_settings",
}


def catalogue(url: str) -> dict[str, list[Any]]:
    with psycopg.connect(url) as connection:
        return {name: connection.execute(sql).fetchall() for name, sql in CATALOGUE.items()}  # type: ignore[arg-type]


def test_the_printed_statements_make_what_init_makes(
    postgres: PostgresServer, postgres_database: str
) -> None:
    printed, made = f"{postgres_database}_printed", postgres_database
    arguments = (SMALL.monitor.name, 7, SMALL.labels.precedence)
    try:
        for name in (printed, made):
            postgres.create(name)
        with open_configured(with_url(SMALL, postgres.url(made))) as store:
            upgrade(store, *arguments)
        with open_configured(with_url(SMALL, postgres.url(printed))) as store:
            sql = setup_sql.upgrade_sql(store, *arguments)
            with store.read() as connection:
                assert (
                    connection.scalar(text("SELECT COUNT(*) FROM pg_namespace WHERE nspname = 'fraudwatch'"))
                    == 0
                )
            with psycopg.connect(postgres.url(printed), autocommit=True) as connection:
                connection.execute(sql)  # type: ignore[arg-type]
            verify(store, SMALL.monitor.name)
            again = setup_sql.upgrade_sql(store, *arguments)
            with psycopg.connect(postgres.url(printed), autocommit=True) as connection:
                connection.execute(again)  # type: ignore[arg-type]
        assert catalogue(postgres.url(printed)) == catalogue(postgres.url(made))
    finally:
        postgres.drop(printed)


def test_nothing_is_printed_for_a_file(sqlite_opener: Opener) -> None:
    with pytest.raises(Refused, match="printed for Postgres only"):
        setup_sql.upgrade_sql(sqlite_opener(SMALL), SMALL.monitor.name, 1)


def test_a_role_that_owns_nothing_can_do_all_the_work(
    postgres: PostgresServer, postgres_copier: Copier, postgres_url: str, tmp_path: Path
) -> None:
    owner = postgres_copier(LOADED)
    postgres._execute("DROP ROLE IF EXISTS worker")
    postgres._execute("CREATE ROLE worker LOGIN")
    grants = setup_sql.GRANTS.format(schema='"fraudwatch"', database=f'"{owner.engine.url.database}"')
    lines = [line.removeprefix("-- ") for line in grants.splitlines() if line.startswith("-- GRANT")]
    assert len(lines) == 4
    for line in lines:
        execute(owner, line.rstrip(";").replace("NAME", "worker"))
    own = with_url(SMALL, postgres_url.replace("postgres:@", "worker@"))
    with open_configured(own) as store:
        verify(store, SMALL.monitor.name)
        rows, _ = payments(41)
        load_arrivals(store, tmp_path, "transactions", PAYMENT_HEADER, rows[-60:], NOW)
        summary = run(store, SMALL, as_of=NOW + 24 * HOUR, policy="live", by="worker")
        assert summary.scored
        assert not summary.failures
        with pytest.raises(Unreachable, match="refuses this user: must be owner"):
            upgrade(store, SMALL.monitor.name, 1)
    for statement in ("DROP OWNED BY worker", "DROP ROLE worker"):
        execute(owner, statement)


def test_an_upgrade_does_not_wait_for_ever_for_a_table(
    postgres_copier: Copier, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.database.setup.LOCK_TIMEOUT_S", 1)
    store = postgres_copier(LOADED)
    with psycopg.connect(postgres_url) as busy:
        busy.execute("SELECT * FROM fraudwatch.open_gaps")
        with pytest.raises(
            Locked, match="was not changed, because another program kept it locked: stop the programs"
        ):
            upgrade(store, SMALL.monitor.name, 1)


OLD_COLUMNS = {  # of the tables that 0204 changed
    "monitor": ("name", "created_at", "horizon", "visible_at", "notify_since", "hash_displays", "case_entity"),
    "audit": ("audit_id", "at", "actor", "action", "subject", "before", "after"),
    "ledger": (
        "policy", "kind", "window_start", "window_end", "due_at", "status", "attempts", "not_before", "finished_at", "run_id",
        "counts", "error",
    ),
    "runs": (
        "run_id", "policy", "kind", "started_at", "finished_at", "status", "newest_batch", "config", "counts", "error",
    ),
    "watched_files": ("source", "path", "size", "modified_ns", "status", "processed_at", "batch_id", "error"),
}  # fmt: skip


def back_to_0203(store: Store) -> None:
    """Give the database the tables of schema 0203."""
    with store.write() as connection:
        for name in views.NAMES:
            connection.execute(text(f"DROP VIEW {name}"))
        for name in ("tick_steps", "holds"):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("DROP INDEX labels_of_fraud"))
        for name, kept in OLD_COLUMNS.items():
            table = tables.metadata.tables[name]
            if name == "runs":
                connection.execute(text("DROP TABLE runs"))
                columns = [
                    Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable)
                    for c in table.c
                    if c.name in kept
                ]
                check = CheckConstraint("status IN ('running', 'done', 'failed')", name="runs_status_check")
                Table("runs", MetaData(), *columns, check, sqlite_autoincrement=True).create(connection)
                continue
            for trigger in _triggers(connection, name):
                connection.execute(
                    text(f"DROP TRIGGER {trigger}" + (f" ON {name}" if store.dialect != "sqlite" else ""))
                )
            for column in table.c:
                if column.name not in kept:
                    connection.execute(text(f"ALTER TABLE {name} DROP COLUMN {column.name}"))
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0203'"))


def _triggers(connection: Any, table: str) -> list[str]:
    sql = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table"
        if connection.dialect.name == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = CAST(:table AS regclass)"
    )
    return list(connection.scalars(text(sql), {"table": table}))


@pytest.mark.filterwarnings(EXPRESSIONS)
def test_what_ran_under_schema_0203_is_interrupted_and_due_again(opener: Opener) -> None:
    store = opener(SMALL)
    back_to_0203(store)
    key = "'live', 'score', '2025-01-20 00:00:00.000000', '2025-01-21 00:00:00.000000', '2025-01-21 00:00:00.000000'"
    execute(
        store,
        f"INSERT INTO ledger (policy, kind, window_start, window_end, due_at, status, attempts) VALUES ({key}, 'running', 1)",
        "INSERT INTO runs (run_id, policy, kind, started_at, status, newest_batch, config) "
        "VALUES (1, 'live', 'manual', '2025-01-20 00:00:00.000000', 'running', 0, '')",
    )
    assert upgrade(store, SMALL.monitor.name, 9, SMALL.labels.precedence).version == tables.VERSION
    verify(store, SMALL.monitor.name)
    assert query(store, "SELECT status, worker, token FROM ledger") == [("pending", None, 0)]
    assert query(store, "SELECT status, worker FROM runs") == [("interrupted", None)]
    assert query(store, "SELECT readable_from FROM monitor") == [(tables.READABLE_FROM,)]
    [entry] = ledger.unfinished(store, "live")
    assert entry == Entry(
        "live", "score", FROM, entry.window_end, entry.due_at, attempts=1, counts=entry.counts
    )
    assert_tables_are_those_of_the_code(store)
