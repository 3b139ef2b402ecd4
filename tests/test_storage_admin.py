"""Taking back, erasing, pruning, exporting; on both engines, by the commands and against the tables."""

import csv
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import event, insert, select, text

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.config.retention import cutoffs
from pipeline.errors import InputError
from pipeline.rules.engine import stored_text
from pipeline.runs.scoring_run import run
from pipeline.services.data.export import ExportedTable, ExportRequest, export_table
from pipeline.services.session import Session
from pipeline.written_forms import written_forms
from storage.admin import erase, overwrite, prune, undo
from storage.admin.personal_rows import PersonValue, Spelling
from storage.database import tables
from storage.database.database import Store
from storage.database.setup import upgrade
from storage.errors import Busy, Unknown
from storage.frames import DAY
from storage.ingest import batches
from storage.queries import export as exporting
from storage.review import rules_and_mutes
from storage.review.audit_chain import check_chain
from storage.runs import ledger, scoring_queue
from tests.support.databases import Opener, with_url
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, START, payments, write_csv
from tests.support.reviews import answer
from tests.support.sql import FLAGS, SCORES, count, query
from tests.support.worlds import DAYS, FROM, NOW, SMALL, TO, backfill_live, load, load_both


def test_a_night_can_be_lived_again_after_a_bad_file(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    rows, labels = payments(40)
    cut = 60 * 38
    load_both(store, SMALL, tmp_path, rows[:cut], labels, now=NOW)
    good = write_csv(tmp_path / "good.csv", PAYMENT_HEADER, rows[cut:])
    bad = [",".join([*row.split(",")[:4], str(float(row.split(",")[4]) * 100)]) for row in rows[cut:]]
    load(store, SMALL, "transactions", write_csv(tmp_path / "bad.csv", PAYMENT_HEADER, bad), now=NOW)
    backfill_live(store, TO - 7 * DAY, TO)
    wrong = query(store, SCORES)
    assert count(store, "batches") == 3

    told = undo.undo_batch(store, 3, "amounts in cents", "ann", NOW)
    assert told.counts["transactions"] == told.counts["scores"] == len(bad)
    assert count(store, "transactions") == cut
    assert count(store, "scoring_queue") == 0
    with pytest.raises(Unknown, match="withdrawn"):
        undo.undo_batch(store, 3, "again", "ann", NOW)
    trail = query(store, "SELECT actor, action, subject FROM audit")
    assert trail == [("ann", "undo", "batch 3")]

    load(store, SMALL, "transactions", good, now=NOW, history=True)
    assert count(store, "scoring_queue") == len(bad)
    backfill_live(store, TO - 7 * DAY, TO)
    fixed = query(store, SCORES)
    assert len(fixed) == len(wrong)
    assert fixed != wrong
    kept = query(store, "SELECT COUNT(*) FROM withdrawn_rows WHERE table_name = 'transactions'")
    assert kept == [(len(bad),)]


def test_a_withdrawal_that_was_interrupted_blocks_ingest_and_goes_on_when_repeated(
    backfilled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = count(backfilled, "transactions")
    monkeypatch.setattr(undo, "ROWS_A_WRITE", 500)
    whole = undo._Mover._move
    calls = iter(range(100))

    def killed(self: undo._Mover, *given: object) -> None:
        if next(calls) == 7:
            raise KeyboardInterrupt
        whole(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(undo._Mover, "_move", killed)
    with pytest.raises(KeyboardInterrupt):
        undo.undo_batch(backfilled, 1, "wrong file", "ann", NOW)
    assert 0 < count(backfilled, "transactions") < total
    assert count(backfilled, "visible_transactions") == 0
    with pytest.raises(Busy, match="undo of batch 1 was interrupted"):
        batches.begin(backfilled, "transactions", "x", False, NOW, "bob")
    told = undo.undo_batch(backfilled, 1, "wrong file", "ann", NOW)
    assert told.counts["transactions"] == total
    assert [count(backfilled, table) for table in ("transactions", "scores", "flags")] == [0, 0, 0]
    again = write_csv(tmp_path / "payments.csv", PAYMENT_HEADER, payments(DAYS)[0])
    load(backfilled, SMALL, "transactions", again, now=NOW, history=True)
    assert count(backfilled, "transactions") == total


def test_labels_that_are_withdrawn_open_the_flags_they_had_closed(backfilled: Store) -> None:
    closed = "SELECT COUNT(*) FROM flags WHERE status <> 'open'"
    assert query(backfilled, closed)[0][0] > 0  # type: ignore[operator]
    before = count(backfilled, "labels")
    told = undo.undo_batch(backfilled, 2, "another bank's", "ann", NOW)
    assert told.counts == {"labels": before}
    assert query(backfilled, closed) == [(0,)]
    assert query(backfilled, "SELECT COUNT(*) FROM flags WHERE reviewer IS NOT NULL") == [(0,)]
    assert count(backfilled, "current_labels") == 0


def test_a_run_that_is_withdrawn_is_done_again_with_the_same_result(first_week: Store) -> None:
    ((name,),) = query(first_week, OPEN)
    answer(first_week, name, "no_opinion", NOW)  # a flag that is raised again is answered already
    scores, flags, scored = query(first_week, SCORES), query(first_week, FLAGS), count(first_week, "scores")
    with pytest.raises(Unknown, match="no run 99"):
        undo.undo_run(first_week, 99, "?", "ann", NOW)
    told = undo.undo_run(first_week, 1, "wrong costs", "ann", NOW)
    assert told.counts["scores"] == scored
    assert [count(first_week, table) for table in ("scores", "flags", "drift_metrics")] == [0, 0, 0]
    assert count(first_week, "scoring_queue") == scored
    assert {e.status for e in ledger.entries(first_week, "live")} == {"pending"}
    assert query(first_week, "SELECT COUNT(*) FROM promotions WHERE policy = 'live'") == [(0,)]
    backfill_live(first_week, FROM, FROM + 7 * DAY)
    assert (query(first_week, SCORES), query(first_week, FLAGS)) == (scores, flags)
    assert count(first_week, "scoring_queue") == 0


def person(*values: str) -> list[PersonValue]:
    """A customer, or several, as the service names them."""
    return [PersonValue("customer_id", value, (Spelling(*written_forms(value)),)) for value in values]


def test_a_person_is_erased_everywhere_and_scores_stay(loaded: Store, tmp_path: Path) -> None:
    bad = write_csv(tmp_path / "bad.csv", PAYMENT_HEADER, ["x1,never,c7,m1,5", "x2,never,c77,m1,5"])
    load(loaded, SMALL, "transactions", bad, now=NOW)
    said, fields = stored_text('customer_id = "c7" and amount > 0', SMALL, displays=True)
    rule = {"text": said, "fields": dict(fields)}
    rules_and_mutes.add(loaded, rules_and_mutes.RULE, rule, NOW, "watch c7", "bo", FROM)
    mute = {"kind": "entity", "name": "customer_id", "value": "c7"}
    rules_and_mutes.add(loaded, rules_and_mutes.MUTE, mute, NOW, "c7 called", "bo", FROM)
    backfill_live(loaded, FROM, FROM + 7 * DAY)
    answer(loaded, "t000001", "fraud", NOW, note="c7 called, not c77")
    flagged = query(loaded, "SELECT COUNT(*) FROM flags WHERE channel = 'rule'")[0][0]
    scores = query(loaded, SCORES)
    of_c7 = query(loaded, "SELECT COUNT(*) FROM transactions WHERE customer_id = 'c7'")[0][0]
    told = erase.erase(loaded, person("c7"), "ann", NOW)
    assert told.counts["transactions"] == of_c7
    assert (told.counts["rejected_rows"], told.counts["verdicts"], told.counts["audit"]) == (1, 1, 3)
    assert told.counts["flags"] == flagged > 3
    assert (told.counts["rules"], told.counts["mutes"]) == (1, 1)
    assert re.fullmatch(r"erased-[0-9a-f]{16}", told.values[0].pseudonym)
    everything = [
        str(row) for name in exporting.names(loaded) for part in exporting.rows(loaded, name) for row in part
    ]
    assert not [row for row in everything if "'c7'" in row or '"c7"' in row]
    assert [row for row in everything if '"c77"' in row]
    again = "SELECT COUNT(*) FROM transactions WHERE customer_id = '{}'"
    assert query(loaded, again.format(told.values[0].pseudonym)) == [(of_c7,)]
    last = query(loaded, "SELECT action, subject FROM audit ORDER BY audit_id")[-1]
    assert last == ("erase", f"customer_id {told.values[0].pseudonym}")
    assert query(loaded, SCORES) == scores
    with pytest.raises(Unknown, match="nothing was erased"):
        erase.erase(loaded, person("c7"), "ann", NOW)


KEEP_OLD_BYTES = "PRAGMA secure_delete = OFF"  # the default differs between builds of SQLite


def test_an_erased_value_leaves_no_bytes_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overwrite, "WAIT_MS", 100)
    config = with_url(SMALL, f"sqlite:///{tmp_path / 'f.db'}")
    with open_configured(config) as store:
        event.listen(store.engine, "connect", lambda connection, _: connection.execute(KEEP_OLD_BYTES))
        upgrade(store, config.monitor.name, NOW)
        people = [
            f"person-{n * 7919 % 3000:06d}" for n in range(6000)
        ]  # in no order: indexes move their cells
        rows = [f"t{n},2025-01-01T00:00:00Z,{people[n]},m1,5" for n in range(6000)]
        load(store, SMALL, "transactions", write_csv(tmp_path / "a.csv", PAYMENT_HEADER, rows), now=NOW)
        undo.undo_batch(store, 1, "person-000007 called", "ann", NOW)
        half = write_csv(
            tmp_path / "b.csv", PAYMENT_HEADER, rows[:3000]
        )  # the other half's bytes are in free pages
        load(store, SMALL, "transactions", half, now=NOW + 1)
        for name in ("person-000007", "person-001500", "person-002999"):
            assert erase.erase(store, person(name), "ann", NOW).overwritten
            for file in tmp_path.glob("f.db*"):
                assert name.encode() not in file.read_bytes(), (name, file)
        with store.read() as connection:
            connection.execute(text("SELECT COUNT(*) FROM transactions"))  # a reader that stays
            assert not erase.erase(store, person("person-000001"), "ann", NOW).overwritten
            assert overwrite.waiting_since(store) == NOW
            assert not overwrite.overwrite(store)
        prune.prune(store, {}, NOW + 1)  # once the reader is gone
        assert overwrite.waiting_since(store) is None
        assert not [file for file in tmp_path.glob("f.db*") if b"person-000001" in file.read_bytes()]
        assert query(store, "PRAGMA busy_timeout") == [(store.lock_wait_ms,)]  # not that of overwriting


def test_every_connection_overwrites_what_it_deletes(sqlite_opener: Opener) -> None:
    assert query(sqlite_opener(SMALL), "PRAGMA secure_delete") == [(1,)]


def test_an_id_that_is_a_short_number_changes_nothing_else(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    rows = ["t1,2025-01-01T00:00:00Z,12,m1,12", "t2,2025-01-01T01:00:00Z,7,12,12", "t3,never,12,m1,12"]
    load(store, SMALL, "transactions", write_csv(tmp_path / "a.csv", PAYMENT_HEADER, rows), now=NOW)
    again = [rows[0].replace(",12", ",12", 1)[:-2] + "34", rows[0][:-2] + "56"]
    for number, row in enumerate(again):
        file = write_csv(tmp_path / f"again{number}.csv", PAYMENT_HEADER, [row])
        load(store, SMALL, "transactions", file, now=NOW + number + 1)
    undo.undo_batch(store, 1, "12 rows were wrong", "ann", NOW + 5)
    undo.undo_batch(store, 2, "too", "ann", NOW + 6)
    undo.undo_batch(store, 3, "too", "ann", NOW + 7)
    before = query(store, "SELECT row FROM withdrawn_rows")
    assert len({str(row) for row in before}) == len(before) >= 4
    told = erase.erase(store, [PersonValue("customer_id", "12")], "ann", NOW + 9)
    as_text = lambda rows: [json.loads(r[0]) if isinstance(r[0], str) else r[0] for r in rows]  # noqa: E731
    expected = [
        row | ({"customer_id": told.values[0].pseudonym} if row.get("customer_id") == "12" else {})
        for row in as_text(before)
    ]
    after = as_text(query(store, "SELECT row FROM withdrawn_rows"))
    order = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
    assert sorted(after, key=order) == sorted(expected, key=order)
    assert after != as_text(before)
    (rejected,) = query(store, "SELECT row FROM rejected_rows")
    assert json.loads(str(rejected[0])) == {
        "transaction_id": "t3", "event_time": "never", "customer_id": told.values[0].pseudonym,
        "terminal_id": "m1", "amount": "12",
    }  # fmt: skip
    assert query(store, "SELECT reason FROM withdrawals WHERE withdrawal_id = 1") == [("12 rows were wrong",)]


def test_what_is_older_than_its_retention_goes_and_open_flags_stay(backfilled: Store) -> None:
    before = {"transactions": FROM + 14 * DAY, "drift": FROM + 14 * DAY, "runs": FROM + 7 * DAY}
    would = prune.prune(backfilled, before, NOW, dry=True)
    open_old = query(backfilled, OLD_OPEN)[0][0]
    assert open_old > 0  # type: ignore[operator]
    gone = prune.prune(backfilled, before, NOW)
    assert gone["transactions"] == would["transactions"] > 1000
    assert gone["scores"] > 0
    left = "SELECT COUNT(*) FROM transactions WHERE event_time < '{}'"
    assert query(backfilled, left.format("2025-02-03 00:00:00+00:00"[:19])) == [(open_old,)]
    assert query(backfilled, "SELECT COUNT(*) FROM scores") == query(
        backfilled, "SELECT COUNT(*) FROM scores JOIN transactions USING (transaction_id)"
    )
    assert prune.prune(backfilled, before, NOW) == {}
    # what an open flag kept goes with it once that expires, and is counted before
    before["flags"] = FROM + 14 * DAY
    would = prune.prune(backfilled, before, NOW, dry=True)
    assert (would["expired_flags"], would["transactions"]) == (open_old, open_old)
    gone = prune.prune(backfilled, before, NOW)
    assert (gone["expired_flags"], gone["transactions"]) == (open_old, open_old)
    assert min(e.window_end for e in ledger.entries(backfilled, "live", status="done")) >= FROM + 7 * DAY


def test_messages_notes_and_the_audit_trail_have_retentions_of_their_own(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(SMALL)
    rows = [f"t{n},2025-01-0{n}T00:00:00Z,c1,m1,5" for n in (1, 2, 3)]
    load(store, SMALL, "transactions", write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows), now=NOW)
    for n in (1, 2, 3):
        answer(store, f"t{n}", "fraud", START + n * DAY, note=f"call {n}")
        message = {
            "key": str(n), "target": 1, "event": "flags", "subject": "", "body": "", "created_at": START + n * DAY,
            "due_at": 0, "attempts": 0, "status": "pending" if n == 1 else "sent",
        }  # fmt: skip
        with store.write() as connection:
            connection.execute(insert(tables.outbox), message)
    before = {"messages": START + 3 * DAY, "notes": START + 3 * DAY, "audit": START + 2 * DAY}
    expected = {"outbox": 1, "notes": 4, "audit": 1}  # two notes are in verdicts, and two in the audit trail
    assert prune.prune(store, before, NOW, dry=True) == expected
    assert prune.prune(store, before, NOW) == expected
    assert query(store, "SELECT key FROM outbox ORDER BY 1") == [("1",), ("3",)]  # one waits, one is young
    assert query(store, "SELECT note FROM verdicts ORDER BY verdict_id") == [(None,), (None,), ("call 3",)]
    with store.read() as connection:
        trail = connection.execute(select(tables.audit).order_by(tables.audit.c.audit_id)).all()
    assert [(row.subject, row.after.get("note"), row.after.get("verdict")) for row in trail] == [
        ("t2", None, "fraud"), ("t3", "call 3", "fraud"), ("notes", None, None), ("audit 1", None, None),
    ]  # fmt: skip
    check = check_chain(store, trail[0].hash)
    assert (check.rows, check.redacted, check.is_whole) == (4, 1, True)
    assert prune.prune(store, before, NOW) == {}
    assert prune.prune(store, {"transactions": START + DAY}, NOW)["verdicts"] == 1
    assert count(store, "verdicts") == 2


def test_labels_of_transactions_that_never_came_go_too(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    stray = write_csv(tmp_path / "stray.csv", LABEL_HEADER, ["never-came,1,2025-01-03T00:00:00Z,chargeback"])
    load(store, SMALL, "labels", stray, now=NOW)
    known = START + 2 * DAY
    assert prune.prune(store, {"transactions": known}, NOW) == {}
    assert prune.prune(store, {"transactions": known + 1}, NOW) == {"labels": 1}


OPEN = "SELECT transaction_id FROM flags WHERE status = 'open' ORDER BY transaction_id LIMIT 1"
EXPIRED = """
    SELECT reviewed_at, CASE WHEN muted_by IS NULL THEN 0 ELSE 1 END AS is_muted, COUNT(*) FROM flags
    WHERE status = 'expired' AND reviewer IS NULL GROUP BY 1, 2 ORDER BY 1, 2"""
OLD_OPEN = """
    SELECT COUNT(*) FROM flags f JOIN transactions t USING (transaction_id)
    WHERE f.status = 'open' AND t.event_time < '2025-02-03 00:00:00'"""


def test_the_schedule_prunes_by_the_ledger(loaded: Store) -> None:
    scoring_queue.set_starts_at(loaded, "live", FROM)
    short = SMALL.retention.model_copy(update={"drift": 3 * DAY})
    audited = SMALL.alerts.model_copy(update={"audit_per_day": 3})
    config = SMALL.model_copy(update={"retention": short, "alerts": audited})
    mute = {"kind": "channel", "name": "audit", "value": None}
    rules_and_mutes.add(loaded, rules_and_mutes.MUTE, mute, FROM + DAY, "a holiday", "bo", FROM)
    run(loaded, config, as_of=FROM + 15 * DAY, policy="live", by="test")
    entries = ledger.entries(loaded, "live", "prune")
    assert [(e.window_end - FROM) // DAY for e in entries] == [7, 14]
    assert all(e.status == "done" for e in entries)
    assert entries[-1].counts["drift_metrics"] > 0  # type: ignore[index]
    expired = query(loaded, EXPIRED)
    assert sum(n for _, _, n in expired) == sum(e.counts["expired_flags"] for e in entries)  # type: ignore[index]
    # muted or not, each when the schedule came by, and none that is younger than maturity then
    assert [(str(at)[:10], is_muted) for at, is_muted, _ in expired] == [
        ("2025-01-27", 0), ("2025-01-27", 1), ("2025-02-03", 0),
    ]  # fmt: skip
    young = "SELECT COUNT(*) FROM flags f JOIN transactions t USING (transaction_id) WHERE t.event_time >= '2025-01-29' AND status = '{}'"
    assert query(loaded, young.format("expired")) == [(0,)]
    assert query(loaded, young.format("open"))[0][0] > 0  # type: ignore[operator]
    oldest = query(loaded, "SELECT MIN(window_end) FROM drift_metrics")[0][0]
    assert str(oldest)[:10] >= "2025-01-31"


def test_retention_never_goes_below_what_trainings_look_back() -> None:
    with pytest.raises(Exception, match="training"):
        Config.model_validate({"retention": {"transactions": "30d"}})
    kept = Config.model_validate({"retention": {"transactions": "300d", "runs": "0d"}})
    assert cutoffs(kept, 1000 * DAY) == {
        "transactions": 700 * DAY, "rejected": 910 * DAY, "drift": 270 * DAY, "withdrawn": 910 * DAY,
        "messages": 910 * DAY, "flags": 970 * DAY,
    }  # fmt: skip


EXPIRE = [  # alerts.expire, maturities → after how long flags expire
    ("0s", {"maturity": "30d"}, 30 * DAY),
    ("0s", {"maturity": "30d", "maturity_by": {"channel": {"card": "120d"}}}, 120 * DAY),  # the longest
    ("3d", {"maturity": "30d"}, 3 * DAY),
    ("0s", {"maturity": "0s"}, None),  # never: every open flag would be too old
]


@pytest.mark.parametrize(("expire", "labels", "expected"), EXPIRE)
def test_open_flags_expire_when_silence_has_answered_them(
    expire: str, labels: dict[str, object], expected: int | None
) -> None:
    config = Config.model_validate({"alerts": {"expire": expire}, "labels": labels})
    before = cutoffs(config, 1000 * DAY).get("flags")
    assert before == (None if expected is None else 1000 * DAY - expected)


def test_what_was_pruned_does_not_come_back(opener: Opener, tmp_path: Path) -> None:
    kept = SMALL.retention.model_copy(update={"transactions": 300 * DAY})
    config = SMALL.model_copy(update={"retention": kept})
    store = opener(config)
    file = write_csv(tmp_path / "p.csv", PAYMENT_HEADER, payments(20)[0])
    (report,) = load(store, config, "transactions", file, now=START + 310 * DAY)
    assert report.counts.rejected + report.counts.accepted == 1200
    assert 500 < report.counts.rejected < 700
    assert "older than retention.transactions" in next(iter(report.reasons))
    oldest = query(store, "SELECT MIN(event_time) FROM transactions")[0][0]
    assert str(oldest)[:10] == "2025-01-11"


def test_every_table_and_view_can_be_exported(backfilled: Store, tmp_path: Path) -> None:
    def exported(table: str, file: str) -> ExportedTable:
        session = Session(backfilled, SMALL, "ann", clock=lambda: NOW)
        return export_table(session, ExportRequest(table, tmp_path / file))

    for name in exporting.names(backfilled):
        written = exported(name, f"{name}.parquet").rows
        table = pq.read_table(tmp_path / f"{name}.parquet")
        assert table.num_rows == written == count(backfilled, name), name
        assert exported(name, f"{name}.csv").rows == written
        with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            assert len(list(csv.reader(file))) == written + 1
    flags = pq.read_table(tmp_path / "flagged_transactions.parquet").to_pylist()
    assert flags[0]["event_time"].tzinfo is not None
    assert json.loads(flags[0]["reasons"])
    with pytest.raises(Unknown, match="choose from"):
        exported("users; DROP TABLE flags", "x.csv")
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        exported("flags", "x.txt")
    with pytest.raises(InputError, match="cannot be written"):
        exported("flags", "nowhere/x.csv")
    assert not list(tmp_path.glob(".*.part"))
