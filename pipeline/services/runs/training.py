"""A training by hand."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.errors import InputError
from pipeline.progress import Progress
from pipeline.runs.scoring_run import train_once
from pipeline.schedule.run_context import LIVE, RunSummary
from pipeline.services.session import Session, past_instant


@dataclass(frozen=True)
class TrainRequest:
    """A training date, now if None, and the challenger to train instead of live."""

    as_of: datetime | None = None
    challenger: str | None = None


def train(session: Session, request: TrainRequest, progress: Progress | None = None) -> RunSummary:
    """
    Choose a strategy, fit a model and promote it, unless the gate rejects it.

    Raises
    ------
    InputError
        The date is in the future, or there is no such challenger.
    """
    config, name = session.config, request.challenger
    if name is not None and name not in config.shadow:
        configured = ", ".join(sorted(config.shadow)) or "none"
        raise InputError(
            f"there is no section [shadow.{name}]; configured are {configured}", code="unknown_challenger"
        )
    policy = name or LIVE
    return train_once(
        session.store,
        config.for_policy(policy),
        date=past_instant(session, request.as_of),
        as_of=session.now,
        policy=policy,
        by=session.actor,
        progress=progress,
    )
