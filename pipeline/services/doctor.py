"""Check the configuration, the database and every step of the pipeline, and explain why nothing was flagged."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.config.config import Config
from pipeline.sanitize import for_terminal
from pipeline.schedule.run_context import LIVE
from storage.database.database import Store
from storage.frames import DAY, SECOND
from storage.ingest import history
from storage.notifications import outbox
from storage.queries import status
from storage.runs import scoring_queue


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    subject: str
    message: str
    failed: bool = False

    def line(self) -> str:
        """The result as one line for the terminal."""
        return f"{'✗' if self.failed else '✓'} {self.subject}: {for_terminal(self.message)}"


def run_checks(store: Store, config: Config, policy: str, now: int) -> list[CheckResult]:
    """Check config, database, clock, data, labels, model and flags, each before what depends on it."""
    facts = status.facts(store, policy)
    return [
        CheckResult("config", config.origin),
        CheckResult("database", f"{store.display_url}, monitor {config.monitor.name}, schema up to date"),
        _clock(store, now),
        _data(facts),
        _labels(facts, config),
        *_model_and_windows(store, policy, facts),
        *_newest_training(store, policy),
        _flags(facts) if policy == LIVE else _scores(facts),
        _messages(store, config),
        *(_challenger(store, name) for name in sorted(config.shadow)),
    ]


def _clock(store: Store, now: int) -> CheckResult:
    span = history.span(store)
    now_text = datetime.fromtimestamp(now / SECOND).astimezone().isoformat(timespec="seconds")
    if span is not None and span[1] > now + DAY:
        return CheckResult(
            "clock",
            f"{now_text}, but the newest transaction is more than a day later: set the clock",
            failed=True,
        )
    return CheckResult("clock", now_text)


def _data(facts: dict[str, Any]) -> CheckResult:
    if not facts["transactions"]:
        return CheckResult(
            "transactions", "none stored: run fraudwatch ingest transactions FILE first", failed=True
        )
    rejected = f", {facts['rejected']:,} rejected rows (see rejected_rows)" if facts["rejected"] else ""
    return CheckResult(
        "transactions",
        f"{facts['transactions']:,}, newest {facts['newest_transaction']:%Y-%m-%d %H:%M:%S}{rejected}",
    )


def _labels(facts: dict[str, Any], config: Config) -> CheckResult:
    if not facts["labels"]:
        return CheckResult(
            "labels", "none: outlier detection works without labels, classification needs them"
        )
    days = config.labels.maturity // DAY
    return CheckResult(
        "labels",
        f"{facts['labels']:,} ({facts['frauds']:,} fraud), newest known {facts['newest_label']:%Y-%m-%d %H:%M:%S}; "
        f"a transaction without a label counts as genuine after {days} days",
    )


def _model_and_windows(store: Store, policy: str, facts: dict[str, Any]) -> Iterator[CheckResult]:
    if facts["models"]:
        yield CheckResult("model", f"{facts['models']:,} promoted, strategy {facts['strategy']}")
    else:
        reason = (
            f"the last training failed: {facts['last_error']}"
            if facts["last_error"]
            else "no training has run yet"
        )
        yield CheckResult(
            "model", f"none (cold start); {reason}: fraudwatch run or fraudwatch backfill", failed=True
        )
    starts = scoring_queue.starts_at(store, policy)
    start = "not set yet (the first fraudwatch run sets it)" if starts is None else _instant_text(starts)
    yield CheckResult("schedule starts", start)
    gaps = f", {facts['gaps']:,} not done (see open_gaps)" if facts["gaps"] else ""
    yield CheckResult(
        "windows", f"{facts['windows']:,} done{gaps}", failed=bool(facts["gaps"] and not facts["windows"])
    )
    yield CheckResult("queue", f"{facts['queue']:,} transactions are waiting for the next run")


def _newest_training(store: Store, policy: str) -> Iterator[CheckResult]:
    """Whether the newest training promoted its model, and if not, why."""
    newest = status.newest_training(store, policy)
    if newest is None:
        return
    day = f"{newest['window_end']:%Y-%m-%d}"
    since = "; a model was promoted by hand since" if newest["overruled"] else ""
    if newest["status"] == "failed":
        remedy = "it will be retried" if newest["not_before"] else "fix the cause, then fraudwatch train"
        message = f"{day}: no new model: {newest['error']}; the previous model keeps scoring; {remedy}"
        yield CheckResult("newest training", message + since, failed=not newest["overruled"])
    elif newest["verdict"] == "rejected":
        message = f"{day}: candidate {newest['model_id']} was rejected. {newest['sentence']}"
        yield CheckResult("newest training", message + since, failed=not newest["overruled"])
    elif "nothing_new" in (newest["counts"] or {}):
        yield CheckResult("newest training", f"{day}: no new transactions, so the previous model stays")
    else:
        yield CheckResult("newest training", f"{day}: its model was promoted")


def _flags(facts: dict[str, Any]) -> CheckResult:
    if not facts["scored"]:
        return CheckResult(
            "flags",
            "none, because nothing has been scored: fraudwatch run or fraudwatch backfill",
            failed=True,
        )
    if not facts["flagged"]:
        return CheckResult("flags", f"{facts['scored']:,} transactions scored, all below the thresholds")
    return CheckResult("flags", f"{facts['flagged']:,} of {facts['scored']:,} scored, {facts['open']:,} open")


def _messages(store: Store, config: Config) -> CheckResult:
    if not config.notify.enabled:
        return CheckResult("messages", "no receiver: notify.urls is empty")
    counts = outbox.counts(store)
    waiting, failed = counts.get("pending", 0) + counts.get("sending", 0), counts.get("failed", 0)
    message = f"{len(config.notify.urls):,} URLs, {counts.get('sent', 0):,} sent, {waiting:,} waiting"
    if failed:
        remedy = f"{failed:,} failed: fraudwatch notify --pending shows why, --retry sends them again"
        return CheckResult("messages", f"{message}, {remedy}", failed=True)
    return CheckResult("messages", message)


def _scores(facts: dict[str, Any]) -> CheckResult:
    """Scores of a challenger, which raises no flags."""
    return CheckResult("scores", f"{facts['scored']:,} transactions scored; only live raises flags")


def _challenger(store: Store, name: str) -> CheckResult:
    facts = status.facts(store, name)
    trained = f"strategy {facts['strategy']}" if facts["models"] else "no model yet"
    message = f"{facts['scored']:,} scored, {facts['queue']:,} waiting, {facts['gaps']:,} not done, {trained}"
    return CheckResult(f"challenger {name}", f"{message}: fraudwatch doctor --policy {name}")


def _instant_text(instant: int) -> str:
    return datetime.fromtimestamp(instant / SECOND).astimezone().isoformat(timespec="minutes")
