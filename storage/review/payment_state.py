"""What is stored of payments that somebody says something of: flag, labels and the newest verdict."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select, text

from storage.database import bulk
from storage.database.tables import batches, flags, label_precedence, labels, verdicts
from storage.frames import REVIEWERS
from storage.review.verdict_log import AUDIT, INVESTIGATION, REVIEW, not_retracted

UNRANKED = 1_000_000  # of a source that labels.precedence does not list

Label = Row[Any]
STORED = """
    SELECT w.transaction_id FROM {stage} w JOIN visible_transactions t ON t.transaction_id = w.transaction_id"""


@dataclass(frozen=True)
class PaymentState:
    """
    A payment as somebody finds it who says something of it.

    Attributes
    ----------
    status, channel
        Of its flag; None if it has none.
    labels
        Those that have not been retracted, oldest known first.
    taken
        By source, the times at which its labels became known, retracted ones included; no two may be equal.
    newest_verdict
        Of those that have not been retracted.
    ranks
        Of label sources; the lowest ranks first.
    """

    transaction_id: str
    is_stored: bool
    status: str | None
    channel: str | None
    labels: Sequence[Label]
    taken: Mapping[str, frozenset[int]]
    newest_verdict: Any
    ranks: Mapping[str, int]

    @property
    def current(self) -> Label | None:
        """The label that counts."""
        reports = [row.known_at for row in self.labels if row.is_fraud and row.source not in REVIEWERS]
        return self._first(row for row in self.labels if not _contradicted(row, reports))

    @property
    def is_reported(self) -> bool:
        """Whether it would count as fraud without what people found."""
        reported = self._first(row for row in self.labels if row.source not in REVIEWERS)
        return reported is not None and bool(reported.is_fraud)

    @property
    def is_answered(self) -> bool:
        """Whether people have labelled it."""
        return any(row.source in REVIEWERS for row in self.labels)

    def newest_of(self, source: str) -> Label | None:
        """The newest label of a source."""
        return next((row for row in reversed(self.labels) if row.source == source), None)

    def own_source(self) -> str:
        """The source of the next answer of a person: of those it may have, the one that ranks first."""
        flagged = INVESTIGATION if self.status is None else AUDIT if self.channel == AUDIT else REVIEW
        sources: set[str] = {flagged, *(row.source for row in self.labels if row.source in REVIEWERS)}
        return min(sources, key=lambda source: (self.ranks.get(source, UNRANKED), REVIEWERS.index(source)))

    def _first(self, rows: Iterable[Label]) -> Label | None:
        def order(row: Label) -> tuple[int, int, int]:
            return self.ranks.get(row.source, UNRANKED), -row.known_at, -row.label_id

        return min(rows, key=order, default=None)


def _contradicted(label: Label, reports: Sequence[int]) -> bool:
    """Whether a report of fraud became known after a person had called the payment genuine."""
    by_person = label.source in REVIEWERS and label.is_fraud is False
    return by_person and any(known_at > label.known_at for known_at in reports)


def payment_states(connection: Connection, policy: str, ids: Sequence[str]) -> list[PaymentState]:
    """The state of each of these payments, in their order."""
    f, v = flags.c, verdicts.c
    with bulk.staged_ids(connection, ids) as stage:
        mine = text(f"SELECT transaction_id FROM {stage}")
        stored = set(connection.scalars(text(STORED.format(stage=stage))))
        found = select(f.transaction_id, f.status, f.channel).where(
            f.policy == policy, f.transaction_id.in_(mine)
        )
        flagged = {row.transaction_id: row for row in connection.execute(found)}
        answers = select(v.transaction_id, v.verdict, v.label_id).where(
            v.transaction_id.in_(mine), not_retracted(v)
        )
        newest = {row.transaction_id: row for row in connection.execute(answers.order_by(v.verdict_id))}
        rows = connection.execute(_label_rows(mine)).all()
    ranks = {row.source: int(row.rank) for row in connection.execute(select(label_precedence))}
    taken: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    valid = defaultdict(list)
    retracted = {row.retracts for row in rows}
    for row in rows:
        taken[row.transaction_id][row.source].add(row.known_at)
        says_something = row.is_fraud is not None or row.type is not None
        if row.is_visible and says_something and row.label_id not in retracted:
            valid[row.transaction_id].append(row)
    return [
        PaymentState(
            name,
            name in stored,
            flagged[name].status if name in flagged else None,
            flagged[name].channel if name in flagged else None,
            valid[name],
            {source: frozenset(instants) for source, instants in taken[name].items()},
            newest.get(name),
            ranks,
        )
        for name in ids
    ]


def _label_rows(mine: Any) -> Any:
    """All labels of the staged payments, oldest known first, with those of batches that are not visible."""
    c = labels.c
    visible = or_(c.batch_id.is_(None), batches.c.status == "done")
    columns = (
        c.label_id,
        c.transaction_id,
        c.is_fraud,
        c.type,
        c.source,
        c.known_at,
        c.recorded_at,
        c.retracts,
    )
    return (
        select(*columns, visible.label("is_visible"))
        .outerjoin(batches, batches.c.batch_id == c.batch_id)
        .where(c.transaction_id.in_(mine))
        .order_by(c.known_at, c.label_id)
    )
