"""What every technique of a comparison promises, one test a promise."""

from functools import cache

import numpy as np
import pytest

from detectors.base import DetectorError
from detectors.evaluation.metrics import auc_roc
from detectors.imbalance.techniques import TECHNIQUES, ScoringRows, Training
from detectors.inputs.sample import Layout, Sample

every_technique = pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda one: one.name)


def rows(n, seed, frauds=0.05):
    """Unusual in two columns where fraud; a column of levels, a constant, a missing value here and there."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < frauds).astype(float)
    raw = np.column_stack([rng.standard_normal((n, 4)), rng.integers(0, 3, n), np.full(n, 2.0)])
    raw[y == 1] += [3.0, 0, -3.0, 0, 0, 0]
    raw[::17, 1] = np.nan
    return Sample(raw, y, np.ones(n), np.ones(n))


def training(sample):
    usual = sample.take(sample.y == 0)
    return Training(sample, usual, Layout.plain(6, (0, 1, 2)))


@cache
def fitted(technique):
    known = training(rows(1500, 1))
    return technique.fit(known), known


def margins(technique, raw):
    made, known = fitted(technique)
    return made.margin(ScoringRows(raw, known.encoder.transform(raw)))


@every_technique
def test_frauds_rank_above_genuine_rows_of_later_days(technique):
    later = rows(800, 2)
    assert auc_roc(later.y, margins(technique, later.raw)) > 0.9


@every_technique
def test_a_row_scores_alike_in_any_batch(technique):
    later = rows(300, 3)
    whole = margins(technique, later.raw)
    assert np.isfinite(whole).all()
    assert margins(technique, later.raw[17:18]).tobytes() == whole[17:18].tobytes()
    backwards = np.ascontiguousarray(later.raw[::-1])
    assert margins(technique, backwards)[::-1].tobytes() == whole.tobytes()


@every_technique
def test_training_rows_are_left_as_they_were_and_the_same_seed_scores_alike(technique):
    sample = rows(600, 4)
    before = sample.raw.tobytes()
    later = rows(100, 5).raw
    scores = []
    for _ in range(2):
        known = training(sample)
        scores.append(technique.fit(known).margin(ScoringRows(later, known.encoder.transform(later))))
    assert sample.raw.tobytes() == before
    assert scores[0].tobytes() == scores[1].tobytes()


@every_technique
def test_what_is_said_is_a_probability_and_what_balancing_did_to_it_is_undone(technique):
    made, known = fitted(technique)
    if made.raw_probability is None:
        pytest.skip("says no probability")
    later = rows(4000, 6)
    asked = ScoringRows(later.raw, known.encoder.transform(later.raw))
    said = made.raw_probability(asked)
    assert said.min() >= 0
    assert said.max() <= 1
    corrected = 1 / (1 + np.exp(-made.margin(asked)))
    assert abs(corrected.mean() - later.y.mean()) < 0.04
    if "50/50" in technique.name:
        assert said.mean() > corrected.mean()


@every_technique
def test_one_class_is_refused_or_survived(technique):
    sample = rows(600, 7, frauds=0.0)
    known = training(sample)
    try:
        margin = technique.fit(known).margin(ScoringRows(sample.raw, known.encoder.transform(sample.raw)))
    except DetectorError as error:
        assert "fraud" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(margin).all()
        assert technique.family in {"outlier", "auto"}


def test_names_are_distinct():
    assert len({one.name for one in TECHNIQUES}) == len(TECHNIQUES)
