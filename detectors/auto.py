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
from scipy.special import expit, logit
from sklearn.base import BaseEstimator

from detectors.base import Classifier, DetectorError, NotFitted, State
from detectors.blend import RankScale
from detectors.boosting import Boosting
from detectors.calibration import Calibrator, fit_calibrator
from detectors.choose import Choice, ChooseSettings, choose
from detectors.encoding import Encoder, EncodingPlan
from detectors.isolation_forest import IsolationForest
from detectors.random_forest import RandomForest
from detectors.rarity import effective_positives, measure

Floats = NDArray[np.float64]
Strategy = Literal["outlier", "bridge", "classification"]

NOVELTY = "novelty"  # channel of the outlier detector's own share of flags
FOLD = 0.25  # newest share of the labelled rows that calibrates
MIN_FRAUDS_TO_FIT = 2  # a classifier of one example would be that example
BRIDGE_GENUINE = 10_000  # half the usual: a fit takes half as long and ranks as well, within noise


@dataclass(frozen=True)
class Sample:
    """Rows of a training, in time order."""

    raw: Floats  # (n, n_raw)
    y: Floats  # (n,) 1 fraud, 0 genuine, NaN unknown
    weight: Floats  # (n,) how many transactions the row stands for
    amount: Floats  # (n,) in the base currency

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: slice | NDArray[np.bool_]) -> "Sample":
        """These rows only."""
        return Sample(
            np.ascontiguousarray(self.raw[rows]), self.y[rows], self.weight[rows], self.amount[rows]
        )


@dataclass(frozen=True)
class Layout:
    """How raw columns become features, and which features the outlier detector looks at."""

    encoding: EncodingPlan
    outlier_columns: tuple[int, ...]  # positions among the encoder's outputs

    @classmethod
    def plain(cls, n_columns: int, outlier_columns: Sequence[int] | None = None) -> "Layout":
        """Columns as they are, missing values filled with medians; the outlier detector sees all, or these."""
        plan = EncodingPlan(passthrough=tuple((f"x{place}", place) for place in range(n_columns)))
        return cls(plan, tuple(range(n_columns) if outlier_columns is None else outlier_columns))


@dataclass(frozen=True)
class Ranks:
    """What fitted detectors say of rows: rarity in (0, 1) and, with a classifier, the logit of suspicion."""

    outlier_score: Floats
    suspicion: Floats | None

    @property
    def score(self) -> Floats:
        """What ranks a row, in [0, 1]; strictly monotone in what is believed."""
        return self.outlier_score if self.suspicion is None else expit(self.suspicion)


@dataclass(frozen=True)
class _Fitted:
    """The detectors of one strategy."""

    encoder: Encoder
    outlier: IsolationForest
    outlier_scale: RankScale
    classifier: Classifier | None = None
    classifier_scale: RankScale | None = None  # of a blend


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
        strategy: Literal["auto", "outlier", "bridge", "classification"] = "auto",
        *,
        few: float = 10,
        enough: float = 100,
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
        everything = Sample(rows, labels, weight, np.ones(len(rows)))
        choice = self.choose(labels, weight, [np.asarray(one) for one in entities])
        self.fit_samples(everything.take(known), everything.take(labels != 1), choice.strategy)
        self.choice_: Choice | None = choice
        return self

    def fit_samples(self, mature: Sample, usual: Sample, strategy: Strategy) -> Self:
        """
        Fit a strategy that was chosen elsewhere, on samples drawn for it.

        Parameters
        ----------
        mature
            Labelled rows, y in {0, 1}.
        usual
            Rows that are not known to be fraud, label or no label, for the outlier detector.
        """
        if strategy != "outlier" and not (mature.y == 1).any():
            raise DetectorError(f"{strategy} needs a known fraud to learn from, there is none: use outlier")
        self.layout_ = self.layout or Layout.plain(usual.raw.shape[1], self.outlier_columns)
        self.n_features_in_ = usual.raw.shape[1]
        self.strategy_: Strategy = strategy
        self.choice_ = None
        self.calibrator_: Calibrator | None = (
            None if strategy == "outlier" else self._calibrate(mature, usual)
        )
        self._parts: _Fitted | None = self._fit_parts(mature, usual)
        return self

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

        For the bridge, both detectors' contributions are first brought to a sum of one, since a blend of
        ranks gives both an equal say.
        """
        parts = self._fitted()
        X = parts.encoder.transform(raw)
        if channel in ("outlier", NOVELTY) or parts.classifier is None:
            return self._explain_outlier(parts, X)
        if parts.classifier_scale is None:
            return parts.classifier.explain(X)
        return _normalised(self._explain_outlier(parts, X)) + _normalised(parts.classifier.explain(X))

    def states(self) -> dict[str, State]:
        """All that was fitted, part by part, as plain arrays and JSON."""
        parts = self._fitted()
        named = {name: getattr(parts, name) for name in _Fitted.__dataclass_fields__}
        named["calibrator"] = self.calibrator_
        return {name: part.state() for name, part in named.items() if part is not None}

    @classmethod
    def from_states(
        cls, states: Mapping[str, State], strategy: Strategy, layout: Layout, **parameters: Any
    ) -> Self:
        """The detector that `states` were taken from; it scores bit for bit alike."""
        detector = cls(strategy, layout=layout, **parameters)
        kind: type[Classifier] = RandomForest if strategy == "bridge" else Boosting
        detector.layout_, detector.strategy_, detector.choice_ = layout, strategy, None
        detector.n_features_in_ = layout.encoding.n_columns
        detector.calibrator_ = Calibrator.from_state(states["calibrator"]) if "calibrator" in states else None
        scale = states.get("classifier_scale")
        detector._parts = _Fitted(
            encoder=Encoder.from_state(states["encoder"]),
            outlier=IsolationForest.from_state(states["outlier"]),
            outlier_scale=RankScale.from_state(states["outlier_scale"]),
            classifier=kind.from_state(states["classifier"]) if "classifier" in states else None,
            classifier_scale=None if scale is None else RankScale.from_state(scale),
        )
        return detector

    def choose(self, labels: Floats, weight: Floats, entities: Sequence[NDArray[Any]] = ()) -> Choice:
        """What `fit` would choose for these labels, without fitting anything."""
        mature, frauds = ~np.isnan(labels), labels == 1
        effective = float(frauds.sum())
        if entities:
            effective = effective_positives(
                *(codes[frauds] for codes in entities), mature=[c[mature] for c in entities]
            )
        rarity = measure(round(float(weight[mature].sum())), round(float(weight[frauds].sum())), effective)
        bounds = ChooseSettings(self.strategy, self.few, self.enough, self.rare, self.common)
        return choose(rarity, (), bounds)

    def _fitted(self) -> _Fitted:
        parts: _Fitted | None = getattr(self, "_parts", None)
        if parts is None:
            raise NotFitted("the detector has not chosen yet: call fit first")
        return parts

    def _rank(self, parts: _Fitted, raw: Floats) -> Ranks:
        X = parts.encoder.transform(raw)
        outlier_score = parts.outlier_scale.transform(parts.outlier.anomaly_score(self._outlier_view(X)))
        if parts.classifier is None:
            return Ranks(outlier_score, None)
        margin = parts.classifier.anomaly_score(X)
        if parts.classifier_scale is None:
            return Ranks(outlier_score, margin)
        return Ranks(outlier_score, logit((outlier_score + parts.classifier_scale.transform(margin)) / 2))

    def _outlier_view(self, X: Floats) -> Floats:
        return np.ascontiguousarray(X[:, list(self.layout_.outlier_columns)])

    def _explain_outlier(self, parts: _Fitted, X: Floats) -> Floats:
        contributions = np.zeros_like(X)
        contributions[:, list(self.layout_.outlier_columns)] = parts.outlier.explain(self._outlier_view(X))
        return contributions

    def _fit_parts(self, mature: Sample, usual: Sample) -> _Fitted:
        known = mature if len(mature) else usual
        encoder = Encoder(self.layout_.encoding).fit(known.raw, known.y, known.weight)
        view = self._outlier_view(encoder.transform(usual.raw))
        outlier = IsolationForest(n_trees=self.trees, seed=self.seed).fit(view)
        scale = RankScale().fit(outlier.anomaly_score(view), usual.weight)
        if self.strategy_ == "outlier":
            return _Fitted(encoder, outlier, scale)
        X = encoder.transform(mature.raw)
        classifier = self._classifier().fit(X, mature.y, mature.weight)
        if self.strategy_ == "classification":
            return _Fitted(encoder, outlier, scale, classifier)
        margins = RankScale().fit(classifier.anomaly_score(X), mature.weight)
        return _Fitted(encoder, outlier, scale, classifier, margins)

    def _classifier(self) -> Classifier:
        """Few positives bear only a classifier that cannot memorise them: depth-limited trees, bagged."""
        if self.strategy_ == "bridge":
            return RandomForest(seed=self.seed, max_genuine=BRIDGE_GENUINE)
        return Boosting(seed=self.seed, threads=self.threads)

    def _calibrate(self, mature: Sample, usual: Sample) -> Calibrator:
        """Fit on the past of the fold, calibrate on the fold; with too few frauds, the level only, on all of them."""
        cut = round(len(mature) * (1 - FOLD))
        past, fold = mature.take(slice(0, cut)), mature.take(slice(cut, len(mature)))
        earlier = usual.take(slice(0, max(1, round(len(usual) * (1 - FOLD)))))
        if np.count_nonzero(past.y == 1) < MIN_FRAUDS_TO_FIT:
            past, fold, earlier = mature, mature, usual
        suspicion = self._rank(self._fit_parts(past, earlier), fold.raw).suspicion
        assert suspicion is not None
        return fit_calibrator(suspicion, fold.y, fold.weight)


def _normalised(contributions: Floats) -> Floats:
    total = np.abs(contributions).sum(axis=1, keepdims=True)
    return contributions / np.where(total > 0, total, 1.0)
