"""Rules of analysts: try one on history, add, list and end it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from pipeline.config.config import Config
from pipeline.rules import engine
from pipeline.rules import preview as preview_module
from pipeline.schedule.run_context import LIVE
from pipeline.services.records import Amount, as_amount, as_record
from pipeline.services.rules_and_mutes import State, expiry, state_values
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.frames import MONEY, Ints
from storage.review import rules_and_mutes
from storage.review.rules_and_mutes import RULE


@dataclass(frozen=True)
class NewRule:
    """A rule to be added."""

    text: str
    until: datetime | timedelta  # an instant, or a span from now on
    reason: str


@dataclass(frozen=True)
class StoredRule:
    """A rule, the span in which it is in force, and the number of flags that it has raised."""

    rule_id: int
    text: str
    reason: str
    by: str
    created_at: datetime
    effective_from: datetime
    until: datetime
    ended_at: datetime | None
    state: State
    flags: int


@dataclass(frozen=True)
class RulePreview:
    """What a rule would have flagged in the newest days of the stored history."""

    text: str
    days: int
    until: datetime
    transactions: int
    busiest_day: int  # transactions on the day with most of them
    amount: Amount
    unflagged: int  # of the transactions, those that have no flag
    fraud: int  # of the transactions, those known to be fraud by now
    fraud_amount: Amount
    fraud_unflagged: int
    mature: int  # of the transactions, those old enough that all labels are known
    mature_fraud: int
    maturity: timedelta
    alerts_per_day: int


@dataclass(frozen=True)
class RuleName:
    """A field or feature that a rule may use."""

    name: str
    type: str  # number, text
    kind: str  # field, feature


def preview(session: Session, text: str, days: int) -> RulePreview:
    """
    Try a rule on the newest days of the stored history.

    Raises
    ------
    RuleError
        The rule cannot be parsed.
    NotReady
        No transaction is stored yet.
    """
    config = session.config
    stored, _ = engine.stored_text(text, config)
    matches = preview_module.preview(session.store, config, LIVE, stored, days, session.now)

    def total(amounts: Ints) -> Amount:
        return as_amount(Decimal(int(amounts.sum())) / MONEY, config.schema_.base_currency)

    return RulePreview(
        text=matches.text,
        days=days,
        until=as_datetime(matches.end),
        transactions=len(matches.amount),
        busiest_day=int(np.bincount(matches.day).max()) if len(matches.day) else 0,
        amount=total(matches.amount),
        unflagged=int((~matches.flagged).sum()),
        fraud=int(matches.fraud.sum()),
        fraud_amount=total(matches.amount[matches.fraud]),
        fraud_unflagged=int((matches.fraud & ~matches.flagged).sum()),
        mature=int(matches.mature.sum()),
        mature_fraud=int((matches.mature & matches.fraud).sum()),
        maturity=timedelta(microseconds=config.labels.maturity),
        alerts_per_day=config.alerts.per_day,
    )


def add(session: Session, rule: NewRule) -> StoredRule:
    """
    Add a rule; it applies to transactions from now on.

    Raises
    ------
    RuleError
        The rule cannot be parsed.
    InputError
        Its end is not in the future.
    """
    text, fields = engine.stored_text(rule.text, session.config)
    columns = {"text": text, "fields": dict(fields)}
    until = expiry(session, rule.until)
    rule_id, _ = rules_and_mutes.add(
        session.store, RULE, columns, until, rule.reason, session.actor, session.now
    )
    return next(stored for stored in every(session) if stored.rule_id == rule_id)


def every(session: Session) -> list[StoredRule]:
    """All rules, ended ones too, newest first."""
    flags, now = rules_and_mutes.flagged_by_rule(session.store, LIVE), session.now
    rows = rules_and_mutes.every(session.store, RULE)
    return [as_record(StoredRule, row, **state_values(row, now, flags, "rule_id")) for row in reversed(rows)]


def names(config: Config) -> list[RuleName]:
    """The fields and features that a rule may use, fields first."""
    return [as_record(RuleName, row) for row in engine.rule_names(config)]


def end(session: Session, rule_id: int) -> datetime:
    """
    End a rule early; its flags stay. Returns the first instant at which it is no longer in force.

    Raises
    ------
    Unknown
        There is no such rule, or it has ended.
    """
    return as_datetime(rules_and_mutes.end(session.store, RULE, rule_id, session.actor, session.now))
