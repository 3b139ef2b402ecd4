"""What is remembered of the rows of one source from batch to batch."""

from dataclasses import dataclass, field

import numpy as np

from pipeline.ingest.currencies.currency_rates import RateUse
from pipeline.ingest.ids.content_ids import ContentIds
from pipeline.ingest.ids.line_items import LineItems
from storage.frames import Ints


@dataclass
class SourceState:
    """
    What is remembered of the rows of one source from batch to batch.

    Attributes
    ----------
    rate_use
        By which rates rows were converted, and which rows wait for one.
    ids
        Makes ids, if the source has none.
    items
        Finds further rows of an order.
    other_amounts
        Numbers of the rows of the batch whose amount differs from that of their order.
    named_codes
        The unknown currencies that reasons name.
    unlabelled
        How many rows of labels say neither fraud nor genuine.
    matched
        How many labels are for transactions that are loaded.
    """

    rate_use: RateUse = field(default_factory=lambda: RateUse(()))
    ids: ContentIds = field(default_factory=ContentIds)
    items: LineItems = field(default_factory=LineItems)
    other_amounts: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    named_codes: set[str] = field(default_factory=set)
    unlabelled: int = 0
    matched: int = 0
