"""
AutoDetector, a scikit-learn-style estimator: choose a strategy, fit it, calibrate it.

An `AutoDetector` estimates the prevalence of fraud among the labelled rows, chooses between outlier detection, a blend and
classification, fits that strategy and calibrates its probabilities. The pipeline fits it at every training, with a strategy
chosen there, where earlier choices and entities are known; on its own it can be benchmarked on any arrays.

Time order, oldest first::

    labelled rows ............................ │ rows without a label yet
    └ rows before the fold ─┴ calibration fold ┘
    └ outlier detector: every row that is not a known fraud ─────────────┘

The calibrator is fitted on the scores of a classifier that was fitted on the rows before the fold alone. The final detectors
are fitted on all labelled rows and use that calibrator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit
from sklearn.base import BaseEstimator

from detectors.algorithms.boosting import Boosting
from detectors.base import (
    FRAUDS_NEEDED,
    MIN_FRAUDS_TO_FIT,
    SEED,
    DetectorError,
    Floats,
    Ints,
    Method,
    Strategy,
    as_weights,
    require_fitted,
)
from detectors.evaluation.calibration import BETA_FROM, Calibrator, fit_calibrator
from detectors.evaluation.prevalence import effective_among, estimate_prevalence
from detectors.evaluation.thresholds import Costs
from detectors.inputs.arrays import as_code_columns, as_features, as_partial_labels, column_names
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import RankScale
from detectors.inputs.sample import Layout, Sample
from detectors.registry import DEFAULT_OUTLIER, check_outlier_detector
from detectors.strategy.blend import BlendWeight, blend_of, blend_surprisal, classifier_share, learn_weight
from detectors.strategy.choice import Choice, Evidence, StrategySettings, choose
from detectors.strategy.components import Components
from detectors.strategy.evidence import ReviewBudget, gather_evidence
from detectors.strategy.outlier_team import FitSettings
from detectors.strategy.validation_folds import ValidationFold, fit_validation_folds

NOVELTY = "novelty"  # channel of the flags that the outlier detector raises on its own
FOLD = 0.25  # newest share of the labelled rows: the calibration fold of classification
SURPRISAL_MIN = 1e-300  # keeps the logit finite
REFERENCE_ROWS = 20_000  # training rows that the scores of `fit` refer to; more only cost time
COSTS = Costs(missed_fraud=100.0, review=1.0, missed="constant")  # the article's
REVIEWED = 0.005  # default share of rows that are reviewed: 50 of 10,000 a day


@dataclass(frozen=True)
class Ranks:
    """Outputs of fitted detectors for rows, (n,) each."""

    outlier_score: Floats  # in (0, 1)
    # What ranks rows: the logit of fraud, or of the outlier score where there is no classifier.
    suspicion: Floats


@dataclass(frozen=True)
class FittedStrategy:
    """What an `AutoDetector` has learned: the part of it that is stored."""

    strategy: Strategy
    parts: Components
    calibrator: Calibrator | None  # None under outlier detection
    weight: BlendWeight | None  # of a blend
    reference: RankScale  # of the suspicion of the rows that scores refer to


class AutoDetector(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """
    Outlier detection, a blend or classification, depending on the prevalence and the number of known frauds.

    It is meant to be not much worse than the best of the three in hindsight. It cannot detect fraud that looks usual until
    enough of that fraud is labelled.

    A score is 1 − the share of the reference rows that rank higher, whatever the strategy: a row with .99 ranks among the first
    hundredth of them. After `fit` the reference is the training rows, evenly thinned to some 20,000; the pipeline refers
    the scores of a model to the newest transactions, which were held out (`refer_to`).

    Parameters
    ----------
    strategy
        "auto", or a fixed strategy.
    min_positives_blend, min_positives_classifier, prevalence_gate_low, prevalence_gate_high
        The thresholds of the choice; see `detectors.strategy.choice`.
    outlier
        Name of the outlier detector in `detectors.registry`.
    outlier_columns
        Columns that the outlier detector uses; all by default. Columns derived from labels, or many copies of one feature,
        make it worse.
    seed, threads
        The same seed, rows and threads give the same scores.
    layout
        How raw columns become features, if the columns are not features already.

    Attributes
    ----------
    choice_
        The choice with its rule and sentence; None if the strategy was passed to `fit_samples`.
    strategy_
        The fitted strategy.
    """

    def __init__(
        self,
        strategy: Method = "auto",
        *,
        min_positives_blend: float = 1,
        min_positives_classifier: float = 300,
        prevalence_gate_low: float = 1e-4,
        prevalence_gate_high: float = 1.2e-4,
        outlier: str = DEFAULT_OUTLIER,
        outlier_columns: Sequence[int] | None = None,
        seed: int = SEED,
        threads: int = 1,
        layout: Layout | None = None,
    ) -> None:
        self.strategy = strategy
        self.min_positives_blend = min_positives_blend
        self.min_positives_classifier = min_positives_classifier
        self.prevalence_gate_low = prevalence_gate_low
        self.prevalence_gate_high = prevalence_gate_high
        self.outlier = outlier
        self.outlier_columns = outlier_columns
        self.seed = seed
        self.threads = threads
        self.layout = layout

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        entities: ArrayLike | Sequence[ArrayLike] = (),
    ) -> Self:
        """
        Choose a strategy and fit it.

        Parameters
        ----------
        X
            (n_samples, n_features) numbers, in time order; missing values are imputed with training medians.
        y
            (n_samples,) 1 fraud, 0 genuine, NaN for rows without a label yet; without any, outliers are detected.
        sample_weight
            (n_samples,) how many transactions each row stands for; 1 by default.
        entities
            Who paid, (n_samples,), as numbers or text, or several such columns: frauds on one entity count once in the choice.

        Raises
        ------
        DetectorError
            The labels or lengths are invalid, the strategy needs more frauds than there are, or `outlier` names no detector that
            ranks and explains without labels.
        """
        rows = as_features(X)
        labels = np.full(len(rows), np.nan) if y is None else as_partial_labels(y, len(rows))
        weight = as_weights(sample_weight, len(rows))
        labelled = ~np.isnan(labels)
        codes = as_code_columns(entities, len(rows))
        everything = Sample(rows, labels, weight, np.ones(len(rows)), entity=codes[0] if codes else None)
        mature = everything.take(labelled)
        self.layout_ = self._layout(rows.shape[1])
        folds = fit_validation_folds(mature, self.layout_, self.fit_settings)
        evidence = gather_evidence(folds, ReviewBudget(COSTS, REVIEWED), self.seed)
        choice = self.choose(labels, weight, codes, evidence)
        self.fit_samples(mature, everything.take(labels != 1), choice.strategy, folds)
        thinned = everything.take(slice(None, None, max(1, len(rows) // REFERENCE_ROWS)))
        self.refer_to(self.rank(thinned.raw), thinned.weight)
        self.choice_: Choice | None = choice
        self.feature_names_in_ = column_names(X)
        return self

    def fit_samples(
        self,
        mature: Sample,
        usual: Sample,
        strategy: Strategy,
        folds: Sequence[ValidationFold] | None = None,
        young: Sample | None = None,
    ) -> Self:
        """
        Fit a given strategy on samples that were prepared for it; scores need `refer_to` after it.

        Parameters
        ----------
        mature
            Labelled rows, y in {0, 1}.
        usual
            Rows not known to be fraud, labelled or not, for the outlier detector.
        folds
            Validation folds from which the weight of a blend is learned; made from `mature` by default.
        young
            More labelled rows, which are not a random sample: the classifiers learn from them, with the base rate of `mature`. The
            calibrator, a blend's weight and the check for frauds do without.

        Raises
        ------
        DetectorError
            The strategy has a classifier and there are fewer than two known frauds, or `outlier` names no detector that
            ranks and explains without labels.
        """
        frauds = int((mature.y == 1).sum())
        needed = FRAUDS_NEEDED[strategy]
        if frauds < needed:
            raise DetectorError(
                f"{strategy} needs {'a known fraud' if needed == 1 else f'{needed} known frauds'} to learn from, "
                f"there {'is one' if frauds else 'is none'}",
                remedy="use outlier",
            )
        self.layout_ = self._layout(usual.raw.shape[1])
        self.n_features_in_ = usual.raw.shape[1]
        self.strategy_: Strategy = strategy
        self.choice_ = None
        self.weight_: BlendWeight | None = None
        self.calibrator_: Calibrator | None = None
        self.reference_: RankScale | None = None
        learned = mature if young is None else mature.with_examples(young)
        self._parts: Components | None = Components.fit(
            self.layout_, learned, usual, self.fit_settings, strategy
        )
        if strategy == "blend":
            self._calibrate_blend(
                mature,
                fit_validation_folds(mature, self.layout_, self.fit_settings) if folds is None else folds,
            )
        elif strategy == "classification":
            self.calibrator_ = self._calibrate_classification(mature)
        return self

    def take(self, fitted: FittedStrategy, usual: Sample | None = None) -> Self:
        """Take what was learned from the same labelled rows, and fit only the outlier detectors, if to other rows than there."""
        self._restore(fitted)
        if usual is not None:
            groups = self._layout(usual.raw.shape[1]).groups
            self._parts = fitted.parts.with_outliers(groups, usual, self.fit_settings)
        return self

    @property
    def fit_settings(self) -> FitSettings:
        """The settings of every fit."""
        return FitSettings(check_outlier_detector(self.outlier), self.seed, self.threads)

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Score of each row in (0, 1), (n_samples,): 1 − the share of the reference rows that rank higher."""
        return self.score(self.rank(self._features(X)))

    def fraud_probability(self, X: ArrayLike) -> Floats:
        """Calibrated probability of fraud, (n_samples,); NaN under outlier detection, which has none."""
        return self.probability(self.rank(self._features(X)))

    def refer_to(self, ranks: Ranks, weight: Floats) -> Self:
        """
        Make these rows the reference of scores.

        Parameters
        ----------
        ranks
            Of one or more rows.
        weight
            (n,) how many transactions each stands for.
        """
        self.reference_ = RankScale.fit(ranks.suspicion, weight)
        return self

    def score(self, ranks: Ranks) -> Floats:
        """Score of rows that were already ranked, (n,): strictly increasing in the suspicion."""
        return require_fitted(self.reference_, "the reference of scores").transform(ranks.suspicion)

    def probability(self, ranks: Ranks) -> Floats:
        """Calibrated probability of fraud of rows that were already ranked, (n_samples,)."""
        if self.calibrator_ is None:
            return np.full(len(ranks.outlier_score), np.nan)
        return self.calibrator_.probability(ranks.suspicion)

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of `explain`'s columns."""
        return list(self._fitted().encoder.names)

    def encode(self, raw: Floats) -> Floats:
        """Features of raw rows, (n, n_features)."""
        return self._fitted().encoder.transform(raw)

    def rank(self, raw: Floats) -> Ranks:
        """Outlier score and suspicion of each row of `raw` (n, n_raw), independently of the others."""
        parts = self._fitted()
        X = parts.encoder.transform(raw)
        if self.weight_ is not None:
            sides = parts.sides(X)
            return Ranks(sides.team.rank, _logit(blend_surprisal(self.weight_.value, *sides.mixed)))
        outlier = parts.outliers.rank(X)
        if parts.boosting is None:
            return Ranks(outlier, logit(outlier))
        return Ranks(outlier, parts.boosting.classifier.anomaly_score(X))

    def explain(self, X: ArrayLike, channel: str | None = None) -> Floats:
        """
        Contribution of each feature to the score of `channel`, (n, n_features), positive = more suspicious.

        Without a channel it is that of the fitted strategy, whose score is `anomaly_score`. "outlier" and "novelty" are the
        score of the outlier detector.

        For the blend, each detector's contributions are normalised to a sum of one and weighted by that detector's share in
        the score of the row.
        """
        return self.explain_encoded(self.encode(self._features(X)), channel)

    def explain_encoded(self, X: Floats, channel: str | None = None) -> Floats:
        """The same of rows of features, from `encode`."""
        parts = self._fitted()
        if (channel or self.strategy_) in ("outlier", NOVELTY) or parts.boosting is None:
            return parts.outliers.explain(X)
        if parts.families is None or parts.forest is None or self.weight_ is None:
            return parts.boosting.classifier.explain(X)
        sides = parts.sides(X)
        share = classifier_share(self.weight_.value, *sides.mixed)[:, None]
        families = parts.families.explain(parts.outliers, sides.team, X)
        classifiers = [_normalised(each.classifier.explain(X)) for each in (parts.boosting, parts.forest)]
        return (1.0 - share) * _normalised(families) + share / 2 * sum(classifiers)

    def fitted(self) -> FittedStrategy:
        """What was learned, to be stored."""
        reference = require_fitted(self.reference_, "the reference of scores")
        return FittedStrategy(self.strategy_, self._fitted(), self.calibrator_, self.weight_, reference)

    @classmethod
    def restored(cls, fitted: FittedStrategy, **parameters: Any) -> Self:
        """The detector that had learned this; it scores the same to the bit."""
        return cls(fitted.strategy, layout=fitted.parts.layout, **parameters)._restore(fitted)

    def _restore(self, fitted: FittedStrategy) -> Self:
        self.layout_, self.strategy_, self.choice_ = fitted.parts.layout, fitted.strategy, None
        self.n_features_in_ = self.layout_.encoding.n_columns
        self.calibrator_, self.weight_ = fitted.calibrator, fitted.weight
        self.reference_ = fitted.reference
        self._parts = fitted.parts
        return self

    def choose(
        self,
        labels: Floats,
        weight: Floats,
        entities: Sequence[Ints] = (),
        evidence: Evidence | None = None,
    ) -> Choice:
        """The choice that `fit` would make from these labels and the evidence of held-out frauds; nothing is fitted."""
        mature, frauds = ~np.isnan(labels), labels == 1
        effective = effective_among(frauds[mature], [codes[mature] for codes in entities])
        prevalence = estimate_prevalence(
            round(float(weight[mature].sum())), round(float(weight[frauds].sum())), effective
        )
        bounds = StrategySettings(
            self.strategy,
            self.min_positives_blend,
            self.min_positives_classifier,
            self.prevalence_gate_low,
            self.prevalence_gate_high,
        )
        return choose(prevalence, (), bounds, evidence)

    def _layout(self, n_columns: int) -> Layout:
        return self.layout or Layout.plain(n_columns, self.outlier_columns)

    def _features(self, X: ArrayLike) -> Floats:
        self._fitted()
        names, fitted_names = column_names(X), getattr(self, "feature_names_in_", None)
        if names is not None and fitted_names is not None and names != fitted_names:
            raise DetectorError(
                f"fitted on the columns {', '.join(fitted_names)}, got {', '.join(names)}",
                remedy="pass the same columns in the same order",
            )
        return as_features(X, self.n_features_in_)

    def _fitted(self) -> Components:
        parts: Components | None = getattr(self, "_parts", None)
        return require_fitted(parts, "the detector")

    def _calibrate_blend(self, mature: Sample, folds: Sequence[ValidationFold]) -> None:
        """Learn a blend's weight and calibrator from held-out rows; without any, the calibrator from the training rows."""
        self.weight_ = learn_weight(folds, float(len(np.unique(mature.entities[mature.y == 1]))))
        if np.count_nonzero(mature.y == 1) < MIN_FRAUDS_TO_FIT:
            self.weight_ = replace(self.weight_, value=0.0)
        if folds:
            newest = _newest(folds)
            suspicion = [_logit(blend_of(self.weight_.value, fold)) for fold in newest]
            y, weight = ([getattr(fold, name) for fold in newest] for name in ("y", "weight"))
            fold = np.concatenate(suspicion), np.concatenate(y), np.concatenate(weight)
        else:
            of_training = self.rank(mature.raw).suspicion
            fold = of_training, mature.y, mature.weight
        self.calibrator_ = fit_calibrator(*fold)

    def _calibrate_classification(self, mature: Sample) -> Calibrator:
        """Fit on the rows before the fold, calibrate on the fold; with too few frauds, calibrate the level only, on all rows."""
        cut = round(len(mature) * (1 - FOLD))
        past, fold = mature.take(slice(0, cut)), mature.take(slice(cut, len(mature)))
        if np.count_nonzero(past.y == 1) < MIN_FRAUDS_TO_FIT:
            past, fold = mature, mature
        encoder = Encoder.fit(self.layout_.encoding, past.raw, past.y, past.weight)
        boosting = Boosting(seed=self.seed, threads=self.threads)
        boosting.fit(encoder.transform(past.raw), past.y, past.weight)
        return fit_calibrator(boosting.anomaly_score(encoder.transform(fold.raw)), fold.y, fold.weight)


def _newest(folds: Sequence[ValidationFold]) -> Sequence[ValidationFold]:
    """
    The newest folds that hold `BETA_FROM` frauds together, or all.

    Detectors of early folds were trained on fewer frauds than the final ones and rank worse: they would make probabilities too low.
    """
    frauds = np.cumsum([np.count_nonzero(fold.y == 1) for fold in reversed(folds)])
    return folds[-1 - int(np.searchsorted(frauds[:-1], BETA_FROM)) :]


def _logit(surprisals: Floats) -> Floats:
    """Logit of the blend from its surprisal s, as from the rank of a single detector: ln(e^s − 1)."""
    s = np.maximum(surprisals, SURPRISAL_MIN)
    return s + np.log(-np.expm1(-s))


def _normalised(contributions: Floats) -> Floats:
    total = np.abs(contributions).sum(axis=1, keepdims=True)
    return contributions / np.where(total > 0, total, 1.0)
