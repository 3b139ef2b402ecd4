"""Rates of currencies that were ingested; the newest value of each day counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, func, insert, select, update

from storage.database.database import Store
from storage.database.tables import currency_rates

Rates = Mapping[str, Mapping[date, float]]  # by currency and day


@dataclass(frozen=True)
class RateCounts:
    """How many rates are new, how many corrected one of the same day, and how many were stored already."""

    added: int = 0
    corrected: int = 0
    unchanged: int = 0


def load_all(store: Store) -> dict[str, dict[date, float]]:
    """Return all rates by currency and day."""
    with store.read() as connection:
        return _stored(connection)


def mark(store: Store) -> tuple[object, ...]:
    """Changes whenever a rate is added or corrected."""
    r = currency_rates.c
    with store.read() as connection:
        found = select(func.count(), func.max(r.ingested_at), func.sum(r.rate))
        return tuple(connection.execute(found).one())


def save_rates(store: Store, rates: Rates, source: str, now: int) -> RateCounts:
    """Store rates in one transaction; a rate of the same currency and day is replaced."""
    r = currency_rates.c
    with store.write_exclusive() as connection:
        stored = _stored(connection)
        added, corrected, unchanged = [], 0, 0
        for currency, days in rates.items():
            before = stored.get(currency, {})
            for day, rate in days.items():
                row = {"rate": rate, "ingested_at": now, "source": source}
                if day not in before:
                    added.append({"currency": currency, "day": day, **row})
                elif before[day] == rate:
                    unchanged += 1
                else:
                    same = (r.currency == currency) & (r.day == day)
                    connection.execute(update(currency_rates).where(same).values(row))
                    corrected += 1
        if added:
            connection.execute(insert(currency_rates), added)
    return RateCounts(len(added), corrected, unchanged)


def _stored(connection: Connection) -> dict[str, dict[date, float]]:
    stored: dict[str, dict[date, float]] = {}
    r = currency_rates.c
    for row in connection.execute(select(r.currency, r.day, r.rate)):
        stored.setdefault(row.currency, {})[row.day] = row.rate
    return stored
