"""
Payments of seven worlds that differ in what is known of a payment, and in what fraud looks like.

    handbook    1.3 million card payments, simulated; large amounts, stolen cards, compromised terminals
    ecommerce   60,000 payments of web shops, real: twenty columns, most of them without a name
    sparkov     60,000 card payments of another simulator: who the customer is, what kind of shop, and where both are
    simulate    `fraudwatch simulate --reviewers`, as in `make demo`: four kinds of entity; attacks, tests of cards, takeovers
    anomalous   fraud breaks the customer's habits: several times the usual amount, from abroad
    hidden      fraud has usual amounts and usual customers, and gives itself away by a few shops and the hour
    extreme     2 million payments, 100 of them fraud, each about as unusual as in `anomalous`

The first three are files of a folder (`FILES`), the others are drawn. Their fields are those that `fraudwatch init --from FILE`
proposes. Each world has weeks to tune on and later ones to report (`World.chosen`, `World.reported`). `reviewed` is a world in
which a team answers flags, so that what happens depends on the monitor.

A world knows the truth: a monitor of it learns of a fraud `maturity` after it happened, or of a few only, as in `benchmarks.choice`.
"""

import argparse
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.machine import require
from pipeline.config.config import Config
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.history import History, feature_catalogue, raw_matrix
from pipeline.features.label_history import label_events
from pipeline.schema_inference.propose import propose
from pipeline.simulation.economy import (
    CHANNELS,
    COUNTRIES,
    WEB,
    Payments,
    build_world,
    draw_genuine,
    join,
    to_cents,
    usual_amount,
)
from pipeline.simulation.reviewed import ReviewedWorld
from pipeline.simulation.simulate import draw_payments, simulate
from storage.frames import DAY, FOREVER, MONEY, Coded, Completeness, Floats, Ints, Labels, Transactions

if TYPE_CHECKING:
    from benchmarks import world_tables

Bools = NDArray[np.bool_]

START = 20_089 * DAY  # 2025-01-01
HANDBOOK_TEST = "2018-08-08"
MATURITY = 7 * DAY  # until a fraud is known, and silence may be read
Days = tuple[int, int]  # µs: from the first day until the end of the last
FILES = {
    "handbook": "handbook_2018-04-01_2018-08-14.parquet",
    "ecommerce": "ecommerce_days_00-59.parquet",
    "sparkov": "sparkov_cards.parquet",
}


@dataclass(frozen=True)
class Fields:
    """The fields of [schema], as `fraudwatch init --from FILE` proposes them."""

    entities: tuple[str, ...]
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The shipped configuration for these fields; a fraud is known after a week."""
        schema = {
            "entities": list(self.entities),
            "numeric": list(self.numeric),
            "categorical": list(self.categorical),
            "kind": "",
            "original_id": "",
        }
        return Config.model_validate({"schema": schema, "labels": {"maturity": "7d"}})

    @property
    def catalogue(self) -> FeatureCatalogue:
        """The features that are shipped for these fields."""
        return feature_catalogue(self.config)


@dataclass(frozen=True)
class World:
    """Payments with the truth, and the date on which a model is trained for the days that follow."""

    name: str
    transactions: Transactions
    fraud: Bools  # (n,)
    fields: Fields
    date: int  # µs: training
    span: int  # µs before the date that training looks back
    until: int  # µs: end of the test days
    chosen: Days  # weeks to tune on
    reported: Days  # later weeks, on which nothing is tuned
    maturity: int = MATURITY  # µs until a fraud is known, and silence may be read

    @property
    def known_at(self) -> Ints:
        """When a fraud becomes known."""
        return self.transactions.event_time + self.maturity

    @property
    def mature(self) -> Bools:
        """(n,) rows of the span whose silence may be read at the date."""
        time = self.transactions.event_time
        return (time >= self.date - self.span) & (time + self.maturity <= self.date)

    @property
    def test(self) -> Ints:
        """Positions of the test rows."""
        time = self.transactions.event_time
        return np.flatnonzero((time >= self.date) & (time < self.until))

    def testing(self, days: Days) -> "World":
        """The same world with these test days, and the training before them."""
        return replace(self, date=days[0], until=days[1])

    def history(self, frauds: Ints | None = None) -> History:
        """What the product would have stored; `frauds` are the positions of those that ever become known, None for all."""
        held = self.transactions
        frauds = np.flatnonzero(self.fraud) if frauds is None else frauds
        n, precedence = len(frauds), self.fields.config.labels.precedence
        labels = Labels.from_answers(
            np.arange(n),
            held.transaction_id[frauds],
            np.ones(n, dtype=bool),
            Coded(np.zeros(n, dtype=np.int32), np.array(["chargeback"], dtype=object)),
            self.known_at[frauds],
            self.known_at[frauds],
        )
        return History(
            held,
            labels,
            label_events(held, labels, precedence),
            Completeness(FOREVER, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)),
            np.ones(len(held), dtype=bool),
            precedence,
        )

    def raw(self, rows: Ints, frauds: Ints | None = None) -> Floats:
        """Raw features of the payments at these positions, (n_rows, n_raw), point in time; `frauds` as in `history`."""
        return raw_matrix(self.history(frauds), rows, self.fields.catalogue, self.fields.config)

    def without(self, gone: Bools) -> "World":
        """The same world if these payments had never happened."""
        return replace(self, transactions=self.transactions.take(~gone), fraud=self.fraud[~gone])


def load(name: str, folder: Path, seed: int = 7) -> World:
    """A world by its name: a file of the folder, or drawn by a seed, of which files take no notice."""
    if name in FILES:
        path = require(folder / FILES[name], f"the payments of the world {name}")
        return {"handbook": handbook, "ecommerce": ecommerce, "sparkov": sparkov}[name](path)
    return DRAWN[name](seed)


def handbook(path: Path, date: str = HANDBOOK_TEST) -> World:
    """The Handbook's payments; 60 days of mature history, 7 test days; tuned on 06-20 to 07-17, reported on 07-18 to 08-14."""
    table = pd.read_parquet(path)
    day = _day(date)
    return _from_table(
        "handbook",
        table,
        Fields(("customer_id", "terminal_id")),
        day - 67 * DAY,
        (day, day + 7 * DAY),
        chosen=(_day("2018-06-20"), _day("2018-07-18")),
        reported=(_day("2018-07-18"), _day("2018-08-15")),
    )


def ecommerce(path: Path) -> World:
    """Payments of 60 days; tuned on days 28 to 41, reported on days 42 to 59, for which the whole past is trained on."""
    return _from_file("ecommerce", path, 28, 42, 60, others=("domain",))


def sparkov(path: Path) -> World:
    """Payments of 212 days; tuned on days 120 to 150, reported on days 151 to 211."""
    return _from_file("sparkov", path, 120, 151, 212)


def simulated(seed: int = 7) -> World:
    """280,000 payments of 98 days with reviewers, as first stored; tuned on days 56 to 69, reported on days 70 to 97."""
    with tempfile.TemporaryDirectory(prefix="fraudwatch-worlds-") as folder:
        paths = simulate(98, seed, Path(folder), reviewers=True, truth=True).paths
        table, fields = pd.read_parquet(paths["transactions"]), proposed(paths["transactions"])
        truth = pd.read_parquet(paths["truth"])
    table = table[table["kind"] == "payment"].merge(truth, on="transaction_id", how="left", validate="1:1")
    return _of_days("simulate", table, fields, 56, 70, 98)


def proposed(path: Path) -> Fields:
    """The fields that `fraudwatch init --from` proposes for a file."""
    schema = tomllib.loads(propose(path, time.time_ns() // 1000).toml)["schema"]
    return Fields(tuple(schema["entities"]), tuple(schema["numeric"]), tuple(schema["categorical"]))


def _from_file(
    name: str, path: Path, chosen: int, reported: int, end: int, others: Sequence[str] = ()
) -> World:
    """A world of a file; `others` are columns that are in it, but not among the fields that are proposed."""
    table = pd.read_parquet(path)
    world = _of_days(name, table, proposed(path), chosen, reported, end)
    table = table.sort_values(["event_time", "transaction_id"])
    columns = {**world.transactions.columns, **{other: _coded(table[other]) for other in others}}
    return replace(world, transactions=replace(world.transactions, columns=columns))


def _of_days(name: str, table: pd.DataFrame, fields: Fields, chosen: int, reported: int, end: int) -> World:
    """A world whose weeks are given as days since its first one."""
    first = int(table["event_time"].min().floor("D").value // 1000)
    weeks = [
        (first + begin * DAY, first + until * DAY) for begin, until in ((chosen, reported), (reported, end))
    ]
    return _from_table(name, table, fields, first, weeks[1], *weeks)


def _from_table(
    name: str, table: pd.DataFrame, fields: Fields, begin: int, test: Days, chosen: Days, reported: Days
) -> World:
    """A world of a table in the columns of [schema], `begin` µs the first day that is trained on."""
    table = table.sort_values(["event_time", "transaction_id"])
    rows, fraud = transactions_of(table, fields), table["is_fraud"].to_numpy() == 1
    return World(name, rows, fraud, fields, test[0], test[0] - begin, test[1], chosen, reported)


def transactions_of(table: pd.DataFrame, fields: Fields) -> Transactions:
    """The payments of a table in the order of time."""
    time_of = table["event_time"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    names = (*fields.entities, *fields.categorical)
    return _transactions(
        time_of,
        np.rint(table["amount"].to_numpy() * MONEY).astype(np.int64),
        {column: _coded(table[column]) for column in names},
        {column: table[column].to_numpy(dtype=np.float64, na_value=np.nan) for column in fields.numeric},
    )


def _coded(column: pd.Series) -> Coded:
    codes, values = pd.factorize(column)
    return Coded(codes.astype(np.int32), np.asarray(values).astype(str).astype(object))


def _day(date: str) -> int:
    return int(pd.Timestamp(date, tz="UTC").value // 1000)


def anomalous(seed: int = 1) -> World:
    """Fraud breaks habits."""
    return _simulated("anomalous", seed, days=111, per_day=2000, frauds=1600, customers=2000)


def hidden(seed: int = 1) -> World:
    """Fraud looks usual, but for where and when."""
    return _simulated("hidden", seed, days=111, per_day=2000, frauds=1600, customers=2000)


def extreme(seed: int = 1) -> World:
    """100 frauds among 2 million payments; a third of the days are for testing, so that there are frauds to find."""
    return _simulated(
        "extreme", seed, days=150, per_day=13_333, frauds=100, customers=12_000, span=105, test=45
    )


REVIEWED_DAYS = 154


def reviewed(seed: int = 1) -> ReviewedWorld:
    """46,000 payments from START on, 550 of them fraud unless a team stops some: stolen cards, takeovers, tests, shops."""
    rng = np.random.default_rng(seed)
    payments = draw_payments(
        rng, START, REVIEWED_DAYS, per_day=300, customers=600, fraud_rate=0.012, drift=False
    )
    return ReviewedWorld.draw(rng, payments)


SIMULATED = {"anomalous": anomalous, "hidden": hidden, "extreme": extreme}
DRAWN: dict[str, Callable[[int], World]] = {"simulate": simulated, **SIMULATED}
WORLDS = (*FILES, *DRAWN)
TABLES = {1: "Without labels", 3: "With labels"}


FIELDS = Fields(("customer_id", "merchant_id"), (), ("channel", "country"))


def _simulated(
    name: str,
    seed: int,
    days: int,
    per_day: int,
    frauds: int,
    customers: int,
    span: int = 67,
    test: int = 14,
) -> World:
    rng = np.random.default_rng(seed)
    world = build_world(rng, START, days, customers)
    usual = draw_genuine(rng, world, days * per_day - frauds)
    usual = usual.take(~usual.declined)
    made = (_hides if name == "hidden" else _breaks_habits)(rng, draw_genuine(rng, world, frauds), world)
    payments = join([usual, made])
    payments = payments.take(np.argsort(payments.time, kind="stable"))
    date = START + (days - test) * DAY
    end = START + days * DAY
    return World(
        name,
        _as_transactions(payments),
        payments.pattern >= 0,
        FIELDS,
        date,
        span * DAY,
        end,
        chosen=(date - test * DAY, date),
        reported=(date, end),
    )


def _breaks_habits(rng: Generator, payments: Payments, world: object) -> Payments:
    """Some twelve times what this customer pays there, mostly online, half of it from another country."""
    n = len(payments)
    amount = usual_amount(rng, world, payments.customer, payments.merchant) * np.exp(rng.normal(2.5, 0.6, n))  # type: ignore[arg-type]
    far = rng.random(n) < 0.5
    return replace(
        payments,
        channel=np.where(rng.random(n) < 0.7, WEB, payments.channel),
        country=np.where(far, rng.integers(0, len(COUNTRIES), n), payments.country),
        cents=to_cents(amount),
        declined=np.zeros(n, dtype=bool),
        pattern=np.zeros(n, dtype=np.int64),
    )


CARELESS = 12  # shops where fraud that hides takes place


def _hides(rng: Generator, payments: Payments, world: object) -> Payments:
    """What the customer usually pays, online at night, nine in ten at a few shops of middling size."""
    n = len(payments)
    size = np.argsort(-world.popularity)  # type: ignore[attr-defined]
    shops = size[len(size) // 10 : len(size) // 10 + CARELESS]
    merchant = np.where(rng.random(n) < 0.9, shops[rng.integers(0, CARELESS, n)], payments.merchant)
    day = payments.time // DAY * DAY
    night = day + (rng.random(n) * DAY / 4).astype(np.int64) // 1_000_000 * 1_000_000
    return replace(
        payments,
        time=np.where(rng.random(n) < 0.7, night, payments.time),
        merchant=merchant,
        channel=np.where(rng.random(n) < 0.8, WEB, payments.channel),
        cents=to_cents(usual_amount(rng, world, payments.customer, merchant)),  # type: ignore[arg-type]
        declined=np.zeros(n, dtype=bool),
        pattern=np.zeros(n, dtype=np.int64),
    )


def _as_transactions(payments: Payments) -> Transactions:
    entities = {"customer_id": payments.customer, "merchant_id": payments.merchant}
    fields = {"channel": (payments.channel, CHANNELS), "country": (payments.country, COUNTRIES)}
    numbered = {name: (codes, np.arange(codes.max() + 1).astype(str)) for name, codes in entities.items()}
    columns = {
        name: Coded(codes.astype(np.int32), np.array(values, dtype=object))
        for name, (codes, values) in (numbered | fields).items()
    }
    return _transactions(payments.time, payments.cents * (MONEY // 100), columns, {})


def _transactions(
    time_of: Ints, amount: Ints, columns: dict[str, Coded], numeric: dict[str, Floats]
) -> Transactions:
    """In the order of time; ids are numbered so that ties keep their order."""
    ids = np.char.zfill(np.arange(len(time_of)).astype(str), 8).astype(object)
    return Transactions(ids, time_of, time_of.copy(), amount, columns, numeric)


def main(argv: list[str] | None = None) -> int:
    """Print the tables of `benchmarks.world_tables` for the worlds; 1 if a bar is missed."""
    from benchmarks import world_tables

    args = _arguments(argv)
    names = args.world or WORLDS
    for name in names:
        if name in FILES:
            require(args.folder / FILES[name], f"the payments of the world {name}")
    missed = False
    with ProcessPoolExecutor(args.processes) as pool:
        for table in (args.table,) if args.table else TABLES:
            print(f"\n{TABLES[table]}, average precision in the test days", flush=True)
            rows = []
            for row in pool.map(partial(_row, args, table), names):
                print(f"\n{row.text}", flush=True)
                rows.append(row)
            missed |= (world_tables.bars_unlabelled if table == 1 else world_tables.bars_labelled)(rows)
    return int(missed)


def _row(args: argparse.Namespace, table: int, name: str) -> "world_tables.Row":
    from benchmarks import world_tables

    world = load(name, args.folder)
    world = world.testing(world.chosen if args.chosen else world.reported)
    return world_tables.row_unlabelled(world, args.seeds) if table == 1 else world_tables.row_labelled(world)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help=f"where {', '.join(FILES.values())} are")
    parser.add_argument("--world", action="append", choices=WORLDS, help="only this; repeat for more")
    parser.add_argument("--table", type=int, choices=TABLES, help="1 without labels, 3 with them")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="worlds side by side")
    parser.add_argument("--chosen", action="store_true", help="on the weeks to tune on")
    parser.add_argument("--seeds", type=int, default=3, help="of the detectors without labels (default 3)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
