"""
The table of features: the name of each column, how it is computed, and how a reason calls it.

A line of a table is a raw column; its order is that of the raw matrix. A line with a code gives a feature of the
same values; counts without a code become a rate (`WINDOW_RATES`). To add a feature, add a line, the function it
names and, for a new code, its sentence (`pipeline.scoring.reason_text`).

What row t may use is decided by `pipeline.features.entity_windows` and `label_history`: the functions below only combine
arrays of k query rows elementwise, so that a row's values do not depend on the rows computed with it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.features.amount_windows import LOG_UNITS, RATIO_PRIOR, AmountWindow
from pipeline.features.entity_windows import EntityIndex, QueryRows
from pipeline.features.fraud_history import KnownFrauds
from pipeline.features.holidays import is_holiday
from pipeline.features.late_arrivals import LateArrivals
from storage.frames import DAY, HOUR, MONEY, SECOND, WEEK, Ints

Floats = NDArray[np.float64]
Rows = TypeVar("Rows")

EPOCH_WEEKDAY, SATURDAY = 3, 5  # 1970-01-01 was a Thursday; weeks begin on Monday
# Codes of the columns that payments which a merchant initiated, such as recurring and retried ones, stay out of: they do not
# count in those of other payments, and have those of a payment without a past themselves. Amounts and labels keep them.
WITHOUT_MERCHANT_INITIATED = frozenset({"VELOCITY", "RECENT_ACTIVITY", "NEW_PAIR"})


@dataclass(frozen=True)
class Column(Generic[Rows]):
    """
    A raw column.

    Attributes
    ----------
    name
        Without the entity and window that `pipeline.features.catalogue` adds.
    values
        Computes the column, (k,), from k query rows.
    code
        The kind of fact, as reasons name it; stable. A column without one is no feature of its own.
    missing
        The value of a row that lacks the entity; None is as long ago as features look back, in seconds.
    usual
        The column of the same entity and window that holds the usual value.
    label_free
        False if it is computed from labels.
    period
        Of a column of the calendar: after how long it repeats, µs.
    """

    name: str
    values: Callable[[Rows], NDArray[Any]]
    code: str = ""
    missing: float | None = 0.0
    usual: str = ""
    label_free: bool = True
    period: int | None = None


@dataclass(frozen=True)
class RateColumn:
    """A feature that the encoder makes of two columns of an entity and window: one count over another."""

    name: str
    positives: str
    total: str
    code: str


# ── of the payment itself ──


@dataclass(frozen=True)
class PaymentRows:
    """The query rows, (k,) each, and what their calendar is."""

    amount: Ints  # 1/10,000 of the base currency
    logs: Ints  # integer log-amounts
    event_time: Ints  # µs
    night: tuple[int, int]  # first and last hour
    holidays: Sequence[str]
    timezone: str  # of the holidays

    @cached_property
    def hour(self) -> Ints:
        """Hour of the day, UTC."""
        return self.event_time // HOUR % 24

    @cached_property
    def weekday(self) -> Ints:
        """Day of the week, UTC; Monday is 0."""
        return (self.event_time // DAY + EPOCH_WEEKDAY) % 7


def _is_night(rows: PaymentRows) -> NDArray[np.bool_]:
    first, last = rows.night
    return (rows.hour >= first) & (rows.hour <= last)


def _cycle(length: int) -> tuple[Floats, Floats]:
    """Sine and cosine around a cycle, to 12 digits: the same on every machine."""
    turns = [math.tau * step / length for step in range(length)]
    return _rounded(math.sin, turns), _rounded(math.cos, turns)


def _rounded(wave: Callable[[float], float], turns: Sequence[float]) -> Floats:
    return np.array([round(wave(turn), 12) + 0.0 for turn in turns])


HOUR_SIN, HOUR_COS = _cycle(24)
WEEKDAY_SIN, WEEKDAY_COS = _cycle(7)

PAYMENT_COLUMNS: tuple[Column[PaymentRows], ...] = (
    Column("amount", lambda rows: rows.amount / MONEY, "AMOUNT"),
    Column("log_amount", lambda rows: rows.logs / LOG_UNITS, "AMOUNT"),
    Column("hour_sin", lambda rows: HOUR_SIN[rows.hour], "TIME_OF_DAY", period=DAY),
    Column("hour_cos", lambda rows: HOUR_COS[rows.hour], "TIME_OF_DAY", period=DAY),
    Column("weekday_sin", lambda rows: WEEKDAY_SIN[rows.weekday], "TIME_OF_DAY", period=WEEK),
    Column("weekday_cos", lambda rows: WEEKDAY_COS[rows.weekday], "TIME_OF_DAY", period=WEEK),
    Column("weekend", lambda rows: rows.weekday >= SATURDAY, "TIME_OF_DAY", period=WEEK),
    Column("night", _is_night, "TIME_OF_DAY", period=DAY),
)
# Only with holidays, so that models that were trained without them still get the columns they know.
HOLIDAY_COLUMNS: tuple[Column[PaymentRows], ...] = (
    Column(
        "is_holiday",
        lambda rows: is_holiday(rows.event_time, rows.holidays, rows.timezone),
        "TIME_OF_DAY",
        period=WEEK,
    ),
)


# ── of the payment and one of the user's numeric fields ──


@dataclass(frozen=True)
class FieldRows:
    """The query rows' amount and numeric field, (k,) each."""

    amount: Ints  # 1/10,000 of the base currency
    field: Floats  # NaN where missing

    @property
    def ratio(self) -> Floats:
        """The amount over the size of the field, each with `RATIO_PRIOR` added; NaN where the field is missing or infinite."""
        size = np.where(np.isfinite(self.field), np.abs(self.field), np.nan)
        ratio: Floats = (self.amount / MONEY + RATIO_PRIOR) / (size + RATIO_PRIOR)
        return ratio


# Trees cut one column at a time, so that "the amount is the whole balance" would take them many cuts and many frauds. Equal
# numbers give exactly 1, whatever their size.
FIELD_COLUMNS: tuple[Column[FieldRows], ...] = (
    Column("amount_against", lambda rows: rows.ratio, "AMOUNT_AGAINST_FIELD"),
)


# ── of an entity over a window ──


@dataclass(frozen=True)
class WindowRows:
    """Query rows with what is known of an entity's window before each, (k,)."""

    amounts: AmountWindow
    matured_frauds: NDArray[Any]
    matured_known: Ints
    known_frauds: NDArray[Any]


# The first entity is the payer.
WINDOW_COLUMNS: tuple[Column[WindowRows], ...] = (
    Column("count", lambda rows: rows.amounts.count, "VELOCITY"),
    Column("amount_mean", lambda rows: rows.amounts.mean, "USUAL_AMOUNT", missing=math.nan),
    Column("amount_spread", lambda rows: rows.amounts.spread, "AMOUNT_SPREAD", missing=math.nan),
    Column(
        "amount_deviation", lambda rows: rows.amounts.deviation, "AMOUNT_ABOVE_USUAL", usual="amount_mean"
    ),
    Column(
        "amount_ratio",
        lambda rows: rows.amounts.ratio,
        "AMOUNT_AGAINST_MEAN",
        missing=1.0,
        usual="amount_mean",
    ),
    Column("matured_frauds", lambda rows: rows.matured_frauds, label_free=False),
    Column("matured_known", lambda rows: rows.matured_known, label_free=False),
    Column("known_frauds", lambda rows: rows.known_frauds, "KNOWN_FRAUD", label_free=False),
)
WINDOW_RATES = (RateColumn("fraud_rate", "matured_frauds", "matured_known", "FRAUD_HISTORY"),)


# ── of an entity, or of a pair of them, without a window ──


@dataclass(frozen=True)
class EntityRows:
    """A chunk of query rows with the past of their entity, or of their pair of entities."""

    index: EntityIndex
    queries: QueryRows
    late: LateArrivals | None
    lookback: int  # µs

    @cached_property
    def since_last(self) -> Ints:
        """µs since the last visible row, at most the lookback, (k,)."""
        last = self.index.last_visible(self.queries, self.late)
        event_time = self.index.timeline.event_time
        since = event_time[self.queries.position] - event_time[self.index.position[last]]
        return np.where(last >= 0, np.minimum(since, self.lookback), self.lookback)


ENTITY_COLUMNS: tuple[Column[EntityRows], ...] = (
    Column("seconds_since_last", lambda rows: rows.since_last / SECOND, "RECENT_ACTIVITY", missing=None),
)
# Back to `training.span`, further than windows reach.
FRAUD_COLUMNS: tuple[Column[KnownFrauds], ...] = (
    Column("known_frauds", lambda rows: rows.count, "KNOWN_FRAUD", label_free=False),
    Column("seconds_since_fraud", lambda rows: rows.since_last / SECOND, "RECENT_FRAUD", label_free=False),
)
# A row that lacks one of the two is never the first of a pair.
PAIR_COLUMNS: tuple[Column[EntityRows], ...] = (
    Column("first_seen", lambda rows: rows.since_last >= rows.lookback, "NEW_PAIR"),
)
