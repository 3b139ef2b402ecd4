r"""
How a value may be written in text that people and programs wrote, so that it is found in all of it.

As it is; in JSON, once or several times (`\"`, `\u00fc`); as Python quotes it; defanged and escaped for messages (see
`pipeline.sanitize`); in either Unicode normal form; with separators, if it is a card number, an IBAN or a phone number.
"""

import re
import unicodedata

from pipeline.card_numbers import SEPARATORS
from pipeline.hashing import display_form
from pipeline.sanitize import DISPLAY_END, INERT, PAGE_MAX, id_for_message

CASELESS_MIN = 6  # a value with fewer characters is found only in the case that it is stored in
CUT_MIN = 40  # characters of a long value by which a shortened one is recognised
HASH_PREFIX = 8  # characters of a hash that messages show
# Before a value: no letter or digit, except where those belong to an escape such as \n or \u0041.
_ESCAPED = r"(?<=\\[bfnrt])|(?<=\\x[0-9a-fA-F]{2})|(?<=\\u[0-9a-fA-F]{4})"
_BEGIN = rf"(?:(?<!\w)|{_ESCAPED})"
_BEGIN_ADDRESS = rf"(?:(?<![\w.+%-])|{_ESCAPED})"
_END = r"(?!\w)"
_BETWEEN = rf"(?:[()./{SEPARATORS}]|\\+u(?i:00[2a][0-9a-f]|20[0-2][0-9a-f]|205f|2212|3000)){{0,2}}"
_NUMBERED = ("\\u00", "\\x")  # what a text has, if characters that have no accent are written as numbers
_LETTERS = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


def written_forms(value: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """
    Return an expression for a stripped value as a whole word in text, and parts in lower case.

    Each form has one of the parts, also where a database lowers ASCII letters only; without parts, any text may have the value.
    """
    display, normalised = display_form(value)
    spaced = bool(display) and "@" not in value
    letters = normalised if spaced else value
    between = _BETWEEN if spaced else ""
    forms = {unicodedata.normalize(form, letters) for form in ("NFC", "NFD")} | {letters}
    bodies = [between.join(map(_character, form)) for form in sorted(forms)]
    if len(value) > PAGE_MAX:
        bodies.append("".join(map(_character, value[:CUT_MIN])) + r"[^\n]*?… \([\d,]+ characters\)")
    begin = _BEGIN_ADDRESS if display and not spaced else _BEGIN if value[0].isalnum() else ""
    end = _END if value[-1].isalnum() or "characters" in bodies[-1] else ""
    flags = re.IGNORECASE if display or len(value) >= CASELESS_MIN else 0
    return re.compile(f"{begin}(?:{'|'.join(bodies)}){end}", flags), _parts(value, normalised, spaced)


def display_pattern(stored: str) -> re.Pattern[str] | None:
    """An expression for the display form of a hashed value alone, which stands for many values; None without one."""
    display, found, _ = stored.rpartition(DISPLAY_END)
    if not found:
        return None
    return re.compile("|".join(map(re.escape, {display, id_for_message(display)})))


def hash_forms(stored: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """The same for a value of a hashed field as it is stored: with its display form, without it, and the beginning of its hash."""
    display, _, hashed = stored.rpartition(DISPLAY_END)
    shown = "|".join(re.escape(form + DISPLAY_END) for form in {display, id_for_message(display)} if display)
    whole = rf"(?:{shown})?{hashed}" if shown else hashed
    return re.compile(rf"{whole}|{hashed[:HASH_PREFIX]}…"), (hashed[:HASH_PREFIX],)


def _parts(value: str, normalised: str, spaced: bool) -> tuple[str, ...]:
    if spaced:
        part = normalised[:2] if normalised[0].isalpha() else normalised[-2:]
        return (part.lower(), *_NUMBERED)
    runs = re.findall(r"[A-Za-z0-9]+", value[:CUT_MIN] if len(value) > PAGE_MAX else value)
    return (max(runs, key=len).lower(), *_NUMBERED) if runs else ()


def _character(character: str) -> str:
    r"""An expression for the ways to write a character; a backslash may be doubled any number of times."""
    if character.isspace() and character not in _LETTERS:
        return r"(?:\s|\\+u00(?i:a0|20))+"
    code = ord(character)
    forms = [r"\\+" if character == "\\" else re.escape(character)]
    if character in "\"'/":
        forms.append(rf"\\+{character}")
    if character in _LETTERS:
        forms.append(rf"\\+{_LETTERS[character]}")
    if code in INERT:
        forms.append(re.escape(INERT[code]))
    if character in ".:":
        forms.append(rf"\[\{character}\]")
    if code < 0x100:
        forms.append(rf"\\+x(?i:{code:02x})")
    if code > 0xFFFF:
        forms.append(rf"\\+U(?i:{code:08x})")
    units = character.encode("utf-16-be").hex()
    forms.append("".join(rf"\\+u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4)))
    return f"(?:{'|'.join(forms)})"
