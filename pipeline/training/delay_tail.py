"""Frauds that mature payments still hide: the delay curve says how many reports are missing at a payment's age."""

from dataclasses import dataclass

import numpy as np

from detectors.evaluation.label_delay import DelayCurve, delay_curve, tail_weights
from pipeline.config.config import Config
from pipeline.features.history import History
from pipeline.features.label_history import Bools
from pipeline.training.answers import is_reported, reports_by_others
from storage.frames import DAY, FRAUD, Floats, Ints

REPORTS_MIN = 20  # with fewer reports, delays are not measured
NEVER_REPORTED = np.iinfo(np.int64).max
OTHERS = -1  # values of a field that labels.maturity_by does not name


@dataclass(frozen=True)
class FraudReports:
    """Frauds of a history that were reported by a date, and how late, (k,) each."""

    rows: Ints  # positions
    age: Floats  # days from the fraud to the date
    delay: Floats  # days from the fraud to its first report

    @property
    def curve(self) -> DelayCurve:
        """The distribution of report delays."""
        return delay_curve(self.delay, self.age)

    def take(self, chosen: Bools) -> "FraudReports":
        """Some of them."""
        return FraudReports(self.rows[chosen], self.age[chosen], self.delay[chosen])


def reports_of(history: History, date: int) -> FraudReports:
    """
    The frauds that had been reported by a date, each with its first report.

    Answers of reviewers and of the audit sample are left out: they come within days, and say nothing of how long a customer or a bank takes.
    """
    labels, times = history.labels, history.transactions.event_time
    is_report = reports_by_others(history) & (labels.available_at <= date)
    rows, available_at = history.label_positions[is_report], labels.available_at[is_report]
    first = np.full(len(times), NEVER_REPORTED)
    np.minimum.at(first, rows[rows >= 0], available_at[rows >= 0])
    frauds = np.flatnonzero((first < NEVER_REPORTED) & (times <= date))
    delay = np.maximum(first[frauds] - times[frauds], 0)
    return FraudReports(frauds, (date - times[frauds]) / DAY, delay / DAY)


def weights(config: Config, history: History, date: int, rows: Ints, y: Floats) -> Floats:
    """
    How many payments each mature row stands for, (n,), if the delay curve expects more reports; 1 where it does not.

    With F the share of frauds that are reported within an age (`detectors.evaluation.label_delay`), measured at `date`, a
    reported fraud of age a stands for 1 / F(a) frauds, and genuine rows for so many fewer that the total stays. Each value of
    `labels.maturity_by` has its own curve if it has `REPORTS_MIN` reports, the others share one. Frauds that only a review or
    audit found do not count: nobody has to report them.

    Limits: F is measured among frauds reported within the longest delay that was observed, so what is reported later still is
    not seen; it supposes that delays stay as they were. Missing frauds are taken to look like the reported ones.

    Parameters
    ----------
    rows
        Positions of the mature rows.
    y
        Their labels.
    """
    weight = np.ones(len(rows))
    reports = reports_of(history, date)
    if len(reports.rows) < REPORTS_MIN:
        return weight
    group = maturity_groups(config, history)
    age = (date - history.transactions.event_time[rows]) / DAY
    reported = (y == FRAUD) & is_reported(history, date)[rows]
    for code in np.unique(group[rows]):
        own = reports.take(group[reports.rows] == code)
        curve = (own if len(own.rows) >= REPORTS_MIN else reports).curve
        inside = group[rows] == code
        weight[inside] = tail_weights(curve, age[inside], reported[inside], (y == 0)[inside])
    return weight


def maturity_groups(config: Config, history: History) -> Ints:
    """Codes of the values that `labels.maturity_by` names, (n,), and `OTHERS`; all `OTHERS` if it is empty."""
    group = np.full(len(history), OTHERS, dtype=np.int64)
    for name, spans in config.labels.maturity_by.items():
        column = history.transactions.columns[name]
        named = np.append(np.isin(column.values.astype(str), list(spans)), False)
        group = np.where(named[column.codes], column.codes, OTHERS).astype(np.int64)
    return group
