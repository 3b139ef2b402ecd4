"""What a rule would have flagged, before anybody has to look at it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.config.config import Config
from pipeline.durations import format_duration
from pipeline.errors import NotReady
from pipeline.features import history as histories
from pipeline.features.compute import status_at
from pipeline.features.history import Floats, History
from pipeline.features.label_history import FRAUD
from pipeline.rules.engine import Given, Rule, holds, vocabulary
from pipeline.rules.expression import FEW, Bools
from pipeline.rules.parser import parse
from storage.database.database import Store
from storage.frames import DAY, MONEY, Ints
from storage.ingest import history as stored
from storage.review import rules_and_mutes

NOT_COMPUTED = -1  # a maturity no configuration has: features are computed when the rule asks for them


@dataclass(frozen=True)
class Preview:
    """What came of it, a row a match."""

    text: str
    end: int  # µs
    days: int
    day: Ints  # (n,) counted back from the newest
    money: Floats  # (n,) in the base currency
    flagged: Bools  # a flag was raised already
    mature: Bools  # a label or silence that may be read: what share of them is fraud means something
    fraud: Bools  # known by now, mature or not: frauds become known one by one, the genuine only by silence
    maturity: int  # µs
    per_day: int  # of the detectors

    def lines(self, currency: str) -> Iterator[str]:
        """For the one who thinks of adding it."""
        yield f"rule: {self.text}"
        total = len(self.money)
        until = np.datetime64(self.end, "us").astype("datetime64[D]")
        yield (
            f"over the {self.days} days to {until} it would have flagged {total:,} transactions, "
            f"{total / self.days:,.1f} a day{self._busiest()}, worth {self.money.sum():,.0f} {currency}"
        )
        if not total:
            yield "nothing matched: as a hard limit that is fine, else look at the values it names"
            return
        fresh = ~self.flagged
        yield f"{fresh.sum():,} of them, {fresh.sum() / self.days:,.1f} a day, have no flag yet"
        yield (
            f"{self.fraud.sum():,} of them are known to be fraud by now, worth {self.money[self.fraud].sum():,.0f} {currency}; "
            f"{(self.fraud & fresh).sum():,} of these have no flag"
        )
        yield self._precision()
        if fresh.sum() / self.days > self.per_day:
            yield f"that is more than the detectors may flag (alerts.per_day = {self.per_day}): think of a narrower one"

    def _busiest(self) -> str:
        return f" ({np.bincount(self.day).max():,} on the busiest)" if len(self.day) else ""

    def _precision(self) -> str:
        mature, fraud = int(self.mature.sum()), int((self.mature & self.fraud).sum())
        if not mature:
            span = format_duration(self.maturity)
            return f"none is old enough to say what share of them is fraud (labels.maturity = {span}): --days looks further back"
        return f"of {mature:,} that are old enough for all labels to be known, {fraud:,} were fraud ({fraud / mature:.0%})"


def preview(store: Store, config: Config, policy: str, rule: str, days: int, now: int) -> Preview:
    """
    Try a rule, as `ruling.written` gives it, on the newest days of the stored history.

    Raises
    ------
    NotReady
        No transaction is stored yet.
    """
    span = stored.span(store)
    if span is None:
        raise NotReady("no transactions are stored yet to try a rule on: fraudwatch ingest transactions FILE")
    end = min(now, span[1] + 1)
    start = end - days * DAY
    fields = histories.fields_of(config)
    tried = Rule(0, rule, parse(rule, vocabulary(fields)), fields, start, end)
    history = histories.load(store, config, start - (config.lookback if tried.needs_features else 0), end)
    rows = _matches(tried, history, config, start, end)
    times, ids = history.transactions.event_time[rows], history.transactions.transaction_id[rows]
    mature, fraud = _known(history, rows, config, now)
    there = rules_and_mutes.flagged_between(store, policy, start, end)
    return Preview(
        text=tried.test.said(FEW),
        end=end,
        days=days,
        day=(end - 1 - times) // DAY,
        money=history.transactions.amount[rows] / MONEY,
        flagged=np.array([str(one) in there for one in ids], dtype=bool),
        mature=mature,
        fraud=fraud,
        maturity=config.labels.maturity,
        per_day=config.alerts.per_day,
    )


def _matches(rule: Rule, history: History, config: Config, start: int, end: int) -> Ints:
    """Positions of the transactions of the span that it flags, a day's features in memory at a time."""
    found = []
    for begin in range(start, end, DAY):
        span = history.transactions.between(begin, min(begin + DAY, end))
        rows = np.arange(span.start, span.stop)
        given = Given(history, rows, config, rule.plan, np.empty((0, 0)), NOT_COMPUTED)
        if len(rows):
            found.append(rows[holds(rule, given)])
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


def _known(history: History, rows: Ints, config: Config, now: int) -> tuple[Bools, Bools]:
    """Of which rows all labels are known by now, and which are known to be fraud."""
    status = status_at(history.transactions, history.events, now)[rows]
    complete = int(history.completeness.at(np.array([now], dtype=np.int64))[0])
    old = history.transactions.event_time[rows] + config.labels.maturity <= complete
    return old & ((status >= 0) | history.silence_ok[rows]), status == FRAUD
