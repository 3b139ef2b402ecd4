"""The services that list: typed records in pages, the same for every door, with exact money and true times."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.rules.engine import stored_text
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import train_once
from pipeline.services.data.feeds import list_feeds
from pipeline.services.entities import entity_filter
from pipeline.services.models.policies import PolicyDiffRequest, compare_policies, list_differences
from pipeline.services.pages import Page, every
from pipeline.services.records import Amount, as_amount
from pipeline.services.review.flags import FlagRecord, FlagRequest, count_flags, list_flags, show_flag
from pipeline.services.runs.runs import list_gaps, list_runs
from pipeline.services.session import Session
from storage.admin.erase import erase
from storage.admin.personal_rows import PersonValue
from storage.database import tables
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY, HOUR
from storage.ingest import feed_state
from storage.ingest.feed_state import WatchedFile
from storage.notifications import events
from storage.queries.flags import FlagOrder, top_flags
from storage.review.flag_order import set_order
from storage.runs import scoring_queue
from tests.support.databases import Opener
from tests.support.payments import PAYMENT_HEADER, write_csv
from tests.support.worlds import FROM, NOW, SMALL, load

LIVE = FlagRequest("live")
CARD = "4111111111111111"


def session_of(store: Store, config: Config = SMALL) -> Session:
    return Session(store, config, "ann", clock=lambda: NOW)


# Flags


@pytest.fixture
def session(first_week: Store) -> Session:
    """A week of flags, on each engine."""
    return session_of(first_week)


def test_flags_are_filtered_and_counted_alike(session: Session) -> None:
    flags = list_flags(session, LIVE).items
    assert count_flags(session, LIVE) == len(flags) > 5
    middle = flags[len(flags) // 2]
    filters = {
        "since": [flag for flag in flags if flag.event_time >= middle.event_time],
        "until": [flag for flag in flags if flag.event_time < middle.event_time],
        "status": [flag for flag in flags if flag.status == middle.status],
        "channel": [flag for flag in flags if flag.channel == middle.channel],
        "min_score": [flag for flag in flags if flag.score >= middle.score],
        "entity": [flag for flag in flags if flag.fields["customer_id"] == middle.fields["customer_id"]],
    }
    values = {
        "since": middle.event_time, "until": middle.event_time, "status": middle.status, "channel": middle.channel,
        "min_score": middle.score, "entity": ("customer_id", str(middle.fields["customer_id"])),
    }  # fmt: skip
    for name, expected in filters.items():
        request = replace(LIVE, **{name: values[name]})  # type: ignore[arg-type]
        assert list(list_flags(session, request).items) == expected, name
        assert count_flags(session, request) == len(expected), name
    assert list(every(pairs_of_flags, session, LIVE)) == list(flags)


def pairs_of_flags(
    session: Session, request: FlagRequest, *, limit: int, cursor: str | None
) -> Page[FlagRecord]:
    return list_flags(session, request, limit=min(limit, 2), cursor=cursor)


@pytest.mark.parametrize("order", ["loss", "time", "score", "amount"])
def test_flags_are_listed_in_each_order_page_by_page_where_many_are_equal(
    session: Session, order: FlagOrder
) -> None:
    t = session.store.transactions
    ids = [flag.transaction_id for flag in list_flags(session, LIVE).items]
    with session.store.write() as connection:
        connection.execute(update(t).values(amount=103.59, amount_base=103.5912))
        connection.execute(update(tables.scores).values(score=0.9, expected_loss=12.345678901))
        set_order(connection, "live", ids)
    request = replace(LIVE, order=order)
    whole = list_flags(session, request).items
    keys = dict.fromkeys(("loss", "score", "amount"), lambda _: 0) | {
        "time": lambda flag: -flag.event_time.timestamp()
    }
    assert list(whole) == sorted(whole, key=lambda flag: (keys[order](flag), flag.transaction_id))
    assert tuple(every(pairs_of_flags, session, request)) == whole
    cursor = list_flags(session, request, limit=2).next_cursor
    for other in {"loss", "time", "score", "amount"} - {order}:
        with pytest.raises(InputError, match="no cursor of this list"):
            list_flags(session, replace(LIVE, order=other), cursor=cursor)  # type: ignore[arg-type]  # a str to mypy


def test_the_largest_expected_losses_come_first_then_the_highest_scores_page_by_page(
    session: Session,
) -> None:
    names = sorted(flag.transaction_id for flag in list_flags(session, LIVE).items)
    given = [  # ties in the expected loss and in the score; 0 is an expected loss, none is not
        (20.5, 0.2), (20.5, 0.3), (0.0, 0.9), (20.5, 0.3), *[(None, 0.9)] * 2, (None, 0.4), *[(1e-9, 0.5)] * len(names),
    ][: len(names)]  # fmt: skip
    s = tables.scores.c
    with session.store.write() as connection:
        for name, (loss, score) in zip(names, given, strict=True):
            changed = update(tables.scores).where(s.policy == "live", s.transaction_id == name)
            connection.execute(changed.values(expected_loss=loss, score=score))
        set_order(connection, "live", names)
    ranked = sorted(
        zip(names, given, strict=True),
        key=lambda flag: (flag[1][0] is None, -(flag[1][0] or 0), -flag[1][1], flag[0]),
    )
    for flags in (list_flags(session, LIVE).items, tuple(every(pairs_of_flags, session, LIVE))):
        assert [flag.transaction_id for flag in flags] == [name for name, _ in ranked]
    top = top_flags(session.store, "live", FROM, FROM + 7 * DAY, 3)
    assert [row["transaction_id"] for row in top] == [name for name, _ in ranked[:3]]
    waiting = events.flags(session.store, "live", names)
    open_ones = {flag.transaction_id for flag in flags if flag.status == "open"}
    assert [row["transaction_id"] for row in waiting] == [name for name, _ in ranked if name in open_ones]


def test_muted_flags_can_be_left_out_or_listed_alone(session: Session) -> None:
    first, *others = list_flags(session, LIVE).items
    f = tables.flags.c
    with session.store.write() as connection:
        connection.execute(
            update(tables.flags).where(f.transaction_id == first.transaction_id).values(muted_by=7)
        )
    assert [flag.muted_by for flag in list_flags(session, replace(LIVE, muted=True)).items] == [7]
    assert list(list_flags(session, replace(LIVE, muted=False)).items) == others
    assert count_flags(session, replace(LIVE, muted=True)) == 1


def test_one_flag_has_exact_money_all_reasons_and_its_fields(session: Session) -> None:
    name = list_flags(session, LIVE, limit=1).items[0].transaction_id
    t = session.store.transactions
    with session.store.write() as connection:
        connection.execute(
            update(t).where(t.c.transaction_id == name).values(amount=103.59, amount_base=103.5912)
        )
    flag = show_flag(session, "live", name)
    assert (flag.amount, flag.amount_base) == (
        Amount(Decimal("103.59"), "EUR"),
        Amount(Decimal("103.5912"), "EUR"),
    )
    assert str(flag.amount.value) == "103.59"
    assert len(flag.reasons) >= 1
    assert all(reason.text for reason in flag.reasons)
    assert set(flag.fields) == {"customer_id", "terminal_id"}
    with pytest.raises(Unknown) as caught:
        show_flag(session, "live", "no such payment")
    assert caught.value.code == "unknown_flag"


@pytest.mark.parametrize(
    ("value", "text"),
    [(5.0, "5.00"), (0.1, "0.10"), (1e6, "1000000.00"), (0.1234, "0.1234"), (1.505, "1.505")],
)
def test_an_amount_has_cents_and_no_digit_that_is_not_stored(value: float, text: str) -> None:
    assert str(as_amount(value, "EUR").value) == text


# A value that a person typed, beside a stored one


@pytest.fixture
def hashed(opener: Opener, tmp_path: Path) -> Session:
    """Two payments of a hashed customer, of which one is flagged."""
    key = tmp_path / "key"
    key.write_text("a key of sixteen characters and more")
    schema = SMALL.schema_.model_dump() | {"hash": ["customer_id"], "hash_key_file": str(key)}
    config = Config.model_validate({"schema": schema, "labels": {"never_by_silence": {}}})
    store = opener(config)
    rows = [
        f"p{n},2025-01-0{n}T00:00:00Z,{customer},m1,5" for n, customer in ((1, CARD), (2, CARD), (3, "c2"))
    ]
    load(store, config, "transactions", write_csv(tmp_path / "payments.csv", PAYMENT_HEADER, rows))
    flag_payments(store, "p1", "p3")
    return session_of(store, config)


def flag_payments(store: Store, *names: str) -> None:
    both = {"policy": "live", "run_id": 1, "model_id": 1, "channel": "outlier"}
    scored = both | {"score": 0.9, "flagged": True, "strategy": "outlier"}
    flagged = both | {"reasons": [], "status": "open"}
    with store.write() as connection:
        connection.execute(insert(tables.scores), [scored | {"transaction_id": name} for name in names])
        connection.execute(insert(tables.flags), [flagged | {"transaction_id": name} for name in names])
        set_order(connection, "live", names)


def test_a_field_hides_no_column_of_flags_that_has_its_name(opener: Opener, tmp_path: Path) -> None:
    fields = ["Status", "reviewer", "Expected_Loss"]  # SQLite ignores the case of names, Postgres does not
    config = SMALL.model_copy(
        update={"schema_": SMALL.schema_.model_copy(update={"categorical": tuple(fields)})}, deep=True
    )
    store = opener(config)
    path = write_csv(
        tmp_path / "payments.csv",
        ",".join([PAYMENT_HEADER, *fields]),
        ["p1,2025-01-01T00:00:00Z,c1,m1,5,Paid,Bob,much"],
    )
    load(store, config, "transactions", path)
    flag_payments(store, "p1")
    (flag,) = list_flags(session_of(store, config), replace(LIVE, status="open")).items
    assert (flag.status, flag.reviewer, flag.expected_loss) == ("open", None, None)
    assert [flag.fields[name] for name in fields] == ["Paid", "Bob", "much"]


@pytest.mark.parametrize("typed", [CARD, f"  {CARD} "])
def test_a_hashed_entity_is_found_by_its_plain_value(hashed: Session, typed: str) -> None:
    request = replace(LIVE, entity=("customer_id", typed))
    assert [flag.transaction_id for flag in list_flags(hashed, request).items] == ["p1"]
    assert count_flags(hashed, request) == 1
    plain = replace(LIVE, entity=("terminal_id", " m1"))
    assert count_flags(hashed, plain) == 2


def test_rules_mutes_and_erasures_meet_the_same_stored_value(hashed: Session, tmp_path: Path) -> None:
    t = hashed.store.transactions.c
    with hashed.store.read() as connection:
        stored = connection.scalar(select(t.customer_id).where(t.transaction_id == "p1"))
    assert entity_filter(hashed, "customer_id", CARD) == stored != CARD
    cards = tmp_path / "cards.txt"
    cards.write_text(f"{CARD}\nc9\n")
    for rule in (
        f'customer_id = "{CARD}"',
        f'customer_id != "{CARD}"',
        f'customer_id in ("{CARD}", "c9")',
        f"customer_id in @{cards}",
    ):
        text, _ = stored_text(rule, hashed.config, displays=True)
        assert str(stored) in text, rule
        assert CARD not in text, rule
    erased = erase(
        hashed.store, [PersonValue("customer_id", entity_filter(hashed, "customer_id", CARD))], "ann", NOW
    )
    assert erased.counts["transactions"] == 2
    assert count_flags(hashed, replace(LIVE, entity=("customer_id", CARD))) == 0


@pytest.mark.parametrize(
    ("entity", "code"),
    [(("planet", "mars"), "unknown_entity_column"), (("amount", "5"), "unknown_entity_column"), (("customer_id", " "), "empty_entity")],
)  # fmt: skip
def test_an_entity_that_cannot_be_one_is_refused(
    session: Session, entity: tuple[str, str], code: str
) -> None:
    for read in (list_flags, count_flags):
        with pytest.raises(InputError) as caught:
            read(session, replace(LIVE, entity=entity))
        assert caught.value.code == code


# Runs, gaps and feeds


def test_a_run_shows_the_time_that_is_known_of_it(loaded: Store) -> None:
    train_once(loaded, SMALL, date=FROM, as_of=FROM + HOUR, policy="live", by="test")
    (run,) = list_runs(session_of(loaded), "live").items
    assert (run.kind, run.status, run.as_of) == ("train", "done", as_datetime(FROM + HOUR))
    assert run.counts is not None
    assert run.counts["trainings"] == 1
    assert list_runs(session_of(loaded), "other").items == ()


def test_gaps_come_with_a_remedy_that_names_no_command(session: Session) -> None:
    failed = {
        "policy": "live", "kind": "score", "window_start": FROM + 20 * DAY, "window_end": FROM + 21 * DAY, "due_at": FROM,
        "attempts": 3, "status": "failed", "error": "broken", "not_before": None,
    }  # fmt: skip
    with session.store.write() as connection:
        connection.execute(insert(tables.ledger), [failed, failed | {"policy": "other", "not_before": NOW}])
    gap = list_gaps(session, "live").items[-1]
    assert (gap.window_end, gap.attempts, gap.error) == (as_datetime(FROM + 21 * DAY), 3, "broken")
    assert gap.remedy == "repeat_window"
    assert [gap.remedy for gap in list_gaps(session, "other").items] == ["repeat_backfill"]
    scoring_queue.set_starts_at(session.store, "other", FROM + 20 * DAY)
    assert [gap.remedy for gap in list_gaps(session, "other").items] == ["wait"]


def test_feeds_are_queries_with_their_time_and_files_with_their_path(loaded: Store) -> None:
    feed_state.save_cursor(loaded, "warehouse", FROM + 5, NOW, None)
    feed_state.save_file(loaded, "inbox", WatchedFile("a.csv", 1, 1, "failed", NOW, None, "no header"))
    query, file = list_feeds(session_of(loaded)).items
    assert (query.feed, query.read_through, query.path, query.status) == (
        "warehouse",
        as_datetime(FROM + 5),
        None,
        "done",
    )
    assert (file.feed, file.read_through, file.path, file.error) == ("inbox", None, "a.csv", "no header")


# Policies


def test_two_policies_differ_where_one_flags_and_the_other_does_not(first_week: Store) -> None:
    backfill(first_week, SMALL, start=FROM, end=FROM + 7 * DAY, as_of=NOW, policy="other", by="test")
    s = tables.scores.c
    flagged = list_flags(session_of(first_week), LIVE).items
    name = flagged[0].transaction_id
    with first_week.write() as connection:
        mine = (s.policy == "other") & (s.transaction_id == name)
        connection.execute(update(tables.scores).where(mine).values(flagged=False))
        connection.execute(update(tables.scores).values(in_sample=False))
        scored = connection.scalar(select(func.count()).where(s.policy == "live"))
    session = session_of(first_week)
    request = PolicyDiffRequest("other")
    summary = compare_policies(session, request)
    assert (summary.transactions, summary.in_sample) == (scored, 0)
    assert (summary.only_policy.flags, summary.only_against.flags, summary.both.flags) == (
        0,
        1,
        len(flagged) - 1,
    )
    assert summary.both.fraud_amount.currency == "EUR"
    (difference,) = list_differences(session, request).items
    assert (difference.transaction_id, difference.flagged_by) == (name, "live")
    assert difference.event_time == flagged[0].event_time
    assert difference.amount == flagged[0].amount_base
    assert difference.score == difference.score_against
    later = replace(request, since=flagged[0].event_time, until=flagged[0].event_time)
    assert list_differences(session, later).items == ()
    for read in (compare_policies, list_differences):
        with pytest.raises(Unknown) as caught:
            read(session, PolicyDiffRequest("nobody"))
        assert caught.value.code == "unknown_policy"


def test_an_amount_is_in_the_currency_of_its_payment(session: Session) -> None:
    name = list_flags(session, LIVE, limit=1).items[0].transaction_id
    t = session.store.transactions
    with session.store.write() as connection:
        amounts = {"amount": 103.59, "currency": "USD", "amount_base": 95.3028}
        connection.execute(update(t).where(t.c.transaction_id == name).values(amounts))
    flag = show_flag(session, "live", name)
    assert (flag.amount, flag.amount_base) == (
        Amount(Decimal("103.59"), "USD"),
        Amount(Decimal("95.3028"), "EUR"),
    )


def test_differences_have_each_score_their_span_and_no_row_of_a_training(first_week: Store) -> None:
    backfill(first_week, SMALL, start=FROM, end=FROM + 7 * DAY, as_of=NOW, policy="other", by="test")
    s = tables.scores.c
    flagged = list_flags(session_of(first_week), LIVE).items
    name = flagged[0].transaction_id
    mine = (s.policy == "other") & (s.transaction_id == name)
    with first_week.write() as connection:
        connection.execute(update(tables.scores).values(in_sample=False))
        connection.execute(update(tables.scores).where(mine).values(flagged=False, score=0.125))
    session, request = session_of(first_week), PolicyDiffRequest("other")
    summary = compare_policies(session, request)
    (difference,) = list_differences(session, request).items
    assert (difference.score, difference.score_against) == (0.125, flagged[0].score)
    moment, step = flagged[0].event_time, timedelta(microseconds=1)
    for since, until, n in ((moment, moment + step, 1), (moment + step, None, 0), (None, moment, 0)):
        assert len(list_differences(session, replace(request, since=since, until=until)).items) == n
    with first_week.write() as connection:
        connection.execute(update(tables.scores).where(mine).values(in_sample=True))
    honest = compare_policies(session, request)
    assert (honest.transactions, honest.in_sample) == (summary.transactions - 1, 1)
    assert (honest.only_against.flags, list_differences(session, request).items) == (0, ())
