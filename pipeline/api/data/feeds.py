"""Feeds, how far each has been read, and payments that wait for a rate of their currency."""

from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Response

from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters
from pipeline.services.data.feeds import FeedRecord, list_feeds
from pipeline.services.data.ingest import WaitingRecord, waiting_payments

router = APIRouter(tags=["Payments"])


@dataclass(frozen=True)
class PaymentsWithoutRate:
    """Payments that wait for a rate, by currency."""

    currencies: tuple[WaitingRecord, ...]


@router.get("/feeds", operation_id="list_feeds", response_model=Listing[FeedRecord])
def list_(context: Context, parameters: Parameters) -> Response:
    """List polled queries and watched folders, then files of these, those that were read last first."""
    return parameters.answer(FeedRecord, partial(list_feeds, context.session))


@router.get("/waiting", operation_id="list_waiting", response_model=PaymentsWithoutRate)
def waiting(context: Context) -> PaymentsWithoutRate:
    """Count the payments that wait for a rate of their currency."""
    return PaymentsWithoutRate(waiting_payments(context.session))
