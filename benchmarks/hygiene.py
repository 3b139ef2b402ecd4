"""
What training hygiene costs and what it brings, on the Handbook's simulated card data.

    python -m benchmarks.hygiene PATH/TO/handbook.parquet                # both parts: a quarter of an hour
    python -m benchmarks.hygiene PATH/TO/handbook.parquet --part gate --trainings 5

    gate      the same settings trained week after week: the share of a training that the promotion gate takes, how far
              honest models a week apart differ, and how many of them are refused
    usual     isolation forest without labels on four weeks: average precision with rows that it would have flagged in
              and out of what it takes for normal (training.exclude_flagged)

The config is the shipped one but for the file's columns and a maturity of 7 days.
"""

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import require
from detectors.evaluation.metrics import average_precision
from detectors.model.model import ModelSettings, fit_model
from pipeline.cli.data import ingest_lines
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.features import history as feature_history
from pipeline.ingest import ingest
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import sources
from pipeline.schedule.run_context import LIVE, HistoryReader, RunContext, Step, pending, start_run
from pipeline.scoring.model_cache import ModelCache
from pipeline.training import strategy_choice, train
from pipeline.training.promotion_gate import PromotionGate
from storage.database.database import Store
from storage.database.setup import upgrade
from storage.frames import DAY, MONEY
from storage.models import models
from storage.models.models import PromotionCheck
from storage.runs import ledger

DELAY = pd.Timedelta(days=7)
LAST_TRAINING = pd.Timestamp("2018-08-13", tz="UTC")  # a Monday
WEEKS = ("2018-07-18", "2018-07-25", "2018-08-01", "2018-08-08")
SEEDS = (7, 8, 9)
PARTS = ("gate", "usual")


def main(argv: list[str] | None = None) -> int:
    """Run the parts and print a line a training; 1 if an honest model was refused."""
    args = _arguments(argv)
    source = require(args.data, "the Handbook's transactions as Parquet")
    refused = 0
    with tempfile.TemporaryDirectory(prefix="fraudwatch-hygiene-") as folder:
        config = _config(Path(folder))
        with open_configured(config) as store:
            truth = _fill(store, config, source, Path(folder))
            if "gate" in (args.part or PARTS):
                refused = _gate(store, config, args.trainings)
            if "usual" in (args.part or PARTS):
                _usual(store, config, truth)
    return int(refused > 0)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the Handbook's transactions, a Parquet file")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeat for both")
    parser.add_argument("--trainings", type=int, default=10, help="that are judged (default 10)")
    return parser.parse_args(argv)


def _config(home: Path) -> Config:
    columns = {"entities": ["customer_id", "terminal_id"], "categorical": [], "kind": "", "original_id": ""}
    return Config.model_validate({
        "storage": {"url": f"sqlite:///{home / 'fraudwatch.db'}"},
        "schema": columns | {"timezone": "UTC"},
        "labels": {"maturity": "7d"},
    })  # fmt: skip


def _fill(store: Store, config: Config, source: Path, home: Path) -> dict[str, int]:
    rows = pd.read_parquet(source)
    frauds = rows[rows["is_fraud"] == 1]
    rows.drop(columns=["is_fraud", "fraud_scenario"]).to_parquet(home / "t.parquet")
    told = {
        "transaction_id": frauds["transaction_id"],
        "is_fraud": 1,
        "known_at": frauds["event_time"] + DELAY,
    }
    pd.DataFrame(told | {"source": "chargeback"}).to_parquet(home / "l.parquet")
    upgrade(store, config.monitor.name, 1)
    now = time.time_ns() // 1000
    for kind, work in (("transactions", ingest.ingest_transactions), ("labels", ingest.ingest_labels)):
        given = sources(config, kind, [str(home / f"{kind[0]}.parquet")], None, None)
        for report in work(store, config, given, clock=lambda: now, options=Options(history=True)):
            print("\n".join(ingest_lines(report)), flush=True)
    return dict(zip(rows["transaction_id"].astype(str), rows["is_fraud"], strict=True))


def _gate(store: Store, config: Config, trainings: int) -> int:
    dates = [_instant(LAST_TRAINING - pd.Timedelta(weeks=k)) for k in range(trainings, -1, -1)]
    with start_run(store, config, time.time_ns() // 1000, LIVE, "backfill", "benchmark", None) as this:
        found = [_trained(this, date) for date in dates][1:]  # the first has nothing to be compared with
    shares = [share for _, share in found]
    differences = np.array([check.ap_difference for check, _ in found], dtype=np.float64)
    refused = sum(check.verdict == "rejected" for check, _ in found)
    print(
        f"gate: {np.mean(shares):.0%} of a training's processor time; average precision differs by "
        f"{np.abs(differences).mean():.4f} on average, {np.abs(differences).max():.4f} at most; "
        f"{refused} of {len(found)} refused"
    )
    return refused


def _trained(this: RunContext, date: int) -> tuple[PromotionCheck, float]:
    """One training as the pipeline makes it, with the gate's share of its processor time."""
    store, config = this.store, this.config
    reader, shelf = HistoryReader(this.store, this.config, this.policy, date), ModelCache(store, config, LIVE)
    marks = [time.process_time()]
    history = reader.for_training(date)
    chosen = strategy_choice.choose_at(store, config, reader.for_training, LIVE, date, this.run_id)
    made = train.prepare(config, history, date)
    marks.append(time.process_time())
    fitted = train.fit(config, history, made, chosen, date, this.run_id)
    marks.append(time.process_time())
    check = PromotionGate(store, config, shelf, reader).check(history, made, chosen, fitted.model, date)
    marks.append(time.process_time())
    entry = pending(LIVE, Step("train", date, date), 0)
    ledger.ensure(store, [entry])
    models.install(store, entry, fitted.record, fitted.artifact, chosen.sentence, "benchmark", date, check)
    prepare, fit, gate = (end - begin for begin, end in pairwise(marks))
    print(
        f"{pd.Timestamp(date * 1000):%Y-%m-%d} {chosen.strategy}, {len(made.samples.mature):,} rows: read and prepare "
        f"{prepare:.1f} s, fit {fit:.1f} s, gate {gate:.1f} s; {check.verdict}, {check.rule}: {check.sentence}",
        flush=True,
    )
    return check, gate / (marks[-1] - marks[0])


def _usual(store: Store, config: Config, truth: dict[str, int]) -> None:
    found: dict[bool, list[float]] = {False: [], True: []}
    for week in WEEKS:
        date = _instant(pd.Timestamp(week, tz="UTC"))
        begin = date - config.training.span - config.lookback
        history = feature_history.load(store, config, begin, date + 7 * DAY)
        times = history.transactions.event_time
        rows = np.flatnonzero((times >= date) & (times < date + 7 * DAY))
        y = np.array([truth[one] for one in history.transactions.transaction_id[rows]], dtype=np.float64)
        raw = feature_history.raw_matrix(history, rows, feature_history.feature_catalogue(config), config)
        for exclude in (False, True):
            made = train.prepare(_with(config, exclude_flagged=exclude), history, date)
            for seed in SEEDS:
                model = fit_model(
                    ModelSettings("outlier", seed=seed),
                    made.features.layout,
                    mature=made.samples.mature,
                    usual=made.samples.unlabelled,
                    recent=made.samples.holdout,
                    days=config.training.holdout / DAY,
                    notes={},
                    columns=made.features.raw_names,
                )
                scores = model.score(raw, history.transactions.amount[rows] / MONEY)
                found[exclude].append(float(average_precision(y, scores.score)))
        means = {exclude: np.mean(values[-len(SEEDS) :]) for exclude, values in found.items()}
        print(f"{week}: average precision {means[False]:.3f}, flagged rows out {means[True]:.3f}", flush=True)
    print(f"usual: {np.mean(found[False]):.3f}, flagged rows out {np.mean(found[True]):.3f}")


def _with(config: Config, **keys: object) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update=keys)})


def _instant(moment: pd.Timestamp) -> int:
    return int(moment.value // 1000)


if __name__ == "__main__":
    sys.exit(main())
