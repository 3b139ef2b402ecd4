"""
The rule of knowledge, held against a reference that follows it row by row, without any cleverness.

Histories are small and nasty: few entities, ties in time, rows that arrive in any order, labels that come
early, late, before their transaction, or change their mind.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.catalogue import build_catalogue
from pipeline.features.compute import raw_features
from pipeline.features.fraud_history import FraudHistory
from pipeline.features.label_history import label_events, status_at
from storage.frames import (
    DAY,
    FRAUD,
    GENUINE,
    HOUR,
    MONEY,
    NEITHER,
    NEVER,
    UNKNOWN,
    Coded,
    Completeness,
    Labels,
    Transactions,
)

WINDOWS = (2 * HOUR, 5 * HOUR, 9 * HOUR)
FRAUD_SPAN = 16 * HOUR  # longer than windows and maturity reach
PRECEDENCE = ("audit", "review", "chargeback")
STATUSES = (FRAUD, FRAUD, GENUINE, GENUINE, NEITHER, UNKNOWN)  # UNKNOWN: it retracts another
SOURCES = ("chargeback", "audit", "hearsay", "review", "rumour")
ENTITIES = {"customer": 3, "terminal": 2, "device": 2}
NAMES = {FRAUD: "fraud", GENUINE: "genuine", UNKNOWN: "unknown", NEITHER: "neither"}
PLAN = build_catalogue(tuple(ENTITIES), ("risk",), ("channel",), WINDOWS, (0, 6), fraud_span=FRAUD_SPAN)
WITH_INITIATOR = build_catalogue(
    tuple(ENTITIES), ("risk",), ("channel",), WINDOWS, (0, 6), fraud_span=FRAUD_SPAN,
    initiated_by="initiator", merchant_initiated=("merchant", " RETRY"),
)  # fmt: skip
INITIATORS = ("customer", "Merchant", "retry ", "")  # two of them stay out of velocity, in any case
PAST = {name for name in PLAN.raw_names if name.startswith(tuple(ENTITIES))}
QUARTER = HOUR // 4
SPAN = 30  # hours
EXAMPLES = settings(max_examples=150, deadline=None)


# ── histories ──


@st.composite
def worlds(draw):
    """Transactions, labels and everything else that `raw_features` is told."""
    n = draw(st.integers(1, 22))
    hours = st.integers(0, SPAN)
    time = np.array(sorted(draw(st.lists(hours, min_size=n, max_size=n)))) * HOUR
    delays = st.sampled_from((0, 0, 0, 0, QUARTER, HOUR, 3 * HOUR, 12 * HOUR, 40 * HOUR))
    ingested = time + np.array(draw(st.lists(delays, min_size=n, max_size=n)))
    if draw(st.booleans()):  # batches: rows become visible together
        ingested = np.maximum(time, -(-ingested // (4 * HOUR)) * 4 * HOUR)
    cents = st.sampled_from((0, 1, 100, 100, 999, 25_000, 10**9, -500))
    amount = np.array(draw(st.lists(cents, min_size=n, max_size=n)), dtype=np.int64) * (MONEY // 100)
    columns = {name: draw(coded(n, size)) for name, size in (ENTITIES | {"channel": 2}).items()}
    columns["initiator"] = replace(draw(coded(n, 4)), values=np.array(INITIATORS, dtype=object))
    risk = np.array(draw(st.lists(st.sampled_from((0.0, 1.5, np.nan)), min_size=n, max_size=n)))
    return {
        "history": Transactions(ids(n), time, ingested, amount, columns, {"risk": risk}),
        "labels": draw(labels_of(n)),
        "maturity": draw(st.sampled_from((0, HOUR, 4 * HOUR))),
        "allowed_lateness": draw(st.sampled_from((0, QUARTER, HOUR))),
        "completeness": draw(completenesses()),
        "silence_ok": np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))),
        "catalogue": draw(st.sampled_from((PLAN, WITH_INITIATOR))),
    }


def ids(n):
    return np.array([f"t{place:03}" for place in range(n)], dtype=object)


@st.composite
def coded(draw, n, size):
    codes = draw(st.lists(st.integers(-1, size - 1), min_size=n, max_size=n))
    return Coded(np.array(codes, dtype=np.int32), np.array([f"v{c}" for c in range(size)], dtype=object))


@st.composite
def labels_of(draw, n):
    m = draw(st.integers(0, 25))
    at = np.array(draw(st.lists(st.integers(0, SPAN + 5), min_size=m, max_size=m)), dtype=np.int64) * HOUR
    later = draw(st.lists(st.sampled_from((0, 0, HOUR, 7 * HOUR)), min_size=m, max_size=m))
    last = draw(st.sampled_from((1, n)))  # few transactions with many labels, or many
    of = np.array(draw(st.lists(st.integers(0, last), min_size=m, max_size=m)), dtype=np.int64)
    status = np.array(draw(st.lists(st.sampled_from(STATUSES), min_size=m, max_size=m)), dtype=np.int8)
    retracts = np.where(status == UNKNOWN, np.maximum(np.arange(m) - 1 - of % 2, 0), -1)  # one before
    return Labels(
        label_id=np.arange(m),
        transaction_id=np.array([f"t{p:03}" for p in of], dtype=object),
        status=status,
        source=Coded(
            np.array(draw(st.lists(st.integers(0, 4), min_size=m, max_size=m)), dtype=np.int32),
            np.array(SOURCES, dtype=object),
        ),
        known_at=at,
        recorded_at=at + np.array(later, dtype=np.int64),
        retracts=retracts,
        bulk=Coded(np.full(m, -1, dtype=np.int32), np.empty(0, dtype=object)),
    )


@st.composite
def completenesses(draw):
    lived = draw(st.sampled_from((NEVER, 8 * HOUR, 60 * HOUR)))
    visible = sorted(draw(st.lists(st.integers(0, SPAN), max_size=3)))
    through = sorted(draw(st.lists(st.integers(0, SPAN), min_size=len(visible), max_size=len(visible))))
    return Completeness(
        lived, np.array(visible, dtype=np.int64) * HOUR, np.array(through, dtype=np.int64) * HOUR
    )


def computed(world, rows=None, frauds=None):
    history, labels = world["history"], world["labels"]
    return raw_features(
        history,
        label_events(history, labels, PRECEDENCE),
        np.arange(len(history)) if rows is None else rows,
        world["catalogue"],
        maturity=world["maturity"],
        allowed_lateness=world["allowed_lateness"],
        lookback=WINDOWS[-1] + world["maturity"],
        completeness=world["completeness"],
        silence_ok=world["silence_ok"],
        frauds=frauds_of(world) if frauds is None else frauds,
    )


def frauds_of(world):
    return FraudHistory.of(world["history"], world["labels"], PRECEDENCE)


# ── the reference ──


def reference(world, t):
    """Every column of row t that looks at other rows, by name, straight from the rule."""
    history, maturity = world["history"], world["maturity"]
    now = int(history.event_time[t])
    as_of = max(now + world["allowed_lateness"], int(history.ingested_at[t]))
    visible = [h for h in range(t) if history.ingested_at[h] <= as_of]
    lookback = WINDOWS[-1] + maturity
    found = {}
    by_customer = [h for h in visible if not initiated(world, h) and not initiated(world, t)]
    for entity in ENTITIES:
        past = [h for h in visible if together(history, (entity,), h, t)]
        own = [h for h in by_customer if together(history, (entity,), h, t)]
        for window, name in zip(WINDOWS, ("2h", "5h", "9h"), strict=True):
            recent = [h for h in past if now - window < history.event_time[h] <= now]
            shifted = [h for h in past if now - maturity - window < history.event_time[h] <= now - maturity]
            for what, value in amounts(history, recent, t).items():
                found[f"{entity}_{what}_{name}"] = value
            found[f"{entity}_count_{name}"] = len([h for h in recent if h in own])
            answers = [answer(world, h, now) for h in shifted]
            found[f"{entity}_matured_frauds_{name}"] = answers.count("fraud")
            found[f"{entity}_matured_known_{name}"] = len(answers) - answers.count("unknown")
            found[f"{entity}_known_frauds_{name}"] = [current(world, h, now) for h in recent].count("fraud")
        span = [h for h in past if history.event_time[h] > now - FRAUD_SPAN and plausible(world, h)]
        frauds = [h for h in span if current(world, h, now) == "fraud"]
        found[f"{entity}_known_frauds"] = len(frauds)
        found[f"{entity}_seconds_since_fraud"] = since(history, frauds, now, FRAUD_SPAN) / 1e6
        found[f"{entity}_seconds_since_last"] = since(history, own, now, lookback) / 1e6
    for pair in itertools.combinations(ENTITIES, 2):
        own = [h for h in by_customer if together(history, pair, h, t)]
        there = all(history.columns[entity].codes[t] >= 0 for entity in pair) and not initiated(world, t)
        new = there and since(history, own, now, lookback) >= lookback
        found["_with_".join(pair) + "_first_seen"] = float(new)
    return found


def together(history, entities, h, t):
    return all(history.columns[name].codes[h] == history.columns[name].codes[t] >= 0 for name in entities)


def plausible(world, h):
    """Whether a label of h says fraud that was not known more than a day before h happened."""
    labels, history = world["labels"], world["history"]
    return any(
        labels.status[m] == FRAUD and labels.known_at[m] >= history.event_time[h] - DAY
        for m in range(len(labels))
        if labels.transaction_id[m] == history.transaction_id[h]
    )


def initiated(world, h):
    """Whether row h stays out of velocity and first meetings."""
    column = world["history"].columns["initiator"]
    word = column.values[column.codes[h]] if column.codes[h] >= 0 else ""
    return bool(world["catalogue"].initiated_by) and word in ("Merchant", "retry ")


def since(history, past, now, lookback):
    return min([lookback, *(now - int(history.event_time[h]) for h in past)])


def log_amount(amount):
    return math.copysign(round(math.log1p(abs(amount) / MONEY) * 10_000), amount) / 10_000


def amounts(history, recent, t):
    values = [int(history.amount[h]) for h in recent]
    logs = [log_amount(value) for value in values]
    n, this = len(values), log_amount(int(history.amount[t]))
    mean = sum(values) / n / MONEY if n else math.nan
    log_mean = sum(logs) / n if n else math.nan
    scatter = sum((log - log_mean) ** 2 for log in logs)
    spread = math.sqrt(max((scatter + 4 * 0.7**2) / (n + 3), 0.1**2) * (1 + 1 / n)) if n else math.nan
    return {
        "count": n,
        "amount_mean": mean,
        "amount_spread": math.sqrt(scatter / (n - 1)) if n > 1 else math.nan,
        "amount_deviation": (this - log_mean) / spread if n else 0.0,
        "amount_ratio": (int(history.amount[t]) / MONEY + 1) / (max(mean, 0) + 1) if n else 1.0,
    }


def current(world, h, now):
    """The label of h as known at an instant: first source in precedence, newest within it."""
    labels = world["labels"]
    source = [SOURCES[code] for code in labels.source.codes]
    known = [
        m
        for m in range(len(labels))
        if labels.transaction_id[m] == world["history"].transaction_id[h] and labels.available_at[m] <= now
    ]
    retracted = [labels.retracts[m] for m in known]
    mine = [m for m in known if labels.status[m] != UNKNOWN and m not in retracted]

    def preferred(m):
        rank = PRECEDENCE.index(source[m]) if source[m] in PRECEDENCE else len(PRECEDENCE)
        return (-rank, labels.known_at[m], labels.label_id[m])

    def contradicted(m):
        return (
            labels.status[m] == GENUINE
            and source[m] in ("review", "audit")
            and any(
                labels.status[k] == FRAUD and labels.known_at[k] > labels.known_at[m]
                for k in mine
                if source[k] not in ("review", "audit")
            )
        )

    left = [m for m in mine if not contradicted(m)]
    return NAMES[labels.status[max(left, key=preferred)]] if left else "unknown"


def answer(world, h, now):
    """The label, or what silence says; a label that says neither is none, and there is no silence either."""
    said = current(world, h, now)
    if said == "neither":
        return "unknown"
    if said != "unknown" or not world["silence_ok"][h]:
        return said
    complete = int(world["completeness"].at(np.array([now]))[0])
    old = int(world["history"].event_time[h]) + world["maturity"] <= complete
    return "genuine" if old else "unknown"


# ── the properties ──


@EXAMPLES
@given(worlds())
def test_every_column_is_what_the_rule_says(world):
    raw = computed(world)
    for t in range(len(raw)):
        expected = reference(world, t)
        assert set(expected) == PAST
        got = {name: raw[t, PLAN.raw_names.index(name)] for name in expected}
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-9, err_msg=f"{name} of row {t}")


@EXAMPLES
@given(worlds(), st.data())
def test_one_batch_windows_and_single_rows_are_byte_equal(world, data):
    raw = computed(world)
    cut = data.draw(st.integers(0, len(raw)))
    windows = [computed(world, np.arange(0, cut)), computed(world, np.arange(cut, len(raw)))]
    single = [computed(world, np.array([t])) for t in range(len(raw))]
    assert np.concatenate(windows).tobytes() == raw.tobytes()
    assert np.concatenate(single).tobytes() == raw.tobytes()


@EXAMPLES
@given(worlds(), st.data())
def test_a_longer_history_changes_nothing(world, data):
    raw, history = computed(world), world["history"]
    t = data.draw(st.integers(0, len(history) - 1))
    start = int(history.event_time[t]) - WINDOWS[-1] - world["maturity"]
    kept = history.event_time > start
    counted = history.event_time > int(history.event_time[t]) - FRAUD_SPAN
    frauds = frauds_of(world | {"history": history.take(counted)})
    assert alone(world, t, kept, frauds) == raw[t].tobytes()


@EXAMPLES
@given(worlds(), st.data())
def test_unrelated_rows_change_nothing(world, data):
    raw, history = computed(world), world["history"]
    t = data.draw(st.integers(0, len(history) - 1))
    related = np.zeros(len(history), dtype=bool)
    for entity in ENTITIES:
        codes = history.columns[entity].codes
        related |= (codes == codes[t]) & (codes >= 0)
    related[t] = True
    assert alone(world, t, related) == raw[t].tobytes()


@EXAMPLES
@given(worlds(), st.data())
def test_what_a_row_may_not_know_changes_nothing(world, data):
    """Future rows, rows visible later and labels not known yet are dropped, or altered."""
    raw, history, labels = computed(world), world["history"], world["labels"]
    t = data.draw(st.integers(0, len(history) - 1))
    now = int(history.event_time[t])
    as_of = max(now + world["allowed_lateness"], int(history.ingested_at[t]))
    may_know = (np.arange(len(history)) <= t) & (history.ingested_at <= as_of)
    assert alone(world, t, may_know) == raw[t].tobytes()

    amount = np.where(may_know, history.amount, 777 * MONEY)
    columns = dict(history.columns)
    for entity in ENTITIES:  # every row it may not see becomes one of its own entities'
        codes = columns[entity].codes
        columns[entity] = replace(columns[entity], codes=np.where(may_know, codes, codes[t]))
    known = labels.available_at <= now
    other = np.where(labels.status == FRAUD, GENUINE, FRAUD)
    lies = replace(
        labels,
        status=np.where(known, labels.status, other),
        retracts=np.where(known, labels.retracts, -1),
    )
    altered = world | {"history": replace(history, amount=amount, columns=columns), "labels": lies}
    assert computed(altered, np.array([t])).tobytes() == raw[t].tobytes()


def alone(world, t, kept, frauds=None):
    """Row t computed from these rows, and the labels known by then, only, and from these frauds; as bytes."""
    labels, history = world["labels"], world["history"]
    known = labels.available_at <= history.event_time[t]
    smaller = {
        "history": history.take(kept),
        "labels": labels.take(known),
        "silence_ok": world["silence_ok"][kept],
    }
    return computed(world | smaller, np.array([int(kept[:t].sum())]), frauds).tobytes()


@EXAMPLES
@given(worlds(), st.integers(0, SPAN + 20))
def test_status_is_what_the_labels_say(world, hour):
    history, labels = world["history"], world["labels"]
    status = status_at(history, label_events(history, labels, PRECEDENCE), hour * HOUR)
    assert [NAMES[s] for s in status] == [current(world, h, hour * HOUR) for h in range(len(history))]
