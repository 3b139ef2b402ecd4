"""What reviewers answer."""

from typing import Any

from storage.database.database import Store
from storage.review import verdicts
from storage.review.verdicts import Statement, VerdictOutcome


def answer(
    store: Store, transaction_id: str, verdict: str, now: int, *, by: str = "ann", **details: Any
) -> VerdictOutcome:
    """Record a verdict on a payment."""
    statement = Statement(verdict, **details)  # type: ignore[arg-type]
    ((outcome,),) = verdicts.record(store, "live", [transaction_id], statement, by, now)
    return outcome
