"""
How a file writes its numbers, times and amounts: [format], as far as it differs from the defaults.

A reading counts only if ingest accepts nearly all values by it. Where two readings accept all of them and say different
things, the key becomes "CHECK", which every config refuses, and the lines above it give both.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import FormatSection
from pipeline.ingest.formats import columns
from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.ingest.formats.grammars.minor_units import minor_digits
from pipeline.ingest.formats.grammars.numbers import BLANK, currencies_of
from pipeline.ingest.formats.grammars.numbers import SEPARATORS as PATTERNS
from pipeline.ingest.formats.instants import parse_instant
from pipeline.schema_inference import names
from pipeline.schema_inference.column_profile import CURRENCIES, ENOUGH, ColumnProfile, tolerated
from pipeline.schema_inference.draft import CHECK, UNANSWERED, SchemaDraft, quoted
from storage.database.column_types import as_datetime
from storage.frames import DAY, SECOND, Floats

RECOGNISED = ("utf-8", "utf-16", "utf-32")  # by their byte order mark
Separators = tuple[str, str]  # decimal, thousands
# The simplest comes first.
SEPARATORS: tuple[Separators, ...] = (
    (".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"),
)  # fmt: skip
VALUES = 2000  # of a column that are tried
_SEPARATED = rf"\d(?:[.,'’]|{BLANK})\d"
_NUMBER_LIKE = r"^[^\d]{0,8}\d[\d.,'’\x{A0}\x{2009}\x{202F} ]*[^\d]{0,8}$"
EPOCH_FIRST = 946_684_800  # 2000-01-01
_EPOCH_NAME = re.compile(r".*(time|date|epoch|unix|created|(^|_)ts($|_)|zeit|datum|fecha).*")
_ELAPSED_NAME = re.compile(
    r"(.*_)?(time|step|timestamp|transaction_?dt|dt|elapsed.*|seconds?|secs?|minutes?|hours?|days?|t|offset)(_.*)?"
)
COUNT_MAX = 50 * 366 * DAY  # a longer count is none of a file of payments
KNOWN_COUNTS = ("time", "step", "timestamp", "transaction_dt")
UNIT_WORDS = (
    (r"(^|_)(minutes?|mins?)(_|$)", "elapsed_minutes"), (r"(^|_)(hours?|hrs?)(_|$)", "elapsed_hours"), (r"(^|_)days?(_|$)", "elapsed_days"),
    (r"(^|_)(seconds?|secs?)(_|$)|transaction_?dt|(^|_)time(_|$)|elapsed|offset|timestamp", "elapsed_seconds"),
)  # fmt: skip
CENTS = re.compile(r"(^|_)(cents?|minor|pence|centimes|centavos|minor_units?)(_|$)")
WHOLE_MIN = 100  # amounts of which nearly all are more, whole, and no multiples of it may be cents


def decide_numbers(draft: SchemaDraft) -> None:
    """Find which separators numbers have: those that read all amounts, and most of the other columns."""
    separated = {c.name: c for c in draft.unassigned.values() if _has_separators(c)}
    readings = {name: _readings(column) for name, column in separated.items()}
    readings = {name: fits for name, fits in readings.items() if fits}
    if not readings:
        return
    amounts = [c for c in draft.unassigned.values() if c.name in readings and _may_be_amount(c)]
    main = names.first_named(amounts, names.AMOUNT) or separated[next(iter(readings))]
    fits = {form: [fit[form] for fit in readings.values() if form in fit] for form in readings[main.name]}
    votes = {form: (len(columns), sum(reading.rows for reading in columns)) for form, columns in fits.items()}
    best = [form for form in SEPARATORS if votes.get(form) == max(votes.values())]
    chosen = best[0]
    values = readings[main.name]
    others = [form for form in best if _differ(values[form], values[chosen]).any()]
    if others and _without_decimals(draft, main, values[chosen].units):
        chosen = next((form for form in (chosen, *others) if form[1]), chosen)
        others = []
    if others:
        chosen = _note_two_readings(draft, main, values, (chosen, others[0]))
    elif chosen != SEPARATORS[0]:
        example = _example(main.distinct, _SEPARATED)
        draft.decide("format.decimal", chosen[0], f"numbers are written like {quoted(example)}")
        if chosen[1]:
            values_of = [value for name in (main.name, *readings) for value in separated[name].distinct]
            large = _example(values_of, rf"\d{PATTERNS[chosen[1]]}\d")
            draft.decide("format.thousands", chosen[1], f"and large ones like {quoted(large)}")
    draft.reread({"decimal": chosen[0], "thousands": chosen[1]})


def _has_separators(column: ColumnProfile) -> bool:
    is_text = columns.is_text(column.column.type)
    return is_text and _some_fit(column.distinct, _SEPARATED) and column.matches(_NUMBER_LIKE)


def _some_fit(values: Sequence[str], pattern: str) -> bool:
    """Whether an expression (RE2) occurs in one of the values."""
    return bool(pc.any(pc.match_substring_regex(pa.array(values, pa.string()), pattern)).as_py())


def _example(values: Sequence[str], pattern: str) -> str:
    """The first value in which an expression (RE2) occurs; if there is none, the first."""
    fit = pc.match_substring_regex(pa.array(values, pa.string()), pattern)
    return str(values[max(0, pc.index(fit, True).as_py())])


def _may_be_amount(column: ColumnProfile) -> bool:
    return not names.known_later(column.name) and not names.NOT_AMOUNT.search(names.normalised(column.name))


@dataclass(frozen=True)
class _Reading:
    """The numbers that a column holds with a pair of separators."""

    values: Floats  # of the different values; NaN for one that is no number
    rows: int  # how many hold a number
    enough: bool  # whether these are nearly all
    units: frozenset[str]  # the currencies beside numbers

    @classmethod
    def of(cls, column: ColumnProfile, form: Separators, values: int | None = None) -> "_Reading":
        """Read the first different values, or all."""
        parsed = columns.numbers(pa.array(column.distinct[:values], pa.string()), *form)
        rows = column.counts[:values]
        units = frozenset(unit for mark in parsed.marks for unit in mark.unique().to_pylist() if unit)
        size, wrong = int(rows.sum()), int(rows[parsed.wrong].sum())
        enough = wrong <= tolerated(size) and all(currencies_of(unit) & CURRENCIES for unit in units)
        return cls(parsed.values, size - wrong, enough, units)


def _readings(column: ColumnProfile) -> dict[Separators, _Reading]:
    """The numbers that a text column holds, with each pair of separators that nearly all of its values allow."""
    likely = [form for form in SEPARATORS if _Reading.of(column, form, VALUES).enough]
    if _some_fit(column.distinct, r"^\D*0[.,]\d"):  # 0.123 is no thousand
        likely = [form for form in likely if not _reads_as_thousands(column, form)]
    fits = {form: _Reading.of(column, form) for form in likely}
    return {form: reading for form, reading in fits.items() if reading.enough}


def _differ(first: _Reading, second: _Reading) -> Bools:
    """Which values are two different numbers: one that only one of them can read is none."""
    both = np.isfinite(first.values) & np.isfinite(second.values)
    return np.asarray(both & (first.values != second.values))


def _without_decimals(draft: SchemaDraft, amount: ColumnProfile, units: frozenset[str]) -> bool:
    """Whether the currencies that the file names have no smaller unit, as yen."""
    codes = {code for code in re.findall(r"[A-Z]{3}", amount.name) if code in CURRENCIES}
    for column in draft.unassigned.values():
        values = {value.upper() for value in column.distinct[:VALUES]}
        codes |= values if values <= CURRENCIES else set()
    digits = [minor_digits(np.array([code], dtype=object)) for code in codes]
    if not codes:  # ¥ is of Japan or China, and only yen have no smaller unit; $ is of many countries
        signs = [sorted(currencies_of(unit)) for unit in units]
        digits = [
            np.sort(minor_digits(np.array(sign, dtype=object)))[: (len(sign) + 1) // 2] for sign in signs
        ]
    return bool(digits) and not np.concatenate(digits).any()


def _reads_as_thousands(column: ColumnProfile, form: Separators) -> bool:
    return bool(form[1]) and _some_fit(column.distinct, rf"^\D*0{PATTERNS[form[1]]}\d")


def _note_two_readings(
    draft: SchemaDraft,
    column: ColumnProfile,
    readings: Mapping[Separators, _Reading],
    forms: tuple[Separators, Separators],
) -> Separators:
    """Ask which of two readings is meant; return the one with thousands, as amounts rarely have three decimals."""
    simpler, other = forms
    place = int(np.argmax(_differ(readings[simpler], readings[other])))
    example = column.distinct[place]
    for decimal, thousands in forms:
        value = readings[decimal, thousands].values[place]
        reading = f"decimal = {quoted(decimal)} and thousands = {quoted(thousands)}"
        draft.note(
            "format.decimal",
            f"{CHECK}{quoted(example)} in {quoted(column.name)} is {value:,.10g} with {reading}",
        )
    draft.keys["format.decimal"] = UNANSWERED
    draft.decide("format.thousands", UNANSWERED, CHECK + "see the lines above")
    return other if other[1] else simpler


def decide_times(draft: SchemaDraft) -> None:
    """Find the column of event times, and how it is written: as text, as seconds since 1970, or from some start."""
    candidates = [
        c
        for c in draft.unassigned.values()
        if not names.known_later(c.name)
        and not names.NOT_EVENT_TIME.search(names.normalised(c.name))
        and c.name not in draft.personal
    ]
    written = [c for c in candidates if c.time_formats]
    column = names.first_named(written, names.EVENT_TIME) or next(iter(written), None)
    if column is not None:
        _decide_written(draft, column)
        return
    numbers = [c for c in candidates if c.number and len(c.distinct) > 1]
    for column in [*filter(None, [names.first_named(numbers, names.EVENT_TIME)]), *numbers]:
        if _decide_compact(draft, column) or _decide_epoch(draft, column):
            return
    elapsed = [c for c in numbers if _may_count(c)]
    column = names.first_named(elapsed, names.EVENT_TIME) or next(iter(elapsed), None)
    if column is not None:
        _decide_elapsed(draft, column)


def _may_count(column: ColumnProfile) -> bool:
    """Whether numbers may count from the start of the file: by their name, and because the rows are in their order."""
    name, values = names.normalised(column.name), column.numbers
    if not _ELAPSED_NAME.fullmatch(name) or not np.nanmin(values) >= 0:
        return False
    return name in KNOWN_COUNTS or bool((np.diff(values) >= 0).mean() >= ENOUGH)


def _decide_written(draft: SchemaDraft, column: ColumnProfile) -> None:
    """Write how dates in text are read, and find the column with the time of day if they have none."""
    form = column.time_formats[0]
    if {"day_first", "month_first"} <= set(column.time_formats):
        form = _day_or_month_first(draft, column)
    elif form != "iso":
        draft.decide("format.time", form, f"times are written like {quoted(column.distinct[0])}")
    draft.reread({"time": form})
    column = draft.unassigned[column.name]
    if (column.instants % DAY == 0).all():
        clocks = [c for c in draft.unassigned.values() if c is not column and _is_time_of_day(c)]
        clock = names.first_named(clocks, names.TIME_OF_DAY) or next(iter(clocks), None)
        if clock is not None:
            draft.take("time_of_day", clock, f"times of day such as {quoted(clock.distinct[0])}")
            column = replace(column, clock=(clock.column, clock.name))
    draft.event_time = draft.unassigned[column.name] = column


def _is_time_of_day(column: ColumnProfile) -> bool:
    if not column.matches(r"^\d{1,2}:\d\d(:\d\d.*)?( ?[AaPp]\.?[Mm]\.?)?$"):
        named = names.fits(column.name, names.TIME_OF_DAY) and column.matches(r"^\d{5,6}$")
        if not named or not columns.is_text(column.column.type):
            return False
    missing, clock = columns.times_of_day(column.column)
    return int((missing | clock.unreadable).sum()) <= tolerated(len(missing))


def _day_or_month_first(draft: SchemaDraft, column: ColumnProfile) -> str:
    """Which of day and month comes first where no day is above 12: by another column, the order of the rows, or asked."""
    example = quoted(column.distinct[0])
    others = {c.time_formats for c in draft.unassigned.values() if len(c.time_formats) == 1} - {
        ("iso",),
        ("year_first",),
    }
    if len(others) == 1:
        form = next(iter(others))[0]
        draft.decide(
            "format.time", form, f"times are written like {example}, and another column has days above 12"
        )
        return form
    if column.matches(r"^\d{1,2}\.\d{1,2}\.\d{2,4}"):
        draft.decide("format.time", "day_first", f"times are written like {example}, with points")
        return "day_first"
    sorted_by = [form for form in ("day_first", "month_first") if _sorted_by(column, form)]
    if len(sorted_by) == 1:
        draft.decide("format.time", sorted_by[0], f"times are written like {example}: so they are in order")
        return sorted_by[0]
    for form in ("day_first", "month_first"):
        first = replace(column, form=column.form.model_copy(update={"time": form})).instants[0]
        draft.note(
            "format.time", f'{CHECK}{example} is the {as_datetime(int(first)):%d of %B %Y} with "{form}"'
        )
    draft.keys["format.time"] = UNANSWERED
    return "day_first"


def _sorted_by(column: ColumnProfile, form: str) -> bool:
    """Whether the rows are in order, rising or falling, when times are read by this format."""
    times = replace(column, form=column.form.model_copy(update={"time": form})).instants
    steps = np.diff(times)
    return bool(len(np.unique(times)) > 2 and max((steps >= 0).mean(), (steps <= 0).mean()) >= 0.999)


def _decide_compact(draft: SchemaDraft, column: ColumnProfile) -> bool:
    """Whether the numbers are dates such as 20260301."""
    if not names.fits(column.name, names.EVENT_TIME) or not column.matches(r"^(19|20)\d{6}(\d{4}|\d{6})?$"):
        return False
    if not column.reads_as(column.form.model_copy(update={"time": "year_first"})):
        return False
    draft.decide("format.time", "year_first", f"times are written like {quoted(column.distinct[0])}")
    draft.reread({"time": "year_first"})
    draft.event_time = draft.unassigned[column.name]
    return True


def _decide_epoch(draft: SchemaDraft, column: ColumnProfile) -> bool:
    """Whether the numbers are seconds or milliseconds since 1970."""
    if not _EPOCH_NAME.fullmatch(names.normalised(column.name)):
        return False
    low, high = np.nanmin(column.numbers), np.nanmax(column.numbers)
    for form, unit in (("epoch_seconds", 1), ("epoch_milliseconds", 1000)):
        if EPOCH_FIRST * unit <= low and high <= (column.now / SECOND + 3600) * unit:
            first = as_datetime(int(low / unit) * SECOND)
            draft.decide(
                "format.time",
                form,
                f"{quoted(column.name)} counts from 1970: the first is {first:%Y-%m-%d %H:%M}",
            )
            _count(draft, column, {"time": form})
            return True
    return False


def _count(draft: SchemaDraft, column: ColumnProfile, form: Mapping[str, str]) -> None:
    """Take a column of numbers that count as the event time; other numbers are no times."""
    counted = replace(column, form=column.form.model_copy(update=form))
    draft.event_time = draft.unassigned[column.name] = counted


def _decide_elapsed(draft: SchemaDraft, column: ColumnProfile) -> None:
    """Take numbers that count from some start, which is asked for, in the unit that name and range tell."""
    high, name = float(np.nanmax(column.numbers)), names.normalised(column.name)
    unit = next((unit for pattern, unit in UNIT_WORDS if re.search(pattern, name)), "")
    if unit == "elapsed_seconds" and high < 36_000:
        unit = ""  # ten hours: too short for a file of payments
    others = {names.normalised(other) for other in draft.unassigned}
    if name == "step":
        unit = (
            "elapsed_hours" if "name_orig" in others else "elapsed_days" if "zip_merchant" in others else ""
        )
    form = unit or "elapsed_hours"
    if high * columns.UNITS[form] > COUNT_MAX:
        return
    if unit:
        draft.decide(
            "format.time",
            unit,
            f"{quoted(column.name)} counts up to {high:,.0f}, by its name and range {unit.removeprefix('elapsed_')}",
        )
    else:
        for form, span in (("elapsed_hours", high / 24), ("elapsed_days", high)):
            draft.note(
                "format.time",
                f'{CHECK}{quoted(column.name)} counts up to {high:,.0f}: with "{form}" the file spans {span:,.0f} days',
            )
        draft.keys["format.time"] = UNANSWERED
    while parse_instant(draft.time_start, "") + high * columns.UNITS[form] > column.now:  # type: ignore[operator]
        draft.time_start = a_year_before(draft.time_start)
    reason = f"{CHECK}the moment from which {quoted(column.name)} counts; the file does not say it"
    draft.decide("format.time_start", draft.time_start, reason)
    _count(draft, column, {"time": form, "time_start": draft.time_start})


def a_year_before(start: str) -> str:
    """The same moment of the year before."""
    return f"{int(start[:4]) - 1}{start[4:]}"


def decide_unit(draft: SchemaDraft) -> None:
    """Find whether amounts are in cents, after amount and currency are known."""
    column = draft.amount
    if column is None or not column.whole:
        return
    currencies = draft.currencies or [str(draft.keys.get("base_currency"))]
    if not minor_digits(np.array(currencies, dtype=object)).any():
        return
    if CENTS.search(names.normalised(column.name)):
        draft.decide("format.amount_unit", "minor", f"the name of {quoted(column.name)} says so")
        return
    sizes = np.abs(column.numbers[np.isfinite(column.numbers)])
    sizes = sizes[sizes > 0]
    if len(sizes) < 20 or np.quantile(sizes, 0.05) < WHOLE_MIN or (sizes % WHOLE_MIN == 0).mean() > 0.5:
        return
    example = int(sizes[0])
    draft.note(
        "format.amount_unit",
        f'{CHECK}all amounts are whole: {example} is {example / 100:.2f} with "minor" (cents), {example:,}.00 with "major"',
    )
    draft.keys["format.amount_unit"] = UNANSWERED


def written(form: FormatSection) -> dict[str, str]:
    """The keys of [format] that say how bytes become text, where they differ from the defaults and are not recognised anyway."""
    keys = ["quote"] if form.encoding in RECOGNISED else ["encoding", "quote"]
    return {key: getattr(form, key) for key in keys if getattr(form, key) != getattr(FormatSection(), key)}
