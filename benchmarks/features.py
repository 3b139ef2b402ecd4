"""
Rolling features per entity, against the usual ways to compute them.

    python -m benchmarks.features [--rows 300000] [--data handbook.parquet]

For two entities and windows of 1, 7 and 30 days: count, mean amount and standard deviation of the log-amount
over (t − w, t), the transaction itself left out. Everybody gets the same rows as arrays or frames, sorted by
time and without ties, one thread, and an array made beforehand where it writes into one; only the computation
is timed. Results are compared before anything is said about speed.
"""

import os

# Polars and BLAS read these once, at import.
os.environ["POLARS_MAX_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.machine import require
from pipeline.features.amount_windows import LOG_UNITS, AmountSums, log_units
from pipeline.features.catalogue import build_catalogue
from pipeline.features.columns import WINDOW_COLUMNS, WindowRows
from pipeline.features.compute import raw_features
from pipeline.features.entity_windows import EntityIndex, EventTimeline
from pipeline.features.label_history import label_events
from storage.frames import DAY, HOUR, MONEY, Coded, Completeness, Labels, Transactions

WINDOWS = (DAY, 7 * DAY, 30 * DAY)
ENTITIES = ("customer_id", "terminal_id")
COLUMNS = 3  # count, mean, standard deviation
SLOTS = [(entity, window) for entity in ENTITIES for window in WINDOWS]
AGREE = 1e-9
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Peer:
    """A way to compute the same columns."""

    name: str
    run: Callable[[], Any]
    align: Callable[[Any], Floats]  # its result → (n, slots × columns) in the order of the rows; not timed
    times: int  # the best of so many runs counts
    target: float | None = None  # how many times faster than it we must be


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a result differs or a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--data", type=Path, help="the Handbook's transactions, instead of simulated ones")
    options = parser.parse_args(argv)
    rows = from_handbook(options.data, options.rows) if options.data else simulated(options.rows)
    frame = as_frame(rows)
    print(f"{len(rows):,} rows, {len(SLOTS)} windows × {COLUMNS} columns, one thread")
    ours, seconds = timed(ourselves(rows))
    print(f"{'fraudwatch':38}{seconds:9.3f} s")
    missed = [peer.name for peer in peers(frame) if not compare(peer, ours, seconds)]
    print_whole_matrix(rows)
    if missed:
        print("MISSED: " + ", ".join(missed))
    return 1 if missed else 0


def compare(peer: Peer, ours: Floats, seconds: float) -> bool:
    """Run a peer, check that it says the same, print how much slower it is; whether the target is met."""
    theirs, peer_seconds = timed(peer)
    worst = float(np.abs(filled(theirs) - filled(ours)).max())
    if worst > AGREE:
        print(f"{peer.name:38}differs by {worst:.3g}")
        return False
    ratio = peer_seconds / seconds
    wanted = "" if peer.target is None else f", wanted {peer.target:g}×"
    print(f"{peer.name:38}{peer_seconds:9.3f} s{ratio:8.1f}×{wanted}  (equal to {worst:.0e})", flush=True)
    return peer.target is None or ratio >= peer.target


def filled(values: Floats) -> Floats:
    """Nothing to average is 0 here: some say NaN, some null; the counts beside it tell them apart."""
    return np.nan_to_num(values, nan=0.0)


def timed(peer: Peer) -> tuple[Floats, float]:
    """Result and best time."""
    best = float("inf")
    for _ in range(peer.times):
        started = time.perf_counter()
        result = peer.run()
        best = min(best, time.perf_counter() - started)
    return peer.align(result), best


def against_pandas(n: int = 300_000) -> tuple[float, float]:
    """Seconds of fraudwatch and of pandas for the same simulated rows."""
    rows = simulated(n)
    return timed(ourselves(rows))[1], timed(vectorised(as_frame(rows)))[1]


def ourselves(rows: Transactions) -> Peer:
    """fraudwatch, which writes into an array made beforehand."""
    out = np.empty((len(rows), len(SLOTS) * COLUMNS))
    return Peer("fraudwatch", lambda: by_fraudwatch(rows, out), align=np.copy, times=5)


def vectorised(frame: pd.DataFrame) -> Peer:
    """The usual way."""
    return Peer(
        "pandas groupby().rolling()", lambda: by_pandas(frame), lambda found: of_pandas(frame, found), 2, 12
    )


def peers(frame: pd.DataFrame) -> list[Peer]:
    """Everybody who is here."""
    handbook = Peer(
        "pandas rolling, an entity at a time",
        lambda: by_apply(frame),
        lambda found: np.hstack([part.sort_index().to_numpy() for part in found]),
        1,
        80,
    )
    return [vectorised(frame), *polars_peers(frame), handbook]


def polars_peers(frame: pd.DataFrame) -> list[Peer]:
    """Polars has two ways to roll over groups."""
    try:
        import polars as pl
    except ImportError:
        print(
            "polars                                is not installed: "
            "left out; .venv/bin/pip install -r benchmarks/requirements.txt"
        )
        return []
    if pl.thread_pool_size() != 1:
        sys.exit("polars was imported before this benchmark could limit it to one thread: run it alone")
    table = pl.from_pandas(frame).with_columns(pl.col("time").set_sorted(), one=pl.lit(1.0))
    return [
        Peer("polars rolling(group_by=)", lambda: by_polars(table), lambda f: of_polars(table, f), 5, 1),
        Peer("polars rolling_*_by().over()", lambda: by_polars_over(table), lambda f: f.to_numpy(), 5, 1),
    ]


# ── the contenders ──


def by_fraudwatch(rows: Transactions, out: Floats) -> Floats:
    """What `raw_features` does for these columns."""
    logs = log_units(rows.amount)
    line = EventTimeline.of(rows, np.arange(len(rows)), HOUR)
    first = [line.window_start(window) for window in WINDOWS]
    width = len(WINDOWS) * COLUMNS
    for at, entity in enumerate(ENTITIES):
        column = rows.columns[entity]
        order = EntityIndex(line, column.codes, len(column.values))
        sums = AmountSums(order, rows.amount, logs)
        for asked in order.chunks():
            block = np.empty((len(asked.place), width))
            for window, start in enumerate(first):
                over = sums.over(asked, order.count_before(asked, start[asked.query_index]))
                with_sums = WindowRows(over, *[over.count] * 3)
                for place, of_window in enumerate(WINDOW_COLUMNS[:COLUMNS]):
                    block[:, window * COLUMNS + place] = of_window.values(with_sums)
            out[asked.query_index, at * width : (at + 1) * width] = block
    return out


def by_pandas(frame: pd.DataFrame) -> list[pd.Series]:
    """Groups and windows at once, a column at a time."""
    found = []
    for entity, window in SLOTS:
        rolling = frame.groupby(entity).rolling(f"{window // DAY}D", on="time", closed="neither")
        found += [rolling["amount"].count(), rolling["amount"].mean(), rolling["log"].std()]
    return found


def of_pandas(frame: pd.DataFrame, found: list[pd.Series]) -> Floats:
    """pandas gives group after group."""
    out = np.empty((len(frame), len(found)))
    for slot, (entity, _) in enumerate(SLOTS):
        order = np.argsort(frame[entity].to_numpy(), kind="stable")
        for place in range(slot * COLUMNS, (slot + 1) * COLUMNS):
            out[order, place] = found[place].to_numpy()
    return out


def by_apply(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The Handbook's way: a function applied to each entity's transactions, rolling inside of it."""

    def of_one(transactions: pd.DataFrame) -> pd.DataFrame:
        by_time = transactions.set_index("time")
        found = {}
        for window in WINDOWS:
            rolling = by_time.rolling(f"{window // DAY}D", closed="neither")
            found[f"count {window}"] = rolling["amount"].count().to_numpy()
            found[f"mean {window}"] = rolling["amount"].mean().to_numpy()
            found[f"std {window}"] = rolling["log"].std().to_numpy()
        return pd.DataFrame(found, index=transactions.index)

    columns = ["time", "amount", "log"]
    return [frame.groupby(entity, group_keys=False)[columns].apply(of_one) for entity in ENTITIES]


def by_polars(table: Any) -> list[Any]:
    """Polars' own rolling groups."""
    import polars as pl

    return [
        table.rolling("time", period=f"{window // DAY}d", closed="none", group_by=entity).agg(
            count=pl.len(), mean=pl.col("amount").mean(), std=pl.col("log").std()
        )
        for entity, window in SLOTS
    ]


def of_polars(table: Any, found: list[Any]) -> Floats:
    """Polars gives group after group; the time, which is free of ties, says which row it is."""
    parts = []
    for part in found:
        order = np.searchsorted(table["time"].to_numpy(), part["time"].to_numpy())
        rows = np.empty((len(part), COLUMNS))
        rows[order] = part.select("count", "mean", "std").to_numpy()
        parts.append(rows)
    return np.hstack(parts)


def by_polars_over(table: Any) -> Any:
    """Polars' rolling expressions over partitions."""
    import polars as pl

    columns = []
    for entity, window in SLOTS:
        how = {"by": "time", "window_size": f"{window // DAY}d", "closed": "none"}
        rolled = (
            pl.col("one").rolling_sum_by(**how),
            pl.col("amount").rolling_mean_by(**how),
            pl.col("log").rolling_std_by(**how),
        )
        columns += [c.over(entity).alias(f"{entity} {window} {place}") for place, c in enumerate(rolled)]
    return table.select(columns)


# ── the rows ──


def simulated(n: int) -> Transactions:
    """90 days of 5,000 payers of very different habits at 10,000 terminals."""
    rng = np.random.default_rng(20)
    time = np.sort(rng.choice(90 * 86_400_000, n, replace=False)) * 1000
    codes = {
        "customer_id": rng.choice(5_000, n, p=_habits(rng, 5_000)),
        "terminal_id": rng.choice(10_000, n, p=_habits(rng, 10_000)),
    }
    return _transactions(time, (rng.lognormal(3.5, 1, n) * 100).astype(np.int64) * (MONEY // 100), codes)


def _habits(rng: np.random.Generator, n: int) -> Floats:
    activity = rng.lognormal(0, 1, n)
    return activity / activity.sum()


def from_handbook(path: Path, n: int) -> Transactions:
    """The first n transactions; those of one second are set a microsecond apart."""
    table = pd.read_parquet(require(path, "the Handbook's transactions")).sort_values(
        ["event_time", "transaction_id"]
    )[:n]
    seconds = table["event_time"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    time = seconds + np.arange(len(seconds)) - np.searchsorted(seconds, seconds)
    amount = np.rint(table["amount"].to_numpy() * MONEY).astype(np.int64)
    return _transactions(time, amount, {entity: pd.factorize(table[entity])[0] for entity in ENTITIES})


def _transactions(time: Any, amount: Any, codes: dict[str, Any]) -> Transactions:
    columns = {
        name: Coded(of_rows.astype(np.int32), np.arange(of_rows.max() + 1).astype(str).astype(object))
        for name, of_rows in codes.items()
    }
    ids = np.arange(len(time)).astype(str).astype(object)
    return Transactions(ids, time, time.copy(), amount, columns)


def as_frame(rows: Transactions) -> pd.DataFrame:
    """The same rows for everybody else, the log-amount worked out already."""
    return pd.DataFrame(
        {
            "time": pd.to_datetime(rows.event_time, unit="us"),
            "amount": rows.amount / MONEY,
            "log": log_units(rows.amount) / LOG_UNITS,
            **{name: column.codes for name, column in rows.columns.items()},
        }
    )


def print_whole_matrix(rows: Transactions) -> None:
    """Everything there is, labels and pairs included: what a training computes."""
    nothing = np.zeros(0, dtype=np.int64)
    no_labels = Labels.from_answers(
        nothing,
        nothing.astype(object),
        nothing.astype(bool),
        Coded(nothing.astype(np.int32), nothing.astype(object)),
        nothing,
        nothing,
    )
    columns = build_catalogue(ENTITIES, (), (), WINDOWS, (0, 6))
    started = time.perf_counter()
    raw = raw_features(
        rows,
        label_events(rows, no_labels, ()),
        np.arange(len(rows)),
        columns,
        maturity=7 * DAY,
        allowed_lateness=HOUR,
        lookback=37 * DAY,
        completeness=Completeness(int(rows.event_time[-1]), nothing, nothing),
        silence_ok=np.ones(len(rows), dtype=bool),
    )
    seconds = time.perf_counter() - started
    print(f"all {raw.shape[1]} raw columns of fraudwatch{'':10}{seconds:9.3f} s")


if __name__ == "__main__":
    sys.exit(main())
