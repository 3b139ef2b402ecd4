"""Recognises the numbers of payment cards (ISO/IEC 7812): 13 to 19 digits, a prefix of an issuer, a right check digit."""

import re
from collections.abc import Callable

# Characters of a class in a regular expression, of Python's and of RE2: blanks and hyphens, those of typesetters, too.
SEPARATORS = " \u00a0\u2000-\u200b\u202f\u205f\u3000\u2010-\u2015\u2212-"
_ANY, _IN_GROUPS = (
    f"[{SEPARATORS}]",
    f"[.{SEPARATORS}]",
)  # dots only between groups: 4.111111111111111 is a fraction
_GROUPS = rf"\d{{4}}(?:{_IN_GROUPS}\d{{4}}){{3}}|\d{{4}}{_IN_GROUPS}\d{{6}}{_IN_GROUPS}\d{{5}}"
LONG_NUMBER = rf"\d(?:{_ANY}?\d){{12}}|{_GROUPS}"  # where 13 digits or more are; for RE2, too
# As people write them. What is written as one number comes before what may be two with a blank between them.
_FORMS = tuple(
    re.compile(rf"(?<!\d)(?<!• )(?:{form})(?!\d)", re.ASCII)
    for form in (r"\d{13,19}", _GROUPS, rf"\d(?:{_ANY}?\d){{12,18}}")
)
_SEPARATOR = re.compile(_IN_GROUPS)
_ISSUER = re.compile(
    r"4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-59]|[689]\d)\d{11,16}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:220[0-4]|9792)\d{12,15}"  # Mir, Troy
    r"|8[12]\d{14}"  # RuPay
    r"|(?:5[06-8]|6\d)\d{11,17}",  # Maestro, Discover, UnionPay, RuPay
    re.ASCII,
)


def without_separators(number: str) -> str:
    """A number without blanks, hyphens and dots."""
    return _SEPARATOR.sub("", number)


def is_card_number(text: str) -> bool:
    """Whether a text is the number of a card and nothing else; one of 28 random numbers of 16 digits is."""
    if not any(form.fullmatch(text) for form in _FORMS[1:]):
        return False
    digits = without_separators(text)
    return _ISSUER.fullmatch(digits) is not None and has_check_digit(digits)


def has_check_digit(number: str) -> bool:
    """Whether the last digit of a number is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    places = enumerate(reversed(without_separators(number)))
    doubled = (int(d) if place % 2 == 0 else sum(divmod(2 * int(d), 10)) for place, d in places)
    return sum(doubled) % 10 == 0


def last_four(number: str) -> str:
    """The display form of a card number: `•••• 4242`."""
    return f"•••• {without_separators(number)[-4:]}"


def mask_numbers(text: str, masked: Callable[[str], bool] = is_card_number) -> str:
    """Replace those numbers of 13 to 19 digits inside a text that `masked` is true for by their display form."""
    for form in _FORMS:
        text = form.sub(lambda number: last_four(number[0]) if masked(number[0]) else number[0], text)
    return text
