"""Backfills in processes, under other policies, and of spans that cannot be lived again; both engines."""

from pathlib import Path

import pytest

from pipeline.errors import NotReady
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY
from storage.queries import listings, policy_diff
from storage.runs import scoring_queue
from tests.conftest import Opener, with_url
from tests.factories import PAYMENT_HEADER, SMALL, START, load, payments, write_csv
from tests.test_runs_scoring_run import FLAGS, FROM, NOW, SCORES, TO, loaded, query


def live(store: Store, url: str, **options: object) -> None:
    given = {"start": FROM, "end": TO, "as_of": NOW, "policy": "live", "by": "test"} | options
    backfill(store, with_url(SMALL, url), **given)  # type: ignore[arg-type]


def test_workers_write_what_one_process_writes(opener: Opener, url: str, tmp_path: Path) -> None:
    store = loaded(opener, tmp_path)
    live(store, url)
    whole = query(store, SCORES)
    live(store, url, policy="again", workers=2)
    mine = SCORES.replace("FROM scores", "FROM scores WHERE policy = 'again'")
    assert query(store, mine) == whole
    assert query(store, FLAGS)
    assert query(store, "SELECT COUNT(*) FROM flags WHERE policy <> 'live'") == [(0,)]


def test_a_policy_rescored_by_one_model_marks_what_it_was_trained_on(
    opener: Opener, url: str, tmp_path: Path
) -> None:
    store = loaded(opener, tmp_path)
    live(store, url)
    newest = listings.models(store, "live")[0]
    live(store, url, policy="one", model_id=newest["model_id"])
    marked = "SELECT in_sample, COUNT(*) FROM scores WHERE policy = 'one' GROUP BY in_sample ORDER BY 2"
    found = {bool(key): number for key, number in query(store, marked)}
    assert found[True] > found[False] > 0
    compared = policy_diff.compare(store, "live", "one")
    assert compared.in_sample == found[True]
    assert sum(cell.n for cell in compared.cells.values()) == found[False]
    assert compared.lines("EUR")[1].endswith("a model was trained on them")
    with pytest.raises(Unknown, match='policy "two"'):
        policy_diff.compare(store, "live", "two")


def test_the_same_policy_differs_in_nothing(opener: Opener, url: str, tmp_path: Path) -> None:
    store = loaded(opener, tmp_path)
    live(store, url)
    live(store, url, policy="again")
    assert list(policy_diff.differences(store, "live", "again", None, None, 10)) == []


def test_a_span_that_was_loaded_as_arrived_says_so_and_names_the_remedy(
    opener: Opener, url: str, tmp_path: Path
) -> None:
    store = opener(SMALL)
    rows, _ = payments(10)
    path = write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows)
    load(store, SMALL, "transactions", path, now=START + 300 * DAY, history=False)
    with pytest.raises(NotReady, match="--history"):
        live(store, url, start=START, end=START + 5 * DAY, as_of=START + 20 * DAY)


def test_what_arrives_while_a_backfill_begins_is_left_to_the_next_run(
    opener: Opener, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opener(SMALL)
    rows, _ = payments(40)
    early, late = rows[: 60 * 39], rows[60 * 39 :]
    load(store, SMALL, "transactions", write_csv(tmp_path / "early.csv", PAYMENT_HEADER, early), now=NOW)
    scoring_queue.set_starts_at(store, "live", TO + DAY)
    file = write_csv(tmp_path / "late.csv", PAYMENT_HEADER, late)
    cover = scoring_queue.cover

    def arriving(*given: object) -> None:
        load(store, SMALL, "transactions", file, now=NOW, history=False)
        cover(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring_queue, "cover", arriving)
    live(store, url)
    assert query(store, "SELECT COUNT(*) FROM unscored") == [(len(late),)]
    run(store, with_url(SMALL, url), as_of=NOW + 2 * DAY, policy="live", by="test")
    assert query(store, "SELECT COUNT(*) FROM unscored") == [(0,)]
    of_the_late = "SELECT COUNT(*) FROM scores WHERE transaction_id >= 't002340'"
    assert query(store, of_the_late) == [(len(late),)]
