"""A new model takes over only if it is not worse than the one in force, and what was found is kept."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import update

from detectors.evaluation.comparison import (
    Estimate,
    FoldPredictions,
    FoldRows,
    TechniqueMetrics,
    difference,
    evaluate_technique,
)
from pipeline.config.config import Config
from pipeline.features import history as feature_history
from pipeline.notifications.messages import candidate_rejected
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run, train_once
from pipeline.schedule.run_context import HistoryReader, start_run
from pipeline.scoring.model_cache import ModelCache
from pipeline.services.models import models as modelling
from pipeline.services.models.models import PromotionRequest
from pipeline.services.monitoring import doctor
from pipeline.services.session import Session
from pipeline.training import train as training
from pipeline.training.learned_payments import has_changed, learned_ranking
from pipeline.training.prevalence import Reviews
from pipeline.training.promotion_gate import (
    EFFECTIVE_MIN,
    REJECTING,
    EvaluationWindow,
    PromotionGate,
    judge,
    without_own_labels,
)
from pipeline.training.strategy_choice import StoredChoice
from storage.database import tables
from storage.database.database import Store
from storage.frames import DAY, HOUR, SECOND
from storage.models import models
from storage.queries.models import check_page, model_page
from storage.runs import ledger, scoring_queue
from tests.support.databases import Copier, World, with_url
from tests.support.payments import LABEL_HEADER, START, write_csv
from tests.support.sql import query
from tests.support.worlds import SMALL, load, load_both

DAYS = 47
FIRST, SECOND_DATE, THIRD = (START + days * DAY for days in (26, 33, 40))  # Mondays
NOW = START + DAYS * DAY
SCORES = "SELECT transaction_id, score, flagged FROM scores WHERE policy = '{}' ORDER BY transaction_id"


def configured(sections: Mapping[str, Mapping[str, Any]]) -> Config:
    """SMALL with some keys of some sections changed."""
    changed = {name: getattr(SMALL, name).model_copy(update=keys) for name, keys in sections.items()}
    return with_url(SMALL.model_copy(update=changed), "sqlite:///elsewhere")


CLASSIFIES = configured({"strategy": {"method": "classification"}})
BLIND = configured({"strategy": {"method": "outlier"}})
UNGATED = configured({"strategy": {"method": "outlier"}, "training": {"gate": False}})
OTHER_FIELDS = configured(
    {"strategy": {"method": "classification"}, "features": {"windows": (DAY, 3 * DAY, 14 * DAY)}}
)


def by_night(days: int, per_day: int = 150, seed: int = 3) -> tuple[list[str], list[str]]:
    """Payments and labels: a third of what is paid at night is fraud of usual amounts, which only labels can tell."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    time = np.sort(rng.integers(0, days * DAY // SECOND, n)) * SECOND + START
    fraud = (time // HOUR % 24 < 3) & (rng.random(n) < 0.3)
    amount = np.round(np.exp(rng.normal(3.0, 0.6, n)), 2)
    customer, terminal = rng.integers(0, 400, n), rng.integers(0, 100, n)
    said = np.datetime_as_string(time.astype("datetime64[us]"), unit="s")
    known = np.datetime_as_string((time + 2 * DAY).astype("datetime64[us]"), unit="s")
    rows = [f"t{k:06d},{said[k]}Z,c{customer[k]},m{terminal[k]},{amount[k]:.2f}" for k in range(n)]
    return rows, [f"t{k:06d},1,{known[k]}Z,chargeback" for k in np.flatnonzero(fraud)]


def fill(store: Store, folder: Path) -> None:
    rows, labels = by_night(DAYS)
    load_both(store, CLASSIFIES, folder, rows, labels, now=NOW)


def train(store: Store, config: Config, date: int) -> str:
    return train_once(store, config, date=date, as_of=NOW, policy="live", by="test").trainings[0]


def train_first(store: Store, _folder: Path) -> None:
    train(store, CLASSIFIES, FIRST)


BY_NIGHT = World("payments_by_night", CLASSIFIES, fill)
ONE_MODEL = World("payments_by_night_with_a_model", CLASSIFIES, train_first, base=BY_NIGHT)


@pytest.fixture
def filled(copier: Copier) -> Store:
    """Payments and one model, on each engine."""
    return copier(ONE_MODEL)


@pytest.fixture
def small(sqlite_copier: Copier) -> Store:
    """The same on SQLite alone, where the engine makes no difference."""
    return sqlite_copier(ONE_MODEL)


def checked(store: Store) -> list[dict[str, Any]]:
    """Oldest first."""
    return check_page(store, "live").rows[::-1]


def session_of(store: Store) -> Session:
    return Session(store, CLASSIFIES, "ann", clock=lambda: NOW)


def newest_training(store: Store) -> doctor.CheckResult:
    return next(one for one in doctor.check(session_of(store), "live") if one.subject == "newest_training")


@pytest.mark.one_engine
def test_a_model_that_is_worse_is_kept_and_not_promoted_until_a_person_says_so(filled: Store) -> None:
    said = train(filled, BLIND, SECOND_DATE)
    assert "candidate 2 was rejected" in said
    assert said.endswith("Model 1 stays in force.")
    first, second = checked(filled)
    assert (first["verdict"], first["rule"], first["champion_id"]) == ("promoted", "FIRST", None)
    assert (second["verdict"], second["champion_id"]) == ("rejected", 1)
    assert second["rule"] in {"WORSE_AP", "WORSE"}
    assert second["ap"] < second["ap_champion"] - 0.1
    assert second["ap_lower"] <= second["ap_difference"] <= second["ap_upper"] < 0
    assert second["cost"] - second["cost_champion"] == pytest.approx(second["cost_difference"])
    assert second["frauds"] >= second["effective_frauds"] >= EFFECTIVE_MIN
    assert [p.model_id for p in models.promoted(filled, "live")] == [1]
    entry = ledger.find(filled, "live", "train", SECOND_DATE, SECOND_DATE)
    assert entry is not None
    assert entry.counts is not None
    assert (entry.status, entry.counts["model_id"], entry.counts["rejected"]) == ("done", 2, 1)

    assert [(row["model_id"], row["verdict"]) for row in model_page(filled, "live").rows] == [
        (2, "rejected"),
        (1, "promoted"),
    ]
    (check,) = modelling.model_card(session_of(filled), "live", 2).checks
    assert (check.verdict, check.champion_id) == ("rejected", 1)
    assert check.rule.startswith("WORSE")
    assert newest_training(filled).failed
    assert newest_training(filled).code == "candidate_rejected"
    modelling.promote(session_of(filled), PromotionRequest("live", 2, "we want it"))
    assert not newest_training(filled).failed
    assert ModelCache(filled, CLASSIFIES, "live").in_force_until(NOW) == [1, 2]


@pytest.mark.one_engine
def test_the_model_in_force_goes_on_scoring_and_a_sound_one_follows(filled: Store) -> None:
    train(filled, BLIND, SECOND_DATE)
    train(filled, CLASSIFIES, THIRD)
    third = checked(filled)[2]
    assert (third["verdict"], third["champion_id"]) == ("promoted", 1)
    assert third["rule"] in {"NOT_WORSE", "BETTER"}
    assert ModelCache(filled, CLASSIFIES, "live").in_force_until(NOW) == [1, 3]
    assert newest_training(filled).code == "promoted"


def two_models(gain: float, rows_sd: float, costs: float = 0.0) -> tuple[TechniqueMetrics, TechniqueMetrics]:
    """Candidate and champion that differ by this in average precision and relative cost, on rows that bring little chance."""
    chance = np.random.default_rng(1).standard_normal(200)
    champion = {"ap": 0.5, "cost": 1000.0}
    candidate = {"ap": 0.5 + gain, "cost": 1000.0 * (1 + costs)}
    samples = {"ap": chance * rows_sd, "cost": chance}
    return (
        TechniqueMetrics(
            {name: Estimate(value, value, value) for name, value in candidate.items()},
            {name: value + samples[name] for name, value in candidate.items()},
        ),
        TechniqueMetrics(
            {name: Estimate(value, value, value) for name, value in champion.items()},
            {name: np.full(200, value) for name, value in champion.items()},
        ),
    )


def test_two_draws_of_the_same_training_differ_by_more_than_the_rows_explain() -> None:
    assert judge(*two_models(-0.015, rows_sd=0.001))[0] not in REJECTING
    assert judge(*two_models(0.0, rows_sd=0.001, costs=0.05))[0] not in REJECTING
    assert judge(*two_models(-0.1, rows_sd=0.02))[0] == "WORSE_AP"
    assert judge(*two_models(-0.1, rows_sd=0.08))[0] == "NOT_WORSE"
    assert judge(*two_models(0.0, rows_sd=0.02, costs=0.5))[0] == "WORSE_COST"
    assert judge(*two_models(0.1, rows_sd=0.02))[0] == "BETTER"


def test_a_model_ranks_what_it_learned_from_until_the_labels_are_those_of_other_payments(
    small: Store,
) -> None:
    history = feature_history.load(small, CLASSIFIES, START, SECOND_DATE)
    made = training.prepare(CLASSIFIES, history, SECOND_DATE)
    mature = made.samples.mature
    model = training.fit_alone(CLASSIFIES, made, StoredChoice(1, "classification", 0.1, ""), SECOND_DATE)
    then = learned_ranking(model, mature)
    assert then["ap"] > 0.5
    assert then["frauds"] == mature.y.sum()
    assert not has_changed(then, learned_ranking(model, mature.take(mature.times > SECOND_DATE - 20 * DAY)))
    elsewhere = learned_ranking(model, replace(mature, y=np.roll(mature.y, 60)))
    assert has_changed(then, elsewhere)
    assert not has_changed(then | {"frauds": then["frauds"] / 2}, elsewhere)  # most of them are new to it
    assert not has_changed({}, elsewhere)  # a model of before
    assert learned_ranking(model, mature.take(mature.y == 0)) == {}


def test_a_candidate_of_a_changed_past_is_refused_although_the_window_is_wrong_as_well(
    small: Store, tmp_path: Path
) -> None:
    poison(small, tmp_path)
    said = train(small, CLASSIFIES, THIRD)
    third = checked(small)[1]
    assert (third["verdict"], third["rule"], third["champion_id"]) == ("rejected", "HISTORY_CHANGED", 1)
    assert "The labels or values of old payments were changed: model 1 no longer ranks" in said
    row = third | {"refusals": 1, "training_date": THIRD, "champion_trained_at": FIRST}
    assert candidate_rejected(row).body == third["sentence"]  # with what to do in it


def test_a_candidate_that_learned_something_else_is_refused_whatever_the_window_holds(small: Store) -> None:
    chosen = StoredChoice(1, "classification", 0.1, "")
    with start_run(small, CLASSIFIES, NOW, "live", "backfill", "test", None) as context:
        reader = HistoryReader(context.store, context.config, context.policy, SECOND_DATE)
        history = reader.for_training(SECOND_DATE)
        made = training.prepare(CLASSIFIES, history, SECOND_DATE)
        mature = made.samples.mature
        misplaced = replace(made.samples, mature=replace(mature, y=np.roll(mature.y, 60)))
        sound, broken = (
            training.fit_alone(CLASSIFIES, one, chosen, SECOND_DATE)
            for one in (made, replace(made, samples=misplaced))
        )
        gate = PromotionGate(small, CLASSIFIES, ModelCache(small, CLASSIFIES, "live"), reader)
        promoted, refused = (
            gate.check(history, made, chosen, candidate, SECOND_DATE) for candidate in (sound, broken)
        )
    assert promoted is not None
    assert refused is not None
    assert promoted.verdict == "promoted"
    assert (refused.verdict, refused.rule) == ("rejected", "FAILS_ON_LEARNED")
    assert "does not rank the payments that it and model 1 learned from" in refused.sentence


def test_without_the_gate_nothing_is_judged(small: Store) -> None:
    train(small, UNGATED, SECOND_DATE)
    assert [p.model_id for p in models.promoted(small, "live")] == [1, 2]
    assert len(checked(small)) == 1


def test_models_of_other_features_are_compared_on_what_each_of_them_sees(small: Store) -> None:
    train(small, OTHER_FIELDS, SECOND_DATE)
    second = checked(small)[1]
    assert second["rule"] in {"NOT_WORSE", "BETTER"}
    assert second["ap"] > 0.2
    assert second["ap_champion"] > 0.2
    assert second["ap"] != second["ap_champion"]


def test_where_nothing_can_be_told_the_new_model_goes_in_and_says_so(small: Store) -> None:
    train(small, BLIND, FIRST)  # the first one has learned from all that is mature
    again = checked(small)[1]
    assert (again["verdict"], again["rule"], again["transactions"]) == ("promoted", "INCONCLUSIVE", 0)
    assert f"holds 0 independent fraud cases, {EFFECTIVE_MIN} are needed" in again["sentence"]
    with small.write() as connection:
        broken = update(tables.models).where(tables.models.c.model_id == 2).values(artifact=b"nothing")
        connection.execute(broken)
    train(small, BLIND, SECOND_DATE)
    assert checked(small)[2]["rule"] == "INCONCLUSIVE"
    assert "cannot be compared (model 2 is not the one that was stored" in checked(small)[2]["sentence"]


def test_a_candidate_is_fitted_again_on_the_rows_that_the_champion_was_fitted_on(small: Store) -> None:
    config = configured({"strategy": {"method": "classification"}, "training": {"span": 20 * DAY}})
    history = feature_history.load(small, config, START, SECOND_DATE)
    before, made = (training.prepare(config, history, date) for date in (FIRST, SECOND_DATE))
    start = SECOND_DATE - config.labels.maturity - config.training.every
    again = training.prepare_again(config, history, made, FIRST - config.training.span, start)
    of_champion, of_candidate = before.samples.mature, again.samples.mature
    assert made.samples.mature.times.min() > of_champion.times.min()
    assert of_candidate.times.max() <= start
    for name in ("times", "y", "weight", "raw"):
        mine, theirs = getattr(of_candidate, name), getattr(of_champion, name)
        assert np.array_equal(mine, theirs, equal_nan=True), name
    assert again.samples.unlabelled.times.max() <= start
    assert np.array_equal(again.samples.holdout.times, made.samples.holdout.times[::10])


def test_what_the_champion_learned_from_the_same_samples_is_not_fitted_again(small: Store) -> None:
    chosen = StoredChoice(1, "classification", 0.1, "")
    history = feature_history.load(small, CLASSIFIES, START, SECOND_DATE)
    made = training.prepare(CLASSIFIES, history, FIRST)
    champion = training.fit_alone(CLASSIFIES, made, chosen, FIRST)
    start = SECOND_DATE - CLASSIFIES.labels.maturity - CLASSIFIES.training.every
    later = training.prepare(CLASSIFIES, history, SECOND_DATE)
    past = training.prepare_again(CLASSIFIES, history, later, FIRST - CLASSIFIES.training.span, start)
    taken, fitted = (
        training.fit_alone(CLASSIFIES, past, chosen, SECOND_DATE, before) for before in (champion, None)
    )
    assert taken.detector.fitted().parts.boosting is champion.detector.fitted().parts.boosting
    assert taken.to_bytes() == fitted.to_bytes()
    at_once = training.fit_alone(CLASSIFIES, made, chosen, SECOND_DATE, champion)
    assert at_once.detector.fitted().parts is champion.detector.fitted().parts  # the outlier detectors, too
    relabelled = replace(past.samples.mature, y=np.roll(past.samples.mature.y, 60))
    changed = replace(past, samples=replace(past.samples, mature=relabelled))
    other_threads = configured({"strategy": {"method": "classification"}, "training": {"threads": 2}})
    for config, prepared in ((CLASSIFIES, changed), (other_threads, past)):
        again = training.fit_alone(config, prepared, chosen, SECOND_DATE, champion)
        assert again.detector.fitted().parts.boosting is not champion.detector.fitted().parts.boosting


def poison(store: Store, folder: Path) -> None:
    """A wrong file of audits, known just before the third training: old frauds are genuine, others fraud."""
    _, labels = by_night(DAYS)
    frauds = {int(row[1:7]) for row in labels}
    known = f"{np.datetime64(THIRD - 2 * HOUR, 'us').astype('datetime64[s]')}Z"
    wrong = [
        f"t{k:06d},{0 if k in frauds else 1},{known},audit"
        for k in range(27 * 150)
        if k in frauds or k % 29 == 0
    ]
    load(store, CLASSIFIES, "labels", write_csv(folder / "bad.csv", LABEL_HEADER, wrong), now=NOW)


@pytest.mark.one_engine
@pytest.mark.long
def test_a_poisoned_training_is_refused_however_the_past_is_lived_through(
    copier: Copier, url: str, tmp_path: Path
) -> None:
    config = with_url(
        configured({"strategy": {"method": "classification"}, "training": {"exclude_flagged": True}}), url
    )
    store = copier(BY_NIGHT, config)
    poison(store, tmp_path)
    scoring_queue.set_starts_at(store, "live", FIRST)
    for day in (1, 4, 8, 9, 15, 20):
        run(store, config, as_of=FIRST + day * DAY + 2 * HOUR, policy="live", by="tick")
    # the trainings between the first two are made up for
    for start, end, workers in ((0, 3, 1), (15, 20, 1), (3, 15, 2)):
        span = {"start": FIRST + start * DAY, "end": FIRST + end * DAY}
        backfill(store, config, **span, as_of=NOW, policy="pieces", by="test", workers=workers)
    verdicts = "SELECT training_date, verdict, rule, ap, cost_difference FROM promotion_checks WHERE policy = '{}' AND training_date < '2025-02-11' ORDER BY 1"
    live = query(store, verdicts.format("live"))
    assert [row[1] for row in live] == ["promoted", "promoted", "rejected"]
    assert query(store, verdicts.format("pieces")) == live
    assert query(store, SCORES.format("pieces")) == query(store, SCORES.format("live"))


# ── labels that only the champion's flags brought ──


def a_window_with_reviewers(
    seed: int,
) -> tuple[EvaluationWindow, Reviews, dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """
    Two kinds of fraud, of which the champion scores one highly and the challenger both, less sharply.

    The team answers 60 % of the champion's flags and errs in 40 % of them; what it calls fraud is never charged back.
    Returns also the scores of both, and the truth.
    """
    rng = np.random.default_rng(seed)
    n = 6000
    kind = np.where(rng.random(n) < 0.02, 1, np.where(rng.random(n) < 0.01, 2, 0))
    taste = rng.normal(size=n)  # of the champion, for genuine payments of a sort
    scores = {
        "champion": 3.0 * (kind == 1) + taste + rng.normal(size=n) * 0.3,
        "challenger": 2.8 * (kind > 0) + rng.normal(size=n),
    }
    flagged = scores["champion"] >= np.quantile(scores["champion"], 0.8)
    reviewed = flagged & (rng.random(n) < 0.6)
    accused = reviewed & ((kind > 0) ^ (rng.random(n) < 0.4))
    y = ((kind > 0) | accused).astype(np.float64)
    window = EvaluationWindow(START, START + 7 * DAY, np.arange(n), y, np.ones(n), n, float(y.sum()))
    return window, Reviews(reviewed, accused, np.zeros(n, dtype=bool)), scores, (kind > 0).astype(np.float64)


def gain(y: NDArray[np.float64], weight: NDArray[np.float64], scores: list[NDArray[np.float64]]) -> Estimate:
    """By how much the second scores have the higher average precision."""
    n = len(y)
    day = np.zeros(n, dtype=np.int64)
    rows = FoldRows(y, np.ones(n), np.arange(n), day, day, weight=weight)
    none, missing = np.zeros(n, dtype=bool), np.full(n, np.nan)
    champion, challenger = (
        evaluate_technique([rows], [FoldPredictions(score, none, none, none, none, missing)], 1.0)
        for score in scores
    )
    return difference(challenger, champion, "ap")


def test_a_challenger_that_finds_other_fraud_is_not_refused_for_the_champions_labels() -> None:
    window, reviews, scores, truth = a_window_with_reviewers(1)
    pair = [scores["champion"], scores["challenger"]]
    assert gain(truth, window.weight, pair).lower > 0  # the challenger is better
    assert gain(window.y, window.weight, pair).upper < 0  # but not by the labels as they stand
    seen, places = without_own_labels(window, reviews, scores["champion"])
    assert gain(seen.y, seen.weight, [score[places] for score in pair]).lower > 0
    assert seen.weight.sum() == pytest.approx(
        len(truth)
    )  # reviews are spread over strata that others stand for
    assert not reviews.reviewed[seen.rows].any()
    assert EFFECTIVE_MIN < seen.effective < window.effective


def test_where_everything_is_answered_an_accusation_counts_as_far_as_it_is_believed() -> None:
    window, reviews, scores, _ = a_window_with_reviewers(2)
    top = scores["champion"] >= np.quantile(scores["champion"], 0.95)
    everything = replace(reviews, reviewed=reviews.reviewed | top)
    seen, _ = without_own_labels(window, everything, scores["champion"])
    twice = seen.rows[np.flatnonzero(np.diff(seen.rows) == 0)]
    assert len(twice)
    assert reviews.accused[twice].all()
    weights = seen.weight[np.isin(seen.rows, twice)]
    assert weights[::2] + weights[1::2] == pytest.approx(
        np.ones(len(twice))
    )  # once as genuine, once as fraud


def test_a_training_with_reviewers_is_checked_on_what_nobody_chose(small: Store, tmp_path: Path) -> None:
    history = feature_history.load(small, CLASSIFIES, START, SECOND_DATE)
    window = history.transactions.between(FIRST - 12 * DAY, SECOND_DATE - 9 * DAY)
    night = history.transactions.event_time[window] // HOUR % 24 < 3
    some = history.transactions.transaction_id[window][night][::2]
    rows = [f"{one},{int(n % 2)},2025-01-29T00:00:00Z,review" for n, one in enumerate(some)]
    train(small, CLASSIFIES, SECOND_DATE)
    load(small, CLASSIFIES, "labels", write_csv(tmp_path / "verdicts.csv", LABEL_HEADER, rows), now=NOW)
    train(small, CLASSIFIES, THIRD)
    second, third = checked(small)[1:]
    assert third["verdict"] == "promoted"
    assert second["champion_id"] == 1
