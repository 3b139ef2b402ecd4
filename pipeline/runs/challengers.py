"""
Challengers: policies of [shadow.NAME] sections, which score the same transactions as live but raise no flags.

Each challenger has its own settings, trainings, choices, models and scores; nothing that live writes depends on them.
Challengers run after live. A failure of one is reported and does not stop the others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from detectors.base import DetectorError
from pipeline.config.config import Config
from pipeline.errors import FraudwatchError
from pipeline.schedule.run_context import LIVE, RunSummary
from storage.database.database import Store
from storage.errors import StorageError
from storage.runs import scoring_queue

EXPECTED_ERRORS = (FraudwatchError, StorageError, DetectorError)


@dataclass(frozen=True)
class ChallengerRun:
    """The result of one challenger's run: a summary, or the error that ended it."""

    name: str
    summary: RunSummary | None
    error: Exception | None = None

    def sentence(self) -> str:
        """The result as one line."""
        if self.summary is None:
            return f"challenger {self.name} failed: {self.error}"
        return f"challenger {self.name}: {self.summary.sentence()}"


def run_challengers(
    config: Config, run_policy: Callable[[Config, str], RunSummary]
) -> Iterator[ChallengerRun]:
    """Call `run_policy` for every challenger with its settings and its name; a failure ends only that challenger's run."""
    for name in sorted(config.shadow):
        try:
            yield ChallengerRun(name, run_policy(config.for_challenger(name), name))
        except EXPECTED_ERRORS as error:
            yield ChallengerRun(name, None, error)


def retire(store: Store, config: Config) -> list[str]:
    """Stop queueing transactions for challengers that are no longer configured; returns their names."""
    return scoring_queue.retire_policies(store, {LIVE, *config.shadow})
