"""
Detection on the Handbook's simulated card data, by its protocol, read from the `scores` table.

    python -m benchmarks.handbook PATH/TO/handbook.parquet                    # everything, five seeds: an hour or so
    python -m benchmarks.handbook PATH/TO/handbook.parquet --part history --seeds 1
    python -m benchmarks.handbook PATH/TO/handbook.parquet --part history --maturity 30d
    python -m benchmarks.handbook PATH/TO/handbook.parquet --part article --only blend --only "no balancing"

What it does is what a user would do: write transactions and a list of frauds known 7 days after the event,
`fraudwatch init`, `ingest`, `backfill` (or `train` and `backfill`), then judge the stored scores of test weeks by the
protocol of Le Borgne, Siblini, Lebichot & Bontempi (2022), *Reproducible Machine Learning for Credit Card Fraud
Detection*. The config is the shipped one, but for the file's columns and the maturity. Parts:

    history   weekly trainings on all mature history: the week of 2018-08-08, and the mean of four weeks
    week      one training on the Handbook's own seven days, 2018-07-25 to 31
    outlier   isolation forest alone, no feature made of labels (`strategy.method = "outlier"`)
    labels    isolation forest on the same and on what is known of fraud at the entities; fitted here, not by a command
    article   `fraudwatch compare`: the table of the article's techniques, four training dates
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
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.machine import peak_mib, require
from detectors.base import SEED, Floats, Ints
from detectors.evaluation.metrics import auc_roc, average_precision

SPAN = ("2018-07-16", "2018-08-15")  # [from, to): all test weeks, from the Monday before the first
TEST = "2018-08-08"
WEEKS = ("2018-07-18", "2018-07-25", "2018-08-01", TEST)
WEEK = 7
DELAY = 7  # days until a fraud is known
PARTS = ("history", "week", "outlier", "labels", "article")
# A user has no seed to set: the same rows give the same model. The chance of a training is told by others.
WITH_SEED = """
import sys
import detectors.base
detectors.base.SEED = int(sys.argv.pop(1))
from pipeline.cli.main import main
main()
"""
NO_SCHEDULE = {"FRAUDWATCH_TRAINING__EVERY": "3640d"}  # the training that is asked for is the only one
OWN_WEEK = NO_SCHEDULE | {"FRAUDWATCH_TRAINING__SPAN": "14d"}  # of which the older seven days are mature
OUTLIER = {"FRAUDWATCH_STRATEGY__METHOD": "outlier"}
ASKED = {  # AUC ROC, average precision, card precision@100; None where no figure was set
    "history, one week": (0.885, 0.71, 0.30),
    "history, four weeks": (None, 0.72, 0.295),
    "week": (None, 0.68, 0.295),
    "outlier, one week": (None, 0.15, None),
    "outlier, four weeks": (None, 0.21, None),
    "labels, one week": (None, 0.30, None),
}
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


Figures = tuple[float, float, float]


def main(argv: list[str] | None = None) -> int:
    """Run the parts; print a line a seed and the means beside what was asked and published; 1 if a figure is missed."""
    args = _arguments(argv)
    source = require(args.data, "the Handbook's transactions as Parquet")
    found: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="fraudwatch-handbook-") as folder:
        bench = Bench(Path(folder), args.maturity, args.show)
        truth = _write_inputs(source, bench.home)
        bench.ingest()
        for part in args.part or PARTS:
            print(f"── {part}", flush=True)
            if part == "article":
                bench.article(args.only)
                continue
            for seed in range(args.seeds):
                for name, figures in bench.run(part, truth, seed).items():
                    found.setdefault(name, []).append(figures)
        peak = bench.mib
    _report(found, args.maturity)
    print(f"peak memory of a command: {peak:,.0f} MiB")
    return int(any(_missed(name, rows) for name, rows in found.items()))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the Handbook's transactions, a Parquet file")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeat for more")
    parser.add_argument("--maturity", default="7d", help="labels.maturity (default 7d; shipped: 30d)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="of the article's techniques, as compare does",
    )
    parser.add_argument("--show", action="store_true", help="show the commands' own output")
    return parser.parse_args(argv)


class Bench:
    """A folder with the ingested database, copied for every run."""

    def __init__(self, home: Path, maturity: str, show: bool) -> None:
        self.home = home
        self.mib = 0.0
        self._maturity = maturity
        self._show = show

    def ingest(self) -> None:
        """What every run begins with."""
        env = self._environment("ingested")
        self._do(["init"], env)
        self._do(["ingest", "transactions", str(self.home / "transactions.parquet")], env, show=True)
        self._do(["ingest", "labels", str(self.home / "labels.parquet")], env, show=True)

    def run(self, part: str, truth: pd.DataFrame, seed: int) -> dict[str, Figures]:
        """One seed of a part: its figures by name."""
        started = time.perf_counter()
        if part == "labels":
            weeks = {week: self._knowing(truth, seed, week) for week in WEEKS}
        else:
            weeks = self._lived(part, truth, seed)
        told = {"week": weeks[TEST]} if part == "week" else {f"{part}, one week": weeks[TEST]}
        if part != "week":
            told[f"{part}, four weeks"] = tuple(np.mean(list(weeks.values()), axis=0).tolist())
        for name, (auc, ap, cp) in told.items():
            print(
                f"seed {seed}: {name}: AUC ROC {auc:.3f}, average precision {ap:.3f}, card precision@100 {cp:.3f}"
            )
        print(f"        {time.perf_counter() - started:.0f} s", flush=True)
        return told

    def article(self, only: list[str]) -> None:
        """The table of `fraudwatch compare`."""
        words = [argument for word in only for argument in ("--only", word)]
        self._do(["compare", "--folds", "4", *words], self._environment("ingested"), show=True)

    def _lived(self, part: str, truth: pd.DataFrame, seed: int) -> dict[str, Figures]:
        """Through the commands, judged by what they stored."""
        name = f"{part}{seed}"
        database = self.home / f"{name}.db"
        shutil.copyfile(self.home / "ingested.db", database)
        env = self._environment(name) | {"week": OWN_WEEK, "outlier": OUTLIER}.get(part, {})
        if part == "week":
            self._do(["train", "--as-of", TEST], env, seed=seed)
            self._do(["backfill", "--from", TEST, "--to", SPAN[1]], env, seed=seed)
        else:
            self._do(["backfill", "--from", SPAN[0], "--to", SPAN[1]], env, seed=seed)
        scores = stored_scores(database)
        if self._show:
            _print_choices(database)
        database.unlink()
        return {week: judge(scores, truth, week) for week in ((TEST,) if part == "week" else WEEKS)}

    def _knowing(self, truth: pd.DataFrame, seed: int, week: str) -> Figures:
        """Isolation forest on the outlier columns and on what is known of fraud, trained at the week's first day."""
        from detectors.algorithms.isolation_forest import IsolationForest
        from detectors.inputs.encoding import Encoder
        from pipeline.config.database import open_configured
        from pipeline.config.loader import load_config
        from pipeline.features import history as feature_history
        from pipeline.training import training_set

        empty = self.home / "empty.toml"  # not the one of the folder this runs in
        empty.touch()
        config = load_config(empty, self._environment("ingested"))
        date = int(pd.Timestamp(week, tz="UTC").value // 1000)
        end = date + WEEK * 86_400_000_000
        with open_configured(config) as store:
            history = feature_history.load(store, config, date - config.training.span - config.lookback, end)
        plan = feature_history.feature_catalogue(config)
        of_labels = [n for n, one in enumerate(plan.features) if not one.label_free]
        columns = [
            *plan.layout.groups[0].columns,
            *of_labels,
        ]  # the first family is what a single outlier detector sees
        known = training_set.training_set_at(config, history, date)
        usual = known.unlabelled[:: max(1, len(known.unlabelled) // 60_000)]
        test = np.flatnonzero(
            (history.transactions.event_time >= date) & (history.transactions.event_time < end)
        )
        raw = feature_history.raw_matrix(history, np.concatenate([usual, test]), plan, config)
        labels = np.full(len(usual), np.nan)
        labels[np.isin(usual, known.mature)] = 0.0  # usual rows are not known to be fraud
        encoder = Encoder.fit(plan.encoding, raw[: len(usual)], labels)
        X = encoder.transform(raw)[:, columns]
        forest = IsolationForest(seed=SEED + seed).fit(X[: len(usual)])
        score = forest.anomaly_score(np.ascontiguousarray(X[len(usual) :]))
        ids = history.transactions.transaction_id[test]
        return judge(pd.DataFrame({"transaction_id": ids, "score": score}), truth, week)

    def _do(self, arguments: list[str], env: dict[str, str], show: bool = False, seed: int = 0) -> None:
        self.mib = max(self.mib, fraudwatch(arguments, env, show or self._show, seed))

    def _environment(self, name: str) -> dict[str, str]:
        own = {
            "FRAUDWATCH_STORAGE__URL": f"sqlite:///{self.home / f'{name}.db'}",
            "FRAUDWATCH_LABELS__MATURITY": self._maturity,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        return os.environ | COLUMNS | own


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


def fraudwatch(arguments: list[str], env: dict[str, str], show: bool = False, seed: int = 0) -> float:
    """Run a command as a user would, but for the seed of its random numbers; return its peak memory in MiB."""
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_SEED, str(SEED + seed), *arguments],
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


def card_precision_at_k(scores: Floats, y: Floats, entity: NDArray[Any], day: Ints, k: int) -> float:
    """
    Share of compromised entities among the k most suspicious ones of a day, mean over days; NaN without rows.

    An entity's score of the day is its highest; it is compromised with one fraud that day. A compromised entity among the k
    is removed from later days: its card is blocked. A day with fewer than k entities still counts over k. Equal scores rank
    in the order of the entities.

    References
    ----------
    Le Borgne, Siblini, Lebichot & Bontempi (2022), *Reproducible Machine Learning for Credit Card Fraud
    Detection*, chapter 4.3, card precision top-k.
    """
    _, codes = np.unique(entity, return_inverse=True)
    detected = np.zeros(len(y), dtype=np.bool_)  # by entity code
    daily = []
    for date in np.unique(day):
        rows = np.flatnonzero((day == date) & ~detected[codes])
        caught = _compromised_on_top(scores[rows], y[rows], codes[rows], k)
        daily.append(len(caught) / k)
        detected[caught] = True
    return float(np.mean(daily)) if daily else float("nan")


def _compromised_on_top(scores: Floats, y: Floats, codes: Ints, k: int) -> Ints:
    entities, place = np.unique(codes, return_inverse=True)
    highest = np.full(len(entities), -np.inf)
    np.maximum.at(highest, place, scores)
    compromised = np.bincount(place, weights=y, minlength=len(entities)) > 0
    top = np.argsort(-highest, kind="stable")[:k]
    caught: Ints = entities[top[compromised[top]]]
    return caught


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


def _report(found: dict[str, list[Figures]], maturity: str) -> None:
    print(f"\nMaturity {maturity}, mean ± deviation over seeds, from the scores table; asked in brackets")
    print(f"{'':30}{'AUC ROC':>24}{'avg precision':>24}{'card prec@100':>24}")
    for name, rows in found.items():
        asked = ASKED.get(name, (None, None, None))
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
        cells = [
            f"{m:.3f} ± {s:.3f}" + (f" [{a:.3f}]" if a else "")
            for m, s, a in zip(mean, spread, asked, strict=True)
        ]
        print(f"{name:30}" + "".join(f"{cell:>24}" for cell in cells))
    for name, figures in PUBLISHED.items():
        print(f"{'published ' + name:30}" + "".join(f"{figure:>24.3f}" for figure in figures))


def _missed(name: str, rows: list[Figures]) -> bool:
    asked = ASKED.get(name, (None, None, None))
    return any(a is not None and m < a for m, a in zip(np.mean(rows, axis=0), asked, strict=True))


if __name__ == "__main__":
    sys.exit(main())
