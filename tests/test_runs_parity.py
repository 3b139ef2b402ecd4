"""
However the same stored rows are lived through, every score and flag is the same to the last bit.

A database is filled as life fills it: the past as history, then batches that arrive twice a day with a seventh of
their rows days late, labels two days after the fact and some of them corrected, while ticks go on. Then the same
rows are lived through again in other ways, each under a policy of its own. On the way a rule is added and ended.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.config import Config
from pipeline.features import history
from pipeline.features.history import History
from pipeline.rules.engine import stored_text
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run
from storage.database.database import Store
from storage.frames import DAY, HOUR
from storage.review import rules_and_mutes
from storage.runs import scoring_queue
from tests.support.databases import Copier, World, with_url
from tests.support.payments import (
    LABEL_HEADER,
    PAYMENT_HEADER,
    START,
    arrival_times,
    event_time,
    known_at,
    payments,
    time_text,
)
from tests.support.sql import query
from tests.support.worlds import SMALL, load_arrivals, load_both

DAYS = 29
FROM, TO = START + 19 * DAY, START + DAYS * DAY
END = TO + 6 * DAY  # every late row has arrived
OTHER_GRID = SMALL.model_copy(update={"schedule": SMALL.schedule.model_copy(update={"window": 6 * HOUR})})
SCORES = (
    "SELECT transaction_id, score, outlier_score, fraud_probability, decision_value, threshold, channel, flagged, strategy, expected_loss "
    "FROM scores WHERE policy = '{}' ORDER BY transaction_id"
)


def score_on_arrival(store: Store, folder: Path) -> None:
    """Fill the database as life does, with ticks of the live policy in between."""
    rows, labels = payments(DAYS)
    times, at = [event_time(row) for row in rows], arrival_times(rows)
    known = [known_at(row) for row in labels]
    past = [row for row, time in zip(rows, times, strict=True) if time < FROM]
    answers = [row for row, time in zip(labels, known, strict=True) if time < FROM]
    load_both(store, SMALL, folder, past, answers, now=FROM - HOUR)
    scoring_queue.set_starts_at(store, "live", FROM)
    now = FROM
    while now < END:
        since, now = now, now + 12 * HOUR
        fresh = [r for r, t, a in zip(rows, times, at, strict=True) if t >= FROM and since <= a < now]
        told = [r for r, k in zip(labels, known, strict=True) if since <= k < now]
        corrected = [
            r.replace(",1,", ",0,").replace(r.split(",")[2], time_text(now - HOUR))
            for r, k in zip(labels, known, strict=True)
            if since <= k + 3 * DAY < now and int(r[1:7]) % 5 == 0
        ]
        load_arrivals(store, folder, "transactions", PAYMENT_HEADER, fresh, now)
        load_arrivals(store, folder, "labels", LABEL_HEADER, told + corrected, now)
        if now == FROM + 5 * DAY:
            said, fields = stored_text("amount > 1.5 * customer_id_amount_mean_7d", SMALL, displays=True)
            row = {"text": said, "fields": dict(fields)}
            rules_and_mutes.add(store, rules_and_mutes.RULE, row, END, "limit", "test", now)
        if now == FROM + 9 * DAY:
            rules_and_mutes.end(store, rules_and_mutes.RULE, 1, "test", now)
        run(store, SMALL, as_of=now + HOUR, policy="live", by="tick")


SCORED_ON_ARRIVAL = World("scored_on_arrival", SMALL, score_on_arrival)


def ticks(store: Store, config: Config, policy: str, seed: int) -> None:
    """Scheduled runs at uneven times of a simulated clock."""
    scoring_queue.set_starts_at(store, policy, FROM)
    rng, now = np.random.default_rng(seed), FROM
    while now < END:
        now = min(now + int(rng.integers(HOUR, 3 * DAY)), END)
        run(store, config, as_of=now, policy=policy, by="tick")


def whole(
    store: Store, config: Config, policy: str, *, start: int = FROM, end: int = TO, **options: int
) -> None:
    backfill(store, config, start=start, end=end, as_of=END, policy=policy, by="backfill", **options)


def in_pieces(store: Store, config: Config, policy: str, seed: int) -> None:
    """A backfill cut at random days, its pieces in a random order, one of them in two processes."""
    rng = np.random.default_rng(seed)
    cuts = [0, *sorted(rng.choice(np.arange(1, 10), 3, replace=False).tolist()), 10]
    pieces = list(pairwise(cuts))
    for place in rng.permutation(len(pieces)):
        start, end = pieces[place]
        workers = 2 if place == 0 else 1
        whole(store, config, policy, start=FROM + start * DAY, end=FROM + end * DAY, workers=workers)


def after_downtime(store: Store, config: Config, policy: str) -> None:
    scoring_queue.set_starts_at(store, policy, FROM)
    run(store, config, as_of=FROM + 2 * DAY + HOUR, policy=policy, by="tick")
    run(store, config, as_of=END, policy=policy, by="tick", catch_up=4)
    for _ in range(4):
        run(store, config, as_of=END, policy=policy, by="tick", catch_up=4)


@pytest.mark.one_engine
@pytest.mark.long
def test_every_way_of_running_writes_the_same_bytes(copier: Copier, url: str) -> None:
    store, small, other = copier(SCORED_ON_ARRIVAL), with_url(SMALL, url), with_url(OTHER_GRID, url)
    ticks(store, other, "other_grid", 2)
    in_pieces(store, small, "pieces", 3)
    after_downtime(store, small, "downtime")
    live = query(store, SCORES.format("live"))
    assert sum(row[6] == "rule" for row in live) > 3
    assert len(live) == sum(event_time(row) >= FROM for row in payments(DAYS)[0]) > 500
    for policy in ("other_grid", "pieces", "downtime"):
        assert query(store, SCORES.format(policy)) == live, policy
    chosen = "SELECT training_date, strategy, rule, sentence FROM choices WHERE policy = '{}' AND training_date < '2025-01-30' ORDER BY training_date"
    assert len({str(query(store, chosen.format(p))) for p in ("live", "pieces", "downtime")}) == 1
    assert query(store, "SELECT COUNT(*) FROM scoring_queue WHERE policy = 'live'") == [(0,)]
    flagged = query(store, "SELECT COUNT(*) FROM scores WHERE policy = 'live' AND flagged")
    assert flagged == query(store, "SELECT COUNT(*) FROM flags")
    assert flagged[0][0] > 5


def without_arrival(load_history: Callable[..., History]) -> Callable[..., History]:
    """The mutation: a history that has forgotten when its rows arrived."""

    def mutated(*given: object, **named: object) -> History:
        found = load_history(*given, **named)
        rows = replace(found.transactions, ingested_at=found.transactions.event_time)
        return replace(found, transactions=rows)

    return mutated


@pytest.mark.one_engine
def test_without_the_knowledge_filter_the_ways_part(
    copier: Copier, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, small = copier(SCORED_ON_ARRIVAL), with_url(SMALL, url)
    live = query(store, SCORES.format("live"))
    monkeypatch.setattr(history, "load", without_arrival(history.load))
    whole(store, small, "mutated")
    assert query(store, SCORES.format("mutated")) != live
