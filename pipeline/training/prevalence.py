"""The prevalence of fraud at a training date, with what reviewers and refunds hide put right."""

from dataclasses import dataclass, replace

import numpy as np

from detectors.evaluation.prevalence import (
    PrevalenceEstimate,
    ReviewCorrection,
    estimate_prevalence,
    estimate_weighted_prevalence,
)
from detectors.evaluation.reviewed_payments import (
    REVIEWED_MIN,
    CorrectedOutcomes,
    KnownOutcomes,
    correct_outcomes,
    review_strata,
)
from detectors.strategy.outlier_team import FitSettings
from detectors.strategy.past_risk import past_risk
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.features.history import CHOSEN, History, feature_catalogue
from pipeline.features.label_history import Bools, status_at
from pipeline.training.answers import is_answered
from pipeline.training.samples import SampleMatrix
from pipeline.training.training_set import TrainingSet, complete_through, effective_frauds
from storage.frames import FRAUD, Floats, Ints

COMPARED_ROWS = 20_000  # unreviewed rows, sampled by hash and weighted, that reviewed ones are compared with


@dataclass(frozen=True)
class Reviews:
    """What people did to payments of a history by a date, (n,) each."""

    reviewed: Bools  # a reviewer's verdict holds
    accused: Bools  # fraud by such a verdict alone
    censored: Bools  # stopped or refunded without a verdict

    def any_of(self, rows: Ints) -> bool:
        """Whether any of these rows is reviewed or censored."""
        return bool((self.reviewed | self.censored)[rows].any())

    @property
    def exist(self) -> bool:
        """Whether any payment is reviewed or censored."""
        return bool((self.reviewed | self.censored).any())

    def known_outcomes(self, rows: Ints, y: Floats, weight: Floats) -> KnownOutcomes:
        """What is known of these rows, with their labels and weights."""
        accused = self.accused[rows]
        return KnownOutcomes(
            weight, (y == FRAUD) & ~accused, self.reviewed[rows], accused, self.censored[rows]
        )


def reviews_at(history: History, date: int) -> Reviews:
    """What people had done to payments by `date`; flags are not read, because which there are depends on the order of runs."""
    reviewed = is_answered(history, date, CHOSEN)
    status, others = (
        status_at(history.transactions, events, date) for events in (history.events, history.unreviewed)
    )
    return Reviews(
        reviewed,
        accused=(status == FRAUD) & (others != FRAUD) & reviewed,
        censored=history.censored_at(date) & ~reviewed,
    )


def prevalence_of(config: Config, history: History, training_set: TrainingSet) -> PrevalenceEstimate:
    """
    Estimate the prevalence of fraud, and the number of effective frauds to learn from.

    Payments that were stopped never get a chargeback: counted as genuine, they would make fraud look rarer the better the
    team is. So reviewed and censored payments are compared with others that looked as risky then
    (`detectors.evaluation.reviewed_payments`). Fewer than `REVIEWED_MIN` verdicts are taken at their word, and censored payments are
    just left out then: all others stand for them. Answers of the random audit sample need no correction. The numbers of positives and
    effective frauds include verdicts.
    """
    mature, y = training_set.mature, training_set.y
    effective = effective_frauds(config, history, mature, y)
    cohorts = _whole_cohorts(config, history, training_set)
    if cohorts is training_set:
        measured = _measured(config, history, training_set, effective)
    else:
        measured = _measured(
            config, history, cohorts, effective_frauds(config, history, cohorts.mature, cohorts.y)
        )
        measured = replace(measured, measured=len(cohorts.mature))
    return replace(measured, mature=len(mature), positives=int(y.sum()), effective=effective)


def _measured(
    config: Config, history: History, training_set: TrainingSet, effective: float
) -> PrevalenceEstimate:
    """The prevalence among the mature rows, which have `effective` frauds, with its interval."""
    mature, y, weight = training_set.mature, training_set.y, training_set.weight
    clusters = float(y.sum()) / effective if effective else 1.0
    reviews = reviews_at(history, training_set.date)
    censored = _censored(config, history, training_set, reviews)
    reviewed = int(np.count_nonzero(reviews.reviewed[mature]))
    if reviewed >= REVIEWED_MIN:
        return _corrected(config, history, training_set, reviews, censored, clusters)
    if (weight == 1).all() and not len(censored):
        return estimate_prevalence(len(mature), int(y.sum()), effective)
    kept = ~reviews.censored[mature]
    estimate = estimate_weighted_prevalence(weight[kept], y[kept], y[kept], clusters)
    if not len(censored):
        return estimate
    correction = ReviewCorrection(reviewed, len(censored), 0.0, estimate.prevalence or 0.0)
    return replace(estimate, reviews=correction)


def _whole_cohorts(config: Config, history: History, training_set: TrainingSet) -> TrainingSet:
    """The rows as old as the longest maturity, if there are any: among younger ones quick values of a field are too common."""
    times = history.transactions.event_time[training_set.mature]
    kept = times + config.labels.longest_maturity <= complete_through(history, training_set.date)
    if kept.all() or not kept.any():
        return training_set
    return replace(
        training_set,
        mature=training_set.mature[kept],
        y=training_set.y[kept],
        weight=training_set.weight[kept],
        mature_since=training_set.mature_since[kept],
    )


def _censored(config: Config, history: History, training_set: TrainingSet, reviews: Reviews) -> Ints:
    """Positions of censored payments of the span of the mature rows."""
    if not len(training_set.mature):
        return training_set.mature
    visible = history.as_of(config.schedule.allowed_lateness) <= training_set.date
    span = np.arange(len(history))
    inside = (span >= training_set.mature[0]) & (span <= training_set.mature[-1])
    return np.flatnonzero(visible & inside & reviews.censored)


def _corrected(
    config: Config,
    history: History,
    training_set: TrainingSet,
    reviews: Reviews,
    censored: Ints,
    clusters: float,
) -> PrevalenceEstimate:
    weight, y, since = (np.full(len(history), fill) for fill in (1.0, np.nan, 0))
    weight[training_set.mature], y[training_set.mature] = training_set.weight, training_set.y
    since[training_set.mature] = training_set.mature_since
    y[censored] = np.nan
    rows = np.union1d(training_set.mature, censored)
    outcomes, at_word = _outcomes(config, history, rows, y, weight, since.astype(np.int64), reviews)
    counted = (outcomes.fraud > 0).astype(np.float64)
    estimate = estimate_weighted_prevalence(
        outcomes.weight, outcomes.fraud, counted, clusters, outcomes.variance
    )
    correction = ReviewCorrection(
        reviewed=int(np.count_nonzero(reviews.reviewed[rows])),
        censored=len(censored),
        false_verdicts=outcomes.false_verdicts,
        uncorrected=at_word,
    )
    return replace(estimate, reviews=correction)


def _outcomes(
    config: Config, history: History, rows: Ints, y: Floats, weight: Floats, since: Ints, reviews: Reviews
) -> tuple[CorrectedOutcomes, float]:
    """Outcomes of a sample of the rows: all that people looked at, all frauds, and `COMPARED_ROWS` others; and the share of fraud at their word."""
    always = (reviews.reviewed | reviews.censored | (y == FRAUD))[rows]
    draws = history.draws[rows]
    selected, sampling = hash_sampling.sample_rows(draws, COMPARED_ROWS + int(always.sum()), always)
    sampling[sampling > 1] *= (len(rows) - always.sum()) / max(sampling[sampling > 1].sum(), 1)
    rows, weight = rows[selected], weight[rows[selected]] * sampling
    features = feature_catalogue(config)
    sample = SampleMatrix(config, history, features, [rows]).sample(rows, y[rows], weight, since[rows])
    settings = FitSettings(config.outlier.detector, threads=config.training.threads)
    stratum = review_strata(past_risk(sample, features.layout, settings), reviews.reviewed[rows])
    labelled = reviews.known_outcomes(rows, y[rows], weight)
    truthful = ~np.isnan(y[rows])
    at_word = float(weight[truthful] @ (y[rows][truthful] == FRAUD) / weight[truthful].sum())
    return correct_outcomes(labelled, stratum), at_word
