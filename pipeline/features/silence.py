"""
Where silence (no label) may mean that a payment was genuine, by what was known at an instant.

A declined payment is never charged back, whatever it was; nor is one that was refunded in full, or that a reviewer stopped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from storage.frames import Coded, Ints, Strings, Transactions
from storage.ingest.payment_changes import PaymentChanges

Bools = NDArray[np.bool_]

RATES_DIFFER = 0.1  # of the amount: a refund is converted to the base currency by the rate of another day


@dataclass(frozen=True)
class Silence:
    """
    What decides on silence about n payments.

    `never` are `labels.never_by_silence`: values of columns with which silence never means genuine. `load` reads what
    became of the payments after their first version; it is called when that is first asked for.
    """

    payments: Transactions
    never: Mapping[str, Sequence[str]]
    base_currency: str
    load: Callable[[], PaymentChanges]

    @cached_property
    def by_first_version(self) -> Bools:
        """Where silence may mean genuine by the first version of each payment, (n,)."""
        return _by_columns(self.payments.columns, len(self.payments), self.never)

    def at(self, instant: int) -> Bools:
        """Where silence may mean genuine by what was known at an instant, (n,)."""
        happened, ended = self._parts_at(instant)
        return happened & ~ended

    def censored_at(self, instant: int) -> Bools:
        """Where only a refund in full or a stop keeps silence from meaning genuine, by what was known at an instant, (n,)."""
        happened, ended = self._parts_at(instant)
        return happened & ended

    def _parts_at(self, instant: int) -> tuple[Bools, Bools]:
        """Which payments happened by their newest version, and which were refunded in full or stopped, (n,) each."""
        happened, amount = self.by_first_version.copy(), self.payments.amount
        revisions, (revised, refunded, stopped) = self._changes.revisions, self._positions
        known = np.flatnonzero((revisions.known_from <= instant) & (revised >= 0))
        if len(known):
            newest = known[_last_of_each(revised[known])]
            amount = amount.copy()
            amount[revised[newest]] = revisions.amount[newest]
            happened[revised[newest]] = _by_columns(revisions.columns, len(revised), self.never)[newest]
        ended = self._refunded_in_full(amount, refunded, instant)
        ended[self._stopped_at(stopped, instant)] = True
        return happened, ended

    @cached_property
    def _changes(self) -> PaymentChanges:
        return self.load()

    @cached_property
    def _positions(self) -> list[Ints]:
        """Positions of the payments that revisions, refunds and stops are of; −1 for others."""
        import pandas as pd

        changes = self._changes
        of = (changes.revisions.transaction_id, changes.refunds.transaction_id, changes.stops.transaction_id)
        if not len(self.payments) or not sum(map(len, of)):
            return [np.full(len(ids), -1, dtype=np.int64) for ids in of]
        index = pd.Index(self.payments.transaction_id)
        return [index.get_indexer(pd.Index(ids)).astype(np.int64) for ids in of]

    def _refunded_in_full(self, amount: Ints, position: Ints, instant: int) -> Bools:
        refunds = self._changes.refunds
        known = np.flatnonzero((refunds.known_from <= instant) & (position >= 0))
        newest = known[_last_of_each(refunds.refund_id[known])]
        refunded = np.zeros(len(amount), dtype=np.int64)
        np.add.at(refunded, position[newest], refunds.amount[newest])
        if not len(newest):
            return refunded > 0
        currency = self.payments.columns["currency"]
        same_rate = np.append(currency.values.astype(str) == self.base_currency, True)[currency.codes]
        in_full = np.where(same_rate, amount, np.ceil(amount * (1 - RATES_DIFFER)))
        return (refunded > 0) & (refunded >= in_full)

    def _stopped_at(self, position: Ints, instant: int) -> Ints:
        """Positions of the payments that a verdict stopped which had not been retracted."""
        stops = self._changes.stops
        return position[(stops.at <= instant) & (instant < stops.retracted_at) & (position >= 0)]


def _by_columns(columns: Mapping[str, Coded], n: int, never: Mapping[str, Sequence[str]]) -> Bools:
    silent = np.ones(n, dtype=bool)
    for name, values in never.items():
        silent &= ~has_value(columns[name], values)
    return silent


def has_value(column: Coded, values: Sequence[str]) -> Bools:
    """Which rows of a column have one of the values, (n,)."""
    matching = np.isin(column.values.astype(str), list(values)) if len(column.values) else np.zeros(0, bool)
    return np.append(matching, False)[column.codes]


def _last_of_each(values: Ints | Strings) -> Bools:
    """Which values are the last of a run of equal ones, (n,)."""
    return np.append(values[1:] != values[:-1], True)[: len(values)]
