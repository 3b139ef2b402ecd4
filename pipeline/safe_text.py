"""
Text from data made harmless for whoever reads it: a terminal, a spreadsheet.

A merchant's name may hold escape sequences that repaint a terminal, marks that turn the reading direction, or a
formula that a spreadsheet runs. Both functions are for showing only: what is stored stays as it came.
"""

import re
import unicodedata

# Controls (C0, C1, delete), format characters (bidi, zero width, tags), lone surrogates, line and paragraph separators.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Spreadsheets read the full-width forms as the plain ones; they skip blanks in front, no-break ones too.
_FORMULA = re.compile(r"[\s'\"]*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def for_terminal(text: str) -> str:
    """Write every character that would act instead of show as its escape, `\\x1b` or `\\u202e`, on one line."""
    if text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _HARMFUL else c for c in text)


def for_csv(text: str) -> str:
    """
    Do the same, and put an apostrophe before what a spreadsheet would run as a formula.

    Formulas start with `=`, `+`, `-`, `@`, a tab or a carriage return; a plain number such as -12.5 is none.
    """
    if _NUMBER.fullmatch(text):
        return text
    shown = for_terminal(text)
    return f"'{shown}" if text[:1] in ("\t", "\r", "\n") or _FORMULA.match(text) else shown


def _escape(character: str) -> str:
    code = ord(character)
    width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
    return _SHORT.get(character, f"\\{letter}{code:0{width}x}")
