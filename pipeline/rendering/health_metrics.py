"""What Prometheus reads of the database: the figures of the newest windows, queues and messages as gauges."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from detectors.base import STRATEGIES
from pipeline.durations import SECOND
from storage.monitoring.health import HealthFigures, NewestChoice

STEP_KINDS = ("score", "train", "drift", "quality", "prune")
UNFINISHED_STATUSES = ("pending", "running", "failed")
UNSENT_STATUSES = ("pending", "sending", "failed")
FAILING = "1 for a part of the tick that fails, and for a configuration that was refused."


def figure_gauges(snapshot: HealthFigures, now: int) -> Iterator[GaugeMetricFamily]:
    """The gauges of what the database says at a time (µs)."""
    if snapshot.newest_window is not None:
        lag = (now - snapshot.newest_window) / SECOND
        yield gauge("window_lag_seconds", "Time since the end of the newest scored window.", lag)
    yield gauge("queue_transactions", "Transactions that wait for a score.", snapshot.queue)
    yield gauge("drift_alarms", "Alarms of the newest window measured.", snapshot.drift_alarms)
    gaps = {(kind, status): 0 for kind in STEP_KINDS for status in UNFINISHED_STATUSES} | snapshot.gaps
    yield gauge_family("gaps", "Steps that are due and not done.", ("kind", "status"), gaps)
    yield gauge_family("flags", "Flags by channel and status.", ("channel", "status"), snapshot.flags)
    ages = {(kind,): (now - moment) / SECOND for kind, moment in snapshot.newest_batch.items()}
    yield gauge_family("newest_batch_age_seconds", "Time since the newest batch.", ("kind",), ages)
    unsent = {(state,): 0 for state in UNSENT_STATUSES} | snapshot.messages
    yield gauge_family("messages", "Notification messages that have not arrived.", ("status",), unsent)
    share = (
        "Share of a limit that is reached, now and at the end of its span as expected, by its worst value."
    )
    yield gauge_family("limit_share", share, ("limit", "when"), snapshot.limits)
    if snapshot.choice is not None:
        yield from _choice_gauges(snapshot.choice)


def _choice_gauges(choice: NewestChoice) -> Iterator[GaugeMetricFamily]:
    strategies = {(name,): name == choice.strategy for name in STRATEGIES}
    yield gauge_family("strategy", "1 for the strategy chosen.", ("strategy",), strategies)
    positives = "Mature frauds; a cluster on one entity counts once."
    yield gauge("effective_positives", positives, choice.effective_positives)
    for end, value in (("", choice.prevalence), ("_lower", choice.lower), ("_upper", choice.upper)):
        if value is not None:
            yield gauge(f"prevalence{end}", "Share of fraud among mature transactions.", value)


def gauge_family(
    name: str, help_: str, labels: tuple[str, ...], values: Mapping[Any, float]
) -> GaugeMetricFamily:
    """A gauge with one value for each place, a tuple of label values."""
    family = GaugeMetricFamily(f"fraudwatch_{name}", help_, labels=labels)
    for place, value in sorted(values.items()):
        family.add_metric(place, float(value))
    return family


def gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels."""
    return GaugeMetricFamily(f"fraudwatch_{name}", help_, value=float(value))


def metrics_encoder(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """The format that a scraper asks for, with its media type; plain text if what it asks for makes no sense."""
    try:
        return choose_encoder(accept)
    except (LookupError, TypeError, ValueError):
        return choose_encoder("")
