"""What scores and stores payments for as long as a door is open."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.runs.arrivals import ArrivalScorer, arrival_scorer
from pipeline.services.session import Session

__all__ = ["ArrivalScorer", "open_scorer"]


@contextmanager
def open_scorer(session: Session) -> Iterator[ArrivalScorer]:
    """A scorer that keeps models in memory, and that threads may share; what it scores is one run, which ends with the block."""
    with arrival_scorer(session.store, session.config, session.now, session.actor) as scorer:
        yield scorer
