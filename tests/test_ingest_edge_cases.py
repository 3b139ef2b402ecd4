"""The rules of ingest beyond the main job: what counts as the same, what is kept, when a label became known."""

import gzip
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from pipeline.config.config import Config
from pipeline.errors import ConfigError, InputError
from pipeline.ingest.ingest import ingest_labels
from pipeline.ingest.sources import Source, sources
from storage.frames import DAY, SECOND
from storage.ingest import batches
from storage.ingest.batches import Counts
from tests.support.ingest import CONFIG, NOW, ROWS, configured, file, micros, run, stream
from tests.support.sql import query

# ── the same content


def test_the_same_content_is_recognised_from_a_file_a_pipe_and_a_renamed_file(opener, tmp_path):
    store = opener(CONFIG)
    given = file(tmp_path, ROWS)
    (first,) = run(store, CONFIG, given)
    again = [run(store, CONFIG, one)[0] for one in (given, file(tmp_path, ROWS, name="u.csv"))]
    (piped,) = run(store, CONFIG, stream(given.path.read_text()))
    assert [report.same_as for report in (*again, piped)] == [first.batch_id] * 3
    assert all(report.nothing_new for report in again)
    assert query(store, "SELECT count(*) FROM batches") == [(1,)]


@pytest.mark.parametrize("setting", [{"timezone": "UTC"}, {"hash": ("card",)}])
def test_the_same_file_read_by_other_settings_is_read_again(opener, tmp_path, setting):
    given = file(tmp_path, ROWS)
    store = opener(CONFIG)
    run(store, CONFIG, given)
    other = configured(key="sixteen characters", entities=("card",), **setting)
    (report,) = run(store, other, given)
    assert report.counts == Counts(3, duplicate=3) if "timezone" in setting else report.counts.revised == 2


def test_a_payment_keeps_the_rate_it_was_converted_by(opener, tmp_path):
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2026-01-01,USD,0.9\n")
    config = configured(currency="currency", rates=str(tmp_path / "rates.csv"))
    store = opener(config)
    rows = ["a,2026-03-01T06:00:00Z,10,usd", "b,2026-03-01T06:00:00Z,10,EUR"]
    given = file(tmp_path, rows, "transaction_id,event_time,amount,currency")
    run(store, config, given)
    stored = "SELECT currency, amount_base FROM transactions ORDER BY transaction_id"
    assert query(store, stored) == [("USD", 9.0), ("EUR", 10.0)]
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2026-01-01,USD,0.8\n")
    (report,) = run(store, config, given)
    assert report.nothing_new
    (other,) = run(store, config, file(tmp_path, rows, "transaction_id,event_time,amount,currency", "u.csv"))
    assert other.nothing_new
    assert query(store, stored) == [("USD", 9.0), ("EUR", 10.0)]


# ── sources


def test_every_kind_of_source_gives_the_same_rows(opener, tmp_path):
    store = opener(CONFIG)
    moments = [datetime(2026, 3, 1 + day, 6, tzinfo=UTC) for day in range(3)]
    columns = {
        "transaction_id": pa.array([1, 2, 3], pa.int32()),
        "event_time": pa.array(moments, pa.timestamp("ns", "Europe/Paris")),
        "amount": pa.array([Decimal("12.5000"), Decimal("-3"), Decimal(0)]),
        "card": pa.array([7.0, 7.0, None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    lines = "".join(
        f'{{"transaction_id": {n + 1}, "event_time": "{moment.isoformat()}", "amount": {amount}, "card": {card}}}\n'
        for n, (moment, amount, card) in enumerate(
            zip(moments, ("12.50", "-3", "0.0"), (7, 7, "null"), strict=True)
        )
    )
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    csv = [
        f"{n + 1},{m.isoformat()},{a},{c}"
        for n, (m, a, c) in enumerate(zip(moments, (12.5, -3, 0), ("7", "7", ""), strict=True))
    ]
    given = [
        Source("t.parquet", tmp_path / "t.parquet"),
        Source("t.jsonl.gz", tmp_path / "t.jsonl.gz"),
        file(tmp_path, csv),
        stream(lines),
    ]
    reports = run(store, CONFIG, given)
    assert reports[0].counts == Counts(3, accepted=3)
    assert [report.counts for report in reports[1:]] == [Counts(3, duplicate=3)] * 3


def test_rows_of_a_query_are_ingested(opener, tmp_path):
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as theirs, theirs:
        theirs.execute("CREATE TABLE payments (id INTEGER, at TEXT, cents INTEGER, card)")
        theirs.executemany(
            "INSERT INTO payments VALUES (?, ?, ?, ?)",
            [
                (1, "2026-03-01T06:00:00Z", 1250, "k"),
                (2, "2026-03-01T07:00:00Z", 5, 4111),
                (3, "soon", 1, None),
            ],
        )
    theirs.close()
    sql = "SELECT id AS transaction_id, at AS event_time, cents / 100.0 AS amount, card FROM payments"
    source = {"theirs": {"url": f"sqlite:///{tmp_path}/theirs.db", "query": sql}}
    config = Config.model_validate({"schema": CONFIG.schema_.model_dump(), "source": source, "labels": {}})
    store = opener(config)
    (given,) = sources(config, "transactions", [], "theirs", None)
    (report,) = run(store, config, given)
    assert report.counts == Counts(3, accepted=2, rejected=1)
    stored = query(store, "SELECT transaction_id, amount, card FROM transactions ORDER BY 1")
    assert [(name, float(amount), card) for name, amount, card in stored] == [
        ("1", 12.5, "k"),
        ("2", 0.05, "4111"),
    ]
    (again,) = run(store, config, given)
    assert again.nothing_new
    assert query(store, "SELECT count(*) FROM batches") == [(1,)]
    with pytest.raises(InputError, match="holds transactions, not labels: ingest it as transactions"):
        sources(config, "labels", [], "theirs", None)
    with pytest.raises(ConfigError, match=r"source\.ours is not configured"):
        sources(config, "labels", [], "ours", None)


ARGUMENTS = [
    (([], None, None), "name a file, - for standard input, or a query"),
    ((["none.csv"], None, None), "does not exist"),
    (([".."], None, None), "is a folder"),
    ((["-", "-"], None, None), "only once"),
    ((["a.csv"], "theirs", None), "not both at once"),
]


@pytest.mark.parametrize(("arguments", "said"), ARGUMENTS)
def test_arguments_that_name_no_source_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        sources(CONFIG, "transactions", *arguments)


def test_a_missing_column_in_the_last_file_stops_before_the_first_is_loaded(opener, tmp_path):
    store = opener(CONFIG)
    given = [file(tmp_path, ROWS), file(tmp_path, ["a,1"], "transaction_id,amount", "u.csv")]
    with pytest.raises(InputError, match=r'u\.csv has no column "event_time"'):
        run(store, CONFIG, given)
    assert query(store, "SELECT count(*) FROM batches") == [(0,)]
    assert query(store, "SELECT count(*) FROM transactions") == [(0,)]


WRONG_TYPES = [
    ({"event_time": pa.array([1_772_344_800])}, 'column event_time holds numbers, which format.time = "iso" does not read; the first reads as epoch_seconds: set format.time'),
    ({"amount": pa.array([datetime(2026, 3, 1, tzinfo=UTC)])}, "column amount holds timestamp"),
    ({"card": pa.array([[1, 2]])}, "column card holds list"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "said"), WRONG_TYPES)
def test_a_parquet_column_of_a_type_that_cannot_be_meant_is_refused(opener, tmp_path, wrong, said):
    store = opener(CONFIG)
    good = {"transaction_id": ["a"], "event_time": ["2026-03-01T06:00Z"], "amount": [1.0], "card": ["k"]}
    pq.write_table(pa.table(good | wrong), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=said):
        run(store, CONFIG, Source("t.parquet", tmp_path / "t.parquet"))


# ── what is kept


def test_text_is_stripped_and_instants_and_amounts_are_exact(opener, tmp_path):
    config = configured(
        entities=("card",), numeric=("score",), kind="kind", original_id="first", timezone="Europe/Paris"
    )
    store = opener(config)
    rows = [
        " a ,2026-03-29 03:30:00.123456,0.00016,  k 1 ,,payment,",
        "b,2025-07-01T00:00:00.5+0530,-99999999999.9999, ,1e3,refund, a ",
        'c,2026-01-01,+7.,"k,\n1",NaN,,',
    ]
    run(store, config, file(tmp_path, rows, "transaction_id,event_time,amount,card,score,kind,first"))
    chunk = batches_of(store)
    assert chunk["a"] == (micros("2026-03-29T01:30:00.123456+00:00"), 0.00016, "k 1", None, "payment", None)
    assert chunk["b"] == (
        micros("2025-06-30T18:30:00.5+00:00"),
        -99999999999.9999,
        None,
        1000.0,
        "refund",
        "a",
    )
    assert chunk["c"] == (micros("2025-12-31T23:00:00+00:00"), 7.0, "k,\n1", None, None, None)


def batches_of(store):
    t = store.transactions.c
    with store.read() as connection:
        rows = connection.execute(
            select(t.transaction_id, t.event_time, t.amount, t.card, t.score, t.kind, t.original_id)
        )
        return {row[0]: tuple(row[1:]) for row in rows}


def test_labels_may_be_written_in_many_words(opener, tmp_path):
    store = opener(CONFIG)
    words = ["1", "0", "TRUE", "False", "fraud", "Genuine", "yes", "No"]
    rows = [f"t{n},{word},2026-03-02T00:00Z" for n, word in enumerate(words)]
    (report,) = run(store, CONFIG, file(tmp_path, rows, "transaction_id,is_fraud,known_at"), ingest_labels)
    assert report.counts == Counts(8, accepted=8)
    stored = query(store, "SELECT is_fraud, source FROM labels ORDER BY transaction_id")
    assert [bool(answer) for answer, _ in stored] == [True, False] * 4
    assert {source for _, source in stored} == {"chargeback"}


# ── since when a label is known


KNOWN = [
    # history, known_after, known_at in the file → since when, or the reason, per transaction a and z (unseen)
    (True, 7 * DAY, "", (micros("2026-03-08T06:00+00:00"), "not here yet")),
    (True, 60 * DAY, "", (NOW, "not here yet")),  # it is known now, so not later than now
    (True, 7 * DAY, "2026-03-05T00:00Z", (micros("2026-03-05T00:00+00:00"),) * 2),  # what is said counts
    (False, None, "", (NOW, NOW)),
    (False, 7 * DAY, "", (micros("2026-03-08T06:00+00:00"), "not here yet")),
    (False, None, "2026-03-05T00:00Z", (micros("2026-03-05T00:00+00:00"),) * 2),
]


@pytest.mark.parametrize("whole_column", [True, False])
@pytest.mark.parametrize(("history", "known_after", "known_at", "expected"), KNOWN)
def test_since_when_a_label_is_known(
    opener, tmp_path, history, known_after, known_at, expected, whole_column
):
    store = opener(CONFIG)
    run(store, CONFIG, file(tmp_path, ROWS))
    header, tail = (
        ("transaction_id,is_fraud,known_at", f",{known_at}")
        if known_at or whole_column
        else ("transaction_id,is_fraud", "")
    )
    given = file(tmp_path, [f"{name},1{tail}" for name in "az"], header, "l.csv")
    (report,) = run(store, CONFIG, given, ingest_labels, history=history, known_after=known_after)
    found = dict(query(store, "SELECT transaction_id, known_at FROM labels"))
    since = [at for at in expected if isinstance(at, int)]
    assert [
        micros(str(found[name]) + ("+00:00" if isinstance(found[name], str) else ""))
        for name in sorted(found)
    ] == since
    assert report.counts.rejected == 2 - len(since)
    assert all("not loaded yet" in reason for reason in report.reasons)


def test_history_without_a_column_for_it_or_known_after_is_refused_whole(opener, tmp_path):
    store = opener(CONFIG)
    given = file(tmp_path, ["a,1"], "transaction_id,is_fraud")
    with pytest.raises(InputError, match="pass known-after"):
        run(store, CONFIG, given, ingest_labels)
    assert query(store, "SELECT count(*) FROM batches") == [(0,)]


# ── completeness


def through(store):
    found = query(store, "SELECT complete_through FROM batches WHERE kind = 'labels' ORDER BY batch_id")
    return [
        at if at is None else micros(f"{at}+00:00" if isinstance(at, str) else str(at)) for (at,) in found
    ]


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("empty", ["transaction_id,is_fraud\n", '{"never": "mind"}'])
def test_an_empty_list_says_each_time_anew_that_nothing_is_known(opener, tmp_path, history, empty):
    store = opener(CONFIG)
    path = tmp_path / "l.csv" if "," in empty else tmp_path / "l.jsonl"
    path.write_text(empty if "," in empty else "")
    for now in (NOW, NOW + 7 * DAY):
        (report,) = run(store, CONFIG, Source("l", path), ingest_labels, now=now, history=history)
        assert (report.counts, report.nothing_new) == (Counts(), False)
    assert through(store) == [NOW, NOW + 7 * DAY]


def test_completeness_may_be_said_and_the_same_file_may_say_another_one(opener, tmp_path):
    store = opener(CONFIG)
    given = file(tmp_path, ["a,1,2026-03-05T00:00Z"], "transaction_id,is_fraud,known_at")
    for day in (1, 2, 2):
        run(store, CONFIG, given, ingest_labels, complete_through=NOW - day * DAY)
    assert through(store) == [NOW - DAY, NOW - 2 * DAY]


def test_known_times_are_asked_for_by_batches_only(opener, tmp_path):
    store = opener(CONFIG)
    run(store, CONFIG, file(tmp_path, ROWS))
    times = batches.event_times(store, np.array(["c", "nobody", "a"], dtype=object))
    assert times.tolist()[::2] == [micros("2026-03-03T06:00+00:00"), micros("2026-03-01T06:00+00:00")]
    assert times[1] < -SECOND
