"""What the services about verdicts and labels share: which payments and types they accept, and progress."""

from collections.abc import Iterator, Sequence

from pipeline.errors import InputError
from pipeline.progress import Progress
from pipeline.services.session import Session
from storage.review.verdicts import VerdictOutcome


def named_ids(ids: Sequence[str]) -> list[str]:
    """
    Each id once, in order.

    Raises
    ------
    InputError
        There is none, or one that no database can hold.
    """
    distinct = list(dict.fromkeys(ids))
    if not distinct:
        raise InputError("no transaction is named", remedy="name at least one", code="no_transaction")
    for name in distinct:
        if "\0" in name or name.encode(errors="replace").decode() != name:
            raise InputError(f"{name!r} is not the id of a transaction", code="bad_transaction_id")
    return distinct


def known_type(session: Session, verdict: str, fraud_type: str | None) -> str | None:
    """
    The type of a fraud as it is configured.

    Raises
    ------
    InputError
        It is not one of `labels.fraud_types`, or what is said is not fraud.
    """
    types = session.config.labels.fraud_types
    if fraud_type is not None and verdict != "fraud":
        raise InputError(
            f"a type belongs to a fraud, and this is {verdict.replace('_', ' ')}",
            remedy="leave it out",
            code="type_without_fraud",
        )
    if fraud_type is not None and fraud_type not in types:
        raise InputError(
            f"{fraud_type!r} is no type of fraud",
            remedy=f"choose {', '.join(types)}, or add it to labels.fraud_types",
            code="unknown_fraud_type",
        )
    return fraud_type


def with_progress(
    chunks: Iterator[list[VerdictOutcome]], total: int, progress: Progress
) -> tuple[VerdictOutcome, ...]:
    """The outcomes of all chunks, with progress while they are written."""
    outcomes: list[VerdictOutcome] = []
    progress.start("payments", float(total), "payments")
    try:
        for chunk in chunks:
            outcomes += chunk
            progress.advance(len(chunk))
    finally:
        progress.stop()
    return tuple(outcomes)
