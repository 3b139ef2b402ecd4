"""Checks of [limit.NAME]: each limit at each local midnight, with the values of its field that are at or near it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.database.database import Store
from storage.database.tables import limit_checks

Level = Literal["ok", "near", "crossed"]


@dataclass(frozen=True)
class LimitCheck:
    """A limit at an instant, on all payments or on those of one value of a field; instants in µs, rates in basis points."""

    name: str
    at: int
    value: str  # of `field`; "" for all payments
    field: str
    period_start: int  # people are notified once a period
    span_start: int
    span_end: int
    level: Level
    reports: int
    payments: int
    basis_points: float | None  # None without payments
    limit_basis_points: float
    share: float  # of the limit
    expected_basis_points: float | None  # at the end of the span; None without a forecast
    expected_share: float | None


def is_checked(store: Store, name: str, at: int) -> bool:
    """Whether a limit has been checked at an instant."""
    c = limit_checks.c
    with store.read() as connection:
        return connection.scalar(select(c.name).where(c.name == name, c.at == at).limit(1)) is not None


def write(store: Store, checks: Sequence[LimitCheck]) -> None:
    """Store checks; one that is stored already stays as it is."""
    make = postgres_insert if store.dialect == "postgresql" else sqlite_insert
    if checks:
        with store.write() as connection:
            connection.execute(
                make(limit_checks).on_conflict_do_nothing(), [asdict(check) for check in checks]
            )
