"""
What a choice may know, whatever the labels: nothing of later.

Histories are small and nasty: few entities, labels that come early, late, before their transaction, from any source, or
change their mind; bounds so low that every strategy is chosen.
"""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.errors import NotReady
from pipeline.features.history import History
from pipeline.features.label_history import label_events
from pipeline.training import prevalence, strategy_choice, training_set
from storage.database.setup import upgrade
from storage.frames import DAY, HOUR, MONEY, NEVER, Coded, Completeness, Labels, Transactions

N = 30
DAYS = 40
DATE = 30 * DAY
SOURCES = ("chargeback", "audit", "hearsay", "review")
ANY_SOURCE = tuple(range(len(SOURCES)))
ENTITIES = {"customer": 4, "terminal": 3}
CONFIG = Config.model_validate(
    {
        "schema": {"entities": list(ENTITIES), "categorical": [], "kind": "", "original_id": ""},
        "labels": {"maturity": "5d"},
        "features": {"windows": ["1d", "7d"]},
        "training": {"min_rows": 10},
        "strategy": {"min_positives_blend": 1, "min_positives_classifier": 2},
    }
)
EXAMPLES = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An empty database: without earlier choices a choice rests on the history alone."""
    url = f"sqlite:///{tmp_path_factory.mktemp('choice') / 'fraudwatch.db'}"
    own = CONFIG.model_copy(update={"storage": type(CONFIG.storage).model_validate({"url": url})}, deep=True)
    with open_configured(own) as opened:
        upgrade(opened, "choice", 1, CONFIG.labels.precedence)
        yield opened


# ── histories ──


def ids(places):
    return np.array([f"t{place:02}" for place in places], dtype=object)


@st.composite
def labels(draw, first_id=0, available=(0, DAYS), sources=ANY_SOURCE):
    """Up to 20 label rows that become available on days from `available`, some of no stored transaction."""
    m = draw(st.integers(0, 20))
    days = np.array(draw(st.lists(st.integers(*available), min_size=m, max_size=m)), dtype=np.int64) * DAY
    # Either the world or the monitor learns of it first; both have to.
    earlier = np.array(
        draw(st.lists(st.sampled_from((0, 0, HOUR, 9 * DAY)), min_size=m, max_size=m)), dtype=np.int64
    )
    world_first = np.array(draw(st.lists(st.booleans(), min_size=m, max_size=m)), dtype=bool)
    return Labels.from_answers(
        label_id=np.arange(first_id, first_id + m),
        transaction_id=ids(draw(st.lists(st.integers(0, N), min_size=m, max_size=m))),
        is_fraud=np.array(draw(st.lists(st.booleans(), min_size=m, max_size=m)), dtype=bool),
        source=Coded(
            np.array(draw(st.lists(st.sampled_from(sources), min_size=m, max_size=m)), dtype=np.int32),
            np.array(SOURCES, dtype=object),
        ),
        known_at=np.where(world_first, days - earlier, days),
        recorded_at=np.where(world_first, days, days - earlier),
    )


@st.composite
def histories(draw):
    """Payments of 40 days with labels of every kind, and how far labels are complete."""
    days = sorted(draw(st.lists(st.integers(0, DAYS - 1), min_size=N, max_size=N)))
    time = np.array(days, dtype=np.int64) * DAY
    columns = {
        name: Coded(
            np.array(draw(st.lists(st.integers(-1, size - 1), min_size=N, max_size=N)), dtype=np.int32),
            ids(range(size)),
        )
        for name, size in ENTITIES.items()
    }
    late = draw(st.lists(st.sampled_from((0, 0, 0, 3 * DAY)), min_size=N, max_size=N))
    amount = np.array(draw(st.lists(st.integers(1, 10**6), min_size=N, max_size=N)), dtype=np.int64)
    silent = np.array(draw(st.lists(st.booleans(), min_size=N, max_size=N))) | (amount % 2 > 0)
    rows = Transactions(ids(range(N)), time, time + np.array(late), amount * (MONEY // 100), columns)
    through = draw(st.sampled_from((NEVER, 12 * DAY, DAYS * DAY)))
    batch = np.array([draw(st.integers(0, DATE // DAY))], dtype=np.int64) * DAY
    return history_of(rows, draw(labels()), Completeness(through, batch, batch), silent)


def history_of(rows, known, completeness, silence_ok):
    precedence = CONFIG.labels.precedence
    events = label_events(rows, known, precedence)
    return History(rows, known, events, completeness, silence_ok, precedence)


def joined(one, other):
    return Labels.from_answers(
        np.append(one.label_id, other.label_id + 1000),
        np.append(one.transaction_id, other.transaction_id),
        np.append(one.is_fraud, other.is_fraud),
        Coded(np.append(one.source.codes, other.source.codes), one.source.values),
        np.append(one.known_at, other.known_at),
        np.append(one.recorded_at, other.recorded_at),
    )


def relabelled(history, known, completeness=None):
    return history_of(history.transactions, known, completeness or history.completeness, history.silence_ok)


# ── the properties ──


def chosen(store, history):
    """Everything a choice says; or that too little is known."""
    try:
        return asdict(strategy_choice.preview(store, CONFIG, history, "live", DATE))
    except NotReady as refused:
        return str(refused)


@EXAMPLES
@given(history=histories(), later=labels(available=(DATE // DAY + 1, DAYS)), batch=st.integers(1, 10))
def test_a_choice_knows_no_label_that_became_available_after_its_date(store, history, later, batch):
    then = history.labels.take(history.labels.available_at <= DATE)
    seen = history.completeness
    more = Completeness(
        seen.history_through,
        np.append(seen.visible_at, DATE + batch * HOUR),
        np.append(seen.through, max(int(seen.through[0]), DATE)),
    )
    expected = chosen(store, history)
    assert chosen(store, relabelled(history, then)) == expected  # none of them
    assert (
        chosen(store, relabelled(history, joined(then, later), more)) == expected
    )  # others, and their batch


@EXAMPLES
@given(history=histories())
def test_few_verdicts_count_at_their_word_in_how_rare_fraud_is(history):
    try:
        at = training_set.training_set_at(CONFIG, history, DATE)
    except NotReady:
        return
    measured = prevalence.prevalence_of(CONFIG, history, at)
    assert (measured.mature, measured.positives) == (len(at.mature), at.y.sum())
    assert measured.prevalence == (at.y.mean() if len(at.mature) else None)
    assert measured.reviews is None
