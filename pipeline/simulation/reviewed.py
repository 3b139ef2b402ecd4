"""
A simulated world with reviewers: the rows that arrive in a span of time, given the verdicts so far.

Whoever asks for the rows day by day and answers the flags on them lives through the feedback of a monitor on its own data:
stopped payments are never charged back, later payments of their cards never happen.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator

from pipeline.simulation import reviewers, tables
from pipeline.simulation.economy import Bools, Payments
from pipeline.simulation.outcomes import (
    CODES,
    FRAUD,
    GENUINE,
    METHODS,
    SOURCES,
    STAGES,
    Outcomes,
    Reports,
    draw_outcomes,
    join_reports,
)
from pipeline.simulation.reviewers import Answers, FlagAnswers
from storage.frames import FOREVER, Ints

if TYPE_CHECKING:
    import pyarrow as pa

APPROVED, DECLINED, IS_PENDING, BLOCKED = range(4)
STATUSES = ("approved", "declined", "pending", "blocked")


@dataclass(frozen=True)
class ReviewedWorld:
    """All payments that would happen without reviewers, in order of time, and what would become of them."""

    payments: Payments
    outcomes: Outcomes
    answers: Answers

    @classmethod
    def draw(cls, rng: Generator, payments: Payments) -> "ReviewedWorld":
        """Draw what becomes of payments and how their flags would be answered."""
        outcomes = draw_outcomes(rng, payments)
        return cls(payments, outcomes, reviewers.draw_answers(rng, payments.pattern >= 0))

    def __len__(self) -> int:
        return len(self.payments)

    @cached_property
    def fraud(self) -> Bools:
        """(n,) the truth."""
        return np.asarray(self.payments.pattern >= 0)

    @cached_property
    def transaction_ids(self) -> "pa.Array":
        """(n,) ids of the payments."""
        return tables.ids("T", np.arange(len(self)), 9)

    def rows(self, verdicts: FlagAnswers, start: int, end: int) -> "WorldRows":
        """Everything that arrives with start ≤ time < end, if these verdicts are all that have been given by `end`."""
        happens = reviewers.happening(self.payments, verdicts)
        stopped = reviewers.stopped_at(len(self), verdicts)
        settled = np.where(self.outcomes.pending & happens, self.outcomes.settled_at, FOREVER)
        blocked = self.outcomes.pending & (stopped <= settled)
        approved = self.outcomes.approved & happens & ~blocked
        refunded = np.where(approved, np.minimum(self.outcomes.refunded_at, stopped), FOREVER)
        cents = np.where(
            stopped <= self.outcomes.refunded_at, self.payments.cents, self.outcomes.refund_cents
        )
        whole = np.where(cents == self.payments.cents, refunded, FOREVER)
        reports = self.outcomes.reports
        comes = approved[reports.position] & (reports.opened_at < whole[reports.position])
        labels = join_reports(reports.take(comes), verdicts.reports)
        return WorldRows(
            world=self,
            paid=np.flatnonzero(happens & _inside(self.payments.time, start, end)),
            settled=np.flatnonzero(_inside(np.minimum(settled, stopped), start, end) & (settled < FOREVER)),
            blocked=blocked,
            refunded=np.flatnonzero(_inside(refunded, start, end)),
            refunded_at=refunded,
            refund_cents=cents,
            reports=labels.take(_inside(labels.known_at, start, end)),
        )


@dataclass(frozen=True)
class WorldRows:
    """Rows of a span: positions of payments that happen, that are settled and that are refunded, and reports."""

    world: ReviewedWorld
    paid: Ints
    settled: Ints
    blocked: Bools  # (n,) of all payments: pending ones that a reviewer stopped
    refunded: Ints
    refunded_at: Ints  # (n,) µs, of all payments
    refund_cents: Ints  # (n,)
    reports: Reports

    @property
    def transactions(self) -> "pa.Table":
        """First versions of payments, and refunds, in the columns of the shipped [schema] and `method`."""
        import pyarrow as pa

        outcomes = self.world.outcomes
        payments = self._payments(
            self.paid, np.where(outcomes.pending, IS_PENDING, np.where(outcomes.approved, APPROVED, DECLINED))
        )
        table = pa.concat_tables([payments, self._refunds()])
        return table.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")])

    @property
    def updates(self) -> "pa.Table":
        """Later versions of payments that began as pending."""
        approved = np.where(self.world.outcomes.approved, APPROVED, DECLINED)
        return self._payments(self.settled, np.where(self.blocked, BLOCKED, approved))

    @property
    def labels(self) -> "pa.Table":
        """Verdicts, calls and disputes, in the columns of the shipped [labels]."""
        import pyarrow as pa

        reports, world = self.reports, self.world
        disputed = pa.array(world.payments.cents[reports.position] / 100.0, mask=reports.stage < 0)
        stated = pa.array(np.maximum(reports.is_fraud, GENUINE), mask=reports.is_fraud < GENUINE)
        return pa.table(
            {
                "transaction_id": world.transaction_ids.take(pa.array(reports.position)),
                "is_fraud": stated,
                "known_at": tables.instants(reports.known_at),
                "source": tables.names(SOURCES, reports.source),
                "reason": tables.names(CODES, reports.reason),
                "stage": tables.names(STAGES, reports.stage),
                "amount": disputed,
            }
        )

    @property
    def counts(self) -> dict[str, int]:
        """Counts of the rows."""
        fraud = self.world.fraud[self.paid]
        return {
            "transactions": len(self.paid) + len(self.refunded),
            "payments": len(self.paid),
            "refunds": len(self.refunded),
            "updates": len(self.settled),
            "frauds": int(fraud.sum()),
            "labels": len(self.reports),
            "verdicts": int((self.reports.source == SOURCES.index("review")).sum()),
            "fraud_verdicts": int(
                ((self.reports.source == SOURCES.index("review")) & (self.reports.is_fraud == FRAUD)).sum()
            ),
        }

    def _payments(self, rows: Ints, status: Ints) -> "pa.Table":
        import pyarrow as pa

        world = self.world
        ids = world.transaction_ids.take(pa.array(rows))
        table = tables.transaction_table(
            world.payments.take(rows), ids, np.full(len(rows), -1), tables.names(STATUSES, status[rows])
        )
        return table.append_column("method", tables.names(METHODS, world.outcomes.method[rows]))

    def _refunds(self) -> "pa.Table":
        world, rows = self.world, self.refunded
        refunds = world.payments.take(rows)
        refunds = Payments(
            **{
                **vars(refunds),
                "time": self.refunded_at[rows],
                "cents": self.refund_cents[rows],
                "device": np.full(len(rows), -1),
            }
        )
        status = tables.names(STATUSES, np.full(len(rows), APPROVED))
        table = tables.transaction_table(refunds, tables.ids("R", rows, 9), rows, status)
        return table.append_column("method", tables.names(METHODS, world.outcomes.method[rows]))


def _inside(times: Ints, start: int, end: int) -> Bools:
    return (times >= start) & (times < end)
