"""
How a daemon says that it is well: `/healthz`, `/readyz` and Prometheus metrics on a port of its own.

The daemon tells `Health` what happened; requests are answered from that, so that neither a scraper nor a slow
database ever waits for the other. Nothing here holds an entity's value or an amount.
"""

import hmac
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pipeline.config.config import Config
from pipeline.durations import MINUTE
from pipeline.errors import ConfigError
from pipeline.ingest.feeds import FeedReport
from pipeline.schedule.run_context import Tally
from storage.frames import SECOND
from storage.monitoring.health import ChoiceNow, Vitals

Outcome = Literal["done", "standby", "away", "not_ready", "failed"]
READY: frozenset[str] = frozenset({"done", "standby", "not_ready"})  # the database answered
GRACE = 5 * MINUTE  # a tick may begin so much later than expected
TICK_LONGEST = 6 * 60 * MINUTE  # a first backlog takes hours; longer than this something hangs
RUN_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600)  # s
TEXT = "text/plain; charset=utf-8"
READ_TIMEOUT_S = 10  # of a client that sends nothing
COUNTED = {
    "windows": "Windows scored.",
    "scored_transactions": "Transactions scored.",
    "late_transactions": "Transactions that came after their window was done and were scored then.",
    "flagged_transactions": "Flags raised.",
    "trainings": "Models fitted and promoted.",
    "failures": "Windows and trainings that failed.",
}
KINDS = ("score", "train", "drift", "quality", "prune")
OPEN = ("pending", "running", "failed")
UNSENT = ("pending", "sending", "failed")
STRATEGIES = ("outlier", "blend", "classification")


class Health(Collector):
    """What is known of a daemon, as metrics; `clock` gives µs since 1970."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running_since: int | None = None
        self._finished: int | None = None
        self._expected: int | None = clock()
        self._outcome: Outcome | None = None
        self._reason = "no tick has finished yet"
        self._left = 0
        self._vitals: Vitals | None = None
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a counter, which nobody asks for
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._ticks = self._counter("ticks", "Ticks by outcome.", "outcome")
        self._seconds = Histogram(
            "fraudwatch_run_duration_seconds",
            "Time of ticks that did work.",
            buckets=RUN_BUCKETS,
            registry=self.registry,
        )
        self._counts = {name: self._counter(name, help_) for name, help_ in COUNTED.items()}
        self._rows = self._counter(
            "ingested_rows", "Rows of feeds by what became of them.", "feed", "outcome"
        )
        self._feed_failures = self._counter("feed_failures", "Feeds that could not be read.", "feed")

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"fraudwatch_{name}", help_, labels, registry=self.registry)

    def tick_began(self) -> None:
        """A tick is at work."""
        with self._lock:
            self._running_since = self._clock()

    def tick_ended(self, outcome: Outcome, reason: str = "") -> None:
        """It is over."""
        self._ticks.labels(outcome).inc()
        with self._lock:
            self._running_since, self._finished = None, self._clock()
            self._outcome, self._reason = outcome, reason
            if outcome != "done":
                self._vitals = None  # another daemon speaks for the database

    def next_tick(self, at: int | None) -> None:
        """When the next tick is to begin, in µs."""
        with self._lock:
            self._expected = at

    def ran(self, tally: Tally, seconds: float) -> None:
        """A tick did work."""
        self._seconds.observe(seconds)
        counts = {
            "windows": tally.windows,
            "scored_transactions": tally.scored,
            "late_transactions": tally.late,
            "flagged_transactions": tally.flagged,
            "trainings": len(tally.trainings),
            "failures": len(tally.failures),
        }
        for name, n in counts.items():
            self._counts[name].inc(n)

    def fed(self, told: FeedReport) -> None:
        """A feed was read, or not."""
        if told.error is not None:
            self._feed_failures.labels(told.feed).inc()
        elif told.report is not None:
            counts = told.report.counts
            for outcome in ("accepted", "duplicate", "revised", "rejected"):
                self._rows.labels(told.feed, outcome).inc(getattr(counts, outcome))

    def saw(self, vitals: Vitals, left: int) -> None:
        """What the database holds after a tick, and how many windows are still to be caught up with."""
        with self._lock:
            self._vitals, self._left = vitals, left

    def alive(self) -> tuple[bool, str]:
        """Whether ticks come and end, and if not, why not."""
        now = self._clock()
        with self._lock:
            since, expected = self._running_since, self._expected
        if since is not None and now - since > TICK_LONGEST:
            return False, f"the tick at work began {(now - since) // SECOND} s ago"
        if since is None and expected is not None and now > expected + GRACE:
            return False, f"a tick was expected {(now - expected) // SECOND} s ago"
        return True, "ok"

    def ready(self) -> tuple[bool, str]:
        """Whether the database answered the last tick, and what the daemon is doing."""
        with self._lock:
            outcome, reason = self._outcome, self._reason
        if outcome is None or outcome not in READY:
            return False, reason
        return True, "standby" if outcome == "standby" else "active"

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges as they are at this moment."""
        with self._lock:
            outcome, finished, vitals, left = self._outcome, self._finished, self._vitals, self._left
        now = self._clock()
        working = outcome in {"done", "failed", "not_ready"}
        yield _gauge("active", "1 on the daemon that holds the lease, 0 on one that stands by.", working)
        yield _gauge("ready", "1 while the database answers.", outcome in READY)
        if finished is not None:
            yield _gauge("last_tick_timestamp_seconds", "When the last tick ended.", finished / SECOND)
        if vitals is not None:
            yield from _of(vitals, now, left)


def _of(vitals: Vitals, now: int, left: int) -> Iterator[GaugeMetricFamily]:
    if vitals.newest_window is not None:
        lag = (now - vitals.newest_window) / SECOND
        yield _gauge("window_lag_seconds", "Age of the end of the newest window that was scored.", lag)
    yield _gauge("queue_transactions", "Transactions that wait for a score.", vitals.queue)
    yield _gauge("catching_up_windows", "Windows left for later ticks after downtime.", left)
    yield _gauge("drift_alarms", "Alarms of the newest window measured.", vitals.drift_alarms)
    shown = {(kind, status): 0 for kind in KINDS for status in OPEN} | vitals.gaps
    yield _family("gaps", "What was due and is not done.", ("kind", "status"), shown)
    yield _family("flags", "Flags by channel and status.", ("channel", "status"), vitals.flags)
    ages = {(kind,): (now - moment) / SECOND for kind, moment in vitals.newest_batch.items()}
    yield _family("newest_batch_age_seconds", "Since rows came in.", ("kind",), ages)
    unsent = {(state,): 0 for state in UNSENT} | vitals.messages
    yield _family("messages", "Messages to people outside that have not arrived.", ("status",), unsent)
    if vitals.choice is not None:
        yield from _of_choice(vitals.choice)


def _of_choice(choice: ChoiceNow) -> Iterator[GaugeMetricFamily]:
    chosen = {(name,): name == choice.strategy for name in STRATEGIES}
    yield _family("strategy", "1 for the strategy chosen.", ("strategy",), chosen)
    positives = "Mature frauds, one a cluster of entities."
    yield _gauge("effective_positives", positives, choice.effective_positives)
    for end, value in (("", choice.prevalence), ("_lower", choice.lower), ("_upper", choice.upper)):
        if value is not None:
            yield _gauge(f"prevalence{end}", "Share of fraud among mature transactions.", value)


def _family(name: str, help_: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"fraudwatch_{name}", help_, labels=labels)
    for place, value in sorted(values.items()):
        family.add_metric(place, float(value))
    return family


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"fraudwatch_{name}", help_, value=float(value))


@contextmanager
def listening(config: Config, health: Health) -> Iterator[int | None]:
    """
    Answer requests while the block lasts; yields the port, None if `health.port` is 0.

    Raises
    ------
    ConfigError
        The port is taken, or the host is not this machine's.
    """
    section = config.health
    if not section.port:
        yield None
        return
    handler = type("Handler", (_Handler,), {"health": health, "token": config.health_token()})
    try:
        server = ThreadingHTTPServer((section.host, section.port), handler)
    except OSError as error:
        raise ConfigError(
            f"health.port is {section.port} on {section.host}, which cannot be listened on "
            f"({error.strerror}): choose another, or 0 for none"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """GET only; everything but /healthz needs the token, if there is one."""

    health: Health
    token: str
    timeout = READ_TIMEOUT_S
    server_version = "fraudwatch"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._say(*self.health.alive())
        elif path not in {"/readyz", "/metrics"}:
            self._send(404, TEXT, b"see /healthz, /readyz, /metrics\n")
        elif not self._may():
            self._send(401, TEXT, b"send Authorization: Bearer TOKEN\n")
        elif path == "/readyz":
            self._say(*self.health.ready())
        else:
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._send(200, content_type, encode(self.health.registry))

    def log_message(self, *_: Any) -> None:
        """Requests are not worth a line."""

    def _may(self) -> bool:
        given = self.headers.get("Authorization", "").encode()
        return not self.token or hmac.compare_digest(given, f"Bearer {self.token}".encode())

    def _say(self, well: bool, told: str) -> None:
        body = json.dumps({"ok": well, "state": told}).encode() + b"\n"
        self._send(200 if well else 503, "application/json", body)

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)
