"""Folds that know what was known at their date, and what they tell of strategies."""

import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from detectors.evaluation.metrics import average_precision
from detectors.evaluation.thresholds import Costs
from detectors.inputs.sample import Layout, Sample
from detectors.strategy import validation_folds as folds_of
from detectors.strategy.evidence import ReviewBudget, gather_evidence
from detectors.strategy.outlier_team import FitSettings
from detectors.strategy.validation_folds import fit_validation_folds, fold_spans, subsample_genuine

DELAY = 300
HOW = FitSettings()
REVIEW = ReviewBudget(Costs(100.0, 3.0, "constant"), 0.02)


def sample(frauds=40, n=6000, hides=False, seed=1, delay=DELAY):
    """Frauds stand out of five columns, or hide in the sixth, which no outlier detector looks at."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 6))
    y = np.zeros(n)
    y[rng.choice(n, frauds, replace=False)] = 1
    if hides:
        X[y == 1, 5] = 3.5
        X[y == 1, :5] *= 0.3
    else:
        X[y == 1, :2] += 4
    time = np.arange(n, dtype=np.int64)
    return Sample(X, y, np.ones(n), np.full(n, 50.0), time, time + delay, np.arange(n))


LAYOUT = Layout.plain(6, outlier_columns=range(5))


def test_folds_follow_one_another_and_hold_about_equally_many_frauds():
    mature = sample(40)
    found = fold_spans(mature)
    assert len(found) == 4
    assert all(one[1] == other[0] for one, other in itertools.pairwise(found))
    assert found[-1][1] == len(mature)
    held = [int(mature.y[start:end].sum()) for start, end in found]
    assert sum(held) == 32  # the first eight are only learned from
    assert max(held) - min(held) <= 1


@pytest.mark.parametrize("frauds", [2, 3, 4, 5, 7])
def test_few_frauds_make_few_folds(frauds):
    assert len(fold_spans(sample(frauds))) == min(4, frauds - 1)


def test_a_fold_learns_only_from_what_was_known_at_its_date(monkeypatch):
    mature, seen = sample(40), []
    fit = folds_of.Components.fit

    def recorded(layout, past, usual, settings, strategy):
        seen.append((past, usual))
        return fit(layout, past, usual, settings, strategy)

    monkeypatch.setattr(folds_of.Components, "fit", recorded)
    held = fit_validation_folds(mature, LAYOUT, HOW)
    assert len(held) == len(seen) == 4
    for (past, usual), asked in zip(seen, held, strict=True):
        start = asked.time[0]
        assert past.learnable_at.max() <= start
        assert past.times.max() < start - DELAY + 1
        assert not usual.y.any()
        assert asked.n_training_frauds == past.y.sum()


def test_what_happens_later_changes_no_fold_before():
    mature = sample(40)
    held = fit_validation_folds(mature, LAYOUT, HOW)
    end = int(held[1].time[-1]) + 1
    rng = np.random.default_rng(9)
    raw = mature.raw.copy()
    raw[end:] = rng.standard_normal(raw[end:].shape) * 5
    again = fit_validation_folds(replace(mature, raw=raw), LAYOUT, HOW)
    for one, other in zip(held[:2], again[:2], strict=True):
        for name in ("outlier", "boosting", "forest", "margin"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


@pytest.mark.parametrize(
    "mature",
    [
        sample(0),
        sample(1),  # nothing to learn from, or nothing to ask about
        sample(40, delay=10**6),  # nothing was known in time
        sample(20, n=150),  # too few genuine rows to say what is usual
    ],
)
def test_where_nothing_can_be_held_out_there_is_no_evidence(mature):
    assert fit_validation_folds(mature, LAYOUT, HOW) == ()
    assert gather_evidence((), REVIEW) is None


def test_thinned_rows_stand_for_all_of_them():
    mature = replace(sample(40), weight=np.where(np.arange(6000) % 2, 1.0, 3.0))
    fewer = subsample_genuine(mature, 500, seed=7)
    assert (fewer.y == 1).sum() == 40
    assert 480 <= (fewer.y == 0).sum() <= 520
    assert fewer.weight.sum() == pytest.approx(mature.weight.sum())
    assert (np.diff(fewer.times) > 0).all()
    assert subsample_genuine(mature, 10**6, seed=7) is mature


def test_many_frauds_are_thinned_too_and_stand_for_all_of_them(monkeypatch):
    mature = sample(400)
    whole = fit_validation_folds(mature, LAYOUT, HOW)
    monkeypatch.setattr(folds_of, "FRAUDS", 30)
    fewer = fit_validation_folds(mature, LAYOUT, HOW)
    for one, other in zip(whole, fewer, strict=True):
        assert (one.y == 1).sum() == pytest.approx(80, abs=1)
        assert (other.y == 1).sum() == pytest.approx(30, abs=1)
        assert other.n_training_frauds <= 31 < one.n_training_frauds
        assert other.weight @ other.y == pytest.approx(one.weight @ one.y)
        assert (other.y == 0).sum() == (one.y == 0).sum()


def test_evidence_prefers_who_finds_the_frauds():
    hidden = gather_evidence(fit_validation_folds(sample(80, hides=True), LAYOUT, HOW), REVIEW)
    assert hidden.positives == 64
    assert hidden.gain > 0.5
    ap = [one for one in hidden.comparisons if one.metric == "average precision"]
    won = {(one.strategy, one.against) for one in ap if one.lower > 0}
    assert ("classification", "outlier") in won
    assert ("outlier", "classification") not in won
    assert hidden.values["classification.average precision"] > hidden.values["outlier.average precision"]
    assert hidden.values["classification.cost"] < hidden.values["outlier.cost"]
    assert json.dumps(asdict(hidden), allow_nan=False)


def test_opposite_comparisons_mirror_each_other():
    found = gather_evidence(fit_validation_folds(sample(60), LAYOUT, HOW), REVIEW).comparisons
    by = {(one.strategy, one.against, one.metric): one for one in found}
    assert len(by) == 12
    for (one, other, metric), interval in by.items():
        mirrored = by[other, one, metric]
        assert interval.lower == pytest.approx(-mirrored.upper)


def test_twenty_frauds_behind_the_first_fold_are_just_enough_to_compare_by():
    counted = {}
    for frauds in range(31, 36):
        folds = fit_validation_folds(sample(frauds), LAYOUT, HOW)
        behind = sum(int(fold.y.sum()) for fold in folds[1:])
        counted[behind] = bool(gather_evidence(folds, REVIEW).comparisons)
    assert {19, 20} <= counted.keys()
    assert counted == {behind: behind >= 20 for behind in counted}


def test_a_difference_is_paired_and_counts_whole_entities():
    """All frauds on one card say less than as many on different ones, and equal candidates do not differ at all."""
    folds = fit_validation_folds(sample(80), LAYOUT, HOW)
    same = [replace(fold, margin=fold.outlier) for fold in folds]
    for one in gather_evidence(same, REVIEW).comparisons:
        if {one.strategy, one.against} == {"classification", "outlier"}:
            assert (one.lower, one.upper) == (0.0, 0.0)
    few = [replace(fold, entity=np.where(fold.y == 1, fold.entity % 9, fold.entity)) for fold in folds]

    def width(of):
        found = gather_evidence(of, REVIEW).comparisons
        [one] = [
            c
            for c in found
            if (c.strategy, c.against, c.metric) == ("classification", "outlier", "average precision")
        ]
        return one.upper - one.lower

    assert width(few) > 1.2 * width(folds)


def test_few_held_out_frauds_weigh_a_blend_and_compare_nothing():
    found = gather_evidence(fit_validation_folds(sample(10), LAYOUT, HOW), REVIEW)
    assert 0 < found.positives < 20
    assert found.comparisons == ()
    assert found.values == {}


def test_metrics_are_those_of_all_rows_behind_the_first_fold():
    folds = fit_validation_folds(sample(60), LAYOUT, HOW)
    told = gather_evidence(folds, REVIEW)
    ap = np.mean([average_precision(fold.y, fold.outlier, fold.weight) for fold in folds[1:]])
    assert told.values["outlier.average precision"] == pytest.approx(ap, abs=1e-6)
    cost = 0.0
    for fold in folds[1:]:
        flagged = np.argsort(-fold.outlier, kind="stable")[: int(0.02 * len(fold.y))]
        caught = fold.y[flagged].sum()
        cost += 300 * (fold.y.sum() - caught) + 3 * (len(flagged) - caught)
    assert told.values["outlier.cost"] == pytest.approx(cost, rel=1e-5)
