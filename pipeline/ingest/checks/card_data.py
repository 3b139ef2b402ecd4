"""
Card data in what is read: track data is never stored, and card numbers are stored in plain text only where allowed.

PCI DSS (3.3 of version 4, 3.2 of version 3) forbids to keep track data, verification codes and PINs, even encrypted.
Fields named after codes and PINs are refused with the configuration (`pipeline.config.consistency`), since no check can
tell three digits from others.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.card_numbers import LONG_NUMBER, SEPARATORS, is_card_number, last_four, mask_numbers
from pipeline.config.sections import SchemaSection
from pipeline.errors import InputError
from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools, characters
from pipeline.ingest.formats.columns import is_text, texts
from pipeline.ingest.formats.row_batch import RowBatch
from pipeline.ingest.formats.validators import Reasons

SAMPLE_VALUES = 1_000  # different values of a column that are looked at
VALUES_MIN, VALUES_FEW = 5, 20  # with fewer than VALUES_FEW different values all must be card numbers
# Share of a column's different values. Of random numbers of 16 digits at most one in ten has the check digit and an
# issuer's prefix, also if all begin alike; half a column of cards is as bad as a whole one.
CARD_SHARE = 0.5
NUMBER_MIN = 13  # digits of a card number
REMOVED = "(track data removed)"
# Track 1 has the number and a name between carets; track 2 begins with a semicolon, or is the whole value.
_NAMED = rf"\d[\d.{SEPARATORS}]{{11,22}}\^"
_DIGITS = rf"\d(?:[.{SEPARATORS}]?\d){{11,18}}"
_TRACK = rf"{_NAMED}[^\^]{{0,40}}\^|;{_DIGITS}=\d{{4}}|^{_DIGITS}[=D]\d{{7,}}F?\??$"
_TRACK_SIGNS = (b"^", b"=", b"D")
_TRACK_TEXT = re.compile(
    rf"%?[A-Za-z]?{_NAMED}[^\^]{{0,40}}\^[^?,;|\t]*\??|;?{_DIGITS}[=D]\d{{4,}}F?\??", re.ASCII
)
_SHORT_NUMBER = re.compile(
    r"(?<![\d•])(?<!• )\d{3,4}(?!\d)", re.ASCII
)  # as long as a verification code or a PIN


def reject_track_data(columns: Mapping[str, Arrow], reasons: Reasons) -> None:
    """Reject rows with the track data of a card in any column."""
    for name, column in columns.items():
        wrong = _has_track_data(column)
        if wrong is not None:
            reasons.add(
                wrong,
                f"{name} holds track data of a card, which must never be stored: remove it at its source",
            )


def without_track_data(stored: Arrow, of: Arrow) -> Arrow:
    """A column as it is stored, with `REMOVED` where the column `of` the source has track data."""
    wrong = _has_track_data(of)
    return stored if wrong is None else pc.if_else(pa.array(wrong), REMOVED, texts(stored))


def _has_track_data(column: Arrow) -> Bools | None:
    """Which rows of a column have track data, None if none has."""
    if not is_text(column.type):
        return None
    text = column if pa.types.is_string(column.type) else texts(column)
    written = characters(text)
    if not any(sign in written for sign in _TRACK_SIGNS):  # found much faster than the expression
        return None
    wrong = as_bools(pc.match_substring_regex(texts(text), _TRACK))
    return wrong if wrong.any() else None


def mask_card_numbers(text: Arrow, whole: bool) -> Arrow:
    """
    Replace card numbers inside the values of a column of text by their display form.

    Parameters
    ----------
    whole
        Whether to replace values that are a card number and nothing else, too: an id may look like one by chance.
    """
    if (pc.max(pc.binary_length(text)).as_py() or 0) < NUMBER_MIN:
        return text
    suspicious = as_bools(pc.match_substring_regex(text, LONG_NUMBER))
    if not suspicious.any():
        return text
    values = text.filter(pa.array(suspicious)).to_pylist()
    masked = [value if not whole and is_card_number(value) else mask_numbers(value) for value in values]
    return pc.replace_with_mask(text, pa.array(suspicious), pa.array(masked, pa.string()))


class PlainCardNumberCheck:
    """
    Refuses a source with card numbers in a field that is not hashed; looks at its first batch only.

    Parameters
    ----------
    hashable, others
        Fields that schema.hash may name, and those that it may not.
    source_names
        What the source calls those fields to which the configuration gives another name.
    """

    def __init__(
        self,
        source: str,
        hashable: Collection[str],
        others: Collection[str],
        source_names: Mapping[str, str],
    ) -> None:
        self._source_names = source_names
        self._source = source
        self._hashable = hashable
        self._others = others
        self._done = False

    def check(self, rows: RowBatch) -> None:
        """
        Look at the first rows of the source.

        Raises
        ------
        InputError
            If a field holds card numbers.
        """
        if self._done or not len(rows):
            return
        self._done = True
        if len(rows) < VALUES_MIN:
            return
        for name in (*self._hashable, *self._others):
            column = rows.columns.get(self._source_names.get(name, name))
            if column is not None and not pa.types.is_nested(column.type):
                self._check_column(name, column)

    def _check_column(self, name: str, column: Arrow) -> None:
        values = [value for value in pc.unique(texts(column))[: SAMPLE_VALUES + 1].to_pylist() if value]
        cards = [value for value in values if is_card_number(value)]
        share = CARD_SHARE if len(values) >= VALUES_FEW else 1.0
        if len(values) < VALUES_MIN or len(cards) < share * len(values):
            return
        remedy = f'add "{name}" to schema.plain_card_numbers if it may hold them, or if they are tokens'
        if name in self._hashable:
            remedy = f'add "{name}" to schema.hash, or to schema.plain_card_numbers if they may be stored as they are'
        raise InputError(
            f"{self._source} holds card numbers in {self._source_names.get(name, name)}, such as {last_four(cards[0])}, and nothing of it was stored",
            remedy=remedy,
            code="plain_card_numbers",
        )


def reject_card_numbers(
    schema: SchemaSection, columns: Mapping[str, tuple[Arrow, str]], reasons: Reasons
) -> None:
    """
    Reject rows with a card number in an entity that is not hashed, for rows that come one by one and say nothing of their column.

    Parameters
    ----------
    columns
        Of each entity the column, and what the source calls it.
    """
    for entity, (column, name) in columns.items():
        if entity in schema.hash or entity in schema.plain_card_numbers or pa.types.is_nested(column.type):
            continue
        wrong = [bool(value) and is_card_number(value) for value in texts(column).to_pylist()]
        remedy = f'add "{entity}" to schema.hash, or to schema.plain_card_numbers if it may hold them, or if they are tokens'
        reasons.add(np.array(wrong, dtype=bool), f"{name} holds a card number: {remedy}")


def plain_card_number_check(schema: SchemaSection, source: str) -> PlainCardNumberCheck:
    """The check of a source of transactions."""
    may_be_plain = {*schema.hash, *schema.plain_card_numbers}
    hashable = [name for name in (*schema.entities, *schema.categorical) if name not in may_be_plain]
    others = (schema.transaction_id, schema.original_id, schema.kind)
    source_names = {name: column for column, name in schema.columns.items()}
    not_plain = [name for name in others if name not in may_be_plain]
    return PlainCardNumberCheck(source, hashable, not_plain, source_names)


def mask_value(value: Any) -> Any:
    """A value of a rejected row without track data, card numbers shown by their last four digits."""
    if isinstance(value, str):
        return mask_numbers(_TRACK_TEXT.sub(REMOVED, value))
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return last_four(str(value)) if is_whole and is_card_number(str(value)) else value


def mask_line(line: str) -> str:
    """
    A line that cannot be split into columns, without card data.

    Nobody knows what its numbers are: each of 13 to 19 digits is masked like a card number, and in a line with such a
    number those of three and four digits, since one may be a verification code or a PIN.
    """
    masked = mask_numbers(_TRACK_TEXT.sub(REMOVED, line), lambda _number: True)
    return _SHORT_NUMBER.sub("•••", masked) if masked != line else line
