"""Rules of analysts: try one on history, add, list and end it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from pipeline.config.config import Config
from pipeline.rules import engine
from pipeline.rules.preview import preview
from pipeline.schedule.run_context import LIVE
from pipeline.services.pages import PAGE_ROWS, Page
from pipeline.services.records import Amount, as_amount, as_record
from pipeline.services.review.rules_and_mutes import (
    Decision,
    NewDecision,
    add_decision,
    end_decision,
    list_decisions,
)
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.database.hash_form import has_displays
from storage.frames import MONEY
from storage.review.rules_and_mutes import RULE, flagged_by_rule


@dataclass(frozen=True)
class NewRule(NewDecision):
    """A rule to be added."""

    text: str


@dataclass(frozen=True)
class StoredRule(Decision):
    """A rule."""

    rule_id: int
    text: str


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
    fraud_amount: Amount  # what was at risk of it
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


def preview_rule(session: Session, text: str, days: int) -> RulePreview:
    """
    Try a rule on the newest days of the stored history.

    Raises
    ------
    RuleError
        The rule cannot be parsed, or no payment could match it.
    NotReady
        No transaction is stored yet.
    """
    config = session.config
    stored, _ = engine.stored_text(text, config, has_displays(session.store))
    matches = preview(session.store, config, LIVE, stored, days, session.now)

    currency = config.schema_.base_currency
    return RulePreview(
        text=matches.text,
        days=days,
        until=as_datetime(matches.end),
        transactions=len(matches.amount),
        busiest_day=int(np.bincount(matches.day).max()) if len(matches.day) else 0,
        amount=as_amount(Decimal(int(matches.amount.sum())) / MONEY, currency),
        unflagged=int((~matches.flagged).sum()),
        fraud=int(matches.fraud.sum()),
        fraud_amount=as_amount(float(matches.at_risk.sum()), currency),
        fraud_unflagged=int((matches.fraud & ~matches.flagged).sum()),
        mature=int(matches.mature.sum()),
        mature_fraud=int((matches.mature & matches.fraud).sum()),
        maturity=timedelta(microseconds=config.labels.longest_maturity),
        alerts_per_day=config.alerts.per_day,
    )


def add_rule(session: Session, rule: NewRule) -> StoredRule:
    """
    Add a rule; it applies to transactions from now on.

    Raises
    ------
    RuleError
        The rule cannot be parsed, or no payment could match it.
    InputError
        Its end is not in the future.
    """
    text, fields = engine.stored_text(rule.text, session.config, has_displays(session.store))
    return add_decision(session, RULE, StoredRule, rule, {"text": text, "fields": dict(fields)})


def list_rules(session: Session, *, limit: int = PAGE_ROWS, cursor: str | None = None) -> Page[StoredRule]:
    """
    Rules with the number of flags that each has raised, ended ones too, the newest first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    return list_decisions(session, RULE, StoredRule, flagged_by_rule(session.store, LIVE), limit, cursor)


def rule_names(config: Config) -> list[RuleName]:
    """The fields and features that a rule may use, fields first."""
    return [as_record(RuleName, row) for row in engine.rule_names(config)]


def end_rule(session: Session, rule_id: int) -> datetime:
    """
    End a rule early; its flags stay. Returns the first instant at which it is no longer in force.

    Raises
    ------
    Unknown
        There is no such rule, or it has ended.
    """
    return end_decision(session, RULE, rule_id)
