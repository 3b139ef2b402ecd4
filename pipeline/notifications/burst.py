"""
Bursts: days with so many new cases that people look for what they have in common instead of answering one by one.

A first run over a long queue brings many cases, too, but not on one day.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from detectors.evaluation.cases import CaseRows
from pipeline.config.config import Config
from pipeline.hashing import display_form
from pipeline.sanitize import DISPLAY_END
from storage.database.column_types import as_micros
from storage.database.views import field_name
from storage.frames import DAY

BUDGETS = 3  # daily budgets of cases that one day may have
ENTITIES_MAX = 10  # that a message names, most flags first
LAST_CHARACTERS = 4  # of a value that has no display form


@dataclass(frozen=True)
class Burst:
    """A burst of flags; `entities` are in their display form, with their number of flags."""

    cases: int  # of all flags
    cases_of_day: int  # of the busiest day
    day: str
    entities: Sequence[tuple[str, int]]
    command: str  # lists the flags


def find_burst(rows: Sequence[Mapping[str, Any]], config: Config) -> Burst | None:
    """What to say of flags of which more than `BUDGETS` times `alerts.per_day` new cases fall on one day, UTC; else None."""
    entity = config.case_entity
    owners = [row[field_name(entity)] if entity else None for row in rows]
    codes = np.unique([f"of {o}" if o else f"{n}" for n, o in enumerate(owners)], return_inverse=True)[1]
    time = np.array([as_micros(row["event_time"]) for row in rows], dtype=np.int64)
    openers = CaseRows(codes, time).openers(np.ones(len(rows), dtype=bool))
    days, cases = np.unique(time[openers] // DAY, return_counts=True)
    busiest = int(np.argmax(cases))
    if cases[busiest] <= BUDGETS * config.alerts.per_day:
        return None
    most = Counter(owner for owner in owners if owner).most_common(ENTITIES_MAX)
    return Burst(
        cases=len(time[openers]),
        cases_of_day=int(cases[busiest]),
        day=str(np.datetime64(int(days[busiest]), "D")),
        entities=[(_displayed(owner), flags) for owner, flags in most],
        command=_command([row["event_time"] for row in rows]),
    )


def _displayed(value: str) -> str:
    """The display form of an entity, or the end of its name."""
    form = value.partition(DISPLAY_END)[0] if DISPLAY_END in value else display_form(value)[0]
    return form or f"…{value[-min(LAST_CHARACTERS, len(value) // 2) :] if len(value) > 1 else ''}"


def _command(times: Sequence[Any]) -> str:
    first, end = min(times), max(times) + timedelta(seconds=1)
    span = f"--since {first:%Y-%m-%dT%H:%M:%S}+00:00 --until {end:%Y-%m-%dT%H:%M:%S}+00:00"
    return f"fraudwatch flags list --status open {span}"
