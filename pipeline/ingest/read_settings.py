"""
Everything that a source is read with, as text: the same content read with other settings is other content.

A key that earlier versions lacked counts only if it is set, so that what they loaded is recognised.
"""

import hashlib
from functools import cache

from pipeline.config.config import Config
from pipeline.ingest.checks.transaction_check import TransactionCheck

LATER_KEYS = ("columns", "line_items", "time_of_day", "known_at")  # of [schema]
# Keys of [schema] that do not change what a row is.
NOT_READ_BY = ("plain_card_numbers", "trusted", "genuine_means", "initiated_by", "merchant_initiated")
MEANING_KEYS = (
    "fraud_words", "genuine_words", "unlabelled_words", "reason", "stage", "amount", "fraud_reasons", "dispute_types", "won_means",
)  # fmt: skip


def transaction_settings(config: Config, check: TransactionCheck) -> str:
    """
    Everything that transactions are read with: settings, and the key (as its hash of an empty text).

    Of the rates only which currencies they make known: payments keep the amounts that they were converted to, and those
    that lacked a rate are taken up by themselves.
    """
    codes = ",".join(check.rates.unlisted_codes).encode()
    key = check.hasher.hash("") if check.hasher is not None else ""
    lines = [line for line in config.public_text("schema").splitlines(keepends=True) if _is_read_by(line)]
    lines += [*_changed_lines(config, "format"), *_changed_lines(config, "events")]
    settings = hashlib.sha256("".join(lines).encode()).hexdigest()
    return f"{settings} {hashlib.sha256(codes).hexdigest()} {key}"


def label_settings(config: Config, known_after: int | None, complete_through: int | None) -> str:
    """Everything that labels are read with: settings and options."""
    labels = config.labels
    names = (labels.transaction_id, labels.is_fraud, labels.known_at, labels.source)
    words = [line for line in _changed_lines(config, "labels") if line.partition(" ")[0] in MEANING_KEYS]
    changed = "".join([*words, *_changed_lines(config, "format")])
    settings = (names, config.schema_.timezone, known_after, complete_through)
    return repr((*settings, changed) if changed else settings)


def inline_label_settings(config: Config) -> str:
    """What labels in the column schema.is_fraud are read with, besides."""
    return "" if config.schema_.genuine_means == "silence" else f"{config.schema_.genuine_means} "


def _is_read_by(line: str) -> bool:
    """Whether a line of [schema] says how rows are read."""
    key = line.partition(" ")[0]
    return key not in NOT_READ_BY and (key not in LATER_KEYS or line not in _default_lines("schema"))


def _changed_lines(config: Config, section: str) -> list[str]:
    """The settings of a section that are not the default ones."""
    usual = _default_lines(section)
    return [line for line in config.public_text(section).splitlines(keepends=True) if line not in usual]


@cache
def _default_lines(section: str) -> frozenset[str]:
    return frozenset(Config().public_text(section).splitlines(keepends=True))
