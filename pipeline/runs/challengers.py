"""
Challengers: policies of [shadow.NAME] sections, which score beside live and flag nothing.

Each lives by its own settings, with its own trainings, choices, models and scores; nothing that live writes depends on
them. Their turn comes after live's, and what goes wrong with one is told and stops nobody else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from detectors.base import DetectorError
from pipeline.config.config import Config
from pipeline.errors import FraudwatchError
from pipeline.schedule.run_context import LIVE, Tally
from storage.database.database import Store
from storage.errors import StorageError
from storage.runs import scoring_queue

KNOWN = (FraudwatchError, StorageError, DetectorError)


@dataclass(frozen=True)
class Turn:
    """What became of one shadow's turn."""

    name: str
    tally: Tally | None
    error: Exception | None = None

    @property
    def sentence(self) -> str:
        """For the one who asked."""
        said = str(self.error) if self.tally is None else self.tally.sentence()
        return f"shadow {self.name}{' failed' if self.tally is None else ''}: {said}"


def in_turn(config: Config, work: Callable[[Config, str], Tally]) -> Iterator[Turn]:
    """Do a piece of work for every shadow, by its own settings and under its own name; a failure ends its turn."""
    for name in sorted(config.shadow):
        try:
            yield Turn(name, work(config.shadowed(name), name))
        except KNOWN as error:
            yield Turn(name, None, error)


def retire(store: Store, config: Config) -> list[str]:
    """Queue nothing more for shadows that are no longer configured; returns their names."""
    return scoring_queue.retire(store, {LIVE, *config.shadow})
