"""The worlds of the benchmarks and what their tables are computed from."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import world_tables, worlds
from benchmarks.world_tables import Interval, Judged
from detectors.evaluation.metrics import average_precision
from pipeline.simulation.economy import COUNTRIES
from storage.frames import DAY, MONEY, Coded

N = 400
START = 14_000 * DAY


def small_table(rng: np.random.Generator) -> pd.DataFrame:
    days = np.sort(rng.integers(0, 60, N))
    return pd.DataFrame(
        {
            "transaction_id": [f"t{place:04}" for place in range(N)],
            "event_time": pd.to_datetime((START + days * DAY) // 1000 * 1000, unit="us", utc=True),
            "account": [f"a{code}" for code in rng.integers(0, 20, N)],
            "amount": rng.integers(1, 500, N) / 100,
            "age": np.where(rng.random(N) < 0.1, np.nan, rng.integers(18, 80, N)),
            "country": rng.choice(COUNTRIES, N),
            "is_fraud": (rng.random(N) < 0.1).astype(int),
        }
    )


@pytest.fixture(scope="module")
def world() -> worlds.World:
    fields = worlds.Fields(("account",), ("age",), ("country",))
    return worlds._of_days("small", small_table(np.random.default_rng(5)), fields, 30, 45, 60)


def test_a_world_of_a_table_has_its_fields_and_knows_frauds_a_week_late(world):
    assert (world.transactions.amount % (MONEY // 100) == 0).all()
    assert np.isnan(world.transactions.numeric["age"]).any()
    assert (world.known_at - world.transactions.event_time == 7 * DAY).all()
    assert len(world.fields.catalogue.raw_names) == world.raw(world.test[:5]).shape[1]
    earlier = world.testing(world.chosen)
    assert earlier.until <= world.reported[0] == world.date
    assert set(earlier.test) & set(world.test) == set()
    assert world.transactions.event_time[earlier.mature].max() <= earlier.date - 7 * DAY


def test_what_is_known_of_no_fraud_changes_features_made_of_labels_only(world):
    known, unknown = world.raw(world.test), world.raw(world.test, np.empty(0, dtype=np.int64))
    changed = (np.nan_to_num(known) != np.nan_to_num(unknown)).any(axis=0)
    names = np.array(world.fields.catalogue.raw_names)
    assert changed.any()
    assert all("fraud" in name for name in names[changed])


def test_counts_so_far_are_those_of_the_payments_before(world):
    rng, rows = np.random.default_rng(0), world.transactions
    codes = np.where(rng.random(N) < 0.1, -1, rows.columns["account"].codes).astype(np.int32)
    time, amount, fraud = rows.event_time, rng.random(N), rng.random(N) < 0.2
    found = world_tables._so_far(codes, time, amount, fraud, 7 * DAY)
    for row in range(N):
        past = np.flatnonzero(codes[:row] == codes[row])
        old = past[time[past] + 7 * DAY <= time[row]]
        expected = [
            len(past),
            (time[past] >= time[row] - DAY).sum(),
            (time[past] >= time[row] - 7 * DAY).sum(),
            amount[row] - amount[past].mean() if len(past) else 0.0,
            fraud[old].sum(),
            len(old),
        ]
        np.testing.assert_allclose(found[row], expected if codes[row] >= 0 else 0.0, atol=1e-9)


def test_the_interval_of_an_average_precision_resamples_payers(world):
    rng = np.random.default_rng(2)
    judged = Judged.draw(world)
    score = judged.y + rng.normal(size=len(judged.y)).round(1)  # with ties
    found = judged.precision(score)
    assert found.value == average_precision(judged.y, score, judged.weight)
    low, high = found.bounds
    assert low < found.value < high
    alone = replace(judged, entity=np.zeros(len(judged.y), dtype=np.int64))
    assert alone.precision(score).samples == pytest.approx(found.value)  # one payer: always drawn


def test_a_bar_is_missed_only_beyond_chance():
    draws = np.linspace(0.7, 0.9, 101)
    assert Interval(0.8, draws).misses(0.95)
    assert not Interval(0.8, draws).misses(0.85)
    assert not Interval(0.8, draws).misses(0.75)


def test_rows_without_the_entity_that_pays_are_nobodys(world):
    held = world.transactions
    codes = np.full(N, -1, dtype=np.int32)
    without = replace(
        world,
        transactions=replace(
            held, columns={**held.columns, "account": Coded(codes, np.array([], dtype=object))}
        ),
    )
    judged = Judged.draw(without)
    assert len(np.unique(judged.entity)) == len(judged.rows)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SystemExit, match="the payments of the world sparkov"):
        worlds.main([str(tmp_path), "--world", "sparkov"])
