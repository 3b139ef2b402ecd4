"""A field that tells the label stops a promotion, by its value or by being present; a strong legitimate one does not."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.cli.runs import _remedy_text
from pipeline.config.config import Config
from pipeline.features import history as feature_history
from pipeline.notifications.messages import candidate_rejected
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import train_once
from pipeline.services.models.models import list_models, model_card
from pipeline.services.monitoring import doctor
from pipeline.services.runs.backfill import BackfillRequest, StoredSpan
from pipeline.services.session import Session
from pipeline.training.leaks import Leak, find_leaks
from pipeline.training.training_set import training_set_at
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY
from storage.models import models
from storage.queries.models import check_page
from tests.support.databases import Opener
from tests.support.payments import LABEL_HEADER, START, write_csv
from tests.support.worlds import SMALL, load

DAYS = 40
DATE = START + DAYS * DAY
N, FRAUD_SHARE = 4000, 0.05
RNG = np.random.default_rng(5)
FRAUD = RNG.random(N) < FRAUD_SHARE


def some(share: float) -> np.ndarray:
    return RNG.random(N) < share


def text(mask: np.ndarray, value: str, otherwise: str = "") -> np.ndarray:
    return np.where(mask, value, otherwise).astype(object)


def number(mask: np.ndarray, value: object, otherwise: object = "") -> np.ndarray:
    return np.where(mask, np.asarray(value, dtype=object), np.asarray(otherwise, dtype=object))


EARLY = np.arange(N) < N // 2
ATTACK = FRAUD & (np.arange(N) % 2 == 0)  # half of the frauds
# field → its values, what points to fraud; None if it is no leak
CATEGORIES: dict[str, tuple[np.ndarray, str | None]] = {
    "dispute": (text(FRAUD, "lost"), "present"),
    "dispute_of_some": (text(FRAUD & some(0.4), "lost"), "present"),
    "dispute_with_others": (text(FRAUD | some(0.002), "opened"), "present"),
    "dispute_or_unknown": (text(FRAUD, "opened", "unknown"), "'opened'"),
    "outcome": (np.where(FRAUD, RNG.choice(["lost", "open"], N), RNG.choice(["paid", ""], N)).astype(object), ""),
    "dispute_id": (np.array([f"dp{n}" if fraud else "" for n, fraud in enumerate(FRAUD)], dtype=object), "present"),
    "settled": (text(~FRAUD, "yes"), "missing"),
    "for_few_frauds": (text(FRAUD & some(0.1), "lost"), None),  # too few to matter
    "web_only": (text(FRAUD | some(0.3), "firefox"), None),  # all frauds are on the web, as much else
    "risk": (np.where(some(0.8), np.where(FRAUD, "high", "low"), RNG.choice(["high", "low"], N)).astype(object), None),
    "serial": (np.array([f"s{n}" for n in range(N)], dtype=object), None),
    "attack": (text(FRAUD & EARLY, "XX", "DE"), None),  # and over
    "constant": (np.full(N, "x", dtype=object), None),
    "empty": (np.full(N, "", dtype=object), None),
}  # fmt: skip
NUMBERS: dict[str, tuple[np.ndarray, str | None]] = {
    "disputed_amount": (number(FRAUD, RNG.uniform(1, 99, N).round(2), 0), ""),
    "days_to_dispute": (number(FRAUD, RNG.integers(1, 90, N)), "present"),
    "score_after": (RNG.normal(8 * FRAUD, 1).round(3).astype(object), ""),
    "score": (RNG.normal(2 * FRAUD, 1).round(3).astype(object), None),
    "balance_left": (np.where(some(0.3), 0, RNG.uniform(0, 9, N)).astype(object), None),
}
SCHEMA = SMALL.schema_.model_dump() | {"categorical": list(CATEGORIES), "numeric": list(NUMBERS)}


def configured(folder: Path, gate: bool = True, **schema: object) -> Config:
    base = SMALL.model_dump(mode="json", by_alias=True, exclude={"storage"})
    base["schema"] |= {"categorical": [], "numeric": []} | schema
    base["labels"] |= {"never_by_silence": {}}
    base["training"] |= {"gate": gate}
    base["strategy"] |= {"method": "outlier"}
    return Config.model_validate(base)


@dataclass
class Rows:
    """Payments of forty days with these columns, and labels two days late."""

    columns: dict[str, np.ndarray]
    customers: np.ndarray

    def load(self, store: Store, config: Config, folder: Path) -> None:
        times = pd.to_datetime(np.linspace(START, START + DAYS * DAY - DAY, N).astype("int64"), unit="us")
        at = times.strftime("%Y-%m-%dT%H:%M:%SZ")
        frame = pd.DataFrame({"transaction_id": [f"t{n:05d}" for n in range(N)], "event_time": at})
        frame["customer_id"], frame["terminal_id"] = self.customers, "m1"
        frame["amount"] = np.random.default_rng(1).uniform(1, 100, N).round(2)
        frame = frame.assign(**self.columns)
        rows = frame.to_csv(index=False, header=False).splitlines()
        load(store, config, "transactions", write_csv(folder / "p.csv", ",".join(frame), rows), now=DATE)
        known = (times[FRAUD] + pd.Timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
        labels = [
            f"{id_},1,{when},bank" for id_, when in zip(frame["transaction_id"][FRAUD], known, strict=True)
        ]
        load(store, config, "labels", write_csv(folder / "l.csv", LABEL_HEADER, labels), now=DATE)


MANY = np.array([f"c{n % 50}" for n in range(N)])


def leaks_of(store: Store, config: Config, rows: Rows, folder: Path) -> dict[str, Leak]:
    rows.load(store, config, folder)
    history = feature_history.load(store, config, START - DAY, DATE + DAY)
    training_set = training_set_at(config, history, DATE)
    leaks = find_leaks(config, history, training_set.mature, training_set.y)
    return {leak.name: leak for leak in leaks}


def test_what_tells_the_label_is_a_leak_and_what_only_helps_is_not(opener: Opener, tmp_path: Path) -> None:
    fields = CATEGORIES | NUMBERS
    config = configured(tmp_path, categorical=list(CATEGORIES), numeric=list(NUMBERS))
    rows = Rows({name: values for name, (values, _) in fields.items()}, MANY)
    leaks = leaks_of(opener(config), config, rows, tmp_path)
    expected = {name: state for name, (_, state) in fields.items() if state is not None}
    assert {name: leak.state for name, leak in leaks.items()} == expected
    assert 0.3 < leaks["dispute_of_some"].recall < 0.5
    assert 0.9 < leaks["dispute_with_others"].precision < 1
    sentence = "dispute tells the label: of the payments where it is present 100 % are fraud, and they are 100 % of all frauds"
    assert leaks["dispute"].sentence == sentence


def test_an_entity_leaks_by_being_present_but_not_by_its_values(opener: Opener, tmp_path: Path) -> None:
    config = configured(tmp_path, entities=["customer_id", "terminal_id", "case_id"])
    # a customer whose every payment is fraud is no leak; a case that only frauds have is one
    customers = np.where(FRAUD, np.char.add("f", (np.arange(N) % 20).astype(str)), MANY)
    rows = Rows({"case_id": text(FRAUD, "k1")}, customers)
    leaks = leaks_of(opener(config), config, rows, tmp_path)
    assert {name: leak.state for name, leak in leaks.items()} == {"case_id": "present"}


@pytest.mark.parametrize(("customers", "leaks"), [(MANY, True), (np.where(ATTACK, "bot", MANY), False)])
def test_what_one_customer_does_is_an_attack_and_no_leak(
    opener: Opener, tmp_path: Path, customers: np.ndarray, leaks: bool
) -> None:
    config = configured(tmp_path, categorical=["browser"])
    rows = Rows({"browser": text(~ATTACK, "firefox")}, customers)
    assert bool(leaks_of(opener(config), config, rows, tmp_path)) == leaks


@pytest.mark.one_engine
@pytest.mark.parametrize("gate", [True, False])
def test_a_leak_stops_a_promotion_until_its_field_is_trusted(
    opener: Opener, tmp_path: Path, gate: bool
) -> None:
    config = configured(tmp_path, gate, categorical=["dispute"], trusted=["terminal_id"])
    store = opener(config)
    Rows({"dispute": CATEGORIES["dispute"][0]}, MANY).load(store, config, tmp_path)
    told = train_once(store, config, date=DATE - DAY, as_of=DATE, policy="live", by="test").trainings[0]
    assert "candidate 1 was rejected. The candidate was trained on what may be a leak: dispute tells" in told
    assert 'write trusted = ["terminal_id", "dispute"] under [schema]' in told
    assert "No model is in force" in told
    assert models.promoted(store, "live") == []
    session = Session(store, config, "ann", clock=lambda: DATE)
    (listed,) = list_models(session, "live").items
    assert (listed.verdict, listed.rule, listed.promotion) == ("rejected", "LEAK", None)
    assert listed.reason in told
    assert model_card(session, "live", 1).checks[0].rule == "LEAK"
    (check,) = check_page(store, "live").rows
    body = candidate_rejected(check | {"training_date": DATE - DAY, "refusals": 0}).body
    assert "trusted = " in body
    assert "Model None" not in body
    model = next(result for result in doctor.check(session, "live") if result.subject == "model")
    assert model.code == "not_promoted"
    failed = [result for result in doctor.check(session, "live") if result.failed]
    assert any("candidate_rejected" in str(result.code) for result in failed)
    trusting = configured(tmp_path, gate, categorical=["dispute"], trusted=["terminal_id", "dispute"])
    train_once(store, trusting, date=DATE, as_of=DATE, policy="live", by="test")
    assert [promotion.model_id for promotion in models.promoted(store, "live")] == [2]
    told = train_once(store, config, date=DATE + DAY, as_of=DATE + DAY, policy="live", by="test").trainings
    assert "Model 2 stays in force" in told[0]


@pytest.mark.one_engine
def test_the_same_backfill_trains_again_once_the_field_is_trusted(opener: Opener, tmp_path: Path) -> None:
    untrusting = configured(tmp_path, categorical=["dispute"])
    store = opener(untrusting)
    Rows({"dispute": CATEGORIES["dispute"][0]}, MANY).load(store, untrusting, tmp_path)
    span = {"start": DATE - 3 * DAY, "end": DATE, "as_of": DATE, "policy": "live", "by": "test"}
    first = backfill(store, untrusting, **span)
    assert (first.scored, len(first.trainings)) == (0, 1)
    assert "was rejected" in first.trainings[0]
    again = backfill(store, untrusting, **span)
    assert (again.scored, again.trainings) == (0, [])  # the same would be rejected again
    assert again.no_model == first.no_model > 0
    candidates = list_models(Session(store, untrusting, "ann", clock=lambda: DATE), "live").items
    stored = StoredSpan(as_datetime(START), as_datetime(DATE))
    request = BackfillRequest(as_datetime(span["start"]), as_datetime(DATE))
    hint = _remedy_text(request, again, stored, candidates)
    assert "candidate 1 was rejected: The candidate was trained on what may be a leak: dispute tells" in str(
        hint
    )
    assert 'write trusted = ["dispute"] under [schema]' in str(hint)
    trusting = configured(tmp_path, categorical=["dispute"], trusted=["dispute"])
    trained = backfill(store, trusting, **span)
    assert len(trained.trainings) == 1
    assert trained.scored == first.no_model
    assert trained.no_model == 0
    assert backfill(store, trusting, **span).trainings == []
