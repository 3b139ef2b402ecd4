"""
What every kind of run shares: the job, its steps, its tally, and how it reads history.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.config import Config
from pipeline.features import history as histories
from pipeline.features.history import History
from pipeline.progress import Progress, Silent
from pipeline.rules import engine, mutes
from storage.database.database import Store
from storage.errors import StorageError
from storage.frames import DAY, Strings
from storage.ingest import history as stored
from storage.models import models
from storage.runs import runs
from storage.runs.ledger import Entry

AHEAD = 60 * DAY  # a long backfill reads this much past its present window at once: bounded memory
LIVE = "live"  # the policy whose flags people see; a challenger's are scores with `flagged`, nothing more
FEW = 2_000  # so many transactions or fewer: read their entities' past, not everybody's


@dataclass(frozen=True)
class RunContext:
    """One run over one policy: who asked, what it may know, and where to tell of its progress."""

    store: Store
    config: Config
    policy: str
    as_of: int  # the horizon: nothing visible later is looked at
    run_id: int
    by: str
    progress: Progress
    stopping: Callable[[], bool]  # asked between steps: leave the rest to the next run
    tell: bool = False  # of its flags, to those whom [notify] names


@dataclass(frozen=True)
class Step:
    """A training or pruning at `end`, or the window [start, end) to score, or to measure the drift or quality of."""

    kind: Literal["train", "score", "drift", "quality", "prune"]
    start: int
    end: int

    @property
    def order(self) -> tuple[int, int]:
        """A training comes before every window that ends after its date, even one it lies inside of."""
        return in_time(self.kind, self.end)


TOLD = ("schedule", "manual", "late", "train")  # kinds of run that messages speak of: never of a backfill
PLACES = {"score": 0, "drift": 1, "quality": 2, "train": 3, "prune": 4}


def in_time(kind: str, end: int) -> tuple[int, int]:
    """Sort key of steps and ledger entries: by time, and at the same time windows before trainings."""
    return (end, PLACES[kind])


@dataclass(frozen=True)
class Tally:
    """What a run did."""

    run_id: int = 0
    windows: int = 0
    scored: int = 0
    flagged: int = 0
    already: int = 0  # scored by somebody else meanwhile
    late: int = 0
    no_model: int = 0  # transactions before the first model: history, not work
    left: int = 0  # windows left for the next tick
    stopped: bool = False  # told to stop before everything was done
    trainings: list[str] = field(default_factory=list)  # a sentence each
    failures: list[str] = field(default_factory=list)  # a sentence each; they are in the ledger, too

    def plus(self, other: "Tally") -> "Tally":
        """Both together; the run stays the first one's."""
        return Tally(
            self.run_id,
            self.windows + other.windows,
            self.scored + other.scored,
            self.flagged + other.flagged,
            self.already + other.already,
            self.late + other.late,
            self.no_model + other.no_model,
            self.left + other.left,
            self.stopped or other.stopped,
            self.trainings + other.trainings,
            self.failures + other.failures,
        )

    def sentence(self) -> str:
        """For the one who asked."""
        said = [f"{self.scored:,} transactions scored in {self.windows:,} windows, {self.flagged:,} flagged"]
        if self.late:
            said.append(f"{self.late:,} of them came late")
        if self.already:
            said.append(f"{self.already:,} had been scored meanwhile by another run")
        if self.no_model:
            said.append(f"{self.no_model:,} are older than the first model and were left out")
        if self.left:
            said.append(f"{self.left:,} windows are still to be caught up with")
        if self.stopped:
            said.append("stopped when told to: the next run goes on from here")
        said += self.failures
        if not (self.scored or self.no_model or self.trainings or self.failures or self.stopped):
            said.append("nothing was due: fraudwatch doctor says what is stored and what is missing")
        return "; ".join(said)

    def counts(self) -> dict[str, int]:
        """For the ledger and the run's row."""
        return {
            "windows": self.windows,
            "scored": self.scored,
            "flagged": self.flagged,
            "already": self.already,
            "late": self.late,
            "no_model": self.no_model,
            "left": self.left,
            "trainings": len(self.trainings),
            "failures": len(self.failures),
        }


def never() -> bool:
    """Go on to the end."""
    return False


@contextmanager
def job(
    store: Store,
    config: Config,
    as_of: int,
    policy: str,
    kind: str,
    by: str,
    progress: Progress | None,
    stopping: Callable[[], bool] = never,
) -> Iterator[RunContext]:
    """Fix the horizon and record the run; a run that raises is recorded as failed and raises on."""
    config.model_key()  # before anything is begun
    horizon = stored.horizon(store, as_of)
    run_id = runs.begin_run(store, policy, kind, as_of, config.public_text(), horizon.newest_batch)
    shown = progress or Silent()
    try:
        wide = widened(store, policy)
        tell = kind in TOLD and policy == LIVE and config.notify.wanted
        yield RunContext(wide, config, policy, horizon.as_of, run_id, by, shown, stopping, tell)
    except BaseException as error:
        shown.stop()
        with suppress(StorageError):  # the database may be what failed
            runs.end_run(store, run_id, as_of, "failed", {}, f"{type(error).__name__}: {error}")
        raise


def widened(store: Store, policy: str) -> Store:
    """The store with the columns that promoted models and rules read, whatever the configuration says by now."""
    for fields in [*models.fields_in_force(store, policy), *engine.fields_read(store)]:
        store = store.widened((*fields["entities"], *fields["categorical"]), tuple(fields["numeric"]))
    return store


class Reader:
    """History for one computation after the other, read in blocks that move along with time."""

    def __init__(self, this: RunContext, job_end: int) -> None:
        self._this = this
        self._job_end = job_end
        self._span = (0, 0)
        self._held: History | None = None
        self.rules = engine.in_store(this.store)
        self.mutes = mutes.in_store(this.store)
        in_force = [*models.fields_in_force(this.store, this.policy), *(one.fields for one in self.rules)]
        windows = [max(fields["windows"]) for fields in in_force]
        self._lookback = max(this.config.lookback, max(windows, default=0) + this.config.labels.maturity)
        of_models = [name for fields in in_force for name in fields["entities"]]
        self._entities = list(dict.fromkeys([*this.config.schema_.entities, *of_models]))

    def for_training(self, date: int) -> History:
        """All that a training at `date` may look at."""
        config = self._this.config
        return self._whole(date - config.training.span - config.lookback, date)

    def for_rows(self, start: int, end: int, ids: Strings) -> History:
        """The past of the entities of some transactions with start ≤ event_time < end."""
        config = self._this.config
        begin = start - self._lookback
        if self._covers(begin, end) or len(ids) > FEW:
            return self._whole(begin, end)
        wanted = stored.entities_of(self._this.store, ids, self._entities)
        return histories.load(self._this.store, config, begin, end, wanted)

    def span(self, start: int, end: int) -> History:
        """A history that holds all transactions of a span and their labels, though not what features need."""
        if self._covers(start, end) and self._held is not None:
            return self._held
        return histories.load(self._this.store, self._this.config, start, end)

    def _covers(self, start: int, end: int) -> bool:
        return self._held is not None and self._span[0] <= start and end <= self._span[1]

    def _whole(self, start: int, end: int) -> History:
        if not self._covers(start, end) or self._held is None:
            until = max(end, min(end + AHEAD, self._job_end))
            self._held = None  # let go of the old block before reading the new one
            self._held = histories.load(self._this.store, self._this.config, start, until)
            self._span = (start, until)
        return self._held


def pending(policy: str, step: Step, allowed_lateness: int) -> Entry:
    """The ledger's row of a step, as it is before anybody worked on it."""
    late = 0 if step.kind in ("train", "prune") else allowed_lateness
    return Entry(policy, step.kind, step.start, step.end, due_at=step.end + late)
