"""Columns under other names, ids that are made, and orders with several rows: the same whatever comes before or after."""

import json
import random
import re
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.data import ID_NOTE, ingest_lines
from pipeline.config.error_text import InvalidSetting
from pipeline.errors import InputError
from pipeline.ingest.checks.transaction_check import TransactionCheck
from pipeline.ingest.formats import csv_reader, reader
from pipeline.ingest.formats.columns import Numbers
from pipeline.ingest.ids.content_ids import ContentIds
from pipeline.ingest.ids.line_items import LineItems
from pipeline.ingest.ingest import ingest_labels
from pipeline.ingest.sources import Source
from pipeline.ingest.waiting_rows import take_up
from storage.ingest.batches import Counts
from storage.ingest.chunks import TransactionChunk
from tests.support.commands import fraudwatch, invoke
from tests.support.ingest import NOW, configured, file, rejected, run, stream
from tests.support.sql import execute, query

# ── columns under other names

NAMES = {"Kunde Nr.": "customer", "select": "channel", "Betrag": "total", "id": "ref"}
RENAMED = {
    "columns": NAMES,
    "transaction_id": "ref",
    "amount": "total",
    "entities": ("customer",),
    "categorical": ("channel",),
}
RENAMED_COLUMNS = {"id": ["a", "b"], "event_time": ["2026-03-01T06:00Z", "x"], "Betrag": [1.5, 2.0],
                   "Kunde Nr.": ["k1", "k2"], "select": ["web", None]}  # fmt: skip


def write(path, file_format: str) -> Source:
    rows = [
        dict(zip(RENAMED_COLUMNS, row, strict=True)) for row in zip(*RENAMED_COLUMNS.values(), strict=True)
    ]
    if file_format == "parquet":
        pq.write_table(pa.table(RENAMED_COLUMNS), path)
    elif file_format == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text(
            "\n".join(
                ",".join(map(str, row.values()))
                for row in [dict.fromkeys(rows[0]) | {k: k for k in rows[0]}, *rows]
            )
        )
    return Source(path.name, path)


@pytest.mark.parametrize("file_format", ["csv", "parquet", "jsonl"])
def test_columns_have_other_names_here_in_every_format(opener, tmp_path, file_format) -> None:
    config = configured("sixteen characters", hash=("customer",), **RENAMED)
    store = opener(config)
    (report,) = run(store, config, write(tmp_path / f"t.{file_format}", file_format))
    assert query(store, "SELECT transaction_id, amount, channel FROM transactions") == [("a", 1.5, "web")]
    (row, reason) = rejected(store, report.batch_id)[2]
    assert reason.startswith("event_time is not an ISO 8601 time")
    assert set(json.loads(row)) == set(RENAMED_COLUMNS)
    assert len(json.loads(row)["Kunde Nr."]) == 64  # the hash of k2, though the file has another name for it
    assert "k2" not in row


def test_a_missing_column_is_named_as_in_the_file(tmp_path) -> None:
    check = TransactionCheck(configured(**RENAMED))
    (tmp_path / "t.csv").write_text("id,event_time,Betrag,select\n")
    with (
        pytest.raises(
            InputError,
            match=r'no column "Kunde Nr\.".*correct the name "Kunde Nr\." in \[schema\.columns\], or take its line out',
        ),
        closing(reader.open_path(tmp_path / "t.csv", None, "t.csv")) as opened,
    ):
        list(opened.rows(check.expected_columns()))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"Kunde": "custmer"},
            r'schema.columns."Kunde" must be a name that another key of \[schema\] uses, got "custmer"',
        ),
        (
            {"customer": "channel"},
            'schema.columns."customer" must be the name by which all other keys use that column',
        ),
        ({"A": "customer", "B": "Customer"}, 'schema.columns."B" must not be the name that "A" already has'),
    ],
)
def test_a_mistyped_name_is_a_violation(columns, message) -> None:
    with pytest.raises(InvalidSetting, match=message):
        configured(columns=columns, entities=("customer",), categorical=("channel",))


def test_two_columns_may_swap_names() -> None:
    check = TransactionCheck(configured(columns={"a": "b", "b": "a"}, categorical=("a", "b")))
    assert [check.source_name(name) for name in ("a", "b", "amount")] == ["b", "a", "amount"]


# ── ids that are made

MADE = {"transaction_id": "", "entities": ("card",), "categorical": ("channel",)}
HEADER = "event_time,amount,card,channel"
A, B, C = "2026-03-01T06:00Z,5,k1,web", "2026-03-01T06:00Z,5.00,k2,web", "2026-03-02T06:00Z,7,,app"


def ids(store) -> list[str]:
    return [
        row[0]
        for row in query(
            store, "SELECT transaction_id FROM transactions ORDER BY event_time, card, transaction_id"
        )
    ]


def test_equal_rows_of_one_file_are_payments_and_of_two_files_the_same(opener, tmp_path) -> None:
    config = configured(**MADE)
    store = opener(config)
    (first,) = run(store, config, file(tmp_path, [A, B, A, C, A], HEADER))
    assert (first.counts.accepted, first.equal_rows) == (5, 2)
    made = ids(store)
    assert [re.sub("[0-9a-f]{32}", "ID", name) for name in made if name.startswith(made[0])] == [
        "ID",
        "ID-2",
        "ID-3",
    ]
    assert (
        "  2 rows equal an earlier row of this source: each counts as a payment of its own"
        in ingest_lines(first)
    )
    (second,) = run(store, config, file(tmp_path, [C, A, "2026-03-03T06:00Z,7,k9,app", A], HEADER, "u.csv"))
    assert second.counts == Counts(4, accepted=1, duplicate=3)
    assert set(made) < set(ids(store))


def test_ids_are_the_same_in_any_order_of_rows_and_batches(opener, tmp_path, monkeypatch) -> None:
    rows = [A] * 4 + [B] * 3 + [C] + [f"2026-03-04T06:00Z,{n},k{n % 3},web" for n in range(20)]
    config, found = configured(**MADE), []
    for seed, size in ((0, 50_000), (1, 1), (2, 7)):
        monkeypatch.setattr(csv_reader, "BATCH_ROWS", size)
        random.Random(seed).shuffle(rows)
        store = opener(config)
        run(store, config, stream("\n".join([HEADER, *rows])))
        found.append(set(query(store, "SELECT transaction_id, amount, card FROM transactions")))
    assert len(found[0]) == len(rows)
    assert found[0] == found[1] == found[2]


def chunk_of(values: list[int]) -> TransactionChunk:
    size = len(values)
    cards = np.array([None if value % 2 else f"k{value}" for value in values], dtype=object)
    zeros = np.zeros(size, dtype=np.int64)
    none = np.full(size, None, dtype=object)
    return TransactionChunk(
        zeros, none, zeros, np.array(values, dtype=float), zeros, None, none, None, {"card": cards}, {}
    )


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8))
def test_ids_do_not_depend_on_batches(batches: list[list[int]]) -> None:
    together = ContentIds().make(chunk_of([value for batch in batches for value in batch]), ["card"]).tolist()
    maker = ContentIds()
    assert [name for batch in batches for name in maker.make(chunk_of(batch), ["card"]).tolist()] == together
    assert len(set(together)) == len(together)


def test_what_is_missing_and_what_is_hashed_make_other_ids(opener, tmp_path) -> None:
    """An id must not let anybody try out card numbers: of a hashed field only its keyed hash goes into it."""
    names = set[str]()
    for key in ("", "sixteen characters", "seventeen characters"):
        config = configured(key, **(MADE | ({"hash": ("card",)} if key else {})))
        store = opener(config)
        execute(store, "UPDATE monitor SET hash_key_check = NULL")  # as in a database of its own
        run(store, config, file(tmp_path, [A, C], HEADER))
        names |= set(ids(store))
    assert len(names) == 4  # C has no card, so its id is the same each time


def test_labels_of_made_ids_are_inline_or_from_an_export(opener, tmp_path) -> None:
    config = configured(**MADE)
    store = opener(config)
    run(store, config, file(tmp_path, [A, B], HEADER))
    theirs = file(tmp_path, ["order-1,1"], "transaction_id,is_fraud", "labels.csv")
    with pytest.raises(InputError, match="their ids are made here"):
        run(store, config, theirs, ingest_labels, history=False)
    assert query(store, "SELECT count(*) FROM batches WHERE kind = 'labels'") == [(0,)]
    some = file(tmp_path, ["order-1,1", f"{ids(store)[0]},1"], "transaction_id,is_fraud", "labels.csv")
    (report,) = run(store, config, some, ingest_labels, history=False)
    assert (report.counts.accepted, report.without_transaction) == (2, 1)
    labelled = configured(is_fraud="fraud", **MADE)
    inline = file(tmp_path, [f"{C},1"], f"{HEADER},fraud", "inline.csv")
    _, labels = run(store, labelled, inline, known_after=1)
    assert labels.counts.accepted == 1


# ── orders with several rows

ITEMS = {"columns": {"Name": "order_id", "Total": "total"}, "transaction_id": "order_id", "amount": "total", "line_items": True,
         "entities": ("card",)}  # fmt: skip
ITEM_HEADER = "Name,event_time,Total,card"
AT = "2026-03-01T06:00Z"
ORDERS = [
    f"#1,{AT},20.00,k1", f"#1,{AT},,", "#1,,,", f"#2,{AT},5,k2", f"#2,{AT},5.0,k2", f"#3,{AT},1,k3", f"#3,{AT},2,k3", "#3,,,",
    f"#1,{AT},,", f"#4,{AT},,k4", f"#4,{AT},9,k4", "#4,never,9,k4", f"#5,{AT},x,k5", f"#5,{AT},,k5",
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 50_000])
def test_items_of_an_order_are_counted_and_left_out(opener, tmp_path, monkeypatch, size) -> None:
    monkeypatch.setattr(csv_reader, "BATCH_ROWS", size)
    config = configured(**ITEMS)
    store = opener(config)
    (report,) = run(store, config, file(tmp_path, ORDERS, ITEM_HEADER))
    stored = query(store, "SELECT transaction_id, amount, card FROM transactions ORDER BY transaction_id")
    assert stored == [("#1", 20.0, "k1"), ("#2", 5.0, "k2"), ("#3", 1.0, "k3"), ("#4", 9.0, "k4")]
    assert report.items == 5
    assert report.counts == Counts(9, accepted=4, rejected=5)
    blank = "Total is missing, and the row follows no good row of the same Name: sort items behind their order (schema.line_items)"
    other = (
        "Total differs from that of the row above of the same order: schema.line_items needs the order's total in its "
        "first row, or the same in all rows"
    )
    assert {number: reason for number, (_, reason) in rejected(store, report.batch_id).items()} == {
        7: other, 9: blank, 10: blank, 13: "Total is not a number: write 1234.56", 14: blank
    }  # fmt: skip
    assert "  5 further items of orders left out: an order is one transaction" in ingest_lines(report)


BAD_FIRST = {
    # rows of an order, its amounts that are stored, and how many rows are items
    "a bad time": (["#1,never,5,k", f"#1,{AT},5,k", "#1,,,"], [5.0], 1),
    "a bad card": ([f"#1,{AT},5,4.11E+15", f"#1,{AT},5,k"], [5.0], 0),
    "a bad amount": ([f"#1,{AT},x,k", f"#1,{AT},7,k", f"#1,{AT},7,k"], [7.0], 1),
    "amounts of 0": ([f"#1,{AT},50,k", f"#1,{AT},0,k", f"#1,{AT},0.00,k"], [50.0], 2),
    "a free order": ([f"#1,{AT},0,k", f"#1,{AT},0,k"], [0.0], 1),
    "the total last": ([f"#1,{AT},0,k", f"#1,{AT},50,k"], [0.0], 0),
    "a blank time first": (["#1,,5,k", f"#2,{AT},5,k"], [5.0], 0),
}


@pytest.mark.parametrize("size", [1, 50_000])
@pytest.mark.parametrize("name", BAD_FIRST)
def test_the_first_good_row_of_an_order_is_its_transaction(opener, tmp_path, monkeypatch, name, size) -> None:
    monkeypatch.setattr(csv_reader, "BATCH_ROWS", size)
    config = configured(**ITEMS)
    store = opener(config)
    rows, stored, items = BAD_FIRST[name]
    (report,) = run(store, config, file(tmp_path, rows, ITEM_HEADER))
    assert [amount for (amount,) in query(store, "SELECT amount FROM transactions")] == stored
    assert (report.items, report.counts.rejected, report.counts.revised) == (items, len(rows) - items - 1, 0)


def test_without_line_items_a_row_without_an_amount_is_rejected(opener, tmp_path) -> None:
    config = configured(**(ITEMS | {"line_items": False}))
    store = opener(config)
    (report,) = run(store, config, file(tmp_path, ORDERS[:2], ITEM_HEADER))
    assert list(report.reasons) == ["Total is missing: every transaction needs one, 0 is allowed"]


def test_items_need_an_id() -> None:
    with pytest.raises(
        InvalidSetting, match=r"schema\.transaction_id must name the column with the id of the order"
    ):
        configured(transaction_id="", line_items=True)


orders = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1.0, 2.0, None, "wrong"])),
    min_size=1,
    max_size=12,
)


@given(orders, st.integers(1, 5))
def test_items_do_not_depend_on_batches(rows, size) -> None:
    def items(part, finder: LineItems) -> list[bool]:
        amounts = np.array([value if isinstance(value, float) else np.nan for _, value in part])
        missing, wrong = (np.array([value == kind for _, value in part]) for kind in (None, "wrong"))
        return finder.further_items(
            pa.array([name for name, _ in part], pa.string()), Numbers(amounts, missing, wrong), ~wrong
        )[0].tolist()

    expected, order, amount = [], None, None
    for name, value in rows:  # the same, row by row
        if name != order or name is None:
            order, amount = name, None
        expected.append(amount is not None and value in (None, amount))
        amount = value if amount is None and isinstance(value, float) else amount
    finder = LineItems()
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    assert [item for part in parts for item in items(part, finder)] == items(rows, LineItems()) == expected
    assert finder.count == sum(expected)


# ── what the command says

TOML = """
[schema]
transaction_id = ""
entities = ["card"]
categorical = []
kind = ""
[labels]
never_by_silence = {}
"""


def test_the_command_says_once_what_equal_rows_are(tmp_path) -> None:
    (tmp_path / "config.toml").write_text(TOML)
    fraudwatch(tmp_path, "init")
    for name, rows in {"a.csv": [A, A], "b.csv": [A, "never,1,k,web"]}.items():
        (tmp_path / name).write_text("\n".join([HEADER, *rows]))
    said = fraudwatch(tmp_path, "ingest", "transactions", "a.csv", "b.csv")
    assert said.count(ID_NOTE) == 1
    assert (
        '  1 × event_time is not an ISO 8601 time: write 2026-03-01T06:00:00+00:00 (row 2: "never")' in said
    )
    (tmp_path / "labels.csv").write_text("transaction_id,is_fraud,known_at\nx,1,2026-03-05T00:00Z\n")
    wrong = invoke(tmp_path, "ingest", "labels", "labels.csv")
    assert wrong.code == 2
    assert "name the column with labels in schema.is_fraud" in wrong.err


# ── with hashes and rates


def test_card_numbers_are_found_in_a_column_under_another_name(opener, tmp_path) -> None:
    config = configured(columns={"Karte Nr.": "card"}, entities=("card",))
    cards = [
        "4111111111111111",
        "4012888888881881",
        "5555555555554444",
        "5105105105105100",
        "378282246310005",
    ]
    rows = [f"t{n},2026-03-01T06:00Z,1,{card}" for n, card in enumerate(cards)]
    with pytest.raises(InputError, match=r'card numbers in Karte Nr\..*add "card" to schema.hash'):
        run(opener(config), config, file(tmp_path, rows, "transaction_id,event_time,amount,Karte Nr."))


def test_rows_that_wait_for_a_rate_have_the_ids_that_they_get_with_one(opener, tmp_path) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text("date,currency,rate\n2026-01-01,USD,0.9\n")
    config = configured(currency="currency", rates=str(rates), **MADE)
    rows = [f"{A},CHF", f"{A},USD", f"{A},CHF", "2026-03-05T06:00Z,$7,k1,web,CHF"]
    given_file = file(tmp_path, rows, f"{HEADER},currency")
    store = opener(config)
    (waiting,) = run(store, config, given_file)
    assert (waiting.counts.accepted, dict(waiting.waiting), waiting.equal_rows) == (1, {"CHF": 2}, 1)
    assert list(waiting.reasons) == [
        "amount names another currency than that of the row: check schema.currency and base_currency"
    ]
    rates.write_text("date,currency,rate\n2026-01-01,USD,0.9\n2026-01-01,CHF,1\n")
    list(take_up(store, config, lambda: NOW + 1))
    stored = set(ids(store))
    other = opener(config)
    run(other, config, given_file)
    assert stored == set(ids(other))
    assert len(stored) == 3
