"""
One training: measure how rare fraud is, choose the strategy, fit, promote.

A training belongs to a date, not to the moment it runs: it knows what was known then, and its model scores
the transactions from then on.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.artefact import libraries
from detectors.choose import FITTABLE, Choice, ChooseSettings, Previous, Strategy, choose
from detectors.encoding import Encoder
from detectors.evidence import Review, evidence
from detectors.held_out import HeldOut, held_out
from detectors.hygiene import flagged_in_turn
from detectors.model import Model, ModelSettings, fit_model
from detectors.parts import Fitting
from detectors.rarity import Rarity, effective_positives, measure
from detectors.sample import Layout, Sample
from detectors.threshold import Costs
from detectors.watch import Watch
from pipeline import readiness, sampling, schedule, watching
from pipeline.config import Config
from pipeline.errors import NotReady
from pipeline.features import Plan, status_at
from pipeline.history import History, feature_plan, fields_of, raw_matrix
from pipeline.known import known_since
from storage import history as stored
from storage import models
from storage.frames import DAY, MONEY, Ints
from storage.store import Store

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
OUTLIER_ROWS = 60_000  # trees draw 4,096 rows each; more rows only cost features
RECENT_ROWS = 60_000  # a daily budget of 50 is then read off hundreds of scores
FRAUD, GENUINE = 1, 0
Folds = tuple[HeldOut, ...]


@dataclass(frozen=True)
class Chosen:
    """A stored choice: its id, the strategy that was chosen, and the sentence for people."""

    choice_id: int
    strategy: Strategy
    outlier_share: float
    sentence: str
    folds: Folds = ()  # held-out rows that weigh a blend


@dataclass(frozen=True)
class Fitted:
    """A model ready to be stored."""

    record: models.ModelRecord
    artefact: bytes


@dataclass(frozen=True)
class Known:
    """What a training date knows: positions in the history, in time order."""

    mature: Ints  # labelled, or genuine by silence
    y: NDArray[np.float64]  # of `mature`: 1 fraud, 0 genuine
    usual: Ints  # not known to be fraud, older than the holdout
    cleared: NDArray[np.bool_]  # of `usual`: a label says that it is genuine
    recent: Ints  # the holdout
    holdout_start: int
    learnable: Ints  # of `mature`: since when each has been mature, with the label it has
    reported: Ints  # what would be mature had nobody answered a flag
    reported_y: NDArray[np.float64]


def choose_through(
    store: Store, config: Config, history_of: Callable[[int], History], policy: str, date: int, run_id: int
) -> Chosen:
    """
    Make every choice up to the one of `date`, in the order of their dates, and return that one.

    A choice depends on the ones before it. So the chain begins with the first training date of the stored
    history, wherever the first run or backfill begins: choices cost little, and models are fitted only for the
    dates that need one. Dates that have a choice keep it; one that knew too little has none.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    for earlier in _dates_before(store, config, policy, date):
        with suppress(NotReady):
            _choose(store, config, history_of(earlier), policy, earlier, run_id)
    found = models.choice_of(store, policy, date)
    if found is None:
        return _choose(store, config, history_of(date), policy, date, run_id)
    folds: Folds = ()
    if found["strategy"] == "bridge":
        history = history_of(date)
        folds = held_out_of(config, history, known_at(config, history, date))
    return Chosen(found["choice_id"], found["strategy"], found["outlier_share"], found["sentence"], folds)


@dataclass(frozen=True)
class Prepared:
    """What a training is made of, and what was found when it was looked at."""

    known: Known
    features: Plan
    mature: Sample
    usual: Sample
    recent: Sample
    mature_times: Ints  # event times of `mature`
    usual_times: Ints  # and of `usual`
    findings: list[readiness.Finding]

    def before(self, start: int) -> "Prepared":
        """
        The same without what happened from `start` on, but for the newest rows, which have no labels.

        Thresholds are set on those: they are quantiles of scores, and know of no fraud.
        """
        mature, usual = self.mature_times < start, self.usual_times < start
        return replace(
            self,
            mature=self.mature.take(mature),
            usual=self.usual.take(usual),
            mature_times=self.mature_times[mature],
            usual_times=self.usual_times[usual],
        )

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
    drawn, times = _drawn(config, history, known), history.transactions.event_time
    mature, usual, recent = _samples(config, history, known, features, drawn)
    if config.training.exclude_flagged:
        flagged = _flagged(config, features, usual, times[known.usual[drawn.usual]])
        normal = ~flagged | known.cleared[drawn.usual]
        usual, drawn = usual.take(normal), replace(drawn, usual=drawn.usual[normal])
    rarity = _measure(config, history, known)
    subject = readiness.Subject(
        config, history, date, known.mature, known.y, rarity, features, mature, usual, recent
    )
    findings = readiness.examine(subject)
    return Prepared(
        known,
        features,
        mature,
        usual,
        recent,
        times[known.mature[drawn.mature]],
        times[known.usual[drawn.usual]],
        findings,
    )


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
        _model_record(config, made.known, history, model, chosen.choice_id, run_id, date),
        model.to_bytes(config.model_key()),
    )


def _watch(config: Config, history: History, made: Prepared, model: Model, date: int, held: History) -> Watch:
    """What drift is measured against: a history that holds its reference, and how much of it is mature."""
    mature, y = (made.known.mature, made.known.y) if held is history else _mature_at(config, held, date)
    known = watching.Known(held, watching.reference_rows(config, held, date), mature, y)
    days = (date - made.known.holdout_start) / DAY
    return watching.fit(config, model, made.features, known, made.recent, days, date)


def fit_alone(config: Config, made: Prepared, chosen: Chosen, date: int) -> Model:
    """The model alone, without what is stored beside it."""
    return fit_model(
        _model_settings(config, chosen),
        Layout(made.features.encoding, _outlier_columns(made.features)),
        mature=made.mature,
        usual=made.usual,
        recent=made.recent,
        days=(date - made.known.holdout_start) / DAY,
        notes={"fields": fields_of(config), "trained_at": date},
        folds=chosen.folds,
    )


def preview(store: Store, config: Config, history: History, policy: str, date: int) -> Choice:
    """
    What a training at `date` would choose; nothing is stored.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    return _decide(store, config, history, policy, date)[1]


def _dates_before(store: Store, config: Config, policy: str, date: int) -> list[int]:
    clock, every = config.schedule, config.training.every
    newest = models.newest_choice_date(store, policy)
    if newest is None:
        span = stored.span(store)
        newest = date if span is None else span[0]
    return schedule.dates_inside(every, clock.timezone, newest, date) if newest < date else []


def _choose(store: Store, config: Config, history: History, policy: str, date: int, run_id: int) -> Chosen:
    rarity, choice, folds = _decide(store, config, history, policy, date)
    choice_id = models.save_choice(store, _choice_row(policy, date, run_id, rarity, choice))
    return Chosen(choice_id, choice.strategy, choice.outlier_share, choice.sentence, folds)


def _decide(
    store: Store, config: Config, history: History, policy: str, date: int
) -> tuple[Rarity, Choice, Folds]:
    known = known_at(config, history, date)
    rarity = _measure(config, history, known)
    folds = held_out_of(config, history, known)
    told = evidence(folds, _review(config, history, known), config.training.seed)
    return rarity, choose(rarity, _previous(store, policy, date), _choose_settings(config), told), folds


def held_out_of(config: Config, history: History, known: Known) -> Folds:
    """
    What detectors would have said of the mature frauds before they knew them, on `choose.evidence_rows` rows.

    Every transaction's features know the labels of its own time only, and a fold learns from what was mature at its date.
    """
    if not config.choose.evidence_rows or known.y.sum() < FITTABLE:
        return ()
    features = feature_plan(config)
    draws = sampling.uniform(history.transactions.transaction_id[known.mature])
    chosen, weight = sampling.draw(draws, config.choose.evidence_rows, known.y == FRAUD)
    rows = known.mature[chosen]
    matrix = _Matrix(config, history, features, [rows])
    sample = replace(
        matrix.sample(rows, known.y[chosen], weight),
        time=history.transactions.event_time[rows],
        known_at=known.learnable[chosen],
        entity=history.owners(next(iter(config.schema_.entities), None))[rows],
    )
    how = Fitting(config.training.trees, config.training.seed, config.training.threads)
    return held_out(sample, Layout(features.encoding, _outlier_columns(features)), how)


def _review(config: Config, history: History, known: Known) -> Review:
    """What flags cost, and for which share of transactions reviewers have time."""
    costs = Costs(config.costs.missed_fraud, config.costs.review, config.costs.missed)
    if not len(known.mature):
        return Review(costs, 0.0)
    first, last = history.transactions.event_time[known.mature[[0, -1]]]
    days = max(float(last - first) / DAY, 1.0)
    return Review(costs, min(1.0, config.alerts.per_day * days / len(known.mature)))


def known_at(config: Config, history: History, date: int) -> Known:
    """
    Split what is known at `date` into mature, usual and recent transactions.

    Mature ones are older than `labels.maturity` with labels complete to that point. The outlier detector
    needs no labels, so it may look at younger ones too; the newest `training.holdout` is left to set
    thresholds on, or the newest quarter of a history shorter than four holdouts.
    """
    rows = history.transactions
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    in_span = visible & (rows.event_time >= date - config.training.span)
    positions = np.flatnonzero(in_span)
    if len(positions) < config.training.min_rows:
        raise NotReady(
            f"a training needs {config.training.min_rows} transactions, {len(positions)} were known then: "
            "wait for more, or lower training.min_rows"
        )
    status = status_at(rows, history.events, date)
    first = int(rows.event_time[positions[0]])
    holdout_start = max(date - config.training.holdout, date - (date - first) // 4)
    young = rows.event_time >= holdout_start
    mature, y = _mature(config, history, in_span, status, date)
    usual = np.flatnonzero(in_span & ~young & (status != FRAUD))
    reported, reported_y = mature, y
    if history.unreviewed is not history.events:
        unreviewed = status_at(rows, history.unreviewed, date)
        reported, reported_y = _mature(config, history, in_span, unreviewed, date)
    return Known(
        mature=mature,
        y=y,
        usual=usual,
        cleared=status[usual] == GENUINE,
        recent=np.flatnonzero(in_span & young),
        holdout_start=holdout_start,
        learnable=_learnable(config, history, mature, date),
        reported=reported,
        reported_y=reported_y,
    )


def _learnable(config: Config, history: History, mature: Ints, date: int) -> Ints:
    """Since when these transactions have been mature, and their labels have said what they say at `date`."""
    old = history.completeness.reached(history.transactions.event_time[mature] + config.labels.maturity)
    return np.maximum(old, known_since(history.transactions, history.events, date)[mature])


def _mature(
    config: Config, history: History, in_span: NDArray[np.bool_], status: NDArray[np.int8], date: int
) -> tuple[Ints, NDArray[np.float64]]:
    """Transactions whose silence may be read, and those among them with a label."""
    complete = int(history.completeness.at(np.array([date], dtype=np.int64))[0])
    old = history.transactions.event_time + config.labels.maturity <= complete
    known = in_span & old & ((status >= 0) | history.silence_ok)
    rows = np.flatnonzero(known)
    return rows, (status[rows] == FRAUD).astype(np.float64)


def _mature_at(config: Config, history: History, date: int) -> tuple[Ints, NDArray[np.float64]]:
    """All transactions of a history whose silence may be read at `date`."""
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    return _mature(config, history, visible, status_at(history.transactions, history.events, date), date)


def _measure(config: Config, history: History, known: Known) -> Rarity:
    """
    How rare fraud is, and how much of it there is to learn from.

    Flags are chosen because they look like fraud, so what reviewers find on them says nothing of how rare it is:
    prevalence and its interval rest on what was reported anyway. As examples to learn from, verdicts count.
    """
    everything = _rarity_of(config, history, known.mature, known.y)
    if known.reported is known.mature:
        return everything
    reported = _rarity_of(config, history, known.reported, known.reported_y)
    return replace(reported, positives=everything.positives, effective=everything.effective)


def _rarity_of(config: Config, history: History, mature: Ints, y: NDArray[np.float64]) -> Rarity:
    columns = [history.transactions.columns[name].codes for name in config.schema_.entities]
    frauds = mature[y == FRAUD]
    effective = float(len(frauds))
    if columns:
        of_frauds = [codes[frauds] for codes in columns]
        effective = effective_positives(*of_frauds, mature=[codes[mature] for codes in columns])
    return measure(len(mature), len(frauds), effective, confidence=config.choose.confidence)


def _previous(store: Store, policy: str, date: int) -> list[Previous]:
    rows = models.last_choices(store, policy, date)
    return [Previous(row["strategy"], row["proposed"], row["evidence"]["gate_open"]) for row in rows]


def _choose_settings(config: Config) -> ChooseSettings:
    return ChooseSettings(
        strategy=config.choose.strategy,
        few=config.choose.few,
        enough=config.choose.enough,
        rare=config.choose.rare,
        common=config.choose.common,
        confirm=config.choose.confirm,
        outlier_share=config.choose.outlier_share,
    )


@dataclass(frozen=True)
class _Drawn:
    """Places in `Known.mature`, `usual` and `recent` of the rows to train on, and how many each stands for."""

    mature: Ints
    mature_weight: NDArray[np.float64]
    usual: Ints
    usual_weight: NDArray[np.float64]
    recent: Ints
    recent_weight: NDArray[np.float64]


def _drawn(config: Config, history: History, known: Known) -> _Drawn:
    draws, most = sampling.uniform(history.transactions.transaction_id), config.training.max_rows
    return _Drawn(
        *sampling.draw(draws[known.mature], most, known.y == FRAUD),
        *sampling.draw(draws[known.usual], min(OUTLIER_ROWS, most)),
        *sampling.draw(draws[known.recent], RECENT_ROWS),
    )


def _samples(
    config: Config, history: History, known: Known, features: Plan, drawn: _Drawn
) -> tuple[Sample, Sample, Sample]:
    """The mature, usual and recent rows to train on."""
    mature, usual, recent = known.mature[drawn.mature], known.usual[drawn.usual], known.recent[drawn.recent]
    matrix = _Matrix(config, history, features, [mature, usual, recent])
    return (
        matrix.sample(mature, known.y[drawn.mature], drawn.mature_weight),
        matrix.sample(usual, np.full(len(usual), np.nan), drawn.usual_weight),
        matrix.sample(recent, np.full(len(recent), np.nan), drawn.recent_weight),
    )


def _flagged(config: Config, features: Plan, usual: Sample, times: Ints) -> NDArray[np.bool_]:
    """Which usual rows outlier detection would have put before a reviewer."""
    if not len(usual):
        return np.zeros(0, dtype=bool)
    encoded = Encoder(features.encoding).fit(usual.raw, usual.y, usual.weight).transform(usual.raw)
    view = np.ascontiguousarray(encoded[:, list(_outlier_columns(features))])
    trees, seed = config.training.trees, config.training.seed
    return flagged_in_turn(view, usual.weight, times, config.alerts.per_day, trees, seed, DAY)


class _Matrix:
    """Raw features computed once for several overlapping samples."""

    def __init__(self, config: Config, history: History, features: Plan, samples: list[Ints]) -> None:
        self.rows = np.unique(np.concatenate(samples))
        self.raw = raw_matrix(history, self.rows, features, config)
        self.amount = history.transactions.amount[self.rows] / MONEY

    def sample(self, rows: Ints, y: NDArray[np.float64], weight: NDArray[np.float64]) -> Sample:
        places = np.searchsorted(self.rows, rows)
        return Sample(np.ascontiguousarray(self.raw[places]), y, weight, self.amount[places])


def _model_settings(config: Config, chosen: Chosen) -> ModelSettings:
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


def _outlier_columns(features: Plan) -> tuple[int, ...]:
    return tuple(place for place, feature in enumerate(features.features) if feature.outlier)


def _choice_row(policy: str, date: int, run_id: int, rarity: Rarity, choice: Choice) -> dict[str, Any]:
    return {
        "policy": policy,
        "training_date": date,
        "run_id": run_id,
        "mature": rarity.mature,
        "positives": rarity.positives,
        "effective_positives": rarity.effective,
        "prevalence": rarity.prevalence,
        "prevalence_lower": rarity.lower,
        "prevalence_upper": rarity.upper,
        "strategy": choice.strategy,
        "proposed": choice.proposed,
        "outlier_share": choice.outlier_share,
        "rule": choice.rule,
        "sentence": choice.sentence,
        "what_would_change": choice.what_would_change,
        "evidence": choice.numbers,
    }


def _model_record(
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
