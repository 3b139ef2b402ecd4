"""What is stored of payments that somebody says something of: flag, labels and the newest verdict."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select, text

from storage.database import bulk
from storage.database.tables import batches, flags, label_precedence, labels, verdicts
from storage.database.views import VISIBLE, ranked_labels
from storage.frames import REVIEWERS
from storage.review.verdict_log import AUDIT, INVESTIGATION, REVIEW, not_retracted

UNRANKED = 1_000_000  # of a source that labels.precedence does not list

Label = Row[Any]
NOT_BY_REVIEWERS = f"AND {{x}}.source NOT IN ({', '.join(map(repr, REVIEWERS))})"
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
    current
        The label that counts.
    is_reported
        Whether it would count as fraud without what people found.
    taken
        By source, the times at which its labels became known, retracted ones included; no two may be equal.
    newest_verdict
        Of those that have not been retracted.
    last_entry
        The newest row of the log, retracted or not; None without any.
    ranks
        Of label sources; the lowest ranks first.
    """

    transaction_id: str
    is_stored: bool
    status: str | None
    channel: str | None
    labels: Sequence[Label]
    current: Label | None
    is_reported: bool
    taken: Mapping[str, frozenset[int]]
    newest_verdict: Any
    last_entry: Any
    ranks: Mapping[str, int]

    @property
    def version(self) -> str:
        """Changes with every answer and every status: what somebody has seen before answering."""
        return flag_version(None if self.last_entry is None else self.last_entry.verdict_id, self.status)

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


def flag_version(verdict_id: int | None, status: str | None) -> str:
    """The version of a flag with this newest row of the log and this status; of a payment without a flag the status is None."""
    return f"{verdict_id or 0}-{status or 'unflagged'}"


def payment_states(connection: Connection, policy: str, ids: Sequence[str]) -> list[PaymentState]:
    """The state of each of these payments, in their order."""
    f, v = flags.c, verdicts.c
    with bulk.staged_ids(connection, ids) as stage:
        mine = text(f"SELECT transaction_id FROM {stage}")
        stored = set(connection.scalars(text(STORED.format(stage=stage))).all())
        found = select(f.transaction_id, f.status, f.channel).where(
            f.policy == policy, f.transaction_id.in_(mine)
        )
        flagged = {row.transaction_id: row for row in connection.execute(found).all()}
        answers = select(v.transaction_id, v.verdict, v.label_id).where(
            v.transaction_id.in_(mine), not_retracted(v)
        )
        newest = {row.transaction_id: row for row in connection.execute(answers.order_by(v.verdict_id)).all()}
        entries = select(v.transaction_id, v.verdict_id, v.verdict, v.by, v.at).where(
            v.transaction_id.in_(mine)
        )
        last = {row.transaction_id: row for row in connection.execute(entries.order_by(v.verdict_id)).all()}
        rows = connection.execute(_label_rows(mine)).all()
        current = _holding(connection, stage)
        reported = _holding(connection, stage, NOT_BY_REVIEWERS)
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
            next((row for row in valid[name] if row.label_id == current.get(name)), None),
            any(row.label_id == reported.get(name) and row.is_fraud for row in valid[name]),
            {source: frozenset(instants) for source, instants in taken[name].items()},
            newest.get(name),
            last.get(name),
            ranks,
        )
        for name in ids
    ]


def _holding(connection: Connection, stage: str, which: str = "") -> dict[str, int]:
    """The label_id of the label that holds of each staged payment, of all its labels or of some."""
    staged = f"AND {{x}}.transaction_id IN (SELECT transaction_id FROM {stage}) {which}"
    rows = connection.execute(text(ranked_labels(VISIBLE, staged))).all()
    return {row.transaction_id: row.label_id for row in rows}


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
