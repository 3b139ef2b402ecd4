"""The data of a report, each query run once, and texts that several sections share."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.config.config import Config
from pipeline.monitoring.drift_reference import calendar_features
from pipeline.monitoring.fraud_rates import RateMonths, monthly_rates
from pipeline.rendering.text import instant_text, iso_instant
from pipeline.schedule import grid
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY
from storage.ingest import history
from storage.models import comparisons
from storage.models.comparisons import StoredComparison
from storage.queries import report_counts
from storage.queries.choices import choice_page
from storage.queries.report_counts import CaseCounts, Row, Scope

CHOICES_MAX = 1000
MONTHS = 12  # whose rates are shown
DRIFT_FEATURES_MAX = 20  # rows of the heat map
BARS_MAX = 40  # of a chart over time; longer spans have a bar per week, then per four weeks


@dataclass(frozen=True)
class ReportData:
    """The data of a report on one policy and span."""

    store: Store
    config: Config
    scope: Scope

    @classmethod
    def load(
        cls, store: Store, config: Config, policy: str, start: int, end: int, as_of: int
    ) -> "ReportData":
        """Data for [start, end) with labels as they were known at `as_of`, all in µs."""
        complete = int(history.completeness(store).at(np.array([as_of], dtype=np.int64))[0])
        mature = max(complete - config.labels.longest_maturity, 0)
        return cls(store, config, Scope(policy, start, end, as_of, mature, config.labels.never_by_silence))

    @cached_property
    def daily(self) -> list[Row]:
        """Scores by day, strategy, channel, flag, label and maturity."""
        return report_counts.daily(self.store, self.scope)

    @cached_property
    def cases(self) -> CaseCounts:
        """Cases that began in the span."""
        return report_counts.cases(self.store, self.scope)

    @cached_property
    def score_bins(self) -> list[Row]:
        """Scores by strategy and bin."""
        return report_counts.score_bins(self.store, self.scope)

    @cached_property
    def probability_bins(self) -> list[Row]:
        """Probabilities by strategy and bin."""
        return report_counts.probability_bins(self.store, self.scope)

    @cached_property
    def months(self) -> RateMonths:
        """Rates of fraud and disputes of the months up to the end of the span."""
        zone, scope = self.config.schedule.timezone, self.scope
        start = grid.following_month(zone, grid.month_floor(zone, scope.end - 1), 1 - MONTHS)
        return monthly_rates(self.store, self.config, scope.as_of, start, scope.end)

    @cached_property
    def ledger_days(self) -> list[Row]:
        """Steps of the ledger by kind, status and day."""
        return report_counts.ledger_days(self.store, self.scope)

    @cached_property
    def queue_days(self) -> list[Row]:
        """Flags by channel, status and day."""
        return report_counts.queue_days(self.store, self.scope)

    @cached_property
    def quality_windows(self) -> list[Row]:
        """Quality metrics of all models and channels together."""
        return report_counts.quality_windows(self.store, self.scope)

    @cached_property
    def newest_alarms(self) -> list[str]:
        """Features with an alarm in the newest measured window."""
        return report_counts.newest_alarms(self.store, self.scope)

    @cached_property
    def drift_features(self) -> list[Row]:
        """Features with their alarms and largest effect, most alarms first."""
        return report_counts.drift_features(self.store, self.scope, calendar_features(self.config))

    @property
    def top_drift_features(self) -> list[Row]:
        """The first of them that have an effect."""
        return [row for row in self.drift_features[:DRIFT_FEATURES_MAX] if row["effect"] is not None]

    @cached_property
    def drift_windows(self) -> list[Row]:
        """Every drift metric of the first features."""
        names = [row["feature"] for row in self.top_drift_features]
        return report_counts.drift_windows(self.store, self.scope, names)

    @cached_property
    def comparison(self) -> StoredComparison | None:
        """The newest comparison of techniques."""
        return comparisons.newest(self.store, self.scope.as_of)

    @cached_property
    def choices(self) -> list[Row]:
        """Choices of strategy before the end of the span, the oldest first, one per training date."""
        rows = choice_page(self.store, self.scope.policy, CHOICES_MAX).rows
        end = as_datetime(self.scope.end)
        by_date = {row["training_date"]: row for row in reversed(rows) if row["training_date"] < end}
        return [by_date[date] for date in sorted(by_date)]

    @property
    def currency(self) -> str:
        """The currency of all amounts."""
        return self.config.schema_.base_currency

    @property
    def span_text(self) -> str:
        """The span as text, in UTC."""
        return f"{instant_text(self.scope.start)[:16]} to {instant_text(self.scope.end)[:16]}"

    @property
    def subtitle(self) -> str:
        """Span, policy and time of knowledge, with the zone of every time on the page."""
        as_of = instant_text(self.scope.as_of)[:16]
        return f"{self.span_text}, policy {self.scope.policy}; data as of {as_of}. Times are UTC."

    @property
    def mature_until_text(self) -> str:
        """The date up to which transactions without a label count as genuine."""
        return instant_text(self.scope.mature_until)[:10]

    @property
    def completeness_text(self) -> str:
        """Up to when labels are complete, as a clause."""
        if not self.scope.mature_until:
            return "no labels have been ingested yet"
        return f"labels count as complete for payments up to {self.mature_until_text}"

    @cached_property
    def bar_days(self) -> int:
        """Days per bar in a chart over time: 1, 7 or 28."""
        days = (self.scope.end - self.scope.start) / DAY
        return 1 if days <= BARS_MAX else 7 if days <= 7 * BARS_MAX else 28

    def bar_span(self, day: str) -> tuple[str, str]:
        """Start and end of the bar that contains a day, for Vega; a gap separates bars."""
        first = self.scope.start // DAY
        at = int((np.datetime64(day, "D") - np.datetime64(0, "D")).astype(np.int64))
        begin = first + (at - first) // self.bar_days * self.bar_days
        return iso_instant(begin * DAY), iso_instant(int((begin + self.bar_days * 0.92) * DAY))

    @property
    def bar_caption(self) -> str:
        """The span of one bar, as text."""
        return {1: "a bar is a day", 7: "a bar is a week", 28: "a bar is four weeks"}[self.bar_days]


def total(rows: Iterable[Row], name: str, **filters: Any) -> float:
    """Sum of a column over the rows that match all filters."""
    return float(sum(row[name] for row in rows if all(row[key] == value for key, value in filters.items())))
