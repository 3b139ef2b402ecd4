"""
Simulates transactions and delayed labels (`fraudwatch simulate`) with the columns of the shipped [schema].

The labels are those of an export at the end of the simulated days: chargebacks known by then, frauds only, a few of
them later reversed; with reviewers also their verdicts, and disputes that are not about fraud. The ground truth, which real
data does not have, is written only on request.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator

from pipeline.errors import InputError
from pipeline.simulation import tables
from pipeline.simulation.economy import (
    Bools,
    Payments,
    World,
    apply_drift,
    build_world,
    draw_genuine,
    join,
)
from pipeline.simulation.fraud_patterns import PATTERNS, TESTING, draw_attacks, draw_sprees
from pipeline.simulation.outcomes import MATURITY
from pipeline.simulation.reviewed import ReviewedWorld
from pipeline.simulation.reviewers import earlier_team
from pipeline.simulation.tables import Format
from storage.frames import DAY, SECOND, Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa

START = date(2025, 1, 1)  # a Wednesday
FRAUD_RATE = 0.004
SPREES = 0.0012  # genuine shopping sprees per payment: as many as attacks
DELAY_MEDIAN, DELAY_SPREAD, DELAY_MAX = 10.5, 0.6, 45.0  # days; log-normal: 4 in 100 take longer than 30
REFUNDED, FRAUD_REFUNDED = 0.015, 0.05  # shares of approved payments


@dataclass(frozen=True)
class SimulationResult:
    """The files that were written, and the counts of their rows."""

    paths: dict[str, Path]  # "transactions", "labels", with reviewers "updates" and, on request, "truth"
    counts: dict[str, int]

    def sentence(self) -> str:
        """Summarize the result in one sentence, and with reviewers in a second one."""
        counts = {name: f"{count:,}" for name, count in self.counts.items()}
        files = " and ".join(str(path) for path in self.paths.values())
        text = (
            f"{counts['transactions']} transactions ({counts['refunds']} refunds), "
            f"{counts['frauds']} of them fraud, {counts['labels']} labels known by the end: {files}"
        )
        return text if "verdicts" not in counts else f"{text}\n{_reviewed_sentence(counts)}"


def simulate(
    days: int,
    seed: int,
    output: Path,
    *,
    format: Format = "parquet",  # noqa: A002 (the option's name)
    start: date = START,
    fraud_rate: float = FRAUD_RATE,
    per_day: int = 3000,
    customers: int = 2000,
    drift: bool = False,
    truth: bool = False,
    reviewers: bool = False,
) -> SimulationResult:
    """
    Write `transactions.*` and `labels.*` to a directory; equal arguments give equal bytes.

    Parameters
    ----------
    days, start
        The simulated days, from midnight UTC of `start`; labels known later are not written.
    output
        A directory, created if necessary; existing files of these names are replaced.
    fraud_rate
        Approximate share of payments that are fraud.
    drift
        Whether amounts and channels change in the last third of the days.
    truth
        Whether to write the ground truth to `truth.*`, too: transaction_id, is_fraud, pattern.
    reviewers
        Whether a team has answered the flags of a simple monitor: what it stopped is not charged back, and the cards fall
        silent. Then there are disputes of all kinds and ways of paying, and `updates.*` has the later versions of payments
        that began as pending.

    Raises
    ------
    InputError
        If an argument is out of range or the directory cannot be created.
    """
    _check(days, fraud_rate, per_day, customers, format)
    rng = np.random.default_rng(seed)
    first = int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * SECOND
    payments = draw_payments(rng, first, days, per_day, customers, fraud_rate, drift)
    columns, counts = (_reviewed if reviewers else _unreviewed)(rng, payments, first, days)
    if not truth:
        del columns["truth"]
    return SimulationResult(tables.write(columns, output, format), counts)


def draw_payments(
    rng: Generator, start: int, days: int, per_day: int, customers: int, fraud_rate: float, drift: bool
) -> Payments:
    """Draw genuine payments and fraud of `days` from `start` (µs) on, in order of time."""
    world = build_world(rng, start, days, customers)
    return _payments(rng, world, per_day * days, fraud_rate, drift)


def _unreviewed(
    rng: Generator, payments: Payments, start: int, days: int
) -> tuple[dict[str, "pa.Table"], dict[str, int]]:
    """The tables of a world without reviewers, and their counts."""
    end = start + days * DAY
    rows = _with_refunds(rng, payments, end)
    labels = _labels(rng, payments, rows, end)
    columns = {
        "transactions": _transaction_table(rows),
        "labels": _label_table(labels),
        "truth": _truth_table(
            tables.ids("T", np.arange(len(rows.payments)), 9),
            np.where(rows.original < 0, rows.payments.pattern, -1),
        ),
    }
    return columns, _counts(rows, labels)


def _reviewed(
    rng: Generator, payments: Payments, start: int, days: int
) -> tuple[dict[str, "pa.Table"], dict[str, int]]:
    """The tables of a world whose flags a team has answered, and their counts."""
    world = ReviewedWorld.draw(rng, payments)
    verdicts = earlier_team(payments, world.answers, start, days)
    rows = world.rows(verdicts, start, start + days * DAY)
    paid = rows.paid
    columns = {
        "transactions": rows.transactions,
        "updates": rows.updates,
        "labels": rows.labels,
        "truth": _truth_table(tables.ids("T", paid, 9), payments.pattern[paid]),
    }
    return columns, rows.counts


def _reviewed_sentence(counts: dict[str, str]) -> str:
    maturity = ", ".join(f'{method} = "{age}"' for method, age in MATURITY.items())
    return (
        f"A team gave {counts['verdicts']} verdicts, {counts['fraud_verdicts']} of them fraud; {counts['updates']} payments that began as "
        f'pending have a later version. Settings for it: schema.categorical with "method", labels.maturity_by = {{method = {{{maturity}}}}}'
    )


@dataclass(frozen=True)
class _SimulatedRows:
    """Payments and refunds in order of time; the position of a row is its id."""

    payments: Payments
    original: Ints  # position of the refunded payment, −1 for payments
    position: Ints  # of each payment among the rows


@dataclass(frozen=True)
class _SimulatedLabels:
    position: Ints
    is_fraud: Bools
    known_at: Ints  # µs
    by_customer: Bools


def _check(days: int, fraud_rate: float, per_day: int, customers: int, format_: str) -> None:
    ranges = {"days": (days, 1, 3660), "per_day": (per_day, 10, 10**6), "customers": (customers, 50, 10**6)}
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise InputError(f"simulate: {name} must be {low} to {high}, got {value}")
    if not 0 <= fraud_rate <= 0.2:
        raise InputError(f"simulate: the fraud rate must be 0 to 0.2, got {fraud_rate}")
    if format_ not in ("parquet", "csv"):
        raise InputError(f'simulate: the format must be parquet or csv, got "{format_}"')


def _payments(rng: Generator, world: World, n: int, fraud_rate: float, drift: bool) -> Payments:
    n_frauds, n_sprees = round(n * fraud_rate), round(n * SPREES)
    sprees = draw_sprees(rng, world, max(1, n_sprees))
    parts = [sprees, draw_genuine(rng, world, max(1, n - n_frauds - len(sprees)))]
    if n_frauds:
        parts.append(draw_attacks(rng, world, n_frauds))
    payments = join(parts)
    payments = payments.take(
        payments.time < world.start + world.days * DAY
    )  # some attacks go on after the end
    payments = apply_drift(world, payments, rng) if drift else payments
    return payments.take(np.argsort(payments.time, kind="stable"))


def _with_refunds(rng: Generator, payments: Payments, end: int) -> _SimulatedRows:
    """Add full or half refunds some days after a few of the approved payments."""
    fraud = payments.pattern >= 0
    chance = np.where(fraud, FRAUD_REFUNDED, REFUNDED)
    refunded = np.flatnonzero(~payments.declined & (rng.random(len(payments)) < chance))
    refunds = payments.take(refunded)
    n = len(refunds)
    later = refunds.time + np.rint(rng.uniform(0.5, 14.0, n) * (DAY // SECOND)).astype(np.int64) * SECOND
    cents = np.where(rng.random(n) < 0.8, refunds.cents, np.maximum(refunds.cents // 2, 1))
    refunds = Payments(**{**vars(refunds), "time": later, "cents": cents, "device": np.full(n, -1)})
    in_span = later < end
    both = join([payments, refunds.take(in_span)])
    original = np.concatenate([np.full(len(payments), -1), refunded[in_span]])
    order = np.argsort(both.time, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    moved = np.where(original >= 0, place[original], -1)
    return _SimulatedRows(both.take(order), moved[order], place[: len(payments)])


def _labels(rng: Generator, payments: Payments, rows: _SimulatedRows, end: int) -> _SimulatedLabels:
    """Label most approved frauds, and a few genuine payments whose chargeback is later reversed."""
    settled = ~payments.declined
    chance = np.where(payments.pattern == TESTING, 0.6, 0.95)  # tiny amounts are overlooked
    reported = np.flatnonzero(settled & (payments.pattern >= 0) & (rng.random(len(payments)) < chance))
    disputed = np.flatnonzero(settled & (payments.pattern < 0))
    disputed = rng.choice(disputed, round(0.02 * len(reported)), replace=False)
    reported_rows = np.concatenate([reported, disputed])
    by_customer = rng.random(len(reported_rows)) < 0.15
    known = payments.time[reported_rows] + _days(_delay(rng, by_customer))
    reversed_at = known[len(reported) :] + _days(rng.uniform(5.0, 20.0, len(disputed)))
    labels = _SimulatedLabels(
        position=rows.position[np.concatenate([reported_rows, disputed])],
        is_fraud=np.repeat([True, False], [len(reported_rows), len(disputed)]),
        known_at=np.concatenate([known, reversed_at]),
        by_customer=np.concatenate([by_customer, by_customer[len(reported) :]]),
    )
    order = np.lexsort((labels.position, labels.known_at))
    order = order[labels.known_at[order] < end]  # an export does not contain later labels
    return _SimulatedLabels(*(column[order] for column in vars(labels).values()))


def _delay(rng: Generator, by_customer: Bools) -> Floats:
    """Draw the days until a fraud is known: by chargeback, or sooner by a call of the customer."""
    days = DELAY_MEDIAN * rng.lognormal(0.0, DELAY_SPREAD, len(by_customer))
    return np.clip(np.where(by_customer, days / 3.0, days), 0.2, DELAY_MAX)


def _days(days: Floats) -> Ints:
    return np.rint(days * (DAY // SECOND)).astype(np.int64) * SECOND


def _counts(rows: _SimulatedRows, labels: _SimulatedLabels) -> dict[str, int]:
    fraud = (rows.payments.pattern >= 0) & (rows.original < 0)
    return {
        "transactions": len(rows.payments),
        "payments": int((rows.original < 0).sum()),
        "refunds": int((rows.original >= 0).sum()),
        "declined": int(rows.payments.declined.sum()),
        "frauds": int(fraud.sum()),
        "labels": len(labels.position),
        **{
            f"frauds_{name}": int((fraud & (rows.payments.pattern == n)).sum())
            for n, name in enumerate(PATTERNS)
        },
    }


def _transaction_table(rows: _SimulatedRows) -> "pa.Table":
    status = np.where(rows.payments.declined & (rows.original < 0), 1, 0)
    ids = tables.ids("T", np.arange(len(rows.payments)), 9)
    return tables.transaction_table(
        rows.payments, ids, rows.original, tables.names(("approved", "declined"), status)
    )


def _label_table(labels: _SimulatedLabels) -> "pa.Table":
    import pyarrow as pa

    return pa.table(
        {
            "transaction_id": tables.ids("T", labels.position, 9),
            "is_fraud": pa.array(labels.is_fraud.astype(np.int64)),
            "known_at": tables.instants(labels.known_at),
            "source": tables.names(("chargeback", "customer"), labels.by_customer.astype(np.int64)),
        }
    )


def _truth_table(transaction_id: "pa.Array", pattern: Ints) -> "pa.Table":
    import pyarrow as pa

    return pa.table(
        {
            "transaction_id": transaction_id,
            "is_fraud": pa.array((pattern >= 0).astype(np.int64)),
            "pattern": tables.names(("", *PATTERNS), pattern + 1),
        }
    )
