"""
Training set at a date: mature labels, unlabelled rows, holdout, and the prevalence of fraud.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation.prevalence import PrevalenceEstimate, effective_among, estimate_prevalence
from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.features.history import History
from pipeline.features.label_history import has_known_status, known_since, status_at
from storage.frames import FRAUD, GENUINE, Ints


@dataclass(frozen=True)
class TrainingSet:
    """Rows that a training at a date may use, as positions in the history, in time order."""

    mature: Ints  # labelled, or genuine because no fraud was reported by maturity
    y: NDArray[np.float64]  # of `mature`: 1 fraud, 0 genuine
    unlabelled: Ints  # older than the holdout and not known to be fraud
    cleared: NDArray[np.bool_]  # of `unlabelled`: True if a label says genuine
    holdout: Ints  # newest rows, that thresholds are set on
    holdout_start: int
    mature_since: Ints  # of `mature`: µs since when each has been mature with its current label
    reported: Ints  # rows that would be mature without verdicts on flags
    reported_y: NDArray[np.float64]  # of `reported`


def training_set_at(config: Config, history: History, date: int) -> TrainingSet:
    """
    Split the transactions known at `date` into mature, unlabelled and holdout rows.

    Mature rows are older than `labels.maturity`, with labels complete to that point. The outlier detector
    needs no labels, so it may use younger rows too. Thresholds are set on the newest `training.holdout`, or on
    the newest quarter of a history that is shorter than four holdouts.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    rows = history.transactions
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    in_span = visible & (rows.event_time >= date - config.training.span)
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
    young = rows.event_time >= holdout_start
    mature, y = _mature(config, history, in_span, status, date)
    unlabelled = np.flatnonzero(in_span & ~young & (status != FRAUD))
    reported, reported_y = mature, y
    if history.unreviewed is not history.events:
        unreviewed = status_at(rows, history.unreviewed, date)
        reported, reported_y = _mature(config, history, in_span, unreviewed, date)
    return TrainingSet(
        mature=mature,
        y=y,
        unlabelled=unlabelled,
        cleared=status[unlabelled] == GENUINE,
        holdout=np.flatnonzero(in_span & young),
        holdout_start=holdout_start,
        mature_since=_mature_since(config, history, mature, date),
        reported=reported,
        reported_y=reported_y,
    )


def mature_at(config: Config, history: History, date: int) -> tuple[Ints, NDArray[np.float64]]:
    """All mature transactions of a history at `date`, and which of them are fraud."""
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    return _mature(config, history, visible, status_at(history.transactions, history.events, date), date)


def prevalence_of(config: Config, history: History, training_set: TrainingSet) -> PrevalenceEstimate:
    """
    Estimate the prevalence of fraud, and the number of effective frauds to learn from.

    Flagged transactions are not a random sample, so verdicts on flags would bias prevalence: it and its interval rest on
    frauds that were reported anyway. The numbers of positives and effective frauds include verdicts.
    """
    overall = _prevalence(config, history, training_set.mature, training_set.y)
    if training_set.reported is training_set.mature:
        return overall
    reported = _prevalence(config, history, training_set.reported, training_set.reported_y)
    return replace(reported, positives=overall.positives, effective=overall.effective)


def effective_frauds(config: Config, history: History, mature: Ints, y: NDArray[np.float64]) -> float:
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


def _mature_since(config: Config, history: History, mature: Ints, date: int) -> Ints:
    """Since when these transactions have been mature with the label they have at `date`, µs."""
    old = history.completeness.reached(history.transactions.event_time[mature] + config.labels.maturity)
    return np.maximum(old, known_since(history.transactions, history.events, date)[mature])


def _mature(
    config: Config, history: History, in_span: NDArray[np.bool_], status: NDArray[np.int8], date: int
) -> tuple[Ints, NDArray[np.float64]]:
    """Rows of the span that are old enough for all labels to be known, and which of them are fraud."""
    complete = int(history.completeness.at(np.array([date], dtype=np.int64))[0])
    old = history.transactions.event_time + config.labels.maturity <= complete
    usable = in_span & old & has_known_status(status, history.silence_ok)
    rows = np.flatnonzero(usable)
    return rows, (status[rows] == FRAUD).astype(np.float64)


def _prevalence(config: Config, history: History, mature: Ints, y: NDArray[np.float64]) -> PrevalenceEstimate:
    effective = effective_frauds(config, history, mature, y)
    return estimate_prevalence(len(mature), int(y.sum()), effective)
