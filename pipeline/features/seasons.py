"""The season of a window, that drift compares it with: its weekday, its hour if shorter than a day, or a holiday."""

from detectors.drift.reference import HOLIDAY
from pipeline.config.config import Config
from pipeline.features.holidays import is_holiday, local
from storage.frames import DAY, Ints


def season_of(start: int, config: Config) -> str:
    """Weekday in which a window begins and, for windows shorter than a day, hour: "w0" is Monday, "w0h09" Monday 9 o'clock."""
    if config.schedule.window > DAY:
        return ""
    begin = local(start, config.schedule.timezone)
    hour = f"h{begin.hour:02d}" if config.schedule.window < DAY else ""
    return f"w{begin.weekday()}{hour}"


def on_holiday(starts: Ints, config: Config) -> list[bool]:
    """Whether windows that begin at these instants lie on a holiday; a window of several days never does."""
    if config.schedule.window > DAY:
        return [False] * len(starts)
    holidays = is_holiday(starts, config.calendar.holidays, config.schedule.timezone)
    return [bool(holiday) for holiday in holidays]


__all__ = ["HOLIDAY", "on_holiday", "season_of"]
