"""Features of histories small enough to check by hand, and of one large enough to be worked on in pieces."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from detectors.inputs.encoding import Encoder
from pipeline.features.amount_windows import log_units
from pipeline.features.catalogue import Feature, build_catalogue
from pipeline.features.compute import raw_features
from pipeline.features.entity_windows import CHUNK
from pipeline.features.history import catalogue_of
from pipeline.features.label_history import label_events, status_at
from pipeline.scoring.reason_text import TEXTS, ReasonFacts, reason_text
from storage.frames import DAY, HOUR, MONEY, NEVER, Coded, Completeness, Labels, Transactions

WINDOWS = (DAY, 7 * DAY)
LATENESS = HOUR
MATURITY = 10 * DAY
LOOKBACK = WINDOWS[-1] + MATURITY
PLAN = build_catalogue(("customer", "shop"), ("risk",), ("channel",), WINDOWS, (0, 6))
ALL_KNOWN = Completeness(2**60, np.zeros(0, np.int64), np.zeros(0, np.int64))
WEB_HASH = 0x8D4726E14C3D  # stored models hold such hashes: it may never change
NOTHING_COMPLETE = Completeness(NEVER, np.zeros(0, np.int64), np.zeros(0, np.int64))


def coded(texts):
    """Strings, None for missing."""
    values = sorted({text for text in texts if text is not None})
    codes = [-1 if text is None else values.index(text) for text in texts]
    return Coded(np.array(codes, dtype=np.int32), np.array(values, dtype=object))


def rows(*given, late=(), shop="s", channel="web"):
    """(time, amount[, customer]) a row, ids t0, t1 …; `late` holds {row: ingested_at}."""
    time = np.array([row[0] for row in given], dtype=np.int64)
    ingested = time.copy()
    for row, instant in dict(late).items():
        ingested[row] = instant
    n = len(given)
    columns = {
        "customer": coded([row[2] if len(row) > 2 else "c" for row in given]),
        "shop": coded([shop] * n),
        "channel": coded([channel] * n),
    }
    amounts = np.array([round(row[1] * MONEY) for row in given], dtype=np.int64)
    ids = np.array([f"t{place}" for place in range(n)], dtype=object)
    return Transactions(ids, time, ingested, amounts, columns, {"risk": np.full(n, 0.5)})


def labels(*given):
    """(row, is_fraud, available_at[, source]) a label."""
    at = np.array([label[2] for label in given], dtype=np.int64)
    return Labels.from_answers(
        np.arange(len(given)),
        np.array([f"t{label[0]}" for label in given], dtype=object),
        np.array([label[1] for label in given], dtype=bool),
        coded([label[3] if len(label) > 3 else "chargeback" for label in given]),
        at,
        at.copy(),
    )


def features(history, said=None, asked=None, completeness=NOTHING_COMPLETE, silence_ok=None):
    """Raw columns by name, one array each."""
    raw = raw_features(
        history,
        label_events(history, labels() if said is None else said, ("audit", "review", "chargeback")),
        np.arange(len(history)) if asked is None else np.array(asked),
        PLAN,
        maturity=MATURITY,
        allowed_lateness=LATENESS,
        lookback=LOOKBACK,
        completeness=completeness,
        silence_ok=np.ones(len(history), dtype=bool) if silence_ok is None else silence_ok,
    )
    return dict(zip(PLAN.raw_names, raw.T, strict=True))


# ── amounts ──


def test_a_window_sums_up_the_past_without_the_row_itself():
    found = features(rows((0, 10.0), (HOUR, 30.0), (2 * HOUR, 50.0)))
    assert found["customer_count_1d"].tolist() == [0, 1, 2]
    assert found["customer_amount_mean_1d"][1:].tolist() == [10.0, 20.0]
    assert math.isnan(found["customer_amount_mean_1d"][0])
    assert found["customer_amount_ratio_1d"].tolist() == [1.0, 31 / 11, 51 / 21]
    logs = [math.log1p(10), math.log1p(30)]
    assert found["customer_amount_spread_1d"][2] == pytest.approx(np.std(logs, ddof=1), abs=1e-4)


def test_a_row_exactly_a_window_ago_is_out_and_an_earlier_row_of_the_same_instant_is_in():
    found = features(rows((0, 10.0), (1, 20.0), (DAY, 30.0), (DAY, 40.0)))
    assert found["customer_count_1d"].tolist() == [0, 1, 1, 2]


def test_deviation_is_measured_in_the_spread_of_the_entitys_own_past():
    steady = features(rows(*[(hour * HOUR, 10.0) for hour in range(20)], (20 * HOUR, 100.0)))
    erratic = features(rows(*[(hour * HOUR, 10.0 ** (hour % 3)) for hour in range(20)], (20 * HOUR, 100.0)))
    assert steady["customer_amount_deviation_1d"][-1] > 5 > erratic["customer_amount_deviation_1d"][-1] > 0
    assert steady["customer_amount_spread_1d"][-1] == 0.0


def test_one_earlier_row_makes_a_cautious_deviation():
    found = features(rows((0, 10.0), (HOUR, 100.0)))["customer_amount_deviation_1d"]
    expected = (math.log1p(100) - math.log1p(10)) / (0.7 * math.sqrt(2))
    assert found.tolist() == [0.0, pytest.approx(expected, rel=1e-4)]


@pytest.mark.parametrize(
    ("amount", "log"),
    [
        (0.0, 0.0),  # a verification of a card
        (100.0, 4.6151),
        (-100.0, -4.6151),  # as far from 0 on the other side
        (0.0001, 0.0001),
        (9e14, 34.4334),  # about the largest that int64 holds
    ],
)
def test_every_amount_has_a_log_amount(amount, log):
    history = rows((0, amount), (1, amount))
    assert features(history)["log_amount"].tolist() == [log, log]
    assert log_units(history.amount).tolist() == [round(log * 10_000)] * 2
    raw = np.column_stack(list(features(history).values()))
    assert np.isfinite(Encoder.fit(PLAN.encoding, raw, np.zeros(2)).transform(raw)).all()


def test_amounts_that_do_not_add_up_in_int64_are_refused():
    large = 4e14
    assert features(rows((0, large), (1, large), (2, 1.0)))["customer_amount_mean_1d"][2] == large
    assert (
        features(rows((0, large), (1, large), (2, -large), (3, large), (4, 1.0)))["customer_count_1d"][4] == 4
    )
    with pytest.raises(OverflowError, match="check the amounts"):
        features(rows((0, large), (1, large), (2, large), (3, 1.0)))
    apart = rows((0, large), (DAY, large), (9 * DAY, large), (9 * DAY + 1, 1.0))
    assert features(apart)["customer_count_7d"].tolist() == [0, 1, 0, 1]  # no window holds all three


# ── who, and when last ──


def test_a_missing_entity_has_no_past_and_is_never_first_seen():
    found = features(rows((0, 10.0, "c"), (HOUR, 10.0, None), (2 * HOUR, 10.0, None)))
    assert found["customer_count_1d"].tolist() == [0, 0, 0]
    assert found["customer_seconds_since_last"].tolist() == [LOOKBACK / 1e6] * 3
    assert found["customer_amount_deviation_7d"].tolist() == [0, 0, 0]
    assert found["customer_with_shop_first_seen"].tolist() == [1, 0, 0]
    assert found["shop_count_1d"].tolist() == [0, 1, 2]


def test_time_since_the_last_transaction_is_capped_at_the_lookback():
    found = features(rows((0, 1.0), (HOUR, 1.0), (HOUR + LOOKBACK - 1, 1.0), (3 * LOOKBACK, 1.0)))
    expected = [LOOKBACK / 1e6, 3600.0, (LOOKBACK - 1) / 1e6, LOOKBACK / 1e6]
    assert found["customer_seconds_since_last"].tolist() == expected
    assert found["customer_with_shop_first_seen"].tolist() == [1, 0, 0, 1]


def test_the_clock_is_utc():
    saturday = 1_700_874_000 * 1_000_000  # 2023-11-25 01:00 UTC
    found = features(rows((saturday, 1.0), (saturday + 5 * HOUR, 1.0), (saturday + 6 * HOUR, 1.0)))
    assert found["weekend"].tolist() == [1, 1, 1]
    assert found["night"].tolist() == [1, 1, 0]  # 01, 06 and 07 o'clock
    assert found["hour_sin"].tolist() == [pytest.approx(math.sin(math.tau * h / 24)) for h in (1, 6, 7)]
    assert found["weekday_cos"][0] == pytest.approx(math.cos(math.tau * 5 / 7))


def test_a_category_has_the_same_hash_in_every_history():
    web = features(rows((0, 1.0)))["channel_hash"][0]
    assert web == WEB_HASH
    other = replace(rows((0, 1.0)), columns=rows((0, 1.0)).columns | {"channel": coded(["web"])})
    assert features(other)["channel_hash"][0] == web
    assert math.isnan(features(rows((0, 1.0), channel=None))["channel_hash"][0])


# ── what arrived too late ──


def test_a_row_that_arrives_too_late_is_not_seen_by_those_before_it():
    # t0 arrives at 5 h: t1's score is due at 1 h + lateness, t2's at 4 h + lateness, just then.
    found = features(rows((0, 10.0), (HOUR, 20.0), (4 * HOUR, 30.0), late={0: 5 * HOUR}))
    assert found["customer_count_1d"].tolist() == [0, 0, 2]
    assert found["customer_amount_mean_1d"][2] == 15.0
    assert found["customer_seconds_since_last"].tolist() == [LOOKBACK / 1e6, LOOKBACK / 1e6, 3 * 3600]
    assert found["customer_with_shop_first_seen"].tolist() == [1, 1, 0]


def test_a_row_that_is_itself_late_sees_what_arrived_before_it():
    history = rows((0, 10.0), (HOUR, 20.0), (2 * HOUR, 30.0), late={0: 9 * HOUR, 1: 9 * HOUR})
    assert features(history)["customer_count_1d"].tolist() == [0, 1, 0]


def test_the_last_visible_row_is_found_behind_a_run_of_hidden_ones():
    hidden = range(1, 300)
    history = rows(*[(second * 1_000_000, 1.0) for second in range(301)], late=dict.fromkeys(hidden, 5 * DAY))
    found = features(history, asked=[300])
    assert found["customer_seconds_since_last"].tolist() == [300.0]
    assert found["customer_count_1d"].tolist() == [1]


# ── what is known ──


def test_a_label_counts_from_the_instant_it_is_available():
    history = rows((0, 1.0), (HOUR, 1.0), (2 * HOUR, 1.0), (3 * HOUR, 1.0))
    at_once = features(history, labels((0, True, 2 * HOUR)))
    assert at_once["customer_known_frauds_1d"].tolist() == [0, 0, 1, 1]
    later = features(history, labels((0, True, 2 * HOUR + 1)))
    assert later["customer_known_frauds_1d"].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("said", "frauds"),
    [
        ([(0, True, 1)], [1, 1, 1]),
        ([(0, True, 1), (0, False, HOUR + 1)], [1, 0, 0]),  # corrected by the same source
        ([(0, True, 1, "review"), (0, False, HOUR + 1)], [1, 1, 1]),  # a review outranks a chargeback
        ([(0, True, 1), (0, False, HOUR + 1, "audit")], [1, 0, 0]),  # an audit outranks both
        ([(0, True, 1), (0, False, 2, "hearsay")], [1, 1, 1]),  # a source not listed comes last
        ([(0, False, 1, "rumour"), (0, True, 2, "hearsay")], [1, 1, 1]),  # among those the newest
        ([(0, True, 1), (0, False, 1)], [0, 0, 0]),  # at one instant the one recorded last
        ([(0, False, 1), (0, True, HOUR + 1), (0, False, 2 * HOUR + 1), (0, True, 3 * HOUR)], [0, 1, 1]),
        ([(7, True, 1)], [0, 0, 0]),  # of a transaction that is not there
    ],
)
def test_the_current_label_follows_precedence_and_time(said, frauds):
    history = rows((0, 1.0), (HOUR, 1.0), (2 * HOUR, 1.0), (3 * HOUR, 1.0))
    found = features(history, labels(*said))
    assert found["customer_known_frauds_1d"].tolist()[1:] == frauds


def test_old_news_that_arrives_late_does_not_replace_newer_knowledge():
    history = rows((0, 1.0), (3 * HOUR, 1.0))
    newer_first = labels((0, True, HOUR), (0, False, HOUR - 1))
    late = replace(newer_first, recorded_at=np.array([HOUR, 2 * HOUR]))
    assert features(history, late)["customer_known_frauds_1d"].tolist() == [0, 1]


def test_a_fraud_rate_looks_at_the_window_before_maturity():
    old, new = MATURITY - 1, MATURITY
    history = rows((0, 1.0), (DAY - 1, 1.0), (old, 1.0), (new, 1.0), (new + DAY, 1.0))
    found = features(history, labels((0, True, HOUR), (1, False, 2 * DAY)))
    assert found["customer_matured_frauds_1d"].tolist() == [0, 0, 0, 1, 0]
    assert found["customer_matured_known_1d"].tolist() == [0, 0, 0, 1, 1]
    assert found["customer_matured_known_7d"].tolist() == [0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("completeness", "silence_ok", "known"),
    [
        (ALL_KNOWN, True, 1),
        (ALL_KNOWN, False, 0),  # a declined payment is never charged back
        (NOTHING_COMPLETE, True, 0),
        (Completeness(NEVER, np.array([DAY]), np.array([MATURITY])), True, 1),
        (Completeness(NEVER, np.array([DAY]), np.array([MATURITY - 1])), True, 0),  # complete to just before
        (Completeness(NEVER, np.array([MATURITY + 1]), np.array([MATURITY])), True, 0),  # told too late
    ],
)
def test_silence_means_genuine_only_when_labels_are_complete(completeness, silence_ok, known):
    history = rows((0, 1.0), (MATURITY, 1.0))
    found = features(history, completeness=completeness, silence_ok=np.array([silence_ok, True]))
    assert found["customer_matured_known_1d"].tolist() == [0, known]
    assert found["customer_matured_frauds_1d"].tolist() == [0, 0]


def test_a_label_and_silence_are_not_counted_twice():
    history = rows((0, 1.0), (1, 1.0), (MATURITY + 1, 1.0))
    found = features(history, labels((0, True, HOUR), (0, False, HOUR + 1, "review")), completeness=ALL_KNOWN)
    assert found["customer_matured_known_1d"].tolist() == [0, 0, 2]
    assert found["customer_matured_frauds_1d"].tolist() == [0, 0, 0]


def test_status_without_labels_is_unknown():
    history = rows((0, 1.0), (1, 1.0))
    assert status_at(history, label_events(history, labels(), ()), DAY).tolist() == [-1, -1]
    said = label_events(history, labels((1, True, HOUR), (1, False, DAY)), ())
    assert status_at(history, said, HOUR - 1).tolist() == [-1, -1]
    assert status_at(history, said, HOUR).tolist() == [-1, 1]
    assert status_at(history, said, DAY).tolist() == [-1, 0]


# ── the matrix ──


def test_rows_may_be_asked_in_any_order_and_twice():
    history = rows((0, 10.0), (HOUR, 30.0), (2 * HOUR, 50.0))
    found = features(history, asked=[2, 0, 2])
    assert found["amount"].tolist() == [50.0, 10.0, 50.0]
    assert found["customer_count_1d"].tolist() == [2, 0, 2]
    assert features(history, asked=np.zeros(0, dtype=np.int64))["amount"].tolist() == []


def test_the_matrix_is_contiguous_float64():
    history = rows((0, 10.0), (HOUR, 30.0))
    events = label_events(history, labels(), ())
    told = (PLAN, MATURITY, LATENESS, LOOKBACK, ALL_KNOWN, np.ones(2, dtype=bool))
    raw = raw_features(history, events, np.arange(2), *told)
    assert raw.flags.c_contiguous
    assert raw.dtype == np.float64
    assert raw.shape == (2, len(PLAN.raw_names))


def test_a_lookback_too_short_for_the_windows_is_refused():
    history = rows((0, 10.0))
    events = label_events(history, labels(), ())
    with pytest.raises(ValueError, match="read a longer history"):
        raw_features(
            history, events, np.arange(1), PLAN, MATURITY, LATENESS, LOOKBACK - 1, ALL_KNOWN, np.ones(1, bool)
        )


def test_entities_too_many_to_pair_by_number_are_paired_all_the_same():
    history = rows((0, 1.0), (1, 1.0), (2, 1.0, "d"))
    names = np.broadcast_to(np.array(["a name"], dtype=object), (2**31,))  # takes no memory
    columns = {name: Coded(history.columns[name].codes, names) for name in ("customer", "shop")}
    many = replace(history, columns=history.columns | columns)
    assert features(many)["customer_with_shop_first_seen"].tolist() == [1, 0, 1]


def test_a_long_out_of_order_history_is_byte_equal_whole_and_by_windows():
    """Several chunks an entity, hot and cold entities, ties, stragglers, labels of all ages."""
    history, said, silence_ok = world(3 * CHUNK)
    whole = raw(history, said, silence_ok)
    cuts = [0, 5, CHUNK - 1, CHUNK + 7, 2 * CHUNK, len(history)]
    parts = [raw(history, said, silence_ok, np.arange(start, end)) for start, end in itertools.pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    some = np.random.default_rng(5).choice(len(history), 40, replace=False)
    for row in some:
        assert raw(history, said, silence_ok, np.array([row])).tobytes() == whole[row].tobytes()


def raw(history, said, silence_ok, asked=None):
    return raw_features(
        history,
        label_events(history, said, ("review", "chargeback")),
        np.arange(len(history)) if asked is None else asked,
        PLAN,
        maturity=MATURITY,
        allowed_lateness=LATENESS,
        lookback=LOOKBACK,
        completeness=Completeness(20 * DAY, np.array([25 * DAY]), np.array([24 * DAY])),
        silence_ok=silence_ok,
    )


def world(n):
    rng = np.random.default_rng(11)
    time = np.sort(rng.integers(0, 40 * 24 * 360, n)) * 10_000_000  # every ten seconds: ties
    late = np.where(rng.random(n) < 0.1, rng.integers(0, 5 * 24, n) * HOUR, 0)
    size = np.where(rng.random(n) < 0.3, 3, 900)  # a third of the rows on three customers
    columns = {
        "customer": numbered(rng.integers(0, size)),
        "shop": numbered(rng.integers(-1, 50, n)),
        "channel": numbered(rng.integers(0, 2, n)),
    }
    amount = (rng.lognormal(3, 1, n) * 100).astype(np.int64) * 100
    ids = np.array([f"t{place:06}" for place in range(n)], dtype=object)
    history = Transactions(ids, time, time + late, amount, columns, {"risk": rng.random(n)})
    m = n // 3
    of = rng.integers(0, n, m)
    known_at = time[of] + rng.integers(0, 20 * 24, m) * HOUR
    source = Coded(rng.integers(0, 2, m).astype(np.int32), np.array(["chargeback", "review"], dtype=object))
    said = Labels.from_answers(np.arange(m), ids[of], rng.random(m) < 0.5, source, known_at, known_at)
    return history, said, rng.random(n) < 0.8


def numbered(codes):
    return Coded(codes.astype(np.int32), np.array([f"v{c}" for c in range(codes.max() + 1)], dtype=object))


# ── the amount against a field ──


def test_an_amount_that_is_the_whole_field_is_exactly_one():
    history = replace(rows((0, 0.1), (1, 2500.1), (2, 30.0), (3, 30.0), (4, 99.0)), numeric={})
    fields = np.array([0.1, 2500.1, math.nan, math.inf, -49.0])
    found = features(replace(history, numeric={"risk": fields}))["amount_against_risk"]
    assert found[[0, 1, 4]].tolist() == [1.0, 1.0, 2.0]
    assert np.isnan(found[[2, 3]]).all()


# ── the catalogue ──


def test_features_are_what_the_encoder_gives_in_the_same_order():
    assert [feature.name for feature in PLAN.features] == PLAN.encoding.names
    assert len(set(PLAN.encoding.names)) == len(PLAN.encoding.names)
    assert len(set(PLAN.raw_names)) == len(PLAN.raw_names)
    assert all(feature.usual is None or feature.usual in PLAN.raw_names for feature in PLAN.features)


def test_every_code_has_words_and_label_free_means_label_free():
    everything = build_catalogue(
        ("customer",), ("risk",), ("channel",), WINDOWS, (0, 6), fraud_span=180 * DAY
    )
    assert {feature.code for feature in everything.features} <= set(TEXTS)


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [(3 * 86400, "3 days after this customer's last known fraud"), (180 * 86400, "no known fraud of this customer in the 180 days before")],
)  # fmt: skip
def test_a_reason_tells_when_the_last_known_fraud_was(seconds, sentence):
    feature = Feature("customer_seconds_since_fraud", "RECENT_FRAUD", "customer", 180 * DAY)
    assert reason_text(ReasonFacts(feature, float(seconds), None, 10.0, "EUR")) == sentence


@pytest.mark.parametrize(
    ("name", "code", "value", "facts", "sentence"),
    [
        ("shop_seconds_since_last", "RECENT_ACTIVITY", 90.0, {}, "90 seconds after this shop's last payment"),
        ("shop_seconds_since_last", "RECENT_ACTIVITY", 75 * 86400.0, {}, "no payment of this shop in the 75 days before"),
        ("shop_seconds_since_last", "RECENT_ACTIVITY", 75 * 86400.0, {"absent": "shop"}, "this payment has no shop"),
        ("shop_fraud_rate_7d", "FRAUD_HISTORY", 0.19, {"frauds": 1.0, "payments": 1.0}, "1 of 1 payment of this shop was fraud in the newest 7 days with a known outcome"),
        ("shop_fraud_rate_7d", "FRAUD_HISTORY", 0.01, {}, "no payment of this shop in the newest 7 days with a known outcome"),
        ("shop_seconds_since_last", "RECENT_ACTIVITY", 0.0, {}, "at the same moment as another payment of this shop"),
        ("shop_amount_spread_7d", "AMOUNT_SPREAD", 2.63, {}, "this shop's amounts vary widely: typically by a factor of 14 in the 7 days before"),
        ("shop_amount_spread_7d", "AMOUNT_SPREAD", 0.9, {}, "this shop's amounts vary: typically by a factor of 2.5 in the 7 days before"),
        ("shop_amount_spread_7d", "AMOUNT_SPREAD", 0.1, {}, "this shop's amounts vary little: typically by 11 % in the 7 days before"),
        ("shop_amount_spread_7d", "AMOUNT_SPREAD", 0.0, {}, "this shop's amounts were all alike in the 7 days before"),
        ("shop_amount_spread_7d", "AMOUNT_SPREAD", 0.9, {"is_imputed": True}, "fewer than two payments of this shop in the 7 days before, too few to know how its amounts vary"),
        ("shop_amount_mean_7d", "USUAL_AMOUNT", 36.06, {}, "payments of this shop are 36.06 on average in the 7 days before"),
        ("shop_amount_mean_7d", "USUAL_AMOUNT", 36.06, {"shares": (0.98, 0.034)}, "payments of this shop are 36.06 on average in the 7 days before, as high in about 3 % of earlier payments"),
        ("shop_amount_mean_7d", "USUAL_AMOUNT", 36.06, {"is_imputed": True}, "no payment of this shop in the 7 days before"),
        ("shop_amount_deviation_7d", "AMOUNT_ABOVE_USUAL", 5.4, {"usual": 2.5}, "amount 10.00 is far above what is usual for this shop, 2.50 on average in the 7 days before"),
        ("shop_amount_deviation_7d", "AMOUNT_ABOVE_USUAL", 1.2, {"usual": 12.0}, "amount 10.00 is a little above what is usual for this shop"),  # below the mean of few large ones
        ("shop_amount_deviation_7d", "AMOUNT_ABOVE_USUAL", -2.0, {"usual": 40.0}, "amount 10.00 is clearly below what is usual for this shop, 40.00 on average in the 7 days before"),
        ("shop_amount_deviation_7d", "AMOUNT_ABOVE_USUAL", 0.0, {"usual": float("nan")}, "amount 10.00 has no payment of this shop in the 7 days before to compare with"),
        ("shop_amount_ratio_7d", "AMOUNT_AGAINST_MEAN", 9.69163, {"usual": 0.135}, "amount 10.00 is 74 times this shop's average in the 7 days before (0.14; 9.7 times with 1 EUR added to both)"),
        ("shop_amount_ratio_7d", "AMOUNT_AGAINST_MEAN", 77.004319, {"amount": 2512.46, "usual": 31.64}, "amount 2,512.46 is 79 times this shop's average in the 7 days before (31.64; 77 times with 1 EUR added to both)"),
        ("shop_amount_ratio_7d", "AMOUNT_AGAINST_MEAN", 14.896359, {"amount": 584.52, "usual": 38.30625}, "amount 584.52 is 15 times this shop's average in the 7 days before (38.31)"),
        ("shop_amount_ratio_7d", "AMOUNT_AGAINST_MEAN", 0.6, {"usual": 16.0}, "amount 10.00 is 38 % below this shop's average in the 7 days before (16.00)"),
        ("shop_count_7d", "VELOCITY", 1.0, {}, "1 payment of this shop in the 7 days before"),
        ("shop_known_frauds_7d", "KNOWN_FRAUD", 0.0, {}, "no known fraud of this shop in the 7 days before"),
        ("risk", "FIELD_VALUE", 0.4, {"absent": "risk"}, "this payment has no risk"),
        ("night", "TIME_OF_DAY", 1.0, {"event_time": 3 * HOUR}, "it happened on a Thursday at 03:00 UTC"),
        ("night", "TIME_OF_DAY", 1.0, {"event_time": 3 * HOUR, "compared": "night", "shares": (1.0, 0.04)}, "it happened on a Thursday at 03:00 UTC, at night, as about 4 % of earlier payments"),
        ("amount", "AMOUNT", 10.0, {"shares": (0.9952, 0.0048)}, "amount is 10.00 EUR, as large in about 0.5 % of earlier payments"),
        ("amount", "AMOUNT", 10.0, {"shares": (0.02, 0.99)}, "amount is 10.00 EUR, as small in about 2 % of earlier payments"),
        ("amount", "AMOUNT", 10.0, {"shares": (1.0, 0.0)}, "amount is 10.00 EUR, as large in no earlier payment"),
        ("amount", "AMOUNT", 10.0, {}, "amount is 10.00 EUR"),  # a model without a drift reference
        ("risk", "FIELD_VALUE", 0.4, {"shares": (0.7, 0.3)}, "risk is 0.4, as high in about 30 % of earlier payments"),
        ("shop_count_7d", "VELOCITY", 4.0, {"shares": (0.97, 0.03)}, "4 payments of this shop in the 7 days before, as many in about 3 % of earlier payments"),
        ("shop_count_7d", "VELOCITY", 0.0, {"shares": (0.3, 1.0)}, "no payment of this shop in the 7 days before, as in about 30 % of earlier payments"),
        ("shop_seconds_since_last", "RECENT_ACTIVITY", 90.0, {"shares": (0.02, 0.98)}, "90 seconds after this shop's last payment, as soon in about 2 % of earlier payments"),
        ("is_holiday", "TIME_OF_DAY", 1.0, {"event_time": 3 * HOUR}, "it happened on a holiday on a Thursday at 03:00 UTC"),
        ("amount_against_balance", "AMOUNT_AGAINST_FIELD", 1.0, {"usual": 10.0}, "amount 10.00 is the balance"),
        ("channel_frequency", "CATEGORY", 0.19352, {}, "19 % of the payments that the model learned from have this channel"),
        ("channel_fraud_rate", "CATEGORY", 0.0234, {}, "about 2.3 % of the payments with this channel that the model learned from were fraud"),
    ],
)  # fmt: skip
def test_a_reason_claims_only_what_is_known_of_the_entity(name, code, value, facts, sentence):
    feature = Feature(name, code, "shop", 7 * DAY)
    assert (
        reason_text(
            ReasonFacts(feature, value, **{"usual": None, "amount": 10.0, "currency": "EUR", **facts})
        )
        == sentence
    )


def test_known_frauds_must_be_passed():
    with_frauds = build_catalogue(
        ("customer", "shop"), ("risk",), ("channel",), WINDOWS, (0, 6), fraud_span=DAY
    )
    history = rows((0, 10.0))
    told = (MATURITY, LATENESS, LOOKBACK, NOTHING_COMPLETE, np.ones(1, dtype=bool))
    with pytest.raises(ValueError, match="pass them"):
        raw_features(history, label_events(history, labels(), ()), np.arange(1), with_frauds, *told)
    needs_labels = {feature.name for feature in PLAN.features if not feature.label_free}
    assert needs_labels == {name for name in PLAN.encoding.names if "fraud" in name}


def test_outlier_detection_sees_every_label_free_feature_but_relations_and_no_other():
    groups = {
        group.name: [PLAN.encoding.names[place] for place in group.columns] for group in PLAN.layout.groups
    }
    assert groups["amount"] == ["amount", "customer_amount_ratio_7d", "shop_amount_ratio_7d"]
    assert groups["field"] == ["risk"]
    assert groups["category"] == ["channel_frequency"]
    free = {feature.name for feature in PLAN.features if feature.label_free} - {"amount_against_risk"}
    assert set(groups["everything"]) == free
    families = [set(columns) for name, columns in groups.items() if name != "everything"]
    shorter = {name for name in free if "amount_deviation_1d" in name or "amount_ratio_1d" in name}
    assert set.union(*families) == free - {"log_amount"} - shorter


def test_a_family_without_a_feature_is_left_out():
    plain = build_catalogue(("customer",), (), (), (DAY,), (0, 6))
    assert [group.name for group in plain.layout.groups] == [
        "amount",
        "usual",
        "deviation",
        "velocity",
        "recency",
        "time",
        "everything",
    ]


def test_a_field_called_like_a_column_of_ours_gets_another_name():
    clash = build_catalogue(
        ("customer",), ("night", "amount", "channel_frequency"), ("channel",), (DAY,), (0, 6)
    )
    assert clash.raw_names[-4:] == ("night_field", "amount_field", "channel_frequency_field", "channel_hash")
    assert len(set(clash.encoding.names)) == len(clash.encoding.names)


def test_pairs_are_those_of_the_first_four_entities():
    assert len(build_catalogue(tuple("abcdef"), (), (), (DAY,), (0, 6)).pairs) == 6


@pytest.mark.parametrize("windows", [(), (0,), (-DAY,), (7 * DAY, DAY), (DAY, DAY)])
def test_windows_must_ascend(windows):
    with pytest.raises(ValueError, match="ascending"):
        build_catalogue(("customer",), (), (), windows, (0, 6))


def test_a_model_of_an_older_version_counts_every_payment():
    fields = {
        "entities": ["customer"],
        "numeric": [],
        "categorical": ["initiator"],
        "windows": [HOUR],
        "night": [0, 6],
    }
    assert catalogue_of(fields).initiated_by == ""
    assert catalogue_of(fields | {"initiated_by": "initiator"}).initiated_by == "initiator"
