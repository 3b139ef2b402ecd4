"""What the parts of a tick report, as lines of the log."""

import time
from dataclasses import asdict

from pipeline import logs
from pipeline.daemon.health import Health
from pipeline.services.runs.tick import (
    ChallengerRetired,
    ChallengerRun,
    Delivery,
    FeedReport,
    RunFinished,
    RunSummary,
    StepFailed,
    TickEvent,
)


class TickLog:
    """Logs the results of one tick, and counts them for the health port."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._since = time.monotonic()

    def __call__(self, event: TickEvent) -> None:
        """Log one result."""
        if isinstance(event, FeedReport):
            self._feed(event)
        elif isinstance(event, Delivery):
            self._delivery(event)
        elif isinstance(event, RunFinished):
            self._run(event.summary)
        elif isinstance(event, ChallengerRun):
            self._challenger(event)
        elif isinstance(event, StepFailed):
            self._step(event)
        elif isinstance(event, ChallengerRetired):
            logs.event("challenger_ended", challenger=event.name)

    def _feed(self, feed: FeedReport) -> None:
        self._health.feed_read(feed)
        if feed.bug is not None:
            logs.bug("feed_failed", feed.bug, feed=feed.feed, reason=feed.error)
        elif feed.error is not None:
            logs.event("feed_failed", logs.WARNING, feed=feed.feed, reason=feed.error)
        elif feed.report is not None and not feed.report.nothing_new:
            counts = feed.report.counts
            logs.event("ingested", feed=feed.feed, batch_id=feed.report.batch_id, **asdict(counts))
            for reason, rows in feed.report.reasons.items():
                logs.event("rejected", logs.WARNING, feed=feed.feed, rows=rows, reason=reason)
            for currency, payments in feed.report.waiting.items():
                logs.event(
                    "waiting_for_rate", logs.WARNING, feed=feed.feed, currency=currency, payments=payments
                )
            for stale in feed.report.stale_rates:
                logs.event(
                    "old_rate",
                    logs.WARNING,
                    feed=feed.feed,
                    currency=stale.currency,
                    payments=stale.payments,
                    rate_of=str(stale.day),
                    age_days=stale.age_days,
                )
        elif feed.rates is not None and (feed.rates.added or feed.rates.corrected):
            rates = feed.rates
            logs.event("rates_ingested", feed=feed.feed, added=rates.added, corrected=rates.corrected)

    def _delivery(self, delivery: Delivery) -> None:
        if delivery.sent:
            logs.event("notified", messages=delivery.sent, deferred=delivery.deferred)
        for error in delivery.errors:
            logs.event("notify_failed", logs.WARNING, reason=error)

    def _run(self, summary: RunSummary) -> None:
        seconds = self._seconds()
        if summary.run_id:
            _log_run(summary, seconds)
            self._health.run_finished(summary, seconds)

    def _step(self, step: StepFailed) -> None:
        if step.bug is not None:
            logs.bug("tick_step_failed", step.bug, step=step.name)
        else:
            logs.event("tick_step_failed", logs.WARNING, step=step.name, reason=str(step.error))

    def _challenger(self, run: ChallengerRun) -> None:
        seconds = self._seconds()
        if run.summary is None and run.bug is not None:
            logs.bug("challenger_failed", run.bug, challenger=run.name)
        elif run.summary is None:
            logs.event("challenger_failed", logs.WARNING, challenger=run.name, reason=str(run.error))
        elif run.summary.run_id:
            _log_run(run.summary, seconds, challenger=run.name)

    def _seconds(self) -> float:
        """Seconds since the run before this one ended."""
        since, self._since = self._since, time.monotonic()
        return self._since - since


def _log_run(summary: RunSummary, seconds: float, **labels: str) -> None:
    for sentence in summary.trainings:
        logs.event("trained", **labels, message=sentence)
    for sentence in summary.failures:
        logs.event("step_failed", logs.WARNING, **labels, reason=sentence)
    for bug in summary.bugs:
        logs.bug("step_failed", bug, **labels)
    if summary.windows_left:
        logs.event("catching_up", logs.WARNING, **labels, windows_left=summary.windows_left)
    logs.event("run", **labels, run_id=summary.run_id, **summary.counts(), seconds=round(seconds, 3))
