"""Preview of a rule: the transactions of the newest days that it would have flagged."""

from dataclasses import dataclass

import numpy as np

from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.features import history as feature_history
from pipeline.features.history import Floats, History
from pipeline.features.label_history import has_known_status, status_at
from pipeline.rules.engine import Rule, RuleBatch, matches, vocabulary
from pipeline.rules.expression import REASON_VALUES_MAX, Bools
from pipeline.rules.parser import parse
from storage.database.database import Store
from storage.frames import DAY, FRAUD, Ints
from storage.ingest import history as stored_history
from storage.queries.losses import losses
from storage.review import rules_and_mutes

NOT_COMPUTED = -1  # a maturity that no configuration has: features are computed only if the rule needs them


@dataclass(frozen=True)
class Preview:
    """The transactions that a rule would have flagged, n of them."""

    text: str
    end: int  # µs
    days: int
    day: Ints  # (n,) counted back from the newest
    amount: Ints  # (n,) in the base currency, in units of 1/MONEY
    at_risk: Floats  # (n,) of known fraud what was at risk, else 0; in the base currency
    flagged: Bools  # (n,) flagged already
    mature: Bools  # (n,) old enough that the share of fraud among them can be trusted
    fraud: Bools  # (n,) known to be fraud by now, mature or not


def preview(store: Store, config: Config, policy: str, rule: str, days: int, now: int) -> Preview:
    """
    Try a rule, as `engine.stored_text` returns it, on the newest days of the stored history.

    Raises
    ------
    NotReady
        No transaction is stored yet.
    """
    span = stored_history.span(store)
    if span is None:
        raise NotReady(
            "no transactions are stored yet to try a rule on",
            remedy="ingest transactions",
            code="no_transactions",
        )
    end = min(now, span[1] + 1)
    start = end - days * DAY
    fields = feature_history.feature_fields(config)
    rule_to_try = Rule(0, rule, parse(rule, vocabulary(fields)), fields, start, end)
    history = feature_history.load(
        store, config, start - (config.lookback if rule_to_try.needs_features else 0), end
    )
    rows = _matches(rule_to_try, history, config, start, end)
    times, ids = history.transactions.event_time[rows], history.transactions.transaction_id[rows]
    mature, fraud = _label_status(history, rows, config, now)
    money = losses(store, ids[fraud].tolist(), now)
    at_risk = np.zeros(len(rows))
    at_risk[fraud] = [money[name].at_risk for name in ids[fraud]]
    flagged_ids = rules_and_mutes.flagged_between(store, policy, start, end)
    return Preview(
        text=rule_to_try.condition.to_text(REASON_VALUES_MAX),
        end=end,
        days=days,
        day=(end - 1 - times) // DAY,
        amount=history.transactions.amount[rows],
        at_risk=at_risk,
        flagged=np.array([str(transaction_id) in flagged_ids for transaction_id in ids], dtype=bool),
        mature=mature,
        fraud=fraud,
    )


def _matches(rule: Rule, history: History, config: Config, start: int, end: int) -> Ints:
    """Positions of the transactions of the span that a rule matches; features are computed a day at a time."""
    matching = []
    for begin in range(start, end, DAY):
        span = history.transactions.between(begin, min(begin + DAY, end))
        rows = np.arange(span.start, span.stop)
        batch = RuleBatch(history, rows, config, rule.catalogue, np.empty((0, 0)), NOT_COMPUTED)
        if len(rows):
            matching.append(rows[matches(rule, batch)])
    return np.concatenate([np.empty(0, dtype=np.int64), *matching])


def _label_status(history: History, rows: Ints, config: Config, now: int) -> tuple[Bools, Bools]:
    """Which rows are mature, and which are known to be fraud."""
    status = status_at(history.transactions, history.events, now)[rows]
    complete = int(history.completeness.at(np.array([now], dtype=np.int64))[0])
    maturity = feature_history.maturity_of(config, history.transactions)
    old = (history.transactions.event_time + maturity)[rows] <= complete
    return old & has_known_status(status, history.silence_at(now)[rows]), status == FRAUD
