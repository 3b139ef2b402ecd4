"""Creating and upgrading databases, on both engines."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, text

from pipeline.config.database import open_configured
from storage.database import setup, tables
from storage.database.database import Store
from storage.database.setup import MIGRATIONS, VERSION_TABLE, upgrade, verify
from storage.errors import SchemaOutOfDate, WrongMonitor
from tests.conftest import Opener, with_url
from tests.factories import SMALL


def as_first_released(url: str) -> Store:
    """A database with the first version's schema."""
    store = open_configured(with_url(SMALL, url))
    if store.dialect == "postgresql":
        setup._create_schema(store)
    with store.exclusive() as connection:
        command.upgrade(setup._alembic(connection), "0001")
        connection.execute(tables.monitor.insert(), {"name": SMALL.monitor.name, "created_at": 1})
    return store


def test_a_second_upgrade_finds_nothing_to_do(opener: Opener) -> None:
    store = opener(SMALL)
    verify(store, SMALL.monitor.name)
    assert ["nothing to do" in line for line in upgrade(store, SMALL.monitor.name, 1)] == [True]


def test_the_migrations_make_the_tables_that_the_code_uses(opener: Opener) -> None:
    store = opener(SMALL)
    wanted = MetaData()
    for table in [*tables.metadata.tables.values(), store.transactions, store.revisions]:
        table.to_metadata(wanted)
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, wanted) == []


def test_the_version_in_the_code_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == tables.VERSION


def test_an_older_database_is_refused_until_init_upgrades_it(url: str) -> None:
    store = as_first_released(url)
    with pytest.raises(SchemaOutOfDate, match="fraudwatch init"):
        verify(store, SMALL.monitor.name)
    assert any(tables.VERSION in line for line in upgrade(store, SMALL.monitor.name, 2))
    verify(store, SMALL.monitor.name)
    store.close()


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


def test_a_database_of_the_first_release_keeps_all_it_holds(url: str) -> None:
    store = as_first_released(url)
    at = "2026-01-01 00:00:00+00"
    with store.write() as connection:
        for sql in FIRST_ROWS:
            connection.execute(text(sql), {"t": at})
    upgrade(store, SMALL.monitor.name, 2)
    with store.read() as connection:
        found = connection.execute(text("SELECT kind, status, attempts FROM ledger ORDER BY kind")).all()
        assert [tuple(row) for row in found] == [("score", "pending", 0), ("train", "done", 1)]
        assert connection.execute(text("SELECT score, in_sample FROM scores")).all() == [(0.5, None)]
        assert connection.execute(
            text("SELECT transaction_id FROM visible_transactions")
        ).scalars().all() == ["a"]
        assert connection.execute(text("SELECT kind FROM open_gaps")).scalars().all() == ["score"]
        assert connection.execute(text("SELECT planned_until FROM policies")).scalars().all() == [None]
        moved = connection.execute(text("SELECT value, effect, pooled, why FROM drift_metrics")).all()
        assert moved == [(0.3, None, 1, None)]
        quality = "SELECT metric, kind, value, model_id, channel, alarm FROM quality_metrics"
        assert [tuple(row) for row in connection.execute(text(quality))] == [
            ("precision", "realised", 0.4, 0, "", False)
        ]
    store.close()


FIRST_ROWS = (
    "INSERT INTO batches (batch_id, kind, source, status, history, read, accepted, holder, started_at, visible_at) "
    "VALUES (1, 'transactions', 'f', 'done', true, 1, 1, 'me', :t, :t)",
    "INSERT INTO transactions (transaction_id, event_time, amount, amount_base, batch_id) VALUES ('a', :t, 1, 1, 1)",
    "INSERT INTO policies (policy, starts_at) VALUES ('live', :t)",
    "INSERT INTO ledger (policy, kind, window_start, window_end, due_at, status, attempts) "
    "VALUES ('live', 'score', :t, :t, :t, 'due', 0)",
    "INSERT INTO ledger (policy, kind, window_start, window_end, due_at, status, attempts) "
    "VALUES ('live', 'train', :t, :t, :t, 'done', 1)",
    "INSERT INTO scores (policy, transaction_id, run_id, model_id, score, channel, flagged, strategy) "
    "VALUES ('live', 'a', 1, 1, 0.5, 'outlier', false, 'outlier')",
    "INSERT INTO drift_metrics (policy, window_start, window_end, feature, metric, value, threshold, alarm, n_reference, "
    "n_current, run_id) VALUES ('live', :t, :t, 'amount', 'psi', 0.3, 0.25, true, 100, 50, 1)",
    "INSERT INTO quality_metrics (policy, window_start, metric, kind, value, n) "
    "VALUES ('live', :t, 'precision', 'realised', 0.4, 10)",
)
