"""
Rules of people's own, beside the detectors: what they flag, and what they may speak of.

A rule in force when a transaction happened puts it before a reviewer on channel `rule`, unless a detector did: outside
`alerts.per_day`, which thresholds are set for. What a rule looks at is a property of the transaction, so that every way of
running agrees; a feature is computed with the windows that were configured when the rule was written.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from detectors.model.model import RULE, Scores
from pipeline.config.config import Config
from pipeline.features.compute import Plan
from pipeline.features.history import Floats, History, fields_of, plan_of, raw_matrix
from pipeline.rules.expression import FEW, Bools, Test
from pipeline.rules.parser import Kind, Vocabulary, parse
from storage.database.database import Store
from storage.frames import MONEY, Coded, Ints
from storage.review import rules_and_mutes

HOLDS = 1.0  # decision value and threshold of a row that a rule flags: it holds, or it does not
OF_A_MODEL = (
    "is learned anew by every model, so no rule can rest on it: use the field, or the counts beside it"
)


@dataclass(frozen=True)
class Rule:
    """A rule, and from when until when it flags."""

    rule_id: int
    text: str
    test: Test
    fields: Mapping[str, Any]
    start: int
    end: int

    @cached_property
    def plan(self) -> Plan:
        """The features it may speak of."""
        return plan_of(self.fields)

    @property
    def needs_features(self) -> bool:
        """Whether it looks at more than the transaction's own fields."""
        own = {"amount", *self.fields["entities"], *self.fields["categorical"], *self.fields["numeric"]}
        return any(name not in own for name in self.test.columns())

    def reason(self) -> dict[str, Any]:
        """What a flag says of it."""
        text = f"rule {self.rule_id}: {self.test.said(FEW)}"
        return {
            "code": "RULE",
            "feature": None,
            "value": self.rule_id,
            "usual": None,
            "share": 0.0,
            "text": text,
        }


def in_store(store: Store) -> list[Rule]:
    """Every rule there is or was, in the order of their numbers."""
    return [
        Rule(
            row["rule_id"],
            row["text"],
            parse(row["text"], vocabulary(row["fields"])),
            row["fields"],
            row["effective_from"],
            row["end"],
        )
        for row in rules_and_mutes.every(store, rules_and_mutes.RULE)
    ]


def vocabulary(fields: Mapping[str, Any]) -> Vocabulary:
    """The fields and features of a configuration that a rule may name, and those it may not."""
    plan = plan_of(fields)
    raw = set(plan.raw_names)
    kinds: dict[str, Kind] = {feature.name: "number" for feature in plan.features if feature.name in raw}
    refused = {feature.name: OF_A_MODEL for feature in plan.features if feature.name not in raw}
    kinds |= dict.fromkeys(("amount", *fields["numeric"]), "number")
    kinds |= dict.fromkeys((*fields["entities"], *fields["categorical"]), "text")
    return Vocabulary(kinds, {name: why for name, why in refused.items() if name not in kinds})


def written(text: str, config: Config) -> tuple[str, Mapping[str, Any]]:
    """
    A rule as it is stored: watch-lists written out, values hashed where their column is.

    Raises
    ------
    RuleError
        It cannot be understood.
    """
    from pipeline.ingest.row_checks import hasher_of

    fields, hasher = fields_of(config), hasher_of(config)

    def keep(column: str, value: str) -> str:
        return value if hasher is None or column not in config.schema_.hash else hasher.hash(value)

    return parse(text, replace(vocabulary(fields), keep=keep)).said(), fields


def fields_read(store: Store) -> list[Mapping[str, Any]]:
    """The configured columns and windows that rules were written for, each set once."""
    found = [row["fields"] for row in rules_and_mutes.every(store, rules_and_mutes.RULE)]
    return list({str(fields): fields for fields in found}.values())


@dataclass(frozen=True)
class Given:
    """Transactions of a history, and the features that are at hand already."""

    history: History
    rows: Ints  # positions
    config: Config
    features: Plan
    raw: Floats
    maturity: int  # µs, that `raw` was computed with


def hits(rules: Sequence[Rule], given: Given) -> Ints:
    """The number of the first rule that flags each row, (n,), 0 where none does."""
    times = given.history.transactions.event_time[given.rows]
    found = np.zeros(len(times), dtype=np.int64)
    for rule in rules:
        open_ = (found == 0) & (times >= rule.start) & (times < rule.end)
        if open_.any():
            found[open_ & holds(rule, given)] = rule.rule_id
    return found


def holds(rule: Rule, given: Given) -> Bools:
    """Where a rule holds, whatever the time, (n,)."""
    return rule.test.ask(_Columns(rule, given)).yes


def reasons(rules: Sequence[Rule], found: Ints) -> dict[int, dict[str, Any]]:
    """What a flag at each place that a rule asks for says of it."""
    by_id = {rule.rule_id: rule for rule in rules}
    return {int(place): by_id[int(found[place])].reason() for place in np.flatnonzero(found)}


def with_rules(scores: Scores, found: Ints) -> Scores:
    """Scores in which rows that no detector flags and a rule does are flagged on its channel."""
    chosen = ~scores.flagged & (found > 0)
    if not chosen.any():
        return scores
    return replace(
        scores,
        decision_value=np.where(chosen, HOLDS, scores.decision_value),
        threshold=np.where(chosen, HOLDS, scores.threshold),
        channel=np.where(chosen, RULE, scores.channel).astype(object),
        flagged=scores.flagged | chosen,
    )


class _Columns:
    """What a rule asks for, of the rows given."""

    def __init__(self, rule: Rule, given: Given) -> None:
        self._rule = rule
        self._given = given

    def texts(self, name: str) -> Coded:
        """An entity or a categorical field."""
        return self._given.history.transactions.columns[name].take(self._given.rows)

    def numbers(self, name: str) -> Floats:
        """The amount, a numeric field or a feature."""
        payments, rows = self._given.history.transactions, self._given.rows
        if name == "amount":
            return payments.amount[rows] / MONEY
        if name in self._rule.fields["numeric"]:
            return payments.numeric[name][rows]
        return self._raw[:, self._rule.plan.raw_names.index(name)]

    @cached_property
    def _raw(self) -> Floats:
        """Those at hand, when they are the rule's own; else computed."""
        given, rule = self._given, self._rule
        if given.features == rule.plan and given.maturity == rule.fields["maturity"]:
            return given.raw
        return raw_matrix(given.history, given.rows, rule.plan, given.config, rule.fields)


def names(config: Config) -> Iterator[dict[str, str]]:
    """What a rule may speak of, for people."""
    words = vocabulary(fields_of(config))
    own = {"amount", *config.schema_.numeric, *config.schema_.entities, *config.schema_.categorical}
    for name, kind in sorted(words.kinds.items(), key=lambda item: (item[0] not in own, item[0])):
        yield {"name": name, "holds": kind, "is": "field" if name in own else "feature"}
