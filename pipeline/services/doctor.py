"""Why nothing was flagged, and whether everything is as it should be."""

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
from storage.queries import listings
from storage.runs import scoring_queue


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    said: str
    wrong: bool = False

    def line(self) -> str:
        """For the terminal."""
        return f"{'✗' if self.wrong else '✓'} {self.what}: {for_terminal(self.said)}"


def examine(store: Store, config: Config, policy: str, now: int) -> list[Finding]:
    """Look at config, database, clock, data, labels, model and flags, in the order they depend on each other."""
    facts = listings.facts(store, policy)
    return [
        Finding("config", config.origin),
        Finding("database", f"{store.url_shown}, monitor {config.monitor.name}, schema up to date"),
        _clock(store, now),
        _data(facts),
        _labels(facts, config),
        *_work(store, policy, facts),
        *_training(store, policy),
        _flags(facts) if policy == LIVE else _scores(facts),
        _messages(store, config),
        *(_shadow(store, name) for name in sorted(config.shadow)),
    ]


def _clock(store: Store, now: int) -> Finding:
    span = history.span(store)
    shown = datetime.fromtimestamp(now / SECOND).astimezone().isoformat(timespec="seconds")
    if span is not None and span[1] > now + DAY:
        return Finding("clock", f"{shown}, but there are transactions a day later: set the clock", wrong=True)
    return Finding("clock", shown)


def _data(facts: dict[str, Any]) -> Finding:
    if not facts["transactions"]:
        return Finding(
            "transactions", "none stored: start with fraudwatch ingest transactions FILE", wrong=True
        )
    aside = f", {facts['rejected']:,} rows set aside (see rejected_rows)" if facts["rejected"] else ""
    return Finding("transactions", f"{facts['transactions']:,}, newest {facts['newest_transaction']}{aside}")


def _labels(facts: dict[str, Any], config: Config) -> Finding:
    if not facts["labels"]:
        return Finding("labels", "none: outlier detection works without, classification needs them")
    days = config.labels.maturity // DAY
    return Finding(
        "labels",
        f"{facts['labels']:,} ({facts['frauds']:,} fraud), newest known {facts['newest_label']}; "
        f"silence means genuine after {days} days",
    )


def _work(store: Store, policy: str, facts: dict[str, Any]) -> Iterator[Finding]:
    if facts["models"]:
        yield Finding("model", f"{facts['models']:,} promoted, strategy {facts['strategy']}")
    else:
        why = (
            f"the last training failed: {facts['last_error']}"
            if facts["last_error"]
            else "nothing was trained yet"
        )
        yield Finding(
            "model", f"none, a cold start; {why}: fraudwatch run or fraudwatch backfill", wrong=True
        )
    starts = scoring_queue.starts_at(store, policy)
    begun = "not decided (the first fraudwatch run decides)" if starts is None else _moment(starts)
    yield Finding("work begins", begun)
    gaps = f", {facts['gaps']:,} not done (see open_gaps)" if facts["gaps"] else ""
    yield Finding(
        "windows", f"{facts['windows']:,} done{gaps}", wrong=bool(facts["gaps"] and not facts["windows"])
    )
    yield Finding("queue", f"{facts['queue']:,} transactions wait for the next run")


def _training(store: Store, policy: str) -> Iterator[Finding]:
    """Whether the newest training brought its model, and what stands in its way if not."""
    newest = listings.newest_training(store, policy)
    if newest is None:
        return
    day = newest["window_end"][:10]
    since = "; a model was promoted by hand since" if newest["overruled"] else ""
    if newest["status"] == "failed":
        again = "it is tried again" if newest["not_before"] else "put it right, then fraudwatch train"
        said = f"that of {day} brought no new model: {newest['error']}; windows go on with the one before it; {again}"
        yield Finding("newest training", said + since, wrong=not newest["overruled"])
    elif newest["verdict"] == "refused":
        said = f"that of {day} made model {newest['model_id']}, which was refused. {newest['sentence']}"
        yield Finding("newest training", said + since, wrong=not newest["overruled"])
    elif "nothing_new" in (newest["counts"] or {}):
        yield Finding("newest training", f"that of {day} knew nothing new: the model before it stays")
    else:
        yield Finding("newest training", f"that of {day} promoted its model")


def _flags(facts: dict[str, Any]) -> Finding:
    if not facts["scored"]:
        return Finding(
            "flags", "none, since nothing was scored: fraudwatch run or fraudwatch backfill", wrong=True
        )
    if not facts["flagged"]:
        return Finding(
            "flags", f"{facts['scored']:,} transactions scored, and all were below the thresholds: clean"
        )
    return Finding("flags", f"{facts['flagged']:,} of {facts['scored']:,} scored, {facts['open']:,} open")


def _messages(store: Store, config: Config) -> Finding:
    if not config.notify.wanted:
        return Finding("messages", "nobody is told: notify.urls names no one")
    counts = outbox.counts(store)
    waiting, failed = counts.get("pending", 0) + counts.get("sending", 0), counts.get("failed", 0)
    said = f"{len(config.notify.urls):,} URLs, {counts.get('sent', 0):,} sent, {waiting:,} waiting"
    if failed:
        remedy = f"{failed:,} failed: fraudwatch notify --pending says why, --retry sends them again"
        return Finding("messages", f"{said}, {remedy}", wrong=True)
    return Finding("messages", said)


def _scores(facts: dict[str, Any]) -> Finding:
    """A challenger flags nothing."""
    return Finding("scores", f"{facts['scored']:,} transactions scored; only live's raise flags")


def _shadow(store: Store, name: str) -> Finding:
    facts = listings.facts(store, name)
    trained = f"strategy {facts['strategy']}" if facts["models"] else "no model yet"
    told = f"{facts['scored']:,} scored, {facts['queue']:,} waiting, {facts['gaps']:,} not done, {trained}"
    return Finding(f"shadow {name}", f"{told}: fraudwatch doctor --policy {name}")


def _moment(instant: int) -> str:
    return datetime.fromtimestamp(instant / SECOND).astimezone().isoformat(timespec="minutes")
