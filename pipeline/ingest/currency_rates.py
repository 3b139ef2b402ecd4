"""Currency rates by date: the value of one unit of a currency in the base currency."""

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.ingest.formats.columns import NUMBER
from storage.frames import DAY, Floats, Ints, Strings

HEADER = ["date", "currency", "rate"]
DAY_TEXT = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")  # the date of `pipeline.ingest.formats.instants`
NUMBER_TEXT = re.compile(NUMBER, re.ASCII)
EPOCH = date(1970, 1, 1).toordinal()
_Line = tuple[int, str, float]  # days since 1970-01-01, currency, rate


@dataclass(frozen=True)
class RateSeries:
    """The rates of one currency, oldest first."""

    days: Ints  # since 1970-01-01, ascending
    rates: Floats

    def at(self, days: Ints) -> Floats:
        """Return the newest rate at or before each day, NaN before the first."""
        return np.concatenate(([np.nan], self.rates))[np.searchsorted(self.days, days, side="right")]


@dataclass(frozen=True)
class Rates:
    """Rates of all known currencies; the base currency has the rate 1."""

    base: str
    series: Mapping[str, RateSeries] = field(default_factory=dict)

    def look_up(self, currency: Strings, event_time: Ints) -> tuple[Floats, NDArray[np.bool_]]:
        """
        Return the rate of each row on its day in UTC.

        Parameters
        ----------
        currency
            Codes in capitals, None for missing.
        event_time
            µs, of the same length.

        Returns
        -------
        rate
            NaN where the currency is unknown or has no rate yet on that day.
        known
            Whether the currency is known at all.
        """
        rate = np.where(currency == self.base, 1.0, np.nan)
        known: NDArray[np.bool_] = np.asarray(currency == self.base, dtype=bool)
        for code in {code for code in currency.tolist() if code in self.series}:
            rows = np.asarray(currency == code, dtype=bool)
            rate[rows] = self.series[code].at(event_time[rows] // DAY)
            known |= rows
        return rate, known


def load_rates(path: str, base: str) -> Rates:
    """
    Read a CSV file with the columns date, currency, rate, in any order of rows; an empty path gives no rates.

    Raises
    ------
    InputError
        If it cannot be read, a line is not a date, a currency and a positive number, or two lines give one day different rates.
    """
    collected: dict[str, dict[int, float]] = {}
    for number, (day, currency, rate) in _lines(path, base) if path else ():
        earlier = collected.setdefault(currency, {}).setdefault(day, rate)
        if earlier != rate:
            when = date.fromordinal(day + EPOCH).isoformat()
            raise InputError(
                f"{path} line {number} gives {currency} on {when} the rate {rate:g}, an earlier line {earlier:g}",
                remedy="keep one",
                code="bad_rates",
            )
    return Rates(
        base, {currency: _series(rates) for currency, rates in collected.items() if currency != base}
    )


def _series(rates: Mapping[int, float]) -> RateSeries:
    days = sorted(rates)
    return RateSeries(np.array(days, dtype=np.int64), np.array([rates[day] for day in days]))


def _lines(path: str, base: str) -> Iterator[tuple[int, _Line]]:
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            if sorted(header) != sorted(HEADER):
                columns = ", ".join(header) or "nothing"
                message = (
                    f"{path} (schema.rates) must have the columns date, currency, rate; it has {columns}"
                )
                raise InputError(message, code="bad_rates")
            order = [header.index(name) for name in HEADER]
            for cells in reader:
                if cells:
                    yield reader.line_num, _line(cells, order, base, f"{path} line {reader.line_num}")
    except FileNotFoundError:
        message = f"{path} (schema.rates) does not exist"
        raise InputError(message, remedy="check the path in [schema]", code="no_file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path} (schema.rates) cannot be read as CSV in UTF-8: {error}"
        raise InputError(message, code="bad_rates") from error


def _line(cells: list[str], order: list[int], base: str, where: str) -> _Line:
    if len(cells) != len(order):
        raise InputError(f"{where} must hold date, currency and rate, it has {len(cells)} values")
    day, currency, rate = (cells[place].strip() for place in order)
    try:
        if not DAY_TEXT.fullmatch(day) or not NUMBER_TEXT.fullmatch(rate):
            raise ValueError  # noqa: TRY301 (Python reads more forms than ingest does)
        parsed = date.fromisoformat(day).toordinal() - EPOCH, currency.upper(), float(rate)
    except ValueError:
        message = f'{where} must be like 2026-03-01,USD,0.92, got "{day},{currency},{rate}"'
        raise InputError(message, code="bad_rates") from None
    if not currency or not math.isfinite(parsed[2]) or parsed[2] <= 0:
        message = f'{where} must name a currency and a rate above 0, got "{currency}" and {rate}'
        raise InputError(message, code="bad_rates")
    if parsed[1] == base and parsed[2] != 1:
        message = f"{where} gives the base currency {base} the rate {rate}; it is 1 by definition"
        raise InputError(message, code="bad_rates")
    return parsed
