"""
Proposes a config for a file (`fraudwatch init --from sample.csv`), with the reason for every key.

Columns that are known only after the payment, leak the label, rise with the time, or are free text or constant are left out, with
the reason. Lines that begin with CHECK are guesses that need somebody who knows the data.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.config import as_toml, as_toml_key
from pipeline.config.consistency import ROLES
from pipeline.durations import format_duration
from pipeline.ingest.decoding.encodings import UTF8
from pipeline.ingest.formats import columns as columns_of
from pipeline.ingest.formats.reader import open_path
from pipeline.ingest.formats.row_batch import ExpectedColumns
from pipeline.ingest.sources import matching_paths
from pipeline.schema_inference import (
    events,
    fields,
    labels,
    names,
    payment_roles,
    personal_data,
    settings,
    value_formats,
)
from pipeline.schema_inference.column_profile import ColumnProfile
from pipeline.schema_inference.draft import CHECK, LEFT_OUT, UNANSWERED, SchemaDraft, quoted
from pipeline.schema_inference.label_file import infer_label_file
from pipeline.schema_inference.sample import FileSample, read_sample
from pipeline.schema_inference.volume import Volume
from storage.database.column_types import as_datetime
from storage.frames import DAY

KEYS = [
    "transaction_id",
    "line_items",
    "event_time",
    "time_of_day",
    "amount",
    "currency",
    "base_currency",
    "rates",
    "kind",
    "refund_kinds",
    "original_id",
    "is_fraud",
    "known_at",
    "initiated_by",
    "merchant_initiated",
    "genuine_means",
    "entities",
    "numeric",
    "categorical",
    "hash",
    "timezone",
]
CONFIG_PATH = Path("config.toml")
FIELDS = ("entities", "numeric", "categorical")
LISTS = (*FIELDS, "hash")
DISTANT = (
    60 * 366 * DAY + 1_700_000_000_000_000
)  # µs; a later time is a mistake, and would make an endless list of days
NEW_KEY = "python3 -c 'import secrets; print(secrets.token_hex(16))'"


@dataclass(frozen=True)
class Proposal:
    """
    A config to start from, and the reasons for its keys.

    Attributes
    ----------
    heading
        What was found, what to look at, and the next commands; the config begins with it.
    """

    toml: str
    heading: list[str]
    explanations: list[str]


def propose(
    argument: Path | str,
    now: int,
    config_path: Path = CONFIG_PATH,
    encoding: str = UTF8,
    label_path: Path | None = None,
) -> Proposal:
    """
    Propose a config for a file of any format that ingest reads, or several that a pattern names.

    Parameters
    ----------
    now
        µs; a later time is none of a payment.
    config_path
        Where the config will be, for the commands that use it.
    encoding
        That is configured; if it is UTF-8, the first bytes of the file decide.
    label_path
        A file of labels or disputes of these payments.

    Raises
    ------
    InputError
        If a file cannot be read or holds no rows, or the first and the last one have other columns.
    """
    paths = matching_paths(str(argument))
    sample = read_sample(paths, now, encoding)
    draft = infer(sample)
    volume = _volume(paths, sample, draft)
    while volume and draft.keys.get("format.time_start") and volume.end * DAY > now + DAY:
        draft = infer(sample, value_formats.a_year_before(draft.time_start))
        volume = _volume(paths, sample, draft)
    if label_path is not None:
        infer_label_file(draft, read_sample([label_path], now, encoding))
    if volume:
        settings.decide_settings(draft, volume)
    name = paths[0].name if len(paths) == 1 else str(argument)
    heading = [
        f"Proposed by fraudwatch from the first {draft.rows:,} rows of {quoted(name)}.",
        *_roles_text(sample, draft, volume),
        *_guesses_text(draft),
        *_next_commands(draft, str(argument), config_path, volume, label_path),
    ]
    return Proposal(_render(draft, heading, sample.columns), heading, _explanations(draft))


def infer(sample: FileSample, time_start: str | None = None) -> SchemaDraft:
    """Infer the role of each column. The order matters: how values are written, roles that exist once, then the fields."""
    columns = {column.name: column for column in sample.columns}
    draft = SchemaDraft(columns, rows=len(sample.columns[0].codes))
    draft.time_start = time_start or draft.time_start
    for step in (
        fields.leave_out_unnamed,
        personal_data.leave_out_secrets,
        value_formats.decide_numbers,
        value_formats.decide_times,
        events.find_events,
        labels.find_label,
        personal_data.find_personal,
        payment_roles.find_event_time,
        payment_roles.find_kind,
        payment_roles.find_amount,
        payment_roles.find_currency,
        value_formats.decide_unit,
        payment_roles.find_transaction_id,
        payment_roles.find_original,
        labels.leave_out_known_later,
        fields.leave_out_unusable,
        labels.leave_out_leaks,
        fields.leave_out_clocks,
        personal_data.leave_out_unrepeated,
        fields.find_entities,
        fields.find_fields,
        personal_data.hash_personal,
        payment_roles.find_never_by_silence,
        payment_roles.find_initiated_by,
    ):
        step(draft)
    for key, value in value_formats.written(sample.form).items():
        draft.decide(f"format.{key}", value, "so that the text of the file can be read")
    return draft


def _volume(paths: Sequence[Path], sample: FileSample, draft: SchemaDraft) -> Volume | None:
    """How many payments and frauds each day has: of all rows, of which only time and label are read."""
    time = draft.event_time
    if time is None or not len(time.instants):
        return None
    if sample.whole:
        timed = ~np.isnan(time.moments)
        if draft.payments is not None:
            timed &= draft.payments
        fraud = None if draft.fraud is None else labels.is_fraud(draft)[timed]
        sampled = Volume.of(time.moments[timed].astype(np.int64) // DAY, fraud)
        return sampled and sampled.trimmed()
    label = [] if draft.fraud is None else [draft.fraud.name]
    clock_name = [time.clock[1]] if time.clock else []
    event_type = str(draft.keys.get("events.type", ""))
    needed = (time.name, *clock_name, *label, *filter(None, [event_type]))
    expected = ExpectedColumns(dict.fromkeys(needed, "schema.event_time"))
    volume: Volume | None = None
    for path in paths:
        with closing(open_path(path, None, str(path), sample.form)) as reader:
            for rows in reader.rows(expected):
                clock = rows.columns[time.clock[1]] if time.clock else None
                parsed = columns_of.instants(rows.columns[time.name], "UTC", time.form, clock)
                good = (
                    ~parsed.missing & ~parsed.unreadable & (parsed.micros >= 0) & (parsed.micros <= DISTANT)
                )
                if event_type:
                    meaning = events.DEFAULTS.keys_of(rows.columns[event_type], Counter())
                    good &= events.begins_payment(meaning)
                fraud = labels.says_fraud(draft, rows.columns[label[0]])[good] if label else None
                part = Volume.of(parsed.micros[good] // DAY, fraud)
                volume = part.plus(volume) if part else volume
    return volume and volume.trimmed()


def _roles_text(sample: FileSample, draft: SchemaDraft, volume: Volume | None) -> Iterator[str]:
    """What the columns are, in one line each."""
    roles = ("transaction_id", "event_time", "amount", "currency", "kind", "is_fraud", "known_at")
    missing = {"amount"} if draft.amount is None else set()
    named = [
        f"{role} {quoted(str(draft.keys[role]))}"
        for role in roles
        if draft.keys.get(role) and role not in missing
    ]
    yield f"Found: {', '.join(named) or 'none of the columns that a payment needs'}"
    entities = draft.keys.get("entities")
    yield f"Entities: {as_toml(entities) if entities else 'NONE: without a customer, card or account no payment has a history'}"
    yield f"Read as: {_format_text(sample, draft)}"
    if draft.keys.get("format.time") == UNANSWERED:
        form = quoted(draft.event_time.form.time) if draft.event_time else "none"
        yield (
            f"Times: known once format.time is answered; what depends on days, such as alerts.per_day, is for {form}, and for another "
            "answer to be checked"
        )
    elif volume:
        last = as_datetime((volume.end - 1) * DAY)
        yield f"Times: {as_datetime(volume.first * DAY):%Y-%m-%d} to {last:%Y-%m-%d}, {volume.rows / volume.days:,.0f} payments a day"


def _format_text(sample: FileSample, draft: SchemaDraft) -> str:
    """How the file is written, in one line."""
    keys = ("decimal", "thousands", "amount_unit", "time")
    others = [
        f"{key} {quoted(str(draft.keys[f'format.{key}']))}" for key in keys if f"format.{key}" in draft.keys
    ]
    return ", ".join([sample.layout, *others]) + ("" if others else ", decimal points, ISO 8601 times")


def _guesses_text(draft: SchemaDraft) -> Iterator[str]:
    """The keys whose reasons are guesses."""
    keys = [key for key in _ordered(draft) if any(CHECK in reason for reason in draft.reasons.get(key, []))]
    unanswered = [key for key in draft.keys if draft.keys[key] == UNANSWERED]
    if unanswered:
        yield f'Answer first: {", ".join(unanswered)}. Replace "CHECK" by what the lines above it explain; until then the config is refused.'
    marked = f"the lines marked CHECK ({', '.join(keys)}), then " if keys else ""
    yield f"Look at: {marked}what was left out, and why. All other keys keep their defaults."


def _next_commands(
    draft: SchemaDraft, argument: str, config_path: Path, volume: Volume | None, label_path: Path | None
) -> Iterator[str]:
    """Commands that obey the config: the last one scores what a first training leaves."""
    command = f"fraudwatch --config {shlex.quote(str(config_path))}"
    yield "Next:"
    if draft.keys.get("hash"):
        yield f"  export FRAUDWATCH_HASH_KEY=$({NEW_KEY})  # once: keep it, with another key known cards are not found"
    yield f"  {command} init"
    after = settings.known_after(draft)
    option = f" --known-after {after}" if after else ""
    yield f"  {command} ingest transactions {shlex.quote(argument)}{option}"
    if label_path is not None:
        undated = any(CHECK in reason for reason in draft.reasons.get("labels.known_at", []))
        wait = f" --known-after {format_duration(settings.WAIT)}" if undated else ""
        yield f"  {command} ingest labels {shlex.quote(str(label_path))}{wait}"
    span = settings.first_scoring(draft, volume)
    if draft.keys.get("format.time") == UNANSWERED:
        yield f"  {command} doctor  # and then backfill --from … --to …, between the dates of the payments"
    elif span is None:
        yield f"  {command} doctor"
    else:
        if draft.keys.get("format.time_start"):
            yield "  # Correct format.time_start first: the dates below follow from it, and move by as many days."
        start, end = (f"{as_datetime(day * DAY):%Y-%m-%d}" for day in span)
        yield f"  {command} backfill --from {start} --to {end}"


def _render(draft: SchemaDraft, heading: list[str], columns: list[ColumnProfile]) -> str:
    """Write the config; fields have their names in the database."""
    renamed = names.field_names(
        [name for key in FIELDS for name in _listed(draft, key)],
        [str(draft.keys[role]) for role in ROLES if draft.keys.get(role)],
        [column.name for column in columns],
    )
    lines = [*(f"# {line}" for line in heading), "", "[schema]"]
    for key in KEYS:
        if key in draft.keys or key in LISTS:
            lines += _key_lines(draft, key, renamed)
    lines += [f"# left out {reason}" for reason in draft.reasons.get(LEFT_OUT, [])]
    if renamed:
        lines += [
            "",
            "[schema.columns]",
            "# Names in the file, and the names that these fields have here and in the database.",
        ]
        lines += [f"{as_toml_key(name)} = {as_toml(new)}" for name, new in renamed.items()]
    for section in ("format", "events", "labels", "features", "training", "alerts"):
        keys = [key for key in draft.keys if key.startswith(f"{section}.")]
        lines += ["", f"[{section}]"] if keys else []
        for key in keys:
            lines += _key_lines(draft, key, renamed)
    return "\n".join(lines) + "\n"


def _key_lines(draft: SchemaDraft, key: str, renamed: Mapping[str, str]) -> Iterator[str]:
    """A key with its reasons."""
    yield from (f"# {reason}" for reason in draft.reasons.get(key, []))
    value = draft.keys.get(key, [])
    if key in LISTS:
        value = [renamed.get(name, name) for name in _listed(draft, key)]
    elif key == "initiated_by":
        value = renamed.get(str(value), value)
    elif isinstance(value, Mapping) and key != "labels.dispute_types":
        value = {renamed.get(name, name): item for name, item in value.items()}
    yield f"{key.rpartition('.')[2]} = {as_toml(value)}"


def _listed(draft: SchemaDraft, key: str) -> list[str]:
    listed = draft.keys.get(key, [])
    assert isinstance(listed, list)
    return listed


def _ordered(draft: SchemaDraft) -> list[str]:
    """All keys with reasons, in the order of the file."""
    return [*KEYS, *(key for key in draft.reasons if "." in key), LEFT_OUT]


def _explanations(draft: SchemaDraft) -> list[str]:
    return [f"{key}: {reason}" for key in _ordered(draft) for reason in draft.reasons.get(key, [])]
