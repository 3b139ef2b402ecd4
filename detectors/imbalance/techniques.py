"""
The techniques for imbalanced data that `compare` evaluates, each fitted on training rows to score others.

Every technique returns a *margin*: a prior-corrected logit, or the logit of the rank for outlier detectors, so that all can
be calibrated, thresholded and costed in the same way. Most also return the *raw probability*, before any correction, to
which a threshold of 0.5 is usually applied.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logit

from detectors.algorithms.boosting import Boosting, tree_parameters
from detectors.algorithms.focal_boosting import FocalBoosting
from detectors.algorithms.logistic import Logistic
from detectors.algorithms.random_forest import RandomForest
from detectors.base import SEED, Classifier, Floats, probability_of
from detectors.evaluation.prevalence import percent
from detectors.evaluation.thresholds import Costs
from detectors.imbalance.flow_generator import ROWS_MAX, FlowGenerator, fidelity
from detectors.imbalance.resampling import Method, resample
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import surprisal
from detectors.inputs.sample import Layout, Sample
from detectors.model.auto_detector import REVIEWED, AutoDetector
from detectors.registry import DEFAULT_OUTLIER, DETECTORS
from detectors.strategy.evidence import ReviewBudget, gather_evidence
from detectors.strategy.outlier_team import FitSettings, OutlierTeam
from detectors.strategy.validation_folds import fit_validation_folds

DISCRETE_MAX = 20  # SMOTE for mixed types treats a column with at most so many values as categorical
MILD = 0.1  # share of fraud in the mild variants; the article balances to one half


@dataclass(frozen=True)
class Training:
    """
    Training data of a technique, in time order.

    Attributes
    ----------
    mature
        Labelled rows at their natural prevalence.
    usual
        Rows that are not known to be fraud, for outlier detectors.
    cost_ratio
        Cost of a missed fraud, in reviews of genuine transactions.
    """

    mature: Sample
    usual: Sample
    layout: Layout
    cost_ratio: float = 100.0
    seed: int = SEED
    threads: int = 1

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, fitted on the labelled rows."""
        return Encoder.fit(self.layout.encoding, self.mature.raw, self.mature.y, self.mature.weight)

    @cached_property
    def X(self) -> Floats:  # noqa: N802 - the field's name
        """Features of the labelled rows."""
        return self.encoder.transform(self.mature.raw)

    @cached_property
    def discrete_columns(self) -> list[int]:
        """Indices of columns with few values, for SMOTE of mixed types."""
        return [place for place, column in enumerate(self.X.T) if 2 <= len(np.unique(column)) <= DISCRETE_MAX]

    @cached_property
    def generator(self) -> FlowGenerator:
        """The generator, fitted on the frauds; it is cached because fitting is slow."""
        return FlowGenerator(self.seed, self.threads).fit(self.X[self.mature.y == 1])

    @property
    def review(self) -> ReviewBudget:
        """Costs and review capacity for the strategy choice."""
        return ReviewBudget(Costs(self.cost_ratio, 1.0, "constant"), REVIEWED)

    @property
    def frauds(self) -> int:
        """Number of known frauds."""
        return int(self.mature.y.sum())

    def outliers(self, name: str) -> OutlierTeam:
        """The outlier detectors of this name, fitted to the usual rows."""
        usual = self.encoder.transform(self.usual.raw)
        return OutlierTeam.fit(
            self.layout.groups, usual, self.usual.weight, FitSettings(name, self.seed, self.threads)
        )


@dataclass(frozen=True)
class ScoringRows:
    """Rows to score: raw columns, and features encoded by one training."""

    raw: Floats
    X: Floats


@dataclass(frozen=True)
class FittedTechnique:
    """A fitted technique."""

    margin: Callable[[ScoringRows], Floats]
    raw_probability: Callable[[ScoringRows], Floats] | None = None  # probabilities before any correction
    discarded: int = 0
    invented: int = 0
    note: str = ""
    refit: "Callable[[Training], FittedTechnique] | None" = (
        None  # fits the chosen strategy again on other rows
    )


@dataclass(frozen=True)
class Technique:
    """A technique: display name, family and fit function."""

    name: str
    family: str
    fit: Callable[[Training], FittedTechnique]


def _plain(training: Training) -> FittedTechnique:
    return _boosted(training, 1.0)


def _cost_weighted(training: Training) -> FittedTechnique:
    return _boosted(training, training.cost_ratio)


def _boosted(training: Training, weight: float) -> FittedTechnique:
    model = Boosting(weight, training.threads, training.seed).fit(training.X, training.mature.y)
    return FittedTechnique(_margin(model), _raw_probability(model, np.log(weight)))


def _focal(training: Training) -> FittedTechnique:
    model = FocalBoosting(threads=training.threads, seed=training.seed).fit(training.X, training.mature.y)
    return FittedTechnique(_margin(model), _raw_probability(model, 0.0))


def _logistic(training: Training) -> FittedTechnique:
    model = Logistic(positive_weight=training.cost_ratio).fit(training.X, training.mature.y)
    return FittedTechnique(_margin(model), _raw_probability(model, np.log(training.cost_ratio)))


def _forest(training: Training) -> FittedTechnique:
    model = RandomForest(positive_weight=training.cost_ratio, seed=training.seed)
    model.fit(training.X, training.mature.y)
    return FittedTechnique(_margin(model), _raw_probability(model, np.log(training.cost_ratio)))


def _resampled(method: Method, share: float) -> Callable[[Training], FittedTechnique]:
    def fit(training: Training) -> FittedTechnique:
        resampled = resample(
            training.X,
            training.mature.y,
            method,
            share=share,
            seed=training.seed,
            categorical=training.discrete_columns if method == "smote_mixed" else (),
            generator=training.generator if method == "generative" else None,
        )
        size = tree_parameters(training.frauds)  # sized by real frauds: copies add no information
        model = Boosting(1.0, training.threads, training.seed, size).fit(resampled.X, resampled.y)
        note = ""
        if method == "generative" and resampled.invented:
            new = resampled.X[len(training.X) :][:ROWS_MAX]
            quality = fidelity(training.X[training.mature.y == 1], new, training.seed)
            note = f"{percent(quality.copy_rate)} copies, detectable with AUC {quality.detection_auc:.2f}"
        return FittedTechnique(
            lambda rows: resampled.corrected(model.anomaly_score(rows.X)),
            _raw_probability(model, 0.0),
            resampled.discarded,
            resampled.invented,
            note,
        )

    return fit


def _outlier(name: str) -> Callable[[Training], FittedTechnique]:
    def fit(training: Training) -> FittedTechnique:
        outliers = training.outliers(name)
        return FittedTechnique(lambda rows: logit(outliers.rank(rows.X)))

    return fit


def _with_outlier_score(training: Training) -> FittedTechnique:
    outliers = training.outliers(DEFAULT_OUTLIER)

    def wider(X: Floats) -> Floats:
        return np.column_stack([X, surprisal(outliers.rank(X))])

    model = Boosting(1.0, training.threads, training.seed).fit(wider(training.X), training.mature.y)
    return FittedTechnique(
        lambda rows: model.anomaly_score(wider(rows.X)), lambda rows: model.fraud_probability(wider(rows.X))
    )


def _auto(strategy: str) -> Callable[[Training], FittedTechnique]:
    def fit(training: Training) -> FittedTechnique:
        model = AutoDetector(strategy, layout=training.layout, seed=training.seed, threads=training.threads)  # type: ignore[arg-type]
        chosen, folds, mature = strategy, None, training.mature
        if strategy != "classification":
            folds = fit_validation_folds(mature, training.layout, model.fit_settings)
        if strategy == "auto":
            evidence = gather_evidence(folds or (), training.review, training.seed)
            chosen = AutoDetector().choose(mature.y, mature.weight, (mature.entities,), evidence).strategy
        model.fit_samples(mature, training.usual, chosen, folds)  # type: ignore[arg-type]
        is_auto = strategy == "auto"
        return FittedTechnique(
            lambda rows: model.rank(rows.raw).suspicion,
            note=f"chose {chosen}" if is_auto else "",
            refit=_auto(chosen) if is_auto else None,
        )

    return fit


def _margin(model: Classifier) -> Callable[[ScoringRows], Floats]:
    return lambda rows: model.anomaly_score(rows.X)


def _raw_probability(model: Classifier, log_weight: float) -> Callable[[ScoringRows], Floats]:
    """The probability of the trained model itself, without undoing its training weight."""
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
    *(
        Technique(known.title, "outlier", _outlier(name))
        for name, known in DETECTORS.items()
        if not known.supervised
    ),
    Technique("blend of both", "hybrid", _auto("blend")),
    Technique("outlier score as a feature", "hybrid", _with_outlier_score),
    Technique("fraudwatch", "auto", _auto("auto")),
)
