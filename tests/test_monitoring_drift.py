"""Drift of windows, from payments to stored rows: what is told, what is pooled, and that every way of running agrees."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from detectors.drift.metrics import SCALES
from detectors.drift.reference import DriftReference
from detectors.model.artifact import seal
from detectors.model.model import Model
from pipeline.config.config import Config
from pipeline.features.holidays import is_holiday
from pipeline.features.seasons import season_of
from pipeline.monitoring import drift_text
from pipeline.rendering.report_data import ReportData
from pipeline.reporting.sections import drift
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run, train_once
from pipeline.scoring.model_cache import load_model, seal_of
from pipeline.services.monitoring.drift import newest_drift
from pipeline.services.session import Session
from storage.database.database import Store
from storage.frames import DAY, HOUR, SECOND
from storage.monitoring import drift_metrics
from storage.queries.monitoring import DriftFilter, drift_page
from storage.runs import scoring_queue
from tests.support.databases import Copier, Opener, World
from tests.support.payments import PAYMENT_HEADER, START, payments, write_csv
from tests.support.sql import RUN_TABLES, execute, forget, query
from tests.support.worlds import SMALL, load, load_both

FROM, TO = START + 19 * DAY, START + 30 * DAY
NOW = TO + 60 * DAY
METRICS = (
    "SELECT window_start, feature, metric, value, threshold, alarm, n_reference, n_current, effect, lower, upper, "
    "p_value, pooled, suppressed_because FROM drift_metrics ORDER BY 1, 2, 3"
)


def configured(**sections: dict[str, object]) -> Config:
    return Config.model_validate(SMALL.model_dump(mode="json", by_alias=True, exclude={"storage"}) | sections)


def fill(store: Store, config: Config, folder: Path, days: int = 30, change=None, per_day: int = 60) -> Store:  # type: ignore[no-untyped-def]
    rows, labels = payments(days, per_day=per_day)
    rows = rows if change is None else [row for row in (change(row.split(",")) for row in rows) if row]
    load_both(store, config, folder, rows, labels, now=TO)
    return store


def backfilled(store: Store, config: Config, start: int = FROM, end: int = TO) -> Store:
    backfill(store, config, start=start, end=end, as_of=NOW, policy="live", by="test")
    return store


def measure(store: Store, folder: Path) -> None:
    backfilled(fill(store, SMALL, folder), SMALL)


MEASURED = World("drift_measured", SMALL, measure)


def in_day(row: list[str], day: int) -> bool:
    return int((np.datetime64(row[1][:10]) - np.datetime64("2025-01-01")).astype(int)) >= day


def test_the_calendar_does_not_lead_what_changed_in_a_day_unless_it_alarms(copier: Copier) -> None:
    store = copier(MEASURED)
    execute(store, "UPDATE drift_metrics SET alarm = FALSE")
    execute(
        store, "UPDATE drift_metrics SET effect = 0.9 WHERE feature IN ('hour_sin', 'weekday_cos', 'night')"
    )

    def leading(config: Config) -> tuple[str, str, str]:
        session = Session(store, config, "test", lambda: NOW)
        data = ReportData.load(store, config, "live", FROM, TO, NOW)
        (first, *_), alt = newest_drift(session, "live"), drift.heat(data).alt
        return (
            first.feature,
            data.top_drift_features[0]["feature"],
            alt.partition("The largest: ")[2].split()[2],
        )

    calendar = {"hour_sin:", "hour_sin", "night", "night:", "weekday_cos", "weekday_cos:"}
    assert not calendar & set(leading(SMALL))
    assert (
        set(leading(configured(schedule={"window": "7d"}))) <= calendar
    )  # a week has every hour and weekday
    execute(store, "UPDATE drift_metrics SET alarm = TRUE WHERE feature = 'hour_sin' AND metric = 'psi'")
    assert {name.strip(":") for name in leading(SMALL)} == {"hour_sin"}


@pytest.mark.one_engine
def test_every_way_of_running_measures_the_same_drift(copier: Copier) -> None:
    store = copier(MEASURED)
    whole = query(store, METRICS)
    assert {row[12] for row in whole} <= {1, 3, 4, 5}  # sixty payments a day: four days make 200
    forget(store, *RUN_TABLES, "backfilled_spans", "drift_metrics", "drift_histograms")
    scoring_queue.set_starts_at(store, "live", FROM)
    for day in (1, 2, 5):
        run(store, SMALL, as_of=FROM + day * DAY + 2 * HOUR, policy="live", by="test")
    backfilled(store, SMALL, FROM + 8 * DAY)  # without the windows before it, which it counts again
    backfilled(store, SMALL, FROM + 5 * DAY, FROM + 8 * DAY)
    assert query(store, METRICS) == whole


def test_a_window_tells_of_columns_scores_flags_reasons_volume_labels_and_of_all_together(
    sqlite_copier: Copier,
) -> None:
    store = sqlite_copier(MEASURED)
    rows = drift_page(store, "live", DriftFilter(), 5_000).rows
    newest = [row for row in rows if row["window_end"] == rows[0]["window_end"]]
    told = {(row["feature"], row["metric"]) for row in newest}
    assert told >= {
        ("amount", "psi"), ("amount", "wasserstein"), ("score", "psi"), ("score", "wasserstein"),
        ("reasons", "psi"), ("volume", "payments"), ("volume:customer_id", "per_entity"),
        ("labels", "fraud_rate"), ("labels", "median_delay"), ("labels", "complete_lag"), ("all features", "auc"),
    }  # fmt: skip
    assert any(feature.startswith("flags:") for feature, _ in told)
    assert not {metric for _, metric in told} & {
        "jensen_shannon",
        "ks",
        "cramers_v",
    }  # unless they are chosen
    may_alarm = [row["suppressed_because"] is None for row in newest if not row["alarm"]]
    assert 0 < sum(may_alarm) < len(may_alarm)
    assert may_alarm == sorted(may_alarm, reverse=True)  # what is only measured comes last
    by_name = {(row["feature"], row["metric"]): row for row in newest}
    rate = by_name["labels", "fraud_rate"]
    assert rate["lower"] < rate["value"] < rate["upper"]
    assert "weekday" not in by_name["all features", "auc"]["detail"]["used"]
    assert all(row["value"] is not None or row["suppressed_because"] for row in newest)
    muted = [row for row in newest if row["feature"].startswith("weekday") or "fraud_rate_" in row["feature"]]
    assert muted
    assert not any(row["alarm"] for row in muted)


def blank(row: list[str]) -> str:
    """From the twenty-fifth day on no terminal is named."""
    return ",".join([*row[:3], "" if in_day(row, 24) else row[3], row[4]])


def thinned(row: list[str]) -> str:
    """From the twenty-fifth day on a fifth of the payments arrive."""
    return "" if in_day(row, 24) and int(row[0][1:]) % 5 else ",".join(row)


def dearer(row: list[str]) -> str:
    """From the twenty-fifth day on amounts are three times as high."""
    return ",".join([*row[:4], f"{float(row[4]) * (3 if in_day(row, 24) else 1):.2f}"])


@pytest.mark.parametrize(
    ("change", "feature", "metric", "remedy"),
    [
        (blank, "terminal_id_amount_mean_7d", "missing", "a lost, renamed or reformatted value"),
        (thinned, "volume", "payments", "files and polls arrive"),
        (dearer, "amount", "psi", "find out what changed"),
    ],
)
def test_what_changed_is_named_with_its_size_and_a_remedy(
    change, feature: str, metric: str, remedy: str, tmp_path: Path, sqlite_opener: Opener
) -> None:
    config = configured(drift={"min_rows": 50})
    store = backfilled(fill(sqlite_opener(config), config, tmp_path, change=change), config)
    alarms = drift_page(store, "live", DriftFilter(alarms=True)).rows
    found = [row for row in alarms if row["feature"] == feature and row["metric"] == metric]
    assert found
    assert all(row["window_start"] >= datetime(2025, 1, 25, tzinfo=UTC) for row in found)
    assert all(row["effect"] >= config.drift.min_effect for row in found)
    assert drift_text.remedy(found[0]).count(remedy) == 1
    of_window = [
        row
        for row in drift_page(store, "live", DriftFilter()).rows
        if row["window_end"] == found[0]["window_end"]
    ]
    told = "\n".join(drift_text.sentences(of_window))
    assert re.search(r": (1 alarm|\d+ alarms) on (1 feature|\d+ features) among ", told.splitlines()[0])
    assert f"  {feature}: " in told
    (payments,) = (row["n_current"] for row in of_window if row["feature"] == "volume")
    assert f"measurements, {payments:,} row" in told.splitlines()[0]


def test_a_window_without_payments_is_told_and_alarms_by_its_volume(
    tmp_path: Path, sqlite_opener: Opener
) -> None:
    def silent(row: list[str]) -> str:
        return "" if in_day(row, 27) else ",".join(row)

    store = backfilled(fill(sqlite_opener(SMALL), SMALL, tmp_path, change=silent), SMALL)
    rows = [
        row
        for row in drift_page(store, "live", DriftFilter()).rows
        if row["window_start"] == datetime(2025, 1, 29, tzinfo=UTC)
    ]
    volume = next(row for row in rows if row["feature"] == "volume")
    assert (volume["value"], volume["alarm"]) == (0, True)
    assert all(row["value"] is not None or row["suppressed_because"] for row in rows)


def test_windows_before_the_first_model_are_told(tmp_path: Path, sqlite_opener: Opener) -> None:
    store = fill(sqlite_opener(SMALL), SMALL, tmp_path, days=3)
    backfilled(store, SMALL, START + DAY, START + 3 * DAY)
    told = query(store, "SELECT DISTINCT feature, metric, alarm, suppressed_because FROM drift_metrics")
    assert told == [("volume", "payments", 0, "no model was in force: there is nothing to compare with")]


def test_a_model_of_an_older_version_scores_and_says_what_it_lacks(
    tmp_path: Path, sqlite_opener: Opener
) -> None:
    store = fill(sqlite_opener(SMALL), SMALL, tmp_path)
    train_once(store, SMALL, date=FROM, as_of=NOW, policy="live", by="test")
    old = load_model(store, SMALL, 1)
    content = replace(old, drift_reference=DriftReference.empty()).to_bytes()
    without, blob = Model.from_bytes(content), seal(content, seal_of(SMALL, 1))
    assert without.drift_reference.is_empty is (len(content) <= len(old.to_bytes()))
    with store.write() as connection:
        from hashlib import sha256

        connection.execute(
            text("UPDATE models SET artifact = :a, sha256 = :s"), {"a": blob, "s": sha256(blob).hexdigest()}
        )
    scoring_queue.set_starts_at(store, "live", FROM)
    run(store, SMALL, as_of=FROM + 2 * DAY + HOUR, policy="live", by="test")
    whys = query(store, "SELECT DISTINCT suppressed_because FROM drift_metrics")
    assert whys == [
        ("its model was trained before drift references were stored: the next training stores one",)
    ]


def test_holidays_are_a_feature_and_are_not_compared_with_other_days(
    tmp_path: Path, sqlite_opener: Opener
) -> None:
    config = configured(calendar={"holidays": ["01-13", "2025-01-27"]}, drift={"min_rows": 50})
    store = backfilled(fill(sqlite_opener(config), config, tmp_path), config)
    names = query(store, "SELECT DISTINCT feature FROM drift_metrics WHERE feature = 'is_holiday'")
    assert names == [("is_holiday",)]
    rows = [
        row
        for row in drift_page(store, "live", DriftFilter()).rows
        if row["window_start"] == datetime(2025, 1, 27, tzinfo=UTC)
    ]
    of_amount = [row for row in rows if row["feature"] == "amount"]
    assert not any(row["alarm"] for row in of_amount)
    first = next(row for row in of_amount if row["metric"] == "psi")
    assert first["n_reference"] == pytest.approx(60, abs=25)  # the thirteenth of January alone


def test_a_chosen_span_is_the_reference(tmp_path: Path, sqlite_opener: Opener) -> None:
    config = configured(drift={"reference": "2025-01-08/2025-01-15", "min_rows": 50})
    store = backfilled(fill(sqlite_opener(config), config, tmp_path), config)
    sizes = query(store, "SELECT DISTINCT n_reference FROM drift_metrics WHERE feature = 'amount'")
    assert sizes == [(query(store, "SELECT COUNT(*) FROM transactions WHERE event_time >= '2025-01-08' AND event_time < '2025-01-15'")[0][0],)]  # fmt: skip


def test_other_metrics_are_measured_and_may_alarm_if_they_are_chosen(
    tmp_path: Path, sqlite_opener: Opener
) -> None:
    chosen = ["ks", "cramers_v", "jensen_shannon"]
    config = configured(drift={"metrics": chosen, "min_rows": 50})
    store = backfilled(fill(sqlite_opener(config), config, tmp_path, change=dearer), config)
    of_amount = query(store, "SELECT DISTINCT metric FROM drift_metrics WHERE feature = 'amount' ORDER BY 1")
    assert of_amount == [("jensen_shannon",), ("ks",)]
    of_reasons = query(
        store, "SELECT DISTINCT metric FROM drift_metrics WHERE feature = 'reasons' ORDER BY 1"
    )
    assert of_reasons == [("cramers_v",), ("jensen_shannon",)]
    alarms = query(
        store, "SELECT DISTINCT metric FROM drift_metrics WHERE feature = 'amount' AND alarm ORDER BY 1"
    )
    assert ("ks",) in alarms
    measured = query(store, "SELECT p_value FROM drift_metrics WHERE metric = 'ks' AND value IS NOT NULL")
    assert measured
    assert all(0 <= float(str(p_value)) <= 1 for (p_value,) in measured)


@pytest.mark.parametrize(
    ("metric", "value", "threshold", "alarm", "text"),
    [
        ("payments", 2_960.0, 2_576.0, False, "2,960 payments (alarm under 2,576)"),
        ("payments", 2_960.0, 3_300.0, False, "2,960 payments (alarm over 3,300)"),
        ("payments", 2_000.0, 2_576.0, True, "2,000 payments (alarm under 2,576)"),
        ("payments", 4_000.0, 3_300.0, True, "4,000 payments (alarm over 3,300)"),
        ("psi", 0.3, 0.2, False, "population stability index 0.300 (alarm over 0.200)"),  # too small a change
        ("psi", 0.3, None, False, "population stability index 0.300"),
    ],
)
def test_a_text_says_on_which_side_an_alarm_is(
    metric: str, value: float, threshold: float | None, alarm: bool, text: str
) -> None:
    row = {"metric": metric, "value": value, "threshold": threshold, "alarm": alarm}
    assert drift_text.change_text(row) == text


def test_every_drift_metric_has_a_text() -> None:
    assert set(drift_text.METRIC_TEXTS) == set(SCALES)


def test_the_calendar_knows_zones_and_years() -> None:
    hour = (
        np.arange(0, 72) * HOUR
        + int(np.datetime64("2025-12-24T00:00").astype("datetime64[s]").astype(int)) * SECOND
    )
    paris = is_holiday(hour, ["12-25"], "Europe/Paris")
    assert np.flatnonzero(paris).tolist() == list(range(23, 47))
    assert is_holiday(hour, ["2024-12-25"], "UTC").sum() == 0
    assert is_holiday(hour, [], "UTC").sum() == 0
    daily, hourly = configured(), configured(schedule={"window": "1h"})
    assert season_of(START, daily) == "w2"  # a Wednesday
    assert season_of(START + 9 * HOUR, hourly) == "w2h09"
    assert season_of(START, configured(schedule={"window": "7d"})) == ""


def test_payments_that_came_late_do_not_count_in_their_window(tmp_path: Path, sqlite_copier: Copier) -> None:
    store = sqlite_copier(MEASURED)
    before, measured = drift_metrics.on_time_ids(store, FROM, FROM + DAY, HOUR), query(store, METRICS)
    late = write_csv(tmp_path / "late.csv", PAYMENT_HEADER, ["late1,2025-01-20T10:00:00Z,c1,m1,9.00"])
    load(store, SMALL, "transactions", late, now=TO + DAY)
    assert drift_metrics.on_time_ids(store, FROM, FROM + DAY, HOUR) == before
    assert "late1" not in before
    execute(store, "UPDATE ledger SET status = 'pending' WHERE kind = 'drift'")
    backfill(store, SMALL, start=FROM, end=TO, as_of=NOW + DAY, policy="live", by="test")
    assert query(store, METRICS) == measured  # nor in the share of fraud a maturity later


def test_the_command_tells_the_newest_window_in_words(
    tmp_path: Path, sqlite_opener: Opener, sqlite_url: str
) -> None:
    from pipeline.cli.main import cli

    config = configured(drift={"min_rows": 50})
    backfilled(
        fill(sqlite_opener(config), config, tmp_path, change=dearer), config, end=START + 26 * DAY
    ).close()
    lines = config.public_text().splitlines()
    toml = "\n".join(f'[storage]\nurl = "{sqlite_url}"' if line == "[storage]" else line for line in lines)
    path = tmp_path / "config.toml"
    path.write_text(toml)
    shown = CliRunner().invoke(cli, ["--config", str(path), "drift", "--limit", "3"], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    head, *rest = shown.stdout.splitlines()
    assert head.startswith("2025-01-26 00:00 to 2025-01-27 00:00 UTC: ")
    assert any(line.startswith("  amount: ") for line in rest)
    quiet = CliRunner().invoke(
        cli,
        [
            "--config",
            str(path),
            "drift",
            "--alarms",
            "--since",
            "2025-01-20",
            "--feature",
            "amount",
            "--format",
            "json",
        ],
    )
    assert '"alarm": true' in quiet.stdout
    assert '"alarm": false' not in quiet.stdout
