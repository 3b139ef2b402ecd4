"""
Proposes a [schema] for a file (`fraudwatch init --from sample.csv`), with the reason for every key.

Columns that look like a leak of the label, free text or a constant are left out, with the reason. Lines that begin with
CHECK are guesses that need somebody who knows the data.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config.config import as_toml
from pipeline.schema_inference import column_roles
from pipeline.schema_inference.column_profile import read_sample
from pipeline.schema_inference.column_roles import SchemaDraft

KEYS = (
    "transaction_id event_time amount currency base_currency rates kind refund_kinds original_id is_fraud "
    "entities numeric categorical hash timezone"
)
LISTS = ("entities", "numeric", "categorical", "hash")


@dataclass(frozen=True)
class Proposal:
    """A config to start from, and the reasons for its keys."""

    toml: str
    explanations: list[str]


def propose(path: Path, now: int) -> Proposal:
    """
    Propose a config for a CSV (also .gz), Parquet or JSON Lines file; a time after `now` (µs) is none of a payment.

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
    return Proposal(_render(draft, path), _explanations(draft))


def _render(draft: SchemaDraft, path: Path) -> str:
    lines = [
        f"# Proposed by fraudwatch from the first {draft.rows:,} rows of {column_roles.quoted(path.name)}.",
        "# Read the lines marked CHECK before you use it. All other keys keep their defaults.",
        "",
        "[schema]",
    ]
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
