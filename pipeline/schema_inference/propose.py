"""
`fraudwatch init --from sample.csv`: propose a [schema] for a file, with the reason of every guess.

What looks like a leak of the label, like free text or like a constant is left out, and said so. A line that
begins with CHECK is a guess that only someone who knows the data can settle.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config.config import as_toml
from pipeline.schema_inference import column_roles
from pipeline.schema_inference.column_profile import read_sample
from pipeline.schema_inference.column_roles import Guess

KEYS = (
    "transaction_id event_time amount currency base_currency rates kind refund_kinds original_id is_fraud "
    "entities numeric categorical hash timezone"
)
LISTS = ("entities", "numeric", "categorical", "hash")


@dataclass(frozen=True)
class Proposal:
    """A config to start from, and the same reasons as sentences."""

    toml: str
    explanations: list[str]


def propose(path: Path) -> Proposal:
    """
    Propose a config for a CSV (also .gz), Parquet or JSON Lines file.

    Raises
    ------
    InputError
        If the file cannot be read or holds no rows.
    """
    columns = read_sample(path)
    guess = Guess({column.name: column for column in columns}, rows=len(columns[0].values))
    label = column_roles.find_label(guess)
    column_roles.find_transaction_id(guess)
    column_roles.find_event_time(guess)
    column_roles.find_amount(guess)
    column_roles.find_currency(guess)
    column_roles.find_kind(guess)
    column_roles.leave_out_useless(guess)
    if label:
        column_roles.leave_out_leaks(guess, label)
    column_roles.find_personal(guess)
    column_roles.find_fields(guess)
    return Proposal(_render(guess, path), _explanations(guess))


def _render(guess: Guess, path: Path) -> str:
    lines = [
        f"# Proposed by fraudwatch from the first {guess.rows:,} rows of {column_roles.quoted(path.name)}.",
        "# Read the lines marked CHECK before you use it. All other keys keep their defaults.",
        "",
        "[schema]",
    ]
    for key in KEYS.split():
        if key not in guess.roles and key not in LISTS:
            continue
        lines += [f"# {reason}" for reason in guess.why.get(key, [])]
        lines.append(f"{key} = {as_toml(guess.roles.get(key, []))}")
    lines += [f"# left out {reason}" for reason in guess.why.get("left out", [])]
    if guess.silent:
        silent = as_toml(guess.silent)
        lines += [
            "",
            "[labels]",
            "# Such payments never bring a chargeback, so no label proves nothing about them.",
        ]
        lines.append(f"never_by_silence = {silent}")
    return "\n".join(lines) + "\n"


def _explanations(guess: Guess) -> list[str]:
    order = [*KEYS.split(), "left out"]
    return [f"{key}: {reason}" for key in order for reason in guess.why.get(key, [])]
