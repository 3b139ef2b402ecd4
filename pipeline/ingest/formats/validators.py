"""
Validates columns and collects the reasons for rejecting rows.

Each check looks at a whole column. A row is rejected for the first reason found, in the order of the checks. The text
of a reason is fixed, so that equal reasons can be counted, and names the column and the remedy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import FormatSection, LabelsSection
from pipeline.errors import InputError
from pipeline.ingest.formats import columns
from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools, as_objects, characters
from pipeline.ingest.formats.columns import PLAIN_FORMAT
from pipeline.ingest.formats.grammars.minor_units import in_major_units
from pipeline.ingest.formats.grammars.numbers import MIXED_CASE, any_thousands, currencies_of, grammar
from pipeline.ingest.formats.grammars.times import EXAMPLES
from pipeline.ingest.formats.instants import Instants, parse_clock
from storage.frames import DAY, HOUR, MONEY, SECOND, Floats, Ints, Strings

ID_MAX = 200  # characters, as in the database
TEXT_MAX = 500  # characters: entities are indexed, and Postgres indexes at most 2,704 bytes
AMOUNT_MAX = 1e15  # in its own currency: a float still tells two whole numbers apart
BASE_MAX = 9e11  # in the base currency: still exact in 1/10,000 as a float, and sums of a thousand fit int64
MISSING_WORDS = pa.array([
    "\\N", "NULL", "Null", "null", "NONE", "None", "none", "NAN", "NaN", "Nan", "nan", "<NA>", "#N/A",
])  # fmt: skip  # of ids; NA is Namibia
# A number as spreadsheets and programs write one that is too long for them, in any country: 4.11E+15, 4,11E+15, 4.1E7.
EXPONENT = r"^[+-]?(\d([.,]\d+)?[eE]\+\d+|\d[.,]\d+[eE]([7-9]|\d\d+))$"
# Of ISO 8601, but not accepted: 24:00, a leap second, a week, the day of a year.
NOT_ACCEPTED = r"[Tt ]24:00|:\d\d:60|^\d{4}-?W\d\d|^\d{4}-\d{3}$"
FUTURE_MAX = HOUR  # clocks differ; an event further ahead has a wrong date
EPOCH_MIN, EPOCH_MAX = (
    315_532_800 * SECOND,
    4_102_444_800 * SECOND,
)  # 1980 to 2100: beyond, a number has another unit
TIME_MAX = 8_000 * 366 * DAY  # µs; Python and Postgres have no dates beyond it
FRAUD_WORDS = LabelsSection().fraud_words
GENUINE_WORDS = LabelsSection().genuine_words
ALL_OTHERS = "*"  # of labels.unlabelled_words


@dataclass(frozen=True)
class LabelWords:
    """Words that mean fraud, genuine or neither, in any case."""

    fraud: Sequence[str] = FRAUD_WORDS
    genuine: Sequence[str] = GENUINE_WORDS
    unlabelled: Sequence[str] = ()


DEFAULT_WORDS = LabelWords()


class Reasons:
    """The reasons for rejecting rows, one per row."""

    def __init__(self, size: int) -> None:
        self._code = np.zeros(size, dtype=np.int16)  # 0: good
        self._texts = [""]

    def add(self, wrong: Bools, reason: str) -> None:
        """Give a reason to the wrong rows that have none yet."""
        if wrong.any():
            self._texts.append(reason)
            self._code[wrong & (self._code == 0)] = len(self._texts) - 1

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self._code)

    @property
    def good(self) -> Bools:
        """Rows without a reason."""
        return np.asarray(self._code == 0)

    def of(self, place: int) -> str:
        """Return the reason of a row, "" for a good one."""
        return self._texts[int(self._code[place])]


def ids(column: Arrow, name: str, reasons: Reasons) -> Arrow:
    """Return ids of rows as stripped text."""
    text = identifiers(column, name, reasons, ID_MAX)
    reasons.add(as_bools(text.is_null()), f"{name} is missing: every row needs an id")
    return text


def identifiers(column: Arrow, name: str, reasons: Reasons, length_max: int = TEXT_MAX) -> Arrow:
    """Return the ids of things that rows share; values may be missing, also as one of `MISSING_WORDS`."""
    text = texts(column, name, reasons, length_max)
    word = pc.is_in(text, MISSING_WORDS)
    if pc.any(word).as_py():
        text = pc.if_else(word, None, text)
    written = characters(text)
    # A sign of EXPONENT: rare in ids, and found much faster than the expression.
    if any(sign in written for sign in (b"+", b".", b",")):
        lost = as_bools(pc.match_substring_regex(text, EXPONENT))
        reasons.add(lost, f"{name} has lost digits, like 4.11E+15: export it as text")
    return text


def texts(column: Arrow, name: str, reasons: Reasons, length_max: int = TEXT_MAX) -> Arrow:
    """Return a text field; values may be missing."""
    _require_type(column, name, lambda kind: not pa.types.is_nested(kind), "text")
    text = columns.texts(column)
    written = characters(text)
    if len(written) > length_max:
        long = pc.greater(pc.utf8_length(text), length_max)
        reasons.add(as_bools(long), f"{name} is longer than {length_max} characters: shorten it")
    if b"\0" in written:
        nul = pc.match_substring(text, "\0")
        reasons.add(as_bools(nul), f"{name} holds a NUL character, which no database stores: remove it")
    return text


def numbers(
    column: Arrow,
    name: str,
    reasons: Reasons,
    form: FormatSection = PLAIN_FORMAT,
    currency: Strings | None = None,
) -> Floats:
    """Return a numeric field; missing is NaN. A currency that is written beside a number must be that of its row."""
    parsed = _numbers(column, name, form, currency, reasons)
    reasons.add(np.isinf(parsed.values), f"{name} is infinite: write a finite number or leave it empty")
    return parsed.values


def amounts(
    column: Arrow,
    name: str,
    reasons: Reasons,
    form: FormatSection = PLAIN_FORMAT,
    currency: Strings | None = None,
) -> Floats:
    """
    Return amounts of money in units of their currency as they are, unrounded; 0 for rejected rows.

    `currency` has the codes of the rows in capitals, of which `format.amount_unit = "minor"` needs the digits; without
    it a currency that is written beside an amount is not checked.
    """
    parsed = _numbers(column, name, form, currency, reasons, required=True)
    values = parsed.values
    reasons.add(~np.isfinite(values), f"{name} is not finite: write {_example(form)}")
    if form.amount_unit == "minor":
        values = in_major_units(values, currency)
    finite = np.where(np.isfinite(values), values, 0.0)
    reasons.add(np.abs(finite) >= AMOUNT_MAX, f"{name} is 1,000,000,000,000,000 or more: check its unit")
    return np.where(np.abs(finite) < AMOUNT_MAX, finite, 0.0)


def in_base(amount: Floats, rate: Floats, name: str, reasons: Reasons) -> Ints:
    """Return amounts × rates in 1/10,000 of the base currency."""
    base = amount * np.nan_to_num(rate)
    too_large = np.abs(base) >= BASE_MAX
    reasons.add(too_large, f"{name} is 900,000,000,000 or more in the base currency: check its unit and rate")
    return np.asarray(np.rint(np.where(too_large, 0.0, base) * MONEY), dtype=np.int64)


def currency_codes(column: Arrow) -> Strings:
    """Return currency codes in capitals, unchecked."""
    return as_objects(pc.utf8_upper(columns.texts(column)))


def currencies(column: Arrow, name: str, reasons: Reasons) -> Strings:
    """Return currency codes in capitals."""
    text = texts(column, name, reasons)
    reasons.add(as_bools(text.is_null()), f"{name} is missing: write its code, such as EUR")
    mixed = as_bools(pc.match_substring_regex(text, MIXED_CASE))
    exchange = "is in small and capital letters, as exchanges write pence (GBp): write its code in capitals, such as GBP"
    reasons.add(mixed, f"{name} {exchange}, and amounts in that currency")
    return as_objects(pc.utf8_upper(text))


def instants(
    column: Arrow,
    name: str,
    zone: str,
    now: int,
    reasons: Reasons,
    form: FormatSection = PLAIN_FORMAT,
    time_of_day: tuple[Arrow, str] | None = None,
) -> tuple[Ints, Bools]:
    """
    Return times as µs since 1970-01-01 UTC and a mask of missing ones, for which the caller adds the reason.

    Text is ISO 8601 or as `format.time` says; `time_of_day` is a second column and its name. A time without an offset
    is local to `zone`; it is rejected if there is no zone or the clocks of the zone skip or repeat it. Times more than
    an hour after `now` are rejected.
    """
    column = _as_times(column, name, form)
    parsed = columns.instants(column, zone, form, time_of_day and time_of_day[0])
    if time_of_day is not None:
        _explain_times_of_day(columns.instants(column, "UTC", form), name, *time_of_day, reasons)
    _explain_times(column, name, parsed.unreadable, form, reasons)
    reasons.add(parsed.naive, f"{name} has no offset from UTC: add it, or set schema.timezone to its zone")
    skipped = f"{name} is a local time that does not exist, the clocks of {zone} skipped it: add its offset"
    reasons.add(parsed.skipped, skipped)
    repeated = f"{name} is a local time that occurs twice in {zone}, when clocks go back: add its offset"
    reasons.add(parsed.repeated, repeated)
    usable = ~parsed.missing & reasons.good
    if form.time.startswith("epoch"):
        early = usable & (parsed.micros < EPOCH_MIN)
        reasons.add(early, f"{name} is before 1980 when read as {form.time}: check format.time")
    out = usable & ((parsed.micros < 0) | (parsed.micros > TIME_MAX))
    reasons.add(
        out, f"{name} is out of range: check {'its year' if form.time in EXAMPLES else 'format.time'}"
    )
    ahead = f"{name} is more than an hour ahead of now"
    if form.time.startswith("elapsed"):
        ahead += f" when read as {form.time}: check format.time and format.time_start"
    reasons.add(usable & (parsed.micros > now + FUTURE_MAX), ahead)
    return np.clip(parsed.micros, 0, TIME_MAX), parsed.missing


def _as_times(column: Arrow, name: str, form: FormatSection) -> Arrow:
    """Return the column if its type can hold times by `form`; whole numbers may be dates such as 20260301."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_time(kind) or pa.types.is_null(kind) or (form.time not in EXAMPLES and _is_number(kind)):
        return column
    if form.time == "year_first" and pa.types.is_integer(kind):
        return columns.texts(column)
    if _is_number(kind):
        text = columns.texts(column.drop_null().slice(0, 1))
        looks_like = f"; the first {_readable_formats(text, form)[0].partition(':')[0]}" if len(text) else ""
        raise InputError(
            f'column {name} holds numbers, which format.time = "{form.time}" does not read{looks_like}',
            remedy="set format.time to what they count",
            code="column_type",
        )
    _require_type(column, name, _is_time, "times")
    return column


def _explain_times(column: Arrow, name: str, wrong: Bools, form: FormatSection, reasons: Reasons) -> None:
    """Give each value that is no time a reason, which names the formats that can read it."""
    if not wrong.any():
        return
    what = "an ISO 8601 time" if form.time == "iso" else f'a time by format.time = "{form.time}"'
    text = columns.texts(column.take(pa.array(np.flatnonzero(wrong))))
    readable = _readable_formats(text, form)
    for fitting in sorted(set(readable) - {""}):
        mask = wrong.copy()
        mask[wrong] = readable == fitting
        reasons.add(mask, f"{name} is not {what}, but {fitting}")
    mask = wrong.copy()
    mask[wrong] = as_bools(pc.match_substring_regex(text, NOT_ACCEPTED))
    reasons.add(
        mask, f"{name} is 24:00, has a second 60, or is a week or ordinal date, which is not accepted"
    )
    reasons.add(wrong, f"{name} is not {what}: write {EXAMPLES.get(form.time, 'a number')}")


def _readable_formats(text: Arrow, form: FormatSection) -> Strings:
    """Say of each text by which other formats it can be read, "" if by none."""
    if not pc.any(pc.match_substring_regex(text, "[0-9]")).as_py():
        return np.full(len(text), "", dtype=object)
    number = columns.numbers(text, form.decimal, form.thousands)
    for mark in number.marks:  # 1 March and 1772344800Z are no numbers
        number.values[~as_bools(pc.fill_null(pc.equal(mark, ""), True))] = np.nan
    epochs = {"epoch_seconds": number.values * SECOND, "epoch_milliseconds": number.values * (SECOND // 1000)}
    fits = {other: ~parse_clock(text, other).unreadable for other in EXAMPLES}
    fits |= {other: (micros >= EPOCH_MIN) & (micros <= EPOCH_MAX) for other, micros in epochs.items()}
    fits.pop(form.time, None)
    named = np.full(len(text), "", dtype=object)
    for other, mask in fits.items():
        named[mask] = np.where(named[mask] == "", other, named[mask] + " or " + other)
    counted = (named == "") & np.isfinite(number.values)
    return np.where(
        counted,
        "a number: set format.time to what it counts",
        np.where(named == "", "", "reads as " + named + ": set format.time"),
    )


def _explain_times_of_day(
    dates: Instants, name: str, clock: Arrow, clock_name: str, reasons: Reasons
) -> None:
    """Give rows a reason whose date and time of day cannot be joined; `dates` are local to UTC."""
    usable = ~dates.missing & ~dates.unreadable
    reasons.add(
        usable & (dates.micros % DAY != 0), f'{name} has a time of its own: set schema.time_of_day = ""'
    )
    missing, read = columns.times_of_day(clock)
    empty = f"{clock_name} is missing: every transaction needs its time of day (schema.time_of_day)"
    reasons.add(usable & missing, empty)
    wrong = f"{clock_name} is not a time of day: write 14:30, 2:30 PM or 143000 (schema.time_of_day)"
    reasons.add(usable & ~missing & read.unreadable, wrong)


UNKNOWN_WORD = "is neither fraud nor genuine: write 1 or 0, or add the word to labels.fraud_words, genuine_words or unlabelled_words"


def fraud_labels(
    column: Arrow, name: str, reasons: Reasons, vocabulary: LabelWords = DEFAULT_WORDS
) -> tuple[Bools, Bools]:
    """Return whether each row is fraud, and a mask of rows without a label: empty, or with a word that says neither."""
    fraud, missing, unknown = label_kinds(column, name, vocabulary)
    reasons.add(unknown, f"{name} {UNKNOWN_WORD}")
    return fraud, missing


def label_kinds(
    column: Arrow, name: str, vocabulary: LabelWords = DEFAULT_WORDS
) -> tuple[Bools, Bools, Bools]:
    """Return masks of rows that are fraud, that have no label, and whose word is unknown; all others are genuine."""
    _require_type(column, name, lambda kind: not pa.types.is_nested(kind), "0 and 1")
    text = pc.utf8_lower(columns.texts(column))

    def any_of(listed: Sequence[str]) -> Bools:
        return as_bools(pc.is_in(text, pa.array([word.strip().lower() for word in listed], pa.string())))

    fraud = any_of(vocabulary.fraud)
    labelled = fraud | any_of(vocabulary.genuine)
    missing = as_bools(text.is_null()) | any_of(vocabulary.unlabelled)
    if ALL_OTHERS in vocabulary.unlabelled:
        missing |= ~labelled
    return fraud, missing, ~labelled & ~missing


def _numbers(
    column: Arrow,
    name: str,
    form: FormatSection,
    currency: Strings | None,
    reasons: Reasons,
    *,
    required: bool = False,
) -> columns.Numbers:
    """Parse numbers; values that are none, or are in another currency than their row, get a reason."""
    _require_type(column, name, _is_number, "numbers or text")
    parsed = columns.numbers(column, form.decimal, form.thousands)
    if required:
        reasons.add(parsed.missing, f"{name} is missing: every transaction needs one, 0 is allowed")
    if parsed.wrong.any():
        _explain_numbers(column, name, parsed.wrong, form, reasons)
    for mark in parsed.marks:
        unknown, other = _currency_conflicts(mark, currency)
        reasons.add(unknown, f"{name} has a unit that is no currency: write {_example(form)}")
        reasons.add(
            other,
            f"{name} names another currency than that of the row: check schema.currency and base_currency",
        )
    return parsed


def _explain_numbers(column: Arrow, name: str, wrong: Bools, form: FormatSection, reasons: Reasons) -> None:
    """Give each value that is no number a reason, which says whether other separators make it one."""
    text = columns.texts(column.take(pa.array(np.flatnonzero(wrong))))
    if not pc.any(pc.match_substring_regex(text, "[0-9]")).as_py():
        reasons.add(wrong, f"{name} is not a number: write {_example(form)}")
        return
    mask = wrong.copy()
    mask[wrong] = as_bools(pc.match_substring_regex(text, grammar(form.decimal, form.thousands)))
    reasons.add(
        mask, f"{name} is not a number, its sign is not clear: write {_example(form)} or -{_example(form)}"
    )
    comma, point = (
        as_bools(pc.match_substring_regex(text, any_thousands(decimal))) for decimal in (",", ".")
    )
    mask = wrong.copy()
    mask[wrong] = as_bools(pc.match_substring_regex(text, rf"^\d{{1,3}}([{form.decimal}]\d{{3}}){{2,}}$"))
    reasons.add(
        mask,
        f"{name} is not a number: it has separators of thousands, set format.decimal and format.thousands",
    )
    thousands = "it has separators of thousands, set format.thousands"
    for fits, decimal, kind in ((comma & ~point, ",", "comma"), (point & ~comma, ".", "point")):
        mask = wrong.copy()
        mask[wrong] = fits
        other = f"it has a decimal {kind}, set format.decimal and format.thousands"
        reasons.add(mask, f"{name} is not a number: {thousands if form.decimal == decimal else other}")
    mask = wrong.copy()
    mask[wrong] = comma & point
    reasons.add(
        mask, f"{name} is not a number: set format.decimal and format.thousands to what its separator means"
    )
    reasons.add(wrong, f"{name} is not a number: write {_example(form)}")


def _currency_conflicts(mark: Arrow, currency: Strings | None) -> tuple[Bools, Bools]:
    """Masks of marks beside numbers that are no currency, and of those that are not the currency of the row."""
    marks = as_objects(mark)
    unknown, other = np.zeros(len(marks), dtype=bool), np.zeros(len(marks), dtype=bool)
    for sign in set(marks.tolist()) - {None, ""}:
        rows, meant = marks == sign, currencies_of(sign)
        if not meant:
            unknown |= rows
        elif currency is not None:
            other |= rows & ~np.isin(currency, list(meant))
    return unknown, other


def _example(form: FormatSection) -> str:
    return f"1234{form.decimal}56"


def _require_type(column: Arrow, name: str, test: Callable[[Any], bool], expected: str) -> None:
    """Raise InputError if the type of a column does not fit."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_null(kind) and not test(kind):
        message = f"column {name} holds {kind}; it must hold {expected}"
        raise InputError(message, remedy="convert it first", code="column_type")


def _is_time(kind: Any) -> bool:
    return columns.is_text(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _is_number(kind: Any) -> bool:
    tests: Sequence[Callable[[Any], bool]] = (
        columns.is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean
    )  # fmt: skip
    return any(test(kind) for test in tests)
