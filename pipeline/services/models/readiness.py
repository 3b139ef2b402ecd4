"""Whether the history is fit for training: errors, warnings and hints, each with its figures and a remedy."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pipeline.number_text import counted
from pipeline.services.records import as_record
from pipeline.services.session import Session
from pipeline.training import train
from pipeline.training.readiness import LEVELS, ReadinessFinding
from pipeline.training.training_history import load_training_history, training_date
from storage.database.column_types import as_datetime
from storage.queries import choices
from storage.queries.status import labels_without_transaction


@dataclass(frozen=True)
class ReadinessReport:
    """The findings at a training date, errors first; only errors prevent a promotion."""

    training_date: datetime
    findings: tuple[ReadinessFinding, ...]

    @property
    def is_ready(self) -> bool:
        """Whether a training could promote its model."""
        return all(finding.level != "error" for finding in self.findings)


def check_readiness(session: Session, policy: str, as_of: datetime | None = None) -> ReadinessReport:
    """
    Run the checks of a training, and count labels that no transaction has; nothing is stored.

    Parameters
    ----------
    as_of
        The training date; by default now, or the newest transaction if that is older.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known then.
    """
    store, config = session.store, session.config.for_policy(policy)
    date = training_date(store, config, session.now, as_of)
    of_training = train.prepare(config, load_training_history(store, config, date), date).findings
    findings = [*of_training, *_unknown_ids(session)]
    return ReadinessReport(
        as_datetime(date), tuple(sorted(findings, key=lambda each: LEVELS.index(each.level)))
    )


def _unknown_ids(session: Session) -> Iterator[ReadinessFinding]:
    """A warning if labels are for ids that no transaction has, by what is stored now."""
    unknown = labels_without_transaction(session.store)
    if unknown:
        yield ReadinessFinding(
            "warning",
            "LABELS_WITHOUT_TRANSACTION",
            f"{counted(unknown, 'label is for an id', 'labels are for ids')} that no transaction has",
            "compare the ids in both files; labels of transactions that are not ingested yet count once they are",
            {"labels": float(unknown)},
        )


def newest_readiness(session: Session, policy: str) -> ReadinessReport:
    """
    What the newest training of a policy found.

    Raises
    ------
    Unknown
        No training has chosen a strategy yet.
    """
    choice = choices.choice_row(session.store, policy)
    rows = choices.newest_findings(session.store, policy)
    return ReadinessReport(choice["training_date"], tuple(as_record(ReadinessFinding, row) for row in rows))
