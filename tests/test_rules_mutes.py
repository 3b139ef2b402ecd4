"""Mutes: flags are marked while a mute is in force, and written all the same."""

import json

import numpy as np
import pytest

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.rules.mutes import Mute, known_feature, mark_muted
from pipeline.runs.backfill import backfill
from storage.database.database import Store
from storage.frames import DAY, Coded, Transactions
from storage.queries.flags import FlagFilter, count_flags, flag_page
from storage.review import rules_and_mutes
from storage.review.rules_and_mutes import MUTE
from storage.runs.scores import Flag
from tests.support.sql import query
from tests.support.worlds import FROM, NOW, SMALL, TO

ROWS = Transactions(
    np.array(["a", "b"], dtype=object),
    np.array([10, 20]),
    np.array([10, 20]),
    np.array([1, 1]),
    {"customer_id": Coded(np.array([0, -1], dtype=np.int32), np.array(["C1"], dtype=object))},
)


def flag(name: str = "a", channel: str = "outlier") -> Flag:
    return Flag(name, 1, channel, json.dumps([{"feature": "amount", "code": "AMOUNT"}]))


COVERED = [
    # kind, name, value, start, end, flag, whether it is covered
    ("entity", "customer_id", "C1", 0, 99, flag(), True),
    ("entity", "customer_id", "C2", 0, 99, flag(), False),
    ("entity", "customer_id", "C1", 11, 99, flag(), False),  # it happened before
    ("entity", "customer_id", "C1", 0, 10, flag(), False),  # the end does not belong to it
    ("entity", "customer_id", "C1", 10, 11, flag(), True),
    ("entity", "customer_id", "C1", 0, 99, flag("b"), False),  # has no customer
    ("entity", "gone_id", "C1", 0, 99, flag(), False),  # a field that is configured no more
    ("feature", "amount", None, 0, 99, flag(), True),
    ("feature", "AMOUNT", None, 0, 99, flag(), True),
    ("feature", "night", None, 0, 99, flag(), False),
    ("channel", "outlier", None, 0, 99, flag(), True),
    ("channel", "rule", None, 0, 99, flag(), False),
    # a sample drawn at random stays one
    ("entity", "customer_id", "C1", 0, 99, flag(channel="audit"), False),
    ("feature", "amount", None, 0, 99, flag(channel="audit"), False),
    ("channel", "audit", None, 0, 99, flag(channel="audit"), True),
]


@pytest.mark.parametrize(("kind", "name", "value", "start", "end", "raised", "covered"), COVERED)
def test_a_mute_covers_what_it_names_while_it_is_in_force(
    kind: str, name: str, value: str | None, start: int, end: int, raised: Flag, covered: bool
) -> None:
    mutes = [Mute(7, kind, name, value, start, end), Mute(8, kind, name, value, start, end)]
    assert [one.muted_by for one in mark_muted([raised], ROWS, mutes)] == [7 if covered else None]


def test_a_feature_that_is_none_is_refused_with_the_one_that_was_meant() -> None:
    assert known_feature("customer_id_count_7d", Config()) == "customer_id_count_7d"
    assert known_feature("VELOCITY", Config()) == "VELOCITY"
    with pytest.raises(InputError, match="did you mean customer_id_count_7d"):
        known_feature("customer_id_cuont_7d", Config())


@pytest.mark.one_engine
def test_muted_flags_are_written_marked_and_left_out_of_lists_and_digests(first_week: Store) -> None:
    before = query(first_week, "SELECT transaction_id, muted_by FROM flags")
    said = {"kind": "channel", "name": "outlier", "value": None}
    number, _ = rules_and_mutes.add(first_week, MUTE, said, NOW + DAY, "known", "ana", FROM + 9 * DAY)
    with first_week.write() as connection:  # as if it had been made then: the backfill's horizon is later
        from sqlalchemy import update

        from storage.database.tables import mutes

        connection.execute(update(mutes).values(effective_from=FROM + 9 * DAY))
    backfill(first_week, SMALL, start=FROM + 7 * DAY, end=TO, as_of=NOW, policy="live", by="test")
    rows = query(first_week, "SELECT f.channel, f.muted_by, f.status FROM flags f")
    assert len(rows) > len(before)
    assert {row[1] for row in rows if row[0] != "outlier"} == {None}
    muted = [row for row in rows if row[1] is not None]
    assert {row[1] for row in muted} == {number}
    assert {str(row[2]) for row in muted} <= {"open", "fraud"}
    assert (
        count_flags(first_week, "live", FlagFilter(muted=True))
        == len(muted)
        == rules_and_mutes.muted_by(first_week, "live")[number]
        > 0
    )
    shown = flag_page(first_week, "live", FlagFilter(muted=False)).rows
    assert len(shown) == len(rows) - len(muted)
    assert len(flag_page(first_week, "live", FlagFilter()).rows) == len(rows)
