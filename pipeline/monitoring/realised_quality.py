"""Realised quality of a window as rows of `quality_metrics`: overall, by model and channel, and of reviews; with alarms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectors.evaluation import realised_quality
from detectors.evaluation.realised_quality import Outcome, RealisedMetric
from detectors.model.auto_detector import NOVELTY
from detectors.model.model import AUDIT
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.features import history as feature_history
from pipeline.features.history import History
from pipeline.features.label_history import has_known_status, label_events, status_at
from pipeline.monitoring.quality_text import alarm_text
from storage.database.database import Store
from storage.frames import DAY, GENUINE, Ints
from storage.monitoring import quality_metrics
from storage.monitoring.quality_metrics import QualityMetric, Window, WindowScores
from storage.queries.losses import losses

Bools = NDArray[np.bool_]

ALARMING = ("precision", "recall", "cost")  # the metrics that share quality.alarm_rate
ALARM_CHANGE = 0.2  # of the estimate; what nobody would act on is no alarm, however many rows make it certain
NO_REVIEW = "no reviewer answered a flag"
NO_QUEUE = "no flag is open"


@dataclass(frozen=True)
class ScoredWindow:
    """A window's transactions and their scores."""

    history: History
    rows: Ints  # positions in the history
    scores: WindowScores

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def detected(self) -> Bools:
        """Which rows a detector or rule flagged; the random audit sample does not count."""
        return np.asarray(self.scores.flagged & (self.scores.channel != AUDIT))

    def take(self, places: Bools) -> "ScoredWindow":
        """The rows of a mask."""
        chosen = {name: value[places] for name, value in vars(self.scores).items()}
        return ScoredWindow(self.history, self.rows[places], WindowScores(**chosen))


def load_scored_window(store: Store, config: Config, policy: str, window: Window, as_of: int) -> ScoredWindow:
    """The window's scores of transactions that were visible at `as_of`."""
    history = feature_history.load(store, config, *window)
    scores = quality_metrics.window_scores(store, policy, *window)
    visible = history.as_of(config.schedule.allowed_lateness) <= as_of + config.schedule.allowed_lateness
    place = pd.Index(scores.transaction_id).get_indexer(pd.Index(history.transactions.transaction_id))
    rows = np.flatnonzero((place >= 0) & visible)
    selected = {name: value[place[rows]] for name, value in vars(scores).items()}
    return ScoredWindow(history, rows, WindowScores(**selected))


def realise(
    store: Store, config: Config, policy: str, run_id: int | None, window: Window, as_of: int
) -> list[str]:
    """Compute and store the realised metrics of a window; return the texts of its alarms."""
    scored = load_scored_window(store, config, policy, window, as_of)
    status = status_at(scored.history.transactions, scored.history.events, as_of)[scored.rows]
    known = has_known_status(status, scored.history.silence_at(as_of)[scored.rows])
    outcome = _outcome(store, config, scored.take(known), status[known] == 1, as_of)
    review, confidence = config.costs.review, config.quality.confidence
    overall = realised_quality.realised_metrics(outcome, review, confidence)
    rows = [_realised_row(window, metric) for metric in overall]
    rows += list(_model_rows(window, outcome, overall, config))
    if not known.all():
        rows[0] = replace(
            rows[0], message=f"{int((~known).sum()):,} more are neither fraud nor genuine, and may stay so"
        )
    for channel in _channels(scored):
        measures = realised_quality.channel_metrics(outcome, channel, review, confidence)
        rows += [_realised_row(window, metric, channel=channel) for metric in measures]
    rows += [
        _realised_row(window, metric)
        for metric in _audit_metrics(outcome, scored.take(known), as_of, confidence)
    ]
    rows += review_metrics(store, config, policy, window)
    estimates = quality_metrics.read(store, policy, ALARMING, window, as_of).get(window, {})
    rows = [_with_alarm(row, estimates.get(("estimated", row.metric)), config) for row in rows]
    quality_metrics.write(store, policy, run_id, as_of, window, "realised", rows)
    return [str(row.message) for row in rows if row.alarm]


def _outcome(store: Store, config: Config, scored: ScoredWindow, fraud: Bools, as_of: int) -> Outcome:
    transactions, scores = scored.history.transactions, scored.scores
    detected, money = scored.detected, np.zeros(len(scored))
    ids = transactions.transaction_id[scored.rows[fraud]]
    of = losses(store, ids.tolist(), as_of)
    money[fraud] = [
        of[name].at_risk if caught else of[name].loss
        for name, caught in zip(ids, detected[fraud], strict=True)
    ]
    return Outcome(
        y=fraud.astype(np.float64),
        flagged=detected,
        channel=scores.channel,
        model_id=scores.model_id,
        score=scores.score,
        probability=scores.probability,
        loss=costs_of(config).at_stake(money),
        money=money,
        time=transactions.event_time[scored.rows],
        entities=[
            transactions.columns[name].codes[scored.rows].astype(np.int64) for name in config.schema_.entities
        ],
    )


def _model_rows(
    window: Window, outcome: Outcome, overall: Sequence[RealisedMetric], config: Config
) -> Iterator[QualityMetric]:
    review, confidence = config.costs.review, config.quality.confidence
    model_ids = np.unique(outcome.model_id)
    for model_id in model_ids:
        of_model = outcome.take(outcome.model_id == model_id)
        measures = (
            realised_quality.core_metrics(of_model, review, confidence) if len(model_ids) > 1 else overall
        )
        for metric in measures:
            yield replace(_realised_row(window, metric), model_id=int(model_id))


def _channels(scored: ScoredWindow) -> list[str]:
    """All channels that could have flagged, whether or not they did."""
    strategies = set(scored.scores.strategy)
    shares = {NOVELTY} if strategies - {"outlier"} else set()
    flagged = set(scored.scores.channel[scored.scores.flagged]) - {AUDIT}
    return sorted(strategies | shares | flagged)


def _audit_metrics(
    outcome: Outcome, scored: ScoredWindow, as_of: int, confidence: float
) -> list[RealisedMetric]:
    """Metrics from verdicts on the random audit sample; rows without a verdict do not count."""
    history = scored.history
    source = history.labels.source
    of_audit = np.append(source.values.astype(str) == "audit", False)[source.codes]
    audited = history.labels.take(of_audit | (history.labels.retracts >= 0))
    answers = label_events(history.transactions, audited, history.precedence)
    answered = status_at(history.transactions, answers, as_of)[scored.rows] >= GENUINE
    reviewed = (scored.scores.channel == AUDIT) & answered
    caught = int((outcome.flagged & outcome.fraud).sum())
    return realised_quality.audit_metrics(
        outcome.y[reviewed], int((~outcome.flagged).sum()), caught, confidence
    )


def review_metrics(store: Store, config: Config, policy: str, window: Window) -> Iterator[QualityMetric]:
    """Metrics of the reviews in the window, and of the flags that were open at its end."""
    start, end = window
    verdicts = quality_metrics.verdicts(store, policy, start, end)
    n, frauds = len(verdicts.at), int(verdicts.is_fraud.sum())
    opinions = int(verdicts.has_opinion.sum())
    ends = realised_quality.binomial_interval(frauds, opinions, frauds, config.quality.confidence)
    delay = (verdicts.at - verdicts.event_time) / DAY
    waiting = quality_metrics.unanswered_flag_times(
        store, policy, end - config.labels.longest_maturity - (end - start), end
    )
    age = (end - waiting) / DAY
    reason = None if n else NO_REVIEW
    for metric in (
        RealisedMetric("reviews", float(n), n=n),
        RealisedMetric("reviews_a_day", n * DAY / (end - start), n=n),
        RealisedMetric(
            "reviewed_precision",
            frauds / opinions if opinions else np.nan,
            *ends,
            n=opinions,
            undefined_because=None if opinions else NO_REVIEW,
        ),
        RealisedMetric(
            "review_delay", float(np.median(delay)) if n else np.nan, n=n, undefined_because=reason
        ),
        RealisedMetric("open_flags", float(len(age)), n=len(age)),
        RealisedMetric(
            "queue_age",
            float(np.median(age)) if len(age) else np.nan,
            n=len(age),
            undefined_because=None if len(age) else NO_QUEUE,
        ),
    ):
        yield _realised_row(window, metric)


def _realised_row(
    window: Window, metric: RealisedMetric, channel: str = quality_metrics.ALL_CHANNELS
) -> QualityMetric:
    value, lower, upper = (
        None if np.isnan(number) else float(number) for number in (metric.value, metric.lower, metric.upper)
    )
    return QualityMetric(
        *window,
        metric.metric,
        "realised",
        value,
        lower,
        upper,
        metric.n,
        channel=channel,
        message=metric.undefined_because,
    )


def _with_alarm(row: QualityMetric, estimate: QualityMetric | None, config: Config) -> QualityMetric:
    """Set the alarm if the value is outside the estimate's alarm limits and differs by more than ALARM_CHANGE."""
    if row.model_id or row.channel or row.value is None or estimate is None or estimate.value is None:
        return row
    if estimate.alarm_below is None or estimate.alarm_above is None:
        return row
    beyond = not estimate.alarm_below <= row.value <= estimate.alarm_above
    far = abs(row.value - estimate.value) > ALARM_CHANGE * abs(estimate.value)
    return replace(row, alarm=True, message=alarm_text(row, estimate, config)) if beyond and far else row
