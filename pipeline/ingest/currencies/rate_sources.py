"""
Where currency rates come from: the file `schema.rates`, and files and queries of kind "rates", which the database keeps.

Of the same day, the file's rate counts.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.ingest.currencies.currency_rates import EPOCH, STALE_DAYS, Rates, RateSeries, StaleRate
from pipeline.ingest.formats.columns import NUMBER, texts
from pipeline.ingest.formats.row_batch import EVERY_COLUMN, RowBatch
from pipeline.ingest.sources import Source, open_source
from storage.database.database import Store
from storage.frames import DAY
from storage.ingest import currency_rates
from storage.queries.status import newest_payments, payments_since

HEADER = ["date", "currency", "rate"]
DAY_TEXT = re.compile(
    "([0-9]{4}-[0-9]{2}-[0-9]{2})([T ]00:00(:00([.]0+)?)?(Z|[+]00(:?00)?)?)?"
)  # or its midnight
NUMBER_TEXT = re.compile(NUMBER, re.ASCII)
Clock = Callable[[], int]
_Line = tuple[int, str, float]  # days since 1970-01-01, currency, rate


@dataclass(frozen=True)
class RatesReport:
    """The result of ingesting one source of rates."""

    source: str
    added: int
    corrected: int  # of a day that had another rate
    unchanged: int
    newest_day: date | None  # that the source has a rate of


def rate_places(config: Config) -> tuple[str, ...]:
    """Where rates come from, for people: the file, and names of sources and watched folders."""
    file = (f"{config.schema_.rates} (schema.rates)",) if config.schema_.rates else ()
    sections = (("source", config.source), ("watch", config.watch))
    named = [
        f"{kind}.{name}" for kind, each in sections for name in sorted(each) if each[name].kind == "rates"
    ]
    return (*file, *named) or ("schema.rates",)


def current_rates(store: Store, config: Config) -> Rates:
    """
    Return all rates: of the database, and of the file schema.rates, which counts where both have the same day.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    schema = config.schema_
    if not schema.currency:
        return Rates(schema.base_currency)
    collected = {
        currency: {day.toordinal() - EPOCH: rate for day, rate in days.items()}
        for currency, days in currency_rates.load_all(store).items()
    }
    for currency, days in _file_rates(schema.rates, schema.base_currency).items():
        collected[currency] = collected.get(currency, {}) | days
    return _rates(collected, schema.base_currency, rate_places(config))


class RatesReader:
    """Gives the current rates again and again, and reads them only after they, or the file, have changed; threads may share it."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store, self._config = store, config
        self._last: tuple[object, Rates] | None = None

    def current(self) -> Rates:
        """All rates, as `current_rates` returns them."""
        mark, last = self._mark(), self._last
        if last is None or last[0] != mark:
            last = self._last = mark, current_rates(self._store, self._config)
        return last[1]

    def _mark(self) -> object:
        schema = self._config.schema_
        if not schema.currency:
            return None
        file = None
        with suppress(OSError):
            found = Path(schema.rates).stat() if schema.rates else None
            file = found and (found.st_mtime_ns, found.st_size, found.st_ino)
        return currency_rates.mark(self._store), file


def stale_rates(store: Store, config: Config) -> Iterator[StaleRate]:
    """Yield the currencies whose newest payment has an old rate, with the payments since that rate became too old."""
    newest = newest_payments(store) if config.schema_.currency else {}
    rates = current_rates(store, config) if newest else Rates(config.schema_.base_currency)
    for currency, event_time in newest.items():
        lookup = rates.look_up(np.array([currency], dtype=object), np.array([event_time]))
        age = event_time // DAY - int(lookup.rate_day[0])
        if age > STALE_DAYS and not np.isnan(lookup.rate[0]):
            rate_day = int(lookup.rate_day[0])
            payments = payments_since(store, currency, (rate_day + STALE_DAYS + 1) * DAY)
            yield StaleRate(currency, payments, date.fromordinal(rate_day + EPOCH), age, rates.places)


def ingest_rates(
    store: Store, config: Config, inputs: Sequence[Source], *, clock: Clock
) -> Iterator[RatesReport]:
    """
    Store the rates of files and queries; yield a report for each. A later rate replaces an earlier one of the same day.

    A generator: each source is stored when its report is requested, whole or not at all.

    Raises
    ------
    InputError
        If a source cannot be read, lacks a column, or holds a row that is not a date, a currency and a positive number.
    """
    base = config.schema_.base_currency
    for source in inputs:
        rates = _collect(_source_lines(config, source, base), source.name)
        by_day = {
            currency: {date.fromordinal(day + EPOCH): rate for day, rate in days.items()}
            for currency, days in rates.items()
            if currency != base
        }
        counts = currency_rates.save_rates(store, by_day, source.name, clock())
        newest = max((day for days in by_day.values() for day in days), default=None)
        yield RatesReport(source.name, counts.added, counts.corrected, counts.unchanged, newest)


def _source_lines(config: Config, source: Source, base: str) -> Iterator[tuple[str, _Line]]:
    """Yield the rates of a source, each with its place for people."""
    order = list(range(len(HEADER)))
    with open_source(config, source) as reader:
        for rows in reader.rows(EVERY_COLUMN):
            columns = _rate_columns(rows, source.name)
            if rows.unreadable:
                bad = rows.unreadable[0]
                message = f"{source.name} row {bad.row_number} cannot be read: {bad.reason}"
                raise InputError(message, code="bad_rates")
            for number, *cells in zip(rows.row_number.tolist(), *columns, strict=True):
                where = f"{source.name} row {number}"
                yield where, _line([cell or "" for cell in cells], order, base, where)


def _rate_columns(rows: RowBatch, source_name: str) -> list[list[str | None]]:
    columns = {name.strip().lower(): column for name, column in rows.columns.items()}
    if not columns.keys() >= set(HEADER):
        message = (
            f"{source_name} must have the columns date, currency, rate; it has {', '.join(rows.columns)}"
        )
        raise InputError(message, code="bad_rates")
    return [texts(columns[name]).to_pylist() for name in HEADER]


def load_rates(path: str, base: str) -> Rates:
    """
    Read a CSV file with the columns date, currency, rate, in any order of rows; an empty path gives no rates.

    Raises
    ------
    InputError
        If it cannot be read, a line is not a date, a currency and a positive number, or two lines give one day different rates.
    """
    return _rates(_file_rates(path, base), base, (f"{path} (schema.rates)",) if path else ())


def _file_rates(path: str, base: str) -> dict[str, dict[int, float]]:
    return _collect(_lines(path, base), path) if path else {}


def _collect(lines: Iterator[tuple[str, _Line]], source_name: str) -> dict[str, dict[int, float]]:
    collected: dict[str, dict[int, float]] = {}
    for where, (day, currency, rate) in lines:
        earlier = collected.setdefault(currency, {}).setdefault(day, rate)
        if earlier != rate:
            when = date.fromordinal(day + EPOCH).isoformat()
            raise InputError(
                f"{where} gives {currency} on {when} the rate {rate:g}, an earlier one is {earlier:g}",
                remedy=f"keep one of them in {source_name}",
                code="bad_rates",
            )
    return collected


def _rates(collected: Mapping[str, Mapping[int, float]], base: str, places: tuple[str, ...]) -> Rates:
    series = {currency: _series(rates) for currency, rates in collected.items() if currency != base}
    return Rates(base, series, places)


def _series(rates: Mapping[int, float]) -> RateSeries:
    days = sorted(rates)
    return RateSeries(np.array(days, dtype=np.int64), np.array([rates[day] for day in days]))


def _lines(path: str, base: str) -> Iterator[tuple[str, _Line]]:
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
                    where = f"{path} line {reader.line_num}"
                    yield where, _line(cells, order, base, where)
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
        written = DAY_TEXT.fullmatch(day)
        if written is None or not NUMBER_TEXT.fullmatch(rate):
            raise ValueError  # noqa: TRY301 (Python reads more forms than ingest does)
        parsed = date.fromisoformat(written[1]).toordinal() - EPOCH, currency.upper(), float(rate)
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
