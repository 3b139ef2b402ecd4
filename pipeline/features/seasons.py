"""What the time of a window is called: its weekday, its hour where it is shorter than a day, or a holiday."""

from detectors.drift.reference import HOLIDAY
from pipeline.config.config import Config
from pipeline.features.holidays import is_holiday, local
from storage.frames import DAY, Ints


def season_of(start: int, config: Config) -> str:
    """Weekday and, for windows shorter than a day, hour in which a window begins: "w0" is a Monday, "w0h09" its 9 o'clock."""
    if config.schedule.window > DAY:
        return ""
    begin = local(start, config.schedule.timezone)
    hour = f"h{begin.hour:02d}" if config.schedule.window < DAY else ""
    return f"w{begin.weekday()}{hour}"


def on_holiday(starts: Ints, config: Config) -> list[bool]:
    """Whether windows that begin at these instants lie on a holiday; one of several days never does."""
    if config.schedule.window > DAY:
        return [False] * len(starts)
    found = is_holiday(starts, config.calendar.holidays, config.schedule.timezone)
    return [bool(one) for one in found]


__all__ = ["HOLIDAY", "on_holiday", "season_of"]
