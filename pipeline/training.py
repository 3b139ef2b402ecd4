"""
One training: measure how rare fraud is, choose the strategy, fit, promote.

A training belongs to a date, not to the moment it runs: it knows what was known then, and its model scores
the transactions from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.choose import Choice, ChooseSettings, Previous, choose
from detectors.model import Layout, Model, ModelSettings, Sample, fit_model
from detectors.rarity import Rarity, effective_positives, measure
from pipeline import sampling
from pipeline.config import Config
from pipeline.errors import NotReady
from pipeline.features import Plan, status_at
from pipeline.history import History, feature_plan, raw_matrix
from storage import models
from storage.frames import DAY, MONEY, Ints
from storage.store import Store

OUTLIER_ROWS = 60_000  # trees draw 1,024 rows each; more rows only cost features
RECENT_ROWS = 60_000  # a daily budget of 50 is then read off hundreds of scores
FRAUD, GENUINE = 1, 0


@dataclass(frozen=True)
class Trained:
    """What a training left behind."""

    model_id: int
    choice_id: int
    choice: Choice
    rarity: Rarity


@dataclass(frozen=True)
class Known:
    """What a training date knows: positions in the history, in time order."""

    mature: Ints  # labelled, or genuine by silence
    y: NDArray[np.float64]  # of `mature`: 1 fraud, 0 genuine
    usual: Ints  # not known to be fraud, older than the holdout
    recent: Ints  # the holdout
    holdout_start: int


def train(
    store: Store, config: Config, history: History, policy: str, date: int, run_id: int, by: str, now: int
) -> Trained:
    """
    Run the training of `date` over a history that reaches back `training.span` + lookback.

    Raises
    ------
    NotReady
        Fewer than `training.min_rows` transactions were known at `date`.
    """
    known = known_at(config, history, date)
    rarity = _measure(config, history, known)
    choice = choose(rarity, _previous(store, policy, date), _choose_settings(config))
    features = feature_plan(config)
    model = _fit(config, history, known, features, choice, date)
    choice_id = models.save_choice(store, _choice_row(policy, date, run_id, rarity, choice))
    record = _model_record(config, known, history, model, choice_id, run_id, date)
    model_id = models.save_model(store, record, model.to_bytes())
    models.promote(store, policy, date, model_id, reason=choice.sentence, by=by, now=now)
    return Trained(model_id, choice_id, choice, rarity)


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
    return Known(
        mature=mature,
        y=y,
        usual=np.flatnonzero(in_span & ~young & (status != FRAUD)),
        recent=np.flatnonzero(in_span & young),
        holdout_start=holdout_start,
    )


def _mature(
    config: Config, history: History, in_span: NDArray[np.bool_], status: NDArray[np.int8], date: int
) -> tuple[Ints, NDArray[np.float64]]:
    """Transactions whose silence may be read, and those among them with a label."""
    complete = int(history.completeness.at(np.array([date], dtype=np.int64))[0])
    old = history.transactions.event_time + config.labels.maturity <= complete
    known = in_span & old & ((status >= 0) | history.silence_ok)
    rows = np.flatnonzero(known)
    return rows, (status[rows] == FRAUD).astype(np.float64)


def _measure(config: Config, history: History, known: Known) -> Rarity:
    columns = [history.transactions.columns[name].codes for name in config.schema_.entities]
    frauds = known.mature[known.y == FRAUD]
    effective = float(len(frauds))
    if columns:
        of_frauds = [codes[frauds] for codes in columns]
        effective = effective_positives(*of_frauds, mature=[codes[known.mature] for codes in columns])
    return measure(len(known.mature), len(frauds), effective, confidence=config.choose.confidence)


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


def _fit(config: Config, history: History, known: Known, features: Plan, choice: Choice, date: int) -> Model:
    draws = sampling.uniform(history.transactions.transaction_id)
    mature, mature_weight = sampling.draw(draws[known.mature], config.training.max_rows, known.y == FRAUD)
    usual, usual_weight = sampling.draw(draws[known.usual], min(OUTLIER_ROWS, config.training.max_rows))
    recent, recent_weight = sampling.draw(draws[known.recent], RECENT_ROWS)
    matrix = _Matrix(
        config, history, features, [known.mature[mature], known.usual[usual], known.recent[recent]]
    )
    return fit_model(
        _model_settings(config, choice),
        Layout(features.encoding, _outlier_columns(features)),
        mature=matrix.sample(known.mature[mature], known.y[mature], mature_weight),
        usual=matrix.sample(known.usual[usual], np.full(len(usual), np.nan), usual_weight),
        recent=matrix.sample(known.recent[recent], np.full(len(recent), np.nan), recent_weight),
        days=(date - known.holdout_start) / DAY,
        notes={"fields": _fields(config), "trained_at": date},
    )


class _Matrix:
    """Raw features computed once for several overlapping samples."""

    def __init__(self, config: Config, history: History, features: Plan, samples: list[Ints]) -> None:
        self.rows = np.unique(np.concatenate(samples))
        self.raw = raw_matrix(history, self.rows, features, config)
        self.amount = history.transactions.amount[self.rows] / MONEY

    def sample(self, rows: Ints, y: NDArray[np.float64], weight: NDArray[np.float64]) -> Sample:
        places = np.searchsorted(self.rows, rows)
        return Sample(np.ascontiguousarray(self.raw[places]), y, weight, self.amount[places])


def _model_settings(config: Config, choice: Choice) -> ModelSettings:
    return ModelSettings(
        strategy=choice.strategy,
        seed=config.training.seed,
        threads=config.training.threads,
        trees=config.training.trees,
        missed_fraud=config.costs.missed_fraud,
        review=config.costs.review,
        missed=config.costs.missed,
        per_day=config.alerts.per_day,
        outlier_share=choice.outlier_share,
    )


def _outlier_columns(features: Plan) -> tuple[int, ...]:
    return tuple(place for place, feature in enumerate(features.features) if feature.outlier)


def _fields(config: Config) -> Mapping[str, Any]:
    """What the plan of this model's features was made from, to make it again when the config has moved on."""
    return {
        "entities": list(config.schema_.entities),
        "numeric": list(config.schema_.numeric),
        "categorical": list(config.schema_.categorical),
        "windows": list(config.features.windows),
        "night": list(config.features.night),
    }


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
        feature_names=model.ranker.names,
        thresholds=dict(model.thresholds),
        config_hash=config.hash(),
    )
