"""Challengers score beside live by their own settings; live does not notice."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.runs import challenger_text
from pipeline.config.config import Config
from pipeline.daemon.daemon import Daemon
from pipeline.errors import NotReady
from pipeline.runs import challengers, scoring_run
from pipeline.runs.backfill import backfill
from pipeline.schedule.run_context import RunSummary
from pipeline.services.monitoring.doctor import ChallengerFacts, check
from pipeline.services.session import Session
from storage.database.database import Store
from storage.frames import DAY, HOUR
from storage.queries.choices import choice_page
from storage.runs import ledger, scoring_queue
from tests.support.commands import CONFIG, fraudwatch
from tests.support.databases import Opener, opened, with_url
from tests.support.payments import (
    LABEL_HEADER,
    PAYMENT_HEADER,
    START,
    arrival_times,
    event_time,
    known_at,
    payments,
    write_csv,
)
from tests.support.sql import query
from tests.support.worlds import SMALL, load, load_arrivals, load_both

DAYS = 27
FROM = START + 19 * DAY  # a Monday
END = START + (DAYS + 6) * DAY  # every late row has arrived
SHADOW = {
    "cautious": {
        "strategy": {"method": "outlier"},
        "alerts": {"per_day": 2},
        "features": {"windows": ["1d", "3d"]},
    }
}
SHADOWED = Config.model_validate(
    SMALL.model_dump(by_alias=True, mode="json", exclude={"storage"}) | {"shadow": SHADOW}
)
OF_LIVE = (
    "SELECT transaction_id, score, outlier_score, fraud_probability, decision_value, threshold, channel, flagged, strategy, expected_loss "
    "FROM scores WHERE policy = 'live' ORDER BY transaction_id",
    "SELECT transaction_id, channel, reasons, status FROM flags ORDER BY transaction_id",
    "SELECT strategy, proposed, rule, sentence FROM choices WHERE policy = 'live' ORDER BY training_date",
    "SELECT verdict, rule, ap, cost FROM promotion_checks WHERE policy = 'live' ORDER BY training_date",
    "SELECT feature, metric, value, alarm FROM drift_metrics WHERE policy = 'live' ORDER BY window_start, feature, metric",
    "SELECT kind, status FROM ledger WHERE policy = 'live' ORDER BY kind, window_start",
)
SCORES = (
    "SELECT transaction_id, score, threshold, flagged FROM scores WHERE policy = '{}' ORDER BY transaction_id"
)


def run_daemon_on_arrivals(store: Store, config: Config, folder: Path) -> None:
    """Days of a daemon: history first, then batches with late rows, a tick after each."""
    rows, labels = payments(DAYS)
    at, known = arrival_times(rows), [known_at(row) for row in labels]
    past = [row for row in rows if event_time(row) < FROM]
    told = [row for row, when in zip(labels, known, strict=True) if when < FROM]
    load_both(store, config, folder, past, told, now=FROM - HOUR)
    scoring_queue.set_starts_at(store, "live", FROM)
    clock = [FROM]
    daemon = Daemon(lambda: config, by="daemon", clock=lambda: clock[0] + HOUR)
    while clock[0] < END:
        since, clock[0] = clock[0], clock[0] + DAY
        fresh = [
            row for row, a in zip(rows, at, strict=True) if event_time(row) >= FROM and since <= a < clock[0]
        ]
        found = [row for row, when in zip(labels, known, strict=True) if since <= when < clock[0]]
        load_arrivals(store, folder, "transactions", PAYMENT_HEADER, fresh, clock[0])
        load_arrivals(store, folder, "labels", LABEL_HEADER, found, clock[0])
        assert daemon.tick() is not None
    daemon.close()


def elsewhere(config: Config, url: str, folder: Path) -> Config:
    """Another database of the same engine: another file, or another schema of the server."""
    if url.startswith("sqlite"):
        return with_url(config, f"sqlite:///{folder / 'alone.db'}")
    moved = with_url(config, url)
    other = moved.storage.model_copy(update={"schema_": "alone"})
    return moved.model_copy(update={"storage": other})


@pytest.mark.one_engine
@pytest.mark.long
def test_live_writes_the_same_bytes_with_and_without_a_challenger(
    opener: Opener, url: str, tmp_path: Path
) -> None:
    beside, config = opener(SHADOWED), with_url(SHADOWED, url)
    run_daemon_on_arrivals(beside, config, tmp_path)
    alone = elsewhere(SMALL, url, tmp_path)
    with opened(alone) as other:
        run_daemon_on_arrivals(other, alone, tmp_path)
        for sql in OF_LIVE:
            found = query(beside, sql)
            assert found == query(other, sql), sql
            assert found, sql
    shadow = query(beside, SCORES.format("cautious"))
    begun = query(
        beside,
        "SELECT COUNT(*) FROM scores s JOIN transactions t USING (transaction_id) WHERE policy = 'live' AND event_time >= '2025-01-20'",
    )
    assert len(shadow) == begun[0][0] > 300  # all that live scored since, late rows among them
    assert {row[0] for row in query(beside, "SELECT policy FROM flags")} == {"live"}
    assert query(beside, "SELECT COUNT(*) FROM scoring_queue") == [(0,)]
    assert {row["strategy"] for row in choice_page(beside, "cautious").rows} == {"outlier"}
    kinds = {entry.kind for entry in ledger.entries(beside, "cautious")}
    assert {"score", "train", "drift"} <= kinds
    assert "prune" not in kinds  # what is old is live's to delete

    backfill(
        beside,
        config.for_challenger("cautious"),
        start=FROM,
        end=START + DAYS * DAY,
        as_of=END,
        policy="again",
        by="test",
    )
    assert query(beside, SCORES.format("again")) == shadow


def test_a_failing_challenger_ends_only_its_own_run(tmp_path: Path) -> None:
    both = SHADOWED.model_copy(update={"shadow": SHADOWED.shadow | {"brave": SHADOWED.shadow["cautious"]}})

    def run_policy(_config: Config, name: str) -> RunSummary:
        if name == "brave":
            raise NotReady("nothing is stored")
        return RunSummary(windows=1)

    failed, done = challengers.run_challengers(both, run_policy)
    assert (failed.name, failed.summary) == ("brave", None)
    assert challenger_text(failed) == "challenger brave failed: nothing is stored"
    assert (done.name, done.error) == ("cautious", None)


def small(folder: Path) -> Store:
    """A few weeks of payments, in which live's work has begun."""
    store = opened(SHADOWED, f"sqlite:///{folder / 'f.db'}")
    rows, _ = payments(24)
    path = write_csv(folder / "p.csv", PAYMENT_HEADER, rows)
    load(store, SHADOWED, "transactions", path, now=START + 24 * DAY)
    scoring_queue.set_starts_at(store, "live", FROM)
    return store


def ticking(config: Config, store: Store, now: int) -> Daemon:
    config = with_url(config, f"sqlite:///{store.display_url.removeprefix('sqlite:///')}")
    return Daemon(lambda: config, by="daemon", clock=lambda: now)


def test_a_bug_in_a_challenger_leaves_lives_tick_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = scoring_run.run

    def broken(*given: Any, policy: str, **named: Any) -> RunSummary:
        if policy != "live":
            raise ZeroDivisionError
        return run(*given, policy=policy, **named)

    monkeypatch.setattr(scoring_run, "run", broken)
    with small(tmp_path) as store:
        daemon = ticking(SHADOWED, store, START + 24 * DAY + 2 * HOUR)
        tally = daemon.tick()
        daemon.close()
    assert tally is not None
    assert tally.scored > 100
    assert [record.message for record in caplog.records].count("challenger_failed") == 1


def test_a_challenger_that_is_removed_from_the_config_gets_no_more_work(tmp_path: Path) -> None:
    now = START + 24 * DAY + 2 * HOUR
    with small(tmp_path) as store:
        daemon = ticking(SHADOWED, store, now)
        daemon.tick()
        daemon.close()
        assert scoring_queue.starts_at(store, "cautious") is not None
        scored = query(store, SCORES.format("cautious"))
        assert scored
        session = Session(store, SHADOWED, "test", clock=lambda: now)
        (challenger,) = [each.facts for each in check(session, "live") if each.subject == "challenger"]
        assert challenger == ChallengerFacts("cautious", len(scored), 0, 0, "outlier")
        assert not any(result.failed for result in check(session, "cautious"))

        daemon = ticking(SMALL, store, now)
        daemon.tick()
        daemon.close()
        assert scoring_queue.starts_at(store, "cautious") is None
        path = write_csv(tmp_path / "more.csv", PAYMENT_HEADER, [f"x1,{DAY_AFTER},c1,m1,10.00"])
        load(store, SMALL, "transactions", path, now=now + DAY)
        assert query(store, "SELECT policy, transaction_id FROM scoring_queue") == [("live", "x1")]
        assert query(store, SCORES.format("cautious")) == scored


DAY_AFTER = "2025-01-25T12:00:00Z"


def test_challengers_by_the_commands(tmp_path: Path) -> None:
    rows, labels = payments(24)
    (tmp_path / "config.toml").write_text(CONFIG + '[shadow.cautious]\nstrategy.method = "outlier"\n')
    write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows)
    write_csv(tmp_path / "l.csv", LABEL_HEADER, labels)

    def said(line: str, code: int = 0) -> str:
        return fraudwatch(tmp_path, *line.split(), code=code)

    for line in ("init", "ingest transactions p.csv", "ingest labels l.csv"):
        said(line)
    filled = said("backfill --from 2025-01-20 --to 2025-01-23")
    assert "challenger cautious: " in filled
    assert filled.count("transactions scored in 3 windows") == 2
    assert "challenger cautious: " in said("run --as-of 2025-01-25T02:00")
    assert "live" in said("policies diff live cautious")
    assert "outlier" in said("strategy list --policy cautious")
    assert "outlier" in said("models list --policy cautious")
    assert "only live raises flags" in said("doctor --policy cautious")
    said("train --shadow cautious --as-of 2025-01-24")
    assert "2025-01-24" in said("models list --policy cautious --limit 1 --format csv")
    again = "backfill --from 2025-01-20 --to 2025-01-25 --rescore --policy cautious"
    assert "is a challenger" in said(again, code=2)
    assert "configured are cautious" in said("train --shadow brave", code=2)
