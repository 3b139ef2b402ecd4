"""
Profiles of the columns of a file's first rows.

Values are typed and validated by the code of ingest, so what is recognised here is accepted there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import FormatSection
from pipeline.errors import InputError
from pipeline.ingest.formats import columns, validators
from pipeline.ingest.formats.arrow_arrays import Arrow, as_bools
from pipeline.ingest.formats.grammars.numbers import currencies_of
from pipeline.ingest.formats.validators import Reasons
from storage.frames import Floats, Ints

ENOUGH = 0.99  # of the rows of a column: a few may be damaged
FEW = 2  # of a short file: a total below the rows, a remark
_LEADING_ZERO = r"^[+-]?0\d"  # 007 is a name, not a number

# Cheap to check: two parts of a date and a separator. Numbers are no times, as their unit is unknown.
_TIME_LIKE = r"^(\d{1,4}(st|nd|rd|th)?[-/.年\x{A0}\x{202F} ]+(\d{1,2}|\pL{3,9})\.?[-/.,月\x{A0}\x{202F} ]+\d|\pL{3,9}\.?[-/.\x{A0}\x{202F} ]+\d|\d{8}[T ]\d)"
TRIAL_VALUES = 500  # different values of a column that are looked at before all
WRITTEN = ("year_first", "day_first", "month_first")  # formats of times in text besides ISO 8601
PLAIN = FormatSection()
_CURRENCIES_TEXT = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD
    CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
    GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT
    LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR
    NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP
    STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD
    XOF XPF YER ZAR ZMW ZWG CLF HRK BTC ETH USDT USDC
"""
CURRENCIES = frozenset(_CURRENCIES_TEXT.split())

Check = Callable[[Arrow, str, Reasons], Any]  # of `pipeline.ingest.formats.validators`


@dataclass(frozen=True)
class ColumnProfile:
    """A column of a sample and its properties."""

    name: str
    column: Arrow
    now: int  # µs; later times are refused by ingest
    form: FormatSection = PLAIN
    clock: tuple[Arrow, str] | None = (
        None  # the column with the times of day of a column of dates, and its name
    )

    @cached_property
    def text(self) -> Arrow:
        """The values as text; null means missing."""
        if pa.types.is_nested(self.column.type):
            written = [None if value is None else repr(value) for value in self.column.to_pylist()]
            return pa.array(written, pa.string())
        return columns.texts(self.column)

    @cached_property
    def _dictionary(self) -> tuple[tuple[str, ...], Ints]:
        encoded = self.text.dictionary_encode()
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return tuple(encoded.dictionary.to_pylist()), codes

    @property
    def distinct(self) -> tuple[str, ...]:
        """The different values, in the order of the rows, without the missing one."""
        return self._dictionary[0]

    @property
    def codes(self) -> Ints:
        """The place of each row's value in `distinct`, -1 for missing ones, (n,)."""
        return self._dictionary[1]

    @cached_property
    def counts(self) -> Ints:
        """How often each of the different values occurs."""
        return np.bincount(self.codes + 1, minlength=len(self.distinct) + 1)[1:]

    @property
    def present(self) -> int:
        """How many values are not missing."""
        return int(self.counts.sum())

    @property
    def repeats(self) -> float:
        """How often a value occurs on average."""
        return self.present / len(self.distinct) if self.distinct else 0.0

    @property
    def unique(self) -> bool:
        """Whether no value is missing or occurs twice."""
        return len(self.distinct) == len(self.codes)

    @cached_property
    def number(self) -> bool:
        """Whether all values are numbers without leading zeros and units."""
        distinct = pa.array(self.distinct, pa.string())
        if pc.any(pc.match_substring_regex(distinct, _LEADING_ZERO)).as_py():
            return False
        return self.money and not self.units

    @cached_property
    def money(self) -> bool:
        """Whether all values are numbers, some of them perhaps with the currency beside them."""
        return self.nearly_money and not self.refusal(partial(validators.numbers, form=self.form))

    @cached_property
    def nearly_money(self) -> bool:
        """The same of nearly all values: ingest rejects the rows of the others, one by one."""
        tried = columns.numbers(
            pa.array(self.distinct[:TRIAL_VALUES], pa.string()), self.form.decimal, self.form.thousands
        )
        if (
            tried.wrong.sum() > max(FEW, 0.1 * len(tried.wrong))
            or self.refusal(partial(validators.numbers, form=self.form), ENOUGH)
            or not np.isfinite(self.numbers).any()
        ):
            return False
        return all(currencies_of(unit) & CURRENCIES for unit in self.units)

    @cached_property
    def units(self) -> frozenset[str]:
        """The currencies beside numbers."""
        marks = columns.numbers(self.text, self.form.decimal, self.form.thousands).marks
        return frozenset(unit for mark in marks for unit in pc.unique(mark).to_pylist() if unit)

    @cached_property
    def numbers(self) -> Floats:
        """The values as numbers; NaN where there is none."""
        return columns.numbers(self.text, self.form.decimal, self.form.thousands).values

    @cached_property
    def whole(self) -> bool:
        """Whether all values are whole numbers, written without a point."""
        return (
            self.number and bool((np.nan_to_num(self.numbers) % 1 == 0).all()) and self.matches(r"^[^.,]*$")
        )

    @cached_property
    def binary(self) -> bool:
        """Whether all values say yes or no."""
        return bool(self.distinct) and not self.refusal(validators.fraud_labels)

    @cached_property
    def instants(self) -> Ints:
        """The values as instants (µs) if nearly all of them are times that ingest accepts, else empty."""
        return self.moments[~np.isnan(self.moments)].astype(np.int64)

    @cached_property
    def moments(self) -> Floats:
        """The same for each row, NaN where there is none; empty if the column holds no times, (n,)."""
        if not self.present or not self.reads_as(self.form):
            return np.empty(0)
        parsed = columns.instants(self.column, "UTC", self.form, self.clock and self.clock[0])
        return np.where(parsed.missing | parsed.unreadable, np.nan, parsed.micros)

    def reads_as(self, form: FormatSection) -> bool:
        """Whether ingest accepts nearly all values as times of this format."""
        if columns.is_text(self.column.type) and form.time in (*WRITTEN, "iso"):
            tried = columns.instants(pa.array(self.distinct[:TRIAL_VALUES], pa.string()), "UTC", form)
            if tried.unreadable.sum() > max(FEW, 0.1 * len(tried.unreadable)):
                return False
        return not self.refusal(
            lambda column, name, reasons: validators.instants(
                column, name, "UTC", self.now, reasons, form, self.clock
            ),
            ENOUGH,
        )

    @cached_property
    def time_formats(self) -> tuple[str, ...]:
        """The formats of written times by which nearly all values can be read; only ISO 8601 if they are that."""
        if not self.present or not (_is_time_type(self.column.type) or self.matches(_TIME_LIKE)):
            return ()
        if self.reads_as(self.form.model_copy(update={"time": "iso"})):
            return ("iso",)
        return tuple(form for form in WRITTEN if self.reads_as(self.form.model_copy(update={"time": form})))

    @cached_property
    def naive(self) -> bool:
        """Whether any of the instants lacks its offset from UTC."""
        return bool(columns.instants(self.column, "", self.form, self.clock and self.clock[0]).naive.any())

    def matches(self, pattern: str) -> bool:
        """Whether nearly all different values, or all but a few, match a regular expression (RE2)."""
        fit = as_bools(pc.match_substring_regex(pa.array(self.distinct, pa.string()), pattern))
        if fit.sum() >= ENOUGH * len(fit):
            return bool(self.distinct)
        return int(self.counts[~fit].sum()) <= min(FEW, tolerated(self.present))

    def refusal(self, check: Check, enough: float = 1.0) -> str:
        """Why ingest would reject the column, or a row although `enough` (a share) must be good; "" if it would not."""
        reasons = Reasons(len(self.column))
        try:
            check(self.column, self.name, reasons)
        except InputError as error:
            return error.message
        wrong = int((~reasons.good).sum())
        if wrong <= (1 - enough) * self.present or (enough < 1 and wrong <= tolerated(self.present)):
            return ""
        return reasons.of(int(np.argmin(reasons.good)))


def tolerated(rows: int) -> int:
    """How many of so many values may be damaged, or are no values of the column, such as "Total" below dates."""
    return max(int((1 - ENOUGH) * rows + 1e-9), min(FEW, rows // 20))


def _is_time_type(kind: Any) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
