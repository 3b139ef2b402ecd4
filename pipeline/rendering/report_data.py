"""What is read for a report, each once, and the words that several sections share."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.config.config import Config
from pipeline.rendering.text import moment, text_of
from storage.database.database import Store
from storage.frames import DAY
from storage.ingest import history
from storage.queries import listings, report_counts
from storage.queries.report_counts import Row, Scope

CHOICES_MAX = 1000
BARS_MAX = 40  # of a chart over time; longer spans are drawn by the week, then by four


@dataclass(frozen=True)
class Facts:
    """A database, and the span that is told of."""

    store: Store
    config: Config
    scope: Scope

    @classmethod
    def of(cls, store: Store, config: Config, policy: str, start: int, end: int, as_of: int) -> "Facts":
        """Labels and silence as they were known at `as_of`, in µs."""
        complete = int(history.completeness(store).at(np.array([as_of], dtype=np.int64))[0])
        mature = max(complete - config.labels.maturity, 0)
        return cls(store, config, Scope(policy, start, end, as_of, mature, config.labels.never_by_silence))

    @cached_property
    def daily(self) -> list[Row]:
        """Scores by day, strategy, channel, flag, label and maturity."""
        return report_counts.daily(self.store, self.scope)

    @cached_property
    def score_bins(self) -> list[Row]:
        """Scores by strategy and bin."""
        return report_counts.score_bins(self.store, self.scope)

    @cached_property
    def probability_bins(self) -> list[Row]:
        """Probabilities by strategy and bin."""
        return report_counts.probability_bins(self.store, self.scope)

    @cached_property
    def choices(self) -> list[Row]:
        """Choices made before the end of the span, the oldest first, one a training date."""
        rows = listings.choices(self.store, self.scope.policy, limit=CHOICES_MAX)
        end = text_of(self.scope.end)
        once = {row["training_date"]: row for row in reversed(rows) if row["training_date"][:19] < end}
        return [once[date] for date in sorted(once)]

    @property
    def currency(self) -> str:
        """What money is told in."""
        return self.config.schema_.base_currency

    @property
    def span(self) -> str:
        """The span in words."""
        return f"{text_of(self.scope.start)[:16]} to {text_of(self.scope.end)[:16]} UTC"

    @property
    def matures(self) -> str:
        """Up to where silence is read as genuine, in words."""
        return text_of(self.scope.mature_until)[:10]

    @cached_property
    def step(self) -> int:
        """Days of one bar of a chart over time: 1, 7 or 28."""
        days = (self.scope.end - self.scope.start) / DAY
        return 1 if days <= BARS_MAX else 7 if days <= 7 * BARS_MAX else 28

    def bar(self, day: str) -> tuple[str, str]:
        """First and last moment of the bar that a day belongs to, as a drawing reads them; a gap parts two bars."""
        first = self.scope.start // DAY
        at = int((np.datetime64(day, "D") - np.datetime64(0, "D")).astype(np.int64))
        begin = first + (at - first) // self.step * self.step
        return moment(begin * DAY), moment(int((begin + self.step * 0.92) * DAY))

    @property
    def bars(self) -> str:
        """What one bar covers."""
        return {1: "a bar is a day", 7: "a bar is a week", 28: "a bar is four weeks"}[self.step]


def total(rows: Iterable[Row], name: str, **wanted: Any) -> float:
    """Sum of a column over the rows with these values."""
    return float(sum(row[name] for row in rows if all(row[key] == value for key, value in wanted.items())))
