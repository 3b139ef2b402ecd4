"""Check the configuration, the database and every step of the pipeline, and find why nothing was flagged."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from pipeline.config.config import Config
from pipeline.errors import ConfigError, InputError
from pipeline.ingest.currencies.currency_rates import StaleRate
from pipeline.ingest.currencies.rate_sources import stale_rates
from pipeline.schedule.run_context import LIVE
from pipeline.schedule.ticks import ticks_after
from pipeline.services.data.ingest import WaitingRecord, waiting_payments
from pipeline.services.records import as_record
from pipeline.services.review.cases import count_overdue
from pipeline.services.session import Session
from pipeline.training.readiness import DOMINANT
from storage.admin.overwrite import waiting_since
from storage.admin.repair import repair_cases
from storage.database import setup, tables
from storage.database.cases import check_cases
from storage.database.column_types import as_datetime
from storage.notifications import outbox
from storage.queries.status import (
    MonitorState,
    TrainingOutcome,
    commonest_values,
    monitor_state,
    newest_training,
    unscored_spans,
)
from storage.runs import scoring_queue, tick_steps

NEXT_TICKS = 3
CLOCK_TOLERANCE = timedelta(days=1)  # a payment dated this far ahead of the clock: one of the two is wrong


@dataclass(frozen=True)
class ConfigFacts:
    """Where the settings come from."""

    origin: str


@dataclass(frozen=True)
class DatabaseFacts:
    """The database that answered; a program whose schema is older than its `version` only reads it."""

    address: str
    monitor: str
    version: str
    program_version: str


@dataclass(frozen=True)
class ClockFacts:
    """The clock, and the newest payment, which must not be far ahead of it."""

    now: datetime
    newest_transaction: datetime | None


@dataclass(frozen=True)
class TransactionFacts:
    """What was ingested."""

    stored: int
    rejected: int
    newest: datetime | None


@dataclass(frozen=True)
class LabelFacts:
    """What is known about transactions."""

    stored: int
    frauds: int
    newest: datetime | None
    maturity: timedelta  # after which a transaction without a label counts as genuine
    longest_maturity: timedelta  # the same for some values of a field
    without_transaction: int  # labels of ids that no transaction has


@dataclass(frozen=True)
class EntityFacts:
    """A value that holds a large part of an entity's newest rows, hashed where the column is."""

    column: str
    value: str
    share: float


@dataclass(frozen=True)
class RatesFileFacts:
    """Why the file schema.rates cannot be used."""

    error: str


@dataclass(frozen=True)
class OverwriteFacts:
    """Since when an SQLite file has old bytes of what was erased, because another program reads it."""

    since: datetime


@dataclass(frozen=True)
class ModelKeyFacts:
    """Why models cannot be sealed, and what to do."""

    error: str


@dataclass(frozen=True)
class ModelFacts:
    """Whether a model is in force, and if not, what became of its training."""

    promotions: int
    strategy: str | None
    training_error: str | None
    withdrawn: int  # promotions of runs that were undone


@dataclass(frozen=True)
class TrainingFacts:
    """How the newest training ended."""

    date: datetime
    error: str | None
    retry_at: datetime | None
    candidate: int | None  # the model that the promotion gate turned down
    gate_sentence: str | None
    overruled: bool  # a model has been promoted by hand since


@dataclass(frozen=True)
class ScheduleFacts:
    """When the schedule starts; None until the first run sets it."""

    starts_at: datetime | None


@dataclass(frozen=True)
class TickFacts:
    """When the last tick of a daemon ended, and when the next ones are due."""

    last: datetime | None
    next: tuple[datetime, ...]  # in the zone of the schedule


@dataclass(frozen=True)
class UnscoredFacts:
    """Payments before the schedule began that nothing but a backfill scores."""

    start: datetime
    end: datetime
    payments: int


@dataclass(frozen=True)
class FailureFacts:
    """A part of the tick that fails: a feed, limits, messages, a challenger …"""

    name: str
    since: datetime
    worked_at: datetime | None  # since then, for a while; None if it did not
    failures: int  # in a row
    error: str


@dataclass(frozen=True)
class StepFacts:
    """Windows that were scored or are due, and other steps that are due: trainings, drift, quality, pruning."""

    windows_done: int
    windows_open: int
    others_open: int


@dataclass(frozen=True)
class QueueFacts:
    """Transactions that wait for the next run."""

    waiting: int


@dataclass(frozen=True)
class ScoreFacts:
    """What was scored and flagged."""

    scored: int
    flagged: int
    open: int
    closed: int  # without opinion
    expired: int


@dataclass(frozen=True)
class CaseFacts:
    """Cases with an open flag as they are stored, and how many of them and of their counts are not those of the flags."""

    stored: int
    wrong: int
    wrong_counts: int


@dataclass(frozen=True)
class OverdueFacts:
    """Cases whose time to answer (`within`) is over."""

    cases: int
    within: timedelta


@dataclass(frozen=True)
class MessageFacts:
    """Receivers, and messages to them by status."""

    receivers: int
    sent: int
    waiting: int
    failed: int


@dataclass(frozen=True)
class ChallengerFacts:
    """The state of a challenger; its strategy is None until it has a model."""

    policy: str
    scored: int
    waiting: int
    steps_open: int
    strategy: str | None


Facts = (
    ConfigFacts
    | UnscoredFacts
    | DatabaseFacts
    | ClockFacts
    | TransactionFacts
    | LabelFacts
    | EntityFacts
    | WaitingRecord
    | StaleRate
    | RatesFileFacts
    | OverwriteFacts
    | ModelKeyFacts
    | ModelFacts
    | TrainingFacts
    | ScheduleFacts
    | TickFacts
    | FailureFacts
    | StepFacts
    | QueueFacts
    | ScoreFacts
    | CaseFacts
    | OverdueFacts
    | MessageFacts
    | ChallengerFacts
)


@dataclass(frozen=True)
class CheckResult:
    """
    The result of one check.

    Attributes
    ----------
    subject
        What was checked: config, database, erased (if old bytes of it are left), model_key (if it is missing), clock, transactions, entities (each that one
        value dominates), waiting_rows and currency_rates (each currency that lacks a rate, or has an old one), labels, model, newest_training, schedule, steps, queue,
        ticks, failing (each part of the tick that fails), flags, scores (of a challenger, which raises no flags), cases, answers (with `alerts.answer_within`), messages, challenger.
    code
        A stable name of what was found, for programs and for the sentence that a door makes of it.
    """

    subject: str
    code: str
    facts: Facts
    failed: bool = False


def check(session: Session, policy: str) -> tuple[CheckResult, ...]:
    """
    Check config, database, clock, data, labels, model and flags, each before what depends on it.

    Raises
    ------
    ConfigError
        The challenger's settings are impossible.
    """
    config = session.config.for_policy(policy)
    state, newest = monitor_state(session.store, policy), newest_training(session.store, policy)
    return (
        CheckResult("config", "loaded", ConfigFacts(config.origin)),
        _database(session),
        *_overwrite(session),
        *_model_key(config),
        _clock(session, state),
        _transactions(state),
        *_entities(session, config),
        *(CheckResult("waiting_rows", "waiting", each, failed=True) for each in waiting_payments(session)),
        *_currency_rates(session, config),
        _labels(state, config),
        _model(state, newest),
        *_newest_training(newest),
        _schedule(session, policy),
        _ticks(session, config),
        *_failing(session),
        _steps(state),
        *_unscored(session, policy),
        CheckResult("queue", "counted", QueueFacts(state.queue)),
        _flags(state) if policy == LIVE else CheckResult("scores", "counted", _scores(state)),
        _cases(session),
        *_overdue(session),
        _messages(session, config),
        *(_challenger(session, name) for name in sorted(config.shadow)),
    )


def repair(session: Session) -> None:
    """Put right what `check` finds wrong in tables that are derived from others: the cases of the queue."""
    repair_cases(session.store, session.actor, session.now)


def _database(session: Session) -> CheckResult:
    with session.store.read() as connection:
        version = str(setup.schema_version(connection))
    facts = DatabaseFacts(session.store.display_url, session.config.monitor.name, version, tables.VERSION)
    newer = version > tables.VERSION
    return CheckResult("database", "newer" if newer else "usable", facts, failed=newer)


def _overwrite(session: Session) -> Iterator[CheckResult]:
    since = waiting_since(session.store)
    if since is not None:
        yield CheckResult("erased", "old_bytes", OverwriteFacts(as_datetime(since)), failed=True)


def _clock(session: Session, state: MonitorState) -> CheckResult:
    facts = ClockFacts(as_datetime(session.now), state.newest_transaction)
    newest = facts.newest_transaction
    behind = newest is not None and newest > facts.now + CLOCK_TOLERANCE
    return CheckResult("clock", "behind_data" if behind else "plausible", facts, failed=behind)


def _transactions(state: MonitorState) -> CheckResult:
    facts = TransactionFacts(state.transactions, state.rejected, state.newest_transaction)
    stored = bool(facts.stored)
    return CheckResult("transactions", "stored" if stored else "none_stored", facts, failed=not stored)


def _labels(state: MonitorState, config: Config) -> CheckResult:
    maturity = timedelta(microseconds=config.labels.maturity)
    longest = timedelta(microseconds=config.labels.longest_maturity)
    unknown = state.labels_without_transaction
    facts = LabelFacts(state.labels, state.frauds, state.newest_label, maturity, longest, unknown)
    failed = bool(state.transactions and unknown == state.labels > 0)  # the two files have different ids
    return CheckResult("labels", "stored" if facts.stored else "none_stored", facts, failed=failed)


def _model_key(config: Config) -> Iterator[CheckResult]:
    """Whether the key that seals models is missing; SQLite may go without one."""
    try:
        config.model_keys()
    except ConfigError as error:
        yield CheckResult("model_key", "missing", ModelKeyFacts(str(error)), failed=True)


def _entities(session: Session, config: Config) -> Iterator[CheckResult]:
    """Entity columns of which one value holds a large part: often a text that stands for a missing value."""
    for commonest in commonest_values(session.store, config.schema_.entities):
        if commonest.share > DOMINANT:
            yield CheckResult("entities", "dominated", as_record(EntityFacts, vars(commonest)))


def _currency_rates(session: Session, config: Config) -> Iterator[CheckResult]:
    """Currencies whose newest payments have an old rate, and a file of rates that cannot be used."""
    try:
        for rate in stale_rates(session.store, config):
            yield CheckResult("currency_rates", "stale", rate)
    except InputError as error:
        yield CheckResult("currency_rates", "unusable", RatesFileFacts(str(error)), failed=True)


def _model(state: MonitorState, newest: TrainingOutcome | None) -> CheckResult:
    facts = ModelFacts(state.promotions, state.strategy, state.training_error, state.withdrawn_promotions)
    code = "promoted"
    if not facts.promotions:
        cases = (
            ("training_failed", facts.training_error),
            ("withdrawn", facts.withdrawn),
            ("not_promoted", newest is not None and newest.candidate is not None),
        )
        code = next((name for name, applies in cases if applies), "never_trained")
    return CheckResult("model", code, facts, failed=not facts.promotions)


def _newest_training(newest: TrainingOutcome | None) -> Iterator[CheckResult]:
    """Whether the newest training promoted its model, and if not, why."""
    if newest is None:
        return
    cases = (
        ("training_failed", newest.error is not None),
        ("candidate_rejected", newest.candidate is not None),
        ("nothing_new", newest.nothing_new),
    )
    code = next((name for name, applies in cases if applies), "promoted")
    failed = code in ("training_failed", "candidate_rejected") and not newest.overruled
    yield CheckResult("newest_training", code, as_record(TrainingFacts, vars(newest)), failed=failed)


def _schedule(session: Session, policy: str) -> CheckResult:
    starts_at = scoring_queue.starts_at(session.store, policy)
    if starts_at is None:
        return CheckResult("schedule", "not_started", ScheduleFacts(None))
    return CheckResult("schedule", "started", ScheduleFacts(as_datetime(starts_at)))


def _ticks(session: Session, config: Config) -> CheckResult:
    last, zone = tick_steps.last_tick(session.store), ZoneInfo(config.schedule.timezone)
    due = (as_datetime(at).astimezone(zone) for at in ticks_after(config.schedule, session.now))
    facts = TickFacts(None if last is None else as_datetime(last), tuple(islice(due, NEXT_TICKS)))
    return CheckResult("ticks", "none_yet" if last is None else "planned", facts)


def _failing(session: Session) -> Iterator[CheckResult]:
    for step in tick_steps.failing(session.store):
        since = as_datetime(step.failing_since or step.ended_at)
        worked = step.succeeded_at
        paused = worked is not None and step.failing_since is not None and worked > step.failing_since
        worked_at = as_datetime(worked) if worked is not None and paused else None
        facts = FailureFacts(step.name, since, worked_at, step.failures, step.error or "")
        yield CheckResult("failing", step.code or "bug", facts, failed=True)


def _steps(state: MonitorState) -> CheckResult:
    facts = StepFacts(state.windows_done, state.windows_open, state.steps_open)
    unfinished = bool(facts.windows_open or facts.others_open)
    failed = bool(facts.windows_open and not facts.windows_done)
    return CheckResult("steps", "unfinished" if unfinished else "done", facts, failed=failed)


def _unscored(session: Session, policy: str) -> Iterator[CheckResult]:
    if policy != LIVE:
        return  # a challenger begins when it is added
    for code, span in unscored_spans(session.store, policy).items():
        facts = UnscoredFacts(as_datetime(span.start), as_datetime(span.end), span.payments)
        yield CheckResult("unscored", code, facts, failed=True)


def _scores(state: MonitorState) -> ScoreFacts:
    return ScoreFacts(state.scored, state.flagged, state.flags_open, state.flags_closed, state.flags_expired)


def _flags(state: MonitorState) -> CheckResult:
    facts = _scores(state)
    if not facts.scored:
        return CheckResult("flags", "nothing_scored", facts, failed=True)
    return CheckResult("flags", "raised" if facts.flagged else "all_below_thresholds", facts)


def _cases(session: Session) -> CheckResult:
    """Whether what is stored of the cases of the queue is what their flags say."""
    with session.store.read() as connection:
        found = check_cases(connection, session.store.fields.case_entity)
    wrong = bool(found.wrong or found.wrong_counts)
    facts = as_record(CaseFacts, found._asdict())
    return CheckResult("cases", "differ" if wrong else "as_flags", facts, failed=wrong)


def _overdue(session: Session) -> Iterator[CheckResult]:
    """How many cases are overdue, where there is a time to answer."""
    within = session.config.alerts.answer_within
    if within:
        n = count_overdue(session)
        facts = OverdueFacts(n, timedelta(microseconds=within))
        yield CheckResult("answers", "overdue" if n else "in_time", facts, failed=bool(n))


def _messages(session: Session, config: Config) -> CheckResult:
    if not config.notifies:
        return CheckResult("messages", "no_receiver", MessageFacts(0, 0, 0, 0))
    counts = outbox.counts(session.store)
    facts = MessageFacts(
        receivers=len(config.notify.urls) + len(config.webhook),
        sent=counts.get("sent", 0),
        waiting=counts.get("pending", 0) + counts.get("sending", 0),
        failed=counts.get("failed", 0),
    )
    return CheckResult(
        "messages", "undelivered" if facts.failed else "delivered", facts, failed=bool(facts.failed)
    )


def _challenger(session: Session, name: str) -> CheckResult:
    state = monitor_state(session.store, name)
    strategy = state.strategy if state.promotions else None
    steps = state.windows_open + state.steps_open
    facts = ChallengerFacts(name, state.scored, state.queue, steps, strategy)
    return CheckResult("challenger", "counted", facts)
