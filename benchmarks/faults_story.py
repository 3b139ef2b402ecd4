"""
The story that `benchmarks.faults` lives through: its payments, and what each process of it does.

Every role can be started again after a kill: it looks at what is done already, as a person or a schedule would, and
does the rest. All times are those of a clock that begins at `Place.now_at_start`, after the newest window.
"""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from benchmarks.servers import sealed
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.daemon.daemon import Daemon
from pipeline.services import admin, person
from pipeline.services.admin import UndoRequest
from pipeline.services.data.ingest import IngestRequest, ingest
from pipeline.services.person import EntityValue
from pipeline.services.review import labels, mutes, rules, verdicts
from pipeline.services.review.labels import LabelRetraction, NewLabel
from pipeline.services.review.mutes import EntityTarget, NewMute
from pipeline.services.review.rules import NewRule
from pipeline.services.review.verdicts import NewVerdict, UndoneVerdict
from pipeline.services.runs.backfill import BackfillRequest, backfill
from pipeline.services.runs.training import TrainRequest, train
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.database.setup import upgrade
from storage.errors import Unknown
from storage.frames import DAY, HOUR, SECOND
from storage.runs import ledger, scoring_queue

START = 1_735_689_600 * SECOND  # 2025-01-01
FROM = START + 19 * DAY  # a Monday: from here on the schedule scores
BACKFILLED = FROM - 4 * DAY
PER_DAY, BATCH = 60, 200
HEADERS = {
    "transactions": "transaction_id,event_time,customer_id,terminal_id,amount,currency",
    "labels": "transaction_id,is_fraud,known_at,source",
}
ARRIVALS, WATCHED, POLLED = "arrivals", "watched", "polled"  # how late rows come in
ANSWERED = 12  # flags that get a verdict
ERASED = "c7"  # asks for it at the end
RETENTION = 199 * DAY  # of payments: as long as trainings look back
PRUNED = 21 * DAY  # of payments, from START on, are deleted at the end: some of them were scored
STUCK_S = 120  # a daemon that has not done everything by then never will
Work = Callable[[Session, "Place"], None]


@dataclass
class Place:
    """A database, the folder of its files, where its messages go, and the moment its clock began."""

    url: str
    folder: Path
    days: int
    receiver: str = ""
    begun: float = field(default_factory=time.time)

    @property
    def until(self) -> int:
        """The end of the payments, and of the newest window."""
        return START + self.days * DAY

    @property
    def repeats(self) -> Path:
        """A file with a line for each claim of a step that was done already: more of its window had arrived."""
        return self.folder / f"{self.url.partition('?')[0].rpartition('/')[2]}.repeats"

    def now(self) -> int:
        """The clock: real seconds after the newest window was due."""
        return self.until + 2 * HOUR + int((time.time() - self.begun) * SECOND)

    def config(self) -> Config:
        """The settings of the story for this database."""
        watched = {"folder": str(self.folder / WATCHED), "settle_time": "0s"}
        settings: dict[str, Any] = {
            "storage": {"url": self.url},
            "schema": {
                "entities": ["customer_id", "terminal_id"], "categorical": [], "kind": "", "original_id": "",
                "currency": "currency",
            },
            "labels": {"maturity": "5d"},
            "features": {"windows": ["1d", "7d"]},
            "training": {"min_rows": 200, "holdout": "2d"},
            "strategy": {"min_positives_blend": 6, "min_positives_classifier": 40},
            # When a flag expires depends on when it was raised, which kills delay.
            "alerts": {"per_day": 5, "expire": "3650d"},
            "schedule": {"catch_up": 3, "backoff": "1s", "attempts": 20},
            "retention": {"transactions": f"{RETENTION // DAY}d", "withdrawn": "0s", "messages": "0s"},
            "limit": {"own": {"basis_points": 50.0, "days": 14}},
            "notify": {"urls": [self.receiver] if self.receiver else [], "per_hour": 100_000, "backoff": "1s"},
            "watch": {
                "payments": watched | {"pattern": "transactions-*.csv"},
                "disputes": watched | {"pattern": "labels-*.csv", "kind": "labels"},
                "currencies": watched | {"pattern": "rates.csv", "kind": "rates"},
            },
            "source": {
                "shop": {
                    "url": f"sqlite:///{self.folder / 'shop.db'}", "query": "SELECT * FROM payments", "poll": True,
                    "cursor": "event_time",
                }
            },
        }  # fmt: skip
        return sealed(Config.model_validate(settings))


def prepare(place: Place) -> None:
    """An empty database whose work begins at FROM, and an empty folder that the daemon watches."""
    config = place.config()
    for path in (place.folder / WATCHED).glob("*"):
        path.unlink()
    with open_configured(config) as store:
        upgrade(store, config.monitor.name, place.now(), config.labels.precedence)
        scoring_queue.set_starts_at(store, "live", FROM)


# ── the roles ────────────────────────────────────────────────────────────────────────────────────────────────────


def work(role: str, place: Place) -> None:
    """Do one part of the story to its end."""
    if role in ("daemon", "second daemon"):
        return tick_until_done(place)
    config = place.config()
    with open_configured(config) as store:
        ROLES[role](Session(store, config, role, place.now), place)
    return None


def _past(session: Session, place: Place) -> None:
    _read_in(session, place, "past", history=True)


def _arrivals(session: Session, place: Place) -> None:
    """Late files, the first of which wait for a rate; then files for the daemon, and the rates."""
    _read_in(session, place, ARRIVALS, history=False)
    for path in [*sorted(place.folder.glob(f"{WATCHED}-*.csv")), place.folder / "rates.csv"]:
        aim = place.folder / WATCHED / path.name.removeprefix(f"{WATCHED}-")
        if not aim.exists():
            half = aim.with_suffix(".tmp")
            half.write_bytes(path.read_bytes())
            os.utime(half, (START // SECOND, START // SECOND))
            half.rename(aim)


def _read_in(session: Session, place: Place, part: str, *, history: bool) -> None:
    """Ingest the files of one part, in small batches; those that are there already are recognised."""
    for kind in ("transactions", "labels"):
        paths = tuple(sorted(str(path) for path in place.folder.glob(f"{part}-{kind}-*.csv")))
        list(ingest(session, IngestRequest(kind, paths, history=history)))  # type: ignore[arg-type]


def _first(session: Session, _place: Place) -> None:
    """Score one window: from now on, rows count as known when they arrive."""
    backfill(session, BackfillRequest(as_datetime(BACKFILLED - DAY), as_datetime(BACKFILLED)))


def _backfill(session: Session, _place: Place) -> None:
    backfill(session, BackfillRequest(as_datetime(BACKFILLED), as_datetime(FROM)))


def _train(session: Session, place: Place) -> None:
    entry = ledger.find(session.store, "live", "train", place.until, place.until)
    if entry is None or entry.status != "done":
        train(session, TrainRequest(as_datetime(place.until)))


def _review(session: Session, _place: Place) -> None:
    """Answer flags of all kinds and payments without one, and take some answers back; add and end a rule and a mute."""
    store = session.store
    flagged = rows(store, f"SELECT transaction_id FROM flags ORDER BY transaction_id LIMIT {ANSWERED}")
    unflagged = rows(
        store,
        "SELECT s.transaction_id FROM scores s LEFT JOIN flags f ON f.transaction_id = s.transaction_id "
        "LEFT JOIN labels l ON l.transaction_id = s.transaction_id AND l.source <> 'customer' "
        "WHERE f.transaction_id IS NULL AND l.transaction_id IS NULL ORDER BY s.transaction_id LIMIT 4",
    )
    for place, (name,) in enumerate(flagged):
        said = _said(store, name)
        verdict = ("fraud", "genuine", "no_opinion")[place % 3]
        if not said:
            verdicts.record(session, NewVerdict((name,), verdict, note="seen"))  # type: ignore[arg-type]
        if place % 4 == 0 and "retracted" not in said:
            verdicts.undo(session, UndoneVerdict((name,), "a slip"))
    for place, (name,) in enumerate(unflagged):
        said = _said(store, name)
        if not said:
            labels.add_labels(session, NewLabel((name,), "fraud", source="customer"))
        if place % 2 == 0 and "retracted" not in said:
            labels.retract_labels(session, LabelRetraction((name,), "another payment"))
    if not rows(store, "SELECT 1 FROM rules"):
        rules.add_rule(session, NewRule(timedelta(days=30), "a limit", "amount > 400"))
    for (number,) in rows(store, "SELECT rule_id FROM rules WHERE ended_at IS NULL"):
        rules.end_rule(session, number)
    if not rows(store, "SELECT 1 FROM mutes"):
        mutes.add_mute(session, NewMute(timedelta(days=30), "a test card", EntityTarget("customer_id", "c3")))
    for (number,) in rows(store, "SELECT mute_id FROM mutes WHERE ended_at IS NULL"):
        mutes.end_mute(session, number)


def _said(store: Store, name: str) -> list[str]:
    return [row[0] for row in rows(store, "SELECT verdict FROM verdicts WHERE transaction_id = :id", id=name)]


def _undo(session: Session, _place: Place) -> None:
    """Withdraw a batch of payments, one of labels, and the runs that scored the first days."""
    for pattern in (f"{ARRIVALS}-transactions-001", f"{ARRIVALS}-labels-000"):
        found = rows(session.store, "SELECT batch_id FROM batches WHERE source LIKE :p", p=f"%{pattern}%")
        _undone(admin.undo_batch, session, min(number for (number,) in found))
    first = rows(
        session.store,
        "SELECT DISTINCT run_id FROM ledger WHERE policy = 'live' AND kind = 'score' AND status = 'done' "
        f"AND window_start >= '{_instant(FROM)}' AND window_start < '{_instant(FROM + DAY)}' ORDER BY 1",
    )
    withdrawn = {
        row[0] for row in rows(session.store, "SELECT subject FROM withdrawals WHERE counts IS NOT NULL")
    }
    half = rows(
        session.store, "SELECT subject FROM withdrawals WHERE counts IS NULL AND subject LIKE 'run %'"
    )
    runs = [int(row[0].split()[1]) for row in half] or [row[0] for row in first]
    for number in runs:
        if f"run {number}" not in withdrawn:
            _undone(admin.undo_run, session, number)


def _undone(undo: Callable[[Session, UndoRequest], Any], session: Session, number: int) -> None:
    try:
        undo(session, UndoRequest(number, "a bad file"))
    except Unknown as error:
        if error.code != "batch_withdrawn":
            raise


def _erase(session: Session, _place: Place) -> None:
    try:
        person.erase(session, [EntityValue("customer_id", ERASED)])
    except Unknown as error:
        if error.code != "unknown_entity":
            raise


def _prune(session: Session, _place: Place) -> None:
    admin.prune(replace(session, clock=lambda: START + PRUNED + RETENTION))


ROLES: dict[str, Work] = {
    "past": _past, "first": _first, "arrivals": _arrivals, "backfill": _backfill, "train": _train, "reviewer": _review,
    "undo": _undo, "erase": _erase, "prune": _prune,
}  # fmt: skip


def tick_until_done(place: Place) -> None:
    """A daemon whose ticks follow each other at once, until there is nothing left to do."""
    daemon = Daemon(place.config, by=f"daemon {os.getpid()}", clock=place.now)
    deadline = time.monotonic() + STUCK_S
    try:
        while not (daemon.tick() is not None and finished(place)):
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing was finished in {STUCK_S} s")
            time.sleep(0.02 if daemon.active else 0.2)
    finally:
        daemon.close()


def finished(place: Place) -> bool:
    """Whether everything has arrived and is scored, every step is done and every message sent."""
    expected = json.loads((place.folder / "expected.json").read_text())
    with open_configured(place.config()) as store:
        return (
            rows(store, "SELECT COUNT(*) FROM visible_transactions") == [(expected["transactions"],)]
            and rows(store, "SELECT COUNT(*) FROM labels WHERE batch_id IS NOT NULL")
            == [(expected["labels"],)]
            and not any(rows(store, f"SELECT COUNT(*) FROM {table}")[0][0] for table in WAITING)
            and not ledger.unfinished(store, "live")
        )


WAITING = (
    "scoring_queue", "flag_notifications_pending", "waiting_rows WHERE taken_up_by IS NULL",
    "outbox WHERE status IN ('pending', 'sending')", "batches WHERE status = 'loading'",
)  # fmt: skip


def rows(store: Store, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(text(sql), values)]


def _instant(instant: int) -> str:
    return f"{np.datetime64(instant, 'us')}+00:00"


# ── the payments ─────────────────────────────────────────────────────────────────────────────────────────────────


def write_files(folder: Path, days: int) -> None:
    """Payments whose frauds are large amounts at two terminals; many of the last days arrive late, some in dollars."""
    rng = np.random.default_rng(1)
    n = days * PER_DAY
    times = np.sort(rng.integers(0, days * DAY // SECOND, n)) * SECOND + START
    customer, terminal = rng.integers(0, 40, n), rng.integers(0, 20, n)
    amount = np.round(np.exp(rng.normal(3.0, 0.6, n)), 2)
    reported = times < START + (days - 2) * DAY  # later ones are not known yet
    fraud = (terminal < 2) & (rng.random(n) < 0.25) & reported
    amount[fraud] *= 12
    late = (times >= BACKFILLED) & ((rng.random(n) < 0.2) | (fraud & (np.arange(n) % 2 > 0)))
    way = np.where(late, rng.choice([ARRIVALS, WATCHED, POLLED], n), "past")
    money = np.where(way == ARRIVALS, rng.choice(["EUR", "USD"], n), "EUR")
    for k, name in enumerate(
        (ARRIVALS, WATCHED, POLLED)
    ):  # rows that come by one way never see those of another, whichever is first
        for entity, some in ((customer, 40), (terminal, 20)):
            theirs = (way == name) & (entity % 3 != k)
            entity[theirs] = entity[theirs] // 3 * 3 % (some - some % 3) + k
    label_way = np.where(late, np.where(np.cumsum(fraud & late) % 2, ARRIVALS, WATCHED), "past")
    said, known = iso(times), iso(times + 2 * DAY)
    lines = np.array(
        [
            f"t{k:06d},{said[k]},c{customer[k]},m{terminal[k]},{amount[k]:.2f},{money[k]}"
            for k in range(n)
        ],
        dtype=object,
    )  # fmt: skip
    answers = np.array([f"t{k:06d},1,{known[k]},chargeback" for k in range(n)], dtype=object)
    for part in ("past", ARRIVALS, WATCHED):
        split(
            folder,
            f"{part}-transactions",
            "transactions",
            lines[way == part],
            BATCH if part == "past" else 15,
        )
        split(folder, f"{part}-labels", "labels", answers[fraud & (label_way == part)], BATCH)
    with closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
        names = HEADERS["transactions"].split(",")
        shop.execute(f"CREATE TABLE payments ({', '.join(names)})")
        shop.executemany(
            f"INSERT INTO payments VALUES ({', '.join('?' * len(names))})",
            [line.split(",") for line in lines[way == POLLED]],
        )
    (folder / "rates.csv").write_text("date,currency,rate\n2025-01-01,USD,0.9\n", encoding="utf-8")
    (folder / WATCHED).mkdir()
    (folder / "expected.json").write_text(json.dumps({"transactions": n, "labels": int(fraud.sum())}))


def iso(instants: Any) -> Any:
    """Instants as text."""
    return np.char.add(np.datetime_as_string(instants.astype("datetime64[us]"), unit="s"), "Z")


def split(folder: Path, name: str, kind: str, lines: Any, size: int) -> None:
    """Files of a few rows each, so that there are many batches to interrupt."""
    for number, place in enumerate(range(0, len(lines), size)):
        part = "\n".join([HEADERS[kind], *lines[place : place + size]]) + "\n"
        (folder / f"{name}-{number:03d}.csv").write_text(part, encoding="utf-8")
