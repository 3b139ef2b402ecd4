"""The log of what people said of payments (table `verdicts`), and which of it still holds."""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, func, select

from storage.database.tables import labels, verdicts
from storage.frames import REVIEWERS

RETRACTED, NO_OPINION = "retracted", "no_opinion"
AUDIT, REVIEW, INVESTIGATION = REVIEWERS
CUSTOMER = "customer"  # the source of labels that are what a customer reports


def is_retracted(label: Any, before: int | None = None) -> ColumnElement[bool]:
    """
    Whether a label has been retracted.

    Parameters
    ----------
    label
        Columns `transaction_id` and `label_id`.
    before
        µs; only retractions before this instant count. None for all.
    """
    r = labels.alias().c
    of_label = and_(r.transaction_id == label.transaction_id, r.retracts == label.label_id)
    return exists().where(of_label if before is None else and_(of_label, r.recorded_at < before))


def not_retracted(verdict: Any, before: int | None = None) -> ColumnElement[bool]:
    """
    Whether a row of the log says something that has not been retracted.

    A verdict with a label is retracted with the label, one without by a later row that has none either.

    Parameters
    ----------
    verdict
        The columns of `verdicts`, or of an alias of it.
    before
        µs; only retractions before this instant count. None for all.
    """
    v = verdicts.alias().c
    of_verdict = and_(
        v.transaction_id == verdict.transaction_id,
        v.verdict == RETRACTED,
        v.label_id.is_(None),
        v.verdict_id > verdict.verdict_id,
        verdict.label_id.is_(None),
    )
    if before is not None:
        of_verdict = and_(of_verdict, v.at < before)
    return and_(verdict.verdict != RETRACTED, ~is_retracted(verdict, before), ~exists().where(of_verdict))


def retracted_at(verdict: Any) -> ColumnElement[Any]:
    """The first instant at which a row of the log was retracted, by the same rules; NULL while it holds."""
    r, v = labels.alias().c, verdicts.alias().c
    of_label = select(func.min(func.coalesce(r.recorded_at, r.known_at))).where(
        r.transaction_id == verdict.transaction_id, r.retracts == verdict.label_id
    )
    of_verdict = select(func.min(v.at)).where(
        v.transaction_id == verdict.transaction_id,
        v.verdict == RETRACTED,
        v.label_id.is_(None),
        v.verdict_id > verdict.verdict_id,
    )
    return case(
        (verdict.label_id.is_not(None), of_label.scalar_subquery()), else_=of_verdict.scalar_subquery()
    )
