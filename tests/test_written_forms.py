"""Every way to write a value in text is found, and no other value is."""

import json

import pytest

from pipeline.hashing import Hasher
from pipeline.sanitize import for_message, for_terminal, value_for_message
from pipeline.written_forms import display_pattern, hash_forms, written_forms

NAMES = (
    "C-001234", "jan.kowalski@example.com", 'Łukasz "Lucky" O\'Nei\\ll', "王伟", "a\tb & <c> [d]|e#f`g`", "😀 ltd",
    "http://shop.example/x", "+49 151 1234567", "=cmd|' /C calc'!A0", "x" * 400,
)  # fmt: skip
WRITERS = {
    "as it is": lambda value: value,
    "JSON": json.dumps,
    "JSON in JSON": lambda value: json.dumps(json.dumps(value)),
    "JSON in Unicode": lambda value: json.dumps(value, ensure_ascii=False),
    "Python": repr,
    "ASCII": ascii,
    "message": for_message,
    "terminal": for_terminal,
    "every character as a number": lambda value: "".join(f"\\u{unit:04X}" for unit in utf16(value)),
}


def utf16(value: str) -> list[int]:
    raw = value.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("value", NAMES)
def test_a_value_is_found_however_it_is_written(value: str, writer: str) -> None:
    pattern, parts = written_forms(value)
    text = f"of {WRITERS[writer](value)}, and\\n{WRITERS[writer](value)}"
    assert (
        pattern.sub("X", text).count("X") == 2
        if value[0] != "x"
        else "xxxxxxxxxx" not in pattern.sub("X", text)
    )
    lowered = "".join(c.lower() if c.isascii() else c for c in text)
    assert not parts or any(part in lowered for part in parts)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("C12", "C123, AC12, C1 2, c12"),
        ("jan@example.com", "x.jan@example.com, jan@example.comx"),
        ("Anna", "Joanna, Annas"),
        ("4242424242424242", "42424242424242421, 4242-4242"),
    ],
)
def test_a_value_is_not_found_inside_another(value: str, text: str) -> None:
    assert written_forms(value)[0].sub("X", text) == text


def test_a_hashed_value_is_found_by_its_hash_and_shown_by_its_display_form() -> None:
    stored = Hasher(b"0123456789abcdef").stored("jan@example.com")
    hashed = stored.rpartition(" ")[2]
    pattern, parts = hash_forms(stored)
    shown = value_for_message(hashed, hashed=True)
    assert shown == f"{hashed[:8]}…"
    for text in (stored, hashed, shown, json.dumps(stored, ensure_ascii=False)):
        assert pattern.sub("X", f"of {text}!").strip('of "!') == "X"
        assert any(part in text for part in parts)
    display = display_pattern(stored)
    assert display is not None
    assert display.sub("X", f"{for_message(stored)}, j…@example.com") == "X, X"
