"""Transactions and labels that a program sends, and one transaction with its score and flag."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from pipeline.api.body import Body
from pipeline.api.context import Context, RequestContext
from pipeline.api.listing import json_answer
from pipeline.api.types import PathTransaction, Policy, Value
from pipeline.schedule.run_context import LIVE
from pipeline.services.data.payments import PaymentRecord, show_payment
from pipeline.services.data.transactions import (
    ROWS_MAX,
    LabelRows,
    SubmittedLabels,
    SubmittedTransactions,
    TransactionRows,
    submit_labels,
    submit_transactions,
)

router = APIRouter(tags=["Payments"])
FieldName = Annotated[str, Field(min_length=1, max_length=200)]


class TransactionsBody(Body):
    """
    Up to 1,000 transactions as objects with the fields of [schema], as in a file of JSON Lines.

    `history` says whether they count as known when they happened, or only from now on; without it they are history until a window is
    scored.
    """

    transactions: Annotated[list[dict[FieldName, Value]], Field(min_length=1, max_length=ROWS_MAX)]
    history: bool | None = None


class LabelRowsBody(Body):
    """Up to 1,000 labels as objects with the fields of [labels], as in a file of JSON Lines; `history` as for transactions."""

    labels: Annotated[list[dict[FieldName, Value]], Field(min_length=1, max_length=ROWS_MAX)]
    history: bool | None = None


@dataclass(frozen=True)
class VisiblePayment(PaymentRecord):
    """A payment as its caller may see it, with a handle for each of its entities."""

    handles: Mapping[str, str]


@router.post("/transactions", operation_id="submit_transactions", response_model=SubmittedTransactions)
def submit(context: Context, body: TransactionsBody) -> Response:
    """
    Store transactions; their ids are what makes a repeated request harmless.

    The same transaction with the same content is a `duplicate`, with other content it is `revised`. A row that is rejected says why and
    fails no other.
    """
    rows: list[dict[str, Any]] = list(body.transactions)
    done = submit_transactions(context.loading_session(), TransactionRows(tuple(rows), body.history))
    return json_answer(SubmittedTransactions, done)


@router.get("/transactions/{transaction_id}", operation_id="show_transaction", response_model=VisiblePayment)
def show(context: Context, transaction_id: PathTransaction, policy: Policy = LIVE) -> Response:
    """Show a transaction, flagged or not, with its score and the label that holds."""
    payment = show_payment(context.session, policy, transaction_id)
    context.viewed("flag", transaction_id, 1)
    return json_answer(VisiblePayment, visible_payment(context, payment))


@router.post("/labels/submit", operation_id="submit_labels", response_model=SubmittedLabels)
def submit_labels_(context: Context, body: LabelRowsBody) -> Response:
    """
    Store labels that a program knows, such as chargebacks; one that is stored already is a duplicate.

    As a file of labels does, they say that there are no others up to now. A row that is rejected says why and fails no other.
    """
    rows: list[dict[str, Any]] = list(body.labels)
    done = submit_labels(context.loading_session(), LabelRows(tuple(rows), body.history))
    return json_answer(SubmittedLabels, done)


def visible_payment(context: RequestContext, payment: PaymentRecord) -> VisiblePayment:
    """A payment as the caller may see it."""
    visible = replace(payment, fields=context.visible_fields(payment.fields))
    return VisiblePayment(**vars(visible), handles=context.entity_handles(payment.fields))
