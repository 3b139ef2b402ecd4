"""What a run keeps in memory of the history."""

import numpy as np
import pytest

from pipeline.schedule import run_context
from pipeline.schedule.run_context import HistoryReader
from storage.database.database import Store
from storage.frames import DAY
from tests.support.databases import Copier
from tests.support.worlds import FROM, LOADED, SMALL, TO

WEEK = 7 * DAY


@pytest.fixture
def loaded(sqlite_copier: Copier) -> Store:
    return sqlite_copier(LOADED)


def test_a_run_that_read_all_history_reads_on_once_for_its_windows_and_the_next_training(
    loaded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_context, "READ_AHEAD", WEEK)
    reader = HistoryReader(loaded, SMALL, "live", TO)
    block = reader.for_training(FROM - WEEK, FROM)
    assert reader.for_training(FROM - WEEK) is reader.for_training(FROM) is block
    inside, beyond = (reader.for_rows(day, day + DAY, ids(loaded, day)) for day in (FROM, FROM + WEEK))
    assert inside is block
    assert beyond is not block
    assert reader.for_training(FROM + WEEK) is beyond


def test_a_run_that_has_read_nothing_reads_the_entities_of_a_few_payments_only(loaded: Store) -> None:
    reader = HistoryReader(loaded, SMALL, "live", TO)
    one = reader.for_rows(TO - DAY, TO, ids(loaded, TO - DAY)[:1])
    assert 0 < len(one) < len(reader.for_training(TO))


def ids(store: Store, day: int) -> np.ndarray:
    transactions = HistoryReader(store, SMALL, "live", TO).span(day, day + DAY).transactions
    return transactions.transaction_id[transactions.event_time >= day]
