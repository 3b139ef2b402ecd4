"""
Sanitizes untrusted text for display: in a terminal, spreadsheet, page, chat or mail.

A merchant's name may hold escape sequences that repaint a terminal, marks that reverse the reading direction, a formula
that a spreadsheet runs, or, in a message, a link, a mention of everybody or HTML. All functions are for display only:
stored values stay unchanged.
"""

import re
import unicodedata

from pipeline.card_numbers import has_check_digit, mask_numbers

# Controls (C0, C1, delete), format characters (bidi, zero width, tags), lone surrogates, line and paragraph separators.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Spreadsheets treat full-width forms like plain ones, and skip leading blanks, including no-break spaces.
_FORMULA = re.compile(r"[\s'\"]*[=+\-@＝＋－＠]")
DISPLAY_END = " · "  # between the display form of a hashed value and its hash
_HASH = re.compile(rf"(?<=\S){DISPLAY_END}[0-9a-f]{{64}}(?![0-9a-f])")
_BARE_HASH = re.compile(r"[0-9a-f]{64}")
PAGE_MAX = 300  # characters of a value on a page
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

# Characters that chats and mail programs interpret → inert characters that look alike.
INERT = str.maketrans(
    {"<": "‹", ">": "›", "&": "＆", "@": "＠", "[": "［", "]": "］", "`": "´", "|": "¦", "#": "＃"}
)
_ADDRESS = re.compile(
    r"(?<=\w)\.(?=[^\W\d_]{2})"
)  # evil.com, www.evil.com: many programs turn them into links


def for_terminal(text: str) -> str:
    """
    Replace control and format characters by escapes such as `\\x1b` or `\\u202e`; the result is one line.

    Of a hashed value that has a display form, such as `•••• 4242`, only that is left.
    """
    escaped = _escape_harmful(text)
    return _HASH.sub("", escaped) if DISPLAY_END in escaped else escaped


def _escape_harmful(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _HARMFUL else c for c in text)


def for_csv(text: str) -> str:
    """
    Escape as for a terminal, and put an apostrophe before text that a spreadsheet would run as a formula.

    Formulas start with `=`, `+`, `-`, `@`, a tab or a carriage return; a plain number such as -12.5 is not a formula.
    """
    if _NUMBER.fullmatch(text):
        return text
    safe = _escape_harmful(text)
    return f"'{safe}" if text[:1] in ("\t", "\r", "\n") or _FORMULA.match(text) else safe


def for_page(text: str, longest: int = PAGE_MAX) -> str:
    """
    Sanitize as for a terminal, shorten, and mask card numbers but for their last four digits.

    HTML is escaped where the page is written.
    """
    safe = mask_numbers(for_terminal(text), has_check_digit)
    return safe if len(safe) <= longest else f"{safe[:longest]}… ({len(text):,} characters)"


def for_message(text: str) -> str:
    """Sanitize as for a page and as for an id in a message."""
    return id_for_message(for_page(text))


def id_for_message(text: str) -> str:
    """
    Sanitize as for a terminal, and disable links, mentions, HTML and code blocks.

    Addresses are defanged: `evil[.]com`, `http[:]//`; other characters are replaced by ones that look alike. Digits of an
    id are not masked.
    """
    inert = for_terminal(text).translate(INERT)
    return _ADDRESS.sub("[.]", inert).replace("://", "[:]//")


def value_for_message(value: str, hashed: bool) -> str:
    """Sanitize a field's value as for a message; of a hash without a display form only its first characters are left."""
    if hashed and _BARE_HASH.fullmatch(value):
        return f"{value[:8]}…"
    return for_message(value)


def _escape(character: str) -> str:
    code = ord(character)
    width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
    return _SHORT.get(character, f"\\{letter}{code:0{width}x}")
