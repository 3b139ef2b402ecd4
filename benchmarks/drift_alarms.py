"""
Drift alarms: 52 simulated weeks without drift, and how soon drift of listed sizes is found.

    python -m benchmarks.drift_alarms [--weeks N] [--seeds N] [--per-day N]

A seeded world of 31 columns that is stationary and still not easy: weekdays differ, customers differ and come back, days
have moods that last (an autoregression), tails are heavy, values are missing. A reference of 12 weeks calibrates the alarms
to `drift.false_alarms_per_week`; then each day is a window, as in `fraudwatch run`. A week with any alarm at all without
drift counts as false. Then single changes are injected on many days, and the delay is counted until *any* alarm rises;
changes without a bound are as small as the days themselves differ, and show what is found late or not at all.
"""

import argparse
import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.drift.reference import AlarmTerms, DriftFinding, DriftReference, Level
from detectors.drift.reference_fit import LevelHistory, ReferenceSample, ScoredRows, fit_drift_reference
from detectors.drift.reference_windows import ReferenceWindows
from pipeline.config.sections import DriftSection

Floats = NDArray[np.float64]
REFERENCE_DAYS, RECENT_DAYS = 84, 7
RATE = 0.1  # windows with a false alarm, a week: the default of drift.false_alarms_per_week
CUSTOMERS = 3_000
NUMBERS = 27
CATEGORIES = ("channel", "country", "status")
NAMES = ("amount", *(f"number_{place}" for place in range(NUMBERS)), *CATEGORIES)
WEEKDAY = (1.0, 0.95, 1.0, 1.05, 1.2, 1.4, 0.7)
MOOD, MEMORY = 0.03, 0.6  # of a day: standard deviation in those of the column, and autocorrelation
SIGNIFICANT = (
    0.01  # the run fails when so many false alarms or more had at most this chance at the stated rate
)


@dataclass(frozen=True)
class Day:
    """A window: columns (n, 31), scores, and which rows are flagged."""

    columns: Floats
    score: Floats
    flagged: NDArray[np.bool_]


class World:
    """Days that can be made again, each from the seed and its number alone."""

    def __init__(self, seed: int, per_day: int, days: int) -> None:
        rng = np.random.default_rng(seed)
        self.seed, self.per_day = seed, per_day
        self.level = rng.normal(size=(CUSTOMERS, NUMBERS + 1))
        self.active = rng.gamma(0.8, size=CUSTOMERS)
        self.loading = rng.uniform(0.2, 0.9, NUMBERS + 1)  # how much of a column is the customer
        self.weekly = rng.normal(scale=0.05, size=(7, NUMBERS + 1))
        shocks = rng.normal(scale=MOOD * np.sqrt(1 - MEMORY**2), size=(days, NUMBERS + 2))
        self.mood = np.zeros((days, NUMBERS + 2))
        for day in range(1, days):
            self.mood[day] = MEMORY * self.mood[day - 1] + shocks[day]

    def day(self, number: int, change: "Change | None" = None) -> Day:
        """One day, changed or not."""
        rng = np.random.default_rng((self.seed, number))
        volume = self.per_day * WEEKDAY[number % 7] * np.exp(self.mood[number, -1])
        n = rng.poisson(volume * (change.volume if change else 1.0))
        who = rng.choice(CUSTOMERS, n, p=self.active / self.active.sum())
        common = self.loading * self.level[who] + np.sqrt(1 - self.loading**2) * rng.normal(
            size=(n, NUMBERS + 1)
        )
        if change is not None and change.uncouple:
            common[:, 2] = rng.permutation(common[:, 2])
        z = common + self.weekly[number % 7] + self.mood[number, :-1]
        z[:, 2] = 0.9 * z[:, 1] + np.sqrt(1 - 0.81) * z[:, 2] if not (change and change.uncouple) else z[:, 2]
        columns = np.empty((n, len(NAMES)))
        columns[:, 0] = np.round(np.exp(3 + z[:, 0]), 2)
        for place in range(1, NUMBERS + 1):
            columns[:, place] = _shaped(place, z[:, place], rng)
        columns[:, NUMBERS + 1 :] = _categories(rng, n)
        score = 1 / (1 + np.exp(4 - z[:, 0] - 0.5 * z[:, 3]))
        day = Day(columns, score, score > 0.27)
        return change.apply(rng, day) if change else day


def _shaped(place: int, z: Floats, rng: np.random.Generator) -> Floats:
    """A third as they are, a third counts, the rest heavy-tailed; every fourth with gaps."""
    values = (z, np.floor(np.exp(np.clip(z, -3, 3))), np.exp(1.5 * z))[place % 3]
    if place % 4 == 0:
        values = np.where(rng.random(len(z)) < 0.05 * (place % 5), np.nan, values)
    return values


def _categories(rng: np.random.Generator, n: int) -> Floats:
    shares = ([0.5, 0.3, 0.15, 0.05], np.arange(30, 0, -1) ** 2.0, [0.93, 0.05, 0.02])
    return np.stack([rng.choice(len(p), n, p=np.asarray(p) / np.sum(p)) for p in shares], axis=1)


@dataclass(frozen=True)
class Change:
    """A drift: what it is called, how many days it may take to be found (None: it may stay unseen), and what it does."""

    name: str
    days_max: int | None
    apply: Callable[[np.random.Generator, Day], Day] = lambda _rng, day: day
    volume: float = 1.0
    uncouple: bool = False


def _scaled(factor: float) -> Callable[[np.random.Generator, Day], Day]:
    return lambda _, day: _with(day, 0, day.columns[:, 0] * factor)


def _missing(share: float) -> Callable[[np.random.Generator, Day], Day]:
    return lambda rng, day: _with(
        day, 2, np.where(rng.random(len(day.score)) < share, np.nan, day.columns[:, 2])
    )


def _category(value: int, share: float) -> Callable[[np.random.Generator, Day], Day]:
    column = NUMBERS + 1
    return lambda rng, day: _with(
        day, column, np.where(rng.random(len(day.score)) < share, value, day.columns[:, column])
    )


def _flags(share: float) -> Callable[[np.random.Generator, Day], Day]:
    return lambda rng, day: replace(day, flagged=day.flagged | (rng.random(len(day.score)) < share))


def _with(day: Day, column: int, values: Floats) -> Day:
    columns = day.columns.copy()
    columns[:, column] = values
    return replace(day, columns=columns)


CHANGES = (
    Change("amounts 5 % higher", None, _scaled(1.05)),
    Change("amounts 20 % higher", None, _scaled(1.2)),
    Change("amounts 50 % higher", 3, _scaled(1.5)),
    Change("0.2 % of a column missing", None, _missing(0.002)),
    Change("2 % of a column missing", 1, _missing(0.02)),
    Change("a new category in 1 % of payments", 1, _category(9, 0.01)),
    Change("a category gains 5 points", None, _category(3, 0.05)),
    Change("a category gains 15 points", 1, _category(3, 0.15)),
    Change("30 % fewer payments", 1, volume=0.7),
    Change("60 % fewer payments", 1, volume=0.4),
    Change("flags for 2 % more of all payments", 1, _flags(0.02)),
    Change("two columns no longer move together", None, uncouple=True),
)


def watch_of(days: Sequence[Day], recent: Sequence[Day]) -> DriftReference:
    """A watch of these days, as a training fits it."""
    rows = [len(day.score) for day in days]
    grid = ReferenceWindows(
        cell=np.repeat(np.arange(len(days)), rows),
        season=[f"w{number % 7}" for number in range(len(days))],
        special=[False] * len(days),
    )
    subject = ReferenceSample(
        names=NAMES,
        categorical=CATEGORIES,
        columns=np.concatenate([day.columns for day in days]),
        scored=_scored(days),
        recent=_scored(recent),
        recent_cells=len(recent),
        channels=("classification",),
        reason_names=("AMOUNT", "VELOCITY", "NEW_PAIR"),
        classifier_columns=tuple(range(len(NAMES))),
        muted={},
    )
    metrics = DriftSection().metrics
    volume = LevelHistory("volume", "payments", np.array(rows, dtype=float), float(np.median(rows)))
    return fit_drift_reference(subject, grid, [volume], metrics, min_rows=200, min_effect=0.05)


def _scored(days: Sequence[Day]) -> ScoredRows:
    flagged = np.concatenate([day.flagged for day in days])
    columns = np.concatenate([day.columns for day in days])
    return ScoredRows(
        np.concatenate([day.score for day in days]),
        np.where(flagged, 0, -1),
        _reasons(columns[flagged]),
        np.flatnonzero(flagged),
    )


def _reasons(columns: Floats) -> NDArray[np.int64]:
    return np.where(columns[:, 0] > 60, 0, np.where(columns[:, 3] > 0.5, 1, 2)).astype(np.int64)


def alarms(watch: DriftReference, day: Day, number: int) -> list[DriftFinding]:
    """What alarms on a day."""
    seen = watch.bin_window(
        day.columns, day.score, np.where(day.flagged, 0, -1), _reasons(day.columns[day.flagged])
    )
    terms = AlarmTerms(RATE)
    volume = Level("volume", "payments", float(len(day.score)), len(day.score), f"w{number % 7}")
    found = [*watch.compare_levels([volume], terms), *watch.compare_window(seen, terms)]
    return [one for one in found if one.alarm]


def quiet_weeks(seed: int, weeks: int, per_day: int) -> tuple[World, DriftReference, list[int]]:
    """A world, its watch, and how many windows alarmed in each week without drift."""
    world = World(seed, per_day, REFERENCE_DAYS + 7 * weeks)
    days = [world.day(number) for number in range(REFERENCE_DAYS)]
    watch = watch_of(days, days[-RECENT_DAYS:])
    first = range(REFERENCE_DAYS, REFERENCE_DAYS + 7 * weeks, 7)
    false = [sum(bool(alarms(watch, world.day(day), day)) for day in range(week, week + 7)) for week in first]
    return world, watch, false


def delays(
    world: World, watch: DriftReference, change: Change, starts: Sequence[int], horizon: int
) -> list[int | None]:
    """Windows until the first alarm, of each start; None where there is none within the horizon."""
    return [
        next(
            (
                place + 1
                for place in range(horizon)
                if alarms(watch, world.day(start + place, change), start + place)
            ),
            None,
        )
        for start in starts
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables; 1 if the rate or a delay is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--seeds", type=int, default=3, help="worlds")
    parser.add_argument("--per-day", type=int, default=3_000, help="payments")
    parser.add_argument("--starts", type=int, default=12, help="days a change begins on, each world")
    given = parser.parse_args(arguments)
    failed = False
    worlds = []
    print(
        f"{given.weeks} weeks without drift, {len(NAMES)} columns, {given.per_day:,} payments a day, rate {RATE} a week"
    )
    for seed in range(1, given.seeds + 1):
        world, watch, false = quiet_weeks(seed, given.weeks, given.per_day)
        worlds.append((world, watch))
        print(f"  world {seed}: {sum(false)} windows with a false alarm, {sum(false) / given.weeks:.3f} a week (bar {watch.calibration.threshold(RATE):.2f} scales)", flush=True)  # fmt: skip
        failed |= too_many(sum(false), RATE * given.weeks)
    print("\nchange                                   found within   asked   median days   not found")
    starts = [REFERENCE_DAYS + int(day) for day in np.linspace(0, 7 * given.weeks - 15, given.starts)]
    for change in CHANGES:
        found = [d for world, watch in worlds for d in delays(world, watch, change, starts, 14)]
        known = sorted(day for day in found if day is not None)
        missed = len(found) - len(known)
        median = f"{np.median(known):.0f}" if known else "–"
        slowest = f"{known[-1]} d" if known else "–"
        asked = f"{change.days_max} d" if change.days_max else "–"
        print(f"{change.name:42}{slowest:>11}{asked:>8}{median:>14}{missed:>7} of {len(found)}", flush=True)
        failed |= change.days_max is not None and (missed > 0 or known[-1] > change.days_max)
    return int(failed)


def too_many(found: int, expected: float) -> bool:
    """Whether so many are more than chance explains at the stated rate."""
    from scipy.stats import poisson

    return bool(poisson.sf(found - 1, expected) < SIGNIFICANT)


if __name__ == "__main__":
    sys.exit(main())
