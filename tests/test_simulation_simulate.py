from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.simulation.fraud_patterns import PATTERNS
from pipeline.simulation.simulate import START, SimulationResult, simulate

SCHEMA = Config().schema_
MATURITY = timedelta(days=30)


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    """90 days as `make demo` has them, and the truth."""
    return simulate(90, 7, tmp_path_factory.mktemp("quarter"), truth=True)


@pytest.fixture(scope="module")
def rows(quarter: SimulationResult) -> pd.DataFrame:
    truth = pd.read_parquet(quarter.paths["truth"])
    return pd.read_parquet(quarter.paths["transactions"]).merge(truth, on="transaction_id", validate="1:1")


@pytest.fixture(scope="module")
def labels(quarter: SimulationResult) -> pd.DataFrame:
    return pd.read_parquet(quarter.paths["labels"])


def small(output: Path, seed: int = 1, **options: Any) -> SimulationResult:
    return simulate(12, seed, output, per_day=200, customers=150, **options)


def contents(made: SimulationResult) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in made.paths.items()}


def mature_frauds(rows: pd.DataFrame, labels: pd.DataFrame, day: int) -> pd.DataFrame:
    """Frauds a training on this day would count: labelled by then, and old enough."""
    at = pd.Timestamp(START, tz="UTC") + pd.Timedelta(days=day)
    known = labels[labels.known_at <= at].groupby("transaction_id").is_fraud.last()
    return rows[rows.transaction_id.isin(known.index[known == 1]) & (rows.event_time <= at - MATURITY)]


def effective(frauds: pd.DataFrame) -> float:
    """Frauds, those on one entity counting once: each weighs one over its largest cluster."""
    sizes = [frauds.groupby(name)[name].transform("size").fillna(1) for name in SCHEMA.entities]
    return float((1.0 / np.max(sizes, axis=0)).sum()) if len(frauds) else 0.0


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, form: Any) -> None:
    first, again = small(tmp_path / "a", format=form), small(tmp_path / "b", format=form)
    assert contents(first) == contents(again)
    assert first.counts == again.counts
    assert contents(small(tmp_path / "c", seed=2, format=form)) != contents(first)


def test_columns_are_those_of_the_shipped_schema(rows: pd.DataFrame, labels: pd.DataFrame) -> None:
    own = {SCHEMA.transaction_id, SCHEMA.event_time, SCHEMA.amount, SCHEMA.kind, SCHEMA.original_id}
    fields = {*SCHEMA.entities, *SCHEMA.numeric, *SCHEMA.categorical}
    assert set(rows.columns) - {"is_fraud", "pattern"} == own | fields
    wanted = Config().labels
    assert list(labels.columns) == [wanted.transaction_id, wanted.is_fraud, wanted.known_at, wanted.source]
    assert set(labels.source) <= set(wanted.precedence)
    assert set(rows.kind) == {"payment", "refund"}
    assert set(rows.status) == {"approved", "declined"}


def test_ids_are_unique_text_in_order_of_time(rows: pd.DataFrame) -> None:
    assert rows.transaction_id.is_unique
    assert all(isinstance(name, str) for name in rows.transaction_id)
    assert rows.transaction_id.is_monotonic_increasing
    assert rows.event_time.is_monotonic_increasing


def test_times_lie_within_the_days_and_carry_their_offset(rows: pd.DataFrame) -> None:
    assert str(rows.event_time.dt.tz) == "UTC"
    assert rows.event_time.min() >= pd.Timestamp(START, tz="UTC")
    assert rows.event_time.max() < pd.Timestamp(START, tz="UTC") + pd.Timedelta(days=90)
    assert rows.event_time.value_counts().max() < 10  # nothing is heaped up at an edge


def test_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    text, binary = small(tmp_path / "a", format="csv"), small(tmp_path / "b")
    for name in ("transactions", "labels"):
        expected = pq.read_table(binary.paths[name])
        read = pyarrow.csv.read_csv(
            text.paths[name],
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=expected.schema, strings_can_be_null=True, quoted_strings_can_be_null=True
            ),
        )
        assert read.equals(expected)


def test_times_in_csv_are_iso_with_an_offset(tmp_path: Path) -> None:
    line = (
        small(tmp_path, format="csv", start=date(2024, 2, 28))
        .paths["transactions"]
        .read_text()
        .splitlines()[1]
    )
    written = line.split(",")[1].strip('"')
    assert written.endswith("+00:00")
    assert datetime.fromisoformat(written).astimezone(UTC).date() == date(2024, 2, 28)


def test_the_volume_and_the_share_of_fraud_are_as_asked(tmp_path: Path, quarter: SimulationResult) -> None:
    assert quarter.counts["payments"] == pytest.approx(270_000, rel=0.01)
    assert quarter.counts["frauds"] == pytest.approx(270_000 * 0.004, rel=0.1)
    often = simulate(30, 1, tmp_path / "often", per_day=1000, fraud_rate=0.02)
    assert often.counts["frauds"] == pytest.approx(600, rel=0.15)
    none = simulate(30, 1, tmp_path / "none", per_day=100, fraud_rate=0.0)
    assert none.counts["frauds"] == 0


def test_every_pattern_occurs_from_the_first_weeks_on(rows: pd.DataFrame) -> None:
    first_month = rows[rows.event_time < pd.Timestamp(START, tz="UTC") + MATURITY]
    assert set(rows.pattern) == {"", *PATTERNS}
    assert (rows.pattern.ne("") == rows.is_fraud.eq(1)).all()
    assert {"stolen_card", "takeover"} <= set(first_month.pattern)


def test_patterns_look_as_described(rows: pd.DataFrame) -> None:
    paid = rows[rows.kind == "payment"]
    median = paid.groupby("pattern").amount.median()
    assert median["stolen_card"] > 3 * median[""]
    assert median["card_testing"] < 5
    declined = paid.status.eq("declined").groupby(paid.pattern).mean()
    assert declined["card_testing"] > 0.5
    assert declined[""] < 0.05
    compromised = paid[paid.pattern == "compromised_merchant"]
    assert compromised.groupby("merchant_id").size().median() >= 10


def test_refunds_give_back_an_earlier_approved_payment(rows: pd.DataFrame) -> None:
    refunds = rows[rows.kind == "refund"].merge(
        rows, left_on="original_id", right_on="transaction_id", suffixes=("", "_paid"), validate="1:1"
    )
    assert len(refunds) == (rows.kind == "refund").sum() > 1000
    assert (refunds.event_time > refunds.event_time_paid).all()
    assert (refunds.amount <= refunds.amount_paid).all()
    assert (refunds.amount > 0).all()
    assert refunds.card_id.equals(refunds.card_id_paid)
    assert refunds.status_paid.eq("approved").all()
    assert rows[rows.kind == "payment"].original_id.isna().all()


def test_labels_are_what_an_export_at_the_end_would_hold(rows: pd.DataFrame, labels: pd.DataFrame) -> None:
    joined = labels.merge(rows, on="transaction_id", suffixes=("", "_true"), validate="m:1")
    assert len(joined) == len(labels)
    assert (joined.known_at > joined.event_time).all()
    assert joined.known_at.max() < pd.Timestamp(START, tz="UTC") + pd.Timedelta(days=90)
    assert labels.known_at.is_monotonic_increasing
    assert joined.status.eq("approved").all()  # what did not go through is not charged back
    assert joined.kind.eq("payment").all()


def test_delays_have_a_median_of_about_nine_days_and_few_pass_maturity(tmp_path: Path) -> None:
    made = simulate(200, 5, tmp_path, per_day=1000, truth=True)
    rows, labels = pd.read_parquet(made.paths["transactions"]), pd.read_parquet(made.paths["labels"])
    early = rows[rows.event_time < pd.Timestamp(START, tz="UTC") + pd.Timedelta(days=150)]
    told = labels[labels.is_fraud == 1].merge(early, on="transaction_id")
    days = (told.known_at - told.event_time).dt.total_seconds() / 86400
    assert 8 < days.median() < 10.5
    assert 0.005 < (days > 30).mean() < 0.06
    assert days.max() <= 45.01


def test_most_settled_frauds_are_reported_and_a_few_reports_are_taken_back(
    rows: pd.DataFrame, labels: pd.DataFrame
) -> None:
    old = rows[rows.event_time < pd.Timestamp(START, tz="UTC") + pd.Timedelta(days=45)]
    settled = old[(old.is_fraud == 1) & (old.status == "approved")]
    assert 0.88 < settled.transaction_id.isin(labels.transaction_id).mean() < 1.0
    newest = labels.groupby("transaction_id").is_fraud.last()
    taken_back = newest.index[newest == 0]
    assert len(taken_back) >= 3
    assert rows[rows.transaction_id.isin(taken_back)].is_fraud.eq(0).all()


def test_known_frauds_grow_from_a_handful_to_a_hundred(rows: pd.DataFrame, labels: pd.DataFrame) -> None:
    """So that the demo's trainings go from outlier detection through the blend to classification."""
    assert effective(mature_frauds(rows, labels, 35)) < 10
    assert 10 < effective(mature_frauds(rows, labels, 42)) < 30
    assert effective(mature_frauds(rows, labels, 75)) < 100 < effective(mature_frauds(rows, labels, 89))


def test_amounts_unlike_the_customers_own_find_a_part_of_the_fraud_and_not_all(rows: pd.DataFrame) -> None:
    paid = rows[rows.kind == "payment"].copy()
    paid["log"] = np.log1p(paid.amount)
    before = paid.groupby("customer_id")["log"]
    past = (before.cumsum() - paid["log"]) / before.cumcount().astype(float).replace(0.0, np.nan)
    paid["above"] = (paid["log"] - past).fillna(0.0)
    flagged = paid.nlargest(90 * 50, "above")
    assert 0.1 < flagged.is_fraud.sum() / paid.is_fraud.sum() < 0.6


def test_drift_changes_amounts_and_channels_in_the_last_third(tmp_path: Path) -> None:
    def late_to_early(drift: bool) -> tuple[float, float]:
        made = simulate(60, 1, tmp_path / str(drift), per_day=1000, drift=drift)
        rows = pd.read_parquet(made.paths["transactions"])
        late = rows.event_time >= pd.Timestamp(START, tz="UTC") + pd.Timedelta(days=40)
        amount, web = rows.amount.groupby(late).median(), rows.channel.eq("web").groupby(late).mean()
        return amount[True] / amount[False], web[True] / web[False]

    assert late_to_early(drift=False) == pytest.approx((1.0, 1.0), abs=0.06)
    amount, web = late_to_early(drift=True)
    assert amount == pytest.approx(1.35, abs=0.08)
    assert web < 0.6


def test_truth_is_written_on_request_only(tmp_path: Path) -> None:
    assert set(small(tmp_path / "a").paths) == {"transactions", "labels"}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "labels.parquet",
        "transactions.parquet",
    ]
    assert set(small(tmp_path / "b", truth=True).paths) == {"transactions", "labels", "truth"}
    assert contents(small(tmp_path / "a"))["labels"] == contents(small(tmp_path / "b"))["labels"]


@pytest.mark.parametrize("days", [1, 2, 5])
def test_a_few_days_of_a_few_payments_work(tmp_path: Path, days: int) -> None:
    assert simulate(days, 1, tmp_path, per_day=10, customers=50).counts["transactions"] > 0


def test_the_sentence_counts_and_names_the_files(tmp_path: Path) -> None:
    made = small(tmp_path)
    assert f"{made.counts['transactions']:,} transactions" in made.sentence()
    assert str(made.paths["labels"]) in made.sentence()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"days": 0}, "days must be 1 to 3660, got 0"),
        ({"fraud_rate": 0.5}, "fraud rate must be 0 to 0.2, got 0.5"),
        ({"fraud_rate": float("nan")}, "fraud rate must be 0 to 0.2, got nan"),
        ({"per_day": 1}, "per_day must be 10 to 1000000, got 1"),
        ({"customers": 2}, "customers must be 50 to 1000000, got 2"),
        ({"format": "xml"}, 'format must be parquet or csv, got "xml"'),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        simulate(**{"days": 3, "seed": 1, "output": tmp_path / "x", **options})
    assert not (tmp_path / "x").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(InputError, match="cannot create the directory"):
        small(tmp_path / "taken")
