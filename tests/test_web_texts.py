"""What pages say in place of codes, records and commands."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.rendering.page_links import with_page_links
from pipeline.services.audit import AuditEntry
from pipeline.training import promotion_gate, readiness
from pipeline.training.gate_texts import RULE_TEXTS
from pipeline.web.pages.lists import detail_text
from pipeline.web.pages.monitoring import SECTIONS
from pipeline.web.record_text import record_text
from pipeline.web.routes import PAGE_ROUTES

SOURCES = Path("pipeline/reporting/sections")
# Only the terminal does these: files to read, and what must be looked at on the machine.
OF_THE_TERMINAL = ("ingest", "doctor", "readiness")


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (None, {"reason": "wrong costs", "days": 7, "note": ""}, "reason: wrong costs; days: 7"),
        ({"role": "viewer", "name": "ann"}, {"role": "reviewer", "name": "ann"}, "role: viewer → reviewer"),
        ({"status": "open"}, None, "status: open → nothing"),
        (None, {"until": 1_735_693_200_000_000, "is_fraud": False}, 'until: <time datetime="2025-01-01T01:00:00Z">01 Jan 2025 01:00 UTC</time>; is fraud: no'),
        (None, {"rows": ["a", "b", "c", "d", "e", "f", "g"], "of": {"card_id": "c1", "x": None}}, "rows: a, b, c, d, e and 2 more; of: card id c1"),
        (None, {"note": "<b>&"}, "note: &lt;b&gt;&amp;"),
        (None, None, ""),
    ],
)  # fmt: skip
def test_a_record_is_names_and_values(before: Any, after: Any, text: str) -> None:
    assert record_text(after, before) == text


def test_what_was_looked_at_is_counted_in_words() -> None:
    at = datetime(2025, 1, 1, tzinfo=UTC)
    looked = AuditEntry(
        audit_id=1, at=at, actor="ann", os_user=None, database_user=None, action="view flags", subject="queue", before=None,
        after={"rows": 88, "channel": "outlier"}, redacted_by=None, hash=None,
    )  # fmt: skip
    assert detail_text(looked) == "88 flags; channel: outlier"
    assert detail_text(replace(looked, action="view flag", after={"rows": 1})) == "1 payment"
    assert detail_text(replace(looked, action="erase", after={"rows": 3})) == "rows: 3"


def test_a_share_has_a_space_before_its_sign() -> None:
    for file in [*Path("pipeline").rglob("*.py"), *Path("detectors").rglob("*.py")]:
        found = re.findall(r"\{[^{}\n]*:\.\d+%\}", file.read_text())
        assert not found, (file, found)


def test_a_sentence_of_the_report_links_the_page_of_its_command() -> None:
    shown = with_page_links(
        "3 <steps> failed: fraudwatch gaps lists them, fraudwatch doctor too (see Drift)."
    )
    assert shown == (
        '3 &lt;steps&gt; failed: <a href="/runs#gaps-title">the page Runs</a> lists them, fraudwatch doctor too '
        '(<a href="/drift#drift">see Drift</a>).'
    )
    assert '<a href="/models/12">its page</a>' in with_page_links(
        "Model card; fraudwatch models show 12 also checks"
    )


def test_no_page_sends_its_reader_to_a_command_that_another_page_does() -> None:
    paths = {path for method, path in PAGE_ROUTES if method == "GET"}
    for name in SECTIONS:
        file = SOURCES / f"{'model_card' if name == 'model' else name}.py"
        for command in re.findall(r"fraudwatch (\w+)[^\"]*", file.read_text()):
            text = re.search(rf"fraudwatch {command}[^\"]*", file.read_text())
            assert text is not None
            shown = with_page_links(text[0].replace("{model_id}", "1"))
            assert command in OF_THE_TERMINAL or "<a href" in shown, (name, text[0])
            for address in re.findall(r'href="([^"#]+)', shown):
                known = re.sub(r"/models/1$", "/models/{model_id}", address)
                assert known in paths or address.startswith("/api/v1/"), address


def test_every_rule_of_the_promotion_gate_has_words() -> None:
    rules = {*promotion_gate.RULES.values(), "FIRST", "INCONCLUSIVE", readiness.LEAK}
    rules |= {promotion_gate.HISTORY_CHANGED, promotion_gate.FAILS_ON_LEARNED}
    assert rules == RULE_TEXTS.keys()
