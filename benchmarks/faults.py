"""
Kill everything, again and again, and see whether anything is lost, doubled or different.

    python -m benchmarks.faults [--kills 300] [--days 32] [--engine sqlite --engine postgresql]

On each engine the same payments are lived through once undisturbed, and again and again under fire: ingest of the past alone;
then two daemons with feeds and messages, an ingest of what comes late and a backfill at the same time; then reviewers and a
training; then two batches and some runs are undone, and the daemons do their work again; at last a person is erased and old
rows are pruned. All processes are killed (SIGKILL) at random, most of them inside a write, and started again. Every
twelfth is stopped instead (SIGSTOP) just before a write, for longer than its leases last, and goes on when others have
done its work. Postgres is restarted under them as well. The writes that kills have to land in are those that the
undisturbed run made, whatever they are.

At the end both databases must agree: nothing lost or doubled, equal tables but for clocks, ids and who was killed
(`COMPARED` names what is compared; runs, batches, audit trail and outbox are not, since they say how often something
was tried, nor how many flags were open at a moment). Every message arrived, and one that arrived twice says so. Steps were claimed at most as often as there
were steps and kills. The exit code is 1 otherwise.
"""

import argparse
import contextlib
import json
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults_killer import CHECKED_AFTER, Killer, Report, Steps, undisturbed
from benchmarks.faults_story import BACKFILLED, WAITING, Place, rows, write_files
from benchmarks.servers import Server
from pipeline.config.database import open_configured
from pipeline.notifications.deliver import DUPLICATE_NOTICE
from storage.database.database import Store
from storage.frames import DAY

DAYS = 32
ROUND = 60  # kills on one database; then the story begins anew on another
MEMORY = (
    "/dev/shm"  # a file system in memory: what a kill leaves is the same there, and nothing waits for a disk
)
UNTIL_ALL_HIT = 5  # kills per write from which on every one of them must have been hit
ERASED = "CASE WHEN customer_id LIKE 'erased-%' THEN 'erased' ELSE customer_id END"
COMPARED = {
    "transactions": f"SELECT transaction_id, event_time, amount, amount_base, currency, {ERASED}, terminal_id FROM visible_transactions",
    "labels": "SELECT transaction_id, is_fraud, source, type, retracts IS NULL FROM labels",
    "reports": "SELECT transaction_id, known_at FROM labels WHERE batch_id IS NOT NULL",
    "verdicts": "SELECT transaction_id, verdict, type, action, note FROM verdicts",
    "scores": "SELECT policy, transaction_id, score, outlier_score, fraud_probability, decision_value, threshold, channel, flagged, strategy, expected_loss FROM scores",
    "flags": "SELECT policy, transaction_id, channel, status, reviewer, CAST(reasons AS TEXT), muted_by IS NULL FROM flags",
    "choices": "SELECT training_date, strategy, rule, sentence FROM choices WHERE policy = 'live'",
    "promotions": "SELECT DISTINCT p.effective_from, m.strategy, m.n_mature, m.n_fraud FROM promotions p JOIN models m ON m.model_id = p.model_id WHERE p.policy = 'live'",
    "steps": "SELECT policy, kind, window_start, window_end, status FROM ledger",
    "drift": "SELECT policy, window_start, window_end, feature, metric, value, alarm, n_current FROM drift_metrics",
    "quality": "SELECT policy, window_start, window_end, channel, metric, kind, value FROM quality_metrics WHERE metric NOT IN ('open_flags', 'queue_age')",
    "limits": "SELECT name, value, level, reports, payments FROM limit_checks",
    "rates": "SELECT currency, day, rate FROM currency_rates",
    "rules, mutes": "SELECT text, reason, ended_at IS NULL FROM rules UNION ALL SELECT value, reason, ended_at IS NULL FROM mutes",
    "feeds": "SELECT path, status, error FROM watched_files",
    "cursors": "SELECT source, cursor FROM source_cursors",
    "withdrawn": "SELECT table_name, transaction_id FROM withdrawn_rows WHERE table_name IN ('transactions', 'labels')",
}  # fmt: skip
LEFT_OVER = {
    "transactions without a score": (
        "visible_transactions t LEFT JOIN scores s ON s.transaction_id = t.transaction_id "
        f"WHERE s.transaction_id IS NULL AND t.event_time >= '{np.datetime64(BACKFILLED - DAY, 'us')}+00:00'"
    ),
    "open gaps": "open_gaps",
    "batches that are half loaded": "batches WHERE status = 'loading'",
    "undos that are half done": "withdrawals WHERE counts IS NULL",
    "running runs": "runs WHERE status = 'running'",
    "running steps": "ledger WHERE status = 'running'",
    "flags without a score": (
        "flags f LEFT JOIN scores s ON s.policy = f.policy AND s.transaction_id = f.transaction_id "
        "WHERE s.transaction_id IS NULL"
    ),
} | {name.partition(" WHERE")[0]: name for name in WAITING}
Tables = dict[str, list[tuple[Any, ...]]]


class Receiver(ThreadingHTTPServer):
    """Takes the messages of both runs, and keeps them by the name of their database."""

    def __init__(self) -> None:
        self.messages: dict[str, list[str]] = {}
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        """Where the messages of a database go."""
        return f"json://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Keep a message."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, Receiver)
        self.server.messages.setdefault(self.path.strip("/"), []).append(body["message"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def main(argv: list[str] | None = None) -> int:
    """Run the scenario on each engine and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300, help="per engine")
    parser.add_argument("--days", type=int, default=DAYS, help="of payments, 22 at least")
    parser.add_argument("--engine", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    memory = MEMORY if Path(MEMORY).is_dir() else None
    good = True
    for engine in args.engine or ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory(prefix="fw", dir=memory) as name, ExitStack() as stack:
            folder = Path(name)
            folder.chmod(0o755)
            write_files(folder, args.days)
            good &= scenario(engine, folder, stack, args)
    return 0 if good else 1


def scenario(engine: str, folder: Path, stack: ExitStack, args: argparse.Namespace) -> bool:
    """One engine: undisturbed once, disturbed in rounds until so many kills were made, each compared."""
    server = Server(folder, stack) if engine == "postgresql" else None
    receiver = Receiver()
    stack.callback(receiver.shutdown)

    def place(name: str) -> Place:
        return Place(database(server, folder, name), folder, args.days, receiver.url(name))

    begun = time.time()
    calm = Calm(place("calm"), {}, {})
    for phase, steps in undisturbed(calm.place, folder):
        calm.steps = steps
        if phase == CHECKED_AFTER:
            calm.checked = tables(calm.place)
    print(f"{engine}: undisturbed in {time.time() - begun:.0f} s", flush=True)
    begun, done, good, number = time.time(), Report(), True, 0
    while done.kills < args.kills:
        number += 1
        shot = place(f"shot{number}")
        kills = min(ROUND, args.kills - done.kills)
        killer = Killer(shot, kills, args.seed * 1000 + number, server, calm.steps, done)
        good &= one_round(calm, killer, receiver.messages.setdefault(f"shot{number}", []))
        done = done.plus(killer.report)
    return report(done, calm.steps, time.time() - begun) and good


@dataclass
class Calm:
    """The undisturbed run: its database, its writes, and its tables before anything was deleted."""

    place: Place
    steps: Steps
    checked: Tables


def one_round(calm: Calm, killer: Killer, received: Sequence[str]) -> bool:
    """Live through the story once under fire, and compare."""
    found: Tables = {}
    reopened, shot = 0, killer.place
    for phase in killer.run():
        if phase == CHECKED_AFTER - 1:
            reopened = open_steps(shot)
        if phase == CHECKED_AFTER:
            found = tables(shot)
    good = compare(calm.checked, found, "before anything was deleted")
    good &= compare(tables(calm.place), tables(shot), "at the end", empty=True)
    with open_configured(shot.config()) as store:
        good &= nothing_left(store)
        good &= executions(store, shot, killer.report, reopened)
        good &= messages(store, received, killer.report)
    return good


def report(done: Report, steps: Steps, seconds: float) -> bool:
    """Print where kills landed; False if a write was never hit although there were kills enough."""
    print(
        f"{done.hits.total()} kills and {done.zombies.total()} zombies in {seconds:.0f} s, {done.restarts} restarts of the server"
    )
    for step, _ in (done.hits + done.zombies).most_common():
        print(f"  {done.hits[step]:4} killed {done.zombies[step]:3} stopped  {step}")
    writes = {step for counts in steps.values() for step in counts}
    missed = sorted(step for step in writes if not done.hits[step])
    print(f"  {len(writes)} kinds of write; never hit: {', '.join(missed) or 'none'}")
    return not missed or done.kills < UNTIL_ALL_HIT * len(writes)


def tables(place: Place) -> Tables:
    """What is compared of a database."""
    with open_configured(place.config()) as store:
        return {name: sorted(rows(store, sql), key=repr) for name, sql in COMPARED.items()}


def compare(calm: Tables, shot: Tables, when: str, *, empty: bool = False) -> bool:
    """Print what differs; True when nothing does, and with `empty` False no table is empty."""
    good = True
    print(f"  {when}:")
    for name in COMPARED:
        left, right = calm[name], shot[name]
        same = left == right and (empty or len(left) > 0)
        good &= same
        word = "equal" if same else "DIFFERENT"
        print(f"  {name:14} {len(left):6,} rows undisturbed, {len(right):6,} shot at: {word}")
        if not same:
            only = Counter(left) - Counter(right), Counter(right) - Counter(left)
            for side, some in zip(("undisturbed", "shot at"), only, strict=True):
                print(*(f"      only {side}: {str(row)[:300]}" for row in list(some)[:3]), sep="\n")
    return good


def nothing_left(store: Store) -> bool:
    """Print what is left over; True when nothing is."""
    counts = {name: rows(store, f"SELECT COUNT(*) FROM {where}")[0][0] for name, where in LEFT_OVER.items()}
    print("  left over:", ", ".join(f"{name} {n}" for name, n in counts.items() if n) or "nothing")
    return not any(counts.values())


def open_steps(place: Place) -> int:
    """Steps that are to be done again after an undo."""
    with open_configured(place.config()) as store:
        return int(rows(store, "SELECT COUNT(*) FROM ledger WHERE status = 'pending'")[0][0])


def executions(store: Store, place: Place, done: Report, reopened: int) -> bool:
    """
    Print how often steps were claimed; True when it was at most once a step, and once more a kill.

    A step that an undo makes due again, and one that is repeated because more of its window has arrived, is one more.
    """
    claimed, entries = (int(n) for n in rows(store, "SELECT SUM(token), COUNT(*) FROM ledger")[0])
    repeated = len(place.repeats.read_text().split()) if place.repeats.exists() else 0
    steps, interruptions = entries + reopened + repeated, done.kills + done.interrupted
    print(
        f"  executions: {claimed} of {steps} steps ({reopened} asked for again by an undo, {repeated} by late payments); "
        f"at most {steps + interruptions} with {done.kills} kills and {done.interrupted} processes at work at a restart"
    )
    return entries + reopened <= claimed <= steps + interruptions


def messages(store: Store, received: Sequence[str], done: Report) -> bool:
    """Print how many messages arrived; True when each did, and each that did twice said so."""
    sent = {row[0] for row in rows(store, "SELECT key FROM outbox WHERE status = 'sent'")}
    silent = Counter(_key(body) for body in received if not body.startswith(DUPLICATE_NOTICE.strip()))
    repeated = sum(body.startswith(DUPLICATE_NOTICE.strip()) for body in received)
    lost, doubled = sent - {_key(body) for body in received}, [key for key, n in silent.items() if n > 1]
    print(
        f"  messages: {len(sent)} sent, {repeated} of them again with a notice, {len(lost)} lost, {len(doubled)} doubled"
    )
    return bool(sent) and not lost and not doubled and repeated <= done.kills + done.interrupted


def _key(body: str) -> str:
    found = re.search(r"key (\S+)\s*$", body)
    return found.group(1) if found else ""


def database(server: Server | None, folder: Path, name: str) -> str:
    """URL of a new database."""
    if server is None:
        return f"sqlite:///{folder}/{name}.db"
    return server.create(name)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
