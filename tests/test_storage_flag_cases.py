"""The view `flag_cases`, against the count that thresholds are set by; both engines."""

import numpy as np
import pytest
from sqlalchemy import insert

from detectors.evaluation.cases import CaseRows
from pipeline.config.config import Config
from storage.database.database import Store
from storage.database.setup import upgrade, verify
from storage.database.tables import flags
from storage.errors import SchemaOutOfDate
from storage.frames import DAY, HOUR
from storage.queries.report_counts import CaseCounts, Scope, cases
from tests.support.databases import Opener
from tests.support.sql import query
from tests.support.worlds import FROM, SMALL

SPAN = Scope("live", FROM, FROM + DAY, FROM + 9 * DAY, 0, {})
MICROSECOND = 1


def add_flags(store: Store, rows: list[dict[str, object]]) -> None:
    """Flags on payments of customers at instants, with what else a row says of the flag."""
    payments, raised = [], []
    for number, row in enumerate(rows):
        name = f"t{number:04}"
        payments.append({
            "transaction_id": name, "event_time": row["at"], "customer_id": row["customer"],
            "amount": 1, "amount_base": 1, "batch_id": 1,
        })  # fmt: skip
        raised.append({
            "policy": "live", "transaction_id": name, "run_id": 1, "model_id": 1, "channel": "blend", "reasons": [],
            "status": "open", "muted_by": None,
        } | {key: value for key, value in row.items() if key not in ("at", "customer")})  # fmt: skip
    with store.write() as connection:
        connection.execute(insert(store.transactions), payments)
        connection.execute(insert(flags), raised)


def flag(customer: str | None, hours: float, **more: object) -> dict[str, object]:
    return {"customer": customer, "at": FROM + round(hours * HOUR), **more}


def test_a_case_lasts_a_day_from_its_first_flag(opener: Opener) -> None:
    store = opener(SMALL)
    rows = [
        flag("a", 0.25), flag("a", 1, status="fraud"), flag("a", 20),  # one case of three flags, two of them open
        flag("a", 24.25) | {"at": FROM + 24 * HOUR + HOUR // 4 - MICROSECOND},  # the last moment of it
        flag("a", 25, status="closed"), flag("a", 48, channel="audit"),  # the next case, though 5 hours after a flag of the first
        flag("b", 3, channel="audit"), flag(None, 3), flag(None, 3),  # without an entity each flag is a case
        flag("b", 2, muted_by=1),  # in no case
    ]  # fmt: skip
    add_flags(store, rows)
    listed = query(
        store,
        "SELECT case_id, entity, flags, open_flags, audit_flags FROM flag_cases WHERE policy = 'live' ORDER BY case_id",
    )
    assert listed == [
        ("t0000", "a", 4, 3, 0),
        ("t0004", "a", 2, 1, 1),
        ("t0006", "b", 1, 1, 1),
        ("t0007", None, 1, 1, 0),
        ("t0008", None, 1, 1, 0),
    ]
    assert cases(store, SPAN) == CaseCounts(detected=3, open=4, all=4)


def test_the_view_counts_what_thresholds_are_set_by(opener: Opener) -> None:
    store, rng = opener(SMALL), np.random.default_rng(4)
    customer, time = rng.integers(6, size=300), np.sort(rng.integers(12 * 24 * 4, size=300)) * (HOUR // 4)
    time[::7] += 999_999 * MICROSECOND  # a whole second is not reached
    add_flags(
        store, [{"customer": f"c{c}", "at": FROM + int(at)} for c, at in zip(customer, time, strict=True)]
    )
    openers = CaseRows(customer, time).openers(np.ones(300, dtype=bool))
    expected = [f"t{place:04}" for place in np.flatnonzero(openers)]
    assert 40 < len(expected) < 100
    assert query(store, "SELECT case_id FROM flag_cases ORDER BY case_id") == [(name,) for name in expected]


def test_another_entity_takes_an_upgrade(opener: Opener) -> None:
    store, by_terminal = opener(SMALL), with_entity(SMALL, "terminal_id")
    verify(store, SMALL.monitor.name)
    changed = opener(by_terminal)
    verify(changed, SMALL.monitor.name)
    with pytest.raises(SchemaOutOfDate, match=r"counts cases by terminal_id, alerts.entity is customer_id"):
        verify(store, SMALL.monitor.name)
    upgrade(store, SMALL.monitor.name, 1)
    verify(store, SMALL.monitor.name)


def with_entity(config: Config, entity: str) -> Config:
    alerts = config.alerts.model_copy(update={"entity": entity})
    return config.model_copy(update={"alerts": alerts})
