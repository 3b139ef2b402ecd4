"""The grid of windows follows the calendar, not the moment of a run."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from pipeline.schedule import grid
from storage.frames import DAY, HOUR, SECOND


def us(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * SECOND


def test_daily_windows_cover_the_span_once_and_start_at_local_midnight() -> None:
    zone = "Europe/Berlin"
    found = grid.windows(DAY, zone, us("2026-03-28", zone), us("2026-03-31", zone))
    assert [(b - a) // HOUR for a, b in found] == [24, 23, 24]  # clocks go forward on 29 March
    assert found[0][0] == us("2026-03-28", zone)


def test_windows_are_cut_to_the_span_asked_for() -> None:
    found = grid.windows(DAY, "UTC", us("2026-01-01T06:00"), us("2026-01-02T18:00"))
    assert found == [(us("2026-01-01T06:00"), us("2026-01-02")), (us("2026-01-02"), us("2026-01-02T18:00"))]


def test_weekly_dates_are_mondays_whatever_the_start() -> None:
    for start in ("2018-07-01", "2018-07-02", "2018-07-05"):
        dates = grid.dates_inside(7 * DAY, "UTC", us(start), us("2018-07-17"))
        assert set(dates) <= {us("2018-07-02"), us("2018-07-09"), us("2018-07-16")}
        assert us("2018-07-09") in dates
    assert grid.floor(7 * DAY, "UTC", us("2018-07-01")) == us("2018-06-25")


@pytest.mark.parametrize("step", [HOUR, 6 * HOUR])
def test_windows_of_hours_do_not_see_a_change_of_clocks(step: int) -> None:
    zone = "Europe/Berlin"
    found = grid.windows(step, zone, us("2026-10-24"), us("2026-10-27"))
    assert {b - a for a, b in found} == {step}
    assert found[0][0] == us("2026-10-24")
    assert found[-1][1] == us("2026-10-27")


def test_an_empty_span_has_no_window() -> None:
    assert grid.windows(DAY, "UTC", us("2026-01-01"), us("2026-01-01")) == []
