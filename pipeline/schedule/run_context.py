"""
What every kind of run shares: its context, its steps, its summary, and how it reads history.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.config import Config
from pipeline.features import history as feature_history
from pipeline.features.history import History
from pipeline.memory import release_freed_memory
from pipeline.progress import NoProgress, Progress
from pipeline.rules import engine, mutes
from storage.database.database import Store
from storage.errors import StorageError
from storage.frames import DAY, SECOND, Strings
from storage.ingest import history as stored_history
from storage.models import models
from storage.runs import runs, workers
from storage.runs.ledger import Entry

READ_AHEAD = 60 * DAY  # how far a long backfill reads beyond its current window at once; bounds memory
LIVE = models.LIVE
ENTITY_READ_MAX = 2_000  # up to this many transactions, only the past of their entities is read


@dataclass(frozen=True)
class RunContext:
    """Store, config, policy, as_of and progress of one run."""

    store: Store
    config: Config
    policy: str
    as_of: int  # the horizon: the run uses nothing that became visible later
    run_id: int
    worker: str  # the id under which this process claims steps
    by: str
    progress: Progress
    should_stop: Callable[[], bool]  # checked between steps; if True, the rest is left to the next run
    notifies: bool = False  # whether its flags are sent to the receivers in [notify]
    bugs: list[Exception] = field(default_factory=list)  # that ended a step; the next ones go on
    began: float = field(default_factory=time.monotonic)

    @property
    def ended_at(self) -> int:
        """The horizon and the time that the run has taken, in µs."""
        return self.as_of + _elapsed(self.began)


@dataclass(frozen=True)
class Step:
    """A training or pruning at `end`, or a window [start, end) of scoring, drift or quality."""

    kind: Literal["train", "score", "drift", "quality", "prune"]
    start: int
    end: int

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: a training comes before every window that ends after its date, even one that contains its date."""
        return step_sort_key(self.kind, self.end)


NOTIFYING_KINDS = (
    "schedule",
    "manual",
    "arrival",
    "train",
)  # kinds of run that send messages; a backfill does not
STEP_ORDER = {"score": 0, "drift": 1, "quality": 2, "train": 3, "prune": 4}


def step_sort_key(kind: str, end: int) -> tuple[int, int]:
    """Sort key of steps and ledger entries: by time; at the same time windows come before trainings."""
    return (end, STEP_ORDER[kind])


@dataclass(frozen=True)
class RunSummary:
    """Counts and messages of a run."""

    run_id: int = 0
    windows: int = 0
    scored: int = 0
    flagged: int = 0
    already_scored: int = 0  # scored by another run in the meantime
    late: int = 0
    no_model: int = 0  # transactions before the first model, which are not scored
    windows_left: int = 0  # windows left for the next tick
    stopped: bool = False  # stopped on request before everything was done
    trainings: list[str] = field(default_factory=list)  # a sentence each
    failures: list[str] = field(default_factory=list)  # a sentence each; they are in the ledger, too
    bugs: list[Exception] = field(default_factory=list)  # those of the failures that nobody expects

    def plus(self, other: "RunSummary") -> "RunSummary":
        """The sum of both summaries, with this one's run_id."""
        return RunSummary(
            self.run_id,
            self.windows + other.windows,
            self.scored + other.scored,
            self.flagged + other.flagged,
            self.already_scored + other.already_scored,
            self.late + other.late,
            self.no_model + other.no_model,
            self.windows_left + other.windows_left,
            self.stopped or other.stopped,
            self.trainings + other.trainings,
            self.failures + other.failures,
            self.bugs + other.bugs,
        )

    def counts(self) -> dict[str, int]:
        """The counts as they are stored with the run and in the ledger."""
        return {
            "windows": self.windows,
            "scored": self.scored,
            "flagged": self.flagged,
            "already": self.already_scored,
            "late": self.late,
            "no_model": self.no_model,
            "left": self.windows_left,
            "trainings": len(self.trainings),
            "failures": len(self.failures),
        }


def never_stop() -> bool:
    """Never stop before the end."""
    return False


@contextmanager
def start_run(
    store: Store,
    config: Config,
    as_of: int,
    policy: str,
    kind: str,
    by: str,
    progress: Progress | None,
    stopping: Callable[[], bool] = never_stop,
) -> Iterator[RunContext]:
    """
    Record a run and yield its context with a fixed horizon.

    If the body raises, the run is recorded as failed; if it is stopped by a signal, as interrupted.
    """
    config.model_keys()  # fails before the run is recorded
    horizon = stored_history.horizon(store, as_of)
    began = time.monotonic()
    with workers.hold(store, by) as worker:
        run_id = runs.begin_run(
            store, policy, kind, as_of, config.public_text(), horizon.newest_batch, worker
        )
        bar = progress or NoProgress()
        try:
            store_with_fields = with_stored_fields(store, policy)
            notifies = kind in NOTIFYING_KINDS and policy == LIVE and config.notifies
            yield RunContext(
                store_with_fields, config, policy, horizon.as_of, run_id, worker, by, bar, stopping, notifies
            )
        except BaseException as error:
            bar.stop()
            with suppress(StorageError):  # the database may be what failed
                if isinstance(error, Exception):
                    message = f"{type(error).__name__}: {error}"
                    runs.end_run(store, run_id, as_of + _elapsed(began), "failed", {}, message)
                else:
                    ended_at, why = as_of + _elapsed(began), "stopped by a signal"
                    runs.end_run(store, run_id, ended_at, "interrupted", {}, why)
            raise


def _elapsed(since: float) -> int:
    return round((time.monotonic() - since) * SECOND)


def with_stored_fields(store: Store, policy: str) -> Store:
    """The store, extended by the columns that promoted models and rules use but the configuration no longer has."""
    for fields in [*models.fields_in_force(store, policy), *engine.rule_fields(store)]:
        store = store.with_extra_columns(
            (*fields["entities"], *fields["categorical"]), tuple(fields["numeric"])
        )
    return store


class HistoryReader:
    """Reads history for a sequence of computations, in blocks that move forward in time."""

    def __init__(self, store: Store, config: Config, policy: str, run_end: int) -> None:
        self._store = store
        self._config = config
        self._run_end = run_end
        self._span = (0, 0)
        self._block: History | None = None
        self.rules = engine.load_rules(store)
        self.mutes = mutes.load_mutes(store)
        in_force = [*models.fields_in_force(store, policy), *(rule.fields for rule in self.rules)]
        windows = [max(fields["windows"]) for fields in in_force]
        self.lookback = max(  # µs, the longest past that a model or a rule needs
            config.lookback, max(windows, default=0) + config.labels.longest_maturity
        )
        self.fraud_span = max(  # µs, the same for frauds
            [config.fraud_span, *(int(fields.get("fraud_span", 0)) for fields in in_force)]
        )
        model_entities = [name for fields in in_force for name in fields["entities"]]
        self._entities = list(dict.fromkeys([*config.schema_.entities, *model_entities]))

    def for_training(self, date: int, last: int | None = None) -> History:
        """All history that a training at `date`, and those up to `last`, may use, and the one before it for the promotion gate."""
        return self._whole(self._start_of_training(date), max(date, last or date))

    def for_rows(self, start: int, end: int, ids: Strings) -> History:
        """The past of the entities of some transactions with start ≤ event_time < end, or of all in a run that has read all."""
        begin = start - self.lookback
        if self._covers(begin, end) or len(ids) > ENTITY_READ_MAX:
            return self._whole(begin, end)
        if self._block is not None and begin >= self._span[0] and end <= self._run_end:
            # The run goes on beyond what it has read ahead: all at once, and its next training has it, too.
            return self._whole(min(begin, self._start_of_training(start)), end)
        entities = stored_history.entities_of(self._store, ids, self._entities)
        return feature_history.load(self._store, self._config, begin, end, entities)

    def _start_of_training(self, date: int) -> int:
        config = self._config
        return date - config.training.every - config.training.span - config.lookback

    def span(self, start: int, end: int) -> History:
        """A history with all transactions of a span and their labels, but not the lookback that features need."""
        if self._covers(start, end) and self._block is not None:
            return self._block
        return feature_history.load(self._store, self._config, start, end)

    def _covers(self, start: int, end: int) -> bool:
        return self._block is not None and self._span[0] <= start and end <= self._span[1]

    def _whole(self, start: int, end: int) -> History:
        if not self._covers(start, end) or self._block is None:
            until = max(end, min(end + READ_AHEAD, self._run_end))
            self._block = None  # free the old block before the new one is read
            self._block = feature_history.load(self._store, self._config, start, until)
            self._span = (start, until)
            release_freed_memory()
        return self._block


def pending(policy: str, step: Step, allowed_lateness: int) -> Entry:
    """The ledger entry of a step that has not been started."""
    delay = 0 if step.kind in ("train", "prune") else allowed_lateness
    return Entry(policy, step.kind, step.start, step.end, due_at=step.end + delay)
