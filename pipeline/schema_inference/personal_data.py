"""
Personal data in columns: card numbers, e-mail addresses, IBANs, phone numbers; and what must never be stored.

Values decide, whatever the column is called. Where there are too few values to be sure, names help.
"""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from stdnum import iban, luhn

from pipeline.card_numbers import mask_numbers
from pipeline.config.consistency import NEVER_STORED
from pipeline.schema_inference.column_profile import ColumnProfile
from pipeline.schema_inference.draft import SchemaDraft
from pipeline.schema_inference.names import normalised

REPEAT_ROWS_MIN = 1000  # from so many rows on, a column that never repeats is not an entity
VALUES = 1000  # that are looked at
FIRST = 50  # of these one must be of the kind
CARDS_MIN = 20
CARDS_BY_CHANCE = 0.3  # share of the long numbers of a column that random ones never reach
_LONG_NUMBER = r"\d(?:[ -]?\d){12,18}"
CARDS, EMAILS, IBANS, PHONES, PERSONS = (
    "card numbers",
    "e-mail addresses",
    "account numbers (IBAN)",
    "phone numbers",
    "numbers of persons",
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_CARD = re.compile(
    r"\d(?:[ -]?\d){10,18}(?:\.0)?"
)  # old ones have 11 digits; .0 if a program took it for a float
_PHONE = re.compile(r"\+\d(?:[ ()/.-]{0,2}\d){6,14}")
_TRACK = re.compile(r"%?[A-Za-z]?\d[\d ]{11,22}\^.*|;?\d{12,19}[=D]\d{4,}.*")
_CARD_NAME = re.compile(
    r"(.*_)?(card|cc|credit_?card|debit_?card|kredit_?karten?|karten?)_?(no|num|number|nr|nummer)|(.*_)?(pan|primary_account_number)"
    r"|(numero|num)_((de|di|da)_)?(la_)?(carte|tarjeta|carta|cartao)"
)
_PHONE_NAME = re.compile(
    r"(.*_)?(phone|mobile|cell|tel|telefon|telephone|handy|msisdn|telefono|telefone)(_?(no|num|number|nr))?"
)
_PERSON_NAME = re.compile(
    r"(.*_)?(ssn|social_security(_number)?|passport(_?(no|number))?|national_id|tax_id|steuer_?id|codice_fiscale|cpf|dni|nif)"
)
_CODE_NAME = re.compile(
    r"(.*_)?(csc|(verification|security)_(code|value|number)|pruefziffer|kartenpruefnummer|cryptogramme"
    r"|codigo_(de_)?seguridad|codice_(di_)?sicurezza|codigo_de_seguranca|pin_?(code|nummer))"
)
_CODE = r"^\d{3,4}$"


def leave_out_secrets(draft: SchemaDraft) -> None:
    """Leave out security codes, PINs and the content of magnetic stripes, which nobody may store, not even as hashes."""
    for column in list(draft.unassigned.values()):
        name = normalised(column.name)
        named = NEVER_STORED.fullmatch(name) or (_CODE_NAME.fullmatch(name) and column.matches(_CODE))
        if named or any(map(_TRACK.fullmatch, column.distinct[:VALUES])):
            draft.leave_out(column, "security codes, PINs and track data of cards must never be stored")


def find_personal(draft: SchemaDraft) -> None:
    """Note which columns hold personal data, so that none becomes an id or an amount; leave out texts with card numbers."""
    for column in draft.unassigned.values():
        if column is not draft.fraud and not column.time_formats:
            kind = _kind(column)
            if kind:
                draft.personal[column.name] = kind
    for column in list(draft.unassigned.values()):
        if column.name not in draft.personal and not column.time_formats:
            rows = _rows_with_cards(column)
            if rows:
                draft.leave_out(column, f"holds card numbers in {rows:,} row{'s' if rows > 1 else ''}")


def _rows_with_cards(column: ColumnProfile) -> int:
    """In how many rows a value is or contains the number of a card; 0 where the numbers are ids that look like some by chance."""
    if column.number and not column.whole:
        return 0
    long = pc.match_substring_regex(pa.array(column.distinct, pa.string()), _LONG_NUMBER)
    places = np.flatnonzero(long.to_numpy(zero_copy_only=False))
    cards = [place for place in places if mask_numbers(column.distinct[place]) != column.distinct[place]]
    return int(column.counts[cards].sum()) if len(cards) > CARDS_BY_CHANCE * len(places) else 0


def leave_out_unrepeated(draft: SchemaDraft) -> None:
    """Leave out personal data that tells nothing, because it never returns."""
    for name, kind in draft.personal.items():
        column = draft.unassigned.get(name)
        if column and draft.rows >= REPEAT_ROWS_MIN and column.unique:
            draft.leave_out(column, f"{kind}, never repeated: useless for learning, and better not stored")


def hash_personal(draft: SchemaDraft) -> None:
    """Put the entities that hold personal data under `hash`."""
    for column in draft.entities:
        kind = draft.personal.get(column.name)
        if kind:
            draft.add("hash", column, f"{kind}: stored only as keyed hashes; set FRAUDWATCH_HASH_KEY")


def _kind(column: ColumnProfile) -> str:
    """The kind of personal data that the values of a column are; "" for none."""
    if column.number and not column.whole and not column.matches(r"^\d+\.0$"):
        return ""
    values, name = column.distinct[:VALUES], normalised(column.name)
    for kind, test in TESTS.items():
        # half a column of cards is as bad as a whole one; of random numbers one in ten has the check digit
        enough = 0.5 if kind == CARDS and len(values) >= CARDS_MIN else 0.95
        passed = sum(map(test, values)) if any(map(test, values[:FIRST])) else 0
        if passed >= 5 and passed >= enough * len(values):
            return kind
    for kind, (named, pattern) in NAMED.items():
        if named.fullmatch(name) and column.matches(pattern):
            return kind
    return ""


def _is_card(value: str) -> bool:
    if not _CARD.fullmatch(value):
        return False
    digits = value.removesuffix(".0").replace(" ", "").replace("-", "")
    return len(digits) >= 12 and bool(luhn.is_valid(digits))


TESTS: dict[str, Callable[[str], bool]] = {
    CARDS: _is_card,
    EMAILS: lambda value: _EMAIL.fullmatch(value) is not None,
    IBANS: lambda value: bool(iban.is_valid(value)),
    PHONES: lambda value: _PHONE.fullmatch(value) is not None,
}
# Where there are few values, or no check digits, the name of a column and the shape of its values decide.
NAMED = {
    CARDS: (_CARD_NAME, r"^\d([ -]?\d){11,18}(\.0)?$"),
    EMAILS: (re.compile(r"(.*_)?e_?mail(_address)?"), r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$"),
    IBANS: (re.compile(r"(.*_)?iban"), r"^[A-Z]{2}\d\d ?([A-Z0-9]{4} ?){2,7}[A-Z0-9]{1,4}$"),
    PHONES: (_PHONE_NAME, r"^\+?[\d ()/.-]{6,20}$"),
    PERSONS: (_PERSON_NAME, r"^[\w -]{6,20}$"),
}
