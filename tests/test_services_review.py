"""Rules, mutes and verdicts as every door sees them: typed, and refused with a code."""

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import InputError
from pipeline.services.review import mutes, rules
from pipeline.services.review.mutes import ChannelTarget, EntityTarget, FeatureTarget, NewMute
from pipeline.services.review.rules import NewRule
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.errors import Unknown
from tests.support.worlds import NOW, SMALL

WEEK = timedelta(days=7)


@pytest.fixture
def session(first_week: Store) -> Session:
    return Session(first_week, SMALL, "ana", lambda: NOW)


def test_a_rule_is_added_listed_and_ended(session: Session) -> None:
    rule = rules.add_rule(session, NewRule(WEEK, "limit", "amount > 150"))
    assert (rule.text, rule.by, rule.state, rule.flags, rule.ended_at) == (
        "amount > 150",
        "ana",
        "planned",
        0,
        None,
    )
    assert rule.until == as_datetime(NOW) + WEEK
    assert rule.effective_from.tzinfo == UTC
    assert rules.list_rules(session).items == (rule,)
    ended = rules.end_rule(session, rule.rule_id)
    assert rules.list_rules(session).items[0].ended_at == ended
    with pytest.raises(Unknown) as caught:
        rules.end_rule(session, rule.rule_id)
    assert caught.value.code == "rule_ended"
    with pytest.raises(Unknown) as caught:
        rules.end_rule(session, 99)
    assert (caught.value.code, "fraudwatch" in str(caught.value)) == ("unknown_rule", False)


def test_what_ends_must_end_later(session: Session) -> None:
    with pytest.raises(InputError) as caught:
        rules.add_rule(session, NewRule(datetime(2020, 1, 1, tzinfo=UTC), "late", "amount > 1"))
    assert caught.value.code == "past_expiry"
    with pytest.raises(InputError):
        mutes.add_mute(session, NewMute(timedelta(0), "no time", ChannelTarget("rule")))


TARGETS = [
    (EntityTarget("customer_id", "c1"), ("entity", "customer_id", "c1")),
    (FeatureTarget("VELOCITY"), ("feature", "VELOCITY", None)),
    (ChannelTarget("audit"), ("channel", "audit", None)),
]


@pytest.mark.parametrize(("target", "expected"), TARGETS)
def test_a_mute_names_one_thing(session: Session, target: mutes.MuteTarget, expected: object) -> None:
    mute = mutes.add_mute(session, NewMute(WEEK, "travels", target))
    assert (mute.kind, mute.name, mute.value) == expected
    assert mutes.list_mutes(session).items == (mute,)
    assert mutes.end_mute(session, mute.mute_id) <= mute.until


REFUSED = [
    (EntityTarget("planet", "mars"), "unknown_entity_column"),
    (FeatureTarget("amuont"), "unknown_feature"),
    (ChannelTarget("moon"), "unknown_channel"),
]


@pytest.mark.parametrize(("target", "code"), REFUSED)
def test_a_mute_of_what_is_not_there_is_refused(
    session: Session, target: mutes.MuteTarget, code: str
) -> None:
    with pytest.raises(InputError) as caught:
        mutes.add_mute(session, NewMute(WEEK, "typo", target))
    assert caught.value.code == code
