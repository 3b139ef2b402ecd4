"""
Challengers: policies of [shadow.NAME] sections, which score the same transactions as live but raise no flags.

Each challenger has its own settings, trainings, choices, models and scores; nothing that live writes depends on them.
Challengers run after live. A failure of one is reported and does not stop the others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.config.config import Config
from pipeline.expected_errors import EXPECTED_ERRORS, bug_in
from pipeline.schedule.run_context import LIVE, RunSummary
from storage.database.database import Store
from storage.errors import DATABASE_ERRORS
from storage.runs import scoring_queue


@dataclass(frozen=True)
class ChallengerRun:
    """The result of one challenger's run: a summary, or the error that ended it."""

    name: str
    summary: RunSummary | None
    error: Exception | None = None

    @property
    def bug(self) -> Exception | None:
        """The error of the run or of one of its steps, if it is one that nobody expects."""
        if self.summary is not None and self.summary.bugs:
            return self.summary.bugs[0]
        return bug_in(self.error)


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
        Errors that end only that challenger's run; others are raised, and those of the database itself.
    """
    for name in sorted(config.shadow):
        try:
            yield ChallengerRun(name, run_policy(config.for_challenger(name), name))
        except DATABASE_ERRORS:
            raise
        except isolated as error:
            yield ChallengerRun(name, None, error)


def retire(store: Store, config: Config) -> list[str]:
    """Stop queueing transactions for challengers that are no longer configured; returns their names."""
    return scoring_queue.retire_policies(store, {LIVE, *config.shadow})
