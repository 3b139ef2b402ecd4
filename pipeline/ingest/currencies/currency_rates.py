"""
Currency rates by date: the value of one unit of a currency in the base currency.

The newest day at or before that of the payment counts.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

from pipeline.ingest.currencies.currency_codes import ISO_4217
from pipeline.ingest.formats.arrow_arrays import Bools
from storage.frames import DAY, Floats, Ints, Strings
from storage.ingest.chunks import TransactionChunk, WaitingChunk

STALE_DAYS = 7  # weekends and holidays make a rate four days old
NAMED_MAX = 5  # unknown codes that have a reason of their own; the others share one
CODE = re.compile("[A-Z0-9]{1,10}")
EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class StaleRate:
    """
    Payments in one currency that were converted by a rate more than `STALE_DAYS` days old.

    Attributes
    ----------
    day
        Of the oldest rate, compared with its payment.
    age_days
        How many days before its payment that is.
    places
        Where rates come from: the file of schema.rates, and names of sources and watched folders.
    """

    currency: str
    payments: int
    day: date
    age_days: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class RateLookup:
    """The rate of each payment; arrays (n,)."""

    rate: Floats  # NaN where there is none at or before that day
    rate_day: Ints  # of the rate, days since 1970-01-01; the payment's own day for the base currency
    is_known: Bools  # whether the currency has rates, or is one of ISO 4217


@dataclass(frozen=True)
class RateSeries:
    """The rates of one currency, oldest first."""

    days: Ints  # since 1970-01-01, ascending
    rates: Floats

    def at(self, days: Ints) -> tuple[Floats, Ints]:
        """Return the newest rate at or before each day, NaN before the first, and the day of that rate."""
        places = np.searchsorted(self.days, days, side="right")
        return np.append(np.nan, self.rates)[places], np.append(0, self.days)[places]


@dataclass(frozen=True)
class Rates:
    """Rates of all known currencies; the base currency has the rate 1."""

    base: str
    series: Mapping[str, RateSeries] = field(default_factory=dict)
    places: tuple[str, ...] = ()  # where rates come from, for people

    @property
    def unlisted_codes(self) -> list[str]:
        """The currencies with rates that ISO 4217 does not list: payments in them are rejected without rates."""
        return sorted(set(self.series) - ISO_4217)

    def first_rates(self, currencies: Sequence[str]) -> dict[str, int]:
        """Return the instant from which on each currency has a rate, µs; those without any are left out."""
        first = {code: int(self.series[code].days[0]) * DAY for code in currencies if code in self.series}
        return first | dict.fromkeys({self.base} & set(currencies), 0)

    def look_up(self, currency: Strings, event_time: Ints) -> RateLookup:
        """
        Return the rate of each row on its day in UTC.

        Parameters
        ----------
        currency
            Codes in capitals, None for missing.
        event_time
            µs, of the same length.
        """
        is_base = np.asarray(currency == self.base, dtype=bool)
        rate, rate_day, is_known = np.where(is_base, 1.0, np.nan), event_time // DAY, is_base.copy()
        for code in set(currency.tolist()) - {self.base, None}:
            if code in self.series:
                rows = np.asarray(currency == code, dtype=bool)
                rate[rows], rate_day[rows] = self.series[code].at(rate_day[rows])
                is_known |= rows
            elif code in ISO_4217:
                is_known |= np.asarray(currency == code, dtype=bool)
        return RateLookup(rate, rate_day, is_known)


class RateUse:
    """What the rates did to the rows of one source: which wait for a rate, and which were converted by an old one."""

    def __init__(self, places: tuple[str, ...]) -> None:
        self._places = places
        self._stale = dict[str, StaleRate]()
        self.waiting: WaitingChunk | None = None  # of the rows that were added last

    def add(self, rows: TransactionChunk, good: Bools, lookup: RateLookup) -> Bools:
        """Add valid rows (`good` is a mask of them); returns a mask of those that wait for a rate."""
        waits = good & np.isnan(lookup.rate)
        self.waiting = WaitingChunk(rows.take(np.flatnonzero(waits))) if waits.any() else None
        age = rows.event_time // DAY - lookup.rate_day
        self._add_stale(rows, np.flatnonzero(good & ~waits & (age > STALE_DAYS)), age, lookup.rate_day)
        return waits

    def _add_stale(self, rows: TransactionChunk, stale: Ints, age: Ints, rate_day: Ints) -> None:
        for code in set(() if rows.currency is None else rows.currency[stale].tolist()):
            mine = stale[rows.currency[stale] == code]  # type: ignore[index]
            oldest = mine[np.argmax(age[mine])]
            day = date.fromordinal(int(rate_day[oldest]) + EPOCH)
            current = StaleRate(code, len(mine), day, int(age[oldest]), self._places)
            before = self._stale.get(code, replace(current, payments=0))
            older = max(before, current, key=lambda rate: rate.age_days)
            self._stale[code] = replace(older, payments=before.payments + current.payments)

    @property
    def stale(self) -> tuple[StaleRate, ...]:
        """The old rates, most payments first."""
        return tuple(sorted(self._stale.values(), key=lambda rate: (-rate.payments, rate.currency)))


def unknown_currencies(
    currency: Strings, lookup: RateLookup, name: str, places: Sequence[str], named: set[str]
) -> Iterator[tuple[Bools, str]]:
    """
    Yield masks of rows whose currency is unknown, with the reason.

    The most frequent codes are named, at most `NAMED_MAX` of a source: those in `named`, to which this adds.
    """
    unknown = ~lookup.is_known & (currency != None)  # noqa: E711 (elementwise)
    remedy = f"correct it, or add its rates to {' or '.join(places)}"
    if not unknown.any():
        return
    codes = [code for code, _ in Counter(currency[unknown].tolist()).most_common() if CODE.fullmatch(code)]
    named.update([code for code in codes if code not in named][: NAMED_MAX - len(named)])
    for code in codes:
        if code in named:
            reason = f"{name} {code} is no code of ISO 4217 and has no rate: {remedy}"
            yield np.asarray(currency == code, dtype=bool), reason
    yield unknown, f"{name} is no code of ISO 4217 and has no rate: {remedy}"
