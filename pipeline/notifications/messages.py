"""Write the text of notifications; values from data and errors are sanitised first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

from pipeline.config.config import Config
from pipeline.config.sections import EVENTS
from pipeline.errors import InputError
from pipeline.monitoring.drift_text import metric_text, remedy
from pipeline.monitoring.quality_text import format_value
from pipeline.sanitize import for_message as safe
from pipeline.sanitize import id_for_message
from pipeline.schedule.planning import day
from storage.database.column_types import as_datetime
from storage.database.views import field_name

Row = Mapping[str, Any]
NAMES_MAX = 3  # features in a subject
LINES_MAX = 20  # of one list in a body


@dataclass(frozen=True)
class Notification:
    """Subject and body for an event, independent of the receiver; `key` identifies the event."""

    key: str
    event: str
    subject: str
    body: str


def render(notification: Notification, config: Config) -> Notification:
    """
    Apply the user's template EVENT.txt, if there is one: its first line is the subject, the rest the body.

    `$monitor`, `$event`, `$subject`, `$body` and `$key` are filled in. A template that cannot be used does not stop a
    message: the built-in text is sent with a note about the error.
    """
    built_in = Notification(
        notification.key,
        notification.event,
        f"[{config.monitor.name}] {notification.subject}",
        f"{notification.body}\n\nkey {notification.key}",
    )
    path = Path(config.notify.templates) / f"{notification.event}.txt"
    if not config.notify.templates or not path.exists():
        return built_in
    try:
        text = _fill_template(path, notification, config)
    except TemplateError as error:
        return replace(built_in, body=f"{built_in.body}\n{error}: this is the built-in text instead")
    first, _, rest = text.partition("\n")
    return replace(built_in, subject=first.strip() or built_in.subject, body=rest.strip())


def template_errors(config: Config) -> Iterator[str]:
    """Errors in the user's templates, a sentence each."""
    if config.notify.templates and not Path(config.notify.templates).is_dir():
        yield f"notify.templates is {config.notify.templates!r}, which is not a folder"
    for event in (*EVENTS, "test") if config.notify.templates else ():
        path = Path(config.notify.templates) / f"{event}.txt"
        try:
            if path.exists():
                _fill_template(path, Notification("", event, "", ""), config)
        except TemplateError as error:
            yield str(error)


class TemplateError(InputError):
    """A template of the user's that cannot be filled in."""


def _fill_template(path: Path, notification: Notification, config: Config) -> str:
    values = {name: getattr(notification, name) for name in ("event", "key", "subject", "body")}
    try:
        text = path.read_text(encoding="utf-8")
        return Template(text).substitute(values | {"monitor": config.monitor.name})
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path} cannot be read as text ({type(error).__name__})") from None
    except KeyError as error:
        raise TemplateError(
            f"{path} uses ${error.args[0]}, which does not exist: use monitor, event, subject, body or key"
        ) from None
    except ValueError as error:
        raise TemplateError(f"{path} cannot be filled in: {error}; write $$ for a dollar") from None


def flags_digest(policy: str, ids: Sequence[str], rows: Sequence[Row], config: Config) -> Notification:
    """A digest of flags to review, the largest amounts first."""
    currency, total = config.schema_.base_currency, sum(row["amount_base"] for row in rows)
    n = f"{len(rows):,} transaction{'s' if len(rows) > 1 else ''}"
    lines = [f"{n} to review, worth {total:,.2f} {currency}: {_by_channel(rows)}.", ""]
    for row in rows[: config.notify.top]:
        lines += _flag_lines(row, config)
    more = len(rows) - config.notify.top
    lines += [f"and {more:,} more", ""] if more > 0 else [""]
    lines.append("fraudwatch flags list --status open lists them; fraudwatch verdict records a verdict.")
    key = f"flags:{policy}:{_short_hash(*ids)}"
    return Notification(key, "flags", f"{n} to review, worth {total:,.0f} {currency}", "\n".join(lines))


def _by_channel(rows: Sequence[Row]) -> str:
    channels = [row["channel"] for row in rows]
    return ", ".join(f"{channels.count(channel):,} {channel}" for channel in sorted(set(channels)))


def _flag_lines(row: Row, config: Config) -> Iterator[str]:
    amount = f"{row['amount_base']:,.2f} {config.schema_.base_currency}"
    yield f"{id_for_message(row['transaction_id'])}  {row['event_time']:%Y-%m-%d %H:%M} UTC  {amount}  {row['channel']}  score {row['score']:.4f}"
    fields = {name: row[field_name(name)] for name in config.notify.fields}
    if fields:
        yield "    " + ", ".join(
            f"{name} {'–' if value is None else safe(str(value))}" for name, value in fields.items()
        )
    for reason in row["reasons"][:3]:
        yield f"    {_reason_text(reason)}"


def _reason_text(reason: Row) -> str:
    """The text of a reason; a rule is named by its number, because its text may contain card numbers."""
    return f"rule {reason['value']}" if reason["code"] == "RULE" else safe(reason["text"])


def step_failed(row: Row) -> Notification:
    """A step of the ledger that failed and is not retried; for a training, that there is no new model."""
    error = _error_text(row)
    until = day(row["window_end"])
    if row["kind"] == "train":
        key = f"model:{row['policy']}:refused:{row['window_end']}:{_short_hash(row['error'] or '')}"
        body = (
            f"The training of {until} produced no new model: {error}\n\nThe previous model keeps scoring. "
            "fraudwatch readiness lists all findings with their remedies; fraudwatch train trains again."
        )
        return Notification(key, "model", f"no new model of {until}", body)
    key = f"failure:{row['policy']}:{row['kind']}:{row['window_start']}:{row['window_end']}:{row['finished_at']}"
    span = f"{_minute_text(row['window_start'])} to {_minute_text(row['window_end'])}"
    body = (
        f"{row['kind']} of {span} failed {row['attempts']} times and is not retried: {error}\n\n"
        "Fix the cause, then run fraudwatch backfill over the window; fraudwatch gaps lists all unfinished steps."
    )
    return Notification(key, "failure", f"{row['kind']} of {until} failed, no retries left", body)


def _error_text(row: Row) -> str:
    """The first line of an error; a database puts values of rows in the other lines."""
    return safe((row["error"] or "no reason was recorded").partition("\n")[0])


def run_failed(policy: str, row: Row) -> Notification:
    """A run that ended early; the same error is sent once a day."""
    error = _error_text(row)
    key = f"failure:{policy}:run:{day(row['started_at'])}:{_short_hash(row['error'] or '')}"
    body = f"Run {row['run_id']} ({row['kind']}) ended early: {error}\n\nThe next run continues from there. fraudwatch runs lists all runs."
    return Notification(key, "failure", f"a {row['kind']} run failed", body)


def drift_alarm(rows: Sequence[Row], before: set[tuple[str, str]]) -> Notification | None:
    """The drift alarms of a window; None if the previous window had all of them."""
    new = [row for row in rows if (row["feature"], row["metric"]) not in before]
    if not new:
        return None
    first = rows[0]
    repeated = [row for row in rows if row not in new]
    lines = [
        f"From {_minute_text(first['window_start'])} to {_minute_text(first['window_end'])} these moved away from the reference:",
        "",
    ]
    lines += _bullets([f"{safe(metric_text(row))}: {remedy(row)}" for row in new])
    lines += (
        ["", "As in the previous window:", "", *_bullets([safe(metric_text(row)) for row in repeated])]
        if repeated
        else []
    )
    lines += ["", "fraudwatch drift lists all metrics; docs/operations.md explains what to do."]
    key = f"drift:{first['policy']}:{first['window_start']}:{first['window_end']}"
    return Notification(
        key, "drift", f"drift: {_name_list([row['feature'] for row in new])}", "\n".join(lines)
    )


def quality_alarm(rows: Sequence[Row], currency: str) -> Notification:
    """The quality alarms of a window; sent again if the set of alarms changes."""
    first = rows[0]
    names = sorted({f"{row['metric']}" for row in rows})
    marks = [f"{row['model_id']} {row['channel']} {row['metric']} {row['kind']}" for row in rows]
    lines = [f"From {_minute_text(first['window_start'])} to {_minute_text(first['window_end'])}:", ""]
    lines += _bullets([_metric_text(row, currency) for row in rows])
    lines += ["", "fraudwatch quality lists all metrics; docs/operations.md explains what to do."]
    key = f"quality:{first['policy']}:{first['window_start']}:{first['window_end']}:{_short_hash(*marks)}"
    return Notification(key, "quality", f"quality: {_name_list(names)}", "\n".join(lines))


def _metric_text(row: Row, currency: str) -> str:
    note = f": {safe(row['message'])}" if row["message"] else ""
    return f"{row['metric']} of channel {row['channel']}, {row['kind']}: {format_value(row['metric'], row['value'], currency)}{note}"


def choice_changed(row: Row) -> Notification:
    """The strategy changed since the previous training."""
    key = f"choice:{row['policy']}:{row['training_date']}:{row['strategy']}"
    body = (
        f"From {day(row['training_date'])} on: {row['strategy']}; before: {row['before']}.\n{safe(row['sentence'])}\n\n"
        f"Next change: {safe(row['next_change'] or '–')}\n"
        f"fraudwatch strategy show {row['choice_id']} prints it in full."
    )
    return Notification(key, "choice", f"{row['strategy']} instead of {row['before']}", body)


def candidate_rejected(row: Row) -> Notification:
    """A candidate that the promotion gate turned down."""
    key = f"model:{row['policy']}:refused:{row['model_id']}"
    body = (
        f"{safe(row['sentence'])}\n\nModel {row['champion_id']} stays in force. fraudwatch models show {row['model_id']} has the numbers; "
        f"fraudwatch models promote {row['model_id']} promotes the candidate anyway."
    )
    return Notification(
        key, "model", f"candidate {row['model_id']} of {day(row['training_date'])} was rejected", body
    )


def model_promoted(policy: str, row: Row) -> Notification:
    """A model was promoted."""
    key = f"model:{policy}:{row['seq']}:{row['model_id']}"
    body = (
        f"Model {row['model_id']} ({row['strategy']}, {row['n_fraud']:,} frauds among {row['n_mature']:,} mature transactions) scores "
        f"from {_minute_text(row['effective_from'])} on, by {safe(row['by'])}: {safe(row['reason'])}\n\n"
        f"fraudwatch models show {row['model_id']} has the details; fraudwatch models rollback promotes the previous model again."
    )
    return Notification(
        key, "model", f"model {row['model_id']} scores from {day(row['effective_from'])} on", body
    )


def merged(messages: Sequence[tuple[str, str, str]], event: str) -> Notification:
    """One notification with the subjects of many messages, each given as (key, subject, body)."""
    inner = [
        body
        if key.startswith("merged:")
        else f"- {subject}"  # a merged message already has a list of subjects
        for key, subject, body in messages
    ]
    key = f"merged:{_short_hash(*(key for key, _, _ in messages))}"
    n = sum(part.count("\n") + 1 for part in inner)
    return Notification(key, event, f"{n:,} messages in one", "\n".join(inner))


def _name_list(names: Sequence[str]) -> str:
    once = list(dict.fromkeys(safe(name) for name in names))
    more = f" and {len(once) - NAMES_MAX} more" if len(once) > NAMES_MAX else ""
    return ", ".join(once[:NAMES_MAX]) + more


def _bullets(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LINES_MAX
    return [*(f"- {line}" for line in lines[:LINES_MAX]), *([f"- and {more:,} more"] if more > 0 else [])]


def _short_hash(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _minute_text(instant: int) -> str:
    return as_datetime(instant).strftime("%Y-%m-%d %H:%M UTC")
