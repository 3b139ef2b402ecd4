import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sanitize import PAGE_MAX, for_csv, for_message, for_page, for_terminal, id_for_message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Café Zürich 東京 🙂", "Café Zürich 東京 🙂"),  # letters of any script stay
        ("\x1b[2Jgone", "\\x1b[2Jgone"),  # ANSI: clears the screen
        ("\x9b31mred", "\\x9b31mred"),  # the same introducer as one C1 byte
        ("a\x00b\x07c\x7f", "a\\x00b\\x07c\\x7f"),
        ("two\r\nlines\tand a tab", "two\\r\\nlines\\tand a tab"),
        ("invoice\u202egpj.exe", "invoice\\u202egpj.exe"),  # turns the reading direction
        ("\u2066isolated\u2069", "\\u2066isolated\\u2069"),
        ("pay\u200bpal", "pay\\u200bpal"),  # zero width: looks like another name
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("half \ud800", "half \\ud800"),
        ("", ""),
    ],
)
def test_what_would_act_on_a_terminal_is_written_as_its_escape(text, shown):
    assert for_terminal(text) == shown


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-1+cmd", "'-1+cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("  =1", "'  =1"),  # spreadsheets skip the blanks
        ("\u00a0=1", "'\u00a0=1"),
        ("＝1+1", "'＝1+1"),  # full width
        ('"=1', "'\"=1"),
        ("-12.5", "-12.5"),  # a number stays one
        ("+3", "+3"),
        ("1e-5", "1e-5"),
        ("Shop = good", "Shop = good"),  # not at the start
        ("e-mail", "e-mail"),
        ("\x1b[31m", "\\x1b[31m"),
        ("", ""),
    ],
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text, cell):
    assert for_csv(text) == cell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("4111111111111111", "•••• 1111"),
        ("card 4111 1111 1111 1111, twice", "card •••• 1111, twice"),
        ("5500-0000-0000-0004", "•••• 0004"),
        ("340000000000009", "•••• 0009"),  # 15 digits
        ("4111111111111112", "4111111111111112"),  # a wrong check digit: some other number
        ("411111111111", "411111111111"),  # too short for a card
        ("12341111111111111111", "12341111111111111111"),  # too long for one
        ("<b>\x1b", "<b>\\x1b"),  # markup is escaped where the page is written
        ("x" * 400, "x" * PAGE_MAX + "… (400 characters)"),
        ("x" * (PAGE_MAX - 8) + " 4111111111111111", "x" * (PAGE_MAX - 8) + " •••• 11… (309 characters)"),  # never cut before it is hidden
    ],
)  # fmt: skip
def test_a_page_shows_no_card_number(text, shown):
    assert for_page(text) == shown


@given(st.text())
def test_nothing_that_acts_survives_in_any_text(text):
    for shown in (for_terminal(text), for_csv(text), for_page(text)):
        assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert for_csv(text)[:1] not in ("=", "@", "\t", "\r")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Café 12.50 T000132", "Café 12.50 T000132"),  # letters and amounts stay
        ("<!channel> <@U12> @here", "‹!channel› ‹＠U12› ＠here"),  # Slack and Teams call everybody
        ("[pay](http://evil.com/a)", "［pay］(http[:]//evil[.]com/a)"),  # a link in Markdown
        ("<http://evil.com|your bank>", "‹http[:]//evil[.]com¦your bank›"),  # a link in Slack
        ("www.evil.co.uk a@b.org", "www[.]evil[.]co[.]uk a＠b[.]org"),  # what mail programs make links of
        ("<b onclick=x>&lt;", "‹b onclick=x›＆lt;"),
        ("```\nall of it\n```", "´´´\\nall of it\\n´´´"),  # a code block that takes the rest in
        ("\u202egnp", "\\u202egnp"),
        ("card 4111 1111 1111 1111", "card •••• 1111"),  # its check digit says that it is one
    ],
)
def test_what_would_act_in_a_message_does_not(text, shown):
    assert for_message(text) == shown


def test_an_id_of_digits_stays_whole_in_a_message():
    assert id_for_message("4111111111111111") == "4111111111111111"
    assert id_for_message("<a@b>") == "‹a＠b›"


@given(st.text())
def test_a_message_holds_nothing_that_acts(text):
    assert not set(for_message(text)) & set("<>@`|\n\r")
    assert "://" not in for_message(text)
