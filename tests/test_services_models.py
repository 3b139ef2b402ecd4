"""Model operations by hand: card, promotion, rollback; and a model that was tampered with does not load."""

import hashlib
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from detectors.model.artifact import libraries
from pipeline.config.config import MODEL_KEY
from pipeline.errors import ConfigError, InputError
from pipeline.runs.scoring_run import run
from pipeline.scoring.model_cache import ModelCache
from pipeline.services.models import models as modelling
from pipeline.services.models.models import PromotionRequest, PromotionResult
from pipeline.services.session import Session
from storage.database import tables
from storage.database.column_types import as_datetime
from storage.errors import Unknown
from storage.frames import DAY, HOUR
from storage.models import models
from storage.runs import scoring_queue
from tests.support.databases import World, with_url
from tests.support.payments import START
from tests.support.sql import execute, query
from tests.support.worlds import LOADED, SMALL

FIRST, SECOND = START + 19 * DAY, START + 26 * DAY  # Mondays: training dates
NOW = SECOND + 2 * DAY + HOUR


ELSEWHERE = with_url(SMALL, "sqlite:///elsewhere")


def train_twice(store, _folder):
    scoring_queue.set_starts_at(store, "live", FIRST)
    run(store, ELSEWHERE, as_of=NOW, policy="live", by="test")


TWO_MODELS = World("two_models", SMALL, train_twice, base=LOADED)


@pytest.fixture
def trained(copier):
    """Two models, each scoring since its Monday."""
    return copier(TWO_MODELS), ELSEWHERE


def session(store, config):
    return Session(store, config, "ann", clock=lambda: NOW)


def card(store, config, model_id):
    return modelling.model_card(session(store, config), "live", model_id)


def test_the_card_tells_where_a_model_comes_from_and_that_it_loads(trained):
    store, config = trained
    first = card(store, config, 1)
    assert (first.strategy, first.trained_at) == ("outlier", datetime(2025, 1, 20, tzinfo=UTC))
    assert "Fraud rate" in first.sentence
    assert first.versions == libraries()
    assert (first.loads, first.load_error, first.changed_libraries) == (True, None, ())
    assert [each.effective_from for each in first.promotions] == [datetime(2025, 1, 20, tzinfo=UTC)]
    execute(store, """UPDATE models SET versions = '{"lightgbm": "3.0.0"}'""")
    changed = {each.name: each.trained_with for each in card(store, config, 1).changed_libraries}
    assert changed == dict.fromkeys(libraries()) | {"lightgbm": "3.0.0"}
    with pytest.raises(Unknown, match="there is no model 99"):
        card(store, config, 99)


def test_a_rollback_is_one_more_promotion_and_holds_until_the_next_training(trained):
    store, config = trained
    before = query(store, "SELECT transaction_id, model_id, score FROM scores ORDER BY 1")
    result = modelling.rollback(session(store, config), "live", "too many flags")
    assert result == PromotionResult("live", 1, datetime(2025, 1, 29, 1, tzinfo=UTC), 3)
    assert ModelCache(store, config, "live").in_force_until(NOW) == [1, 2, 1]
    run(store, config, as_of=NOW + 8 * DAY, policy="live", by="test")
    used = query(
        store,
        "SELECT s.model_id, MIN(t.event_time) FROM scores s JOIN transactions t USING (transaction_id) GROUP BY 1",
    )
    assert [row[0] for row in sorted(used)] == [1, 2, 3]
    after = query(store, "SELECT transaction_id, model_id, score FROM scores ORDER BY 1")
    assert set(before) <= set(after)
    of_wednesday = "SELECT DISTINCT model_id FROM scores JOIN transactions USING (transaction_id) WHERE event_time >= '2025-01-30' AND event_time < '2025-02-03'"
    assert query(store, of_wednesday) == [(1,)]
    assert query(store, "SELECT actor, action, subject FROM audit") == [("ann", "promote", "model 1")]


def test_a_model_may_be_promoted_ahead_of_time_never_into_the_past(trained):
    store, config = trained
    with pytest.raises(InputError, match="takes effect now or later") as caught:
        modelling.promote(
            session(store, config), PromotionRequest("live", 1, "why not", as_datetime(NOW - 1))
        )
    assert caught.value.code == "past_promotion"
    modelling.promote(
        session(store, config), PromotionRequest("live", 1, "month end", as_datetime(NOW + DAY))
    )
    model_cache = ModelCache(store, config, "live")
    assert (model_cache.in_force_until(NOW)[-1], model_cache.in_force_until(NOW + DAY)[-1]) == (2, 1)
    newest = modelling.list_models(session(store, config), "live", limit=1).items[0]
    assert (newest.model_id, newest.promotion, newest.reason) == (1, 3, "month end")
    assert newest.effective_from == as_datetime(NOW + DAY)


def test_there_may_be_nothing_to_roll_back_to(loaded):
    with pytest.raises(InputError, match="no model is in force"):
        modelling.rollback(session(loaded, ELSEWHERE), "live", "x")


def test_a_model_that_was_changed_in_the_database_is_never_promoted(trained):
    store, config = trained
    changed = bytearray(models.load_artifact(store, 1))
    changed[500] ^= 1
    with store.write() as connection:
        forged = {"artifact": bytes(changed), "sha256": hashlib.sha256(changed).hexdigest()}
        connection.execute(update(tables.models).where(tables.models.c.model_id == 1).values(forged))
    assert not card(store, config, 1).loads
    assert card(store, config, 1).load_error.startswith("the model's bytes do not match its hash")
    with pytest.raises(Exception, match="do not match its hash"):
        modelling.rollback(session(store, config), "live", "x")


def test_models_of_another_key_are_refused_and_a_run_asks_for_the_key_first(trained):
    store, _ = trained
    other = with_url(SMALL, "sqlite:///elsewhere")
    other._secrets[MODEL_KEY] = SecretStr("another key, long enough")
    assert "another FRAUDWATCH_MODEL_KEY" in card(store, other, 1).load_error
    keyless = with_url(SMALL, "postgresql://u@h/d")
    keyless._secrets.clear()
    runs = query(store, "SELECT COUNT(*) FROM runs")
    with pytest.raises(ConfigError, match="sealed with a key"):
        run(store, keyless, as_of=NOW + DAY, policy="live", by="test")
    assert query(store, "SELECT COUNT(*) FROM runs") == runs
