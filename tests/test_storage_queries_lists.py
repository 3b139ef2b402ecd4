"""The lists of the read side: every page size gives the same rows once, in the order of the list, with typed values."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import insert, update

from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY
from storage.ingest import feed_state
from storage.ingest.feed_state import WatchedFile
from storage.models import models
from storage.queries.choices import choice_page, choice_row
from storage.queries.flags import FlagFilter, count_flags, flag_page, flag_row, flags_of
from storage.queries.models import check_page, model_page, model_row
from storage.queries.monitoring import DriftFilter, QualityFilter, drift_page, quality_page
from storage.queries.rows import Position, Row, RowPage
from storage.queries.runs import gap_page, run_page
from storage.queries.status import feed_page
from tests.support.worlds import FROM, NOW

ReadPage = Callable[[Store, int | None, Position | None], RowPage]

LISTS: dict[str, ReadPage] = {
    "flags": lambda store, *page: flag_page(store, "live", FlagFilter(), *page),
    "open flags": lambda store, *page: flag_page(
        store, "live", FlagFilter(status="open", muted=False), *page
    ),
    "flags by score": lambda store, *page: flag_page(store, "live", FlagFilter(), *page, order="score"),
    "flags by amount": lambda store, *page: flag_page(store, "live", FlagFilter(), *page, order="amount"),
    "choices": lambda store, *page: choice_page(store, "live", *page),
    "models": lambda store, *page: model_page(store, "live", *page),
    "checks": lambda store, *page: check_page(store, "live", *page),
    "runs": lambda store, *page: run_page(store, "live", *page),
    "gaps": lambda store, *page: gap_page(store, "live", *page),
    "drift": lambda store, *page: drift_page(store, "live", DriftFilter(since=FROM), *page),
    "quality": lambda store, *page: quality_page(store, "live", QualityFilter(), *page),
    "feeds": feed_page,
}


@pytest.fixture
def store(backfilled: Store) -> Store:
    """Three weeks of flags, models and metrics, with a rejected candidate, a repeated promotion, gaps and feeds."""
    gap = {"policy": "live", "window_start": FROM, "window_end": FROM + DAY, "due_at": FROM, "attempts": 1}
    failed = gap | {"status": "failed", "not_before": None}
    gaps = [
        failed | {"kind": "train", "window_start": FROM + DAY, "due_at": FROM + 1},
        failed | {"kind": "prune"},
        failed | {"kind": "prune", "window_start": FROM + 1, "not_before": NOW},
    ]
    with backfilled.write() as connection:
        connection.execute(
            update(tables.promotion_checks)
            .where(tables.promotion_checks.c.model_id == 2)
            .values(verdict="rejected")
        )
        connection.execute(tables.promotions.delete().where(tables.promotions.c.model_id == 2))
        connection.execute(insert(tables.ledger), gaps)
        connection.execute(insert(tables.runs), [
            {"policy": "live", "kind": "arrival", "started_at": NOW, "status": "running", "newest_batch": 2, "config": ""}
        ] * 4)  # fmt: skip
    for _ in range(2):
        models.promote(backfilled, "live", NOW + DAY, 1, "twice at one instant", "ann", NOW)
    feed_state.save_cursor(backfilled, "warehouse", NOW, NOW, None)
    for path in ("a.csv", "b.csv"):
        feed_state.save_file(backfilled, "inbox", WatchedFile(path, 1, 1, "done", NOW))
    return backfilled


def test_pages_of_any_size_hold_each_row_of_each_list_once(store: Store) -> None:
    for name, read in LISTS.items():
        everything = read(store, None, None)
        assert everything.next_position is None
        assert len(everything.rows) > 1, name
        for size in (1, 7, 10_000):
            assert pages(store, read, size) == everything.rows[: 40 * size], (name, size)


def pages(store: Store, read: ReadPage, size: int) -> list[Row]:
    """The rows of the first forty pages."""
    rows: list[Row] = []
    position: Position | None = None
    for _ in range(40):
        page = read(store, size, position)
        assert len(page.rows) <= size
        rows += page.rows
        position = page.next_position
        if position is None:
            break
    return rows


def test_every_list_has_its_order(store: Store) -> None:
    flags = flag_page(store, "live", FlagFilter(), order="time").rows
    assert flags == sorted(flags, key=lambda row: (-row["event_time"].timestamp(), row["transaction_id"]))
    for order, key in (("score", "score"), ("amount", "amount_base")):
        ranked = flag_page(store, "live", FlagFilter(), order=order).rows  # type: ignore[arg-type]  # a str to mypy
        assert ranked == sorted(flags, key=lambda row: (-row[key], row["transaction_id"]))
    drift = [(row["window_end"], row["alarm"]) for row in drift_page(store, "live", DriftFilter()).rows]
    assert drift == sorted(drift, reverse=True)
    listed = [(row["model_id"], row["verdict"], row["seq"]) for row in model_page(store, "live").rows]
    assert [seq for _, _, seq in listed[:2]] == sorted((seq for _, _, seq in listed[:2]), reverse=True)
    assert (2, "rejected", None) in listed
    gaps = [(row["kind"], row["remedy"]) for row in gap_page(store, "live").rows[:3]]
    assert gaps == [("prune", "repeat_window"), ("prune", "wait"), ("train", "repeat_training")]
    feeds = [(row["feed"], row["path"], row["read_through"]) for row in feed_page(store).rows]
    read_through = datetime.fromtimestamp(NOW / 1e6, UTC)
    assert feeds == [
        ("warehouse", None, read_through),
        ("inbox", "a.csv", None),
        ("inbox", "b.csv", None),
    ]


def test_instants_are_aware_money_is_exact_and_truths_are_booleans(store: Store) -> None:
    for name, read in LISTS.items():
        for row in read(store, 50, None).rows:
            naive = [
                key for key, value in row.items() if isinstance(value, datetime) and value.tzinfo is not UTC
            ]
            assert not naive, name
    row = flag_page(store, "live", FlagFilter(status="fraud"), 1).rows[0]
    assert isinstance(row["event_time"], datetime)
    assert isinstance(row["amount"], Decimal)
    assert row["is_fraud"] is True


def test_one_row_by_its_key_and_none_for_a_key_that_is_unknown(store: Store) -> None:
    newest = flag_page(store, "live", FlagFilter(), 1).rows[0]
    assert flag_row(store, "live", newest["transaction_id"]) == newest
    assert count_flags(store, "live", FlagFilter()) == len(flag_page(store, "live", FlagFilter()).rows)
    for code, read in (
        ("unknown_flag", lambda: flag_row(store, "live", "T-none")),
        ("unknown_model", lambda: model_row(store, "live", 99)),
        ("unknown_choice", lambda: choice_row(store, "live", 99)),
    ):
        with pytest.raises(Unknown) as caught:
            read()
        assert caught.value.code == code
        assert "fraudwatch" not in str(caught.value)


def test_a_field_named_like_a_column_of_flags_has_a_name_of_its_own(store: Store) -> None:
    columns = flag_page(store, "live", FlagFilter(), limit=1).rows[0].keys()
    beside = {"transaction_id", "event_time", "amount", "amount_base", "currency", *store.fields.names}
    wide = store.with_extra_columns(tuple(columns - beside), ())
    page = [str(column.key) for column in flags_of(wide, "live", "staged_ids").selected_columns]
    for name in columns - beside:
        assert f"transaction_{name}" in page
