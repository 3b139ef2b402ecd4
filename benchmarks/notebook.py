"""
The plain notebook that a backfill replaces, on the same payments: pandas, LightGBM and scikit-learn, one thread.

    python -m benchmarks.notebook PATH/TO/handbook.parquet --from 2018-07-18 --to 2018-08-15 [--apply CUSTOMERS]

What a practitioner writes: fifteen features by `groupby().rolling()`, on the first day and each Monday boosted trees of 300 rounds
on all rows whose frauds are known and an isolation forest on the newest, each day a window that both score, `to_sql` into SQLite.
There is no choice, no drift, no reason, no check, and nothing is done once only. With `--apply` the features of some customers are
computed as the Handbook does, by a function for each group, which is dearer; their cost for all customers is told.
"""

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import require

DELAY = pd.Timedelta(days=7)  # until a fraud is known
DAY = pd.Timedelta(days=1)
WINDOWS = ("1D", "7D", "30D")
FOREST_ROWS = 60_000  # of the newest, that the isolation forest is fitted on


class Stages:
    """Processor seconds of this process by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the body takes."""
        began = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began


def main(argv: list[str] | None = None) -> int:
    """Run it and print the processor seconds of its stages as JSON."""
    args = _arguments(argv)
    source = require(args.data, "the Handbook's transactions as Parquet")
    stages = Stages()
    with stages.stage("load"):
        rows = pd.read_parquet(source).sort_values("event_time", ignore_index=True)
    if args.apply:
        with stages.stage("apply"):
            _by_apply(rows, args.apply)
        stages.seconds["apply, all customers"] = (
            stages.seconds["apply"] * rows["customer_id"].nunique() / args.apply
        )
    with stages.stage("features"):
        X = features(rows)
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        begin, to = (pd.Timestamp(day, tz="UTC") for day in (args.begin, args.to))
        run(rows, X, begin, to, stages, Path(folder))
    print(json.dumps({name: round(seconds, 2) for name, seconds in stages.seconds.items()}))
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the Handbook's transactions, a Parquet file")
    parser.add_argument("--from", dest="begin", default="2018-07-18")
    parser.add_argument("--to", default="2018-08-15")
    parser.add_argument("--apply", type=int, default=0, metavar="CUSTOMERS", help="also by groupby().apply()")
    return parser.parse_args(argv)


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Fifteen features of each payment, (n, 15), from what was known when it was made."""
    at = rows["event_time"]
    X = pd.DataFrame({"amount": rows["amount"], "weekend": at.dt.day_of_week >= 5, "night": at.dt.hour < 6})
    indexed = rows.set_index("event_time")
    by_customer, by_terminal = (indexed.groupby(name, sort=False) for name in ("customer_id", "terminal_id"))
    order = {name: _places(rows, name) for name in ("customer_id", "terminal_id")}
    for window in WINDOWS:
        of_customer = by_customer["amount"].rolling(window)
        X[f"customer_n_{window}"] = _back(of_customer.count(), order["customer_id"])
        X[f"customer_mean_{window}"] = _back(of_customer.mean(), order["customer_id"])
        delayed = f"{pd.Timedelta(window).days + DELAY.days}D"
        frauds, n = (
            by_terminal["is_fraud"].rolling(delayed).agg(how) - by_terminal["is_fraud"].rolling("7D").agg(how)
            for how in ("sum", "count")
        )
        X[f"terminal_n_{window}"] = _back(n, order["terminal_id"])
        X[f"terminal_risk_{window}"] = _back((frauds / n).fillna(0.0), order["terminal_id"])
    return X.astype(np.float64)


def _places(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Where the rows stand in the result of a rolling group: group by group, in the order in which groups appear."""
    return np.argsort(pd.factorize(rows[name])[0], kind="stable")


def _back(grouped: pd.Series, order: np.ndarray) -> np.ndarray:
    """Values in the order of the rows."""
    values = np.empty(len(grouped))
    values[order] = grouped.to_numpy()
    return values


def _by_apply(rows: pd.DataFrame, customers: int) -> pd.DataFrame:
    """The six features of customers as the Handbook computes them, for some customers."""

    def of_customer(own: pd.DataFrame) -> pd.DataFrame:
        own = own.set_index("event_time").sort_index()
        for window in WINDOWS:
            total = own["amount"].rolling(window).sum()
            own[f"n_{window}"] = own["amount"].rolling(window).count()
            own[f"mean_{window}"] = total / own[f"n_{window}"]
        return own

    some = rows["customer_id"].drop_duplicates().iloc[:customers]
    return rows[rows["customer_id"].isin(some)].groupby("customer_id").apply(of_customer)


def run(
    rows: pd.DataFrame, X: pd.DataFrame, begin: pd.Timestamp, end: pd.Timestamp, stages: Stages, folder: Path
) -> None:
    """Train each week, score each day and write the scores."""
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import IsolationForest

    at, y = rows["event_time"], rows["is_fraud"]
    with closing(sqlite3.connect(folder / "notebook.db")) as connection:
        trees = forest = None
        for day in pd.date_range(begin, end, freq=DAY, inclusive="left"):
            if forest is None or day.day_of_week == 0:
                with stages.stage("fits"):
                    known = at < day - DELAY
                    trees = LGBMClassifier(n_estimators=300, n_jobs=1, random_state=7, verbose=-1)
                    trees.fit(X[known], y[known])
                    forest = IsolationForest(random_state=7, n_jobs=1)
                    forest.fit(X[at < day].iloc[-FOREST_ROWS:].to_numpy())
            with stages.stage("scoring"):
                window = (at >= day) & (at < day + DAY)
                scores = rows.loc[window, ["transaction_id", "event_time"]].assign(
                    probability=trees.predict_proba(X[window])[:, 1],
                    outlier=-forest.score_samples(X[window].to_numpy()),
                )
            with stages.stage("writes"):
                scores.to_sql("scores", connection, if_exists="append", index=False)


if __name__ == "__main__":
    sys.exit(main())
