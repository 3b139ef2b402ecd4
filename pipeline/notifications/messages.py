"""Facts → the words of a message. Whatever comes from data or from an error is made harmless first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

from pipeline.config.config import Config
from pipeline.config.sections import EVENTS
from pipeline.errors import InputError
from pipeline.monitoring.drift_text import in_words, remedy
from pipeline.monitoring.quality_text import shown
from pipeline.sanitize import for_message as safe
from pipeline.sanitize import id_for_message
from pipeline.schedule.planning import day
from storage.database.column_types import as_datetime
from storage.database.views import field_name

Row = Mapping[str, Any]
NAMED = 3  # features in a subject
LINES_MAX = 20  # of one list in a body


@dataclass(frozen=True)
class Story:
    """What there is to tell, to whomever."""

    key: str
    event: str
    subject: str
    body: str


def told(story: Story, config: Config) -> Story:
    """
    The story in the user's own words, if there are any: the first line of EVENT.txt is the subject, the rest the body.

    `$monitor`, `$event`, `$subject`, `$body` and `$key` stand for ours. A text that cannot be used does not hold a
    message up: ours goes out, and says so.
    """
    ours = Story(
        story.key, story.event, f"[{config.monitor.name}] {story.subject}", f"{story.body}\n\nkey {story.key}"
    )
    path = Path(config.notify.templates) / f"{story.event}.txt"
    if not config.notify.templates or not path.exists():
        return ours
    try:
        filled = _filled(path, story, config)
    except TemplateError as error:
        return replace(ours, body=f"{ours.body}\n{error}: these are fraudwatch's own words")
    first, _, rest = filled.partition("\n")
    return replace(ours, subject=first.strip() or ours.subject, body=rest.strip())


def wrong_templates(config: Config) -> Iterator[str]:
    """What is wrong with the user's own words, a sentence each."""
    if config.notify.templates and not Path(config.notify.templates).is_dir():
        yield f"notify.templates names {config.notify.templates!r}, which is no folder"
    for event in (*EVENTS, "test") if config.notify.templates else ():
        path = Path(config.notify.templates) / f"{event}.txt"
        try:
            if path.exists():
                _filled(path, Story("", event, "", ""), config)
        except TemplateError as error:
            yield str(error)


class TemplateError(InputError):
    """A text of the user's own that cannot be filled in."""


def _filled(path: Path, story: Story, config: Config) -> str:
    words = {name: getattr(story, name) for name in ("event", "key", "subject", "body")}
    try:
        text = path.read_text(encoding="utf-8")
        return Template(text).substitute(words | {"monitor": config.monitor.name})
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path} cannot be read as text ({type(error).__name__})") from None
    except KeyError as error:
        raise TemplateError(
            f"{path} names ${error.args[0]}: there are monitor, event, subject, body, key"
        ) from None
    except ValueError as error:
        raise TemplateError(f"{path} cannot be filled in: {error}; write $$ for a dollar") from None


def digest(policy: str, ids: Sequence[str], rows: Sequence[Row], config: Config) -> Story:
    """Flags to review, the largest amounts first."""
    money, total = config.schema_.base_currency, sum(row["amount_base"] for row in rows)
    n = f"{len(rows):,} transaction{'s' if len(rows) > 1 else ''}"
    lines = [f"{n} to review, worth {total:,.2f} {money}: {_by_channel(rows)}.", ""]
    for row in rows[: config.notify.top]:
        lines += _flag(row, config)
    more = len(rows) - config.notify.top
    lines += [f"and {more:,} more", ""] if more > 0 else [""]
    lines.append("fraudwatch flags --status open lists them, fraudwatch verdict answers them.")
    key = f"flags:{policy}:{_digest(*ids)}"
    return Story(key, "flags", f"{n} to review, worth {total:,.0f} {money}", "\n".join(lines))


def _by_channel(rows: Sequence[Row]) -> str:
    channels = [row["channel"] for row in rows]
    return ", ".join(f"{channels.count(one):,} {one}" for one in sorted(set(channels)))


def _flag(row: Row, config: Config) -> Iterator[str]:
    amount = f"{row['amount_base']:,.2f} {config.schema_.base_currency}"
    yield f"{id_for_message(row['transaction_id'])}  {row['event_time'][:16]} UTC  {amount}  {row['channel']}  score {row['score']:.4f}"
    fields = {name: row[field_name(name)] for name in config.notify.fields}
    if fields:
        yield "    " + ", ".join(
            f"{name} {'–' if value is None else safe(str(value))}" for name, value in fields.items()
        )
    for reason in row["reasons"][:3]:
        yield f"    {_reason(reason)}"


def _reason(reason: Row) -> str:
    """A rule by its number: its text may name cards."""
    return f"rule {reason['value']}" if reason["code"] == "RULE" else safe(reason["text"])


def failed_step(row: Row) -> Story:
    """A step of the ledger that is not tried again; of a training that there is no new model."""
    error = _error(row)
    until = day(row["window_end"])
    if row["kind"] == "train":
        key = f"model:{row['policy']}:refused:{row['window_end']}:{_digest(row['error'] or '')}"
        body = (
            f"The training of {until} gave no new model: {error}\n\nTransactions go on being scored by the model before it. "
            "fraudwatch readiness has all findings with their remedies; fraudwatch train tries again."
        )
        return Story(key, "model", f"no new model of {until}", body)
    key = f"failure:{row['policy']}:{row['kind']}:{row['window_start']}:{row['window_end']}:{row['finished_at']}"
    span = f"{_minute(row['window_start'])} to {_minute(row['window_end'])}"
    body = (
        f"{row['kind']} of {span} failed {row['attempts']} times and is not tried again: {error}\n\n"
        "Put right what it names, then fraudwatch backfill over the window; fraudwatch gaps lists what is not done."
    )
    return Story(key, "failure", f"{row['kind']} of {until} stays failed", body)


def _error(row: Row) -> str:
    """The first line of an error: a database's others hold the values of rows."""
    return safe((row["error"] or "no reason was kept").partition("\n")[0])


def broken_run(policy: str, row: Row) -> Story:
    """A run that ended early; the same error is told once a day."""
    error = _error(row)
    key = f"failure:{policy}:run:{day(row['started_at'])}:{_digest(row['error'] or '')}"
    body = f"Run {row['run_id']} ({row['kind']}) ended early: {error}\n\nThe next one goes on from there. fraudwatch runs lists them."
    return Story(key, "failure", f"a {row['kind']} run failed", body)


def drift_alarm(rows: Sequence[Row], before: set[tuple[str, str]]) -> Story | None:
    """A window's alarms; nothing when the window before it had them all."""
    fresh = [row for row in rows if (row["feature"], row["metric"]) not in before]
    if not fresh:
        return None
    first = rows[0]
    still = [row for row in rows if row not in fresh]
    lines = [
        f"From {_minute(first['window_start'])} to {_minute(first['window_end'])} this moved away from the reference:",
        "",
    ]
    lines += _listed([f"{safe(in_words(row))}: {remedy(row)}" for row in fresh])
    lines += (
        ["", "As in the window before:", "", *_listed([safe(in_words(row)) for row in still])]
        if still
        else []
    )
    lines += ["", "fraudwatch drift shows all of it; docs/operations.md says what to do."]
    key = f"drift:{first['policy']}:{first['window_start']}:{first['window_end']}"
    return Story(key, "drift", f"drift: {_named([row['feature'] for row in fresh])}", "\n".join(lines))


def quality_alarm(rows: Sequence[Row], currency: str) -> Story:
    """A window's alarms; told again when there are others."""
    first = rows[0]
    names = sorted({f"{row['metric']}" for row in rows})
    marks = [f"{row['model_id']} {row['channel']} {row['metric']} {row['kind']}" for row in rows]
    lines = [f"Of {_minute(first['window_start'])} to {_minute(first['window_end'])}:", ""]
    lines += _listed([_measured(row, currency) for row in rows])
    lines += ["", "fraudwatch quality shows all of it; docs/operations.md says what to do."]
    key = f"quality:{first['policy']}:{first['window_start']}:{first['window_end']}:{_digest(*marks)}"
    return Story(key, "quality", f"quality: {_named(names)}", "\n".join(lines))


def _measured(row: Row, currency: str) -> str:
    said = f": {safe(row['said'])}" if row["said"] else ""
    return f"{row['metric']} of channel {row['channel']}, {row['kind']}: {shown(row['metric'], row['value'], currency)}{said}"


def choice_changed(row: Row) -> Story:
    """Another strategy than at the training before."""
    key = f"choice:{row['policy']}:{row['training_date']}:{row['strategy']}"
    body = (
        f"From {day(row['training_date'])} on: {row['strategy']}, before: {row['before']}.\n{safe(row['sentence'])}\n\n"
        f"What would change it: {safe(row['what_would_change'] or '–')}\n"
        f"fraudwatch choices --explain {row['choice_id']} prints it in full."
    )
    return Story(key, "choice", f"{row['strategy']} instead of {row['before']}", body)


def refused(row: Row) -> Story:
    """A model that is worse than the one in force."""
    key = f"model:{row['policy']}:refused:{row['model_id']}"
    body = (
        f"{safe(row['sentence'])}\n\nModel {row['against']} goes on. fraudwatch models show {row['model_id']} has the numbers; "
        f"fraudwatch models promote {row['model_id']} overrules."
    )
    return Story(key, "model", f"model {row['model_id']} of {day(row['training_date'])} was refused", body)


def promoted(policy: str, row: Row) -> Story:
    """A model that scores from now on."""
    key = f"model:{policy}:{row['seq']}:{row['model_id']}"
    body = (
        f"Model {row['model_id']} ({row['strategy']}, {row['n_fraud']:,} frauds among {row['n_mature']:,} mature transactions) scores "
        f"from {_minute(row['effective_from'])} on, by {safe(row['by'])}: {safe(row['reason'])}\n\n"
        f"fraudwatch models show {row['model_id']} tells more; fraudwatch models rollback goes back."
    )
    return Story(key, "model", f"model {row['model_id']} scores from {day(row['effective_from'])} on", body)


def several(stories: Sequence[tuple[str, str, str]], event: str) -> Story:
    """Many messages in one: (key, subject, body) of each, of which the subjects are told."""
    inner = [
        body if key.startswith("merged:") else f"- {subject}"  # one that told of several already has its list
        for key, subject, body in stories
    ]
    key = f"merged:{_digest(*(story[0] for story in stories))}"
    n = sum(part.count("\n") + 1 for part in inner)
    return Story(key, event, f"{n:,} messages in one", "\n".join(inner))


def _named(names: Sequence[str]) -> str:
    once = list(dict.fromkeys(safe(name) for name in names))
    more = f" and {len(once) - NAMED} more" if len(once) > NAMED else ""
    return ", ".join(once[:NAMED]) + more


def _listed(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LINES_MAX
    return [*(f"- {line}" for line in lines[:LINES_MAX]), *([f"- and {more:,} more"] if more > 0 else [])]


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _minute(instant: int) -> str:
    return as_datetime(instant).strftime("%Y-%m-%d %H:%M UTC")
