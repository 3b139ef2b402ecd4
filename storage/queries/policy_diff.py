"""Differences between the flags of two policies, on the transactions that both have scored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from storage.database.column_types import Instant, as_datetime
from storage.database.database import Store
from storage.errors import Unknown
from storage.runs.scoring_queue import FOREVER

PAIRS = """
    FROM scores a
    JOIN scores b ON b.transaction_id = a.transaction_id AND b.policy = :b
    JOIN transactions t ON t.transaction_id = a.transaction_id
    LEFT JOIN current_labels c ON c.transaction_id = a.transaction_id
    WHERE a.policy = :a AND t.event_time >= :start AND t.event_time < :end"""
HONEST = " AND COALESCE(a.in_sample, FALSE) = FALSE AND COALESCE(b.in_sample, FALSE) = FALSE"
TOTALS = f"""
    SELECT a.flagged AS by_a, b.flagged AS by_b, COUNT(*) AS n,
           SUM(CASE WHEN c.is_fraud THEN 1 ELSE 0 END) AS frauds,
           SUM(CASE WHEN c.is_fraud THEN t.amount_base ELSE 0 END) AS fraud_money,
           SUM(t.amount_base) AS money
    {PAIRS}{HONEST} GROUP BY a.flagged, b.flagged"""
DIFFERENT = f"""
    SELECT t.transaction_id, t.event_time, t.amount_base AS amount,
           CASE WHEN a.flagged THEN :a ELSE :b END AS flagged_by,
           a.score AS score_a, b.score AS score_b, c.is_fraud
    {PAIRS}{HONEST} AND a.flagged <> b.flagged
    ORDER BY t.event_time DESC, t.transaction_id LIMIT :some"""


@dataclass(frozen=True)
class Cell:
    """Counts and money of the transactions flagged by one policy, the other, both or neither."""

    n: int = 0
    frauds: int = 0
    fraud_money: float = 0.0
    money: float = 0.0


@dataclass(frozen=True)
class PolicyDiff:
    """The flags of two policies on the same transactions."""

    a: str
    b: str
    cells: dict[tuple[bool, bool], Cell]
    in_sample: int

    def lines(self, currency: str) -> list[str]:
        """The differences as sentences."""
        both, only_a, only_b = (self._cell(*flagged) for flagged in ((1, 1), (1, 0), (0, 1)))
        total = sum(cell.n for cell in self.cells.values())
        lines = [f"{total:,} transactions were scored by both {self.a} and {self.b}"]
        if self.in_sample:
            lines.append(f"{self.in_sample:,} more are left out: a model was trained on them")
        for name, cell in ((f"only {self.a}", only_a), (f"only {self.b}", only_b), ("both", both)):
            lines.append(
                f"flagged by {name}: {cell.n:,}, of which {cell.frauds:,} are known fraud "
                f"({cell.fraud_money:,.2f} {currency})"
            )
        gained = only_b.fraud_money - only_a.fraud_money
        more = only_b.n - only_a.n
        lines.append(
            f"{self.b} instead of {self.a}: {gained:+,.2f} {currency} of known fraud caught, {more:+,} flags"
        )
        return lines

    def _cell(self, by_a: int, by_b: int) -> Cell:
        return self.cells.get((bool(by_a), bool(by_b)), Cell())


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
    parameters = _query_parameters(a, b, start, end)
    with store.read() as connection:
        for policy in (a, b):
            any_score = text("SELECT 1 FROM scores WHERE policy = :p LIMIT 1")
            if connection.execute(any_score, {"p": policy}).scalar() is None:
                known = connection.execute(text("SELECT DISTINCT policy FROM ledger ORDER BY 1")).scalars()
                raise Unknown(f'policy "{policy}" has no scores; there are {", ".join(known) or "none"}')
        cells = {
            (bool(row.by_a), bool(row.by_b)): Cell(
                row.n, row.frauds, float(row.fraud_money), float(row.money)
            )
            for row in connection.execute(_typed(TOTALS), parameters)
        }
        total = connection.execute(_typed(f"SELECT COUNT(*) {PAIRS}"), parameters).scalar_one()
    return PolicyDiff(a, b, cells, total - sum(cell.n for cell in cells.values()))


def differences(
    store: Store, a: str, b: str, start: int | None, end: int | None, limit: int
) -> Iterator[dict[str, Any]]:
    """Transactions that one policy flags and the other does not, newest first."""
    parameters = _query_parameters(a, b, start, end) | {"some": limit}
    with store.read() as connection:
        for row in connection.execute(_typed(DIFFERENT).columns(event_time=Instant), parameters).mappings():
            yield dict(row) | {
                "event_time": as_datetime(row["event_time"]).isoformat(sep=" ", timespec="seconds"),
                "amount": float(row["amount"]),
                "is_fraud": None if row["is_fraud"] is None else bool(row["is_fraud"]),
            }


def _query_parameters(a: str, b: str, start: int | None, end: int | None) -> dict[str, Any]:
    return {"a": a, "b": b, "start": start or 0, "end": FOREVER if end is None else end}


def _typed(sql: str) -> Any:
    from sqlalchemy import Text, bindparam

    instants = [bindparam("start", type_=Instant), bindparam("end", type_=Instant)]
    return text(sql).bindparams(*instants, bindparam("a", type_=Text), bindparam("b", type_=Text))
