"""
Trains one model: draws the samples of a training date, checks readiness, and fits the chosen strategy.

A training belongs to a date, not to the moment it runs: it uses what was known at that date, and its model scores
the transactions from then on. `strategy_choice` chooses the strategy, `promotion_gate` decides on promotion.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

from detectors.drift.reference import DriftReference
from detectors.evaluation.prevalence import PrevalenceEstimate
from detectors.inputs.sample import Sample
from detectors.model.artifact import libraries, seal
from detectors.model.model import Learned, Model, ModelSettings, fit_model, sample_digests
from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.history import History, feature_catalogue, feature_fields
from pipeline.monitoring import drift_reference
from pipeline.rules.mutes import Mute, in_force
from pipeline.scoring.model_cache import seal_of
from pipeline.training import readiness, samples
from pipeline.training.case_budget import cases_per_day, without_muted_channels
from pipeline.training.learned_payments import learned_ranking
from pipeline.training.prevalence import Reviews, prevalence_of, reviews_at
from pipeline.training.samples import TrainingSamples
from pipeline.training.strategy_choice import StoredChoice
from pipeline.training.training_set import TrainingSet, mature_at, training_set_at
from storage.frames import DAY
from storage.models import models

MODEL_SECTIONS = (
    "schema",
    "labels",
    "features",
    "training",
    "outlier",
    "strategy",
    "costs",
    "alerts",
    "calendar",
    "drift",
)
SAMPLES = "samples"  # among a model's notes: a digest of what it learned from


@dataclass(frozen=True)
class FittedModel:
    """A fitted model, ready to be stored."""

    model: Model
    record: models.ModelRecord
    content: bytes
    config: Config

    def artifact(self, model_id: int) -> bytes:
        """The content, sealed as the model with this id."""
        return seal(self.content, seal_of(self.config, model_id))


@dataclass(frozen=True)
class Prepared:
    """The samples of a training, and the findings of its readiness checks."""

    training_set: TrainingSet
    features: FeatureCatalogue
    samples: TrainingSamples
    reviews: Reviews
    findings: list[readiness.ReadinessFinding]
    muted_channels: frozenset[str] = frozenset()
    prevalence: float | None = None  # that upper guesses of probabilities assume

    def with_examples(self, more: Sample) -> "Prepared":
        """The same samples with these young examples instead."""
        return replace(self, samples=replace(self.samples, young=more))

    def after_fit(self) -> "Prepared":
        """What the promotion gate needs: without the rows that were learned from, which take the most memory."""
        none = {
            name: getattr(self.samples, name).take(slice(0, 0)) for name in ("mature", "young", "unlabelled")
        }
        return replace(self, samples=replace(self.samples, **none))

    def raise_on_errors(self) -> None:
        """
        Raise NotReady if any readiness check failed, other than for leaks, which the promotion gate decides on.

        Raises
        ------
        NotReady
            There is such a finding of level error; the message has its remedy.
        """
        errors = [
            f"{finding.message}: {finding.remedy}"
            for finding in self.findings
            if finding.level == "error" and finding.code != readiness.LEAK
        ]
        if errors:
            raise NotReady("; ".join(errors))


def prepare(
    config: Config,
    history: History,
    date: int,
    mutes: Sequence[Mute] = (),
    prevalence: PrevalenceEstimate | None = None,
) -> Prepared:
    """
    Draw the samples of a training from a history that reaches back `training.span` + lookback, and check readiness.

    Parameters
    ----------
    mutes
        Flags that one of them covers at `date` use no budget.
    prevalence
        At `date`, if it has been estimated.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    training_set, features = training_set_at(config, history, date), feature_catalogue(config)
    muting = in_force(mutes, date)
    training_samples = samples.for_training(config, history, training_set, features, muting)
    rarity = prevalence or prevalence_of(config, history, training_set)
    data = readiness.TrainingData(
        config,
        history,
        date,
        training_set.mature,
        training_set.y,
        rarity,
        features,
        training_samples.mature,
        training_samples.unlabelled,
        training_samples.holdout,
    )
    channels = frozenset(mute.name for mute in muting if mute.kind == "channel")
    findings = readiness.examine(data)
    return Prepared(
        training_set,
        features,
        training_samples,
        reviews_at(history, date),
        findings,
        channels,
        rarity.assumed,
    )


def prepare_again(
    config: Config, history: History, prepared: Prepared, span_start: int, end: int
) -> Prepared:
    """
    The samples of the same date as they are drawn from rows of `span_start` ≤ event_time ≤ `end` only.

    A tenth of the holdout stays, because the promotion gate sets other thresholds.
    """
    whole = training_set_at(config, history, prepared.training_set.date, span_start)
    earlier = whole.until(history.transactions.event_time, end)
    drawn = samples.for_training(config, history, earlier, prepared.features, ())
    holdout, muted = prepared.samples.holdout.take(slice(None, None, 10)), prepared.samples.muted[::10]
    return replace(prepared, samples=replace(drawn, holdout=holdout, muted=muted))


def fit(
    config: Config,
    history: History,
    prepared: Prepared,
    chosen: StoredChoice,
    date: int,
    run_id: int,
    reference: History | None = None,
) -> FittedModel:
    """
    Fit the model of `date` with the chosen strategy on the prepared samples.

    `reference` is the history that drift is measured against later; None for the training's own history.
    """
    model = fit_alone(config, prepared, chosen, date)
    learned = learned_ranking(model, prepared.samples.mature)
    model = replace(
        model,
        notes={**model.notes, "learned": learned},
        drift_reference=_watch(config, history, prepared, model, date, reference or history),
    )
    return FittedModel(
        model,
        _record(config, prepared.training_set, history, model, chosen.choice_id, run_id, date),
        model.to_bytes(),
        config,
    )


def fit_alone(
    config: Config, prepared: Prepared, chosen: StoredChoice, date: int, before: Model | None = None
) -> Model:
    """
    Fit the model only, without its drift reference and its record.

    If an earlier model, `before`, has learned from the same labelled rows in the same way, what it has learned is taken from it.
    """
    days = (date - prepared.training_set.holdout_start) / DAY
    settings = _settings(config, chosen, cases_per_day(config, date, days), prepared.muted_channels)
    drawn = prepared.samples
    digests = sample_digests(settings, prepared.features.layout, drawn.mature, drawn.unlabelled, drawn.young)
    learned_from = None if digests is None else [version("fraudwatch"), *digests]
    return fit_model(
        settings,
        prepared.features.layout,
        mature=drawn.mature,
        usual=drawn.unlabelled,
        recent=drawn.holdout,
        days=days,
        notes={"fields": feature_fields(config), "trained_at": date, SAMPLES: learned_from},
        columns=prepared.features.raw_names,
        folds=chosen.folds,
        muted=drawn.muted,
        young=drawn.young,
        prevalence=prepared.prevalence,
        learned=_learned_before(before, learned_from),
    )


def _learned_before(before: Model | None, learned_from: list[str] | None) -> Learned | None:
    """What an earlier model has learned, if from the same labelled rows."""
    known = None if before is None else before.notes.get(SAMPLES)
    if before is None or not known or not learned_from or known[:-1] != learned_from[:-1]:
        return None
    return Learned(before.detector.fitted(), usual=known[-1] == learned_from[-1])


def _watch(
    config: Config, history: History, prepared: Prepared, model: Model, date: int, reference_history: History
) -> DriftReference:
    """Fit the drift reference of a model on a history."""
    mature, y = (
        (prepared.training_set.mature, prepared.training_set.y)
        if reference_history is history
        else mature_at(config, reference_history, date)
    )
    data = drift_reference.ReferenceData(
        reference_history, drift_reference.reference_rows(config, reference_history, date), mature, y
    )
    days = (date - prepared.training_set.holdout_start) / DAY
    return drift_reference.fit(config, model, prepared.features, data, prepared.samples.holdout, days, date)


def _settings(
    config: Config, chosen: StoredChoice, per_day: float, muted_channels: frozenset[str]
) -> ModelSettings:
    per_day, share = without_muted_channels(per_day, chosen.outlier_share, chosen.strategy, muted_channels)
    return ModelSettings(
        strategy=chosen.strategy,
        outlier=config.outlier.detector,
        threads=config.training.threads,
        missed_fraud=config.costs.missed_fraud,
        review=config.costs.review,
        missed=config.costs.missed_fraud_basis,
        per_day=per_day,
        audit_per_day=config.alerts.audit_per_day,
        outlier_share=share,
    )


def _record(
    config: Config,
    training_set: TrainingSet,
    history: History,
    model: Model,
    choice_id: int,
    run_id: int,
    date: int,
) -> models.ModelRecord:
    times = history.transactions.event_time
    mature = training_set.mature
    return models.ModelRecord(
        choice_id=choice_id,
        run_id=run_id,
        trained_at=date,
        strategy=model.strategy,
        span_start=int(times[training_set.unlabelled[0]]) if len(training_set.unlabelled) else date,
        span_end=int(times[mature[-1]]) if len(mature) else training_set.holdout_start,
        n_mature=len(mature),
        n_fraud=int(training_set.y.sum()),
        feature_names=model.detector.names,
        fields=feature_fields(config),
        thresholds=dict(model.thresholds),
        config_hash=config.hash(*MODEL_SECTIONS),
        versions=libraries(),
    )
