"""Differences between the flags of two policies, on the transactions that both have scored."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, Double, Text, bindparam, select, text

from storage.database.column_types import IdText, Instant, Money
from storage.database.database import Store
from storage.errors import Unknown
from storage.queries.report_counts import DETECTED
from storage.queries.rows import Position, RowPage, SortKey, fetch_page
from storage.runs.scoring_queue import FOREVER

BY_A, BY_B = DETECTED.format("a"), DETECTED.format("b")
PAIRS = """
    FROM scores a
    JOIN scores b ON b.transaction_id = a.transaction_id AND b.policy = :b
    JOIN transactions t ON t.transaction_id = a.transaction_id
    JOIN transaction_losses l ON l.transaction_id = a.transaction_id
    LEFT JOIN current_labels c ON c.transaction_id = a.transaction_id
    WHERE a.policy = :a AND t.event_time >= :start AND t.event_time < :end"""
HONEST = " AND COALESCE(a.in_sample, FALSE) = FALSE AND COALESCE(b.in_sample, FALSE) = FALSE"
TOTALS = f"""
    SELECT {BY_A} AS by_a, {BY_B} AS by_b, COUNT(*) AS n,
           SUM(CASE WHEN c.is_fraud THEN 1 ELSE 0 END) AS frauds,
           SUM(CASE WHEN NOT COALESCE(c.is_fraud, FALSE) THEN 0 WHEN {BY_A} OR {BY_B} THEN l.at_risk ELSE l.loss END) AS money
    {PAIRS}{HONEST} GROUP BY 1, 2"""
DIFFERENT = f"""
    SELECT t.transaction_id, t.event_time, t.amount_base AS amount,
           CASE WHEN {BY_A} THEN :a ELSE :b END AS flagged_by,
           a.score AS score_a, b.score AS score_b, c.is_fraud
    {PAIRS}{HONEST} AND {BY_A} <> {BY_B}"""


@dataclass(frozen=True)
class Cell:
    """Counts of the transactions flagged by one policy, the other, both or neither."""

    n: int = 0
    frauds: int = 0
    money: float = (
        0.0  # of the frauds: what was at risk where a policy flags them, what is lost where neither does
    )


@dataclass(frozen=True)
class PolicyDiff:
    """The flags of two policies on the same transactions."""

    a: str
    b: str
    cells: dict[tuple[bool, bool], Cell]
    in_sample: int

    def cell(self, by_a: bool, by_b: bool) -> Cell:
        """The transactions that each policy flags or not."""
        return self.cells.get((by_a, by_b), Cell())


def compare_policies(
    store: Store, a: str, b: str, start: int | None = None, end: int | None = None
) -> PolicyDiff:
    """
    Compare the flags of two policies; transactions that a model was trained on are left out.

    Raises
    ------
    Unknown
        One of the policies has no scores.
    """
    _require_scores(store, a, b)
    parameters = _query_parameters(a, b, start, end)
    with store.read() as connection:
        cells = {
            (bool(row.by_a), bool(row.by_b)): Cell(row.n, row.frauds, float(row.money or 0))
            for row in connection.execute(_typed(TOTALS), parameters)
        }
        total = connection.execute(_typed(f"SELECT COUNT(*) {PAIRS}"), parameters).scalar_one()
    return PolicyDiff(a, b, cells, total - sum(cell.n for cell in cells.values()))


def difference_page(
    store: Store,
    a: str,
    b: str,
    start: int | None = None,
    end: int | None = None,
    limit: int | None = None,
    after: Position | None = None,
) -> RowPage:
    """
    Transactions that one policy flags and the other does not, newest first.

    Raises
    ------
    Unknown
        One of the policies has no scores.
    """
    _require_scores(store, a, b)
    columns = {
        "transaction_id": IdText, "event_time": Instant(), "amount": Money(), "flagged_by": Text(), "score_a": Double(),
        "score_b": Double(), "is_fraud": Boolean(),
    }  # fmt: skip
    query = _typed(DIFFERENT).bindparams(**_query_parameters(a, b, start, end)).columns(**columns).subquery()
    newest_first = (SortKey(query.c.event_time, descending=True), SortKey(query.c.transaction_id))
    return fetch_page(store, select(query), newest_first, limit, after)


def _require_scores(store: Store, *policies: str) -> None:
    with store.read() as connection:
        for policy in policies:
            any_score = text("SELECT 1 FROM scores WHERE policy = :p LIMIT 1")
            if connection.execute(any_score, {"p": policy}).scalar() is None:
                known = (
                    connection.execute(text("SELECT DISTINCT policy FROM ledger ORDER BY 1")).scalars().all()
                )
                raise Unknown(
                    f'policy "{policy}" has no scores',
                    remedy=f"choose among {', '.join(known)}" if known else "nothing was scored yet",
                    code="unknown_policy",
                )


def _query_parameters(a: str, b: str, start: int | None, end: int | None) -> dict[str, Any]:
    return {"a": a, "b": b, "start": start or 0, "end": FOREVER if end is None else end}


def _typed(sql: str) -> Any:
    instants = [bindparam("start", type_=Instant), bindparam("end", type_=Instant)]
    return text(sql).bindparams(*instants, bindparam("a", type_=Text), bindparam("b", type_=Text))
