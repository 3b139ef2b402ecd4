"""What is remembered of the rows of one source from batch to batch."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pipeline.ingest.checks.disputes import DisputeMeaning
from pipeline.ingest.currencies.currency_rates import RateUse
from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.ingest.ids.content_ids import ContentIds
from pipeline.ingest.ids.line_items import LineItems
from storage.frames import Ints, Strings


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
        The unknown currencies, and codes of disputes, that reasons for rejecting rows name.
    unlabelled
        How many rows of labels say neither fraud nor genuine, and are left out.
    neither
        How many are disputes about something else than fraud.
    only_stages
        How many say no more than the stage of a dispute.
    unknown_reasons
        Reason codes that [labels] does not know, without a word for fraud or genuine beside them, and their numbers.
    without_reason
        How many disputes of a feed of events have no reason.
    matched
        How many labels are for transactions that are loaded.
    """

    rate_use: RateUse = field(default_factory=lambda: RateUse(()))
    ids: ContentIds = field(default_factory=ContentIds)
    items: LineItems = field(default_factory=LineItems)
    other_amounts: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    named_codes: set[str] = field(default_factory=set)
    unlabelled: int = 0
    neither: int = 0
    only_stages: int = 0
    unknown_reasons: Counter[str] = field(default_factory=Counter)
    without_reason: int = 0
    matched: int = 0

    def count_labels(self, meaning: DisputeMeaning, reason: Strings, good: Bools, unlabelled: Bools) -> None:
        """Count what good rows of labels say, besides fraud and genuine."""
        self.unlabelled += int(np.count_nonzero(good & unlabelled))
        self.neither += int(np.count_nonzero(good & meaning.neither))
        self.only_stages += int(np.count_nonzero(good & meaning.changes_no_label & ~unlabelled))
        self.unknown_reasons.update(reason[good & meaning.neither & meaning.unknown_reason].tolist())
