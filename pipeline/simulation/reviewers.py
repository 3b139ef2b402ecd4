"""
Simulates a team of reviewers: which flags they answer, what they say, and what never happens because of it.

Verdicts exist on flags only. A payment whose flag is answered as fraud is stopped: it is blocked or refunded, so it is never
charged back, and its card falls silent. All functions are pure: whatever the order of calls, the same flags get the same
answers at the same times.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from pipeline.simulation.economy import DEVICES_PER_CUSTOMER, POS, Bools, Payments
from pipeline.simulation.outcomes import FRAUD, GENUINE, REVIEW, Reports, to_micros
from storage.frames import DAY, FOREVER, Floats, Ints

ANSWERED = 0.6  # share of flags that are answered
WRONG = 0.1  # share of the answers that are wrong
ANSWER_DAYS = 1.5  # mean time from a flag to its answer
FLAGS_PER_PAYMENT = 1 / 200  # of the simple monitor that a simulated team has worked with
STRANGE_DEVICE = 1.5  # what a device that is not the customer's adds there to the log of an amount


@dataclass(frozen=True)
class Answers:
    """What reviewers would say of each of n payments if it were flagged."""

    answered: Bools
    says_fraud: Bools
    delay: Ints  # µs from the flag


@dataclass(frozen=True)
class FlagAnswers:
    """Verdicts, (k,), in order of time."""

    position: Ints  # of the payment
    at: Ints  # µs
    is_fraud: Bools

    @property
    def reports(self) -> Reports:
        """The verdicts as rows of a label file."""
        none = np.full(len(self.at), -1)
        is_fraud = np.where(self.is_fraud, FRAUD, GENUINE)
        return Reports(self.position, self.at, self.at, is_fraud, np.full(len(self.at), REVIEW), none, none)


def draw_answers(rng: Generator, fraud: Bools) -> Answers:
    """
    Draw the answers in advance, so that they depend on no flag.

    Parameters
    ----------
    fraud
        (n,) the truth.
    """
    n = len(fraud)
    wrong = rng.random(n) < WRONG
    return Answers(rng.random(n) < ANSWERED, fraud ^ wrong, to_micros(rng.exponential(ANSWER_DAYS, n)))


def answer(answers: Answers, flagged: Ints, flagged_at: Ints) -> FlagAnswers:
    """The verdicts on flags on the payments at these positions, raised at these instants (µs)."""
    given = answers.answered[flagged]
    position, at = flagged[given], flagged_at[given] + answers.delay[flagged[given]]
    order = np.lexsort((position, at))
    return FlagAnswers(position[order], at[order], answers.says_fraud[position[order]])


def stopped_at(n: int, verdicts: FlagAnswers) -> Ints:
    """When each of n payments was stopped, (n,) µs; FOREVER for most."""
    stopped = np.full(n, FOREVER)
    frauds = verdicts.position[verdicts.is_fraud]
    np.minimum.at(stopped, frauds, verdicts.at[verdicts.is_fraud])
    return stopped


def happening(payments: Payments, verdicts: FlagAnswers) -> Bools:
    """Which payments happen, (n,): none of a card from the moment on at which one of its payments was stopped."""
    return payments.time < _silent_from(payments, verdicts)[payments.card]


def earlier_team(
    payments: Payments, answers: Answers, start: int, days: int, share: float = FLAGS_PER_PAYMENT
) -> FlagAnswers:
    """
    The verdicts of a team that works with a simple monitor: every day it flags the most unusual remote payments.

    They are large against the mean of the customer's earlier ones, or from a strange device. A card that was stopped raises no more flags.

    Parameters
    ----------
    share
        Of a day's payments that are flagged.
    """
    unusual = _unusualness(payments)
    flagged, flagged_at = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for end in range(start + DAY, start + days * DAY + 1, DAY):
        rows = np.arange(*np.searchsorted(payments.time, [end - DAY, end]))
        silent_from = _silent_from(payments, answer(answers, flagged, flagged_at))
        rows = rows[payments.time[rows] < silent_from[payments.card[rows]]]
        most = rows[np.argsort(-unusual[rows], kind="stable")][: round(len(rows) * share)]
        flagged = np.concatenate([flagged, most])
        flagged_at = np.concatenate([flagged_at, np.full(len(most), end)])
    return answer(answers, flagged, flagged_at)


def _silent_from(payments: Payments, verdicts: FlagAnswers) -> Ints:
    """(n_cards,) µs: when each card falls silent; FOREVER for most."""
    silent_from = np.full(int(payments.card.max(initial=0)) + 1, FOREVER)
    cards = payments.card[verdicts.position[verdicts.is_fraud]]
    np.minimum.at(silent_from, cards, verdicts.at[verdicts.is_fraud])
    return silent_from


def _unusualness(payments: Payments) -> Floats:
    """(n,) what the simple monitor ranks by; −inf at the till and for declined payments."""
    order = np.argsort(payments.customer, kind="stable")
    log = np.log(payments.cents[order])
    first = np.searchsorted(payments.customer[order], payments.customer[order])
    sums = np.concatenate(([0.0], np.cumsum(log)))
    earlier = np.arange(len(order)) - first
    mean = (sums[:-1] - sums[first]) / np.maximum(earlier, 1)
    unusual = np.empty(len(order))
    unusual[order] = np.where(earlier > 0, log - mean, 0.0)
    own = payments.device // DEVICES_PER_CUSTOMER == payments.customer
    unusual += STRANGE_DEVICE * ((payments.device >= 0) & ~own)
    return np.where((payments.channel == POS) | payments.declined, -np.inf, unusual)
