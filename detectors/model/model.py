"""
A fitted model: the result of one training, with everything that scoring needs.

An `AutoDetector` ranks transactions; a `Model` adds the thresholds of its channels, set on the newest transactions, which
were held out from fitting. Both take the raw feature matrix of `pipeline.features`: the encoder is part of the
detector, so that a validation fold is never encoded with statistics of its own rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.base import SEED, ArtifactError, Bools, DetectorError, Floats, Strategy
from detectors.codec import UNREADABLE
from detectors.drift.reference import DriftReference
from detectors.evaluation.cases import CaseRows
from detectors.evaluation.prevalence import upper_guess
from detectors.evaluation.thresholds import Costs, capacity_threshold
from detectors.inputs.sample import Layout, Sample, digest_of
from detectors.model.artifact import RETRAIN, libraries, pack, unpack, verify_scores
from detectors.model.auto_detector import NOVELTY, AutoDetector, FittedStrategy, Ranks
from detectors.registry import DEFAULT_OUTLIER
from detectors.strategy.validation_folds import ValidationFold

# Channel of the random audit sample; its threshold applies to uniform random numbers in [0, 1).
AUDIT = "audit"
RULE = "rule"  # channel of transactions flagged by an analyst's rule; no model has a threshold for it
# Of the transactions so many are flagged at most, unless a probability says that they are worth a review.
VOLUME_SHARE = 0.05
SAMPLE_ROWS = 16  # rows stored with their scores: a loaded model must reproduce them exactly


@dataclass(frozen=True)
class ModelSettings:
    """Settings of a training; all of them belong to the config hash."""

    strategy: Strategy
    outlier: str = DEFAULT_OUTLIER  # the outlier detector
    seed: int = SEED
    threads: int = 1
    missed_fraud: float = 100.0  # cost of a missed fraud, in reviews
    review: float = 1.0  # cost of one review, in the base currency
    missed: Literal["constant", "amount"] = "constant"
    per_day: float = 50.0  # cases
    audit_per_day: float = 0.0
    outlier_share: float = 0.1

    @property
    def costs(self) -> Costs:
        """The costs that decide whether a transaction is worth a review."""
        return Costs(self.missed_fraud, self.review, self.missed)

    def detector_parameters(self) -> dict[str, Any]:
        """The parameters that are passed to `AutoDetector`."""
        return {"outlier": self.outlier, "seed": self.seed, "threads": self.threads}


@dataclass(frozen=True)
class Scores:
    """
    Scores of n rows, (n,) each; decision_value and threshold are those of `channel`.

    A score is 1 − the share of the reference transactions that rank higher; the reference are those on which thresholds
    were set. Above a flag of the novelty channel rank all that the main channel flags, and what is rarer.
    """

    score: Floats  # in (0, 1)
    outlier_score: Floats
    fraud_probability: Floats  # NaN under `outlier`
    # What an expected loss is computed with: the fraud probability, under `outlier` an upper guess by rank.
    loss_probability: Floats
    decision_value: Floats
    threshold: Floats
    channel: NDArray[np.object_]
    flagged: Bools


@dataclass(frozen=True)
class StoredModel:
    """The content of an artifact."""

    fitted: FittedStrategy
    settings: ModelSettings
    thresholds: Mapping[str, float]
    main_share: float
    prevalence: float | None
    notes: Mapping[str, Any]
    columns: tuple[str, ...]  # (n_raw,)
    samples: Floats  # (SAMPLE_ROWS, n_raw)
    sample_scores: Floats  # (SAMPLE_ROWS,)
    drift_reference: DriftReference

    def __post_init__(self) -> None:
        n, channels = len(self.columns), {self.settings.strategy, NOVELTY}
        fits = (
            self.samples.shape == (len(self.sample_scores), n)
            and self.settings.strategy == self.fitted.strategy
            and channels <= set(self.thresholds)
            and 0 <= self.main_share <= 1
            and 0 <= (self.prevalence or 0.0) <= 1
        )
        if not fits or self.fitted.parts.layout.encoding.n_columns > n or len(set(self.columns)) != n:
            raise DetectorError("the parts of a model do not fit together")


@dataclass(frozen=True)
class Model:
    """A detector, its thresholds and its drift reference."""

    detector: AutoDetector
    settings: ModelSettings
    thresholds: Mapping[str, float]
    main_share: float  # of the rows that thresholds were set on: what the main channel flags
    prevalence: float | None  # that upper guesses of probabilities assume; None where nothing is known of it
    notes: Mapping[str, Any]  # JSON of the pipeline, stored with the model
    columns: tuple[str, ...]  # (n_raw,) names of the raw columns that it was trained on, in their order
    samples: Floats  # (SAMPLE_ROWS, n_raw)
    drift_reference: DriftReference = field(default_factory=DriftReference.empty)
    recent: Ranks | None = None  # of the rows that thresholds were set on, while it is new; not stored

    @property
    def strategy(self) -> Strategy:
        """The strategy, which is also the name of the main channel."""
        return self.settings.strategy

    def score(self, raw: Floats, amount: Floats, ranks: Ranks | None = None) -> Scores:
        """
        Score and flag rows, each independently of the others.

        Parameters
        ----------
        raw
            (n, n_raw) raw features: the model's `columns`.
        amount
            (n,) what is at risk, in the base currency; amount-dependent costs use it.
        ranks
            Of the rows, if they have been ranked.
        """
        ranks = self.detector.rank(raw) if ranks is None else ranks
        probability = self.detector.probability(ranks)
        value = _decision_value(self.settings, ranks, probability, amount)
        main = value >= self.thresholds[self.strategy]
        novel = ~main & (ranks.outlier_score >= self.thresholds[NOVELTY])
        score = self.detector.score(ranks)
        after_main = (1.0 - self.main_share) * ranks.outlier_score
        guessed = self.strategy == "outlier"
        return Scores(
            score=np.where(novel, np.maximum(score, after_main), score),
            outlier_score=ranks.outlier_score,
            fraud_probability=probability,
            loss_probability=upper_guess(score, self.prevalence) if guessed else probability,
            decision_value=np.where(novel, ranks.outlier_score, value),
            threshold=np.where(novel, self.thresholds[NOVELTY], self.thresholds[self.strategy]),
            channel=np.where(novel, NOVELTY, self.strategy).astype(object),
            flagged=main | novel,
        )

    @property
    def drift_features(self) -> list[str]:
        """Names of the features whose drift is measured: numbers and rates, then categorical fields."""
        encoding = self.detector.layout_.encoding
        numbers = [name for name, _ in encoding.passthrough] + [name for name, *_ in encoding.rates]
        return numbers + [name for name, _ in encoding.categories]

    def drift_values(self, raw: Floats) -> Floats:
        """
        Values of the `drift_features` of raw rows, (n, n_features): missing values stay NaN, categories stay codes.

        The encoder imputes missing values and has no code for new categories; drift metrics need both.
        """
        encoding = self.detector.layout_.encoding
        numbers, rates = len(encoding.passthrough), len(encoding.rates)
        values = np.empty((len(raw), len(self.drift_features)))
        values[:, numbers : numbers + rates] = self.detector.encode(raw)[:, numbers : numbers + rates]
        for place, (_, column) in enumerate(encoding.passthrough):
            values[:, place] = raw[:, column]
        for place, (_, column) in enumerate(encoding.categories, start=numbers + rates):
            values[:, place] = raw[:, column]
        return values

    def to_bytes(self) -> bytes:
        """Serialize the model without pickle; `detectors.model.artifact` seals it."""
        scores = self.score(self.samples, np.ones(len(self.samples))).score
        return pack(
            StoredModel(
                self.detector.fitted(),
                self.settings,
                self.thresholds,
                self.main_share,
                self.prevalence,
                self.notes,
                self.columns,
                self.samples,
                scores,
                self.drift_reference,
            )
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "Model":
        """
        Load a model, and check that it can score and explain, and that it scores its stored sample rows exactly as when it was stored.

        Raises
        ------
        ArtifactError
            The content is not a model, or its sample rows score differently.
        """
        stored, versions = unpack(StoredModel, content)
        model = cls(
            AutoDetector.restored(stored.fitted, **stored.settings.detector_parameters()),
            stored.settings,
            stored.thresholds,
            stored.main_share,
            stored.prevalence,
            stored.notes,
            stored.columns,
            stored.samples,
            stored.drift_reference,
        )
        model._check_usable()
        scores = model.score(stored.samples, np.ones(len(stored.samples))).score
        verify_scores(scores, stored.sample_scores, versions)
        return model

    def _check_usable(self) -> None:
        """Raise ArtifactError if the parts of the model do not fit together: a row cannot be scored, explained or binned."""
        try:
            finite = self._tries_a_row()
        except UNREADABLE as error:
            raise ArtifactError(f"the model cannot score: {error}", remedy=RETRAIN) from error
        if not finite:
            raise ArtifactError("the model gives scores that are no numbers", remedy=RETRAIN)

    def _tries_a_row(self) -> bool:
        """Score, explain and bin a row; whether all that comes out is finite."""
        row = np.zeros((1, len(self.columns)))
        score = self.score(row, np.ones(1)).score
        explained = [self.detector.explain(row, channel) for channel in (self.strategy, NOVELTY)]
        if not self.drift_reference.is_empty:
            no_flag, no_reason = np.array([-1]), np.empty(0, np.int64)
            self.drift_reference.bin_window(self.drift_values(row), score, no_flag, no_reason)
        return bool(np.isfinite([score, *(each.sum(axis=1) for each in explained)]).all())


@dataclass(frozen=True)
class Learned:
    """What was learned from the same labelled rows before."""

    fitted: FittedStrategy
    usual: bool  # whether the outlier detectors have seen the same rows, too


def fit_model(
    settings: ModelSettings,
    layout: Layout,
    mature: Sample,
    usual: Sample,
    recent: Sample,
    days: float,
    notes: Mapping[str, Any],
    columns: Sequence[str],
    folds: Sequence[ValidationFold] | None = None,
    muted: Bools | None = None,
    young: Sample | None = None,
    prevalence: float | None = None,
    learned: Learned | None = None,
) -> Model:
    """
    Fit the model of one training.

    Parameters
    ----------
    mature
        Labelled transactions, y in {0, 1}.
    usual
        Transactions not known to be fraud, labelled or not, for the outlier detector.
    recent
        The newest transactions, held out from fitting: thresholds are set on them, and scores refer to them (to `usual` if there
        are none). With `time` in µs and `entity` the budget counts cases, otherwise flags.
    days
        Length of `recent` in days: its total weight divided by this length is the daily volume.
    columns
        Names of the raw columns.
    folds
        Validation folds from which the weight of a blend is learned; made from `mature` by default.
    muted
        (n,) rows of `recent` whose flags are muted, and so use no budget.
    young
        Labelled transactions that are not a random sample, for the classifiers only.
    prevalence
        That upper guesses of probabilities assume under outlier detection.
    learned
        What was learned from the same labelled rows before, by their `sample_digests`: it is not fitted again.
    """
    detector = AutoDetector(settings.strategy, layout=layout, **settings.detector_parameters())
    if learned is None:
        detector.fit_samples(mature, usual, settings.strategy, folds, young)
    else:
        detector.take(learned.fitted, None if learned.usual else usual)
    ranks = detector.rank(recent.raw)
    if len(recent):
        detector.refer_to(ranks, recent.weight)
    else:
        detector.refer_to(detector.rank(usual.raw), usual.weight)
    thresholds, main_share = _thresholds(settings, detector, ranks, recent, days, muted)
    return Model(
        detector=detector,
        settings=settings,
        thresholds=thresholds,
        main_share=main_share,
        prevalence=prevalence,
        notes=notes,
        columns=tuple(columns),
        samples=np.ascontiguousarray(recent.raw[:SAMPLE_ROWS]),
        recent=ranks,
    )


def sample_digests(
    settings: ModelSettings, layout: Layout, mature: Sample, usual: Sample, young: Sample
) -> tuple[str, str] | None:
    """
    Digests of all that decides what `fit_model` learns from labelled rows and from usual ones, with these versions of libraries.

    None for a blend, which learns from validation folds as well, and without labelled rows.
    """
    if settings.strategy == "blend" or not len(mature):
        return None
    fixed = (settings.strategy, settings.detector_parameters(), layout, libraries())
    return digest_of([mature, young], repr(fixed)), digest_of([usual])


def with_new_thresholds(
    model: Model, settings: ModelSettings, rows: Sample, days: float, ranks: Ranks | None = None
) -> Model:
    """
    Return the model with thresholds set on other rows, with the review budget and costs of other settings.

    This makes two models comparable at the same number of reviews. `ranks` are those of the rows, if they have been ranked.
    """
    own = replace(settings, strategy=model.strategy)
    ranks = model.detector.rank(rows.raw) if ranks is None else ranks
    thresholds, share = _thresholds(own, model.detector, ranks, rows, days)
    return replace(model, settings=own, thresholds=thresholds, main_share=share, recent=ranks)


def _thresholds(
    settings: ModelSettings,
    detector: AutoDetector,
    ranks: Ranks,
    recent: Sample,
    days: float,
    muted: Bools | None = None,
) -> tuple[dict[str, float], float]:
    """
    Thresholds of the channels, and the share of `recent` that the main channel flags.

    Capacity first, then cost: the main channel gets its share of the daily cases and flags only what is worth a review. Where no
    probability says so, under outlier detection and in the novelty channel, at most `VOLUME_SHARE` of the volume is flagged.
    Novelty gets its share of the cases, and at most that share of all flags: it does not fill up what the main channel leaves. It
    keeps to that in either half of `recent` (if that has room for a flag), because in later weeks more may be unusual.
    """
    strategy, share = settings.strategy, settings.outlier_share
    value = _decision_value(settings, ranks, detector.probability(ranks), recent.amount)
    weight = recent.weight if muted is None else np.where(muted, 0.0, recent.weight)
    rows = None if recent.entity is None or recent.time is None else CaseRows(recent.entity, recent.time)
    most = VOLUME_SHARE * float(recent.weight.sum()) / days
    if strategy == "outlier":
        novelty = np.inf
        main = capacity_threshold(value, weight, days, settings.per_day, rows, flags_per_day=most)
    else:
        main = max(
            capacity_threshold(value, weight, days, settings.per_day * (1.0 - share), rows),
            settings.costs.threshold,
        )
        flagged = (value >= main) & (weight > 0)
        cases, flags = (
            _beside(float(weight[counted].sum()) / days, share)
            for counted in (flagged if rows is None else rows.openers(flagged), flagged)
        )
        rest = np.where(value < main, ranks.outlier_score, np.nan)
        own, flags = min(settings.per_day * share, cases), min(most, flags)
        parts = _halves(recent, weight) if min(own, flags) * days >= 2 else (weight,)
        novelty = max(
            capacity_threshold(rest, part, days / len(parts), own, rows, flagged, flags) for part in parts
        )
    thresholds = {strategy: float(main), NOVELTY: float(novelty)}
    if settings.audit_per_day and len(recent):
        thresholds[AUDIT] = max(0.0, 1 - settings.audit_per_day * days / float(recent.weight.sum()))
    main_share = np.average(value >= main, weights=recent.weight) if len(recent) else 0.0
    return thresholds, float(main_share)


def _halves(recent: Sample, weight: Floats) -> tuple[Floats, Floats]:
    """The weights of the rows in the earlier and the later half of the volume, (n,) each: 0 in the other half."""
    order = np.argsort(recent.times, kind="stable")
    later = np.empty(len(recent), dtype=bool)
    later[order] = np.cumsum(recent.weight[order]) > recent.weight.sum() / 2
    return np.where(later, 0.0, weight), np.where(later, weight, 0.0)


def _beside(main: float, share: float) -> float:
    """How many of novelty beside so many of the main channel are that share of both."""
    return main * share / (1.0 - share) if share < 1.0 else np.inf


def _decision_value(settings: ModelSettings, ranks: Ranks, probability: Floats, amount: Floats) -> Floats:
    if settings.strategy == "outlier":
        return ranks.outlier_score
    return settings.costs.decision_value(probability, amount)
