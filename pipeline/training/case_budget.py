"""The review budget of a training: how many cases a day thresholds are set for."""

from datetime import date, timedelta
from math import ceil

from detectors.base import Strategy
from detectors.model.auto_detector import NOVELTY
from pipeline.config.config import Config
from pipeline.features.holidays import is_listed, local

WEEK, SATURDAY = 7, 5  # days; number of a day of the week, from Monday as 0


def cases_per_day(config: Config, until: int, days: float) -> float:
    """
    Cases a calendar day, on average over the whole weeks up to `until` (µs) that hold the last `days` days.

    With `alerts.per = "working_day"` a week has a budget for each of its working days only, at least for one. Whole weeks, so
    that a short holdout on a weekend still has a budget.
    """
    if config.alerts.per == "day":
        return float(config.alerts.per_day)
    weeks = max(1, ceil(days / WEEK))
    last = local(until - 1, config.schedule.timezone).date()
    span = [last - timedelta(days=back) for back in range(weeks * WEEK)]
    working = sum(_is_working_day(day, frozenset(config.calendar.holidays)) for day in span)
    return config.alerts.per_day * max(working, 1) / (weeks * WEEK)


def without_muted_channels(
    per_day: float, share: float, strategy: Strategy, muted: frozenset[str]
) -> tuple[float, float]:
    """
    Cases a day and the share of the outlier detector, if flags of some channels are muted and use no budget.

    The other channel then has the whole budget, and the muted one still flags as much as before.
    """
    main, own = per_day * (1 - share), per_day * share
    if strategy == "outlier" or not muted & {strategy, NOVELTY} or muted >= {strategy, NOVELTY}:
        return per_day, share
    if NOVELTY in muted:
        main = per_day
    else:
        own = per_day
    return main + own, own / (main + own)


def _is_working_day(day: date, holidays: frozenset[str]) -> bool:
    return day.weekday() < SATURDAY and not is_listed(day.isoformat(), holidays)
