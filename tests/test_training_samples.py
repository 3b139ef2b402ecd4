"""Validation folds by the calendar are the same at every date of training, and know no more than was known at their own."""

from dataclasses import replace

import numpy as np
import pytest

from detectors.strategy import validation_folds
from pipeline.features import history as feature_history
from pipeline.features.history import History, feature_catalogue
from pipeline.training import samples
from pipeline.training.strategy_choice import evaluate, validation_folds_of
from pipeline.training.training_set import training_set_at
from storage.frames import DAY
from tests.support.databases import Copier
from tests.support.payments import START
from tests.test_training_promotion_gate import BY_NIGHT, CLASSIFIES, SECOND_DATE, THIRD

pytestmark = pytest.mark.one_engine
SPAN = 5 * DAY
FEATURES = feature_catalogue(CLASSIFIES)


@pytest.fixture(autouse=True)
def short_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds of five days, for which the few frauds of the small payments suffice."""
    monkeypatch.setattr(samples, "FOLD_SPAN", SPAN)
    monkeypatch.setattr(samples, "FOLD_FRAUDS", 10)
    monkeypatch.setattr(validation_folds, "_scores_by_rows", {})


@pytest.fixture
def history(sqlite_copier: Copier) -> History:
    return feature_history.load(sqlite_copier(BY_NIGHT), CLASSIFIES, START, THIRD)


def test_a_fold_is_whole_and_learns_only_from_what_was_known_at_its_date(history: History) -> None:
    at = training_set_at(CLASSIFIES, history, THIRD)
    folds = samples.of_calendar_folds(CLASSIFIES, history, at, FEATURES)
    assert len(folds) == 3
    starts = [int(fold.validation.times[0]) // SPAN * SPAN for fold in folds]
    assert np.diff(starts).tolist() == [SPAN, SPAN]
    maturity = CLASSIFIES.labels.maturity
    assert THIRD - maturity - SPAN < starts[-1] + SPAN <= THIRD - maturity
    for fold, start in zip(folds, starts, strict=True):
        times = history.transactions.event_time[at.mature]
        assert len(fold.validation) == np.count_nonzero((times >= start) & (times < start + SPAN))
        assert fold.past.learnable_at.max() <= start
        assert fold.past.times.min() >= start - 2 * SPAN - maturity


def test_trainings_share_folds_to_the_byte_and_fit_them_once(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, fit = [], validation_folds.Components.fit

    def counted(*arguments: object) -> object:
        fits.append(1)
        return fit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(validation_folds.Components, "fit", counted)
    earlier, later = (
        validation_folds_of(CLASSIFIES, history, training_set_at(CLASSIFIES, history, date))
        for date in (SECOND_DATE, THIRD)
    )
    shared = {fold.time.tobytes() for fold in earlier} & {fold.time.tobytes() for fold in later}
    assert len(shared) in (1, 2)  # a week is more than one fold, and less than two
    assert len(fits) == len(earlier) + len(later) - len(shared)
    alone = evaluate(CLASSIFIES, history, THIRD)
    validation_folds._scores_by_rows.clear()  # as in a process that begins with this date
    assert repr(evaluate(CLASSIFIES, history, THIRD)) == repr(alone)
    for one, other in zip(earlier[-len(shared) :], later, strict=False):
        assert one.margin.tobytes() == other.margin.tobytes()


def test_a_label_that_came_since_makes_another_fold(history: History) -> None:
    at = training_set_at(CLASSIFIES, history, THIRD)
    folds = samples.of_calendar_folds(CLASSIFIES, history, at, FEATURES)
    found = validation_folds.fit_folds(folds, FEATURES.layout, validation_folds.FitSettings())
    inside = np.flatnonzero(np.isin(history.transactions.event_time[at.mature], folds[-1].validation.times))
    turned = at.y.copy()
    turned[inside[turned[inside] == 0][:3]] = 1
    changed = samples.of_calendar_folds(CLASSIFIES, history, replace(at, y=turned), FEATURES)
    again = validation_folds.fit_folds(changed, FEATURES.layout, validation_folds.FitSettings())
    assert [len(fold.y) for fold in again] == [len(fold.y) for fold in found]
    assert again[0].margin is found[0].margin
    assert again[-1].y.sum() == found[-1].y.sum() + 3


@pytest.mark.parametrize(("setting", "value"), [("FOLD_FRAUDS", 40), ("FOLD_SPAN", 20 * DAY)])
def test_with_few_frauds_or_a_short_past_folds_are_cut_by_frauds(
    history: History, monkeypatch: pytest.MonkeyPatch, setting: str, value: int
) -> None:
    monkeypatch.setattr(samples, setting, value)
    at = training_set_at(CLASSIFIES, history, THIRD)
    assert samples.of_calendar_folds(CLASSIFIES, history, at, FEATURES) == []
    assert len(validation_folds_of(CLASSIFIES, history, at)) == validation_folds.FOLDS
