"""
A fitted model: what one training leaves behind and all that scoring needs.

An `AutoDetector` orders transactions; a `Model` adds the thresholds of its channels, set on the newest week, which nothing
was fitted on. Both are arithmetic over the raw feature matrix of `pipeline.features`: the encoder is part of the
detector, so a fold that judges one never sees an encoding learned from its own rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats, State
from detectors.drift.reference import Watch
from detectors.evaluation.thresholds import Costs, capacity_threshold
from detectors.inputs.encoding import EncodingPlan
from detectors.inputs.sample import Layout, Sample
from detectors.model.artifact import pack, unpack, verify_samples
from detectors.model.auto_detector import NOVELTY, AutoDetector, Ranks, Strategy
from detectors.strategy.held_out import HeldOut

AUDIT = "audit"  # channel of transactions drawn at random; its threshold is one for numbers drawn from [0, 1)
RULE = "rule"  # channel of transactions that a person's rule asks for; no model has a threshold for it
SAMPLE_ROWS = 16  # rows kept with their scores: a loaded model must repeat them exactly


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
    audit_per_day: float = 0.0
    outlier_share: float = 0.1

    @property
    def costs(self) -> Costs:
        """What decides whether a flag is worth it."""
        return Costs(self.missed_fraud, self.review, self.missed)

    def fitting(self) -> dict[str, Any]:
        """What a detector is told of it."""
        return {"seed": self.seed, "threads": self.threads, "trees": self.trees}


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
class Model:
    """A detector, its thresholds and what drift is measured against."""

    detector: AutoDetector
    settings: ModelSettings
    thresholds: Mapping[str, float]
    notes: Mapping[str, Any]  # JSON: what the pipeline wants back with the model
    samples: Floats  # (SAMPLE_ROWS, n_raw)
    watch: Watch = field(default_factory=Watch.blind)

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
        ranks = self.detector.rank(raw)
        probability = self.detector.probability(ranks)
        value = _decision_value(self.settings, ranks, probability, amount)
        main = value >= self.thresholds[self.strategy]
        novel = ~main & (ranks.outlier_score >= self.thresholds[NOVELTY])
        return Scores(
            score=ranks.score,
            outlier_score=ranks.outlier_score,
            fraud_probability=probability,
            decision_value=np.where(novel, ranks.outlier_score, value),
            threshold=np.where(novel, self.thresholds[NOVELTY], self.thresholds[self.strategy]),
            channel=np.where(novel, NOVELTY, self.strategy).astype(object),
            flagged=main | novel,
        )

    @property
    def columns(self) -> list[str]:
        """Names of what drift is measured of: numbers and rates, then categorical fields."""
        encoding = self.detector.layout_.encoding
        numbers = [name for name, _ in encoding.passthrough] + [name for name, *_ in encoding.rates]
        return numbers + [name for name, _ in encoding.categories]

    def watched(self, raw: Floats) -> Floats:
        """
        The columns of raw rows, (n, n_columns): what is missing stays NaN, categories stay codes.

        The encoder fills gaps and knows no new category: drift has to see both.
        """
        encoding = self.detector.layout_.encoding
        numbers, rates = len(encoding.passthrough), len(encoding.rates)
        found = np.empty((len(raw), len(self.columns)))
        found[:, numbers : numbers + rates] = self.detector.encode(raw)[:, numbers : numbers + rates]
        for place, (_, column) in enumerate(encoding.passthrough):
            found[:, place] = raw[:, column]
        for place, (_, column) in enumerate(encoding.categories, start=numbers + rates):
            found[:, place] = raw[:, column]
        return found

    def to_bytes(self, key: bytes | None = None) -> bytes:
        """The model as an artefact without pickle, sealed with a key if there is one."""
        scores = self.score(self.samples, np.ones(len(self.samples)))
        parts = self.detector.states() | self.watch.states()
        parts["samples"] = State({}, {"raw": self.samples, "score": scores.score})
        layout = self.detector.layout_
        return pack(
            parts,
            {
                "features": self.detector.names,
                "settings": asdict(self.settings),
                "thresholds": dict(self.thresholds),
                "outlier_columns": list(layout.outlier_columns),
                "encoding": layout.encoding.to_json(),
                "notes": dict(self.notes),
            },
            key,
        )

    @classmethod
    def from_bytes(cls, artefact: bytes, key: bytes | None = None) -> "Model":
        """
        Load a model and make sure it scores its stored sample rows exactly as when it was stored.

        Raises
        ------
        ArtefactError
            When a byte changed, the key or the format is another, or the sample rows score differently.
        """
        parts, manifest = unpack(artefact, key=key)
        settings = ModelSettings(**manifest["settings"])
        layout = Layout(EncodingPlan.from_json(manifest["encoding"]), tuple(manifest["outlier_columns"]))
        model = cls(
            detector=AutoDetector.from_states(parts, settings.strategy, layout, **settings.fitting()),
            settings=settings,
            thresholds=manifest["thresholds"],
            notes=manifest["notes"],
            samples=parts["samples"].arrays["raw"],
            watch=Watch.from_states(parts),
        )
        verify_samples(parts, manifest, lambda raw: model.score(raw, np.ones(len(raw))).score)
        return model


def fit_model(
    settings: ModelSettings,
    layout: Layout,
    mature: Sample,
    usual: Sample,
    recent: Sample,
    days: float,
    notes: Mapping[str, Any],
    folds: Sequence[HeldOut] | None = None,
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
    folds
        Held-out rows that weigh a blend; made of `mature` by default.
    """
    detector = AutoDetector(settings.strategy, layout=layout, **settings.fitting())
    detector.fit_samples(mature, usual, settings.strategy, folds)
    newest = detector.rank(recent.raw)
    model = Model(
        detector=detector,
        settings=settings,
        thresholds={settings.strategy: np.inf, NOVELTY: np.inf},
        notes=notes,
        samples=np.ascontiguousarray(recent.raw[:SAMPLE_ROWS]),
    )
    return replace(model, thresholds=_thresholds(settings, detector, newest, recent, days))


def cut_anew(model: Model, settings: ModelSettings, rows: Sample, days: float) -> Model:
    """
    The same model with thresholds set on other rows, by the budget and costs of other settings.

    So two models can be compared at the same number of reviews.
    """
    own = replace(settings, strategy=model.strategy)
    ranks = model.detector.rank(rows.raw)
    return replace(model, settings=own, thresholds=_thresholds(own, model.detector, ranks, rows, days))


def _thresholds(
    settings: ModelSettings, detector: AutoDetector, ranks: Ranks, recent: Sample, days: float
) -> dict[str, float]:
    """
    Capacity first, cost above it: the main channel gets its share of the daily reviews, and of the rest
    flags only what is worth a review; what it leaves goes to the outlier detector's own share.
    """
    strategy = settings.strategy
    value = _decision_value(settings, ranks, detector.probability(ranks), recent.amount)
    own = 0.0 if strategy == "outlier" else settings.per_day * settings.outlier_share
    worth = -np.inf if strategy == "outlier" else settings.costs.threshold
    main = max(capacity_threshold(value, recent.weight, days, settings.per_day - own), worth)
    rest = value < main
    novelty = capacity_threshold(ranks.outlier_score[rest], recent.weight[rest], days, own) if own else np.inf
    found = {strategy: float(main), NOVELTY: float(novelty)}
    if settings.audit_per_day and len(recent):
        found[AUDIT] = max(0.0, 1 - settings.audit_per_day * days / float(recent.weight.sum()))
    return found


def _decision_value(settings: ModelSettings, ranks: Ranks, probability: Floats, amount: Floats) -> Floats:
    if settings.strategy == "outlier":
        return ranks.outlier_score
    return settings.costs.decision_value(probability, amount)
