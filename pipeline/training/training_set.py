"""
What a training date knows: which transactions are mature, which are not known to be fraud, and how rare fraud is among them.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation.prevalence import Rarity, effective_among, measure
from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.features.compute import status_at
from pipeline.features.history import History
from pipeline.features.label_history import FRAUD, GENUINE, known_since
from storage.frames import Ints


@dataclass(frozen=True)
class Known:
    """What a training date knows: positions in the history, in time order."""

    mature: Ints  # labelled, or genuine by silence
    y: NDArray[np.float64]  # of `mature`: 1 fraud, 0 genuine
    usual: Ints  # not known to be fraud, older than the holdout
    cleared: NDArray[np.bool_]  # of `usual`: a label says that it is genuine
    recent: Ints  # the holdout
    holdout_start: int
    learnable: Ints  # of `mature`: since when each has been mature, with the label it has
    reported: Ints  # what would be mature had nobody answered a flag
    reported_y: NDArray[np.float64]


def known_at(config: Config, history: History, date: int) -> Known:
    """
    Split what is known at `date` into mature, usual and recent transactions.

    Mature ones are older than `labels.maturity` with labels complete to that point. The outlier detector
    needs no labels, so it may look at younger ones too; the newest `training.holdout` is left to set
    thresholds on, or the newest quarter of a history shorter than four holdouts.

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
            f"a training needs {config.training.min_rows} transactions, {len(positions)} were known then: "
            "wait for more, or lower training.min_rows"
        )
    status = status_at(rows, history.events, date)
    first = int(rows.event_time[positions[0]])
    holdout_start = max(date - config.training.holdout, date - (date - first) // 4)
    young = rows.event_time >= holdout_start
    mature, y = _mature(config, history, in_span, status, date)
    usual = np.flatnonzero(in_span & ~young & (status != FRAUD))
    reported, reported_y = mature, y
    if history.unreviewed is not history.events:
        unreviewed = status_at(rows, history.unreviewed, date)
        reported, reported_y = _mature(config, history, in_span, unreviewed, date)
    return Known(
        mature=mature,
        y=y,
        usual=usual,
        cleared=status[usual] == GENUINE,
        recent=np.flatnonzero(in_span & young),
        holdout_start=holdout_start,
        learnable=_learnable(config, history, mature, date),
        reported=reported,
        reported_y=reported_y,
    )


def mature_at(config: Config, history: History, date: int) -> tuple[Ints, NDArray[np.float64]]:
    """All transactions of a history whose silence may be read at `date`, and which of them are fraud."""
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    return _mature(config, history, visible, status_at(history.transactions, history.events, date), date)


def rarity_of(config: Config, history: History, known: Known) -> Rarity:
    """
    How rare fraud is, and how much of it there is to learn from.

    Flags are chosen because they look like fraud, so what reviewers find on them says nothing of how rare it is:
    prevalence and its interval rest on what was reported anyway. As examples to learn from, verdicts count.
    """
    everything = _measured(config, history, known.mature, known.y)
    if known.reported is known.mature:
        return everything
    reported = _measured(config, history, known.reported, known.reported_y)
    return replace(reported, positives=everything.positives, effective=everything.effective)


def effective_of(config: Config, history: History, mature: Ints, y: NDArray[np.float64]) -> float:
    """How many frauds these are if those with a common cause count once."""
    columns = [history.transactions.columns[name].codes[mature] for name in config.schema_.entities]
    return effective_among(y == FRAUD, columns)


def payers(config: Config, history: History) -> Ints:
    """Codes from 0 of the first configured entity, (n,); who is missing, and everyone without an entity, stands alone."""
    alone = np.arange(len(history), dtype=np.int64)
    if not config.schema_.entities:
        return alone
    codes = history.transactions.columns[config.schema_.entities[0]].codes.astype(np.int64)
    return np.where(codes < 0, codes.max(initial=0) + 1 + alone, codes)


def _learnable(config: Config, history: History, mature: Ints, date: int) -> Ints:
    """Since when these transactions have been mature, and their labels have said what they say at `date`."""
    old = history.completeness.reached(history.transactions.event_time[mature] + config.labels.maturity)
    return np.maximum(old, known_since(history.transactions, history.events, date)[mature])


def _mature(
    config: Config, history: History, in_span: NDArray[np.bool_], status: NDArray[np.int8], date: int
) -> tuple[Ints, NDArray[np.float64]]:
    """Transactions whose silence may be read, and those among them with a label."""
    complete = int(history.completeness.at(np.array([date], dtype=np.int64))[0])
    old = history.transactions.event_time + config.labels.maturity <= complete
    known = in_span & old & ((status >= 0) | history.silence_ok)
    rows = np.flatnonzero(known)
    return rows, (status[rows] == FRAUD).astype(np.float64)


def _measured(config: Config, history: History, mature: Ints, y: NDArray[np.float64]) -> Rarity:
    effective = effective_of(config, history, mature, y)
    return measure(len(mature), int(y.sum()), effective, confidence=config.choose.confidence)
