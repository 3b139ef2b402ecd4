"""The benchmark that compares two databases sees every bit, reads earlier names, and looks past the text of reasons."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text

from benchmarks.equal import comparable, main
from tests.support.databases import SqliteFiles, copy_world, with_url
from tests.support.worlds import FIRST_WEEK, SMALL


@pytest.fixture
def compare(sqlite_files: SqliteFiles, tmp_path: Path) -> Callable[..., int]:
    """Compare a world with a copy of it that statements have changed."""
    for name in ("old", "new"):
        copy_world(sqlite_files, FIRST_WEEK, str(tmp_path / name))

    def compare(sql: str, **values: object) -> int:
        old, new = (
            with_url(SMALL, sqlite_files.url(str(tmp_path / name))).storage_url for name in ("old", "new")
        )
        engine = create_engine(new)
        with engine.begin() as connection:
            assert connection.execute(text(sql), values).rowcount > 0
        engine.dispose()
        return main([old, new])

    return compare


NOTHING = "UPDATE monitor SET created_at = created_at"


def test_copies_are_equal(compare: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(NOTHING) == 0
    assert "equal" in capsys.readouterr().out


def test_the_last_bit_of_one_score_is_seen(
    compare: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    lowest = float(np.nextafter(0.5, 1.0))
    assert compare(
        "UPDATE scores SET threshold = 0.5 WHERE transaction_id = (SELECT MIN(transaction_id) FROM scores)"
    )
    assert compare(
        "UPDATE scores SET threshold = :value WHERE transaction_id = (SELECT MIN(transaction_id) FROM scores)",
        value=lowest,
    )
    assert "differing: threshold 1" in capsys.readouterr().out


def test_a_missing_score_is_seen(compare: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("DELETE FROM scores WHERE transaction_id = (SELECT MIN(transaction_id) FROM scores)")
    assert "1 only in OLD" in capsys.readouterr().out


def test_another_strategy_is_seen(compare: Callable[..., int]) -> None:
    assert compare("UPDATE scores SET strategy = 'other' WHERE strategy <> 'other'") == 1


def test_an_earlier_name_is_read_as_the_newer_one() -> None:
    assert comparable("strategy", pd.Series(["bridge", "outlier"])).tolist() == ["blend", "outlier"]


def test_reasons_may_be_worded_anew_but_not_valued_anew(compare: Callable[..., int]) -> None:
    assert compare('UPDATE flags SET reasons = REPLACE(reasons, \'"text": "\', \'"text": "so: \')') == 0
    assert compare("UPDATE flags SET reasons = :reasons", reasons=json.dumps([{"code": "AMOUNT"}])) == 1


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not a file"):
        main([str(tmp_path / "no.db"), str(tmp_path / "no.db")])
