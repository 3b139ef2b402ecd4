"""
Promotion gate: compares a candidate with the champion on the newest window whose labels are mature.

The new model was trained on that window and the champion was not, so their scores there cannot be compared. The candidate
is therefore fitted again with the same choice and settings, on the rows that the champion was fitted on (where settings, labels
and values are still the same, that is what the champion has learned, and is taken from it)::

    labelled rows ......................│ newest mature window │ no label yet ...... │ date of the training
    └ candidate and champion trained on ┘ both are evaluated   ┘

So two models differ by what was changed since (settings, the choice, labels, values), and by chance: of the rows, and of a training.

Ranking is compared by average precision and flags by their cost, at the same number of cases: both models get their
thresholds from their scores in the window, without labels, for today's budget and costs. (With the thresholds of their
own training, the model that flags more would win.) Features are point in time, so each model gets the values it would have
had then. Rows whose labels the champion was trained on are left out.

The champion's own flags brought the labels of reviewed payments, some of them wrong, and it may have learned from these answers
early. So unreviewed payments that the champion scores alike stand for them (`detectors.evaluation.reviewed_payments`). Where the team
answers nearly everything, and none compare, verdicts stay, each accusation as far as it is to be believed, and the candidate
learns from the same answers as the champion did.

Before that, a candidate that a field tells the labels of (a readiness finding `LEAK`) is rejected: on past data such a
model wins any comparison. This does not depend on `training.gate`, only on `schema.trusted`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from detectors.base import DetectorError
from detectors.evaluation import comparison
from detectors.evaluation.comparison import (
    MIN_AP_DIFFERENCE,
    MIN_COST_DIFFERENCE,
    TRAINING_SD_AP,
    TRAINING_SD_COST,
    Estimate,
    FoldPredictions,
    TechniqueMetrics,
)
from detectors.evaluation.prevalence import describe_cases
from detectors.evaluation.reviewed_payments import (
    correct_outcomes,
    review_strata,
    weights_without_reviewed,
)
from detectors.inputs.sample import Sample
from detectors.model.model import Model, with_new_thresholds
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.config.costs import at_risk, at_stake
from pipeline.features import history as feature_history
from pipeline.features.history import Floats, History
from pipeline.features.label_history import known_since
from pipeline.number_text import counted
from pipeline.schedule.run_context import HistoryReader
from pipeline.scoring.model_cache import ModelCache
from pipeline.training import train
from pipeline.training.answers import is_answered
from pipeline.training.gate_texts import RULE_TEXTS
from pipeline.training.learned_payments import has_changed, is_lower, learned_ranking
from pipeline.training.prevalence import Reviews
from pipeline.training.readiness import LEAK, ReadinessFinding
from pipeline.training.strategy_choice import StoredChoice
from pipeline.training.train import Prepared
from pipeline.training.training_set import case_entities, effective_frauds, is_old, payers
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.errors import Damaged
from storage.frames import DAY, FRAUD, Ints
from storage.models import models
from storage.models.models import PromotionCheck

EFFECTIVE_MIN = 10  # effective frauds; with fewer, the interval of average precision is too wide to compare
HISTORY_CHANGED = "HISTORY_CHANGED"  # rule of a rejection: the champion fails on what it learned from
FAILS_ON_LEARNED = "FAILS_ON_LEARNED"  # the candidate does
GENUINE_ROWS = 60_000  # of the window that are evaluated, sampled by hash and weighted


@dataclass(frozen=True)
class EvaluationWindow:
    """The rows that models are evaluated on, with their labels."""

    start: int
    end: int
    rows: Ints  # positions in the history
    y: Floats
    weight: Floats
    transactions: int
    effective: float

    @property
    def frauds(self) -> int:
        """Known frauds among the rows."""
        return int(self.y.sum())


@dataclass(frozen=True)
class PromotionGate:
    """Decides whether a candidate is promoted."""

    store: Store
    config: Config
    model_cache: ModelCache
    reader: HistoryReader

    def check(
        self, history: History, prepared: Prepared, choice: StoredChoice, candidate: Model, date: int
    ) -> PromotionCheck | None:
        """
        Compare the candidate with the champion at `date`, and decide on promotion; None if `training.gate` is off.

        A candidate is rejected only on a leak or a significant difference. Without a champion, or with too few frauds to
        compare, it is promoted.
        """
        self.model_cache.refresh()
        in_force = self.model_cache.in_force_until(date)
        leaks = [finding for finding in prepared.findings if finding.code == LEAK]
        if leaks:
            return _leaking(leaks, in_force[-1] if in_force else None)
        if not self.config.training.gate:
            return None
        if not in_force:
            return PromotionCheck(
                "promoted", "FIRST", "It is the first model: there is no champion to compare it with."
            )
        return self._compare(history, prepared, choice, candidate, in_force[-1], date)

    def _compare(
        self,
        history: History,
        prepared: Prepared,
        choice: StoredChoice,
        candidate: Model,
        champion_id: int,
        date: int,
    ) -> PromotionCheck:
        window = self._window(history, prepared, champion_id, date)
        try:
            champion = self.model_cache.model(champion_id)
            past = self._past(history, prepared, window, champion_id, date)
            of_learned = self._check_learned(champion_id, champion, candidate, past)
            if of_learned is not None:
                return of_learned
            if window.effective < EFFECTIVE_MIN:
                return _too_few(window, champion_id)
            candidate_raw = feature_history.raw_matrix(history, window.rows, prepared.features, self.config)
            columns = prepared.features.raw_names
            champion_raw = self._champion_features(champion_id, history, window, candidate_raw, columns)
            if prepared.reviews.any_of(window.rows):
                past = past.with_examples(self._known_to(champion, history, prepared, window, candidate_raw))
                risk = at_risk(self.config, history.transactions.take(window.rows))
                score = champion.score(champion_raw, risk).score
                window, places = without_own_labels(window, prepared.reviews, score)
                candidate_raw, champion_raw = candidate_raw[places], champion_raw[places]
                if window.effective < EFFECTIVE_MIN:
                    return _too_few(window, champion_id)
            earlier = (fold.before(window.start) for fold in choice.folds)
            folds = tuple(fold for fold in earlier if fold.y.any())
            again = train.fit_alone(self.config, past, replace(choice, folds=folds), date, champion)
            del past  # its rows take memory
        except (DetectorError, Damaged) as error:
            return _inconclusive(window, champion_id, f"they cannot be compared ({error})")
        return _decided(
            window,
            champion_id,
            *self._evaluations(history, window, [(again, candidate_raw), (champion, champion_raw)]),
        )

    def _past(
        self, history: History, prepared: Prepared, window: EvaluationWindow, champion_id: int, date: int
    ) -> Prepared:
        """Samples before the window that reach as far back as the champion's, so that a candidate of them knows as much as it does."""
        _, trained_at = models.learned_until(self.store, champion_id)
        training = self.config.training
        span_start = max(trained_at, date - training.every) - training.span
        return train.prepare_again(self.config, history, prepared, span_start, window.start)

    def _check_learned(
        self, champion_id: int, champion: Model, candidate: Model, past: Prepared
    ) -> PromotionCheck | None:
        """A rejection if one of the models does not rank the payments that both learned from; None if both do or have other features."""
        # Unreviewed payments stand for reviewed ones, by weights that differ from date to date: then the two do not compare.
        then: Mapping[str, Any] = {} if past.reviews.exist else champion.notes.get("learned") or {}
        # A blend memorises by the weight of its classifiers, which differs between trainings.
        both_classify = candidate.strategy == champion.strategy == "classification"
        if not (then or both_classify) or not self._has_features(champion_id, past.features.raw_names):
            return None
        learned_until, _ = models.learned_until(self.store, champion_id)
        mature = past.samples.mature
        mature = mature.take(mature.times <= (learned_until or 0))
        now = learned_ranking(champion, mature)
        if has_changed(then, now):
            return _history_changed(champion_id, then, now)
        of_candidate = learned_ranking(candidate, mature) if both_classify else {}
        return _fails_on_learned(champion_id, of_candidate, now) if is_lower(of_candidate, now) else None

    def _has_features(self, champion_id: int, columns: tuple[str, ...]) -> bool:
        """Whether the champion has the same raw columns, of the same fields, windows and maturity."""
        same_fields = self.model_cache.fields(champion_id) == feature_history.feature_fields(self.config)
        return same_fields and self.model_cache.catalogue(champion_id).raw_names == columns

    def _evaluations(
        self, history: History, window: EvaluationWindow, models: Sequence[tuple[Model, Floats]]
    ) -> list[TechniqueMetrics]:
        transactions = history.transactions.take(window.rows)
        times = transactions.event_time
        owner = payers(self.config, history)[window.rows]
        codes = case_entities(self.config, history)
        case_codes = None if codes is None else codes[window.rows]
        days = (window.end - window.start) / DAY
        settings = models[0][0].settings
        rows = comparison.FoldRows(
            y=window.y,
            amount=at_stake(self.config, transactions),
            entity=np.unique(owner, return_inverse=True)[1],
            time=times,
            day=times // DAY,
            weight=window.weight,
        )
        verdicts, ranks, ranked_by = [], None, None
        for model, raw in models:
            sample = Sample(
                raw, window.y, window.weight, at_risk(self.config, transactions), times, entity=case_codes
            )
            detectors = model.detector.fitted().parts
            if ranked_by != (id(detectors), id(raw)):  # those of the same samples are the same
                ranks, ranked_by = model.detector.rank(raw), (id(detectors), id(raw))
            answer = _predictions(with_new_thresholds(model, settings, sample, days, ranks), sample)
            verdicts.append(comparison.evaluate_technique([rows], [answer], self.config.costs.review))
        return verdicts

    def _window(self, history: History, prepared: Prepared, champion_id: int, date: int) -> EvaluationWindow:
        """The newest `training.every` of mature rows, without those whose labels the champion was trained on."""
        complete = int(history.completeness.at(np.array([date], dtype=np.int64))[0])
        end = complete - self.config.labels.longest_maturity
        learned_until, trained_at = models.learned_until(self.store, champion_id)
        start = end - self.config.training.every
        mature = prepared.training_set.mature
        times = history.transactions.event_time[mature]
        inside = times <= end
        if self.config.labels.maturity_by:  # the champion learned younger rows of some values than of others
            inside &= ~is_old(self.config, history, trained_at)[mature]
        else:
            start = max(start, learned_until or 0)
        inside &= times > start
        rows, y = mature[inside], prepared.training_set.y[inside]
        draws = history.draws[rows]
        selected, weight = hash_sampling.sample_rows(draws, GENUINE_ROWS + int(y.sum()), y == FRAUD)
        weight *= prepared.training_set.weight[inside][selected]
        effective = effective_frauds(self.config, history, rows, y)
        return EvaluationWindow(start, end, rows[selected], y[selected], weight, len(rows), effective)

    def _known_to(
        self, champion: Model, history: History, prepared: Prepared, window: EvaluationWindow, raw: Floats
    ) -> Sample:
        """The rows of the window whose answers the champion learned from before they were mature."""
        since = known_since(history.transactions, history.events, prepared.training_set.date)[window.rows]
        times = history.transactions.event_time[window.rows]
        date = int(champion.notes["trained_at"])
        answered = is_answered(history, prepared.training_set.date)[window.rows]
        known = answered & (since <= date) & (times < date - self.config.training.holdout)
        risk = at_risk(self.config, history.transactions.take(window.rows))
        owner = payers(self.config, history)[window.rows]
        return Sample(raw, window.y, np.ones(len(raw)), risk, times, since, owner).take(known)

    def _champion_features(
        self,
        champion_id: int,
        history: History,
        window: EvaluationWindow,
        candidate_raw: Floats,
        candidate_columns: tuple[str, ...],
    ) -> Floats:
        """Raw features for the champion, with the fields, windows and maturity of its training."""
        if self._has_features(champion_id, candidate_columns):
            return candidate_raw
        fields, catalogue = self.model_cache.fields(champion_id), self.model_cache.catalogue(champion_id)
        ids, span = history.transactions.transaction_id[window.rows], (window.start, window.end + 1)
        past = self.reader.for_rows(*span, ids)
        rows = past.positions(ids, *span)
        return feature_history.raw_matrix(past, rows, catalogue, self.config, fields)


def without_own_labels(
    window: EvaluationWindow, reviews: Reviews, score: Floats
) -> tuple[EvaluationWindow, Ints]:
    """
    The window with unreviewed rows standing for reviewed ones that the champion scores alike, and the places of its rows.

    An accused row that stays is there twice: as fraud and as genuine, with the weights that it is to be believed with.
    """
    outcomes = reviews.known_outcomes(window.rows, window.y, window.weight)
    stratum = review_strata(score, outcomes.reviewed)
    fraud, weight = correct_outcomes(outcomes, stratum).fraud, weights_without_reviewed(outcomes, stratum)
    n = len(weight)
    y, places = np.repeat([0.0, 1.0], n), np.tile(np.arange(n), 2)
    weights = np.append(weight * (1 - fraud), weight * fraud)
    kept = np.flatnonzero(weights > 0)
    order = kept[np.argsort(places[kept], kind="stable")]
    frauds = weights[order][y[order] == FRAUD]
    kish = float(frauds.sum() ** 2 / (frauds**2).sum()) if len(frauds) else 0.0
    effective = window.effective * kish / max(window.frauds, 1)
    places = places[order]
    kept_window = replace(
        window, rows=window.rows[places], y=y[order], weight=weights[order], effective=effective
    )
    return kept_window, places


def _predictions(model: Model, rows: Sample) -> FoldPredictions:
    """A model's scores of the rows that its thresholds were set on, and the flags it would have raised."""
    scores = model.score(rows.raw, rows.amount, model.recent)
    flags = scores.flagged
    return FoldPredictions(scores.score, flags, flags, flags, flags, np.full(len(rows), np.nan))


def _leaking(leaks: Sequence[ReadinessFinding], champion_id: int | None) -> PromotionCheck:
    stays = f"Model {champion_id} stays in force" if champion_id is not None else "No model is in force"
    messages = "; ".join(leak.message for leak in leaks)
    message = (
        f"The candidate was trained on what may be a leak: {messages}. To go on, {leaks[0].remedy}. {stays}."
    )
    return PromotionCheck("rejected", LEAK, message, champion_id=champion_id)


def _history_changed(champion_id: int, then: Mapping[str, Any], now: Mapping[str, Any]) -> PromotionCheck:
    message = (
        f"The labels or values of old payments were changed: model {champion_id} no longer ranks the payments that it learned from "
        f"(average precision {now['ap']:.2f}, {then['ap']:.2f} when it was trained). Undo the batch that changed them, unless that "
        f"was meant. Model {champion_id} stays in force."
    )
    return PromotionCheck("rejected", HISTORY_CHANGED, message, champion_id=champion_id)


def _fails_on_learned(
    champion_id: int, of_candidate: Mapping[str, Any], of_champion: Mapping[str, Any]
) -> PromotionCheck:
    message = (
        f"The candidate does not rank the payments that it and model {champion_id} learned from (average precision "
        f"{of_candidate['ap']:.2f} against {of_champion['ap']:.2f}). Model {champion_id} stays in force."
    )
    return PromotionCheck("rejected", FAILS_ON_LEARNED, message, champion_id=champion_id)


def _too_few(window: EvaluationWindow, champion_id: int) -> PromotionCheck:
    too_few = f"the newest mature window holds {describe_cases(window.effective)}, {EFFECTIVE_MIN} are needed"
    return _inconclusive(window, champion_id, too_few)


def _inconclusive(window: EvaluationWindow, champion_id: int, why: str) -> PromotionCheck:
    message = f"The comparison with model {champion_id} is inconclusive: {why}. So the candidate is promoted."
    return PromotionCheck("promoted", "INCONCLUSIVE", message, champion_id=champion_id, **_counts(window))


def _decided(
    window: EvaluationWindow, champion_id: int, candidate: TechniqueMetrics, champion: TechniqueMetrics
) -> PromotionCheck:
    rule, measures = judge(candidate, champion)
    verdict: Literal["promoted", "rejected"] = "rejected" if rule in REJECTING else "promoted"
    message = _sentence(window, champion_id, rule, measures)
    return PromotionCheck(verdict, rule, message, champion_id=champion_id, **_counts(window), **measures)


def judge(candidate: TechniqueMetrics, champion: TechniqueMetrics) -> tuple[str, dict[str, Any]]:
    """The rule that applies to two models evaluated on the same rows, and the columns of the check with what was measured."""
    cost_scale = champion.metrics["cost"].value
    ap = comparison.training_difference(candidate, champion, "ap", TRAINING_SD_AP)
    cost = comparison.training_difference(candidate, champion, "cost", TRAINING_SD_COST * cost_scale)
    directions = (
        _direction(ap, MIN_AP_DIFFERENCE),
        _direction(_negative(cost), MIN_COST_DIFFERENCE * cost_scale),
    )
    return RULES[directions], {
        "ap": candidate.metrics["ap"].value,
        "ap_champion": champion.metrics["ap"].value,
        **{f"ap_{name}": value for name, value in _interval(ap).items()},
        "cost": candidate.metrics["cost"].value,
        "cost_champion": cost_scale,
        **{f"cost_{name}": value for name, value in _interval(cost).items()},
    }


def _direction(gain: Estimate, matters: float) -> int:
    """1 if significantly better, −1 if significantly worse by more than `matters`, 0 otherwise."""
    if gain.lower > 0:
        return 1
    return -1 if gain.upper < -matters else 0


def _negative(estimate: Estimate) -> Estimate:
    """The gain in a metric of which less is better."""
    return Estimate(-estimate.value, -estimate.upper, -estimate.lower)


def _interval(estimate: Estimate) -> dict[str, float]:
    return {"difference": estimate.value, "lower": estimate.lower, "upper": estimate.upper}


def _counts(window: EvaluationWindow) -> dict[str, Any]:
    if not window.transactions:
        return {"transactions": 0, "frauds": 0, "effective_frauds": 0.0}
    return {
        "window_start": window.start,
        "window_end": window.end,
        "transactions": window.transactions,
        "frauds": window.frauds,
        "effective_frauds": window.effective,
    }


def _sentence(window: EvaluationWindow, champion_id: int, rule: str, m: Mapping[str, float]) -> str:
    begin, end = (f"{as_datetime(at):%Y-%m-%d}" for at in (window.start, window.end))
    ap = (
        f"average precision {m['ap']:.3f} against {m['ap_champion']:.3f} "
        f"(difference {m['ap_difference']:+.3f}, {m['ap_lower']:+.3f} to {m['ap_upper']:+.3f})"
    )
    cost = (
        f"cost {m['cost']:,.0f} against {m['cost_champion']:,.0f} "
        f"(difference {m['cost_difference']:+,.0f}, {m['cost_lower']:+,.0f} to {m['cost_upper']:+,.0f})"
    )
    where = f"from {begin} to {end} ({counted(window.transactions, 'transaction')}, {window.frauds:,} of them fraud)"
    message = f"The candidate is {RULE_TEXTS[rule]} than model {champion_id} on transactions that neither was fitted on, {where}: {ap}, {cost}."
    if rule not in REJECTING:
        return message
    return f"{message} Model {champion_id} stays in force."


# (direction of average precision, direction of the gain in cost) → rule.
RULES = {
    (1, 1): "BETTER", (1, 0): "BETTER", (0, 1): "BETTER",
    (0, 0): "NOT_WORSE", (1, -1): "MIXED", (-1, 1): "MIXED",
    (-1, 0): "WORSE_AP", (0, -1): "WORSE_COST", (-1, -1): "WORSE",
}  # fmt: skip
REJECTING = frozenset({"WORSE_AP", "WORSE_COST", "WORSE"})
