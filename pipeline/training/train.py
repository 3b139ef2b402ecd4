"""
One training: draw what its date knows, examine it, fit what was chosen.

A training belongs to a date, not to the moment it runs: it knows what was known then, and its model scores
the transactions from then on. `pipeline.choosing` makes the choice, `pipeline.gate` lets the model in.
"""

from dataclasses import dataclass, replace

from detectors.drift.reference import Watch
from detectors.model.artifact import libraries
from detectors.model.model import Model, ModelSettings, fit_model
from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.features.compute import Plan
from pipeline.features.history import History, feature_plan, fields_of
from pipeline.monitoring import drift_reference
from pipeline.training import readiness, samples
from pipeline.training.samples import Drawn
from pipeline.training.strategy_choice import Chosen
from pipeline.training.training_set import Known, known_at, mature_at, rarity_of
from storage.frames import DAY
from storage.models import models

DECIDES_A_MODEL = (
    "schema",
    "labels",
    "features",
    "training",
    "choose",
    "costs",
    "alerts",
    "calendar",
    "drift",
)


@dataclass(frozen=True)
class Fitted:
    """A model ready to be stored."""

    record: models.ModelRecord
    artefact: bytes


@dataclass(frozen=True)
class Prepared:
    """What a training is made of, and what was found when it was looked at."""

    known: Known
    features: Plan
    drawn: Drawn
    findings: list[readiness.Finding]

    def before(self, start: int) -> "Prepared":
        """
        The same without what happened from `start` on, but for the newest rows, which have no labels.

        Thresholds are set on those: they are quantiles of scores, and know of no fraud.
        """
        mature, usual = (one.take(one.times < start) for one in (self.drawn.mature, self.drawn.usual))
        return replace(self, drawn=replace(self.drawn, mature=mature, usual=usual))

    def insist(self) -> None:
        """
        Go on only without errors.

        Raises
        ------
        NotReady
            With what was found and the remedy.
        """
        errors = [f"{one.said}: {one.remedy}" for one in self.findings if one.level == "error"]
        if errors:
            raise NotReady("; ".join(errors))


def prepare(config: Config, history: History, date: int) -> Prepared:
    """
    Draw the samples of a training, over a history that reaches back `training.span` + lookback, and examine them.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    known, features = known_at(config, history, date), feature_plan(config)
    drawn = samples.for_training(config, history, known, features)
    rarity = rarity_of(config, history, known)
    subject = readiness.Subject(
        config,
        history,
        date,
        known.mature,
        known.y,
        rarity,
        features,
        drawn.mature,
        drawn.usual,
        drawn.recent,
    )
    return Prepared(known, features, drawn, readiness.examine(subject))


def fit(
    config: Config,
    history: History,
    made: Prepared,
    chosen: Chosen,
    date: int,
    run_id: int,
    reference: History | None = None,
) -> Fitted:
    """
    Fit the model of `date` by its choice on what was prepared.

    `reference` is the history that drift is later measured against; None for the training's own.
    """
    model = fit_alone(config, made, chosen, date)
    model = replace(model, watch=_watch(config, history, made, model, date, reference or history))
    return Fitted(
        _record(config, made.known, history, model, chosen.choice_id, run_id, date),
        model.to_bytes(config.model_key()),
    )


def fit_alone(config: Config, made: Prepared, chosen: Chosen, date: int) -> Model:
    """The model alone, without what is stored beside it."""
    return fit_model(
        _settings(config, chosen),
        made.features.layout,
        mature=made.drawn.mature,
        usual=made.drawn.usual,
        recent=made.drawn.recent,
        days=(date - made.known.holdout_start) / DAY,
        notes={"fields": fields_of(config), "trained_at": date},
        folds=chosen.folds,
    )


def _watch(config: Config, history: History, made: Prepared, model: Model, date: int, held: History) -> Watch:
    """What drift is measured against: a history that holds its reference, and how much of it is mature."""
    mature, y = (made.known.mature, made.known.y) if held is history else mature_at(config, held, date)
    known = drift_reference.Known(held, drift_reference.reference_rows(config, held, date), mature, y)
    days = (date - made.known.holdout_start) / DAY
    return drift_reference.fit(config, model, made.features, known, made.drawn.recent, days, date)


def _settings(config: Config, chosen: Chosen) -> ModelSettings:
    return ModelSettings(
        strategy=chosen.strategy,
        seed=config.training.seed,
        threads=config.training.threads,
        trees=config.training.trees,
        missed_fraud=config.costs.missed_fraud,
        review=config.costs.review,
        missed=config.costs.missed,
        per_day=config.alerts.per_day,
        audit_per_day=config.alerts.audit_per_day,
        outlier_share=chosen.outlier_share,
    )


def _record(
    config: Config, known: Known, history: History, model: Model, choice_id: int, run_id: int, date: int
) -> models.ModelRecord:
    times = history.transactions.event_time
    mature = known.mature
    return models.ModelRecord(
        choice_id=choice_id,
        run_id=run_id,
        trained_at=date,
        strategy=model.strategy,
        span_start=int(times[known.usual[0]]) if len(known.usual) else date,
        span_end=int(times[mature[-1]]) if len(mature) else known.holdout_start,
        n_mature=len(mature),
        n_fraud=int(known.y.sum()),
        feature_names=model.detector.names,
        fields=fields_of(config),
        thresholds=dict(model.thresholds),
        config_hash=config.hash(*DECIDES_A_MODEL),
        versions=libraries(),
    )
