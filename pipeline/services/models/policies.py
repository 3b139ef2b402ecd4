"""Policies: how the flags of two of them differ on the transactions that both have scored."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import Amount, as_amount
from pipeline.services.session import Session
from storage.database.column_types import as_micros
from storage.queries import policy_diff


@dataclass(frozen=True)
class PolicyDiffRequest:
    """Two policies to compare, on event times in [since, until)."""

    policy: str
    against: str = "live"
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class FlaggedGroup:
    """Flagged transactions, the known frauds among them, and what was at risk of these."""

    flags: int
    frauds: int
    fraud_amount: Amount


@dataclass(frozen=True)
class PolicyDiffSummary:
    """
    The flags of two policies on the same transactions.

    Attributes
    ----------
    transactions
        Scored by both, without those that a model was trained on.
    in_sample
        Scored by both, but left out, because a model was trained on them.
    only_policy, only_against, both
        What only the one, only the other and both flag.
    """

    policy: str
    against: str
    transactions: int
    in_sample: int
    only_policy: FlaggedGroup
    only_against: FlaggedGroup
    both: FlaggedGroup


@dataclass(frozen=True)
class PolicyDifference:
    """A transaction that one policy flags and the other does not; `flagged_by` is the one that does."""

    transaction_id: str
    event_time: datetime
    amount: Amount
    flagged_by: str
    score: float
    score_against: float
    is_fraud: bool | None


def compare_policies(session: Session, request: PolicyDiffRequest) -> PolicyDiffSummary:
    """
    How many flags and how much known fraud each of two policies has that the other does not.

    Raises
    ------
    Unknown
        One of the policies has no scores.
    """
    diff = policy_diff.compare_policies(session.store, request.against, request.policy, *_span(request))
    currency = session.config.schema_.base_currency

    def group(by_against: bool, by_policy: bool) -> FlaggedGroup:
        cell = diff.cell(by_against, by_policy)
        return FlaggedGroup(cell.n, cell.frauds, as_amount(cell.money, currency))

    return PolicyDiffSummary(
        policy=request.policy,
        against=request.against,
        transactions=sum(cell.n for cell in diff.cells.values()),
        in_sample=diff.in_sample,
        only_policy=group(by_against=False, by_policy=True),
        only_against=group(by_against=True, by_policy=False),
        both=group(by_against=True, by_policy=True),
    )


def list_differences(
    session: Session, request: PolicyDiffRequest, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[PolicyDifference]:
    """
    Transactions that one policy flags and the other does not, newest first.

    Raises
    ------
    Unknown
        One of the policies has no scores.
    InputError
        The cursor is not one of this list.
    """
    page = policy_diff.difference_page(
        session.store, request.against, request.policy, *_span(request), limit, decode_cursor(cursor, keys=2)
    )
    currency = session.config.schema_.base_currency
    records = tuple(
        PolicyDifference(
            transaction_id=row["transaction_id"],
            event_time=row["event_time"],
            amount=as_amount(row["amount"], currency),
            flagged_by=row["flagged_by"],
            score=row["score_b"],
            score_against=row["score_a"],
            is_fraud=row["is_fraud"],
        )
        for row in page.rows
    )
    return Page(records, encode_cursor(page.next_position))


def _span(request: PolicyDiffRequest) -> tuple[int | None, int | None]:
    since, until = request.since, request.until
    return None if since is None else as_micros(since), None if until is None else as_micros(until)
