"""
The techniques of imbalanced data, each as something that is fitted on training rows and then scores others.

Every one gives a *margin*: a logit with what its balancing or weighting did to the prior undone, or, for outlier
detectors, the logit of the rank. So that all can be calibrated, cut and paid for alike. Beside it most tell the probability
*as the model says it*, before any correction, which is what a threshold of 0.5 is usually applied to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logit

from detectors.algorithms.boosting import Boosting, capacity
from detectors.algorithms.focal_boosting import Focal
from detectors.algorithms.logistic import Logistic
from detectors.algorithms.random_forest import RandomForest
from detectors.base import Classifier, Detector, Floats, probability_of
from detectors.evaluation.thresholds import Costs
from detectors.imbalance.flow_generator import ROWS_MAX, FlowGenerator, fidelity
from detectors.imbalance.resampling import Method, resample
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import RankScale
from detectors.inputs.sample import Layout, Sample
from detectors.model.auto_detector import REVIEWED, AutoDetector
from detectors.registry import detector_class
from detectors.strategy.evidence import Review, evidence
from detectors.strategy.held_out import held_out

LEVELS = 20  # a column with so few values is taken for one of categories by SMOTE for mixed types
MILD = 0.1  # share of fraud of the mild variants; balancing to one half is the article's


@dataclass(frozen=True)
class Training:
    """
    What a technique may learn from, in time order.

    Attributes
    ----------
    mature
        Labelled rows at their natural prevalence.
    usual
        Rows that are not known to be fraud, for outlier detectors.
    cost_ratio
        What a missed fraud costs, in reviews of genuine transactions.
    """

    mature: Sample
    usual: Sample
    layout: Layout
    cost_ratio: float = 100.0
    seed: int = 7
    threads: int = 1

    @cached_property
    def encoder(self) -> Encoder:
        """Fitted on the labelled rows alone."""
        return Encoder(self.layout.encoding).fit(self.mature.raw, self.mature.y, self.mature.weight)

    @cached_property
    def X(self) -> Floats:  # noqa: N802 - the field's name
        """Features of the labelled rows."""
        return self.encoder.transform(self.mature.raw)

    @cached_property
    def outlier_view(self) -> Floats:
        """What outlier detectors see of the usual rows."""
        return self.view(self.encoder.transform(self.usual.raw))

    @cached_property
    def levels(self) -> list[int]:
        """Places of columns with few values, for SMOTE of mixed types."""
        return [place for place, column in enumerate(self.X.T) if 2 <= len(np.unique(column)) <= LEVELS]

    @cached_property
    def generator(self) -> FlowGenerator:
        """Fitted on the frauds alone; dear enough to be shared."""
        return FlowGenerator(self.seed, self.threads).fit(self.X[self.mature.y == 1])

    @property
    def review(self) -> Review:
        """What the choice counts costs by."""
        return Review(Costs(self.cost_ratio, 1.0, "constant"), REVIEWED)

    @property
    def frauds(self) -> int:
        """Known frauds."""
        return int(self.mature.y.sum())

    def view(self, X: Floats) -> Floats:
        """The columns of features that outlier detectors see."""
        return self.layout.outlier_view(X)


@dataclass(frozen=True)
class Rows:
    """Rows to score, raw and as the features of one training."""

    raw: Floats
    X: Floats


@dataclass(frozen=True)
class Fitted:
    """A technique after training."""

    margin: Callable[[Rows], Floats]
    as_said: Callable[[Rows], Floats] | None = None  # probabilities before any correction
    discarded: int = 0
    invented: int = 0
    told: str = ""
    again: "Callable[[Training], Fitted] | None" = None  # the same on other rows, for one that chooses


@dataclass(frozen=True)
class Technique:
    """A name for people, the family it belongs to, and how it is fitted."""

    name: str
    family: str
    fit: Callable[[Training], Fitted]


def _plain(training: Training) -> Fitted:
    return _boosted(training, 1.0)


def _cost_weighted(training: Training) -> Fitted:
    return _boosted(training, training.cost_ratio)


def _boosted(training: Training, weight: float) -> Fitted:
    model = Boosting(weight, training.threads, training.seed).fit(training.X, training.mature.y)
    return Fitted(_margin(model), _said(model, np.log(weight)))


def _focal(training: Training) -> Fitted:
    model = Focal(threads=training.threads, seed=training.seed).fit(training.X, training.mature.y)
    return Fitted(_margin(model), _said(model, 0.0))


def _logistic(training: Training) -> Fitted:
    model = Logistic(positive_weight=training.cost_ratio).fit(training.X, training.mature.y)
    return Fitted(_margin(model), _said(model, np.log(training.cost_ratio)))


def _forest(training: Training) -> Fitted:
    model = RandomForest(positive_weight=training.cost_ratio, seed=training.seed)
    model.fit(training.X, training.mature.y)
    return Fitted(_margin(model), _said(model, np.log(training.cost_ratio)))


def _resampled(method: Method, share: float) -> Callable[[Training], Fitted]:
    def fit(training: Training) -> Fitted:
        made = resample(
            training.X,
            training.mature.y,
            method,
            share=share,
            seed=training.seed,
            categorical=training.levels if method == "smote_mixed" else (),
            generator=training.generator if method == "generative" else None,
        )
        size = capacity(training.frauds)  # copies are no more frauds than there are
        model = Boosting(1.0, training.threads, training.seed, size).fit(made.X, made.y)
        told = ""
        if method == "generative" and made.invented:
            new = made.X[len(training.X) :][:ROWS_MAX]
            found = fidelity(training.X[training.mature.y == 1], new, training.seed)
            told = f"{found.copy_rate:.0%} copies, told from real ones with AUC {found.told_apart:.2f}"
        return Fitted(
            lambda rows: made.corrected(model.anomaly_score(rows.X)),
            _said(model, 0.0),
            made.discarded,
            made.invented,
            told,
        )

    return fit


def _outlier(name: str) -> Callable[[Training], Fitted]:
    def fit(training: Training) -> Fitted:
        model: Detector = detector_class(name)(seed=training.seed).fit(training.outlier_view)  # type: ignore[call-arg]
        scale = RankScale().fit(model.anomaly_score(training.outlier_view))
        return Fitted(lambda rows: logit(scale.transform(model.anomaly_score(training.view(rows.X)))))

    return fit


def _with_outlier_score(training: Training) -> Fitted:
    outlier = detector_class("isolation_forest")(seed=training.seed).fit(training.outlier_view)  # type: ignore[call-arg]

    def wider(X: Floats) -> Floats:
        return np.column_stack([X, outlier.anomaly_score(training.view(X))])

    model = Boosting(1.0, training.threads, training.seed).fit(wider(training.X), training.mature.y)
    return Fitted(
        lambda rows: model.anomaly_score(wider(rows.X)), lambda rows: model.fraud_probability(wider(rows.X))
    )


def _auto(strategy: str) -> Callable[[Training], Fitted]:
    def fit(training: Training) -> Fitted:
        model = AutoDetector(strategy, layout=training.layout, seed=training.seed, threads=training.threads)  # type: ignore[arg-type]
        told, folds, mature = strategy, None, training.mature
        if strategy != "classification":
            folds = held_out(mature, training.layout, model.fitting)
        if strategy == "auto":
            found = evidence(folds or (), training.review, training.seed)
            told = AutoDetector().choose(mature.y, mature.weight, (mature.entities,), found).strategy
        model.fit_samples(mature, training.usual, told, folds)  # type: ignore[arg-type]
        chose = strategy == "auto"
        return Fitted(
            lambda rows: logit(model.rank(rows.raw).score),
            told=f"chose {told}" if chose else "",
            again=_auto(told) if chose else None,
        )

    return fit


def _margin(model: Classifier) -> Callable[[Rows], Floats]:
    return lambda rows: model.anomaly_score(rows.X)


def _said(model: Classifier, log_weight: float) -> Callable[[Rows], Floats]:
    """The training weight put back: what the model itself would answer."""
    return lambda rows: probability_of(model.anomaly_score(rows.X) + log_weight)


PLAIN = "no balancing"
TECHNIQUES: tuple[Technique, ...] = (
    Technique(PLAIN, "none", _plain),
    Technique("cost-weighted", "cost", _cost_weighted),
    Technique("undersampling 50/50", "data", _resampled("under", 0.5)),
    Technique("oversampling 50/50", "data", _resampled("over", 0.5)),
    Technique("oversampling 10 %", "data", _resampled("over", MILD)),
    Technique("smoothed oversampling 50/50", "data", _resampled("smoothed", 0.5)),
    Technique("SMOTE 50/50", "data", _resampled("smote", 0.5)),
    Technique("SMOTE 10 %", "data", _resampled("smote", MILD)),
    Technique("SMOTE for mixed types 10 %", "data", _resampled("smote_mixed", MILD)),
    Technique("undersampling + SMOTE 50/50", "data", _resampled("under_smote", 0.5)),
    Technique("generated 50/50", "generative", _resampled("generative", 0.5)),
    Technique("generated 10 %", "generative", _resampled("generative", MILD)),
    Technique("focal loss", "loss", _focal),
    Technique("logistic regression, weighted", "classifier", _logistic),
    Technique("random forest, weighted", "classifier", _forest),
    Technique("isolation forest", "outlier", _outlier("isolation_forest")),
    Technique("HBOS", "outlier", _outlier("hbos")),
    Technique("LODA", "outlier", _outlier("loda")),
    Technique("INNE", "outlier", _outlier("inne")),
    Technique("blend of both", "hybrid", _auto("blend")),
    Technique("outlier score as a feature", "hybrid", _with_outlier_score),
    Technique("fraudwatch", "auto", _auto("auto")),
)
