"""What is found before a training: each with a number and a remedy, errors stop a promotion, nothing else does."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.features import history as feature_history
from pipeline.runs.scoring_run import train_once
from pipeline.training import delay_tail, readiness, strategy_choice, train
from storage.database.setup import upgrade
from storage.frames import DAY
from storage.models import models
from storage.queries.choices import newest_findings
from tests.support.commands import CONFIG, fraudwatch
from tests.support.databases import with_url
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, START, payments, write_csv
from tests.support.worlds import SMALL, load

DAYS = 40
DATE = START + DAYS * DAY
HEADER = PAYMENT_HEADER + ",country,age"


def world(days=DAYS, **settings):
    """Sound payments with a country and an age, and labels two days late."""
    rows, labels = payments(days)
    frame = pd.DataFrame([row.split(",") for row in rows], columns=PAYMENT_HEADER.split(","))
    rng = np.random.default_rng(3)
    frame["country"] = rng.choice(["DE", "FR", "PL"], len(frame))
    frame["age"] = rng.integers(18, 90, len(frame))
    told = pd.DataFrame([row.split(",") for row in labels], columns=LABEL_HEADER.split(","))
    return frame, told


def configured(**sections):
    base = SMALL.model_dump(mode="json", by_alias=True, exclude={"storage"})
    base["drift"] |= {"min_rows": 50}
    base["schema"] |= {"categorical": ["country"], "numeric": ["age"]}
    for section, keys in sections.items():
        base[section] |= keys
    return Config.model_validate({**base, "labels": base["labels"] | {"never_by_silence": {}}})


def stored(folder, frame, labels, config, **options):
    store = open_configured(with_url(config, f"sqlite:///{folder / 'one.db'}"))
    upgrade(store, config.monitor.name, 1, config.labels.precedence)
    rows = frame.to_csv(index=False, header=False).splitlines()
    load(store, config, "transactions", write_csv(folder / "p.csv", HEADER, rows), now=DATE, **options)
    told = labels.to_csv(index=False, header=False).splitlines()
    load(store, config, "labels", write_csv(folder / "l.csv", LABEL_HEADER, told), now=DATE)
    return store


def found(folder, frame, labels, config=None, date=DATE, **options):
    config = config or configured()
    with stored(folder, frame, labels, config, **options) as store:
        history = feature_history.load(
            store, config, date - config.training.span - config.lookback, date + DAY
        )
        return {one.code: one for one in train.prepare(config, history, date).findings}


def test_a_sound_history_has_nothing_in_its_way(tmp_path):
    planted = {"FEW_ENTITIES", "FEW_FRAUDS"}  # fraud at two terminals
    findings = found(tmp_path, *world())
    assert set(findings) <= planted


def _few(frame, labels):
    return frame, labels[:8]


def _none(frame, labels):
    return frame, labels[:0]


def _inverted(frame, labels):
    old = frame[:-600]
    return frame, pd.DataFrame(
        {
            "transaction_id": old["transaction_id"],
            "is_fraud": 1,
            "known_at": "2025-02-05T00:00:00Z",
            "source": "x",
        }
    )


def _attack(frame, labels):
    quiet = (labels["transaction_id"] > "t000250") & (labels["transaction_id"] < "t001250")
    return frame, labels[~quiet]


def _one_card(frame, labels):
    frame = frame.copy()
    frame.loc[frame["transaction_id"].isin(labels["transaction_id"]), ["customer_id", "terminal_id"]] = [
        "c1",
        "m0",
    ]
    return frame, labels


def _unnamed(frame, labels):
    third = np.arange(len(frame)) % 3 == 0
    return frame.assign(customer_id=np.where(third, "anonymous", frame["customer_id"])), labels


def _slow(frame, labels):
    times = frame.set_index("transaction_id")["event_time"].str.rstrip("Z")
    late = pd.to_datetime(labels["transaction_id"].map(times)) + pd.to_timedelta(
        np.arange(len(labels)) % 12, unit="D"
    )
    labels = labels.assign(known_at=late.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return frame, labels[late <= pd.Timestamp("2025-02-10")]


def _silent_days(frame, labels):
    day = frame["event_time"].str[:10]
    return frame[~day.isin(["2025-01-14", "2025-01-15"])], labels


def _no_country(frame, labels):
    return frame.assign(country=np.where(np.arange(len(frame)) % 40 == 0, "DE", "")), labels


def _one_country(frame, labels):
    return frame.assign(country="DE"), labels


def _id_as_country(frame, labels):
    return frame.assign(country=[f"x{n}" for n in range(len(frame))]), labels


def _one_age(frame, labels):
    return frame.assign(age=30), labels


def _told_by_age(frame, labels):
    fraud = frame["transaction_id"].isin(labels["transaction_id"])
    return frame.assign(age=np.where(fraud, 99, frame["age"])), labels


def _twice(frame, labels):
    again = frame[::20].assign(transaction_id=lambda rows: "again" + rows["transaction_id"])
    return pd.concat([frame, again]).sort_values("event_time"), labels


def _signs(frame, labels):
    return frame.assign(amount=np.where(np.arange(len(frame)) % 50 == 0, "-5.00", frame["amount"])), labels


def _grown_old(frame, labels):
    newest = frame["event_time"] > "2025-02-08"
    return frame.assign(age=np.where(newest, frame["age"] + 70, frame["age"])), labels


CASES = [
    (_few, "FEW_FRAUDS", "hint", r"^\d independent fraud cases?, .* needs \d+\. \d+ more, by chargebacks"),
    (_none, "FEW_FRAUDS", "hint", r"0 independent fraud cases"),
    (_inverted, "LABELS_INVERTED", "error", r"1 means fraud"),
    (_attack, "FRAUD_RATE_UNSTABLE", "warning", r"varies \d"),
    (_one_card, "FEW_ENTITIES", "warning", r"few entities"),
    (_unnamed, "ENTITY_DOMINATED", "warning", r"'anonymous' is the customer_id of 33 % of the transactions"),
    (_slow, "MATURITY_TOO_SHORT", "warning", r'labels\.maturity = "1[0-2]d"'),
    (_silent_days, "TIME_GAPS", "warning", r"2 of 4\d days"),
    (_no_country, "FIELD_MISSING", "warning", r"country is missing in 9[78] %"),
    (_one_country, "FIELD_CONSTANT", "hint", r"country has one value"),
    (_id_as_country, "FIELD_IDENTIFIES", "warning", r"country has a distinct value"),
    (_one_age, "FIELD_CONSTANT", "hint", r"age has one value"),
    (_told_by_age, "LEAK", "error", r'age tells the label.*trusted = \["age"\] under'),
    (_twice, "REPEATED_ROWS", "warning", r"two ids"),
    (_signs, "AMOUNT_SIGNS", "warning", r"2(\.\d)? % of the payments"),
    (_grown_old, "FEATURES_MOVED", "warning", r"age"),
]


@pytest.mark.parametrize(("change", "code", "level", "said"), CASES, ids=[case[0].__name__ for case in CASES])
def test_what_is_wrong_is_found_with_its_number_and_remedy(tmp_path, change, code, level, said):
    import re

    findings = found(tmp_path, *change(*world()))
    assert code in findings, list(findings)
    one = findings[code]
    assert one.level == level
    assert re.search(said, f"{one.message}. {one.remedy}"), one
    json.dumps(one.row())


def test_before_anything_is_mature_there_is_a_hint(tmp_path):
    assert found(tmp_path, *world(), date=START + 4 * DAY)["NO_MATURE_LABELS"].level == "hint"


def test_labels_that_stopped_coming_are_found(tmp_path):
    frame, labels = world()
    early = labels[labels["known_at"] < "2025-01-12"]
    config = configured()
    with stored(tmp_path, frame, early, config) as store:
        history = feature_history.load(store, config, START - 100 * DAY, DATE)
        codes = {one.code for one in train.prepare(config, history, DATE).findings}
    assert "LABELS_STALE" in codes


def test_rows_that_arrive_late_are_found(tmp_path):
    frame, labels = world()
    assert "ARRIVES_LATE" in found(tmp_path, frame, labels, date=DATE + DAY, history=False)


def test_errors_stop_a_promotion_and_are_kept(tmp_path):
    config = configured()
    with stored(tmp_path, *world(), config) as store:
        train_once(store, config, date=DATE - 7 * DAY, as_of=DATE, policy="live", by="test")
        assert len(models.promoted(store, "live")) == 1
        _, labels = _inverted(*world())
        more = labels.assign(is_fraud=1).to_csv(index=False, header=False).splitlines()
        load(store, config, "labels", write_csv(tmp_path / "bad.csv", LABEL_HEADER, more), now=DATE)
        tally = train_once(store, config, date=DATE, as_of=DATE + 1, policy="live", by="test")
        assert "no new model" in tally.trainings[0]
        assert "1 means fraud" in tally.trainings[0]
        assert len(models.promoted(store, "live")) == 1
        kept = newest_findings(store, "live")
        assert (kept[0]["level"], kept[0]["code"]) == ("error", "LABELS_INVERTED")


def test_delays_are_read_by_what_was_known_then(tmp_path):
    config = configured()
    with stored(tmp_path, *_slow(*world()), config) as store:
        history = feature_history.load(store, config, START, DATE)
    later, earlier = (delay_tail.reports_of(history, date).curve for date in (DATE, DATE - 20 * DAY))
    assert later.n > earlier.n > 0
    assert later.quantile(0.5) == pytest.approx(5.5, abs=2)
    young, older = readiness.young_cohorts(history, 14 * DAY, DATE)
    assert (young.youngest, young.oldest, older.oldest) == (0, 7, 14)
    assert young.expected > 1.5 * young.reported
    assert older.expected == pytest.approx(older.reported, rel=0.35)


def test_the_commands_tell_what_would_be_chosen_and_why(tmp_path):
    (tmp_path / "config.toml").write_text(CONFIG)
    rows, labels = payments(DAYS)
    write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows)
    write_csv(tmp_path / "l.csv", LABEL_HEADER, labels)
    for arguments in (["init"], ["ingest", "transactions", "p.csv"], ["ingest", "labels", "l.csv"]):
        fraudwatch(tmp_path, *arguments)
    would = fraudwatch(tmp_path, "strategy", "preview")
    assert "nothing is stored" in would
    assert "frauds reported so far" in would
    assert json.loads(fraudwatch(tmp_path, "strategy", "list", "--format", "json")) == []
    assert "has no choice" in fraudwatch(tmp_path, "strategy", "show", code=1)
    assert "has no choice" in fraudwatch(tmp_path, "readiness", "--last", code=1)
    assert "prevent a promotion" in fraudwatch(tmp_path, "readiness")
    assert isinstance(json.loads(fraudwatch(tmp_path, "readiness", "--format", "json")), list)
    fraudwatch(tmp_path, "train", "--as-of", "2025-02-09")
    (newest, *_) = json.loads(fraudwatch(tmp_path, "strategy", "list", "--format", "json"))
    full = fraudwatch(tmp_path, "strategy", "show", str(newest["choice_id"]))
    for word in ("reason:", "next change:", "Clopper–Pearson", "rule:", "evidence:"):
        assert word in full
    assert newest["sentence"] in full
    assert fraudwatch(tmp_path, "strategy", "show") == full
    assert "no choice 99" in fraudwatch(tmp_path, "strategy", "show", "99", code=1)


def test_wrong_verdicts_hardly_move_prevalence_but_are_examples(tmp_path):
    config = configured()
    frame, labels = world()
    with stored(tmp_path, frame, labels, config) as store:
        history = feature_history.load(store, config, START - 100 * DAY, DATE)
        before = strategy_choice.preview(store, config, history, "live", DATE).numbers["prevalence"]
        quiet = frame[~frame["transaction_id"].isin(labels["transaction_id"])]["transaction_id"][:900]
        answers = [f"{one},{int(n % 3 == 0)},2025-01-30T00:00:00Z,review" for n, one in enumerate(quiet)]
        load(store, config, "labels", write_csv(tmp_path / "verdicts.csv", LABEL_HEADER, answers), now=DATE)
        history = feature_history.load(store, config, START - 100 * DAY, DATE)
        after = strategy_choice.preview(store, config, history, "live", DATE).numbers["prevalence"]
    reviews = after["reviews"]
    assert (reviews["reviewed"], reviews["censored"]) == (900, 0)
    assert reviews["false_verdicts"] == pytest.approx(1 / 3, abs=0.05)
    assert reviews["uncorrected"] > 6 * before["prevalence"]  # what the verdicts say
    assert before["lower"] < after["prevalence"] < before["upper"]  # what comparable payments say
    assert after["positives"] == before["positives"] + 300
