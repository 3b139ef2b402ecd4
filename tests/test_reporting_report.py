"""What a report counts and says, on both engines, and that it says what is missing instead of failing."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from detectors.evaluation.metrics import average_precision
from pipeline.cli.main import cli
from pipeline.config.database import open_configured
from pipeline.errors import InputError, NotReady
from pipeline.number_text import amount, hundredths, number, score_text
from pipeline.rendering import charts, text_page
from pipeline.rendering.elements import ReportPage, ReportSection, Table
from pipeline.rendering.report_data import ReportData, total
from pipeline.rendering.text import thresholds_text
from pipeline.reporting import report
from pipeline.reporting.sections import curves, scores
from pipeline.reporting.summary import summary_lines
from pipeline.services.monitoring import reports
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY
from tests.support.databases import (
    Copier,
    PostgresServer,
    SqliteFiles,
    copy_world,
    opened,
    with_url,
)
from tests.support.reports import (
    CARD,
    HOSTILE,
    plant_hostile_values,
    report_page,
    write_comparison,
    write_quality_metrics,
)
from tests.support.sql import execute, query
from tests.support.worlds import BACKFILLED, FROM, NOW, SMALL, TO

ADDRESS = re.compile(r"https?://[^\s\"'<>)]*")
XML_NAMES = ("http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg", "http://www.w3.org/2000/xmlns/")
SPAN = ("live", FROM, TO, NOW)


@pytest.fixture
def store(backfilled: Store) -> Store:
    """A scored database, on each engine."""
    return backfilled


@pytest.fixture
def one(sqlite_copier: Copier) -> Store:
    """The same on SQLite alone."""
    return sqlite_copier(BACKFILLED)


def section(store: Store, name: str) -> ReportSection:
    return report.SECTIONS[name](ReportData.load(store, SMALL, "live", FROM, TO, NOW))


@pytest.mark.one_engine
def test_the_same_rows_give_the_same_page_and_it_names_no_address(store: Store) -> None:
    write_comparison(store)
    first = report_page(store)
    assert report_page(store) == first
    assert {found for found in ADDRESS.findall(first) if found not in XML_NAMES} == set()
    assert "Content-Security-Policy" in first
    assert '<html lang="en">' in first
    for name, (section, _) in report.CHARTS.items():
        assert f'<section id="{section}"' in first
        assert f'<figure id="chart-{name}"' in first


def test_both_engines_tell_the_same(
    postgres: PostgresServer, sqlite_files: SqliteFiles, tmp_path: Path
) -> None:
    pages = []
    for engine, name in ((sqlite_files, str(tmp_path / "same")), (postgres, f"same_{os.getpid()}")):
        copy_world(engine, BACKFILLED, name)
        with open_configured(with_url(SMALL, engine.url(name))) as opened:
            pages.append(report_page(opened))
    assert pages[0] == pages[1]


def test_a_curve_through_the_bins_is_the_curve_of_all_scores(store: Store) -> None:
    data = ReportData.load(store, SMALL, *SPAN)
    found = {one.strategy: one for one in curves.curves(data)}
    assert found
    mature = NOW - SMALL.labels.maturity
    sql = """SELECT s.strategy, s.score, c.is_fraud, CAST(t.event_time AS TEXT), s.flagged FROM scores s JOIN transactions t USING (transaction_id)
             LEFT JOIN current_labels c USING (transaction_id) ORDER BY s.transaction_id"""
    cut = np.datetime64(data.scope.mature_until, "us")
    rows = [row for row in query(store, sql) if np.datetime64(str(row[3])[:19]) <= cut]
    assert data.scope.mature_until <= mature
    for strategy, one in found.items():
        mine = [row for row in rows if row[0] == strategy]
        y = [float(bool(row[2])) for row in mine]
        assert one.ap == pytest.approx(average_precision(y, [float(str(row[1])) for row in mine]), abs=0.01)
        assert one.steps.positives == sum(y)
        assert one.flags == sum(bool(row[4]) for row in mine)
        assert one.true_positives == sum(bool(row[4]) and bool(row[2]) for row in mine)
        assert one.missed_cost[0] == pytest.approx(sum(y) * SMALL.costs.missed_fraud * SMALL.costs.review)
        assert one.missed_cost[-1] == 0


def test_calibration_groups_lose_nothing(store: Store) -> None:
    data = ReportData.load(store, SMALL, *SPAN)
    points = list(scores._calibration_points(data))
    assert points
    with_fraud = {row["strategy"] for row in data.probability_bins if row["mature_frauds"]}
    bins = [row for row in data.probability_bins if row["strategy"] in with_fraud]
    assert sum(one["observed"] for one in points) == sum(row["mature_frauds"] for row in bins)
    assert sum(one["expected"] for one in points) == pytest.approx(sum(row["mature_total"] for row in bins))
    assert all(one["lower"] <= one["y"] <= one["upper"] for one in points)


def test_a_report_knows_only_what_was_known_at_its_time(one: Store) -> None:
    early = ReportData.load(one, SMALL, "live", FROM, TO, FROM + 10 * DAY)
    late = ReportData.load(one, SMALL, *SPAN)
    assert 0 < total(early.daily, "n", is_fraud=True) < total(late.daily, "n", is_fraud=True)
    assert early.scope.mature_until < late.scope.mature_until
    assert 0 < total(early.daily, "n", mature=True) < total(late.daily, "n", mature=True)


def test_declined_payments_are_never_mature_by_silence(one: Store) -> None:
    config = SMALL.model_copy(deep=True)
    object.__setattr__(config.labels, "never_by_silence", {"terminal_id": ("m5",)})
    before = total(ReportData.load(one, SMALL, *SPAN).daily, "n", mature=True)
    after = total(ReportData.load(one, config, *SPAN).daily, "n", mature=True)
    sql = "SELECT COUNT(*) FROM scores s JOIN transactions t USING (transaction_id) WHERE terminal_id = 'm5' AND event_time <= '2025-02-04'"
    assert before - after > 10
    assert before - after <= query(one, sql)[0][0] + 20


# What is done to the database, then the section that has to say so and a word of what it says.
BARE = [
    (["DELETE FROM scores", "DELETE FROM flags"], "outcome", "No payment of"),
    (["DELETE FROM scores", "DELETE FROM flags"], "curves", "fraudwatch backfill"),
    (["DELETE FROM scores", "DELETE FROM flags"], "scores", "No payment of the span has a score"),
    (["UPDATE choices SET policy = 'other'"], "choices", "fraudwatch train"),
    (["DELETE FROM promotions"], "model", "No model was in force"),
    (["UPDATE choices SET mature = 0, prevalence = NULL"], "choices", "No transaction was mature"),
    (["DELETE FROM drift_metrics"], "drift", "No drift was measured"),
    (["UPDATE drift_metrics SET effect = NULL, value = NULL"], "drift", "no effect size"),
    (["DELETE FROM labels", "UPDATE batches SET complete_through = NULL"], "curves", "No payment of the span is mature"),
    (["DELETE FROM labels", "UPDATE batches SET complete_through = NULL"], "outcome", "No fraud of these payments"),
    (["DELETE FROM labels", "UPDATE batches SET complete_through = NULL"], "outcome", "no labels have been ingested yet"),
    (["DELETE FROM labels", "UPDATE batches SET complete_through = NULL"], "scores", "no labels have been ingested yet"),
    (["DELETE FROM labels", "UPDATE batches SET complete_through = NULL"], "curves", "no labels have been ingested yet"),
    (["DELETE FROM labels"], "curves", "known to be fraud"),  # one class: all genuine by silence
    (["UPDATE labels SET is_fraud = FALSE"], "curves", "known to be fraud"),  # one class, by labels
    (["DELETE FROM labels"], "scores", "Calibration needs"),
    (["UPDATE scores SET fraud_probability = NULL"], "scores", "Calibration needs"),  # outlier detection alone
    (["DELETE FROM flags", "UPDATE scores SET flagged = FALSE"], "queue", "Nothing was flagged"),
    (["DELETE FROM flags", "DELETE FROM labels"], "entities", "No payment of the span is flagged"),
    (["UPDATE flags SET reviewer = NULL"], "queue", "No flag has a verdict"),
    (["DELETE FROM ledger"], "ledger", "Nothing was due"),
    (["DELETE FROM quality_metrics"], "quality", "No quality"),
    (["DELETE FROM comparisons"], "comparison", "No comparison of techniques is stored"),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "name", "says"), BARE)
def test_a_section_says_what_is_missing(one: Store, statements: list[str], name: str, says: str) -> None:
    execute(one, *statements)
    assert says in " ".join(section(one, name).missing)


def test_a_new_database_gives_a_page_without_a_chart(sqlite_url: str) -> None:
    store = opened(SMALL, sqlite_url)
    for name in report.SECTIONS:
        assert section(store, name).missing or name in ("attention", "terms"), name
        assert not section(store, name).charts, name
    assert "<figure" not in report_page(store)
    with pytest.raises(NotReady, match="chart cost has no data: No payment"):
        report.render_chart(ReportData.load(store, SMALL, *SPAN), "cost", "png")


def test_every_chart_makes_a_picture(one: Store) -> None:
    write_quality_metrics(one)
    write_comparison(one)
    data = ReportData.load(one, SMALL, *SPAN)
    for name, (of_section, _) in report.CHARTS.items():
        (chart,) = (
            made for make in report.SECTIONS[of_section](data).charts if (made := make()).name == name
        )
        rows = re.findall(r'"(?:values|data-\w+)": (.)', json.dumps({**chart.spec, "config": None}))
        assert "[" in rows, name
        assert '"' not in rows, name  # rows are rows, however the chart is put together
        png, svg = (
            report.render_chart(ReportData.load(one, SMALL, *SPAN), name, form) for form in ("png", "svg")
        )
        assert png.startswith(b"\x89PNG"), name
        assert len(png) > 5_000, name
        assert svg.startswith(b"<svg"), name
        assert b"var(" not in svg, name
        assert {found for found in ADDRESS.findall(svg.decode()) if found not in XML_NAMES} == set(), name


def test_techniques_are_compared_by_curve_and_table(one: Store) -> None:
    write_comparison(one)
    compared = section(one, "comparison")
    assert compared.sentences[0] == "HBOS ranks best."
    (table,) = compared.tables
    assert table.columns == ("technique", "average precision", "cost", "note")
    assert table.rows == [["HBOS", "0.4 (0.3 to 0.5)", "–", "quick"], ["SMOTE 10 %", "0.2", "–", ""]]
    points = compared.charts[0]().spec["data"]["values"]
    assert [(row["technique"], row["x"], row["y"]) for row in points][-1] == ("HBOS", 1.0, 0.1)
    assert ReportData.load(one, SMALL, "live", FROM, TO, NOW - 1).comparison is None
    execute(one, "UPDATE comparisons SET curves = NULL")  # as an earlier version stored it
    assert section(one, "comparison").missing == ["Its curves were not stored: an earlier version made it."]


def test_quality_tells_alarms_and_what_cannot_be_told(one: Store) -> None:
    write_quality_metrics(one)
    quality = section(one, "quality")
    assert quality.sentences == [
        "2025-01-20 to 2025-01-27, realised: precision 50 % (40 % to 60 %).",
        "Alarms, where a realised value is outside the range that its estimate allowed: precision of 2025-01-20 50 %.",
    ]
    assert quality.missing == ["recall of 2025-01-27, realised: no fraud is known"]
    (chart,) = (make() for make in quality.charts)
    assert chart.options == ["precision"]
    assert "estimated before: 45 % (30 % to 60 %)" in json.dumps(chart.spec)


def test_what_waits_for_a_person_is_told_with_what_to_do(one: Store) -> None:
    write_quality_metrics(one)
    execute(
        one,
        "UPDATE ledger SET status = 'failed' WHERE kind = 'score' AND window_start < '2025-01-22'",
        "UPDATE drift_metrics SET alarm = (feature = 'amount')",
        "UPDATE flags SET status = 'open'",
        "UPDATE readiness SET level = 'error', message = 'labels are late', remedy = 'load chargebacks'",
        "UPDATE promotion_checks SET verdict = 'rejected', sentence = 'it is worse'",
    )
    points = " ".join(section(one, "attention").points)
    for sentence in (
        "2 steps failed: fraudwatch gaps", "an alarm in the newest measured window: amount", "flags are older than 7 days",
        "error: Labels are late. Load chargebacks.", "was not promoted: it is worse", "the newest is precision of 2025-01-20",
    ):  # fmt: skip
        assert sentence in points
    assert "Nothing: every step is done" in " ".join(
        report.SECTIONS["attention"](ReportData.load(one, SMALL, "other", FROM, TO, NOW)).sentences
    )


def test_what_a_chart_shows_can_be_picked(one: Store) -> None:
    data = ReportData.load(one, SMALL, *SPAN)
    options = report.SECTIONS["drift"](data).charts[1]().options
    first, other = (report.render_chart(data, "drift-detail", "svg", option) for option in options[:2])
    assert options[1].encode() in other
    assert first != other
    for name, show, says in (
        ("drift-detail", "nothing", "choose one of"),
        ("cost", "x", "it has no options"),
        ("pie", "", "there is no chart 'pie'"),
    ):
        with pytest.raises(InputError, match=says):
            report.render_chart(data, name, "svg", show)


def test_values_from_data_cannot_act_and_card_numbers_stay_home(one: Store) -> None:
    plant_hostile_values(one)
    made = report_page(one)
    assert HOSTILE not in made
    assert "&lt;img src=x" in made
    assert "\\u003c/script\\u003e" in made  # in the data of charts
    assert made.count("<script>") == 2
    assert CARD not in made
    assert "•••• 1111" in made


def test_a_long_span_is_drawn_by_the_week_or_four(one: Store) -> None:
    for days, step in ((40, 1), (41, 7), (280, 7), (281, 28)):
        data = ReportData.load(one, SMALL, "live", FROM, FROM + days * DAY, NOW)
        assert data.bar_days == step
        start, end = data.bar_span("2025-02-11")
        assert start <= "2025-02-11T00:00:00Z" < end


def test_pictures_have_colours_in_place_of_the_pages_variables() -> None:
    assert charts.with_colours({"a": [charts.INK, "var(--primary)"], "b": 1}) == {
        "a": ["#1b1f24", "#00305f"],
        "b": 1,
    }


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(InputError, match=r"pip install 'fraudwatch\[reports\]'"):
        charts.require_chart_libraries()


def test_the_summary_is_the_report_as_text_and_needs_no_chart_library(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("altair", "vl_convert"):
        monkeypatch.setitem(sys.modules, name, None)
    data = ReportData.load(store, SMALL, *SPAN)
    lines = list(summary_lines(data))
    text = " ".join(" ".join(lines).split())
    for name in ("outcome", "attention", "choices"):
        found = report.SECTIONS[name](data)
        assert found.title in lines
        assert all(sentence in text for sentence in (*found.sentences, *found.points, *found.missing))
    money = amount(total(data.daily, "caught", channel="blend"))
    (blend,) = (line.split() for line in lines if line.startswith("blend  "))
    assert blend[-1] == money != "0.00"
    assert max(map(len, lines)) <= text_page.WIDTH
    assert len(lines) < 120
    assert text.count("Times are UTC.") == 1
    assert "time, UTC" in text


def test_a_share_of_flags_that_found_nothing_is_named(one: Store) -> None:
    sentence = "channel novelty, has found no known fraud yet"
    execute(one, "UPDATE scores SET channel = 'blend' WHERE channel = 'novelty'")
    assert sentence not in " ".join(section(one, "outcome").sentences)
    genuine = "SELECT transaction_id FROM current_labels WHERE is_fraud"
    execute(one, f"UPDATE scores SET channel = 'novelty' WHERE flagged AND transaction_id NOT IN ({genuine})")
    assert sentence in " ".join(section(one, "outcome").sentences)


def test_a_table_too_wide_for_a_terminal_has_its_last_column_under_each_row() -> None:
    words = "a long reason " * 8
    table = Table(
        "Flags",
        ("payment", "amount, EUR", "reasons"),
        [["t1", "1,234.50", words]],
        frozenset({"amount, EUR"}),
    )
    page = ReportPage("", "shop", "flags", "", [ReportSection("flags", "Flags", tables=[table])])
    assert list(text_page.render(page)) == [
        "shop: flags", "", "Flags", "─────", "Flags",
        "          amount,",
        "payment       EUR",
        "───────  ────────",
        "t1       1,234.50",
        "      a long reason a long reason a long reason a long reason a long reason a",
        "      long reason a long reason a long reason",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (350.0, "350"),
        (1234.5, "1,234"),
        (6.17366, "6.17"),
        (0.00001234, "0.0000123"),
        (-2.5, "-2.5"),
    ],
)
def test_numbers_have_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (1.0, "1 in over 1,000,000,000"), (0.999972, "1 in 36,000"), (0.99917, "1 in 1,200"), (0.9983, "1 in 590"),
        (0.95, "1 in 20"), (0.9, "1 in 10"), (0.6, "1 in 2.5"), (0.895, "1 in 9.5"), (0.00901, "1 in 1"), (0.0, "1 in 1"),
    ],
)  # fmt: skip
def test_a_score_is_shown_as_the_share_of_payments_that_are_as_suspicious(score: float, text: str) -> None:
    assert score_text(score) == text


def test_shares_of_a_column_have_the_same_decimals() -> None:
    assert [hundredths(share) for share in (0.0, 0.000027, 0.0034, 0.026, 1.0)] == [
        "0.00", "< 0.01", "0.34", "2.60", "100.00",
    ]  # fmt: skip


def test_a_threshold_is_a_score_a_probability_or_a_loss() -> None:
    of = {"novelty": 0.9984, "blend": 0.010994, "outlier": None}
    assert thresholds_text(of, "constant") == "blend 1.1 %, novelty score 1 in 620, outlier flags nothing"
    assert thresholds_text({"blend": 12.5}, "constant") == "blend 12.5"
    assert thresholds_text({"blend": 0.5}, "amount") == "blend 0.5"


def test_no_axis_writes_an_exponent(one: Store) -> None:
    """A metric of some hundreds: its axis said 3.5e+2."""
    write_quality_metrics(one)
    execute(
        one,
        "UPDATE quality_metrics SET metric = 'flags', value = 350, lower = 300, upper = 400 WHERE value IS NOT NULL",
    )
    svg = report.render_chart(ReportData.load(one, SMALL, *SPAN), "quality", "svg").decode()
    assert ">400<" in svg
    assert not re.search(r">[\d.]+e[+-]?\d+<", svg)


def test_parts_of_pages_share_what_was_counted_until_something_changes(one: Store) -> None:
    now = [NOW]
    session = Session(one, SMALL, "test", lambda: now[0])
    newest = reports.NewestReport()
    drawn = newest.chart(session, "scores", "light", "wide")
    outcome = newest.section(session, "outcome").decode()
    assert f"{as_datetime(NOW):%Y-%m-%d %H:%M} UTC" in outcome
    counted = newest._counted
    now[0] += reports.COUNTS_AGE_MAX - 1
    assert newest.section(session, "outcome").decode() == outcome  # and says as of when
    assert newest.chart(session, "scores", "light", "wide") is drawn
    assert newest._counted is counted
    undone = query(one, "SELECT MAX(label_id) FROM labels")[0][0]
    execute(one, f"UPDATE labels SET label_id = label_id + 1 WHERE label_id = {undone}")
    assert newest.section(session, "outcome").decode() != outcome
    assert newest._counted is not counted
    counted = newest._counted
    now[0] += reports.COUNTS_AGE_MAX
    newest.section(session, "scores")
    assert newest._counted is not counted


def test_a_section_draws_no_chart(one: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr(charts, "to_spec", refused)
    monkeypatch.setattr(charts, "inline_data", refused)
    write_comparison(one)
    session = Session(one, SMALL, "test", lambda: NOW)
    for name in {section for section, _ in report.CHARTS.values()}:
        assert b"/charts/" in reports.NewestReport().section(session, name)


def test_a_report_without_a_span_is_about_the_newest_windows(one: Store) -> None:
    session = Session(one, SMALL, "ann", lambda: NOW)
    first, same = (
        reports.render_summary(session, request)
        for request in (
            reports.ReportRequest(),
            reports.ReportRequest(as_datetime(TO - 56 * DAY), as_datetime(TO), as_datetime(NOW)),
        )
    )
    assert first == same
    with pytest.raises(NotReady, match="no window of policy other has been scored yet") as refused:
        reports.render_summary(session, reports.ReportRequest(policy="other"))
    assert refused.value.code == "nothing_scored"
    with pytest.raises(InputError, match="the span is empty"):
        reports.render_page(session, reports.ReportRequest(as_datetime(TO), as_datetime(TO)))


def asked(folder: Path, store_url: str, *arguments: str) -> tuple[int, str]:
    config = folder / "config.toml"
    config.write_text(CONFIG.format(url=store_url))
    done = CliRunner().invoke(cli, ["--config", str(config), "report", *arguments])
    return done.exit_code, done.output


CONFIG = """
[storage]
url = "{url}"
[schema]
entities = ["customer_id", "terminal_id"]
categorical = []
kind = ""
original_id = ""
[labels]
maturity = "5d"
"""


def test_the_command_writes_pages_and_pictures(one: Store, tmp_path: Path, sqlite_url: str) -> None:
    out = tmp_path / "report.html"
    code, told = asked(tmp_path, sqlite_url, "-o", str(out))
    assert (code, f"written to {out}\n") == (0, told)
    assert "2024-12-15 00:00 to 2025-02-09 23:00 UTC" not in out.read_text()
    assert "2025-02-10 00:00, policy live" in out.read_text()  # the newest window's end is where it ends
    code, told = asked(
        tmp_path, sqlite_url, "--format", "png", "--chart", "cost", "-o", str(tmp_path / "c.png")
    )
    assert code == 0, told
    code, told = asked(tmp_path, sqlite_url, "--list")
    assert all(name in told for name in report.CHARTS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing option -o/--output, for example -o report.html"),
        (["--format", "png", "-o", "x.png"], "--chart needs --format"),
        (["--chart", "cost", "-o", "x.png"], "--chart needs --format"),
        (["--show", "amount", "-o", "x.html"], "--show needs --chart"),
        (["-o", "/no/such/folder/x.html"], "does not exist; create it first"),
        (
            ["--from", "2025-02-01", "--to", "2025-02-01", "-o", "x.html"],
            "the span is empty: its start must be before its end",
        ),
        (["--policy", "other", "-o", "x.html"], "no window of policy other"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(
    tmp_path: Path, sqlite_url: str, arguments: list[str], says: str
) -> None:
    opened(SMALL, sqlite_url).close()
    code, _ = asked(tmp_path, sqlite_url, *arguments)
    assert code != 0
    done = CliRunner().invoke(cli, ["--config", str(tmp_path / "config.toml"), "report", *arguments])
    assert says in done.output + str(done.exception)
