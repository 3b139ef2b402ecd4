"""The record of costs reads back what it wrote, and the guard names what became dearer."""

import pytest

from benchmarks.performance import RECORD, Cost, dearer, page, recorded

FITS = Cost(
    "backfill: fits", 80.0, "the whole notebook", 100.0, "python -m benchmarks.backfill handbook.parquet"
)
KERNEL = Cost(
    "a score of one row by an isolation forest", 0.00002, "PyOD", 0.005, "python -m benchmarks.detectors"
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert recorded(page([FITS, KERNEL])) == {FITS.stage: 0.8, KERNEL.stage: 0.0}


@pytest.mark.parametrize(
    ("stage", "before", "seconds", "named"),
    [
        ("backfill: fits", 0.8, 95.0, False),
        ("backfill: fits", 0.8, 97.0, True),
        ("backfill: writes", 0.01, 3.0, False),  # noise
        ("backfill: writes", 0.01, 4.0, True),
        ("backfill: new", None, 97.0, False),
    ],
)
def test_the_guard_names_what_is_a_fifth_dearer(
    stage: str, before: float | None, seconds: float, named: bool
) -> None:
    found = dearer({} if before is None else {stage: before}, [Cost(stage, seconds, "it", 100.0, "command")])
    assert found == (
        [f"{stage} costs {seconds / 100:.2f} of it, {before:.2f} when it was recorded"] if named else []
    )


def test_the_record_of_the_documentation_holds_the_stages_of_a_backfill() -> None:
    assert {"backfill: fits", "backfill: all of it"} <= set(recorded(RECORD.read_text(encoding="utf-8")))
