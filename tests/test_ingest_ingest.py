"""Files become transactions and labels; nothing is lost, and what is bad says why."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text

from pipeline.config.config import Config
from pipeline.errors import InputError
from storage.database.database import Store
from storage.errors import Busy
from storage.frames import DAY, SECOND
from storage.ingest import batches, history
from storage.ingest.batches import Counts
from tests.support.databases import Opener
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, write_csv
from tests.support.worlds import LATER, SMALL, load

GOOD = "g1,2025-01-01T00:00:00Z,c1,m1,12.50"
LONG = "x" * 201

# kind of malformed input, the row as it is in the file, the reason it is set aside for
MALFORMED = [
    ("no id", ",2025-01-01T00:00:00Z,c1,m1,5", "transaction_id is missing"),
    ("blank id", "   ,2025-01-01T00:00:00Z,c1,m1,5", "transaction_id is missing"),
    ("over-long id", f"{LONG},2025-01-01T00:00:00Z,c1,m1,5", "longer than 200"),
    ("NUL in the id", "a\x00b,2025-01-01T00:00:00Z,c1,m1,5", "no database stores"),
    ("no time", "b1,,c1,m1,5", "event_time is missing"),
    ("no time at all", "b2,yesterday,c1,m1,5", "not an ISO 8601 time"),
    ("a date of two kinds", "b3,31/12/2025 10:00,c1,m1,5", "not an ISO 8601 time"),
    ("a month too many", "b4,2025-13-01T00:00:00Z,c1,m1,5", "not an ISO 8601 time"),
    ("naive time", "b5,2025-01-01T00:00:00,c1,m1,5", "no offset from UTC"),
    ("far in the future", "b6,2099-01-01T00:00:00Z,c1,m1,5", "more than an hour ahead"),
    ("of another age", "b7,1901-01-01T00:00:00Z,c1,m1,5", "out of range"),
    ("no amount", "b8,2025-01-01T00:00:00Z,c1,m1,", "amount is missing"),
    ("amount in words", "b9,2025-01-01T00:00:00Z,c1,m1,ten", "amount is not a number"),
    ("amount with a comma", 'c1,2025-01-01T00:00:00Z,c1,m1,"1,50"', "amount is not a number"),
    ("amount that is not", "c2,2025-01-01T00:00:00Z,c1,m1,nan", "amount is not finite"),
    ("infinite amount", "c3,2025-01-01T00:00:00Z,c1,m1,inf", "amount is not finite"),
    ("an amount beyond money", "c4,2025-01-01T00:00:00Z,c1,m1,1e15", "or more"),
    ("too few columns", "c5,2025-01-01T00:00:00Z,c1", "fewer values than the header"),
    ("too many columns", "c6,2025-01-01T00:00:00Z,c1,m1,5,6,7", "more values than the header"),
    ("an over-long field", f"c7,2025-01-01T00:00:00Z,{'y' * 1001},m1,5", "customer_id is longer"),
    ("NUL in a field", "c8,2025-01-01T00:00:00Z,c\x00,m1,5", "no database stores"),
]


def rejected(store: Store) -> list[tuple[int, str, str]]:
    with store.read() as connection:
        sql = "SELECT row_number, row, reason FROM rejected_rows ORDER BY batch_id, row_number"
        return [tuple(row) for row in connection.execute(text(sql.replace(" row,", ' "row",')))]


def names(store: Store) -> list[str]:
    return list(history.load_transactions(store, 0, LATER).transaction_id)


def test_every_kind_of_malformed_row_is_set_aside_with_its_reason(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    path = write_csv(tmp_path / "bad.csv", PAYMENT_HEADER, [GOOD, *(row for _, row, _ in MALFORMED)])
    with path.open("ab") as file:
        file.write(b"c9,2025-01-01T00:00:00Z,caf\xe9,m1,5\n")
    (report,) = load(store, SMALL, "transactions", path)
    found = {number: reason for number, _, reason in rejected(store)}
    for number, (kind, _, reason) in enumerate(MALFORMED, 2):
        assert reason in found[number], kind
    assert "not UTF-8" in found[len(MALFORMED) + 2]
    size = len(MALFORMED) + 2
    assert report.counts == Counts(read=size, accepted=1, rejected=size - 1)
    assert names(store) == ["g1"]


def test_the_same_file_twice_is_recognised_and_rows_again_are_duplicates(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(SMALL)
    rows = [GOOD, "g2,2025-01-01T00:01:00Z,c1,m1,8"]
    path = write_csv(tmp_path / "a.csv", PAYMENT_HEADER, rows)
    load(store, SMALL, "transactions", path)
    (again,) = load(store, SMALL, "transactions", path)
    assert again.same_as == 1
    other = write_csv(tmp_path / "b.csv", PAYMENT_HEADER, [*rows, "g3,2025-01-01T00:02:00Z,c1,m1,9", rows[0]])
    (overlap,) = load(store, SMALL, "transactions", other)
    assert overlap.counts == Counts(read=4, accepted=1, duplicate=3)


def test_a_known_id_with_other_content_is_a_revision_that_features_do_not_see(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(SMALL)
    load(store, SMALL, "transactions", write_csv(tmp_path / "a.csv", PAYMENT_HEADER, [GOOD]))
    changed = GOOD.replace("12.50", "99.00")
    (report,) = load(
        store, SMALL, "transactions", write_csv(tmp_path / "b.csv", PAYMENT_HEADER, [changed, changed])
    )
    assert report.counts == Counts(read=2, duplicate=1, revised=1)
    assert list(history.load_transactions(store, 0, LATER).amount) == [125_000]


@pytest.mark.parametrize("form", ["csv.gz", "parquet", "jsonl"])
def test_every_format_gives_the_same_transactions(opener: Opener, tmp_path: Path, form: str) -> None:
    store = opener(SMALL)
    table = pd.DataFrame(
        {
            "transaction_id": ["1", "2"],
            "event_time": pd.to_datetime(
                ["2025-01-01T00:00:00Z", "2025-01-01T00:00:01.5Z"], format="ISO8601"
            ),
            "customer_id": [7, 8],
            "terminal_id": ["a", None],
            "amount": [1.25, 3.0],
        }
    )
    path = tmp_path / f"x.{form}"
    if form == "parquet":
        table.to_parquet(path)
    elif form == "jsonl":
        table.to_json(path, orient="records", lines=True, date_format="iso", date_unit="us")
    else:
        path.write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    load(store, SMALL, "transactions", path)
    rows = history.load_transactions(store, 0, LATER)
    assert list(rows.transaction_id) == ["1", "2"]
    assert list(rows.amount) == [12_500, 30_000]
    assert rows.event_time[1] - rows.event_time[0] == 3 * SECOND // 2
    assert rows.columns["terminal_id"].codes[1] == -1
    assert [str(v) for v in rows.columns["customer_id"].values] == ["7", "8"]


BROKEN = [
    ("missing column", "a.csv", b"transaction_id,amount\n1,2\n", "no column .event_time."),
    ("empty file", "a.csv", b"", "is empty"),
    ("not Parquet", "a.parquet", b"hello", "not valid Parquet"),
    ("truncated gzip", "a.csv.gz", gzip.compress(PAYMENT_HEADER.encode() * 1000)[:-20], "truncated"),
    ("what format", "a.dat", b"x", "must end in"),
    (
        "a column twice",
        "a.csv",
        b"transaction_id,event_time,customer_id,terminal_id,amount,amount\n",
        "twice",
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "said"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_a_file_that_cannot_be_read_stops_before_anything_is_visible(
    opener: Opener, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    store = opener(SMALL)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        load(store, SMALL, "transactions", tmp_path / name)
    assert names(store) == []
    with store.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM batches")).scalar() == 0


def test_labels_may_come_before_their_transaction_and_an_empty_file_says_how_far(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(SMALL)
    label = "g1,1,2025-01-03T00:00:00Z,chargeback"
    load(store, SMALL, "labels", write_csv(tmp_path / "l.csv", LABEL_HEADER, [label]))
    assert len(history.load_labels(store, 0, LATER)) == 0
    load(store, SMALL, "transactions", write_csv(tmp_path / "t.csv", PAYMENT_HEADER, [GOOD]))
    assert list(history.load_labels(store, 0, LATER).is_fraud) == [True]
    empty = write_csv(tmp_path / "e.csv", LABEL_HEADER, [])
    load(store, SMALL, "labels", empty, history=False, now=LATER + DAY)
    assert history.completeness(store).through[-1] == LATER + DAY


def test_history_without_known_at_needs_known_after(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    load(store, SMALL, "transactions", write_csv(tmp_path / "t.csv", PAYMENT_HEADER, [GOOD]))
    path = write_csv(tmp_path / "l.csv", "transaction_id,is_fraud", ["g1,1", "gone,1"])
    with pytest.raises(InputError, match="known-after"):
        load(store, SMALL, "labels", path)
    (report,) = load(store, SMALL, "labels", path, known_after=7 * DAY)
    assert report.counts == Counts(read=2, accepted=1, rejected=1)
    assert history.load_labels(store, 0, LATER).known_at[0] == 1_735_689_600 * SECOND + 7 * DAY


def test_labels_among_the_transactions_become_labels(opener: Opener, tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "schema": SMALL.schema_.model_dump() | {"is_fraud": "is_fraud", "genuine_means": "genuine"},
            "labels": {"never_by_silence": {}},
        }
    )
    store = opener(config)
    rows = [GOOD + ",1", "g2,2025-01-01T00:01:00Z,c1,m1,8,0", "g3,2025-01-01T00:01:00Z,c1,m1,8,"]
    path = write_csv(tmp_path / "t.csv", PAYMENT_HEADER + ",is_fraud", rows)
    reports = load(store, config, "transactions", path, known_after=DAY)
    assert [report.kind for report in reports] == ["transactions", "labels"]
    assert list(history.load_labels(store, 0, LATER).is_fraud) == [True, False]


def test_hashed_fields_are_never_stored_as_they_are_not_even_in_rejected_rows(
    opener: Opener, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("a key of sixteen characters and more")
    config = Config.model_validate(
        {"schema": SMALL.schema_.model_dump() | {"hash": ["customer_id"], "hash_key_file": str(key)},
         "labels": {"never_by_silence": {}}}
    )  # fmt: skip
    store = opener(config)
    rows = [
        "g1,2025-01-01T00:00:00Z,4111111111111111,m1,5",
        "g2,never,4111111111111111,m1,5",
        "g3,4111111111111111",
    ]
    load(store, config, "transactions", write_csv(tmp_path / "t.csv", PAYMENT_HEADER, rows))
    stored = list(history.load_transactions(store, 0, LATER).columns["customer_id"].values)
    assert stored[0].startswith("•••• 1111 · ")
    assert "4111111111111111" not in json.dumps([row for _, row, _ in rejected(store)])
    assert stored[0] in rejected(store)[0][1]


def test_an_interrupted_ingest_leaves_nothing_and_the_next_one_cleans_up_after_a_killed_one(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(SMALL)
    path = write_csv(tmp_path / "t.csv", PAYMENT_HEADER, [GOOD])
    killed = batches.begin(store, "transactions", "killed", True, LATER, "killed")
    with pytest.raises(Busy, match="killed"):
        batches.begin(store, "transactions", "other", True, LATER, "other")
    with store.write() as connection:
        connection.execute(text("UPDATE leases SET process = 'elsewhere/1', expires_at = NULL"))
    (report,) = load(store, SMALL, "transactions", path)
    assert report.counts.accepted == 1
    with store.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM batches WHERE status = 'loading'")).scalar() == 0
    with pytest.raises(Busy, match="taken over"):
        killed.reject([batches.RejectedRow(1, "{}", "too late")])
