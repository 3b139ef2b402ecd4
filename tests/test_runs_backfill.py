"""Backfills in several processes, under other policies, and of spans that cannot be backfilled; both engines."""

from pathlib import Path

import pytest

from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run, train_once
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY
from storage.queries import policy_diff
from storage.queries.models import model_page
from storage.runs import scoring_queue
from tests.support.databases import Opener, with_url
from tests.support.payments import PAYMENT_HEADER, START, payments, write_csv
from tests.support.sql import FLAGS, SCORES, count, query
from tests.support.worlds import FROM, NOW, SMALL, TO, load


def score(store: Store, config: Config = SMALL, **options: object) -> None:
    """Backfill three weeks under the live policy, or what the options say."""
    defaults = {"start": FROM, "end": TO, "as_of": NOW, "policy": "live", "by": "test"}
    backfill(store, config, **(defaults | options))  # type: ignore[arg-type]


def test_workers_write_what_one_process_writes(backfilled: Store, url: str) -> None:
    whole = query(backfilled, SCORES)
    score(backfilled, with_url(SMALL, url), policy="again", workers=2, end=FROM + 8 * DAY)
    mine = SCORES.replace("FROM scores", "FROM scores WHERE policy = 'again'")
    again = query(backfilled, mine)
    assert again == whole[: len(again)]  # ids are in the order of time
    assert len(again) > 300
    assert query(backfilled, FLAGS)
    assert query(backfilled, "SELECT COUNT(*) FROM flags WHERE policy <> 'live'") == [(0,)]


@pytest.mark.one_engine
def test_a_policy_rescored_by_one_model_marks_what_it_was_trained_on(backfilled: Store) -> None:
    newest = model_page(backfilled, "live").rows[0]
    score(backfilled, policy="one", model_id=newest["model_id"])
    marked = "SELECT in_sample, COUNT(*) FROM scores WHERE policy = 'one' GROUP BY in_sample ORDER BY 2"
    found = {bool(key): number for key, number in query(backfilled, marked)}
    assert found[True] > found[False] > 0
    compared = policy_diff.compare_policies(backfilled, "live", "one")
    assert compared.in_sample == found[True]
    assert sum(cell.n for cell in compared.cells.values()) == found[False]
    with pytest.raises(Unknown, match='policy "two"'):
        policy_diff.compare_policies(backfilled, "live", "two")


@pytest.mark.one_engine
def test_the_same_policy_differs_in_nothing(first_week: Store) -> None:
    score(first_week, policy="again", end=FROM + 7 * DAY)
    assert policy_diff.difference_page(first_week, "live", "again").rows == []


def test_a_span_that_was_loaded_as_arrived_says_so_and_names_the_remedy(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(SMALL)
    rows, _ = payments(10)
    path = write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows)
    load(store, SMALL, "transactions", path, now=START + 300 * DAY, history=False)
    with pytest.raises(NotReady, match="ingest it again as history"):
        score(store, start=START, end=START + 5 * DAY, as_of=START + 20 * DAY)


def test_what_arrives_while_a_backfill_begins_is_left_to_the_next_run(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opener(SMALL)
    rows, _ = payments(40)
    early, late = rows[: 60 * 39], rows[60 * 39 :]
    load(store, SMALL, "transactions", write_csv(tmp_path / "early.csv", PAYMENT_HEADER, early), now=NOW)
    scoring_queue.set_starts_at(store, "live", TO + DAY)
    file = write_csv(tmp_path / "late.csv", PAYMENT_HEADER, late)
    cover = scoring_queue.add_backfilled_span

    def arriving(*given: object) -> None:
        load(store, SMALL, "transactions", file, now=NOW, history=False)
        cover(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring_queue, "add_backfilled_span", arriving)
    score(store, start=TO - 7 * DAY)
    assert query(store, "SELECT COUNT(*) FROM scoring_queue") == [(len(late),)]
    run(store, SMALL, as_of=NOW + 2 * DAY, policy="live", by="test")
    assert query(store, "SELECT COUNT(*) FROM scoring_queue") == [(0,)]
    of_the_late = "SELECT COUNT(*) FROM scores WHERE transaction_id >= 't002340'"
    assert query(store, of_the_late) == [(len(late),)]


def test_nothing_is_written_for_a_database_without_transactions(opener: Opener) -> None:
    store = opener(SMALL)
    for work in (
        lambda: backfill(store, SMALL, start=FROM, end=TO, as_of=NOW, policy="live", by="test"),
        lambda: train_once(store, SMALL, date=TO, as_of=NOW, policy="live", by="test"),
    ):
        with pytest.raises(NotReady, match="no transactions are stored yet") as refused:
            work()
        assert refused.value.code == "no_transactions"
    assert count(store, "runs") == count(store, "ledger") == 0
