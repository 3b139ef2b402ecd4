"""
Payments to choose a strategy in: the Handbook's, and three simulated worlds that differ in what fraud looks like.

    handbook    1.3 million simulated card payments; large amounts, stolen cards, compromised terminals
    anomalous   fraud breaks the customer's habits: several times the usual amount, from abroad
    hidden      fraud has usual amounts and usual customers, and gives itself away by a few shops and the hour
    extreme     2 million payments, 100 of them fraud, each about as unusual as in `anomalous`

and a fourth in which a team answers flags, so that what happens depends on the monitor: `reviewed`.

A world knows the truth. `Cell` is what a monitor of it may know: k frauds, all else silent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

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
from pipeline.simulation.simulate import draw_payments
from storage.frames import DAY, MONEY, Coded, Floats, Ints, Transactions

Bools = NDArray[np.bool_]

START = 20_089 * DAY  # 2025-01-01
HANDBOOK_TEST = "2018-08-08"


@dataclass(frozen=True)
class World:
    """Payments with the truth, and the date on which a model is trained for the days that follow."""

    name: str
    transactions: Transactions
    fraud: Bools  # (n,)
    date: int  # µs: training
    span: int  # µs before the date that training looks back
    until: int  # µs: end of the test days
    maturity: int  # µs until a fraud is known, and silence may be read

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

    def without(self, gone: Bools) -> "World":
        """The same world if these payments had never happened."""
        return replace(self, transactions=self.transactions.take(~gone), fraud=self.fraud[~gone])


def handbook(path: Path, date: str = HANDBOOK_TEST) -> World:
    """The Handbook's payments; 60 days of mature history, a delay of 7 days, 7 test days."""
    table = pd.read_parquet(path).sort_values(["event_time", "transaction_id"])
    seconds = table["event_time"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    entities = {name: pd.factorize(table[name])[0] for name in ("customer_id", "terminal_id")}
    amount = np.rint(table["amount"].to_numpy() * MONEY).astype(np.int64)
    rows = _transactions(seconds, amount, entities)
    day = int(pd.Timestamp(date, tz="UTC").value // 1000)
    return World("handbook", rows, table["is_fraud"].to_numpy() == 1, day, 67 * DAY, day + 7 * DAY, 7 * DAY)


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
    return World(
        name, _as_transactions(payments), payments.pattern >= 0, date, span * DAY, START + days * DAY, 7 * DAY
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
    rows = _transactions(
        payments.time,
        payments.cents * (MONEY // 100),
        {"customer_id": payments.customer, "merchant_id": payments.merchant},
    )
    fields = {"channel": (payments.channel, CHANNELS), "country": (payments.country, COUNTRIES)}
    columns = {
        name: Coded(codes.astype(np.int32), np.array(values, dtype=object))
        for name, (codes, values) in fields.items()
    }
    return replace(rows, columns={**rows.columns, **columns})


def _transactions(time: Ints, amount: Ints, entities: dict[str, Ints]) -> Transactions:
    """In the order of time; ids are numbered so that ties keep their order."""
    columns = {
        name: Coded(codes.astype(np.int32), np.arange(codes.max() + 1).astype(str).astype(object))
        for name, codes in entities.items()
    }
    ids = np.char.zfill(np.arange(len(time)).astype(str), 8).astype(object)
    return Transactions(ids, time, time.copy(), amount, columns)


def entities_of(rows: Transactions, names: Sequence[str] = ("customer_id",)) -> list[Floats]:
    """Codes of entity columns."""
    return [rows.columns[name].codes for name in names]
