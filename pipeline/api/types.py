"""Types of parameters: whatever they let through, both databases can hold and compare."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
ID_MAX = 2**31 - 1
SLASH = "\ue000"  # in paths, an encoded slash; a character that nobody uses


def _storable(text: str) -> str:
    """Text that a database can hold: no null characters, no lone surrogates."""
    if "\0" in text or text.encode(errors="replace").decode() != text:
        raise ValueError("must hold neither null characters nor lone surrogates")
    return text


def _within_years(moment: datetime) -> datetime:
    if not EARLIEST <= moment <= LATEST:
        raise ValueError(f"must be between {EARLIEST.year} and {LATEST.year}")
    return moment.astimezone(UTC)


Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]
TransactionId = Annotated[str, StringConstraints(min_length=1, max_length=1_000), AfterValidator(_storable)]
LongText = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_storable)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2_000), AfterValidator(_storable)]
Instant = Annotated[AwareDatetime, AfterValidator(_within_years)]
TransactionIds = Annotated[tuple[TransactionId, ...], Field(min_length=1, max_length=1_000)]

# A value of a row: what JSON has, two objects deep at most, as `schema` can name `card.last4`.
Scalar = str | int | float | bool | None
Value = Scalar | dict[str, Scalar | dict[str, Scalar]]

PathNumber = Annotated[int, Path(ge=1, le=ID_MAX)]
PathName = Annotated[Name, Path()]
PathTransaction = Annotated[
    TransactionId,
    AfterValidator(lambda name: name.replace(SLASH, "/")),
    Path(description="The id of the transaction, percent-encoded."),
]
PathHandle = Annotated[
    str, Path(max_length=4_000, description="Stands for a column and a value; `POST /entities` gives it.")
]
Policy = Annotated[Name, Query(description="live, a challenger, or the policy of a backfill that rescored.")]
Since = Annotated[Instant | None, Query(description="From this time on (RFC 3339, with its offset).")]
Until = Annotated[Instant | None, Query(description="Before this time (RFC 3339, with its offset).")]
