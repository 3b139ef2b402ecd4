"""
Training set at a date: mature labels, answers about younger payments, unlabelled rows and the holdout.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation.prevalence import effective_among
from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.features.history import History, maturity_of
from pipeline.features.label_history import Bools, has_known_status, known_since, status_at
from pipeline.training import delay_tail
from pipeline.training.answers import bulk_of, is_answered
from storage.frames import FRAUD, GENUINE, Floats, Ints

Status = NDArray[np.int8]


@dataclass(frozen=True)
class Examples:
    """Labelled rows, as positions in the history, in time order."""

    rows: Ints
    y: Floats  # 1 fraud, 0 genuine
    weight: Floats  # how many payments each stands for
    since: Ints  # µs since when each has been known with its current label

    def take(self, selected: Bools) -> "Examples":
        """Some of them."""
        return Examples(self.rows[selected], self.y[selected], self.weight[selected], self.since[selected])


@dataclass(frozen=True)
class TrainingSet:
    """Rows that a training at a date may use, as positions in the history, in time order."""

    date: int  # µs
    mature: Ints  # labelled, or genuine because no fraud was reported by maturity
    y: Floats  # of `mature`: 1 fraud, 0 genuine
    weight: Floats  # of `mature`: not 1 where the delay curve expects more reports, or many answers were given at once
    mature_since: Ints  # of `mature`: µs since when each has been mature with its current label
    young: Examples  # reviewed or audited, but neither mature nor in the holdout
    unlabelled: Ints  # older than the holdout and not known to be fraud
    cleared: Bools  # of `unlabelled`: True if a label says genuine
    holdout: Ints  # newest rows, that thresholds are set on
    holdout_start: int

    def until(self, times: Ints, end: int) -> "TrainingSet":
        """The same without rows after `end` and without the holdout; `times` are those of the history, µs."""
        mature, young, unlabelled = (
            times[rows] <= end for rows in (self.mature, self.young.rows, self.unlabelled)
        )
        return replace(
            self,
            mature=self.mature[mature],
            y=self.y[mature],
            weight=self.weight[mature],
            mature_since=self.mature_since[mature],
            young=self.young.take(young),
            unlabelled=self.unlabelled[unlabelled],
            cleared=self.cleared[unlabelled],
            holdout=self.holdout[:0],
        )


def training_set_at(
    config: Config, history: History, date: int, span_start: int | None = None
) -> TrainingSet:
    """
    Split the transactions known at `date` into mature, young, unlabelled and holdout rows.

    Mature rows are older than `labels.maturity` (or `labels.maturity_by` of their field's value), with labels complete to that
    point. An answer of a review or of the audit sample needs no maturity: it is an example at once, but tells nothing of
    how common fraud is. The outlier detector needs no labels, so it may use younger rows too. Thresholds are set on the
    newest `training.holdout`, on which nothing is fitted, or on the newest quarter of a history that is shorter than four
    holdouts.

    Parameters
    ----------
    span_start
        µs; `training.span` before the date by default.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    rows = history.transactions
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    begin = date - config.training.span if span_start is None else span_start
    in_span = visible & (rows.event_time >= begin)
    positions = np.flatnonzero(in_span)
    if len(positions) < config.training.min_rows:
        raise NotReady(
            f"a training needs {config.training.min_rows} transactions, {len(positions)} were known then",
            remedy="wait for more, or lower training.min_rows",
            code="too_few_transactions",
        )
    status = status_at(rows, history.events, date)
    first = int(rows.event_time[positions[0]])
    holdout_start = max(date - config.training.holdout, date - (date - first) // 4)
    newest = rows.event_time >= holdout_start
    old = is_old(config, history, date)
    mature, y = _mature(history, in_span & old, status, date)
    unlabelled = np.flatnonzero(in_span & ~newest & (status != FRAUD))
    answer_weight = _answer_weight(history, status, date, silent=old & history.silence_at(date))
    return TrainingSet(
        date=date,
        mature=mature,
        y=y,
        weight=delay_tail.weights(config, history, date, mature, y) * answer_weight[mature],
        mature_since=_mature_since(config, history, mature, date),
        young=_young(history, in_span & ~old & ~newest, status, date, answer_weight),
        unlabelled=unlabelled,
        cleared=status[unlabelled] == GENUINE,
        holdout=np.flatnonzero(in_span & newest),
        holdout_start=holdout_start,
    )


def mature_at(config: Config, history: History, date: int) -> tuple[Ints, Floats]:
    """All mature transactions of a history at `date`, and which of them are fraud."""
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    status = status_at(history.transactions, history.events, date)
    return _mature(history, visible & is_old(config, history, date), status, date)


def is_old(config: Config, history: History, date: int) -> Bools:
    """Which transactions are older than their maturity, with labels complete to that point, as known at `date`, (n,)."""
    old_at = history.transactions.event_time + maturity_of(config, history.transactions)
    old: Bools = old_at <= complete_through(history, date)
    return old


def complete_through(history: History, date: int) -> int:
    """The instant (µs) until which labels are complete, as known at `date`."""
    return int(history.completeness.at(np.array([date], dtype=np.int64))[0])


def effective_frauds(config: Config, history: History, mature: Ints, y: Floats) -> float:
    """The number of effective frauds: clusters on one entity count once."""
    columns = [history.transactions.columns[name].codes[mature] for name in config.schema_.entities]
    return effective_among(y == FRAUD, columns)


def payers(config: Config, history: History) -> Ints:
    """Codes from 0 of the first configured entity, (n,); rows without one get a code of their own."""
    return _own_codes(history, next(iter(config.schema_.entities), ""))


def case_entities(config: Config, history: History) -> Ints | None:
    """Codes from 0 of the entity whose flags are counted as cases, (n,); None without entities: each flag is a case."""
    return _own_codes(history, config.case_entity) if config.case_entity else None


def _own_codes(history: History, entity: str) -> Ints:
    alone = np.arange(len(history), dtype=np.int64)
    if not entity:
        return alone
    codes = history.transactions.columns[entity].codes.astype(np.int64)
    return np.where(codes < 0, codes.max(initial=0) + 1 + alone, codes)


def _mature(history: History, old: Bools, status: Status, date: int) -> tuple[Ints, Floats]:
    """Rows that are old enough for all labels to be known, and which of them are fraud."""
    rows = np.flatnonzero(old & has_known_status(status, history.silence_at(date)))
    return rows, (status[rows] == FRAUD).astype(np.float64)


def _mature_since(config: Config, history: History, mature: Ints, date: int) -> Ints:
    """Since when these transactions have been mature with the label they have at `date`, µs."""
    old_at = history.transactions.event_time + maturity_of(config, history.transactions)
    old = history.completeness.reached(old_at[mature])
    return np.maximum(old, known_since(history.transactions, history.events, date)[mature])


def _young(history: History, young: Bools, status: Status, date: int, answer_weight: Floats) -> Examples:
    """Rows that a reviewer or the audit sample has answered, whatever their age."""
    answered = is_answered(history, date) & (status >= GENUINE)
    rows = np.flatnonzero(young & answered)
    return Examples(
        rows,
        (status[rows] == FRAUD).astype(np.float64),
        answer_weight[rows],
        known_since(history.transactions, history.events, date)[rows],
    )


def _answer_weight(history: History, status: Status, date: int, silent: Bools) -> Floats:
    """
    1 / k for k payments that one person called genuine at once, (n,): all of them are one piece of evidence; 1 for others.

    Payments that are old enough and `silent` count 1 as well: their silence says the same, each by itself.
    """
    bulk = bulk_of(history, date)
    one_of_many = (bulk >= 0) & (status == GENUINE) & ~silent
    sizes = np.bincount(bulk[one_of_many], minlength=1)
    return np.where(one_of_many, 1.0 / np.maximum(sizes[np.maximum(bulk, 0)], 1), 1.0)
