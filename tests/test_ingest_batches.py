"""Two batches from one file, what a report and a progress bar say, and what an interrupt leaves."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.data import ingest_lines
from pipeline.errors import InputError
from pipeline.ingest.ingest import ingest_transactions
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import Source
from storage.database.database import CACHE_KIB, LOADING_CACHE_KIB
from storage.frames import DAY
from storage.ingest.batches import Counts, RejectedRow, begin
from tests.support.databases import Opener
from tests.support.ingest import CONFIG, HEADER, NOW, ROWS, configured, file, run, stream
from tests.support.sql import query

# ── labels among the transactions


ANSWERED = configured(entities=("card",), is_fraud="is_fraud", genuine_means="genuine")
ANSWERS = [f"{row},{answer}" for row, answer in zip(ROWS, ("1", "", "0"), strict=True)]
BAD = ["d,never,1,k,1", "e,2026-03-01T06:00:00Z,1,k,perhaps"]


def test_answers_among_transactions_become_labels_of_the_rows_that_went_in(opener, tmp_path):
    store = opener(ANSWERED)
    given = file(tmp_path, [*ANSWERS, *BAD], f"{HEADER},is_fraud")
    loaded, labelled = run(store, ANSWERED, given, known_after=7 * DAY)
    assert loaded.counts == Counts(5, accepted=4, rejected=1)
    assert labelled.counts == Counts(3, accepted=2, rejected=1)
    assert [name for (name,) in query(store, "SELECT transaction_id FROM labels ORDER BY 1")] == ["a", "c"]
    again = run(store, ANSWERED, given, known_after=7 * DAY)
    assert [report.nothing_new for report in again] == [True, True]


def test_an_ingest_stopped_between_the_two_batches_is_completed_by_the_next(opener, tmp_path):
    store = opener(ANSWERED)
    given = file(tmp_path, ANSWERS, f"{HEADER},is_fraud")
    work = ingest_transactions(store, ANSWERED, [given], clock=lambda: NOW, options=Options(known_after=DAY))
    next(work)
    work.close()  # between the two
    assert query(store, "SELECT count(*) FROM labels") == [(0,)]
    loaded, labelled = run(store, ANSWERED, given, known_after=DAY)
    assert loaded.nothing_new
    assert labelled.counts == Counts(2, accepted=2)


def test_answers_of_history_need_known_after(opener, tmp_path):
    store = opener(ANSWERED)
    with pytest.raises(InputError, match="known-after"):
        run(store, ANSWERED, file(tmp_path, ANSWERS, f"{HEADER},is_fraud"))
    loaded, labelled = run(store, ANSWERED, file(tmp_path, ANSWERS, f"{HEADER},is_fraud"), history=False)
    assert (loaded.counts.accepted, labelled.counts.accepted) == (3, 2)


# ── history, and what is said


@pytest.mark.parametrize(
    ("said", "history", "why"),
    [
        (
            None,
            True,
            "as history: every row counts as known when it happened, because no window has been scored yet",
        ),
        (True, True, "as history: every row counts as known when it happened (--history)"),
        (False, False, "as arrived: every row counts as known from now on (--as-arrived)"),
    ],
)
def test_the_report_says_how_rows_count_and_why(opener, tmp_path, said, history, why):
    store = opener(CONFIG)
    (report,) = run(store, CONFIG, file(tmp_path, [*ROWS, "d,,1,"]), history=said)
    assert report.history == history
    assert ingest_lines(report) == [
        "t.csv: 4 transactions read = 3 accepted + 0 duplicate + 0 revised + 1 rejected (batch 1)",
        f"  {why}",
        "  1 × event_time is missing: every transaction needs its time (row 4)",
        "  rejected rows are in the table rejected_rows, with batch_id 1",
    ]


def test_reasons_that_the_report_leaves_out_are_counted(opener, tmp_path):
    store = opener(CONFIG)
    bad = [
        "d,,1,k",
        "e,never,1,k",
        "f,2026-03-01T06:00:00Z,,k",
        "g,2026-03-01T06:00:00Z,much,k",
        ",2026-03-01T06:00:00Z,1,k",
    ]
    bad += ["h,2099-03-01T06:00:00Z,1,k", "i,2099-03-01T06:00:00Z,1,k", "j,2026-03-01T06:00:00Z,1e30,k"]
    twice = [*bad, *(f"again-{row}" if row[0] != "," else row for row in bad)]
    (report,) = run(store, CONFIG, file(tmp_path, [*ROWS, *twice]))
    *lines, others, last = ingest_lines(report)
    told = [int(line.split(" × ")[0]) for line in lines if " × " in line]
    assert len(told) == 5
    assert others == f"  {report.counts.rejected - sum(told)} for 2 other reasons"
    assert last == "  rejected rows are in the table rejected_rows, with batch_id 1"


def test_a_report_cannot_write_on_the_terminal(opener, tmp_path):
    store = opener(CONFIG)
    given = Source("\x1b[2J.csv", file(tmp_path, ROWS).path)
    (report,) = run(store, CONFIG, given)
    assert ingest_lines(report)[0].startswith("\\x1b[2J.csv: 3 transactions read")


# ── an interrupt leaves no trace


class Interrupting:
    """Presses Ctrl-C after some chunks."""

    def __init__(self, after):
        self.left = after

    def start(self, description, total, unit): ...

    def advance(self, amount=1):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def note(self, text): ...

    def stop(self): ...


def test_an_interrupt_leaves_no_trace_and_the_next_ingest_works(opener, tmp_path):
    store = opener(CONFIG)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [f"{n},{(start + timedelta(seconds=n)).isoformat()},1,k" for n in range(60_000)]
    given = file(tmp_path, rows)
    with pytest.raises(KeyboardInterrupt):
        run(store, CONFIG, given, progress=Interrupting(after=2))
    for name in ("transactions", "batches", "rejected_rows", "revisions", "scoring_queue"):
        assert query(store, f"SELECT count(*) FROM {name}") == [(0,)]
    (report,) = run(store, CONFIG, given)
    assert report.counts == Counts(60_000, accepted=60_000)


def test_a_damaged_end_takes_everything_back(opener, tmp_path):
    store = opener(CONFIG)
    path = tmp_path / "t.csv.gz"
    text = "\n".join(
        [HEADER, *(f"{n},2026-03-01T06:00:00Z,1,{np.random.default_rng(n).random()}" for n in range(70_000))]
    )
    path.write_bytes(gzip.compress(text.encode())[:-100])
    with pytest.raises(InputError, match="damaged or truncated"):
        run(store, CONFIG, Source("t.csv.gz", path))
    assert query(store, "SELECT count(*) FROM transactions") == [(0,)]


class Counting:
    """Adds up what a progress bar would show."""

    def start(self, description, total, unit):
        self.total, self.unit, self.done, self.stopped = total, unit, 0.0, False

    def advance(self, amount=1):
        self.done += amount

    def note(self, text): ...

    def stop(self):
        self.stopped = True


@pytest.mark.parametrize("kind", ["csv", "parquet", "stream"])
def test_progress_ends_where_its_total_is(opener, tmp_path, kind):
    store, shown = opener(CONFIG), Counting()
    given = file(tmp_path, ROWS)
    if kind == "parquet":
        pq.write_table(pa.table({name: ["1", "2"] for name in HEADER.split(",")}), tmp_path / "t.parquet")
        given = Source("t.parquet", tmp_path / "t.parquet")
    elif kind == "stream":
        given = stream(given.path.read_text())
    run(store, CONFIG, given, progress=shown)
    assert shown.stopped
    assert (shown.total, shown.unit) == {
        "csv": (pytest.approx(shown.done), "MiB"), "parquet": (2, "rows"), "stream": (None, "rows"),
    }[kind]  # fmt: skip
    assert shown.done == pytest.approx({"csv": shown.total, "parquet": 2, "stream": 3}[kind])


def test_payments_that_nobody_has_labelled_yet_say_nothing_of_the_completeness_of_labels(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(ANSWERED)
    unlabelled = [f"{row}," for row in ROWS]
    for rows in (unlabelled, []):
        run(store, ANSWERED, file(tmp_path, rows, f"{HEADER},is_fraud"), known_after=7 * DAY)
    assert query(store, "SELECT complete_through FROM batches WHERE kind = 'labels'") == [(None,), (None,)]


@pytest.mark.one_engine
@pytest.mark.parametrize("through", [True, False])
def test_a_connection_of_sqlite_keeps_more_pages_only_while_a_batch_is_loaded(sqlite_opener, through):
    store, kept = sqlite_opener(CONFIG), []
    pages = "PRAGMA cache_size"
    with begin(store, "transactions", "a file", True, NOW, "a test") as loader:
        loader.reject([RejectedRow(1, "{}", "no row")])
        kept += query(store, pages)
        if through:
            loader.finish(NOW, "content")
    kept += query(store, pages)
    assert kept == [(-LOADING_CACHE_KIB,), (-CACHE_KIB,)]
