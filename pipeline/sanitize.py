"""
Sanitizes untrusted text for display: in a terminal, spreadsheet, page, chat or mail.

A merchant's name may hold escape sequences that repaint a terminal, marks that reverse the reading direction, a formula
that a spreadsheet runs, or, in a message, a link, a mention of everybody or HTML. All functions are for display only:
stored values stay unchanged.
"""

import re
import unicodedata

# Controls (C0, C1, delete), format characters (bidi, zero width, tags), lone surrogates, line and paragraph separators.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Spreadsheets treat full-width forms like plain ones, and skip leading blanks, including no-break spaces.
_FORMULA = re.compile(r"[\s'\"]*[=+\-@＝＋－＠]")
# A payment card's number: 13 to 19 digits (ISO/IEC 7812), as people write it.
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)", re.ASCII)
PAGE_MAX = 300  # characters of a value on a page
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

# Characters that chats and mail programs interpret → inert characters that look alike.
_INERT = str.maketrans(
    {"<": "‹", ">": "›", "&": "＆", "@": "＠", "[": "［", "]": "］", "`": "´", "|": "¦", "#": "＃"}
)
_ADDRESS = re.compile(
    r"(?<=\w)\.(?=[^\W\d_]{2})"
)  # evil.com, www.evil.com: many programs turn them into links


def for_terminal(text: str) -> str:
    """Replace control and format characters by escapes such as `\\x1b` or `\\u202e`; the result is one line."""
    if text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _HARMFUL else c for c in text)


def for_csv(text: str) -> str:
    """
    Sanitize as for a terminal, and put an apostrophe before text that a spreadsheet would run as a formula.

    Formulas start with `=`, `+`, `-`, `@`, a tab or a carriage return; a plain number such as -12.5 is not a formula.
    """
    if _NUMBER.fullmatch(text):
        return text
    safe = for_terminal(text)
    return f"'{safe}" if text[:1] in ("\t", "\r", "\n") or _FORMULA.match(text) else safe


def for_page(text: str) -> str:
    """
    Sanitize as for a terminal, shorten, and mask card numbers but for their last four digits.

    HTML is escaped where the page is written.
    """
    safe = _CARD.sub(lambda digits: _last_four(digits[0]), for_terminal(text))
    return safe if len(safe) <= PAGE_MAX else f"{safe[:PAGE_MAX]}… ({len(text):,} characters)"


def _last_four(number: str) -> str:
    digits = [int(c) for c in number if c.isdigit()]
    return f"•••• {number[-4:]}" if _luhn(digits) else number


def _luhn(digits: list[int]) -> bool:
    """Whether the check digit of a card number is right (ISO/IEC 7812-1, annex B)."""
    doubled = [
        d if place % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for place, d in enumerate(reversed(digits))
    ]
    return sum(doubled) % 10 == 0


def for_message(text: str) -> str:
    """Sanitize as for a page and as for an id in a message."""
    return id_for_message(for_page(text))


def id_for_message(text: str) -> str:
    """
    Sanitize as for a terminal, and disable links, mentions, HTML and code blocks.

    Addresses are defanged: `evil[.]com`, `http[:]//`; other characters are replaced by ones that look alike. Digits of an
    id are not masked.
    """
    inert = for_terminal(text).translate(_INERT)
    return _ADDRESS.sub("[.]", inert).replace("://", "[:]//")


def _escape(character: str) -> str:
    code = ord(character)
    width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
    return _SHORT.get(character, f"\\{letter}{code:0{width}x}")
