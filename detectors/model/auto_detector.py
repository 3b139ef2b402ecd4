"""
Choose, then fit what was chosen: a scikit-learn-style estimator over arrays.

An `AutoDetector` measures how rare fraud is among the labelled rows, chooses between outlier detection, a blend and
classification, fits that and calibrates it. It is what the pipeline fits at every training, with the choice made
there, where earlier choices and entities are known; anybody can benchmark it on arrays of their own.

Time order, oldest first::

    labelled rows ............................ │ rows without a label yet
    └ past of the fold ─────┴ fold: calibrates ┘
    └ outlier detector: every row that is not a known fraud ─────────────┘

The fold calibrates detectors fitted on its past alone; those that are kept are then fitted on all labelled rows and
borrow that calibrator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator

from detectors.base import ArtefactError, DetectorError, Floats, NotFitted, State
from detectors.evaluation.calibration import BETA_FROM, Calibrator, fit_calibrator
from detectors.evaluation.prevalence import effective_among, measure
from detectors.evaluation.thresholds import Costs
from detectors.inputs.sample import Layout, Sample
from detectors.strategy.blend import FORM, Weight, blended, classifiers_part, learned_weight
from detectors.strategy.choice import Choice, ChooseSettings, Evidence, choose
from detectors.strategy.components import Fitting, Parts, surprisal
from detectors.strategy.evidence import Review, evidence
from detectors.strategy.held_out import HeldOut, held_out

Strategy = Literal["outlier", "blend", "classification"]

NOVELTY = "novelty"  # channel of the outlier detector's own share of flags
FOLD = 0.25  # newest share of the labelled rows that calibrates classification
MIN_FRAUDS_TO_FIT = 2  # a classifier of one example would be that example
SURPRISAL_MIN = 1e-300  # its logit is finite
COSTS = Costs(missed_fraud=100.0, review=1.0, missed="constant")  # the article's
REVIEWED = 0.005  # share of rows that is taken for reviewed where nobody says: 50 of 10,000 a day


@dataclass(frozen=True)
class Ranks:
    """What fitted detectors say of rows: rarity in (0, 1) and, with a classifier, the logit of suspicion."""

    outlier_score: Floats
    suspicion: Floats | None

    @property
    def score(self) -> Floats:
        """What ranks a row, in [0, 1]; strictly monotone in what is believed."""
        return self.outlier_score if self.suspicion is None else expit(self.suspicion)


class AutoDetector(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """
    Outlier detection, a blend, or classification: whichever the number of known frauds bears.

    Not better than the best of the three in hindsight, and not much worse: that is its claim. It cannot know that
    fraud hides where nothing is unusual until enough of it is labelled.

    Parameters
    ----------
    strategy
        "auto", or the one to insist on.
    few, enough, rare, common
        The bounds of the choice; see `detectors.choose`.
    outlier_columns
        Columns that the outlier detector looks at; all by default. Columns made of labels, or many copies of one fact,
        blind it.
    trees, seed, threads
        Trees of the isolation forest; the same seed, rows and threads give the same scores.
    layout
        How raw columns become features, for columns that are not features yet.

    Attributes
    ----------
    choice_
        What was chosen, the rule and a sentence; None where the strategy was given to `fit_samples`.
    strategy_
        The strategy that was fitted.
    """

    def __init__(
        self,
        strategy: Literal["auto", "outlier", "blend", "classification"] = "auto",
        *,
        few: float = 2,
        enough: float = 300,
        rare: float = 1e-4,
        common: float = 1.2e-4,
        outlier_columns: Sequence[int] | None = None,
        trees: int = 200,
        seed: int = 7,
        threads: int = 1,
        layout: Layout | None = None,
    ) -> None:
        self.strategy = strategy
        self.few = few
        self.enough = enough
        self.rare = rare
        self.common = common
        self.outlier_columns = outlier_columns
        self.trees = trees
        self.seed = seed
        self.threads = threads
        self.layout = layout

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        entities: Sequence[ArrayLike] = (),
    ) -> Self:
        """
        Choose and fit.

        Parameters
        ----------
        X
            (n_samples, n_features) in time order; missing values are filled with training medians.
        y
            (n_samples,) 1 fraud, 0 genuine, NaN for rows whose label is not known yet.
        sample_weight
            (n_samples,) how many transactions each row stands for; 1 by default.
        entities
            Columns (n_samples,) of codes from 0 that say who took part: frauds on one entity then count once in the choice.

        Raises
        ------
        DetectorError
            Other labels, other lengths, or a strategy that needs frauds where there are none.
        """
        rows = np.require(X, dtype=np.float64, requirements="C")
        labels = np.asarray(y, dtype=np.float64)
        weight = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if rows.ndim != 2 or labels.shape != (len(rows),) or weight.shape != (len(rows),):
            raise DetectorError(
                f"X, y and weights need one length, got {rows.shape}, {labels.shape}, {weight.shape}"
            )
        if not (np.isnan(labels) | np.isin(labels, (0.0, 1.0))).all():
            raise DetectorError("y must be 1 for fraud, 0 for genuine or NaN for not known yet in every row")
        known = ~np.isnan(labels)
        everything = Sample(rows, labels, weight, np.ones(len(rows)), entity=_first(entities))
        mature = everything.take(known)
        self.layout_ = self._layout(rows.shape[1])
        folds = held_out(mature, self.layout_, self.fitting)
        told = evidence(folds, Review(COSTS, REVIEWED), self.seed)
        choice = self.choose(labels, weight, [np.asarray(one) for one in entities], told)
        self.fit_samples(mature, everything.take(labels != 1), choice.strategy, folds)
        self.choice_: Choice | None = choice
        return self

    def fit_samples(
        self, mature: Sample, usual: Sample, strategy: Strategy, folds: Sequence[HeldOut] | None = None
    ) -> Self:
        """
        Fit a strategy that was chosen elsewhere, on samples drawn for it.

        Parameters
        ----------
        mature
            Labelled rows, y in {0, 1}.
        usual
            Rows that are not known to be fraud, label or no label, for the outlier detector.
        folds
            Held-out rows that weigh a blend; made of `mature` by default.

        Raises
        ------
        DetectorError
            A strategy with a classifier, and fewer than two known frauds.
        """
        frauds = int((mature.y == 1).sum())
        if strategy != "outlier" and frauds < MIN_FRAUDS_TO_FIT:
            raise DetectorError(
                f"{strategy} needs {MIN_FRAUDS_TO_FIT} known frauds to learn from, there {_are(frauds)}: use outlier"
            )
        self.layout_ = self._layout(usual.raw.shape[1])
        self.n_features_in_ = usual.raw.shape[1]
        self.strategy_: Strategy = strategy
        self.choice_ = None
        self.weight_: Weight | None = None
        self.calibrator_: Calibrator | None = None
        self._parts: Parts | None = Parts.fit(self.layout_, mature, usual, self.fitting, strategy)
        if strategy == "blend":
            self._weigh(mature, held_out(mature, self.layout_, self.fitting) if folds is None else folds)
        elif strategy == "classification":
            self.calibrator_ = self._calibrate(mature, usual)
        return self

    @property
    def fitting(self) -> Fitting:
        """What every fit is told."""
        return Fitting(self.trees, self.seed, self.threads)

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Suspicion of each row in [0, 1], (n_samples,); higher = more suspicious."""
        return self.rank(np.require(X, dtype=np.float64, requirements="C")).score

    def fraud_probability(self, X: ArrayLike) -> Floats:
        """Calibrated probability of fraud, (n_samples,); NaN under `outlier`, which has none."""
        return self.probability(self.rank(np.require(X, dtype=np.float64, requirements="C")))

    def probability(self, ranks: Ranks) -> Floats:
        """Calibrated probability of rows that were ranked already."""
        if self.calibrator_ is None or ranks.suspicion is None:
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
        """Rarity and suspicion of each row of `raw` (n, n_raw); a row's do not depend on the rows beside it."""
        return self._rank(self._fitted(), raw)

    def explain(self, raw: Floats, channel: str) -> Floats:
        """
        Contribution of each feature to the score of `channel`, (n, n_features), positive = more suspicious.

        For the blend, each detector's contributions are first brought to a sum of one, and count as far as the row owes
        its score to that detector.
        """
        parts = self._fitted()
        X = parts.encoder.transform(raw)
        if channel in ("outlier", NOVELTY) or parts.boosting is None:
            return parts.explain_outlier(X)
        if parts.forest is None or self.weight_ is None:
            return parts.boosting.classifier.explain(X)
        said = surprisal(parts.outlier_rank(X)), parts.boosting.surprisal(X), parts.forest.surprisal(X)
        share = classifiers_part(self.weight_.value, *said)[:, None]
        classifiers = [_normalised(one.classifier.explain(X)) for one in (parts.boosting, parts.forest)]
        return (1.0 - share) * _normalised(parts.explain_outlier(X)) + share / 2 * sum(classifiers)

    def states(self) -> dict[str, State]:
        """All that was fitted, part by part, as plain arrays and JSON."""
        found = self._fitted().states()
        if self.calibrator_ is not None:
            found["calibrator"] = self.calibrator_.state()
        if self.weight_ is not None:
            found["blend"] = State({"form": FORM, **vars(self.weight_)}, {})
        return found

    @classmethod
    def from_states(
        cls, states: Mapping[str, State], strategy: Strategy, layout: Layout, **parameters: Any
    ) -> Self:
        """
        The detector that `states` were taken from; it scores bit for bit alike.

        Raises
        ------
        ArtefactError
            Something that the strategy needs is missing.
        """
        detector = cls(strategy, layout=layout, **parameters)
        detector.layout_, detector.strategy_, detector.choice_ = layout, strategy, None
        detector.n_features_in_ = layout.encoding.n_columns
        detector.calibrator_ = Calibrator.from_state(states["calibrator"]) if "calibrator" in states else None
        detector._parts = Parts.from_states(states, layout, strategy)
        detector.weight_ = None
        if strategy == "blend":
            told = dict(states["blend"].meta) if "blend" in states else {}
            if told.pop("form", None) != FORM:
                raise ArtefactError(
                    "the stored blend was made by an earlier version of fraudwatch, which blended differently: train anew "
                    "with fraudwatch train"
                )
            detector.weight_ = Weight(**told)
        return detector

    def choose(
        self,
        labels: Floats,
        weight: Floats,
        entities: Sequence[NDArray[Any]] = (),
        told: Evidence | None = None,
    ) -> Choice:
        """What these labels, and what held-out frauds told, let `fit` choose; nothing is fitted."""
        mature, frauds = ~np.isnan(labels), labels == 1
        effective = effective_among(frauds[mature], [codes[mature] for codes in entities])
        rarity = measure(round(float(weight[mature].sum())), round(float(weight[frauds].sum())), effective)
        bounds = ChooseSettings(self.strategy, self.few, self.enough, self.rare, self.common)
        return choose(rarity, (), bounds, told)

    def _layout(self, n_columns: int) -> Layout:
        return self.layout or Layout.plain(n_columns, self.outlier_columns)

    def _fitted(self) -> Parts:
        parts: Parts | None = getattr(self, "_parts", None)
        if parts is None:
            raise NotFitted("the detector has not chosen yet: call fit first")
        return parts

    def _rank(self, parts: Parts, raw: Floats) -> Ranks:
        X = parts.encoder.transform(raw)
        outlier = parts.outlier_rank(X)
        if parts.boosting is None:
            return Ranks(outlier, None)
        if parts.forest is None or self.weight_ is None:
            return Ranks(outlier, parts.boosting.classifier.anomaly_score(X))
        said = surprisal(outlier), parts.boosting.surprisal(X), parts.forest.surprisal(X)
        return Ranks(outlier, _blend(self.weight_, *said))

    def _weigh(self, mature: Sample, folds: Sequence[HeldOut]) -> None:
        """Learn a blend's weight and level from held-out rows; without any, the level from the training rows."""
        self.weight_ = learned_weight(folds)
        if folds:
            newest = _newest(folds)
            suspicion = [_blend(self.weight_, fold.outlier, fold.boosting, fold.forest) for fold in newest]
            y, weight = ([getattr(fold, name) for fold in newest] for name in ("y", "weight"))
            told = np.concatenate(suspicion), np.concatenate(y), np.concatenate(weight)
        else:
            of_training = self._rank(self._fitted(), mature.raw).suspicion
            assert of_training is not None
            told = of_training, mature.y, mature.weight
        self.calibrator_ = fit_calibrator(*told)

    def _calibrate(self, mature: Sample, usual: Sample) -> Calibrator:
        """Fit on the past of the fold, calibrate on the fold; with too few frauds, the level only, on all of them."""
        cut = round(len(mature) * (1 - FOLD))
        past, fold = mature.take(slice(0, cut)), mature.take(slice(cut, len(mature)))
        earlier = usual.take(slice(0, max(1, round(len(usual) * (1 - FOLD)))))
        if np.count_nonzero(past.y == 1) < MIN_FRAUDS_TO_FIT:
            past, fold, earlier = mature, mature, usual
        parts = Parts.fit(self.layout_, past, earlier, self.fitting, "classification")
        suspicion = self._rank(parts, fold.raw).suspicion
        assert suspicion is not None
        return fit_calibrator(suspicion, fold.y, fold.weight)


def _newest(folds: Sequence[HeldOut]) -> Sequence[HeldOut]:
    """
    The newest folds that hold `BETA_FROM` frauds together, or all.

    Detectors of early folds knew fewer frauds than the ones to be calibrated, and found fewer: with them probabilities are too low.
    """
    held = np.cumsum([np.count_nonzero(fold.y == 1) for fold in reversed(folds)])
    return folds[-1 - int(np.searchsorted(held[:-1], BETA_FROM)) :]


def _blend(weight: Weight, outlier: Floats, boosting: Floats, forest: Floats) -> Floats:
    """Logit of the blend, as if its surprisal were that of one detector's rank: ln(e^s − 1)."""
    s = np.maximum(blended(weight.value, outlier, boosting, forest), SURPRISAL_MIN)
    return s + np.log(-np.expm1(-s))


def _first(entities: Sequence[ArrayLike]) -> NDArray[np.int64] | None:
    return np.asarray(entities[0], dtype=np.int64) if len(entities) else None


def _are(frauds: int) -> str:
    return "is one" if frauds else "is none"


def _normalised(contributions: Floats) -> Floats:
    total = np.abs(contributions).sum(axis=1, keepdims=True)
    return contributions / np.where(total > 0, total, 1.0)
