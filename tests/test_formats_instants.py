"""One grammar for instants: what is a time, the same for every reader, whatever else the column holds."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.options import InstantParam, to_instant
from pipeline.ingest.formats.instants import parse_instant, parse_instants

SIX = int(datetime(2026, 3, 1, 6, tzinfo=UTC).timestamp()) * 1_000_000
MINUTE = 60_000_000
HOUR = 60 * MINUTE

TIMES = [
    # as written, µs since 2026-03-01T06:00Z where the zone is UTC
    ("2026-03-01", -6 * HOUR),  # a date means its midnight
    ("2026-03-01T06", 0),
    ("2026-03-01 06", 0),
    ("2026-03-01T06Z", 0),
    ("2026-03-01T06+01", -HOUR),
    ("2026-03-01T06-0130", 90 * MINUTE),
    ("2026-03-01T06:30", 30 * MINUTE),
    ("2026-03-01t06:00z", 0),
    ("2026-03-01 06:00:00 +01:00", -HOUR),
    ("2026-03-01T06:00:00.5", 500_000),
    ("2026-03-01T06:00:00,5Z", 500_000),
    ("2026-03-01T06:00:00.123456789Z", 123_456),  # digits finer than 1 µs are dropped
    ("  2026-03-01T06:00  ", 0),
]

NO_TIMES = [
    "", "yesterday", "1772344800", "20260301", "20260301T060000", "2026-W09-7", "2026-060", "2026-03", "2026-3-1",
    "2026-02-30", "2026-03-01T", "2026-03-01T6", "2026-03-01T06:", "2026-03-01T0600", "2026-03-01T24:00",
    "2026-03-01T06:00:60", "2026-03-01T06:00:00.", "2026-03-01T06:00:00.1234567890", "2026-03-01Z",
    "2026-03-01T06:00+24", "2026-03-01T06:00+1:00", "2026-03-01T06:00 UTC", "2026-03-01  06:00", "+2026-03-01",
    "2026-03-01T06:00  Z", "2026-00-01", "2026-13-01", "2026-03-00", "2026-03-01T06:60", "2026-03-01T06:00+01:60",
]  # fmt: skip


@pytest.mark.parametrize(("text", "offset"), TIMES)
def test_what_is_a_time(text: str, offset: int) -> None:
    assert parse_instant(text, "UTC") == SIX + offset
    assert to_instant(InstantParam().convert(text, None, None), "UTC") == SIX + offset


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time(text: str) -> None:
    assert parse_instant(text, "UTC") is None


def digits(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=least, max_size=most)


nearly_times = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["2026-03-01", "2026-02-30", "0000-01-01", "9999-12-31", "2026-3-1", "20260301"]),
        st.sampled_from(["", "T", "t", " ", "  "]),
        st.sampled_from(["", "06", "6", "23", "24", "0600"]),
        st.sampled_from(["", ":00", ":59", ":60", ":0", ":"]),
        st.sampled_from(["", ":00", ":59", ":60", ":0"]),
        st.one_of(st.just(""), st.builds("{}{}".format, st.sampled_from(".,"), digits(0, 10))),
        st.sampled_from(["", " "]),
        st.sampled_from(["", "Z", "z", "+01", "-23", "+24", "+0100", "+01:00", "-01:60", "+1", " UTC"]),
    ),
)


@given(
    nearly_times,
    st.lists(st.one_of(st.none(), nearly_times), max_size=3),
    st.sampled_from(["", "UTC", "Europe/Paris"]),
)
def test_the_fate_of_a_time_does_not_depend_on_its_neighbours(
    text: str, others: list[str | None], zone: str
) -> None:
    """Alone Arrow may parse it; beside a time of another form, or none, the regular expression does."""

    def fates(values: list[str | None]) -> list[tuple[object, ...]]:
        found = parse_instants(
            pa.array([value and (value.strip() or None) for value in values], pa.string()), zone
        )
        masks = (found.missing, found.unreadable, found.naive, found.skipped, found.repeated)
        return list(zip(found.micros.tolist(), *(mask.tolist() for mask in masks), strict=True))

    (alone,) = fates([text])
    for column in (
        [text, *others],
        [*others, text],
        [text, "no time"],
        [text, "2026-03-01"],
        [text, "2026-03-01T06Z"],
    ):
        assert fates(column)[column.index(text)] == alone
