"""
Simulates what becomes of payments: how they are paid, which begin as pending, and what is reported of them when nobody reviews.

A dispute comes by the way of paying: of a card after weeks, of a wallet after days, of a direct debit after a month or two.
Some disputes are not about fraud, and some customers call a payment of their own a fraud.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.random import Generator

from pipeline.simulation.economy import POS, WEB, Bools, Payments
from pipeline.simulation.fraud_patterns import TESTING
from storage.frames import DAY, FOREVER, HOUR, SECOND, Floats, Ints

METHODS = ("card", "wallet", "direct_debit")
CARD, WALLET, DEBIT = range(3)
WEB_SHARES, APP_SHARES = (
    (0.70, 0.18, 0.12),
    (0.40, 0.55, 0.05),
)  # of the methods; at the till everybody has a card
# Days until a dispute is known: median and spread of log-normal delays, and the longest one.
DELAYS = ((10.5, 0.6, 45.0), (3.0, 0.5, 14.0), (20.0, 0.35, 45.0))
MATURITY = {
    "wallet": "14d",
    "direct_debit": "45d",
}  # where it differs from the shipped 30d, which suits cards
PENDING = (0.03, 0.03, 1.0)  # share of remote payments that begin as pending, by method
FAILS = 0.08  # share of pending payments that are declined in the end
REPORTED, TESTING_REPORTED = 0.95, 0.6  # shares of frauds that are ever reported; tiny amounts are overlooked
CALLS = 0.15  # share of reports that are a call of the customer, in a third of the time
OTHER_DISPUTES = 0.0015  # share of genuine payments that are disputed
REFUNDED, FULLY = 0.015, 0.8  # shares of approved payments that are refunded, and of those in full

# Reason codes of fraud by method, and of other disputes with their shares and how often the merchant wins them.
FRAUD_REASONS = (("10.4", "4837"), ("unauthorised", "fraudulent"), ("MD01", "MD01"))
OTHER_REASONS = (("13.1", 0.3), ("4855", 0.15), ("13.2", 0.2), ("4841", 0.1), ("10.4", 0.25))
FRIENDLY = len(OTHER_REASONS) - 1  # the customer calls a payment of their own a fraud
WON = (0.3, 0.3, 0.4, 0.4, 0.6)
FRAUD_WON = 0.05
CODES = tuple(
    dict.fromkeys((*(code for pair in FRAUD_REASONS for code in pair), *(r for r, _ in OTHER_REASONS)))
)
SOURCES = ("chargeback", "customer", "review")
CHARGEBACK, CUSTOMER, REVIEW = range(3)
STAGES = ("dispute", "won", "lost")
DISPUTE, DISPUTE_WON, DISPUTE_LOST = range(3)
FRAUD, GENUINE, UNSTATED = 1, 0, -1  # what a row of a label file says; the reason says the rest


@dataclass(frozen=True)
class Reports:
    """Rows of label files, (k,); a position is that of the payment."""

    position: Ints
    known_at: Ints  # µs
    opened_at: Ints  # µs: when the report, or the dispute that this row ends, became known
    is_fraud: Ints  # FRAUD, GENUINE or UNSTATED
    source: Ints  # position in SOURCES
    reason: Ints  # position in CODES, −1: none
    stage: Ints  # position in STAGES, −1: none

    def __len__(self) -> int:
        return len(self.position)

    def take(self, rows: Ints | Bools) -> "Reports":
        """The reports at these rows."""
        return Reports(*(getattr(self, column.name)[rows] for column in fields(self)))


@dataclass(frozen=True)
class Outcomes:
    """What becomes of n payments if nobody reviews them."""

    method: Ints  # (n,) position in METHODS
    pending: Bools  # (n,) whether the first version says pending
    settled_at: Ints  # (n,) µs: when a pending payment is approved or declined
    approved: Bools  # (n,) in the end
    refunded_at: Ints  # (n,) µs, FOREVER without a refund
    refund_cents: Ints  # (n,)
    reports: Reports

    @property
    def reported(self) -> Bools:
        """(n,) payments that are reported as fraud, truly so or not."""
        fraud = np.zeros(len(self.method), dtype=bool)
        stated = (self.reports.is_fraud == FRAUD) | np.isin(self.reports.reason, FRAUD_CODES)
        fraud[self.reports.position[stated]] = True
        return fraud


FRAUD_CODES = [CODES.index(code) for code in dict.fromkeys(code for pair in FRAUD_REASONS for code in pair)]


def join_reports(*parts: Reports) -> Reports:
    """Concatenate reports, ordered by the time they become known."""
    joined = Reports(*(np.concatenate([getattr(p, c.name) for p in parts]) for c in fields(Reports)))
    return joined.take(np.lexsort((joined.position, joined.known_at)))


def draw_outcomes(rng: Generator, payments: Payments) -> Outcomes:
    """Draw what becomes of payments, which are in order of time."""
    n = len(payments)
    method = _methods(rng, payments)
    pending = (payments.channel != POS) & ~payments.declined & (rng.random(n) < np.array(PENDING)[method])
    wait = np.where(method == DEBIT, rng.uniform(48, 120, n), rng.uniform(1, 40, n)) * (HOUR // SECOND)
    approved = ~payments.declined & ~(pending & (rng.random(n) < FAILS))
    refunded = approved & (rng.random(n) < REFUNDED)
    refund_days, full = rng.uniform(6.0, 20.0, n), rng.random(n) < FULLY
    return Outcomes(
        method=method,
        pending=pending,
        settled_at=payments.time + np.rint(wait).astype(np.int64) * SECOND,
        approved=approved,
        refunded_at=np.where(refunded, payments.time + to_micros(refund_days), FOREVER),
        refund_cents=np.where(full, payments.cents, np.maximum(payments.cents // 2, 1)),
        reports=_draw_reports(rng, payments, method, approved),
    )


def to_micros(days: Floats) -> Ints:
    """Days as µs, in whole seconds."""
    return np.rint(days * (DAY // SECOND)).astype(np.int64) * SECOND


def _methods(rng: Generator, payments: Payments) -> Ints:
    draw = rng.random(len(payments))
    web = np.searchsorted(np.cumsum(WEB_SHARES[:-1]), draw, side="right")
    app = np.searchsorted(np.cumsum(APP_SHARES[:-1]), draw, side="right")
    remote = np.where(payments.channel == WEB, web, app)
    return np.where(payments.channel == POS, CARD, remote).astype(np.int64)


def _draw_reports(rng: Generator, payments: Payments, method: Ints, approved: Bools) -> Reports:
    """Reports of most frauds, and disputes of a few genuine payments; each dispute ends won or lost weeks later."""
    chance = np.where(payments.pattern == TESTING, TESTING_REPORTED, REPORTED)
    fraud = np.flatnonzero(approved & (payments.pattern >= 0) & (rng.random(len(payments)) < chance))
    genuine = np.flatnonzero(approved & (payments.pattern < 0) & (rng.random(len(payments)) < OTHER_DISPUTES))
    kind = rng.choice(len(OTHER_REASONS), len(genuine), p=[share for _, share in OTHER_REASONS])
    of_fraud = np.array([[CODES.index(code) for code in pair] for pair in FRAUD_REASONS])
    of_other = np.array([CODES.index(code) for code, _ in OTHER_REASONS])
    position = np.concatenate([fraud, genuine])
    by_call = (rng.random(len(position)) < CALLS) & (np.arange(len(position)) < len(fraud))
    reason = np.concatenate([of_fraud[method[fraud], rng.integers(0, 2, len(fraud))], of_other[kind]])
    known_at = payments.time[position] + to_micros(_delays(rng, method[position], by_call))
    disputes = Reports(
        position=position,
        known_at=known_at,
        opened_at=known_at,
        is_fraud=np.where(by_call, FRAUD, UNSTATED),
        source=np.where(by_call, CUSTOMER, CHARGEBACK),
        reason=np.where(by_call, -1, reason),
        stage=np.where(by_call, -1, DISPUTE),
    )
    won = rng.random(len(position)) < np.concatenate([np.full(len(fraud), FRAUD_WON), np.array(WON)[kind]])
    return join_reports(disputes, _ends(rng, disputes, won))


def _ends(rng: Generator, disputes: Reports, won: Bools) -> Reports:
    """How disputes end: rows without a reason, which concern the money only."""
    rows = np.flatnonzero(disputes.stage == DISPUTE)
    opened, n = disputes.take(rows), len(rows)
    return Reports(
        position=opened.position,
        known_at=opened.known_at + to_micros(rng.uniform(10.0, 40.0, n)),
        opened_at=opened.known_at,
        is_fraud=np.full(n, UNSTATED),
        source=opened.source,
        reason=np.full(n, -1),
        stage=np.where(won[rows], DISPUTE_WON, DISPUTE_LOST),
    )


def _delays(rng: Generator, method: Ints, by_call: Bools) -> Floats:
    median, spread, longest = np.array(DELAYS)[method].T
    days = median * rng.lognormal(0.0, 1.0, len(method)) ** spread
    return np.asarray(np.clip(np.where(by_call, days / 3.0, days), 0.2, longest))
