"""
Columns of text → typed columns; a row that cannot be is set aside with its reason.

Each check looks at whole columns. The first reason that a row gives is the one it is set aside for.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.frames import HOUR, MONEY, SECOND, Floats, Ints

Objects = NDArray[np.object_]
Bools = NDArray[np.bool_]

ID_MAX = 200  # characters
TEXT_MAX = 1000  # characters of a field
AMOUNT_MAX = 1e12  # of any currency: window sums of 1/10,000 units still fit int64
AHEAD_MAX = HOUR  # clocks differ; an event a day ahead is a wrong date
YEAR_FIRST, YEAR_LAST = 1971, 2200
OFFSET = re.compile(r"(Z|z|[+-]\d{2}(:?\d{2})?)$")
TRUE = frozenset({"1", "1.0", "true", "t", "yes", "y", "fraud"})
FALSE = frozenset({"0", "0.0", "false", "f", "no", "n", "genuine"})


class Reasons:
    """Why each row of a block is set aside; None for a good one."""

    def __init__(self, size: int) -> None:
        self.of = np.full(size, None, dtype=object)

    def add(self, wrong: Bools, reason: str) -> None:
        """Give a reason to the rows that are wrong and have none yet."""
        self.of[wrong & (self.of == None)] = reason  # noqa: E711 (elementwise)

    @property
    def good(self) -> Bools:
        """Rows without a reason."""
        return np.asarray(self.of == None)  # noqa: E711 (elementwise)


def ids(column: Objects, name: str, reasons: Reasons) -> Objects:
    """Ids without the blanks around them."""
    stripped = np.empty(len(column), dtype=object)
    stripped[:] = [str(value).strip() if value is not None else "" for value in column]
    lengths = np.array([len(value) for value in stripped], dtype=np.int64)
    reasons.add(lengths == 0, f"{name} is missing: every row needs an id")
    reasons.add(lengths > ID_MAX, f"{name} is longer than {ID_MAX} characters")
    _printable(stripped, name, reasons)
    return stripped


def texts(column: Objects, name: str, reasons: Reasons) -> Objects:
    """A text field; missing is allowed."""
    lengths = np.array([0 if value is None else len(value) for value in column], dtype=np.int64)
    reasons.add(lengths > TEXT_MAX, f"{name} is longer than {TEXT_MAX} characters")
    _printable(column, name, reasons)
    return column


def _printable(column: Objects, name: str, reasons: Reasons) -> None:
    wrong = np.array(
        [value is not None and ("\x00" in value or not _encodable(value)) for value in column], dtype=bool
    )
    reasons.add(wrong, f"{name} holds a character that no database stores (NUL or half of a pair)")


def _encodable(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def numbers(column: Objects, name: str, reasons: Reasons) -> Floats:
    """A numeric field; missing is NaN."""
    parsed = _floats(column)
    given = np.array([value is not None for value in column], dtype=bool)
    reasons.add(given & ~np.isfinite(parsed), f"{name} is not a finite number")
    return parsed


def amounts(column: Objects, name: str, reasons: Reasons) -> Floats:
    """Amounts with four decimals, in their own currency."""
    missing = np.array([value is None for value in column], dtype=bool)
    parsed = _floats(column)
    reasons.add(missing, f"{name} is missing")
    reasons.add(np.isnan(parsed), f"{name} is not a number: write 1234.56")
    reasons.add(np.isinf(parsed), f"{name} is not finite")
    reasons.add(np.abs(parsed) >= AMOUNT_MAX, f"{name} is {AMOUNT_MAX:.0e} or more")
    bounded = np.where(np.isfinite(parsed) & (np.abs(parsed) < AMOUNT_MAX), parsed, 0.0)
    rounded: Floats = np.rint(bounded * MONEY) / MONEY
    return rounded


def _floats(column: Objects) -> Floats:
    import pandas as pd

    try:
        return np.asarray(column, dtype=np.float64)  # None is NaN; the usual block is all numbers
    except (TypeError, ValueError):
        return np.asarray(pd.to_numeric(pd.Series(column, dtype=object), errors="coerce"), dtype=np.float64)


def instants(column: NDArray[Any], name: str, timezone: str, now: int, reasons: Reasons) -> Ints:
    """
    ISO 8601 times → µs UTC.

    A time without an offset is in `timezone`; without one configured it is refused, and so is one that the
    clocks' change skips or repeats.
    """
    ready = column.dtype == np.int64
    parsed = np.asarray(column) if ready else _parsed(column, name, timezone, reasons)
    years = parsed.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64) + 1970
    reasons.add((years < YEAR_FIRST) | (years > YEAR_LAST), f"{name} is not a time of this age")
    reasons.add(parsed > now + AHEAD_MAX, f"{name} is more than an hour ahead of now")
    return parsed


def _parsed(column: Objects, name: str, timezone: str, reasons: Reasons) -> Ints:
    missing = np.array([value is None for value in column], dtype=bool)
    reasons.add(missing, f"{name} is missing")
    text = np.array([*("" if value is None else str(value).strip() for value in column), ""], dtype=object)[
        :-1
    ]
    aware = np.array([_has_offset(value) for value in text], dtype=bool)
    parsed = np.full(len(text), -1, dtype=np.int64)
    parsed[aware] = _to_micros(text[aware], name, None, aware, reasons)
    naive = ~aware & ~missing
    if naive.any():
        if timezone:
            parsed[naive] = _to_micros(text[naive], name, timezone, naive, reasons)
        else:
            unreadable = np.zeros(len(text), dtype=bool)
            unreadable[naive] = _to_micros(text[naive], name, "UTC", naive, Reasons(len(text))) == UNREADABLE
            reasons.add(unreadable, f"{name} is not an ISO 8601 time such as 2026-03-01T06:00:00Z")
            reasons.add(naive, f"{name} has no offset from UTC: set schema.timezone to the zone it is in")
    return np.where(parsed == UNREADABLE, 1_700_000_000 * SECOND, parsed)


UNREADABLE = np.iinfo(np.int64).min


def _has_offset(text: str) -> bool:
    return len(text) > 10 and OFFSET.search(text[10:]) is not None


def _to_micros(texts_: Objects, name: str, zone: str | None, where: Bools, reasons: Reasons) -> Ints:
    import pandas as pd

    if not len(texts_):
        return np.empty(0, dtype=np.int64)
    series = pd.Series(texts_, dtype=object)
    times = pd.to_datetime(series, format="ISO8601", utc=zone is None, errors="coerce")
    unreadable = times.isna().to_numpy()
    if zone is not None:
        times = times.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    absent = times.isna().to_numpy()
    _tell(where, unreadable, f"{name} is not an ISO 8601 time such as 2026-03-01T06:00:00Z", reasons)
    _tell(
        where, absent, f"{name} is an hour that the clocks' change skips or repeats: add its offset", reasons
    )
    micros = np.asarray(times.dt.tz_convert("UTC").dt.as_unit("us").astype("int64"), dtype=np.int64)
    return np.where(absent, UNREADABLE, micros)


def _tell(where: Bools, wrong: Bools, reason: str, reasons: Reasons) -> None:
    whole = np.zeros(len(where), dtype=bool)
    whole[where] = wrong
    reasons.add(whole, reason)


def answers(column: Objects, name: str, reasons: Reasons) -> Floats:
    """1 for fraud, 0 for genuine, NaN for no answer."""
    words = [None if value is None else str(value).strip().lower() for value in column]
    parsed = np.array([1.0 if word in TRUE else 0.0 if word in FALSE else np.nan for word in words])
    given = np.array([word is not None for word in words], dtype=bool)
    reasons.add(given & np.isnan(parsed), f"{name} is neither fraud nor genuine: write 1 or 0")
    return parsed


def currencies(column: Objects) -> Objects:
    """Currency codes in capitals, blanks around them gone."""
    codes = np.empty(len(column), dtype=object)
    codes[:] = ["" if value is None else str(value).strip().upper() for value in column]
    return codes


def chosen(columns: Sequence[str]) -> list[str]:
    """Configured names, each once, the empty ones left out."""
    return list(dict.fromkeys(name for name in columns if name))
