"""Four eyes: what needs two people, who may be the second, and that it is done once, as it was asked for; on both engines."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any, get_args

import pytest

from pipeline.config.config import Config
from pipeline.config.sections import FourEyesAction
from pipeline.services.admin import UndoRequest
from pipeline.services.models.models import PromotionRequest
from pipeline.services.person import EntityValue
from pipeline.services.review.labels import NewLabel
from pipeline.services.review.mutes import ChannelTarget, EntityTarget, NewMute
from pipeline.services.review.verdicts import NewVerdict
from pipeline.services.session import Session
from pipeline.services.users import users
from pipeline.services.users.approvals import (
    _ACTIONS,
    Approval,
    Erasing,
    RoleChange,
    UserName,
    approve,
    forbid_second_account,
    list_approvals,
    reject,
    request_approval,
)
from pipeline.services.users.masking import HIDDEN
from pipeline.services.users.permissions import PERMISSIONS, ROLES, Caller, Permission
from storage.database.column_types import as_datetime
from storage.database.database import Store
from tests.support.databases import Opener
from tests.support.sql import query
from tests.support.users import add_caller, audited, code, hash_fast
from tests.support.worlds import NOW, SMALL

ALL = get_args(FourEyesAction)


@dataclass(frozen=True)
class Case:
    """A request that needs two people, one of the same kind that does not, and what is true once it is done."""

    action: Any
    grave: Any
    light: Any
    done: str  # SQL that gives a row
    undo_setup: str = ""


def month(days: int) -> timedelta:
    return timedelta(days=days)


CASES = [
    Case("promote", PromotionRequest("live", 1, "sure"), PromotionRequest("live", 2, "sure"), "SELECT 1 FROM promotions WHERE reason = 'sure' AND \"by\" = 'ann'"),
    Case("undo_batch", UndoRequest(1, "cents"), None, "SELECT 1 FROM withdrawals WHERE subject = 'batch 1' AND \"by\" = 'ann'"),
    Case("undo_run", UndoRequest(1, "labels"), None, "SELECT 1 FROM withdrawals WHERE subject = 'run 1' AND \"by\" = 'ann'"),
    Case("erase", Erasing((EntityValue("customer_id", "c7"),)), None, "SELECT 1 FROM audit WHERE action = 'erase' AND actor = 'ann'"),
    Case("set_role", RoleChange("eve", "auditor"), None, "SELECT 1 FROM users WHERE name = 'eve' AND role = 'auditor'"),
    Case("enable_user", UserName("old"), None, "SELECT 1 FROM users WHERE name = 'old' AND disabled_at IS NULL"),
    Case("add_mute", NewMute(month(31), "sale", ChannelTarget("audit")), NewMute(month(30), "sale", ChannelTarget("audit")), "SELECT 1 FROM mutes WHERE \"by\" = 'ann'"),
    Case("record_verdict", NewVerdict(tuple(f"t{n:06}" for n in range(4)), "genuine"), NewVerdict(tuple(f"t{n:06}" for n in range(3)), "genuine"), "SELECT 1 FROM verdicts WHERE \"by\" = 'ann' AND verdict = 'genuine'"),
    Case("add_labels", NewLabel(tuple(f"t{n:06}" for n in range(4)), "genuine"), NewLabel(tuple(f"t{n:06}" for n in range(4)), "fraud"), "SELECT 1 FROM verdicts WHERE \"by\" = 'ann' AND verdict = 'genuine'"),
]  # fmt: skip
cases = pytest.mark.parametrize(
    "case", CASES[1:], ids=lambda case: case.action
)  # without payments there is no model


@dataclass(frozen=True)
class Team:
    """A database with a week of scores, and people."""

    session: Session
    ann: Caller
    bob: Caller  # administrators
    eve: Caller  # a reviewer

    def ask(self, case: Case, caller: Caller | None = None) -> Approval:
        asked = request_approval(self.session, caller or self.ann, case.action, case.grave)
        assert asked is not None
        return asked


def team(store: Store, *settings: str, **keys: Any) -> Team:
    web = {"four_eyes": settings, "bulk_rows": 3} | keys
    config = SMALL.model_copy(update={"web": SMALL.web.model_copy(update=web)})
    session = Session(store, config, "root", clock=lambda: NOW)
    ann, bob = (add_caller(session, name, "administrator") for name in ("ann", "bob"))
    eve = add_caller(session, "eve", "reviewer")
    add_caller(session, "old", "administrator")
    users.disable_user(session, "old")
    return Team(session, ann, bob, eve)


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords hashed with little work."""
    hash_fast(monkeypatch)


@pytest.fixture
def scored(first_week: Store) -> Team:
    """Everything needs two people; the gate refused model 1."""
    with first_week.write() as connection:
        connection.exec_driver_sql("UPDATE promotion_checks SET verdict = 'rejected' WHERE model_id = 1")
    return team(first_week, *ALL)


@pytest.fixture
def empty(opener: Opener) -> Team:
    """Everything needs two people; there are no payments."""
    return team(opener(SMALL), *ALL)


def approved(team: Team, asked: Approval, caller: Caller | None = None) -> Approval:
    return approve(team.session, caller or team.bob, asked.approval_id)


def test_every_action_of_the_setting_has_a_case() -> None:
    assert {case.action for case in CASES} == set(_ACTIONS)
    assert {action.setting for action in _ACTIONS.values()} == set(ALL)


def test_what_was_asked_for_is_done_when_another_approves_it_in_the_name_of_who_asked(
    scored: Team,
) -> None:
    order = [
        "promote",
        "set_role",
        "enable_user",
        "add_mute",
        "record_verdict",
        "add_labels",
        "erase",
        "undo_run",
        "undo_batch",
    ]
    for case in sorted(CASES, key=lambda case: order.index(case.action)):
        with scored.session.store.write() as connection:
            connection.exec_driver_sql("DELETE FROM verdicts")
        asked = scored.ask(case)
        assert (asked.status, asked.requested_by, asked.request) == ("pending", "ann", case.grave)
        assert query(scored.session.store, case.done) == [], case.action
        done = approved(scored, asked)
        assert (done.status, done.decided_by, done.error) == ("done", "bob", None), case.action
        assert query(scored.session.store, case.done), case.action
        number = f"approval {asked.approval_id}"
        decided = [row for row in audited(scored.session) if row[2] == number]
        assert decided == [("ann", "request approval", number), ("bob", "approve request", number)]


@cases
def test_what_is_not_grave_and_what_no_setting_names_needs_nobody_else(empty: Team, case: Case) -> None:
    if case.light is not None:
        assert request_approval(empty.session, empty.ann, case.action, case.light) is None
    config = empty.session.config
    others = tuple(name for name in ALL if name != _ACTIONS[case.action].setting)
    alone = config.model_copy(update={"web": config.web.model_copy(update={"four_eyes": others})})
    assert request_approval(replace(empty.session, config=alone), empty.ann, case.action, case.grave) is None
    assert list_approvals(empty.session).items == ()


def test_genuine_verdicts_over_an_amount_need_two_people(scored: Team) -> None:
    ids = ("t000001", "t000002")
    total = query(
        scored.session.store,
        "SELECT SUM(amount_base) FROM transactions WHERE transaction_id IN ('t000001', 't000002')",
    )
    amount = float(total[0][0])
    for most, needs in ((amount - 0.01, True), (amount, False), (0.0, False)):
        config = scored.session.config
        changed = config.model_copy(update={"web": config.web.model_copy(update={"bulk_amount": most})})
        session = replace(scored.session, config=changed)
        asked = request_approval(session, scored.eve, "record_verdict", NewVerdict((*ids, ids[0]), "genuine"))
        assert (asked is not None) == needs, most


@cases
def test_who_asked_cannot_approve_and_neither_can_a_token_or_a_role_that_may_not_do_it(
    empty: Team, case: Case
) -> None:
    asked = empty.ask(case)
    needed = _ACTIONS[case.action].permission
    callers = [empty.ann, replace(empty.ann, role="model_owner"), replace(empty.bob, token_id=1)]
    callers += [Caller("x", role, 99) for role in ROLES if needed not in PERMISSIONS[role]]
    callers += [Caller("token x", "administrator", None, 1)]
    for caller in callers:
        assert code(approve, empty.session, caller, asked.approval_id) in ("four_eyes", "not_allowed")
    assert list_approvals(empty.session).items[0].status == "pending"


@cases
def test_who_may_not_do_it_cannot_ask_for_it(empty: Team, case: Case) -> None:
    needed = _ACTIONS[case.action].permission
    for role in ROLES:
        if needed not in PERMISSIONS[role]:
            caller = Caller("x", role, empty.eve.user_id)
            assert code(request_approval, empty.session, caller, case.action, case.grave) == "not_allowed"
    token = Caller("token x", "administrator", empty.ann.user_id, 1)
    assert code(request_approval, empty.session, token, case.action, case.grave) == "four_eyes"
    operators = Caller("token x", "administrator", None, 1)
    assert code(request_approval, empty.session, operators, case.action, case.grave) == "four_eyes"
    assert list_approvals(empty.session).items == ()


ROLE = CASES[4]


@pytest.mark.parametrize("change", ["role", "disabled"])
def test_a_request_of_somebody_who_may_not_do_it_any_more_is_not_carried_out(
    empty: Team, change: str
) -> None:
    asked = empty.ask(ROLE)
    if change == "role":
        users.set_role(empty.session, "ann", "viewer")
    else:
        users.disable_user(empty.session, "ann")
    assert code(approved, empty, asked) == "four_eyes"
    assert reject(empty.session, empty.bob, asked.approval_id).status == "rejected"


def test_a_request_expires(empty: Team) -> None:
    asked = empty.ask(ROLE)
    expires = NOW + empty.session.config.web.four_eyes_expire
    assert asked.expires_at == as_datetime(expires)
    later = replace(empty, session=replace(empty.session, clock=lambda: expires))
    assert list_approvals(later.session).items[0].status == "expired"
    assert code(approved, later, asked) == "approval_expired"
    assert code(reject, later.session, later.bob, asked.approval_id) == "approval_expired"


def test_a_request_is_decided_once(empty: Team) -> None:
    first, second = empty.ask(ROLE), empty.ask(ROLE)
    approved(empty, first)
    assert code(approved, empty, first) == "approval_decided"
    assert reject(empty.session, empty.ann, second.approval_id).status == "rejected"  # one's own: withdrawn
    assert code(approved, empty, second) == "approval_decided"
    assert code(approve, empty.session, empty.bob, 99) == "unknown_approval"
    assert code(reject, empty.session, empty.bob, 99) == "unknown_approval"
    assert code(reject, empty.session, empty.eve, second.approval_id) == "not_allowed"
    assert code(reject, empty.session, replace(empty.bob, token_id=1), second.approval_id) == "four_eyes"


def test_of_many_who_approve_at_once_one_wins(empty: Team) -> None:
    asked, barrier, outcomes = empty.ask(CASES[6]), Barrier(8), []

    def decide() -> None:
        barrier.wait()
        try:
            outcomes.append(approved(empty, asked).status)
        except Exception as error:  # noqa: BLE001
            outcomes.append(getattr(error, "code", repr(error)))

    threads = [Thread(target=decide) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["approval_decided"] * 7 + ["done"]
    assert query(empty.session.store, "SELECT COUNT(*) FROM mutes") == [(1,)]


def test_what_fails_after_it_was_approved_says_why(empty: Team) -> None:
    failed = approved(empty, empty.ask(CASES[3]))
    assert failed.status == "failed"
    assert "no stored row" in str(failed.error)


def test_nothing_of_a_person_who_was_erased_stays_in_the_request(scored: Team) -> None:
    done = approved(scored, scored.ask(CASES[3]))
    assert done.request == Erasing((EntityValue("customer_id", HIDDEN),))
    stored = str(query(scored.session.store, "SELECT CAST(request AS TEXT) FROM approvals"))
    assert "c7" not in stored


def test_no_hashed_value_is_stored_in_plain_text(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate(
        {"schema": {"entities": ["card_id"], "categorical": [], "kind": "", "hash": ["card_id"]}}
    )
    people = team(opener(config), *ALL)
    keyed = config.model_copy(update={"web": people.session.config.web})
    monkeypatch.setattr(Config, "hash_key", lambda _: b"0123456789abcdef")
    session = replace(people.session, config=keyed)
    card = "4242424242424242"
    request_approval(session, people.ann, "erase", Erasing((EntityValue("card_id", card),)))
    asked = request_approval(
        session, people.ann, "add_mute", NewMute(month(40), "r", EntityTarget("card_id", card))
    )
    stored = str(query(session.store, "SELECT CAST(request AS TEXT) FROM approvals"))
    assert card not in stored
    assert asked is not None
    done = approve(session, people.bob, asked.approval_id)
    assert done.status == "done"
    assert query(session.store, "SELECT value FROM mutes") == [(done.request.target.value,)]  # type: ignore[union-attr]


def test_nobody_makes_a_second_pair_of_eyes_alone(empty: Team) -> None:
    allowed: Callable[..., None] = forbid_second_account
    allowed(empty.session, empty.ann, "new", "viewer")
    allowed(empty.session, empty.ann, "ann", "administrator")  # one's own password
    for role in ROLES:
        if role != "viewer":
            assert code(allowed, empty.session, empty.ann, "new", role) == "four_eyes"
    assert code(allowed, empty.session, empty.eve, "new", "viewer") == "not_allowed"
    config = empty.session.config
    free = config.model_copy(update={"web": config.web.model_copy(update={"four_eyes": ()})})
    allowed(replace(empty.session, config=free), empty.ann, "new", "administrator")


def test_requests_are_listed_in_pages_the_newest_first(empty: Team) -> None:
    numbers = [empty.ask(ROLE).approval_id for _ in range(5)]
    first = list_approvals(empty.session, limit=2)
    second = list_approvals(empty.session, limit=9, cursor=first.next_cursor)
    assert [each.approval_id for each in (*first.items, *second.items)] == numbers[::-1]
    assert second.next_cursor is None


def test_the_permissions_of_actions_are_those_of_roles_that_see_values() -> None:
    for action in _ACTIONS.values():
        for role in ROLES:
            assert action.permission not in PERMISSIONS[role] or Permission.SEE_VALUES in PERMISSIONS[role]
