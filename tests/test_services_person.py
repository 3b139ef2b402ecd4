"""A person who asks: what is stored of them is shown, exported and erased, in every form and to the last byte."""

import io
import json
import os
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from pipeline.config.config import HASH_KEY, Config
from pipeline.hashing import Hasher
from pipeline.ingest import feeds
from pipeline.monitoring import limits
from pipeline.notifications.deliver import queue_messages
from pipeline.runs.backfill import backfill
from pipeline.services.admin import UndoRequest, undo_batch, undo_run, verify_audit
from pipeline.services.holds import NewHold, add_hold, end_hold, list_holds
from pipeline.services.person import EntityValue, erase, export, summarise
from pipeline.services.review.labels import LabelRetraction, NewLabel, add_labels, retract_labels
from pipeline.services.review.mutes import EntityTarget, NewMute, add_mute
from pipeline.services.review.notes import NewNote, add_note
from pipeline.services.review.rules import NewRule, add_rule
from pipeline.services.review.verdicts import NewVerdict, record
from pipeline.services.session import Session
from storage.admin.prune import prune
from storage.database import tables
from storage.database.database import Store
from storage.database.personal_columns import CANNOT, MAY_HOLD, all_tables, undeclared
from storage.database.tables import Fields
from storage.errors import Refused
from storage.frames import DAY
from storage.runs import runs
from tests.support.commands import CONFIG, fraudwatch
from tests.support.databases import Engine, Opener, with_url
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, payments, time_text, write_csv
from tests.support.sql import count, query
from tests.support.worlds import FROM, NOW, SMALL, TO, load

KEY = "0123456789abcdef"
NAME = 'Łukasz.Neill "Lucky" O\'Mal\\ey'  # of every kind that is written in another way somewhere
ADDRESS = "Lucky.Oneill@example.com"
CARD = "4242424242424242"
CARD_HASH = Hasher(KEY.encode()).hash(CARD)
PERSON = [EntityValue("customer_id", NAME), EntityValue("email", ADDRESS), EntityValue("card_id", CARD)]
UNTIL = timedelta(days=30)


def settings(folder: Path) -> Config:
    raw = SMALL.model_dump(mode="json", by_alias=True, exclude={"storage"})
    raw["schema"] |= {
        "entities": ["customer_id", "terminal_id", "email", "card_id"], "categorical": ["memo"], "hash": ["card_id"],
    }  # fmt: skip
    raw["limit"] = {"customers": {"basis_points": 1.0, "per": "customer_id"}}
    raw["notify"] = {"urls": ["json://127.0.0.1:9/hook"]}
    raw["watch"] = {"inbox": {"folder": str(folder), "kind": "transactions", "settle_time": "0s"}}
    config = Config.model_validate(raw)
    config._secrets[HASH_KEY] = SecretStr(KEY)
    return config


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def lived(opener: Opener, folder: Path) -> Session:
    """A monitor in which a person has left traces by every command that may keep one."""
    config = settings(folder / "inbox")
    (folder / "inbox").mkdir()
    store = opener(config)
    config = with_url(config, store.engine.url.render_as_string(hide_password=False))
    config._secrets[HASH_KEY] = SecretStr(KEY)
    session = Session(store, config, "ann", clock=lambda: NOW)
    header = f"{PAYMENT_HEADER},email,card_id,memo"
    rows, labels = payments(40)
    queue_messages(store, config, TO - DAY)  # messages are about what happens from now on
    full = []
    for row in rows:
        cells = row.split(",")
        mine = cells[2] == "c7"
        cells[2] = quoted(NAME) if mine else cells[2]
        card = CARD if mine else f"card{cells[2]}"
        if mine:  # more fraud than anybody else's, so that a message about a limit names it
            labels.append(f"{cells[0]},1,{time_text(TO - DAY)},customer")
        full.append(
            ",".join([*cells, ADDRESS if mine else "", card, quoted(f"for {NAME}") if mine else "web"])
        )
    load(store, config, "transactions", write_csv(folder / "p.csv", header, full), now=TO)
    late = [f"{line},{quoted(f'says {NAME}')}" for line in labels]
    load(store, config, "labels", write_csv(folder / "l.csv", f"{LABEL_HEADER},reason", late), now=TO)
    bad = [f"x1,never,{quoted(NAME)},m1,5,{ADDRESS},{CARD},{quoted(NAME)}", f'x2,"{NAME},']
    load(store, config, "transactions", write_csv(folder / "bad.csv", header, bad), now=NOW)
    lines = [
        json.dumps(dict.fromkeys(header.split(",")) | {"transaction_id": "x3", "customer_id": NAME}),
        json.dumps({"a": f"\n{NAME}"})[:-1],
    ]
    (folder / "bad.jsonl").write_text("\n".join(lines) + "\n")
    load(store, config, "transactions", folder / "bad.jsonl", now=NOW + 1)

    (folder / "inbox" / f"{ADDRESS}.csv").write_text(f"{NAME}\n1\n")
    os.utime(folder / "inbox" / f"{ADDRESS}.csv", (1, 1))
    for _ in feeds.poll(store, config, lambda: NOW):
        pass
    rule = f"customer_id = {json.dumps(NAME, ensure_ascii=False)} and amount > 0"
    add_rule(session, NewRule(UNTIL, f"watch {NAME}, {ADDRESS}", rule))
    add_mute(session, NewMute(UNTIL, f"{NAME} called", EntityTarget("customer_id", NAME)))
    add_mute(session, NewMute(UNTIL, f"of {CARD_HASH}", EntityTarget("card_id", CARD)))
    with store.write() as connection:  # in force for all of it
        for table in (tables.rules, tables.mutes):
            connection.execute(table.update().values(effective_from=FROM, created_at=FROM))
    for start in (FROM, FROM + 7 * DAY):
        run_live(store, config, start)
    mine = [
        row[0] for row in query(store, "SELECT transaction_id FROM flags WHERE channel = 'rule' ORDER BY 1")
    ]
    assert len(mine) > 1
    record(session, NewVerdict((str(mine[0]),), "genuine", note=f"{ADDRESS.upper()} and {NAME} called"))
    add_labels(
        session, NewLabel((str(mine[1]),), "fraud", note=f"{NAME}, {NAME.encode('unicode_escape').decode()}")
    )
    retract_labels(session, LabelRetraction((str(mine[1]),), f"no: {NAME}"))
    add_note(session, NewNote(str(mine[0]), f"{NAME} writes from {ADDRESS}"))
    limits.check_due_limits(store, config, NOW)
    queue_messages(store, config, NOW)
    undo_run(session, UndoRequest(2, f"wrong for {NAME}"))
    again = [row.replace("t0", "u0", 1) for row in full[-200:]]
    load(store, config, "transactions", write_csv(folder / "again.csv", header, again), now=NOW + 2)
    newest = query(store, "SELECT MAX(batch_id) FROM batches WHERE status = 'done'")[0][0]
    undo_batch(session, UndoRequest(int(str(newest)), f"{NAME}'s"))
    failed = runs.begin_run(store, "live", "manual", NOW, config.public_text(), 0)
    runs.end_run(store, failed, NOW, "failed", {}, f"no such customer: {NAME!r}")
    return session


def run_live(store: Store, config: Config, start: int) -> None:
    backfill(store, config, start=start, end=start + 7 * DAY, as_of=NOW, policy="live", by="test")


# What is in every way to write the values, in lower case: as they are, defanged, with numbers for letters, hashed.
TRACES = (b"ukasz.neill", b"ukasz[.]neill", b"\\u0141ukasz", b"lucky.oneill@example", CARD_HASH.encode())


def every_byte(engine: Engine, store: Store, folder: Path) -> bytes:
    """All that an attacker with the disk reads: the files, or on Postgres every row after VACUUM; and what is packed inside."""
    with store.read() as connection:
        packed = [*connection.scalars(select(tables.models.c.artifact))]
        packed += connection.scalars(select(tables.drift_histograms.c.histograms))
    assert packed
    unpacked = []
    for artifact in packed:
        with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
            unpacked += [archive.read(name) for name in archive.namelist()]
    if engine.name == "sqlite":
        store.close()
        files = [path.read_bytes() for path in folder.glob("fraudwatch.db*")]
        return b"\n".join([*files, *unpacked]).lower()
    relations = f"FROM pg_class WHERE relnamespace = '{store.schema}'::regnamespace AND relkind IN "
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM FULL"))
        connection.execute(text("CHECKPOINT"))
        paths = text(f"SELECT pg_read_binary_file(pg_relation_filepath(oid)) {relations} ('r', 'i', 't')")
        files = [bytes(content) for content in connection.scalars(paths)]
        driver: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        for name in connection.scalars(text(f"SELECT oid::regclass::text {relations} ('r')")).all():
            with driver.cursor().copy(
                f"COPY {name} TO STDOUT (FORMAT csv)"
            ) as copy:  # what is compressed in files
                files += [bytes(row) for row in copy]
    return b"\n".join([*files, *unpacked]).lower()


def tables_of(session: Session, *values: EntityValue) -> dict[str, list[dict[str, Any]]]:
    exported: dict[str, list[dict[str, Any]]] = json.loads(export(session, values).document)["tables"]
    return exported


def traces(everything: bytes) -> list[bytes]:
    return [trace for trace in TRACES if trace in everything]


def test_a_person_who_left_traces_everywhere_is_gone_to_the_last_byte(
    opener: Opener, engine: Engine, tmp_path: Path
) -> None:
    session = lived(opener, tmp_path)
    store = session.store
    exported = tables_of(session, *PERSON)
    summary = summarise(session, PERSON[:1])
    proposed = [(link.column, link.others) for link in summary.links if link.proposed]
    assert sorted(proposed) == [("card_id", 0), ("email", 0)]
    assert min(link.others for link in summary.links if link.column == "terminal_id") > 10
    payments_of = query(store, "SELECT COUNT(*) FROM transactions WHERE email IS NOT NULL")[0][0]
    before = {name: count(store, name) for name in ("transactions", "labels", "flags", "outbox", "audit")}
    assert traces(every_byte(engine, store, tmp_path)) == list(TRACES)
    erased = erase(session, PERSON)
    assert erased.overwritten
    assert {
        "transactions", "rejected_rows", "withdrawn_rows", "labels", "verdicts", "withdrawals", "watched_files", "runs",
        "flags", "limit_checks", "audit", "outbox", "mutes", "rules", "notes",
    } <= {table for table, n in erased.counts.items() if n}  # fmt: skip
    # what was erased had been exported
    assert {table for table, n in erased.counts.items() if n} <= exported.keys()
    assert len(exported["transactions"]) == payments_of
    assert {row["customer_id"] for row in exported["transactions"]} == {NAME}
    after = {name: count(store, name) for name in before}
    assert after == before | {"audit": before["audit"] + 1}
    assert verify_audit(session).is_whole
    rows = f"SELECT COUNT(*) FROM transactions WHERE customer_id = '{erased.values[0].pseudonym}'"
    assert query(store, rows) == [(payments_of,)]
    everything = every_byte(engine, store, tmp_path)
    assert erased.values[0].pseudonym.encode() in everything
    assert traces(everything) == []
    assert not tables_of(session, *PERSON)
    # a proposal can be taken up as it is shown, also a hash alone
    hashes = [
        link.value for link in summarise(session, [EntityValue("customer_id", "c8")]).links if link.proposed
    ]
    assert [len(value) for value in hashes] == [64]
    assert tables_of(session, EntityValue("card_id", hashes[0]))["transactions"]


def test_every_column_is_declared_to_hold_a_person_or_not() -> None:
    fields = Fields(entities=("card",), categorical=("memo",), numeric=("n",))
    assert undeclared(fields) == []
    columns = {(table.name, column.name) for table in all_tables(fields) for column in table.columns}
    declared = {
        (table, name) for part in (MAY_HOLD, CANNOT) for table, names in part.items() for name in names
    }
    assert declared <= columns


def test_a_hold_keeps_a_value_from_being_erased_and_pruned(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    rows = [f"t{n},2025-01-01T00:00:00Z,c{n},m1,5" for n in range(4)] + ["t9,2025-01-01T00:00:00Z,,m1,5"]
    load(store, SMALL, "transactions", write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows), now=NOW)
    session = Session(store, SMALL, "ann", clock=lambda: NOW)
    for value in ("c1", "c2"):
        add_hold(session, NewHold("customer_id", value, UNTIL, "case 17"))
    with pytest.raises(
        Refused, match=r"hold 1 keeps this customer_id until .* \(case 17\), so nothing was erased"
    ):
        erase(session, [EntityValue("customer_id", "c0"), EntityValue("customer_id", "c1")])
    end_hold(session, 2)
    assert [(hold.hold_id, hold.state) for hold in list_holds(session)] == [(2, "ended"), (1, "in force")]
    before = {"transactions": NOW}
    assert prune(store, before, NOW, dry=True) == {"transactions": 4}
    assert prune(store, before, NOW)["transactions"] == 4
    assert query(store, "SELECT customer_id FROM transactions") == [("c1",)]
    assert prune(store, before, NOW + 31 * DAY)["transactions"] == 1
    actions = query(store, "SELECT action, subject FROM audit ORDER BY audit_id")
    assert actions == [("add hold", "hold 1"), ("add hold", "hold 2"), ("end hold", "hold 2")]


def test_the_commands_about_a_person(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    rows = [f"t{n},2025-01-0{n}T00:00:00Z,c{n % 2},{'own' if n % 2 else 'm1'},5" for n in range(1, 5)]
    write_csv(
        tmp_path / "p.csv",
        PAYMENT_HEADER,
        [
            *rows,
            "t8,2025-01-08T00:00:00Z,c3,m1,5",
            "t9,2025-01-08T00:00:00Z,c4,m1,5",
            "t10,2025-01-08T00:00:00Z,c5,m1,5",
        ],
    )
    fraudwatch(tmp_path, "init")
    fraudwatch(tmp_path, "ingest", "transactions", "p.csv")
    who = ("--entity", "customer_id=c1")
    shown = fraudwatch(tmp_path, "person", "show", *who)
    assert "2  transactions" in shown
    assert "add --with  terminal_id=own: 2 payments with this person, shared with nobody else" in shown
    shared = fraudwatch(tmp_path, "person", "show", "--entity", "customer_id=c0")
    assert "shared      terminal_id=m1: 2 payments with this person, shared with 3 others" in shared
    fraudwatch(tmp_path, "person", "export", *who, "-o", "c1.json")
    written_rows = json.loads((tmp_path / "c1.json").read_text())
    assert [row["transaction_id"] for row in written_rows["tables"]["transactions"]] == ["t1", "t3"]
    assert json.loads(fraudwatch(tmp_path, "person", "export", *who))["tables"] == written_rows["tables"]
    fraudwatch(tmp_path, "hold", "add", *who, "--for", "7d", "--reason", "asked")
    assert "fraudwatch hold end N" in fraudwatch(tmp_path, "erase", *who, "--yes", code=2)
    assert "customer_id" in fraudwatch(tmp_path, "hold", "list")
    fraudwatch(tmp_path, "hold", "end", "1")
    assert "add --yes" in fraudwatch(tmp_path, "person", "erase", *who, code=2)
    gone = fraudwatch(tmp_path, "person", "erase", *who, "--with", "terminal_id=own", "--yes")
    assert "customer_id: the value is erased-" in gone
    assert "terminal_id: the value is erased-" in gone
    checked = fraudwatch(tmp_path, "audit", "verify")
    assert "3 rows follow from one another" in checked
    newest = checked.split()[-1]
    assert newest in fraudwatch(tmp_path, "audit", "verify", "--expect", newest)
    assert "no row has the expected hash" in fraudwatch(
        tmp_path, "audit", "verify", "--expect", "0" * 64, code=1
    )
