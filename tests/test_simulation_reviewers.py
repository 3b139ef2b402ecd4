"""The simulated world with reviewers: what it holds, and that verdicts change what happens afterwards and nothing before."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import START, reviewed
from pipeline.config.config import Config
from pipeline.simulation import reviewers
from pipeline.simulation.outcomes import DELAYS, METHODS
from pipeline.simulation.reviewed import ReviewedWorld
from pipeline.simulation.reviewers import FlagAnswers, earlier_team
from pipeline.simulation.simulate import SimulationResult, simulate
from storage.frames import DAY, FOREVER

DAYS = 90
END = START + DAYS * DAY
NOBODY = FlagAnswers(*(np.zeros(0, dtype=kind) for kind in (np.int64, np.int64, bool)))


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    return simulate(DAYS, 7, tmp_path_factory.mktemp("reviewed"), per_day=1000, truth=True, reviewers=True)


@pytest.fixture(scope="module")
def frames(quarter: SimulationResult) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(path) for name, path in quarter.paths.items()}


@pytest.fixture(scope="module")
def labels(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Labels with their payments and the truth."""
    truth = frames["truth"].rename(columns={"is_fraud": "fraud"})
    paid = frames["transactions"].merge(truth, on="transaction_id")
    return frames["labels"].merge(paid.drop(columns="amount"), on="transaction_id", validate="m:1")


@pytest.fixture(scope="module")
def world() -> ReviewedWorld:
    return reviewed(3)


@pytest.fixture(scope="module")
def verdicts(world: ReviewedWorld) -> FlagAnswers:
    return earlier_team(world.payments, world.answers, START, DAYS, share=0.02)


def test_the_same_seed_gives_the_same_bytes_in_both_formats(tmp_path: Path) -> None:
    def contents(seed: int, folder: str, form: Any) -> dict[str, bytes]:
        small = simulate(12, seed, tmp_path / folder, format=form, per_day=200, customers=150, reviewers=True)
        return {name: path.read_bytes() for name, path in small.paths.items()}

    assert set(contents(1, "a", "parquet")) == {"transactions", "updates", "labels"}
    for form in ("parquet", "csv"):
        assert contents(1, "b", form) == contents(1, "c", form) != contents(2, "d", form)


def test_columns_are_those_of_the_shipped_config_and_the_way_of_paying(
    frames: dict[str, pd.DataFrame],
) -> None:
    schema, wanted = Config().schema_, Config().labels
    own = {schema.transaction_id, schema.event_time, schema.amount, schema.kind, schema.original_id}
    columns = own | {*schema.entities, *schema.numeric, *schema.categorical} | {"method"}
    assert set(frames["transactions"]) == set(frames["updates"]) == columns
    assert list(frames["labels"]) == [
        wanted.transaction_id, wanted.is_fraud, wanted.known_at, wanted.source, wanted.reason, wanted.stage, wanted.amount,
    ]  # fmt: skip
    assert set(frames["labels"].source) == {"review", "chargeback", "customer"} <= set(wanted.precedence)
    assert frames["transactions"].transaction_id.is_unique
    assert frames["labels"].transaction_id.isin(frames["truth"].transaction_id).all()


def test_pending_payments_are_settled_by_a_later_version(frames: dict[str, pd.DataFrame]) -> None:
    first = frames["transactions"].set_index("transaction_id")
    later = frames["updates"].set_index("transaction_id")
    before = first.loc[later.index]
    assert before.status.eq("pending").all()
    assert set(later.status) == {"approved", "declined", "blocked"}
    assert later.drop(columns="status").equals(before.drop(columns="status"))
    waiting = first[first.status.eq("pending") & ~first.index.isin(later.index)]
    assert (waiting.event_time > first.event_time.max() - pd.Timedelta(days=6)).all()


def test_disputes_have_reasons_stages_and_delays_of_their_way_of_paying(labels: pd.DataFrame) -> None:
    disputes = labels[labels.stage.eq("dispute")]
    other = disputes[disputes.reason.isin(["13.1", "4855", "13.2", "4841"])]
    friendly = disputes[disputes.reason.isin(["10.4", "4837"]) & disputes.fraud.eq(0)]
    assert disputes.is_fraud.isna().all()  # the reason says it
    assert len(other) > 40
    assert other.fraud.eq(0).all()
    assert len(friendly) > 5
    ends = labels[labels.stage.isin(["won", "lost"])]
    assert ends.reason.isna().all()
    assert 0 < ends.stage.eq("won").mean() < 0.5
    days = (disputes.known_at - disputes.event_time).dt.total_seconds() / 86_400
    medians = days.groupby(disputes.method).median()
    assert medians["wallet"] < medians["card"] < medians["direct_debit"]
    for method, (_, _, longest) in zip(METHODS, DELAYS, strict=True):
        assert days[disputes.method.eq(method)].max() <= longest + 0.01
    calls = labels[labels.source.eq("customer")]
    assert calls.reason.isna().all()
    assert calls.is_fraud.eq(1).all()


def test_a_verdict_is_wrong_one_time_in_ten_and_stops_what_it_calls_fraud(
    frames: dict[str, pd.DataFrame], labels: pd.DataFrame
) -> None:
    said = labels[labels.source.eq("review")]
    assert 0.05 < (said.is_fraud != said.fraud).mean() < 0.15
    stopped = said[said.is_fraud.eq(1)].set_index("transaction_id").known_at
    disputed = labels[~labels.source.eq("review") & labels.transaction_id.isin(stopped.index)]
    opened = disputed[disputed.stage.isna() | disputed.stage.eq("dispute")]
    assert (opened.known_at < opened.transaction_id.map(stopped)).all()  # nothing begins after the stop
    refunds = frames["transactions"].set_index("original_id").event_time
    blocked = set(frames["updates"][frames["updates"].status.eq("blocked")].transaction_id)
    assert set(stopped.index) <= set(refunds.index) | blocked
    card = said[said.is_fraud.eq(1)].groupby("card_id").known_at.min()
    paid = frames["transactions"][frames["transactions"].kind.eq("payment")]
    assert not (paid.event_time >= paid.card_id.map(card)).any()  # the card has fallen silent


def test_cleared_fraud_is_charged_back_all_the_same(labels: pd.DataFrame) -> None:
    cleared = labels[labels.source.eq("review") & labels.is_fraud.eq(0) & labels.fraud.eq(1)]
    assert labels[labels.source.ne("review")].transaction_id.isin(cleared.transaction_id).any()


def test_the_rows_of_days_are_those_of_the_whole_span(world: ReviewedWorld, verdicts: FlagAnswers) -> None:
    """Whether a world is asked for once or day by day."""
    whole = world.rows(verdicts, START, END)
    days = [world.rows(verdicts, start, start + 9 * DAY) for start in range(START, END, 9 * DAY)]
    for name in ("transactions", "updates", "labels"):
        parts = [getattr(rows, name).to_pandas() for rows in days]
        keys = ["transaction_id"] if name != "labels" else ["known_at", "transaction_id", "source", "stage"]
        expected = getattr(whole, name).to_pandas().sort_values(keys, ignore_index=True)
        assert pd.concat(parts).sort_values(keys, ignore_index=True).equals(expected)


def test_a_later_verdict_changes_nothing_before_it(world: ReviewedWorld, verdicts: FlagAnswers) -> None:
    half = START + 45 * DAY
    early = FlagAnswers(*(column[verdicts.at < half] for column in vars(verdicts).values()))
    for name in ("transactions", "updates", "labels"):
        with_all, without_later = (
            getattr(world.rows(given, START, half), name) for given in (verdicts, early)
        )
        assert with_all.equals(without_later)
    later = [world.rows(given, half, END).transactions for given in (verdicts, early)]
    assert len(later[0]) < len(later[1])


def test_without_verdicts_everything_happens(world: ReviewedWorld, verdicts: FlagAnswers) -> None:
    assert reviewers.happening(world.payments, NOBODY).all()
    assert (reviewers.stopped_at(len(world), NOBODY) == FOREVER).all()
    stopped = reviewers.stopped_at(len(world), verdicts)
    assert (stopped < FOREVER).sum() == len(np.unique(verdicts.position[verdicts.is_fraud])) > 50
    assert len(world.rows(NOBODY, START, END).paid) > len(world.rows(verdicts, START, END).paid)


def test_six_in_ten_flags_are_answered_within_days(world: ReviewedWorld) -> None:
    flagged = np.arange(0, len(world), 3)
    given = reviewers.answer(world.answers, flagged, world.payments.time[flagged])
    assert 0.57 < len(given.at) / len(flagged) < 0.63
    assert (np.diff(given.at) >= 0).all()
    assert np.median(given.at - world.payments.time[given.position]) < 2 * DAY
    again = reviewers.answer(world.answers, flagged[::-1], world.payments.time[flagged][::-1])
    assert all(np.array_equal(a, b) for a, b in zip(vars(given).values(), vars(again).values(), strict=True))
