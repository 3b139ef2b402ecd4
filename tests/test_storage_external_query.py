import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest

from storage.errors import Unreachable
from storage.ingest.external_query import read_query

SECOND = 1_000_000
MINUTE = 60 * SECOND
ROWS = [(1, "a", 1.5), (2, "b", None), (3, "c", 2.0)]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A database of somebody else's with one small table."""
    if request.param == "postgresql":
        yield from _postgres(request.getfixturevalue("postgres"))
    else:
        yield _sqlite(tmp_path / "theirs.db")


def _sqlite(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE payments (id INTEGER, name TEXT, amount REAL)")
        connection.executemany("INSERT INTO payments VALUES (?, ?, ?)", ROWS)
    connection.close()
    return f"sqlite:///{path}"


def _postgres(server):
    name = f"theirs_{os.getpid()}"
    server.drop(name)
    with psycopg.connect(server.create(name), autocommit=True) as connection:
        connection.execute("CREATE TABLE payments (id BIGINT, name TEXT, amount DOUBLE PRECISION)")
        connection.cursor().executemany("INSERT INTO payments VALUES (%s, %s, %s)", ROWS)
        yield server.url(name)
    server.drop(name)


def read(url, query, timeout=MINUTE, size=2):
    return list(read_query(url, query, timeout, size, "source.theirs"))


def test_rows_come_in_parts_with_the_names_of_their_columns(url):
    parts = read(url, "SELECT id, name, amount AS paid FROM payments ORDER BY id")
    assert [names for names, _ in parts] == [["id", "name", "paid"]] * 3
    assert [len(rows) for _, rows in parts] == [2, 1, 0]
    assert [row for _, rows in parts for row in rows] == ROWS


def test_a_query_without_rows_still_names_its_columns(url):
    assert read(url, "SELECT id FROM payments WHERE id < 0") == [(["id"], [])]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM payments;",
        "  -- all of them; really\n SELECT count(*) FROM payments /* ; */ ",
        "WITH p AS (SELECT * FROM payments) SELECT count(*) FROM p",
        "SELECT count(*) FROM payments WHERE name <> ';' AND name NOT LIKE 'z%' AND name <> ':x'",
    ],
)
def test_one_select_is_read_however_it_is_written(url, query):
    assert read(url, query)[0][1] == [(3,)]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM payments",
        "SELECT 1; DELETE FROM payments",
        "SELECT 1; COMMIT; DELETE FROM payments",
        "INSERT INTO payments SELECT * FROM payments",
        "PRAGMA journal_mode = DELETE",
        "SET default_transaction_read_only = off",
        "",
    ],
)
def test_anything_but_one_select_is_refused(url, query):
    with pytest.raises(Unreachable, match="must have one SELECT"):
        read(url, query)
    assert read(url, "SELECT count(*) FROM payments")[0][1] == [(3,)]


def test_the_database_itself_refuses_a_select_that_writes(url):
    query = "WITH gone AS (DELETE FROM payments RETURNING id) SELECT * FROM gone"
    with pytest.raises(Unreachable, match=r"source\.theirs gives no rows"):
        read(url, query)
    assert read(url, "SELECT count(*) FROM payments")[0][1] == [(3,)]


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
STREAM = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"


def test_a_query_without_an_answer_in_time_is_given_up(url):
    with pytest.raises(Unreachable, match=r"no answer within 0\.2 s; raise its timeout or narrow its query"):
        read(url, ENDLESS, timeout=SECOND // 5)


def test_rows_are_streamed_and_reading_may_stop_early(tmp_path, url):
    # Postgres computes what stands after FROM before the first row, and what stands after SELECT row by row
    stream = "SELECT generate_series(1, 1000000000000)" if url.startswith("postgresql") else STREAM
    parts = read_query(url, stream, MINUTE, 1000, "source.theirs")
    assert len(next(parts)[1]) == 1000
    assert next(parts)[1][0] == (1001,)
    parts.close()


@pytest.mark.parametrize(
    "query", ["SELECT nothing FROM payments", "SELECT * FROM nowhere", "SELECT FROM FROM"]
)
def test_a_query_the_database_refuses_is_reported_with_its_words(url, query):
    with pytest.raises(Unreachable, match=r"source\.theirs gives no rows: .*(nothing|nowhere|FROM)"):
        read(url, query)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///{tmp}/none.db", "there is no file"),
        ("postgresql://somebody:secret@127.0.0.1:1/none", "gives no rows"),
        ("mysql://somebody:secret@host/db", "mysql database"),
        ("oracle+oracledb://somebody:secret@host/db", "oracle database"),
        ("not a url secret", "not a database URL"),
    ],
)
def test_a_database_that_is_not_there_is_reported_without_its_password(tmp_path, url, said):
    with pytest.raises(Unreachable, match=said) as refused:
        read(url.format(tmp=tmp_path), "SELECT 1")
    assert "secret" not in str(refused.value)
    assert not list(tmp_path.iterdir())  # a mistyped path makes no file


def test_values_keep_their_types(url):
    if url.startswith("sqlite"):
        return
    query = "SELECT 1.10::numeric, TIMESTAMPTZ '2026-03-01 06:00+00', true, NULL"
    assert read(url, query)[0][1] == [(Decimal("1.10"), datetime(2026, 3, 1, 6, tzinfo=UTC), True, None)]
