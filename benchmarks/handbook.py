"""
Detection on the Handbook's simulated card data, by its protocol, read from the `scores` table.

    python -m benchmarks.handbook PATH/TO/handbook.parquet --maturity 7d
    python -m benchmarks.handbook PATH/TO/handbook.parquet --maturity 30d --seeds 1

What it does is what a user would do: write transactions and a list of frauds known 7 days after the event,
`fraudwatch init`, `ingest`, `backfill` over 2018-07-01 to 2018-08-14, then judge the stored scores of the test
week by the protocol of Le Borgne, Siblini, Lebichot & Bontempi (2022), *Reproducible Machine Learning for
Credit Card Fraud Detection*. The config is the shipped one, but for the file's columns and the maturity.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import peak_mib, require
from detectors.metrics import auc_roc, average_precision, card_precision_at_k

BACKFILL = ("2018-07-01", "2018-08-15")  # [from, to): up to and with 2018-08-14
TEST = "2018-08-08"
WEEK = 7
DELAY = 7  # days until a fraud is known
PUBLISHED = {  # the Handbook's single split
    "logistic regression": (0.871, 0.606, 0.291),
    "random forest": (0.867, 0.658, 0.287),
    "XGBoost": (0.862, 0.639, 0.273),
}
COLUMNS = {
    "FRAUDWATCH_SCHEMA__ENTITIES": '["customer_id", "terminal_id"]',
    "FRAUDWATCH_SCHEMA__CATEGORICAL": "[]",
    "FRAUDWATCH_SCHEMA__KIND": "",
    "FRAUDWATCH_SCHEMA__ORIGINAL_ID": "",
    "FRAUDWATCH_SCHEMA__TIMEZONE": "UTC",
}


@dataclass(frozen=True)
class Outcome:
    """One seed's result and what it cost."""

    auc: float
    ap: float
    cp100: float
    seconds: float
    mib: float


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; print a line a seed and the mean beside the published figures."""
    args = _arguments(argv)
    source = require(args.data, "the Handbook's transactions as Parquet")
    with tempfile.TemporaryDirectory(prefix="fraudwatch-handbook-") as folder:
        home = Path(folder)
        truth = _write_inputs(source, home)
        _ingest(home, args.maturity)
        outcomes = [_one_seed(home, truth, args.maturity, seed, args.show) for seed in range(args.seeds)]
    _report(outcomes, args.maturity)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the Handbook's transactions, a Parquet file")
    parser.add_argument("--maturity", default="7d", help="labels.maturity (default 7d; shipped: 30d)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="show the commands' own output")
    return parser.parse_args(argv)


def _write_inputs(source: Path, home: Path) -> pd.DataFrame:
    table = pd.read_parquet(source)
    table["transaction_id"] = table["transaction_id"].astype(str)
    kept = ["transaction_id", "event_time", "customer_id", "terminal_id", "amount"]
    table[kept].to_parquet(home / "transactions.parquet", index=False)
    frauds = table[table["is_fraud"] == 1]
    known_at = frauds["event_time"] + pd.Timedelta(days=DELAY)
    labels = pd.DataFrame({"transaction_id": frauds["transaction_id"], "is_fraud": 1, "known_at": known_at})
    labels.assign(source="chargeback").to_parquet(home / "labels.parquet", index=False)
    return table


def _ingest(home: Path, maturity: str) -> None:
    env = _environment(home / "ingested.db", maturity, seed=0)
    fraudwatch(["init"], env)
    fraudwatch(["ingest", "transactions", str(home / "transactions.parquet")], env, show=True)
    fraudwatch(["ingest", "labels", str(home / "labels.parquet")], env, show=True)


def _one_seed(home: Path, truth: pd.DataFrame, maturity: str, seed: int, show: bool) -> Outcome:
    database = home / f"seed{seed}.db"
    shutil.copyfile(home / "ingested.db", database)
    started = time.perf_counter()
    mib = fraudwatch(
        ["backfill", "--from", BACKFILL[0], "--to", BACKFILL[1]],
        _environment(database, maturity, seed),
        show=show,
    )
    seconds = time.perf_counter() - started
    auc, ap, cp100 = judge(stored_scores(database), truth, TEST)
    print(
        f"seed {seed}: AUC ROC {auc:.3f}, average precision {ap:.3f}, card precision@100 {cp100:.3f}; "
        f"backfill {seconds:.0f} s, peak {mib:,.0f} MiB",
        flush=True,
    )
    if show:
        _print_choices(database)
    database.unlink()
    return Outcome(auc, ap, cp100, seconds, mib)


def fraudwatch(arguments: list[str], env: dict[str, str], show: bool = False) -> float:
    """Run a command as a user would; return its peak memory in MiB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        env=env,
        cwd=env["FRAUDWATCH_STORAGE__URL"]
        .removeprefix("sqlite:///")
        .rpartition("/")[0],  # no ./config.toml there
        stdout=None if show else subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"fraudwatch {' '.join(arguments)} ended with {process.returncode}")
    return peak_mib(usage)


def _environment(database: Path, maturity: str, seed: int) -> dict[str, str]:
    own = {
        "FRAUDWATCH_STORAGE__URL": f"sqlite:///{database}",
        "FRAUDWATCH_LABELS__MATURITY": maturity,
        "FRAUDWATCH_TRAINING__SEED": str(seed + 7),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return os.environ | COLUMNS | own


def stored_scores(database: Path) -> pd.DataFrame:
    """The live policy's scores: transaction_id, score."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT transaction_id, score FROM scores WHERE policy = 'live'").fetchall()
    connection.close()
    return pd.DataFrame(rows, columns=["transaction_id", "score"])


def judge(scores: pd.DataFrame, truth: pd.DataFrame, test_start: str) -> tuple[float, float, float]:
    """AUC ROC, average precision and card precision@100 of the test week, by the Handbook's protocol."""
    week = _without_known_customers(truth, pd.Timestamp(test_start, tz="UTC"))
    judged = week.merge(scores, on="transaction_id", how="left", validate="1:1")
    if judged["score"].isna().any():
        sys.exit(f"{judged['score'].isna().sum()} transactions of the test week have no score")
    y, score = judged["is_fraud"].to_numpy(), judged["score"].to_numpy()
    day = judged["event_time"].dt.floor("D").astype("int64").to_numpy()
    cp100 = card_precision_at_k(score, y, judged["customer_id"].to_numpy(), day, 100)
    return float(auc_roc(y, score)), float(average_precision(y, score)), float(cp100)


def _without_known_customers(truth: pd.DataFrame, start: pd.Timestamp) -> pd.DataFrame:
    """Leave out, each day, the customers whose fraud was known by then (delay of a week)."""
    day = truth["event_time"].dt.floor("D")
    frauds = truth[truth["is_fraud"] == 1]
    fraud_day = day[frauds.index]
    training_start = start - pd.Timedelta(days=WEEK + DELAY)
    kept = []
    for offset in range(WEEK):
        today = start + pd.Timedelta(days=offset)
        known = fraud_day.between(training_start, today - pd.Timedelta(days=DELAY + 1))
        compromised = set(frauds.loc[known, "customer_id"])
        rows = truth[day == today]
        kept.append(rows[~rows["customer_id"].isin(compromised)])
    return pd.concat(kept)


def _print_choices(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        for row in connection.execute("SELECT training_date, strategy, rule, sentence FROM choices"):
            print("   ", *row)
    connection.close()


def _report(outcomes: list[Outcome], maturity: str) -> None:
    print(f"\nTest week {TEST}, maturity {maturity}, {len(outcomes)} seeds, from the scores table")
    print(f"{'':34}{'AUC ROC':>14}{'avg precision':>16}{'card prec@100':>16}")
    ours = np.array([(o.auc, o.ap, o.cp100) for o in outcomes])
    cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(ours.mean(axis=0), ours.std(axis=0), strict=True)]
    print(f"{'fraudwatch':34}{cells[0]:>14}{cells[1]:>16}{cells[2]:>16}")
    for name, figures in PUBLISHED.items():
        print(
            f"{'published ' + name:34}"
            + "".join(f"{f:>{w}.3f}" for f, w in zip(figures, (14, 16, 16), strict=True))
        )
    print(f"peak memory of the backfill: {max(o.mib for o in outcomes):,.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
