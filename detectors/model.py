"""
A fitted model: what one training leaves behind and all that scoring needs.

A `Ranker` orders transactions; a `Model` is a ranker with a calibrator and the thresholds of its channels.
Both are arithmetic over the raw feature matrix of `pipeline.features`: the encoder is part of them, so a
fold that judges a ranker never sees an encoding learned from its own rows.

Time order inside one training, oldest first::

    mature transactions, labelled ............ │ young ................. │ newest week │ training date
    └ past of the fold ─────┴ fold: calibrates ┘                         └ sets thresholds
    └ outlier detector: every transaction that is not a known fraud ─────┘

The fold calibrates a ranker fitted on its past alone; the ranker that is kept is then fitted on all mature
transactions and borrows that calibrator. Thresholds come from the newest week, which nothing was fitted on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from detectors.artefact import pack, unpack, verify_samples
from detectors.base import Classifier, State
from detectors.blend import RankScale
from detectors.boosting import Boosting
from detectors.calibration import Calibrator, fit_calibrator
from detectors.drift import Drift, Reference, compare
from detectors.encoding import Encoder, EncodingPlan
from detectors.isolation_forest import IsolationForest
from detectors.random_forest import RandomForest
from detectors.threshold import capacity_threshold, cost_threshold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Strategy = Literal["outlier", "bridge", "classification"]

NOVELTY = "novelty"  # channel of the outlier detector's own share of flags
FOLD = 0.25  # newest share of the mature transactions that calibrates
MIN_FRAUDS_TO_FIT = 2  # a classifier of one example would be that example
BRIDGE_GENUINE = 10_000  # half the usual: a fit takes half as long and ranks as well, within noise
SAMPLE_ROWS = 16  # rows kept with their scores: a loaded model must repeat them exactly


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
class ModelSettings:
    """What a training is told; all of it belongs to the config hash."""

    strategy: Strategy
    seed: int = 7
    threads: int = 1
    trees: int = 200
    missed_fraud: float = 100.0  # cost of a missed fraud, in reviews
    review: float = 1.0  # cost of one review, in the base currency
    missed: Literal["constant", "amount"] = "constant"
    per_day: float = 50.0
    outlier_share: float = 0.1


@dataclass(frozen=True)
class Layout:
    """How raw columns become features, and which features the outlier detector looks at."""

    encoding: EncodingPlan
    outlier_columns: tuple[int, ...]  # positions among the encoder's outputs


@dataclass(frozen=True)
class Ranks:
    """What a ranker says of rows: rarity in (0, 1) and, with a classifier, the logit of suspicion."""

    outlier_score: Floats
    suspicion: Floats | None


@dataclass(frozen=True)
class Scores:
    """One entry a row; `channel` is the one whose rule is stated by decision_value and threshold."""

    score: Floats
    outlier_score: Floats
    fraud_probability: Floats  # NaN under `outlier`
    decision_value: Floats
    threshold: Floats
    channel: NDArray[np.object_]
    flagged: NDArray[np.bool_]


@dataclass(frozen=True)
class Ranker:
    """Orders transactions by suspicion; fitted, without thresholds."""

    strategy: Strategy
    layout: Layout
    encoder: Encoder
    outlier: IsolationForest
    outlier_scale: RankScale
    classifier: Classifier | None = None
    classifier_scale: RankScale | None = None

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of `explain`'s columns."""
        return list(self.encoder.names)

    def rank(self, raw: Floats) -> Ranks:
        """Rarity and suspicion of each row of `raw` (n, n_raw)."""
        X = self.encoder.transform(raw)
        outlier_score = self.outlier_scale.transform(self.outlier.anomaly_score(self._outlier_view(X)))
        if self.classifier is None:
            return Ranks(outlier_score, None)
        margin = self.classifier.anomaly_score(X)
        if self.classifier_scale is None:
            return Ranks(outlier_score, margin)
        return Ranks(outlier_score, logit((outlier_score + self.classifier_scale.transform(margin)) / 2))

    def explain(self, raw: Floats, channel: str) -> Floats:
        """
        Contribution of each feature to the score of `channel`, (n, n_features), positive = more suspicious.

        For the bridge, both detectors' contributions are first brought to a sum of one, since a blend of
        ranks gives both an equal say.
        """
        X = self.encoder.transform(raw)
        if channel in ("outlier", NOVELTY) or self.classifier is None:
            return self._explain_outlier(X)
        if self.classifier_scale is None:
            return self.classifier.explain(X)
        return _normalised(self._explain_outlier(X)) + _normalised(self.classifier.explain(X))

    def _outlier_view(self, X: Floats) -> Floats:
        return np.ascontiguousarray(X[:, list(self.layout.outlier_columns)])

    def _explain_outlier(self, X: Floats) -> Floats:
        contributions = np.zeros_like(X)
        contributions[:, list(self.layout.outlier_columns)] = self.outlier.explain(self._outlier_view(X))
        return contributions


@dataclass(frozen=True)
class Model:
    """A ranker, its calibrator, its thresholds and the sample that drift is measured against."""

    ranker: Ranker
    settings: ModelSettings
    calibrator: Calibrator | None
    thresholds: Mapping[str, float]
    reference: Reference  # the features of the training sample
    score_reference: Reference  # the score as the newest week, out of time, had it
    notes: Mapping[str, Any]  # JSON: what the pipeline wants back with the model
    samples: Floats  # (SAMPLE_ROWS, n_raw)

    @property
    def strategy(self) -> Strategy:
        """The strategy whose name is also the main channel's."""
        return self.settings.strategy

    def score(self, raw: Floats, amount: Floats) -> Scores:
        """
        Score rows; a row's result does not depend on the rows beside it.

        Parameters
        ----------
        raw
            (n, n_raw) raw features.
        amount
            (n,) amounts in the base currency, for amount-dependent costs.
        """
        ranks = self.ranker.rank(raw)
        probability = _probability(self.calibrator, ranks)
        value = _decision_value(self.settings, ranks, probability, amount)
        main = value >= self.thresholds[self.strategy]
        novel = ~main & (ranks.outlier_score >= self.thresholds[NOVELTY])
        return Scores(
            score=_score(ranks),
            outlier_score=ranks.outlier_score,
            fraud_probability=probability,
            decision_value=np.where(novel, ranks.outlier_score, value),
            threshold=np.where(novel, self.thresholds[NOVELTY], self.thresholds[self.strategy]),
            channel=np.where(novel, NOVELTY, self.strategy).astype(object),
            flagged=main | novel,
        )

    def drift(self, raw: Floats, scores: Scores) -> list[Drift]:
        """How far features and score of a window have moved from the training's."""
        of_features = compare(self.reference, self.ranker.encoder.transform(raw))
        return of_features + compare(self.score_reference, scores.score.reshape(-1, 1))

    def to_bytes(self) -> bytes:
        """The model as an artefact without pickle."""
        scores = self.score(self.samples, np.ones(len(self.samples)))
        parts = {name: part.state() for name, part in self._parts().items()}
        parts["samples"] = State({}, {"raw": self.samples, "score": scores.score})
        layout = self.ranker.layout
        return pack(
            parts,
            {
                "features": self.ranker.names,
                "settings": asdict(self.settings),
                "thresholds": dict(self.thresholds),
                "outlier_columns": list(layout.outlier_columns),
                "encoding": layout.encoding.to_json(),
                "notes": dict(self.notes),
            },
        )

    @classmethod
    def from_bytes(cls, artefact: bytes) -> "Model":
        """
        Load a model and make sure it scores its stored sample rows exactly as when it was stored.

        Raises
        ------
        ArtefactError
            When a byte changed, the format is another, or the sample rows score differently.
        """
        parts, manifest = unpack(artefact)
        settings = ModelSettings(**manifest["settings"])
        layout = Layout(EncodingPlan.from_json(manifest["encoding"]), tuple(manifest["outlier_columns"]))
        model = cls(
            ranker=_ranker_of(parts, settings, layout),
            settings=settings,
            calibrator=Calibrator.from_state(parts["calibrator"]) if "calibrator" in parts else None,
            thresholds=manifest["thresholds"],
            reference=Reference.from_state(parts["reference"]),
            score_reference=Reference.from_state(parts["score_reference"]),
            notes=manifest["notes"],
            samples=parts["samples"].arrays["raw"],
        )
        verify_samples(parts, manifest, lambda raw: model.score(raw, np.ones(len(raw))).score)
        return model

    def _parts(self) -> dict[str, Any]:
        ranker = self.ranker
        parts = {
            "encoder": ranker.encoder,
            "outlier": ranker.outlier,
            "outlier_scale": ranker.outlier_scale,
            "classifier": ranker.classifier,
            "classifier_scale": ranker.classifier_scale,
            "calibrator": self.calibrator,
            "reference": self.reference,
            "score_reference": self.score_reference,
        }
        return {name: part for name, part in parts.items() if part is not None}


def fit_model(
    settings: ModelSettings,
    layout: Layout,
    mature: Sample,
    usual: Sample,
    recent: Sample,
    days: float,
    notes: Mapping[str, Any],
) -> Model:
    """
    Fit one training's model.

    Parameters
    ----------
    mature
        Labelled transactions, y in {0, 1}.
    usual
        Transactions that are not known to be fraud, label or no label, for the outlier detector.
    recent
        The newest transactions, which nothing is fitted on: thresholds are set on their scores.
    days
        Length of `recent` in days: its weights over this length are the daily volume.
    """
    calibrator = None if settings.strategy == "outlier" else _calibrate(settings, layout, mature, usual)
    ranker = _fit_ranker(settings, layout, mature, usual)
    model = Model(
        ranker=ranker,
        settings=settings,
        calibrator=calibrator,
        thresholds={settings.strategy: np.inf, NOVELTY: np.inf},
        reference=Reference.fit(ranker.encoder.transform(usual.raw), ranker.names),
        score_reference=_score_reference(ranker, recent),
        notes=notes,
        samples=np.ascontiguousarray(recent.raw[:SAMPLE_ROWS]),
    )
    return replace(model, thresholds=_thresholds(model, recent, days))


def _fit_ranker(settings: ModelSettings, layout: Layout, mature: Sample, usual: Sample) -> Ranker:
    known = mature if len(mature) else usual
    encoder = Encoder(layout.encoding).fit(known.raw, known.y, known.weight)
    view = np.ascontiguousarray(encoder.transform(usual.raw)[:, list(layout.outlier_columns)])
    outlier = IsolationForest(n_trees=settings.trees, seed=settings.seed).fit(view)
    scale = RankScale().fit(outlier.anomaly_score(view), usual.weight)
    ranker = Ranker(settings.strategy, layout, encoder, outlier, scale)
    if settings.strategy == "outlier":
        return ranker
    X = encoder.transform(mature.raw)
    classifier = _classifier(settings).fit(X, mature.y, mature.weight)
    if settings.strategy == "classification":
        return replace(ranker, classifier=classifier)
    margins = RankScale().fit(classifier.anomaly_score(X), mature.weight)
    return replace(ranker, classifier=classifier, classifier_scale=margins)


def _classifier(settings: ModelSettings) -> Classifier:
    """Few positives bear only a classifier that cannot memorise them: depth-limited trees, bagged."""
    if settings.strategy == "bridge":
        return RandomForest(seed=settings.seed, max_genuine=BRIDGE_GENUINE)
    return Boosting(seed=settings.seed, threads=settings.threads)


def _calibrate(settings: ModelSettings, layout: Layout, mature: Sample, usual: Sample) -> Calibrator:
    """Fit a ranker on the past of the fold, calibrate it on the fold."""
    past, fold = _split(mature)
    if np.count_nonzero(past.y == 1) < MIN_FRAUDS_TO_FIT:
        return fit_calibrator(*_of_all(settings, layout, mature, usual))
    earlier = usual.take(slice(0, max(1, round(len(usual) * (1 - FOLD)))))
    suspicion = _fit_ranker(settings, layout, past, earlier).rank(fold.raw).suspicion
    assert suspicion is not None
    return fit_calibrator(suspicion, fold.y, fold.weight)


def _of_all(
    settings: ModelSettings, layout: Layout, mature: Sample, usual: Sample
) -> tuple[Floats, Floats, Floats]:
    """Too few frauds to hold some out: only the level can be learned, and that from all of them."""
    suspicion = _fit_ranker(settings, layout, mature, usual).rank(mature.raw).suspicion
    assert suspicion is not None
    return suspicion, mature.y, mature.weight


def _split(mature: Sample) -> tuple[Sample, Sample]:
    cut = round(len(mature) * (1 - FOLD))
    return mature.take(slice(0, cut)), mature.take(slice(cut, len(mature)))


def _thresholds(model: Model, recent: Sample, days: float) -> dict[str, float]:
    """
    Capacity first, cost above it: the main channel gets its share of the daily reviews, and of the rest
    flags only what is worth a review; what it leaves goes to the outlier detector's own share.
    """
    settings, strategy = model.settings, model.strategy
    ranks = model.ranker.rank(recent.raw)
    probability = _probability(model.calibrator, ranks)
    value = _decision_value(settings, ranks, probability, recent.amount)
    own = 0.0 if strategy == "outlier" else settings.per_day * settings.outlier_share
    main = max(
        capacity_threshold(value, recent.weight, days, settings.per_day - own), _worth_a_review(settings)
    )
    rest = value < main
    novelty = capacity_threshold(ranks.outlier_score[rest], recent.weight[rest], days, own) if own else np.inf
    return {strategy: float(main), NOVELTY: float(novelty)}


def _worth_a_review(settings: ModelSettings) -> float:
    if settings.strategy == "outlier":
        return -np.inf
    if settings.missed == "amount":
        return settings.review
    return cost_threshold(settings.missed_fraud, 1.0)


def _decision_value(settings: ModelSettings, ranks: Ranks, probability: Floats, amount: Floats) -> Floats:
    if settings.strategy == "outlier":
        return ranks.outlier_score
    if settings.missed == "amount":
        return probability * np.maximum(amount, 0.0)
    return probability


def _probability(calibrator: Calibrator | None, ranks: Ranks) -> Floats:
    if calibrator is None or ranks.suspicion is None:
        return np.full(len(ranks.outlier_score), np.nan)
    return calibrator.probability(ranks.suspicion)


def _score_reference(ranker: Ranker, recent: Sample) -> Reference:
    return Reference.fit(_score(ranker.rank(recent.raw)).reshape(-1, 1), ["score"])


def _score(ranks: Ranks) -> Floats:
    return ranks.outlier_score if ranks.suspicion is None else expit(ranks.suspicion)


def _normalised(contributions: Floats) -> Floats:
    total = np.abs(contributions).sum(axis=1, keepdims=True)
    return contributions / np.where(total > 0, total, 1.0)


def _ranker_of(parts: Mapping[str, State], settings: ModelSettings, layout: Layout) -> Ranker:
    classifier: type[Classifier] = RandomForest if settings.strategy == "bridge" else Boosting
    return Ranker(
        strategy=settings.strategy,
        layout=layout,
        encoder=Encoder.from_state(parts["encoder"]),
        outlier=IsolationForest.from_state(parts["outlier"]),
        outlier_scale=RankScale.from_state(parts["outlier_scale"]),
        classifier=classifier.from_state(parts["classifier"]) if "classifier" in parts else None,
        classifier_scale=RankScale.from_state(parts["classifier_scale"])
        if "classifier_scale" in parts
        else None,
    )
