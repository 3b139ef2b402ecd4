"""
What the health port says: whether ticks start and end, whether the database answers, what fails, and Prometheus metrics.

The daemon records events in `Health`, and requests are answered from memory, so a scraper never waits for a slow
database nor the other way round. Nothing here contains an entity's value or an amount.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.durations import MINUTE, SECOND
from pipeline.rendering.health_metrics import FAILING, figure_gauges, gauge, gauge_family
from pipeline.services.runs.tick import FeedReport, HealthFigures, RunSummary

Outcome = Literal["done", "standby", "away", "not_ready", "failed"]
READY_OUTCOMES: frozenset[str] = frozenset({"done", "standby", "not_ready"})  # the database answered
TICK_GRACE = 5 * MINUTE  # a tick may start this much later than expected
TICK_MAX = 6 * 60 * MINUTE  # the first backlog takes hours; a longer tick is treated as hung
RUN_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600)  # s
CONFIG = "config"  # among the parts that fail: a new configuration was refused
COUNTERS = {
    "windows": "Windows scored.",
    "scored_transactions": "Transactions scored.",
    "late_transactions": "Transactions that arrived after their window was done and were scored late.",
    "flagged_transactions": "Flags raised.",
    "trainings": "Models fitted and promoted.",
    "failures": "Windows and trainings that failed.",
}


class Health(Collector):
    """A daemon's state as Prometheus metrics; `clock` gives µs since 1970-01-01 UTC."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running_since: int | None = None
        self._last_tick_end: int | None = None
        self._next_tick_at: int | None = clock()
        self._outcome: Outcome | None = None
        self._reason = "no tick has finished yet"
        self._left = 0
        self._snapshot: HealthFigures | None = None
        self._is_config_refused = False
        disable_created_metrics()  # type: ignore[no-untyped-call]  # no extra _created series per counter
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._ticks = self._counter("ticks", "Ticks by outcome.", "outcome")
        self._seconds = Histogram(
            "fraudwatch_run_duration_seconds",
            "Duration of ticks that did work.",
            buckets=RUN_BUCKETS,
            registry=self.registry,
        )
        self._counts = {name: self._counter(name, help_) for name, help_ in COUNTERS.items()}
        self._rows = self._counter("ingested_rows", "Rows of feeds by outcome.", "feed", "outcome")
        self._feed_failures = self._counter("feed_failures", "Feeds that could not be read.", "feed")

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"fraudwatch_{name}", help_, labels, registry=self.registry)

    def tick_started(self) -> None:
        """Record that a tick has started."""
        with self._lock:
            self._running_since = self._clock()

    def tick_ended(self, outcome: Outcome, reason: str = "") -> None:
        """Record that a tick has ended."""
        self._ticks.labels(outcome).inc()
        with self._lock:
            self._running_since, self._last_tick_end = None, self._clock()
            self._outcome, self._reason = outcome, reason
            if outcome in {"standby", "away"}:
                self._snapshot = None  # another daemon speaks for the database

    def next_tick(self, at: int | None) -> None:
        """Set when the next tick is planned, in µs."""
        with self._lock:
            self._next_tick_at = at

    def run_finished(self, summary: RunSummary, seconds: float) -> None:
        """Count what a run did."""
        self._seconds.observe(seconds)
        counts = {
            "windows": summary.windows,
            "scored_transactions": summary.scored,
            "late_transactions": summary.late,
            "flagged_transactions": summary.flagged,
            "trainings": len(summary.trainings),
            "failures": len(summary.failures),
        }
        for name, n in counts.items():
            self._counts[name].inc(n)

    def feed_read(self, feed: FeedReport) -> None:
        """Count the rows of a feed, or its failure."""
        if feed.error is not None:
            self._feed_failures.labels(feed.feed).inc()
        elif feed.report is not None:
            counts = feed.report.counts
            for outcome in ("accepted", "duplicate", "revised", "rejected"):
                self._rows.labels(feed.feed, outcome).inc(getattr(counts, outcome))

    def config_read(self, *, refused: bool) -> None:
        """Record whether a new configuration was refused, so that the one before stays in force."""
        with self._lock:
            self._is_config_refused = refused

    def update_snapshot(self, snapshot: HealthFigures, left: int) -> None:
        """Store the database counts after a tick, and how many windows are left for later ticks."""
        with self._lock:
            self._snapshot, self._left = snapshot, left

    def alive(self) -> tuple[bool, str]:
        """Whether ticks start and end in time, and if not, why."""
        now = self._clock()
        with self._lock:
            since, expected = self._running_since, self._next_tick_at
        if since is not None and now - since > TICK_MAX:
            return False, f"the current tick started {(now - since) // SECOND} s ago"
        if since is None and expected is not None and now > expected + TICK_GRACE:
            return False, f"a tick was expected {(now - expected) // SECOND} s ago"
        return True, "ok"

    def ready(self) -> tuple[bool, str]:
        """Whether the database answered the last tick, and whether the daemon is active or stands by."""
        with self._lock:
            outcome, reason = self._outcome, self._reason
        if outcome is None or outcome not in READY_OUTCOMES:
            return False, reason
        return True, "standby" if outcome == "standby" else "active"

    def failing(self) -> list[str]:
        """What fails, by name: parts of a tick (feeds, limits, messages, challengers …), and a configuration that was refused."""
        return sorted(name for (name,), fails in self._parts().items() if fails)

    def _parts(self) -> dict[tuple[str], bool]:
        with self._lock:
            snapshot, refused = self._snapshot, self._is_config_refused
        parts = {} if snapshot is None else {name: failures > 0 for name, failures in snapshot.parts.items()}
        return parts | {(CONFIG,): refused}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The current gauges."""
        with self._lock:
            outcome, finished, snapshot, left = self._outcome, self._last_tick_end, self._snapshot, self._left
        now = self._clock()
        working = outcome in {"done", "failed", "not_ready"}
        yield gauge("active", "1 on the daemon that holds the lease, 0 on one that stands by.", working)
        yield gauge("ready", "1 while the database answers.", outcome in READY_OUTCOMES)
        if finished is not None:
            yield gauge("last_tick_timestamp_seconds", "When the last tick ended.", finished / SECOND)
        yield gauge_family("step_failing", FAILING, ("step",), self._parts())
        if snapshot is not None:
            left_text = "Windows left for later ticks after downtime."
            yield gauge("catching_up_windows", left_text, left)
            yield from figure_gauges(snapshot, now)
