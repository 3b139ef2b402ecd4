"""
Challengers: policies of [shadow.NAME] sections, which score the same transactions as live but raise no flags.

Each challenger has its own settings, trainings, choices, models and scores; nothing that live writes depends on them.
Challengers run after live. A failure of one is reported and does not stop the others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.config.config import Config
from pipeline.expected_errors import EXPECTED_ERRORS
from pipeline.schedule.run_context import LIVE, RunSummary
from storage.database.database import Store
from storage.runs import scoring_queue


@dataclass(frozen=True)
class ChallengerRun:
    """The result of one challenger's run: a summary, or the error that ended it."""

    name: str
    summary: RunSummary | None
    error: Exception | None = None

    @property
    def bug(self) -> Exception | None:
        """The error, if it is one that nobody expects."""
        return None if isinstance(self.error, EXPECTED_ERRORS) else self.error


def run_challengers(
    config: Config,
    run_policy: Callable[[Config, str], RunSummary],
    *,
    isolated: tuple[type[Exception], ...] = EXPECTED_ERRORS,
) -> Iterator[ChallengerRun]:
    """
    Call `run_policy` for every challenger with its settings and its name.

    Parameters
    ----------
    isolated
        Errors that end only that challenger's run; others are raised.
    """
    for name in sorted(config.shadow):
        try:
            yield ChallengerRun(name, run_policy(config.for_challenger(name), name))
        except isolated as error:
            yield ChallengerRun(name, None, error)


def retire(store: Store, config: Config) -> list[str]:
    """Stop queueing transactions for challengers that are no longer configured; returns their names."""
    return scoring_queue.retire_policies(store, {LIVE, *config.shadow})
