"""What the outlier detector takes for normal, and what becomes of a fraud that repeats itself."""

from pathlib import Path

import numpy as np
import pytest

from detectors.inputs.ranks import surprisal
from detectors.strategy.exclude_suspicious import SHARE_MAX, suspicious_rows
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.features import history as feature_history
from pipeline.features.history import History
from pipeline.training import train, training_set
from pipeline.training.train import StoredChoice
from storage.database.setup import upgrade
from storage.frames import DAY, MONEY, SECOND
from tests.support.databases import with_url
from tests.support.payments import PAYMENT_HEADER, START, write_csv
from tests.support.worlds import SMALL, load, load_both

DAYS, BEGINS = 105, 30
WEEKS = (0, 8, 9)  # of the ten trainings: no training depends on another, so some are enough
OUTLIER = StoredChoice(1, "outlier", 0.1, "")


def configured(*, exclude: bool) -> Config:
    changed = SMALL.training.model_copy(update={"holdout": 7 * DAY, "exclude_flagged": exclude})
    return SMALL.model_copy(
        update={"training": changed, "alerts": SMALL.alerts.model_copy(update={"per_day": 8})}
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> History:
    """150 usual payments a day and, from day 30 on, three a day of about 120.00 by strangers, which nobody reports ("f…")."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(4)
    n, days = DAYS * 150, np.arange(BEGINS, DAYS).repeat(3)
    usual = START + rng.integers(0, DAYS * DAY // SECOND, n) * SECOND
    frauds = START + days * DAY + rng.integers(0, DAY // SECOND, len(days)) * SECOND
    amount = np.append(np.exp(rng.normal(3.0, 0.6, n)), rng.normal(120.0, 1.0, len(days)))
    customer = [f"c{k}" for k in rng.integers(0, 400, n)] + [f"n{k}" for k in range(len(days))]
    names = [f"t{k:06d}" for k in range(n)] + [f"f{k:06d}" for k in range(len(days))]
    terminal = rng.integers(0, 100, n + len(days))
    times = np.append(usual, frauds)
    said = np.datetime_as_string(times.astype("datetime64[us]"), unit="s")
    rows = [
        f"{names[k]},{said[k]}Z,{customer[k]},m{terminal[k]},{amount[k]:.2f}"
        for k in np.argsort(times, kind="stable")
    ]
    config = with_url(SMALL, f"sqlite:///{folder / 'f.db'}")
    with open_configured(config) as store:
        upgrade(store, config.monitor.name, 1)
        load(
            store,
            config,
            "transactions",
            write_csv(folder / "p.csv", PAYMENT_HEADER, rows),
            now=START + DAYS * DAY,
        )
        return feature_history.load(store, config, START, START + DAYS * DAY)


def detected(world: History, config: Config) -> tuple[list[float], list[float]]:
    """Of the repeated fraud in the week after some of ten weekly trainings: the share that is flagged, and the mean surprisal."""
    times, ids = world.transactions.event_time, world.transactions.transaction_id
    recall, rarity = [], []
    for week in WEEKS:
        date = START + (BEGINS + 3 + 7 * week) * DAY
        made = train.prepare(config, world, date)
        model = train.fit_alone(config, made, OUTLIER, date)
        rows = np.flatnonzero((times >= date) & (times < date + 7 * DAY))
        raw = feature_history.raw_matrix(world, rows, made.features, config)
        scores = model.score(raw, world.transactions.amount[rows] / MONEY)
        fraud = np.array([one.startswith("f") for one in ids[rows]])
        recall.append(float(scores.flagged[fraud].mean()))
        rarity.append(float(surprisal(scores.outlier_score[fraud]).mean()))
    return recall, rarity


@pytest.mark.long
def test_recall_of_a_repeated_fraud_does_not_decay_over_ten_retrainings_where_flagged_rows_stay_out(
    world: History,
) -> None:
    """With them in, the fraud becomes normal: what training.exclude_flagged is for."""
    out, rarity = detected(world, configured(exclude=True))
    assert np.mean(out[1:]) > 0.85
    assert np.mean(out[1:]) > out[0] - 0.05
    _, rarity_within = detected(world, configured(exclude=False))
    assert np.mean(rarity_within[1:]) < np.mean(rarity[1:]) - 0.5


def test_known_fraud_the_holdout_and_what_is_to_be_scored_never_count_as_normal(world: History) -> None:
    config, date = configured(exclude=False), START + 60 * DAY
    known = training_set.training_set_at(config, world, date)
    times, ids = world.transactions.event_time, world.transactions.transaction_id
    assert times[known.unlabelled].max() < date - config.training.holdout
    frauds = np.array([one.startswith("f") for one in ids[known.unlabelled]])
    assert frauds.sum() > 50  # nobody has reported them


def test_reported_fraud_leaves_and_what_a_label_clears_stays(world: History, tmp_path: Path) -> None:
    config = with_url(configured(exclude=True), f"sqlite:///{tmp_path / 'f.db'}")
    date = START + 60 * DAY
    rows = [
        f"t{k:04d},{np.datetime64(START + k * DAY // 20, 'us').astype('datetime64[s]')}Z,c{k % 50},m{k % 9},{5000 if k % 97 == 0 else 10 + k % 7}"
        for k in range(1200)
    ]
    labels = [f"t{k:04d},{int(k % 2)},2025-02-20T00:00:00Z,review" for k in range(0, 900, 97)]
    with open_configured(config) as store:
        upgrade(store, config.monitor.name, 1)
        load_both(store, config, tmp_path, rows, labels, now=date)
        history = feature_history.load(store, config, START, date)
    known = training_set.training_set_at(config, history, date)
    ids = history.transactions.transaction_id[known.unlabelled]
    reported = {f"t{k:04d}" for k in range(97, 900, 194)}
    cleared = {f"t{k:04d}" for k in range(0, 900, 194)}
    assert not reported & set(ids)
    assert cleared == set(ids[known.cleared])
    kept = train.prepare(config, history, date)
    large = kept.samples.unlabelled.amount == 5000
    assert large.sum() == len(cleared)  # the others of 5000 nobody has cleared
    assert len(kept.samples.unlabelled) < len(known.unlabelled)


CASES = [
    # rows, times, per_day → how many are flagged
    (np.zeros((0, 2)), np.zeros(0, np.int64), 5.0, 0),  # nothing
    (np.zeros((1, 2)), np.zeros(1, np.int64), 5.0, 0),  # one row
    (np.zeros((50, 2)), np.zeros(50, np.int64), 5.0, 0),  # all at once: there is no before
    (np.zeros((500, 2)), np.arange(500), 5.0, 0),  # all alike: a tie over the budget stays
    (np.random.default_rng(1).normal(size=(500, 2)), np.arange(500), 0.0, 0),  # nobody looks
]


@pytest.mark.parametrize(("rows", "times", "per_day", "flagged"), CASES)
def test_small_and_degenerate_pasts(
    rows: np.ndarray, times: np.ndarray, per_day: float, flagged: int
) -> None:
    found = suspicious_rows(rows, np.ones(len(rows)), times, per_day, 10, "isolation_forest")
    assert found.sum() == flagged
    assert found.shape == (len(rows),)


def test_a_budget_larger_than_the_volume_leaves_normal_rows_normal() -> None:
    rows, times = np.random.default_rng(1).normal(size=(1200, 3)), np.arange(1200)
    found = suspicious_rows(rows, np.ones(1200), times, 1000.0, 10, "isolation_forest")
    assert 0 < found.sum() <= SHARE_MAX * 1200
    assert not found[:100].any()  # the first stretch is taken as it is
