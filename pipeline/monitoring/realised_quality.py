"""The truth of a window as rows of `quality_metrics`: of all, of each model, channel and reviewer; an alarm where it was not expected."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectors.evaluation import realised_quality
from detectors.evaluation.realised_quality import Measured, Outcome
from detectors.model.auto_detector import NOVELTY
from detectors.model.model import AUDIT
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.features import history as histories
from pipeline.features.compute import status_at
from pipeline.features.history import History
from pipeline.monitoring.quality_text import parted
from storage.database.database import Store
from storage.frames import DAY, MONEY, Ints
from storage.monitoring import quality_metrics
from storage.monitoring.quality_metrics import Judged, Row, Window

Bools = NDArray[np.bool_]

ALARMING = ("precision", "recall", "cost")  # which share the rate of false alarms
NO_REVIEW = "no reviewer answered a flag"
NO_QUEUE = "no flag waits"


@dataclass(frozen=True)
class Scored:
    """A window's transactions and their scores, row by row."""

    history: History
    rows: Ints  # positions in the history
    judged: Judged

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def detected(self) -> Bools:
        """What a detector flagged; what was drawn at random to look at is not."""
        return np.asarray(self.judged.flagged & (self.judged.channel != AUDIT))

    def take(self, places: Bools) -> "Scored":
        """Some of them."""
        chosen = {name: value[places] for name, value in vars(self.judged).items()}
        return Scored(self.history, self.rows[places], Judged(**chosen))


def scored_by(store: Store, config: Config, policy: str, window: Window, as_of: int) -> Scored:
    """The window's scores of transactions that had come by then."""
    history = histories.load(store, config, *window)
    judged = quality_metrics.judged(store, policy, *window)
    known = history.as_of(config.schedule.allowed_lateness) <= as_of + config.schedule.allowed_lateness
    place = pd.Index(judged.transaction_id).get_indexer(pd.Index(history.transactions.transaction_id))
    rows = np.flatnonzero((place >= 0) & known)
    chosen = {name: value[place[rows]] for name, value in vars(judged).items()}
    return Scored(history, rows, Judged(**chosen))


def realise(
    store: Store, config: Config, policy: str, run_id: int | None, window: Window, as_of: int
) -> list[str]:
    """Measure one window's truth; returns what alarms say."""
    scored = scored_by(store, config, policy, window, as_of)
    status = status_at(scored.history.transactions, scored.history.events, as_of)[scored.rows]
    known = (status >= 0) | scored.history.silence_ok[scored.rows]
    outcome = _outcome(store, config, scored.take(known), status[known] == 1, as_of)
    review, confidence = config.costs.review, config.quality.confidence
    of_all = realised_quality.measured(outcome, review, confidence)
    rows = [_realised(window, one) for one in of_all]
    rows += list(_by_model(window, outcome, of_all, config))
    if not known.all():
        rows[0] = replace(rows[0], said=f"{int((~known).sum()):,} more have no label and may never get one")
    for channel in _channels(scored):
        measures = realised_quality.of_channel(outcome, channel, review, confidence)
        rows += [_realised(window, one, channel=channel) for one in measures]
    rows += [_realised(window, one) for one in _audited(outcome, scored.take(known), as_of, confidence)]
    rows += reviewed(store, config, policy, window)
    said = quality_metrics.read(store, policy, ALARMING, window, as_of).get(window, {})
    rows = [_with_alarm(row, said.get(("estimated", row.metric)), config) for row in rows]
    quality_metrics.write(store, policy, run_id, as_of, window, "realised", rows)
    return [str(row.said) for row in rows if row.alarm]


def _outcome(store: Store, config: Config, scored: Scored, fraud: Bools, as_of: int) -> Outcome:
    transactions, judged = scored.history.transactions, scored.judged
    money = transactions.amount[scored.rows] / MONEY
    ids = transactions.transaction_id[scored.rows]
    kinds = config.schema_.refund_kinds if config.schema_.kind else ()
    first = int(transactions.event_time.min(initial=as_of))
    taken = quality_metrics.losses(store, ids[fraud].tolist(), first, as_of, kinds)
    money[fraud] = [taken[name] for name in ids[fraud]]
    return Outcome(
        y=fraud.astype(np.float64),
        flagged=scored.detected,
        channel=judged.channel,
        model_id=judged.model_id,
        score=judged.score,
        probability=judged.probability,
        loss=costs_of(config).at_stake(money),
        money=money,
        time=transactions.event_time[scored.rows],
        entities=[
            transactions.columns[name].codes[scored.rows].astype(np.int64) for name in config.schema_.entities
        ],
    )


def _by_model(window: Window, outcome: Outcome, of_all: Sequence[Measured], config: Config) -> Iterator[Row]:
    review, confidence = config.costs.review, config.quality.confidence
    there = np.unique(outcome.model_id)
    for model_id in there:
        of_model = outcome.take(outcome.model_id == model_id)
        measures = realised_quality.core(of_model, review, confidence) if len(there) > 1 else of_all
        for one in measures:
            yield replace(_realised(window, one), model_id=int(model_id))


def _channels(scored: Scored) -> list[str]:
    """Every channel that could have flagged, whether it did or not."""
    strategies = set(scored.judged.strategy)
    shares = {NOVELTY} if strategies - {"outlier"} else set()
    flagged = set(scored.judged.channel[scored.judged.flagged]) - {AUDIT}
    return sorted(strategies | shares | flagged)


def _audited(outcome: Outcome, scored: Scored, as_of: int, confidence: float) -> list[Measured]:
    """By verdicts on what was drawn at random: silence does not count here."""
    labels = scored.history.labels
    by_draw = np.append(labels.source.values.astype(str) == "audit", False)[labels.source.codes]
    answered = set(labels.transaction_id[by_draw & (labels.available_at <= as_of)])
    drawn = scored.judged.channel == AUDIT
    reviewed = drawn & np.array([name in answered for name in scored.judged.transaction_id], dtype=bool)
    caught = int((outcome.flagged & outcome.fraud).sum())
    return realised_quality.of_audit(outcome.y[reviewed], int((~outcome.flagged).sum()), caught, confidence)


def reviewed(store: Store, config: Config, policy: str, window: Window) -> Iterator[Row]:
    """What reviewers did within the window, and what waited for them at its end."""
    start, end = window
    given = quality_metrics.verdicts(store, policy, start, end)
    n, frauds = len(given.is_fraud), int(given.is_fraud.sum())
    ends = realised_quality.binomial(frauds, n, frauds, config.quality.confidence)
    delay = (given.known_at - given.event_time) / DAY
    waiting = quality_metrics.waiting(store, policy, end - config.labels.maturity - (end - start), end)
    age = (end - waiting) / DAY
    said = None if n else NO_REVIEW
    for one in (
        Measured("reviews", float(n), n=n),
        Measured("reviews_a_day", n * DAY / (end - start), n=n),
        Measured("reviewed_precision", frauds / n if n else np.nan, *ends, n=n, said=said),
        Measured("review_delay", float(np.median(delay)) if n else np.nan, n=n, said=said),
        Measured("open_flags", float(len(age)), n=len(age)),
        Measured(
            "queue_age",
            float(np.median(age)) if len(age) else np.nan,
            n=len(age),
            said=None if len(age) else NO_QUEUE,
        ),
    ):
        yield _realised(window, one)


def _realised(window: Window, one: Measured, channel: str = quality_metrics.ALL_CHANNELS) -> Row:
    value, lower, upper = (
        None if np.isnan(number) else float(number) for number in (one.value, one.lower, one.upper)
    )
    return Row(*window, one.metric, "realised", value, lower, upper, one.n, channel=channel, said=one.said)


def _with_alarm(row: Row, said: Row | None, config: Config) -> Row:
    """An alarm where the truth is beyond what the estimate allowed, and far enough from it to matter."""
    if row.model_id or row.channel or row.value is None or said is None or said.value is None:
        return row
    if said.alarm_below is None or said.alarm_above is None:
        return row
    beyond = not said.alarm_below <= row.value <= said.alarm_above
    far = abs(row.value - said.value) > config.quality.alarm_change * abs(said.value)
    return replace(row, alarm=True, said=parted(row, said, config)) if beyond and far else row
