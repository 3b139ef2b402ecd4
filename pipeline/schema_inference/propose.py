"""
Proposes a [schema] for a file (`fraudwatch init --from sample.csv`), with the reason for every key.

Columns that look like a leak of the label, free text or a constant are left out, with the reason. Lines that begin with
CHECK are guesses that need somebody who knows the data.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.config import Config, as_toml
from pipeline.schema_inference import column_roles
from pipeline.schema_inference.column_profile import read_sample
from pipeline.schema_inference.column_roles import CHECK, SchemaDraft
from storage.database.column_types import as_datetime
from storage.frames import DAY, Ints

KEYS = (
    "transaction_id event_time amount currency base_currency rates kind refund_kinds original_id is_fraud "
    "entities numeric categorical hash timezone"
)
CONFIG_PATH = Path("config.toml")
LISTS = ("entities", "numeric", "categorical", "hash")


@dataclass(frozen=True)
class Proposal:
    """
    A config to start from, and the reasons for its keys.

    Attributes
    ----------
    heading
        What was found, what to look at, and the next three commands; the config begins with it.
    """

    toml: str
    heading: list[str]
    explanations: list[str]


def propose(path: Path, now: int, config_path: Path = CONFIG_PATH) -> Proposal:
    """
    Propose a config for a CSV (also .gz), Parquet or JSON Lines file; a time after `now` (µs) is none of a payment.

    Parameters
    ----------
    config_path
        Where the config will be, for the commands that use it.

    Raises
    ------
    InputError
        If the file cannot be read or holds no rows.
    """
    columns = read_sample(path, now)
    draft = SchemaDraft({column.name: column for column in columns}, rows=len(columns[0].values))
    label = column_roles.find_label(draft)
    column_roles.find_transaction_id(draft)
    column_roles.find_event_time(draft)
    column_roles.find_amount(draft)
    column_roles.find_currency(draft)
    column_roles.find_kind(draft)
    column_roles.leave_out_unusable(draft)
    if label:
        column_roles.leave_out_leaks(draft, label)
    column_roles.find_personal(draft)
    column_roles.find_fields(draft)
    times = next(
        (c.instants for c in columns if c.name == draft.keys.get("event_time")), np.empty(0, np.int64)
    )
    heading = [
        f"Proposed by fraudwatch from the first {draft.rows:,} rows of {column_roles.quoted(path.name)}.",
        *_roles_text(draft, times),
        *_guesses_text(draft),
        *_next_commands(path, config_path, times),
    ]
    return Proposal(_render(draft, heading), heading, _explanations(draft))


def _roles_text(draft: SchemaDraft, times: Ints) -> Iterator[str]:
    """What the columns are, in one line each."""
    roles = ("transaction_id", "event_time", "amount", "currency", "kind", "is_fraud")
    named = [f"{role} {column_roles.quoted(str(draft.keys[role]))}" for role in roles if draft.keys.get(role)]
    yield f"Found: {', '.join(named) or 'none of the columns that a payment needs'}"
    entities = draft.keys.get("entities")
    yield f"Entities: {as_toml(entities) if entities else 'NONE: without a customer, card or account no payment has a history'}"
    if len(times):
        yield f"Times: {as_datetime(int(times.min())):%Y-%m-%d} to {as_datetime(int(times.max())):%Y-%m-%d}"


def _guesses_text(draft: SchemaDraft) -> Iterator[str]:
    """The keys whose reasons are guesses."""
    keys = [key for key, reasons in draft.reasons.items() if any(CHECK in reason for reason in reasons)]
    marked = f"the lines marked CHECK ({', '.join(keys)}), then " if keys else ""
    yield f"Look at: {marked}what was left out, and why. All other keys keep their defaults."


def _next_commands(path: Path, config_path: Path, times: Ints) -> Iterator[str]:
    """Commands that obey the config: the last one scores what a first training leaves."""
    command = f"fraudwatch --config {shlex.quote(str(config_path))}"
    yield "Next:"
    yield f"  {command} init"
    yield f"  {command} ingest transactions {shlex.quote(str(path))}"
    yield f"  {command} {_first_scoring(times)}"


def _first_scoring(times: Ints) -> str:
    """A backfill whose first training, at most `training.every` earlier, has enough rows; else a look at the data."""
    training, ordered = Config().training, np.sort(times)
    known = max(training.min_rows, len(ordered) // 3)
    if known >= len(ordered):
        return "doctor"
    start = -(-(int(ordered[known]) + training.every) // DAY) * DAY
    end = (int(ordered[-1]) // DAY + 1) * DAY
    if start >= end:
        return "doctor"
    return f"backfill --from {as_datetime(start):%Y-%m-%d} --to {as_datetime(end):%Y-%m-%d}"


def _render(draft: SchemaDraft, heading: list[str]) -> str:
    lines = [*(f"# {line}" for line in heading), "", "[schema]"]
    for key in KEYS.split():
        if key not in draft.keys and key not in LISTS:
            continue
        lines += [f"# {reason}" for reason in draft.reasons.get(key, [])]
        lines.append(f"{key} = {as_toml(draft.keys.get(key, []))}")
    lines += [f"# left out {reason}" for reason in draft.reasons.get("left out", [])]
    if draft.never_by_silence:
        exceptions = as_toml(draft.never_by_silence)
        lines += [
            "",
            "[labels]",
            "# Such payments never bring a chargeback: without a label they are not genuine, but unknown.",
        ]
        lines.append(f"never_by_silence = {exceptions}")
    return "\n".join(lines) + "\n"


def _explanations(draft: SchemaDraft) -> list[str]:
    order = [*KEYS.split(), "left out"]
    return [f"{key}: {reason}" for key in order for reason in draft.reasons.get(key, [])]
