"""What an ingest is asked for, and what it reports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pipeline.errors import InputError
from pipeline.ingest.checks.rejected_row_text import RejectionExample
from pipeline.ingest.currencies.currency_rates import StaleRate
from storage.ingest.batches import Counts, RowOutcome

Clock = Callable[[], int]  # µs; read at the start of a source and when its batch becomes visible
Kind = Literal["transactions", "labels"]
HistoryReason = Literal["requested", "nothing_scored", "windows_scored", "scored_during_load", "taken_up"]


@dataclass(frozen=True)
class Options:
    """Options that apply to all sources of a command; times in µs, None where an option is not set."""

    history: bool | None = None
    known_after: int | None = None
    complete_through: int | None = None
    repeat_rejected: bool = True  # whether a source is read again of which every row was rejected before
    one_by_one: bool = False  # whether rows of transactions are single ones that a program sends
    row_outcomes: bool = False  # whether the report says of each row of transactions what became of it


class NothingAcceptedError(InputError):
    """Every row of these sources was rejected, most of them for this reason; the rows are stored with their reasons."""

    code = "nothing_accepted"

    def __init__(self, source_names: Sequence[str], reason: str | None = None) -> None:
        because = "" if reason is None else f" ({reason})"
        super().__init__(
            f"nothing was accepted of {', '.join(source_names)}: every row was rejected{because}",
            remedy="correct the file or [schema] by the reasons given, and ingest it again",
        )


@dataclass(frozen=True)
class IngestReport:
    """
    The result of ingesting one source.

    Attributes
    ----------
    history
        Whether its rows count as known when they happened, or only from now on.
    history_because
        Why.
    same_as
        An earlier batch with the same content; nothing was loaded.
    reasons
        The reasons for rejecting rows with their counts, the most frequent first.
    examples
        Of each reason the first row that was rejected for it.
    without_transaction
        How many of the accepted labels are for ids that no transaction has.
    items
        How many rows were further items of orders, and were left out (`schema.line_items`).
    equal_rows
        How many rows were equal to an earlier one of the source; None unless ids are made (`schema.transaction_id`).
    unlabelled
        How many rows of labels say neither fraud nor genuine, and were left out (`labels.unlabelled_words`).
    neither
        How many labels are disputes about something else than fraud.
    only_stages
        How many say only the stage of a dispute.
    unknown_reasons
        The codes among them that [labels] does not know, and their numbers, the most frequent first.
    silent
        How many words for genuine beside transactions are silence, and no labels (`schema.genuine_means`).
    complete_through
        Until when labels are complete by what the source or --complete-through says; None if neither says it.
    early_labels
        How many labels came before these transactions and say they were known before them, so that they no longer hold.
    without_reason
        How many disputes of a feed of events have no reason: they are neither fraud nor genuine.
    events
        The words of a feed of events and how many rows have each, the most frequent first; None for other feeds.
    dated_back
        Whether labels were loaded as history although windows had been scored without them.
    waiting
        How many rows wait for a rate, by currency; `counts.rejected` includes them, `reasons` does not.
    stale_rates
        Old rates by which rows were converted.
    row_outcomes
        By row number, if `Options.row_outcomes` asks for them.
    inline
        Whether they are labels that stand beside transactions (`schema.is_fraud`).
    """

    source: str
    kind: Kind
    history: bool
    history_because: HistoryReason
    counts: Counts = Counts()  # noqa: RUF009 (frozen)
    batch_id: int | None = None
    same_as: int | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, RejectionExample] = field(default_factory=dict)
    without_transaction: int = 0
    items: int = 0
    equal_rows: int | None = None
    unlabelled: int = 0
    neither: int = 0
    only_stages: int = 0
    unknown_reasons: Mapping[str, int] = field(default_factory=dict)
    silent: int = 0
    complete_through: datetime | None = None
    early_labels: int = 0
    without_reason: int = 0
    events: Mapping[str, int] | None = None
    dated_back: bool = False
    waiting: Mapping[str, int] = field(default_factory=dict)
    stale_rates: tuple[StaleRate, ...] = ()
    row_outcomes: Mapping[int, RowOutcome] = field(default_factory=dict)
    inline: bool = False

    @property
    def nothing_new(self) -> bool:
        """Whether the same content was loaded before."""
        return self.same_as is not None

    @property
    def fails(self) -> bool:
        """Whether nothing of the source is usable; labels beside transactions say nothing of the file."""
        return self.nothing_usable and not self.inline

    @property
    def nothing_usable(self) -> bool:
        """Whether rows were read and every one was rejected, and none waits for a rate."""
        return self.counts.nothing_usable and not self.waiting
