"""The kinds of notifications, and their texts; values from data and errors are sanitised first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from pipeline.config.config import Config
from pipeline.monitoring.drift_text import metric_text, remedy
from pipeline.monitoring.quality_text import format_value
from pipeline.notifications.burst import Burst, find_burst
from pipeline.number_text import counted, exact, money, number, percent, score_text
from pipeline.sanitize import for_message as safe
from pipeline.sanitize import id_for_message, value_for_message
from pipeline.schedule.planning import day
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY
from storage.notifications import events
from storage.notifications.events import DriftAlarms, Event, EventWindow
from storage.runs.tick_steps import TickStep

Row = Mapping[str, Any]
FLAGS_MAX = 10  # flags that a digest shows, the largest expected losses first
NAMES_MAX = 3  # features in a subject
LINES_MAX = 20  # of one list in a body
# Rules of the promotion gate that say what to do themselves.
CORRECTED_IN_DATA = frozenset({"LEAK", "HISTORY_CHANGED"})
VALUES_MAX = 10  # of a field that a message about a limit names, the worst first


@dataclass(frozen=True)
class Notification:
    """Subject and body, independent of the receiver; a receiver gets each `key` once."""

    key: str
    subject: str
    body: str


@dataclass(frozen=True)
class NotificationKind:
    """What people are notified of: the event by which they choose it, a query for what is new, and its text."""

    event: Event
    query: Callable[[Store, EventWindow], Sequence[Any]]
    text: Callable[[Any], Notification]


def notification_kinds(config: Config) -> tuple[NotificationKind, ...]:
    """Every kind of notification but the digest of flags, which is queued together with its flags."""
    quality_text = partial(quality_alarm, currency=config.schema_.base_currency)
    return (
        NotificationKind("model", events.new_promotions, model_promoted),
        NotificationKind("model", events.failed_trainings, training_failed),
        NotificationKind("model", events.rejected_candidates, candidate_rejected),
        NotificationKind("failure", events.failed_steps, step_failed),
        NotificationKind("failure", events.failed_runs, run_failed),
        NotificationKind("failure", events.failing_parts, part_fails),
        NotificationKind("failure", events.recovered_parts, part_works_again),
        NotificationKind("choice", events.changed_choices, choice_changed),
        NotificationKind("drift", events.drift_alarms, drift_alarm),
        NotificationKind("quality", events.quality_alarms, quality_text),
        NotificationKind("limit", events.limits_reached, partial(limit_reached, config=config)),
    )


def flags_digest(
    policy: str, ids: Sequence[str], rows: Sequence[Row], largest: Sequence[Row], config: Config
) -> Notification:
    """A digest of all flags to review, which shows the largest expected losses; of a burst it says who has most of them."""
    currency, total = config.schema_.base_currency, sum(row["amount_base"] for row in rows)
    n = f"{len(rows):,} transaction{'s' if len(rows) > 1 else ''}"
    burst = find_burst(rows, config)
    subject = f"{n} to review, worth {money(total, currency)}"
    lines = [f"{subject}: {_by_channel(rows)}.", ""]
    if burst is not None:
        subject = f"burst: {counted(burst.cases, 'case')}, {subject}"
        lines += _burst_lines(burst, config)
    for row in largest:
        lines += _flag_lines(row, currency)
    more = len(rows) - len(largest)
    lines += [f"and {more:,} more", ""] if more > 0 else [""]
    command = "fraudwatch flags list --status open" if burst is None else burst.command
    lines.append(f"{command} lists them; fraudwatch verdict records a verdict.")
    return Notification(f"flags:{policy}:{_short_hash(*ids)}", subject, "\n".join(lines))


def _burst_lines(burst: Burst, config: Config) -> Iterator[str]:
    yield f"They are {counted(burst.cases, 'case')}, {burst.cases_of_day:,} of them of {burst.day}, where alerts.per_day is {config.alerts.per_day:,}."
    if burst.entities:
        yield f"Most flags by {config.case_entity}:"
        yield from (f"- {safe(entity)}: {flags:,}" for entity, flags in burst.entities)
    yield ""


def _by_channel(rows: Sequence[Row]) -> str:
    channels = [row["channel"] for row in rows]
    return ", ".join(f"{channels.count(channel):,} {channel}" for channel in sorted(set(channels)))


def _flag_lines(row: Row, currency: str) -> Iterator[str]:
    amount, loss = money(row["amount_base"], currency), row["expected_loss"]
    most = "" if row["fraud_probability"] is not None else "at most "
    expected = "" if loss is None else f"  expected loss {most}{money(round(loss, 2), currency)}"
    yield f"{id_for_message(row['transaction_id'])}  {row['event_time']:%Y-%m-%d %H:%M} UTC  {amount}  {row['channel']}  score {score_text(row['score'])}{expected}"
    for reason in row["reasons"][:3]:
        yield f"    {_reason_text(reason)}"


def _reason_text(reason: Row) -> str:
    """The text of a reason; a rule is named by its number, because its text may contain card numbers."""
    return f"rule {reason['value']}" if reason["code"] == "RULE" else safe(reason["text"])


def step_failed(row: Row) -> Notification:
    """A step of the ledger that failed and is not retried."""
    until = day(row["window_end"])
    key = f"failure:{row['policy']}:{row['kind']}:{row['window_start']}:{row['window_end']}:{row['finished_at']}"
    body = (
        f"{row['kind']} of {_span_text(row)} failed {row['attempts']} times and is not retried: {_error_text(row)}\n\n"
        "Fix the cause, then run fraudwatch backfill over the window; fraudwatch gaps lists all unfinished steps."
    )
    return Notification(key, f"{row['kind']} of {until} failed, no retries left", body)


def training_failed(row: Row) -> Notification:
    """A training that failed and is not retried."""
    until = day(row["window_end"])
    key = f"model:{row['policy']}:refused:{row['window_end']}:{_short_hash(row['error'] or '')}"
    body = (
        f"The training of {until} produced no new model: {_error_text(row)}\n\nThe previous model keeps scoring. "
        "fraudwatch readiness lists all findings with their remedies; fraudwatch train trains again."
    )
    return Notification(key, f"no new model of {until}", body)


def _error_text(row: Row) -> str:
    """The first line of an error; a database puts values of rows in the other lines."""
    return safe((row["error"] or "no reason was recorded").partition("\n")[0])


def run_failed(row: Row) -> Notification:
    """A run that ended early; the same error is sent once a day."""
    error = _error_text(row)
    key = f"failure:{row['policy']}:run:{day(row['started_at'])}:{_short_hash(row['error'] or '')}"
    body = f"Run {row['run_id']} ({row['kind']}) ended early: {error}\n\nThe next run continues from there. fraudwatch runs lists all runs."
    return Notification(key, f"a {row['kind']} run failed", body)


def part_fails(part: TickStep) -> Notification:
    """A feed or another part of a tick that began to fail."""
    error = safe((part.error or "no reason was recorded").partition("\n")[0])
    body = (
        f"{part.name} fails since {_minute_text(part.failing_since or 0)}: {error}\n\n"
        "The rest of each tick goes on. It is tried again, a file when it changes; a message comes when it works again. "
        "fraudwatch doctor lists all parts that fail, fraudwatch feeds all files."
    )
    return Notification(f"failure:part:{part.name}:{part.failing_since}", f"{part.name} fails", body)


def part_works_again(part: TickStep) -> Notification:
    """A feed or another part of a tick that failed and works again."""
    failed = _span_text({"window_start": part.recovered_from, "window_end": part.recovered_at})
    body = f"{part.name} works again. It failed from {failed}."
    return Notification(
        f"failure:part:{part.name}:{part.recovered_from}:over", f"{part.name} works again", body
    )


def no_tick_since(last: int, now: int) -> Notification:
    """No tick of the schedule has ended for long."""
    body = (
        f"No tick has ended since {_minute_text(last)}, as seen {_minute_text(now)}: nothing was read, scored or sent in between. "
        "What was missed is caught up, once a daemon works.\n\n"
        "The log says why: the daemon was stopped, hung, or could not use its database."
    )
    return Notification(f"failure:no_tick:{last}", f"no tick since {_minute_text(last)}", body)


def drift_alarm(alarms: DriftAlarms) -> Notification:
    """The drift alarms of a window."""
    first = alarms.new[0]
    lines = [f"From {_span_text(first)} these moved away from the reference:", ""]
    lines += _bullets([f"{safe(metric_text(row))}: {remedy(row)}" for row in alarms.new])
    if alarms.repeated:
        lines += ["", "As in the previous window:", ""]
        lines += _bullets([safe(metric_text(row)) for row in alarms.repeated])
    lines += ["", "fraudwatch drift lists all metrics; docs/operations.md explains what to do."]
    key = f"drift:{first['policy']}:{first['window_start']}:{first['window_end']}"
    return Notification(key, f"drift: {_name_list([row['feature'] for row in alarms.new])}", "\n".join(lines))


def quality_alarm(rows: Sequence[Row], currency: str) -> Notification:
    """The quality alarms of a window; sent again if the set of alarms changes."""
    first = rows[0]
    names = sorted({f"{row['metric']}" for row in rows})
    marks = [f"{row['model_id']} {row['channel']} {row['metric']} {row['kind']}" for row in rows]
    lines = [f"From {_span_text(first)}:", "", *_bullets([_metric_text(row, currency) for row in rows])]
    lines += ["", "fraudwatch quality lists all metrics; docs/operations.md explains what to do."]
    key = f"quality:{first['policy']}:{first['window_start']}:{first['window_end']}:{_short_hash(*marks)}"
    return Notification(key, f"quality: {_name_list(names)}", "\n".join(lines))


def _metric_text(row: Row, currency: str) -> str:
    note = f": {safe(row['message'])}" if row["message"] else ""
    return f"{row['metric']} of channel {row['channel']}, {row['kind']}: {format_value(row['metric'], row['value'], currency)}{note}"


def limit_reached(rows: Sequence[Row], config: Config) -> Notification:
    """A limit that is near or crossed, on all payments or for the worst values of its field."""
    first = rows[0]
    crossed = first["level"] == "crossed"
    state = "is crossed" if crossed else "is near"
    counted = f"{_span_text({'window_start': first['span_start'], 'window_end': first['span_end']})}, as known {_minute_text(first['at'])}"
    lines = [f"{_limit_text(first, config)}; {counted}:", ""]
    lines += [f"- {_state_text(row, config)}" for row in rows[:VALUES_MAX]]
    more = len(rows) - VALUES_MAX
    lines += [f"- and {more:,} more values"] if more > 0 else []
    lines += ["", "fraudwatch limits lists where all limits stand; fraudwatch rates has the months before."]
    who = f" for {len(rows):,} of {first['field']}" if first["field"] else ""
    key = f"limit:{first['name']}:{day(first['period_start'])}:{first['level']}:{first['at'] if first['field'] else 'all'}"
    return Notification(key, f"limit {first['name']} {state}{who}", "\n".join(lines))


def _limit_text(row: Row, config: Config) -> str:
    limit = config.limit.get(row["name"])
    of = "" if limit is None else f" of {limit.rate.replace('_', ' ')} by {limit.of}"
    return f"Limit {row['name']}: {exact(row['limit_basis_points'])} basis points{of}"


def _state_text(row: Row, config: Config) -> str:
    who = (
        f"{row['field']} {value_for_message(row['value'], row['field'] in config.schema_.hash)}: "
        if row["field"]
        else ""
    )
    rate = (
        "no payments"
        if row["basis_points"] is None
        else f"{number(row['basis_points'])} basis points, {percent(row['share'])} of the limit"
    )
    expected = (
        ""
        if row["expected_share"] is None
        else f"; at its end {number(row['expected_basis_points'])} are expected, {percent(row['expected_share'])}"
    )
    return (
        f"{who}{rate} ({counted(row['reports'], 'report')}, {counted(row['payments'], 'payment')}){expected}"
    )


def choice_changed(row: Row) -> Notification:
    """The strategy changed since the previous training."""
    key = f"choice:{row['policy']}:{row['training_date']}:{row['strategy']}"
    body = (
        f"From {day(row['training_date'])} on: {row['strategy']}; before: {row['before']}.\n{safe(row['sentence'])}\n\n"
        f"Next change: {safe(row['next_change'] or '–')}\n"
        f"fraudwatch strategy show {row['choice_id']} prints it in full."
    )
    return Notification(key, f"{row['strategy']} instead of {row['before']}", body)


def candidate_rejected(row: Row) -> Notification:
    """A candidate that the promotion gate turned down; the age of the champion from the second in a row on."""
    key = f"model:{row['policy']}:refused:{row['model_id']}"
    lines = [safe(row["sentence"])]
    if row["refusals"] > 1:
        days = (row["training_date"] - row["champion_trained_at"]) // DAY
        lines.append(
            f"That is {row['refusals']} candidates in a row: model {row['champion_id']}, in force, was trained {counted(days, 'day')} before."
        )
    if row["rule"] not in CORRECTED_IN_DATA:
        lines.append(
            f"If settings or data were changed on purpose: fraudwatch models promote {row['model_id']}. Otherwise the next "
            "training brings another candidate."
        )
    subject = f"candidate {row['model_id']} of {day(row['training_date'])} was rejected"
    return Notification(key, subject, "\n\n".join(lines))


def model_promoted(row: Row) -> Notification:
    """A model was promoted."""
    key = f"model:{row['policy']}:{row['seq']}:{row['model_id']}"
    body = (
        f"Model {row['model_id']} ({row['strategy']}, {counted(row['n_fraud'], 'fraud')} among {counted(row['n_mature'], 'mature transaction')}) scores "
        f"from {_minute_text(row['effective_from'])} on, by {safe(row['by'])}: {safe(row['reason'])}\n\n"
        f"fraudwatch models show {row['model_id']} has the details; fraudwatch models rollback promotes the previous model again."
    )
    return Notification(key, f"model {row['model_id']} scores from {day(row['effective_from'])} on", body)


def merged(messages: Sequence[tuple[str, str, str]]) -> Notification:
    """One notification with the subjects of many messages, each given as (key, subject, body)."""
    inner = [
        body
        if key.startswith("merged:")
        else f"- {subject}"  # a merged message already has a list of subjects
        for key, subject, body in messages
    ]
    key = f"merged:{_short_hash(*(key for key, _, _ in messages))}"
    n = sum(part.count("\n") + 1 for part in inner)
    return Notification(key, f"{n:,} messages in one", "\n".join(inner))


def _name_list(names: Sequence[str]) -> str:
    once = list(dict.fromkeys(safe(name) for name in names))
    more = f" and {len(once) - NAMES_MAX} more" if len(once) > NAMES_MAX else ""
    return ", ".join(once[:NAMES_MAX]) + more


def _bullets(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LINES_MAX
    return [*(f"- {line}" for line in lines[:LINES_MAX]), *([f"- and {more:,} more"] if more > 0 else [])]


def _short_hash(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _span_text(row: Row) -> str:
    return f"{_minute_text(row['window_start'])} to {_minute_text(row['window_end'])}"


def _minute_text(instant: int) -> str:
    return as_datetime(instant).strftime("%Y-%m-%d %H:%M UTC")
