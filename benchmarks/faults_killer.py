"""
The killer of `benchmarks.faults`: it starts the processes of the story, shoots or stops them, and starts them again.

A process marks in a shared page which write it is in. The killer names writes there: a process that comes to one of
them waits inside it, its transaction open, until it is shot; or just before it, until it is stopped (SIGSTOP) for
longer than its leases last, a zombie that goes on (SIGCONT) when others have done its work.
"""

import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

import storage
from benchmarks.faults_story import Place, prepare, work
from benchmarks.servers import Server
from pipeline.daemon import daemon
from pipeline.notifications import deliver
from storage.database.database import Store
from storage.errors import StorageError
from storage.frames import SECOND
from storage.ingest import batches
from storage.runs import ledger, workers
from storage.runs.ledger import Entry

STORAGE = Path(storage.__file__).parent
MARK_BYTES, HALF = 8192, 4096
BETWEEN, BEFORE = "between writes", "before "
ANYWHERE = 0.1  # of the kills land wherever a process happens to be
ZOMBIE_EVERY = 12  # kills between two zombies
RESTART_EVERY = 20  # kills between two restarts of Postgres
WAIT_IN_STEP_S = 3.0  # that a process waits to be shot inside the step that was named
PATIENCE_S = 2.0  # that the killer waits for a process to come to the step
LEASE_S = 2  # how long leases last here, so that a zombie need not be waited for long
ZOMBIE_S = 1.5 * LEASE_S
IDLE = 2  # ends of a role by itself, without a kill between, after which it is not shot at any more
REFUSED = 3  # exit code of a process that the database or another process turned away
REVIEWER = (
    "reviewer"  # a person: of two who say the same at once, both have said it, and no lease stops either
)
PHASES: tuple[
    tuple[tuple[str, ...], float], ...
] = (  # roles at the same time, and the share of the kills so far
    (("past",), 0.1),
    (("first",), 0.15),
    (("daemon", "second daemon", "backfill", "arrivals"), 0.6),
    ((REVIEWER, "train"), 0.75),
    (("undo",), 0.85),
    (("daemon", "second daemon", "arrivals"), 0.92),
    (("erase",), 0.95),
    (("prune",), 1.0),
)
CHECKED_AFTER = 5  # phases, before anything is deleted
Steps = Mapping[str, Counter[str]]  # by role: how often each write was made


@contextmanager
def traced(page: mmap.mmap, repeats: Path, seen: Counter[str] | None = None) -> Iterator[None]:
    """Mark in a shared page which write this process is in; wait in the ones that were named; note what is done again."""
    original, claim = Store._writing, ledger.claim

    def noted(store: Store, entry: Entry, *claimed_by: Any) -> Entry | None:
        claimed = claim(store, entry, *claimed_by)
        if claimed is not None and entry.status == "done":
            with repeats.open("a") as file:
                file.write(f"{entry.kind}\n")
        return claimed

    @contextmanager
    def writing(store: Store) -> Iterator[Connection]:
        step = step_of(sys._getframe())
        if BEFORE + step in named(page):
            put(page, 0, BEFORE + step)
            wait_while_named(page, BEFORE + step)
        with original(store) as connection:
            yield connection
            put(page, 0, step)
            wait_while_named(page, step)
            if seen is not None:
                seen[step] += 1
        put(page, 0, BETWEEN)

    put(page, 0, BETWEEN)
    Store._writing, ledger.claim = writing, noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Store._writing, ledger.claim = original, claim  # type: ignore[method-assign]


def step_of(frame: Any) -> str:
    """The function of storage that asked for the write."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(STORAGE) and path.stem != "database":
            name: str = frame.f_code.co_name
            if (path.stem, name) not in (("batches", "_write"), ("batches", "_remove_some")):
                return f"{path.stem}.{name.lstrip('_')}"
        frame = frame.f_back
    return "elsewhere"


def wait_while_named(page: mmap.mmap, step: str) -> None:
    """Wait to be shot or stopped, as long as this step is named."""
    until = time.monotonic() + WAIT_IN_STEP_S
    while step in named(page) and time.monotonic() < until:
        time.sleep(0.001)


def named(page: mmap.mmap) -> list[str]:
    """The steps that were named."""
    return bytes(page[HALF:]).rstrip(b"\0").decode().split("\n")


def put(page: mmap.mmap, place: int, words: str) -> None:
    """Write a short text into half of the page."""
    page[place : place + HALF] = words.encode()[:HALF].ljust(HALF, b"\0")


def shared_page(path: Path) -> mmap.mmap:
    """A page in a file that several processes see."""
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), MARK_BYTES)


def undisturbed(place: Place, folder: Path) -> Iterator[tuple[int, Steps]]:
    """Live through the story with nobody interfering; yields the number of each phase, and the writes of each role so far."""
    prepare(place)
    mark = folder / "calm.mark"
    mark.write_bytes(b"\0" * MARK_BYTES)
    steps: dict[str, Counter[str]] = {}
    for number, (roles, _) in enumerate(PHASES):
        for role in sorted(roles, key=lambda role: "daemon" in role):
            with traced(shared_page(mark), place.repeats, steps.setdefault(role, Counter())):
                work(role, place)
        yield number, steps


def be(role: str, place: Place, mark: Path) -> None:
    """Be one of the processes that are shot at."""
    log = os.open(mark.with_suffix(".log"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    shorten_leases()
    with traced(shared_page(mark), place.repeats):
        try:
            work(role, place)
        except StorageError as error:
            print(f"{role}: {error}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(REFUSED)
        except BaseException:  # noqa: BLE001 (the log has it, and the killer ends on it)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    os._exit(0)


def shorten_leases() -> None:
    """Let every lease last `LEASE_S`."""
    daemon.LEASE = deliver.LEASE = workers.LEASE = batches.LEASE_LASTS = LEASE_S * SECOND
    daemon.STANDBY_S = 1


@dataclass
class Child:
    """A running process, and the page it marks its steps in."""

    role: str
    process: BaseProcess
    page: mmap.mmap
    log: Path
    wakes_at: float = 0.0  # of a zombie: when it goes on

    @property
    def step(self) -> str:
        """The write step it is in, empty while it starts."""
        return bytes(self.page[:HALF]).rstrip(b"\0").decode()

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.exitcode

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


@dataclass
class Report:
    """What was done to the processes."""

    hits: Counter[str] = field(default_factory=Counter)  # kills by step
    zombies: Counter[str] = field(default_factory=Counter)  # stopped before a step
    restarts: int = 0
    interrupted: int = 0  # processes that were at work when the server was restarted

    @property
    def kills(self) -> int:
        """How many processes were shot or stopped."""
        return self.hits.total() + self.zombies.total()

    def plus(self, other: "Report") -> "Report":
        """Both together."""
        return Report(
            self.hits + other.hits,
            self.zombies + other.zombies,
            self.restarts + other.restarts,
            self.interrupted + other.interrupted,
        )


class Killer:
    """Starts the processes of the story, shoots them, and starts them again."""

    def __init__(
        self, place: Place, kills: int, seed: int, server: Server | None, steps: Steps, before: Report
    ) -> None:
        self.place = place
        self.kills = kills
        self.server = server
        self.steps = steps
        self.before = before  # what earlier rounds have hit
        self.random = random.Random(seed)
        self.report = Report()
        self.children: dict[str, Child] = {}
        self.zombies: list[Child] = []
        self.vain: Counter[str] = Counter()  # writes that were waited for and did not come
        self.idle: Counter[str] = Counter()  # how often each role has ended by itself since the last kill
        self.started = 0
        self.context = get_context("forkserver")
        # What the undisturbed run has imported: a process that is started again is there at once.
        self.context.set_forkserver_preload([name for name in sys.modules if not name.startswith("__")])

    def run(self) -> Iterator[int]:
        """Live through the story under fire; yields the number of each phase when it is over."""
        prepare(self.place)
        for number, (roles, share) in enumerate(PHASES):
            self.phase(roles, round(self.kills * share))
            yield number

    def phase(self, roles: Sequence[str], until: int) -> None:
        """Run these roles to their end, shooting until so many kills have been made in all or they have nothing left to do."""
        done: set[str] = set()
        self.idle.clear()
        while len(done) < len(roles) or self.zombies:
            for role in roles:
                if role not in done and role not in self.children:
                    self.children[role] = self.start(role)
            if all(self.idle[role] >= IDLE for role in roles):
                until = self.report.kills  # they have nothing left to do
            if self.report.kills < until:
                if self.disturb(roles):
                    self.idle.clear()
                    self.restart_now_and_then(until)
            else:
                self.name(set())
                time.sleep(0.02)
            self.wake(finishing=len(done) == len(roles))
            for role, child in list(self.children.items()):
                if (code := child.code) is not None:
                    del self.children[role]
                    self.idle[role] += code == 0
                    if code == 0 and self.report.kills >= until:
                        done.add(role)
                    self.check(child)

    def check(self, child: Child) -> None:
        """End if a process ended for another reason than its being shot or turned away."""
        if child.code not in (0, REFUSED, -signal.SIGKILL):
            for other in [*self.children.values(), *self.zombies]:
                other.process.kill()
            sys.exit(
                f"{child.role} ended with {child.code}: a fault of its own\n{child.log.read_text()[-6000:]}"
            )

    def disturb(self, roles: Sequence[str]) -> bool:
        """Shoot a process, or now and then stop one."""
        if (self.report.kills + 1) % ZOMBIE_EVERY == 0 and self.stop_one(roles):
            return True
        return self.shoot(roles)

    def wanted(self, roles: Sequence[str], hits: Counter[str], earlier: Counter[str]) -> set[str]:
        """The writes of these roles that were hit least; half of them in the first round."""
        here = {step for role in roles for step in self.steps[role]} | {
            step for step in hits if step not in self.known and BEFORE not in step and step != BETWEEN
        }
        tried = {step: hits[step] + earlier[step] + self.vain[step] for step in here}
        least = sorted(step for step in here if tried[step] == min(tried.values()))
        return set(self.random.sample(least, len(least) if self.before.kills else -(-len(least) // 2)))

    @property
    def known(self) -> set[str]:
        """The writes of all roles."""
        return {step for counts in self.steps.values() for step in counts}

    def shoot(self, roles: Sequence[str]) -> bool:
        """Wait for a process to come to a step that was named, and kill it there; else kill one where it is; whether it was alive."""
        awake = [child for child in self.children.values() if child.step]
        if not awake:
            time.sleep(0.005)
            return False
        wanted = (
            set()
            if self.random.random() < ANYWHERE
            else self.wanted(roles, self.report.hits, self.before.hits)
        )
        child = self.wait_for(wanted) or self.random.choice(
            [one for one in awake if one.code is None] or awake
        )
        where = child.step
        alive = child.code is None
        if alive:
            child.process.kill()
            child.process.join()
            self.report.hits[where.removeprefix(BEFORE) if where else BETWEEN] += 1
            if self.report.kills % 10 == 0:
                print(f"{self.report.kills} kills", file=sys.stderr, flush=True)
        self.name(set())
        return alive

    def stop_one(self, roles: Sequence[str]) -> bool:
        """Stop a process just before a write, for longer than its leases last; whether one came to it."""
        wanted = {
            BEFORE + step
            for step in self.wanted(
                [role for role in roles if role != REVIEWER], self.report.zombies, self.before.zombies
            )
            if not step.startswith("leases.")
        }
        child = self.wait_for(wanted)
        if child is None or child.code is not None:
            self.name(set())
            return False
        child.signal(signal.SIGSTOP)
        where = child.step
        self.name(set())
        if where not in wanted:  # it went on meanwhile, and may hold a lock that others need
            child.signal(signal.SIGCONT)
            return False
        self.report.zombies[where.removeprefix(BEFORE)] += 1
        child.wakes_at = time.monotonic() + ZOMBIE_S
        self.zombies.append(child)
        del self.children[child.role]
        return True

    def wake(self, *, finishing: bool) -> None:
        """Let zombies go on whose time has come, and take leave of those that have ended."""
        for child in list(self.zombies):
            if child.wakes_at and time.monotonic() > child.wakes_at:
                child.wakes_at = 0.0
                child.signal(signal.SIGCONT)
            if child.code is not None:
                self.zombies.remove(child)
                self.check(child)
        if finishing and self.zombies:
            time.sleep(0.02)

    def wait_for(self, wanted: set[str]) -> Child | None:
        """The first process to come to one of these steps, None if none does in time."""
        self.name(wanted)
        deadline = time.monotonic() + (self.random.uniform(0.1, 0.5) if not wanted else PATIENCE_S)
        while time.monotonic() < deadline:
            for child in self.children.values():
                if child.step in wanted:
                    return child
            if all(child.code is not None for child in self.children.values()):
                break  # they have nothing left to do
            time.sleep(0.0005)
        self.vain.update(step.removeprefix(BEFORE) for step in wanted)
        return None

    def name(self, wanted: set[str]) -> None:
        """Tell every process where to wait."""
        for child in self.children.values():
            put(child.page, HALF, "\n".join(sorted(wanted)))
        for child in self.zombies:
            put(child.page, HALF, "")

    def restart_now_and_then(self, until: int) -> None:
        """Restart Postgres about every twentieth kill."""
        if self.server is not None and self.random.random() < 1 / RESTART_EVERY and self.report.kills < until:
            self.report.interrupted += sum(child.code is None for child in self.children.values())
            self.server.restart()
            self.report.restarts += 1

    def start(self, role: str) -> Child:
        """A new process in this role."""
        self.started += 1
        mark = self.place.folder / f"{role.replace(' ', '-')}.{self.started}.mark"
        mark.write_bytes(b"\0" * MARK_BYTES)
        process = self.context.Process(target=be, args=(role, self.place, mark))
        process.start()
        return Child(role, process, shared_page(mark), mark.with_suffix(".log"))
