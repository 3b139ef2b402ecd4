"""What a report counts and says, on both engines, and that it says what is missing instead of failing."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from detectors.evaluation.metrics import average_precision
from pipeline.cli import report as cli_report  # noqa: F401  (joins its command to the group)
from pipeline.cli.main import cli
from pipeline.config.database import open_configured
from pipeline.errors import InputError, NotReady
from pipeline.rendering import charts
from pipeline.rendering.elements import ReportSection
from pipeline.rendering.report_data import ReportData, total
from pipeline.reporting import report
from pipeline.reporting.sections import curves, scores
from storage.database.database import Store
from storage.frames import DAY
from storage.queries import listings
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


def test_the_same_rows_give_the_same_page_and_it_names_no_address(store: Store) -> None:
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


def test_counts_and_money_are_those_of_the_summary(store: Store) -> None:
    outcome = listings.outcome(store, "live", FROM, TO)
    rows = ReportData.load(store, SMALL, *SPAN).daily
    assert total(rows, "n") == outcome["scored"]
    assert total(rows, "n", flagged=True) == outcome["flagged"]
    assert total(rows, "n", flagged=True, is_fraud=True) == outcome["caught"] > 0
    assert total(rows, "n", flagged=False, is_fraud=True) == outcome["missed"]
    for flagged, name in ((True, "caught_money"), (False, "missed_money")):
        assert total(rows, "loss", flagged=flagged, is_fraud=True) == pytest.approx(float(outcome[name]))


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
    (["DELETE FROM labels"], "curves", "known to be fraud"),  # one class: all genuine by silence
    (["UPDATE labels SET is_fraud = FALSE"], "curves", "known to be fraud"),  # one class, by labels
    (["DELETE FROM labels"], "scores", "Calibration needs"),
    (["UPDATE scores SET fraud_probability = NULL"], "scores", "Calibration needs"),  # outlier detection alone
    (["DELETE FROM flags", "UPDATE scores SET flagged = FALSE"], "queue", "Nothing was flagged"),
    (["DELETE FROM flags", "DELETE FROM labels"], "entities", "No payment of the span is flagged"),
    (["UPDATE flags SET reviewer = NULL"], "queue", "No flag has a verdict"),
    (["DELETE FROM ledger"], "ledger", "Nothing was due"),
    (["DELETE FROM quality_metrics"], "quality", "No quality"),
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
        report.render_chart(store, SMALL, *SPAN, name="cost", image_format="png")


def test_every_chart_makes_a_picture(one: Store) -> None:
    write_quality_metrics(one)
    for name in report.CHARTS:
        png, svg = (
            report.render_chart(one, SMALL, *SPAN, name=name, image_format=form) for form in ("png", "svg")
        )
        assert png.startswith(b"\x89PNG"), name
        assert len(png) > 5_000, name
        assert svg.startswith(b"<svg"), name
        assert b"var(" not in svg, name
        assert {found for found in ADDRESS.findall(svg.decode()) if found not in XML_NAMES} == set(), name


def test_quality_tells_alarms_and_what_cannot_be_told(one: Store) -> None:
    write_quality_metrics(one)
    quality = section(one, "quality")
    assert quality.sentences[0].startswith("Alarm: precision")
    assert quality.missing == ["recall of 2025-01-27, realised: no fraud is known"]
    chart = quality.charts[0]
    assert chart.options == ["precision"]
    assert "estimated before: 0.45 (0.3 to 0.6)" in json.dumps(chart.spec)


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
    options = next(c for c in report.SECTIONS["drift"](data).charts if c.name == "drift-detail").options
    first, other = (
        report.render_chart(one, SMALL, *SPAN, name="drift-detail", image_format="svg", option=option)
        for option in options[:2]
    )
    assert options[1].encode() in other
    assert first != other
    for name, show, says in (
        ("drift-detail", "nothing", "choose one of"),
        ("cost", "x", "it has no options"),
        ("pie", "", "there is no chart 'pie'"),
    ):
        with pytest.raises(InputError, match=says):
            report.render_chart(one, SMALL, *SPAN, name=name, image_format="svg", option=show)


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
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(InputError, match=r"pip install 'fraudwatch\[reports\]'"):
        charts.require_chart_libraries()


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
    assert "2025-02-10 00:00 UTC" in out.read_text()  # the newest window's end is where it ends
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
        (["--from", "2025-02-01", "--to", "2025-02-01", "-o", "x.html"], "--from must be before --to"),
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
