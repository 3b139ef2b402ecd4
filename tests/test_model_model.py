"""A model: the thresholds of its channels, and what its scores mean."""

from dataclasses import replace

import numpy as np
import pytest

from detectors.inputs.sample import Layout, Sample
from detectors.model.auto_detector import NOVELTY
from detectors.model.model import VOLUME_SHARE, Model, ModelSettings, fit_model, with_new_thresholds

DAYS = 7.0
STRATEGIES = ("outlier", "blend", "classification")
DAY = 86_400_000_000


def rows(n, seed, frauds=0.02, strange=0.0):
    """Fraud is high in the second column; strange rows, genuine ones, are far out in the first; one entity in ten."""
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((n, 3))
    y = (rng.random(n) < frauds).astype(float)
    raw[y == 1, 1] += 3.0
    raw[rng.random(n) < strange, 0] += 8.0
    time = np.sort(rng.integers(0, int(DAYS) * DAY, n))
    return Sample(raw, y, np.ones(n), np.full(n, 20.0), time, entity=rng.integers(0, n // 10, n))


def fitted(strategy, recent, **settings):
    past = rows(4000, 1)
    return fit_model(
        ModelSettings(strategy, **settings), Layout.plain(3), past, past.take(past.y == 0), recent, DAYS, {}, ("a", "b", "c")
    )  # fmt: skip


@pytest.fixture(scope="module")
def models():
    """One model for each strategy, with thresholds set on 3,000 rows of a week."""
    return {strategy: fitted(strategy, rows(3000, 2)) for strategy in STRATEGIES}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_score_is_the_share_of_reference_rows_that_do_not_rank_higher(models, strategy):
    reference, model = rows(3000, 2), models[strategy]
    scores = model.score(reference.raw, reference.amount)
    usual = scores.channel != NOVELTY
    higher = np.array([(scores.score > score).mean() for score in scores.score[usual]])
    np.testing.assert_allclose(scores.score[usual], 1 - higher, atol=0.02)
    assert 0 < scores.score.min() < 0.01
    assert 0.999 < scores.score.max() < 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_score_rises_strictly_with_what_the_model_believes_also_beyond_the_reference(models, strategy):
    model, raw = models[strategy], rows(2000, 3).raw * 3.0
    ranks = model.detector.rank(raw)
    score = model.detector.score(ranks)
    order = np.argsort(ranks.suspicion)
    rising = np.diff(ranks.suspicion[order]) > 0
    assert (np.diff(score[order])[rising] > 0).all()
    assert model.detector.anomaly_score(raw).tolist() == score.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_flagged_ranks_among_the_first_of_the_reference_weeks(models, strategy):
    later = rows(3000, 4, strange=0.002)
    scores = models[strategy].score(later.raw, later.amount)
    novel = scores.flagged & (scores.channel == NOVELTY)
    assert scores.score[scores.flagged].min() > 0.8
    if strategy != "outlier":
        main = scores.flagged & ~novel
        assert novel.any()
        assert scores.score[novel].max() < scores.score[main].min()
        assert scores.score[novel].min() > np.quantile(scores.score[~scores.flagged], 0.9)
        after_main = (1 - models[strategy].main_share) * scores.outlier_score[novel]
        own = models[strategy].detector.anomaly_score(later.raw[novel])
        assert scores.score[novel].tolist() == np.maximum(own, after_main).tolist()


@pytest.mark.parametrize("strategy", ["blend", "classification"])
@pytest.mark.parametrize("per_day", [20, 500])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_novelty_is_its_share_of_the_flags_raised_not_of_the_budget(models, strategy, per_day, share):
    holdout = rows(3000, 2, frauds=0.005, strange=0.02)  # 60 strange rows, which would fill a budget
    settings = replace(models[strategy].settings, per_day=per_day, outlier_share=share)
    scores = with_new_thresholds(models[strategy], settings, holdout, DAYS).score(holdout.raw, holdout.amount)
    novel = scores.channel[scores.flagged] == NOVELTY
    assert share / 3 < novel.mean() <= share
    if per_day == 500:
        assert novel.sum() < per_day * share * DAYS / 2


def test_novelty_keeps_to_its_share_in_either_half_of_the_holdout(models):
    model, holdout = models["classification"], rows(3000, 2, strange=0.02)
    later = holdout.times > np.quantile(holdout.times, 0.8)
    more = holdout.raw[:, 0] + np.where(later & (holdout.raw[:, 0] > 5), 20.0, 0.0)  # a wave at the end
    wave = replace(holdout, raw=np.column_stack([more, holdout.raw[:, 1:]]))
    counts = {}
    for name, sample in (("wave", wave), ("whole", replace(wave, time=None, entity=None))):
        shuffled = sample.take(np.random.default_rng(1).permutation(3000)) if name == "whole" else sample
        again = with_new_thresholds(model, model.settings, shuffled, DAYS)
        scores = again.score(wave.raw, wave.amount)
        novel = scores.flagged & (scores.channel == NOVELTY)
        counts[name] = int(novel.sum())
        main = int((scores.flagged & ~novel).sum())
        if name == "wave":
            assert novel[later].sum() <= main / 9 / 2
    assert 0 < counts["wave"] < counts["whole"]


def test_novelty_has_no_flag_where_nothing_is_rare_and_the_whole_share_where_it_is_all(models):
    model, calm = models["classification"], rows(3000, 6)
    strange = with_new_thresholds(model, model.settings, rows(3000, 2, strange=0.02), DAYS)
    assert not (strange.score(calm.raw, calm.amount).channel == NOVELTY).any()
    alone = with_new_thresholds(model, replace(model.settings, outlier_share=1.0), calm, DAYS)
    scores = alone.score(calm.raw, calm.amount)
    assert set(scores.channel[scores.flagged]) == {NOVELTY}
    assert 0.04 < scores.flagged.mean() <= VOLUME_SHARE


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_of_few_payments_a_day_few_are_flagged_unless_they_are_worth_a_review(strategy):
    holdout = rows(280, 2, frauds=0.0, strange=0.2)  # 40 a day, below alerts.per_day
    model = fitted(strategy, holdout, per_day=50, outlier_share=0.5)
    scores = model.score(holdout.raw, holdout.amount)
    unsure = scores.flagged & ~(scores.fraud_probability >= model.settings.costs.threshold)
    assert unsure.mean() <= VOLUME_SHARE
    assert (scores.channel[unsure] == ("outlier" if strategy == "outlier" else NOVELTY)).all()
    if strategy == "outlier":
        assert scores.flagged.sum() == 14


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_expected_loss_has_the_probability_or_where_there_is_none_an_upper_guess(models, strategy):
    later, model = rows(500, 8), replace(models[strategy], prevalence=0.02)
    scores = model.score(later.raw, later.amount)
    if strategy == "outlier":
        assert np.isnan(scores.fraud_probability).all()
        assert scores.loss_probability == pytest.approx(np.minimum(1.0, 0.02 / (1.0 - scores.score)))
        assert np.isnan(models[strategy].score(later.raw, later.amount).loss_probability).all()
    else:
        assert scores.loss_probability.tolist() == scores.fraud_probability.tolist()


def test_a_stored_model_scores_the_same_and_refers_to_training_rows_without_a_holdout(models):
    later = rows(200, 5)
    for model in (
        replace(models["outlier"], prevalence=0.02),
        *models.values(),
        fitted("outlier", rows(3000, 2).take(slice(0, 0))),
    ):
        again = Model.from_bytes(replace(model).to_bytes()).score(later.raw, later.amount)
        assert again.score.tobytes() == model.score(later.raw, later.amount).score.tobytes()
