"""Model operations by hand: card, promotion, rollback; and a model that was tampered with does not load."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from detectors.model.artifact import libraries
from pipeline.config.config import MODEL_KEY
from pipeline.config.sections import MonitorSection
from pipeline.errors import ConfigError, InputError
from pipeline.features import catalogue, compute
from pipeline.features import columns as columns_table
from pipeline.features.catalogue import build_catalogue
from pipeline.features.history import load as load_history
from pipeline.runs.scoring_run import run
from pipeline.scoring.model_cache import ModelCache
from pipeline.scoring.reasons import FlaggedRows, contributions_of, strongest_reasons
from pipeline.scoring.score_rows import score_batch
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


@pytest.mark.one_engine
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


def test_no_model_of_another_id_or_monitor_can_be_put_in_a_models_place(trained):
    store, config = trained
    first, second = (models.load_artifact(store, model_id) for model_id in (1, 2))

    def put(artifact):
        with store.write() as connection:
            stored = {"artifact": artifact, "sha256": hashlib.sha256(artifact).hexdigest()}
            connection.execute(update(tables.models).where(tables.models.c.model_id == 2).values(stored))

    put(first)
    assert "sealed as model 1 of monitor 'fraudwatch', not as model 2" in card(store, config, 2).load_error
    put(second)
    assert card(store, config, 2).loads
    other = with_url(
        config.model_copy(update={"monitor": MonitorSection(name="cards")}), "sqlite:///elsewhere"
    )
    assert "of monitor 'fraudwatch', not as model 2 of 'cards'" in card(store, other, 2).load_error


@pytest.mark.one_engine
def test_keys_are_rotated_without_a_gap(trained):
    store, config = trained
    old = config.model_keys()[0].decode()
    rotated = with_url(config, "sqlite:///elsewhere")
    rotated._secrets[MODEL_KEY] = SecretStr(f"{'new' * 8},{old}")
    assert card(store, rotated, 2).loads
    scored = run(store, rotated, as_of=NOW + 7 * DAY, policy="live", by="test")
    assert (len(scored.trainings), scored.failures) == (1, [])
    rotated._secrets[MODEL_KEY] = SecretStr("new" * 8)
    assert card(store, rotated, 3).loads
    assert "add that key after a comma" in card(store, rotated, 2).load_error


@pytest.mark.one_engine
def test_a_model_finds_its_columns_by_name(trained, monkeypatch):
    store, config = trained

    def scores():
        history = load_history(store, config, START, NOW)
        rows = np.arange(len(history) - 200, len(history))
        batch = score_batch(config, ModelCache(store, config, "live"), history, rows, 2)
        flagged = FlaggedRows(
            batch.rows,
            batch.raw,
            batch.model.detector.encode(batch.raw),
            np.full(200, batch.model.strategy, object),
        )
        reasons = [
            list(strongest_reasons(flagged, place, each, batch.features, config))
            for place, each in enumerate(contributions_of(batch.model, flagged))
        ]
        return batch.raw.tobytes(), batch.scores.score.tobytes(), reasons

    def columns(**tables_of):
        for name, table in tables_of.items():
            for module in (catalogue, compute):
                monkeypatch.setattr(
                    module, name, table, raising=False
                )  # not every module imports every table

    before = scores()
    payment, window = columns_table.PAYMENT_COLUMNS, columns_table.WINDOW_COLUMNS
    new = replace(payment[0], name="twice_the_amount", values=lambda rows: 2.0 * rows.amount)
    columns(PAYMENT_COLUMNS=(new, *payment[::-1]), WINDOW_COLUMNS=window[::-1])
    assert scores() == before
    trained_again = run(store, config, as_of=NOW + 7 * DAY, policy="live", by="test")
    assert (len(trained_again.trainings), trained_again.failures) == (1, [])
    assert "twice_the_amount" in card(store, config, 3).feature_names
    columns(PAYMENT_COLUMNS=payment, WINDOW_COLUMNS=window)
    assert scores() == before
    told = "the model was trained on the column twice_the_amount, which is not computed any more: install the version"
    assert told in card(store, config, 3).load_error
    columns(PAYMENT_COLUMNS=payment, WINDOW_COLUMNS=window[1:])
    assert "_count_" in card(store, config, 2).load_error


def test_a_field_whose_name_a_new_column_takes_is_still_found(monkeypatch):
    old = build_catalogue(("customer",), ("risk",), ("channel",), (DAY,), (0, 6))
    taken = replace(columns_table.PAYMENT_COLUMNS[0], name="risk")
    monkeypatch.setattr(catalogue, "PAYMENT_COLUMNS", (*columns_table.PAYMENT_COLUMNS, taken))
    now = build_catalogue(("customer",), ("risk",), ("channel",), (DAY,), (0, 6))
    found = now.of_model(old.raw_names, old.encoding)
    assert ("risk" in now.raw_names, "risk_field" in now.raw_names) == (True, True)
    assert found.raw_names == tuple("risk_field" if name == "risk" else name for name in old.raw_names)
    assert now.of_model(now.raw_names, now.encoding) == now
    assert [feature.code for feature in found.features] == [feature.code for feature in old.features]
