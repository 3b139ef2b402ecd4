"""What a blend gives its classifiers, and how it says it."""

from dataclasses import replace

import numpy as np
import pytest

from detectors.bridge import GRID, PLACE, RELUCTANCE, UNTRIED, Weight, blended, learned_weight
from detectors.held_out import HeldOut


def fold(outlier, classifier, n=2000, entity=None, seed=0):
    """A fold whose frauds stand above all but these shares of genuine rows."""
    rng = np.random.default_rng(seed)
    frauds = len(outlier)
    usual = rng.exponential(size=(3, n))  # surprisals of ranks that are uniform
    of_frauds = -np.log(np.array([outlier, classifier, classifier]))
    said = np.concatenate([of_frauds, usual], axis=1)
    rows = frauds + n
    return HeldOut(
        y=np.arange(rows) < frauds,
        weight=np.ones(rows),
        amount=np.ones(rows),
        time=np.arange(rows),
        entity=np.arange(rows) if entity is None else np.append(entity, np.arange(n) + 10**6),
        outlier=said[0],
        boosting=said[1],
        forest=said[2],
        margin=said[1],
        known=3,
    )


WEIGHTS = [
    # where frauds stand to outlier detection, to classifiers → the classifiers' weight, least and most
    ([], [], UNTRIED, UNTRIED),  # nothing held out: as shipped
    ([0.001], [0.5], 0.0, UNTRIED),  # found by outlier detection alone
    ([0.001] * 30, [0.5] * 30, 0.0, UNTRIED),
    ([0.5] * 3, [0.001] * 3, 0.65, 1.0),  # three that only classifiers find
    ([0.5] * 40, [0.001] * 40, 0.65, 1.0),
    ([0.5], [0.0005], 0.5, 1.0),  # one is enough where the difference is great
    ([0.4], [0.35], UNTRIED, UNTRIED),  # and not where it is small
    ([0.001, 0.5] * 20, [0.5, 0.001] * 20, 0.2, 0.8),  # each finds what the other does not
]


@pytest.mark.parametrize(("outlier", "classifier", "least", "most"), WEIGHTS)
def test_held_out_frauds_weigh_the_classifiers(outlier, classifier, least, most):
    found = learned_weight([fold(outlier, classifier)] if outlier else [])
    assert least <= found.value <= most
    assert found.frauds == len(outlier)


def test_frauds_of_one_entity_in_a_fold_count_once():
    one_card = learned_weight([fold([0.5] * 20, [0.01] * 20, entity=np.full(20, 7))])
    assert one_card.frauds == 1
    assert learned_weight([fold([0.5] * 20, [0.01] * 20)]).frauds == 20
    again = fold([0.5], [0.01], entity=np.array([7]))
    assert learned_weight([again, again]).frauds == 2  # another fold is another occasion


def test_rows_count_by_their_weight():
    """A fraud under a tenth of the rows is found where those rows stand for nearly none."""
    rows = fold([0.5], [0.1])
    above = (rows.boosting + rows.forest > -2 * np.log(0.1)) & ~rows.y
    found = learned_weight([replace(rows, weight=np.where(above, 1e-9, 1.0))])
    assert found.gain == pytest.approx(1 - PLACE / (PLACE + 0.5), abs=0.03)
    assert found.gain > 1.5 * learned_weight([rows]).gain > 0


@pytest.mark.parametrize("seed", range(8))
def test_the_weight_is_that_at_which_frauds_stand_highest_less_what_it_costs_to_move(seed):
    rng = np.random.default_rng(seed)
    folds = []
    for _ in range(3):
        n = int(rng.integers(1, 4))
        one = fold(rng.uniform(0.01, 0.9, n), rng.uniform(0.01, 0.9, n), n=200, entity=rng.integers(0, 2, n))
        folds.append(replace(one, weight=rng.uniform(0.5, 3.0, len(one.y))))

    def found(weight):
        """Of each fraud by its definition, those of one entity and fold together."""
        total = 0.0
        for one in folds:
            score = blended(weight, one.outlier, one.boosting, one.forest)
            genuine = one.weight * ~one.y
            for row in np.flatnonzero(one.y):
                share = genuine[score >= score[row]].sum() / genuine.sum()
                total += PLACE / (PLACE + share) / (one.y & (one.entity == one.entity[row])).sum()
        return total

    worth = [found(weight) - RELUCTANCE * abs(weight - UNTRIED) for weight in GRID]
    learned = learned_weight(folds)
    assert learned.value == GRID[int(np.argmax(worth))]
    assert learned.gain == pytest.approx((found(learned.value) - found(0.0)) / learned.frauds)
    assert learned_weight([fold([], [])]) == Weight(UNTRIED, 0.0, 0.0)


def test_gain_is_what_the_blend_finds_more_than_outlier_detection_alone():
    found = learned_weight([fold([0.5] * 10, [1e-9] * 10)])
    assert found.gain == pytest.approx(1 - PLACE / (PLACE + 0.5), abs=0.05)
    assert learned_weight([fold([1e-9] * 10, [0.5] * 10)]).gain <= 0


def test_a_row_that_is_extreme_to_either_side_is_suspicious():
    outlier, classifier = np.array([9.0, 0.0, 4.0, 0.7]), np.array([0.0, 9.0, 4.0, 0.7])
    score = blended(0.5, outlier, classifier, classifier)
    assert score.tolist() == [4.5, 4.5, 4.0, 0.7]


@pytest.mark.parametrize("weight", GRID)
def test_a_blend_lies_between_its_sides(weight):
    rng = np.random.default_rng(1)
    sides = rng.exponential(size=(3, 500))
    score = blended(weight, *sides)
    assert (score >= sides.min(axis=0) - 1e-12).all()
    assert (score <= sides.max(axis=0) + 1e-12).all()
