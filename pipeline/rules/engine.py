"""
Analysts' rules beside the detectors: which transactions they flag, and which fields and features they may use.

A rule that was in force when a transaction happened flags it on channel `rule`, unless a detector flags it. These flags come
on top of `alerts.per_day`, which thresholds are set for. A rule uses only properties of the transaction, so that every way
of running agrees; features are computed with the windows that were configured when the rule was written.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from detectors.model.model import RULE, Scores
from pipeline.config.config import Config
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.history import Floats, History, catalogue_of, feature_fields, raw_matrix
from pipeline.rules.expression import REASON_VALUES_MAX, Bools, Condition
from pipeline.rules.parser import Kind, RuleError, Vocabulary, parse
from pipeline.rules.satisfiable import may_match
from storage.database.database import Store
from storage.frames import MONEY, Coded, Ints
from storage.review import rules_and_mutes

HOLDS = 1.0  # decision value and threshold of a row that a rule flags
OF_A_MODEL = (
    "is computed by each model, so a rule cannot use it: use the field, or the counts of the same entity"
)


@dataclass(frozen=True)
class Rule:
    """A rule and the time [start, end) in which it is in force, µs."""

    rule_id: int
    text: str
    condition: Condition
    fields: Mapping[str, Any]
    start: int
    end: int

    @cached_property
    def catalogue(self) -> FeatureCatalogue:
        """The features that the rule may use."""
        return catalogue_of(self.fields)

    @property
    def needs_features(self) -> bool:
        """Whether the rule uses more than the transaction's own fields."""
        own = {"amount", *self.fields["entities"], *self.fields["categorical"], *self.fields["numeric"]}
        return any(name not in own for name in self.condition.column_names())

    def reason(self) -> dict[str, Any]:
        """The reason that a flag of this rule carries."""
        text = f"rule {self.rule_id}: {self.condition.to_text(REASON_VALUES_MAX)}"
        return {
            "code": "RULE",
            "feature": None,
            "value": self.rule_id,
            "usual": None,
            "share": 0.0,
            "text": text,
        }


def load_rules(store: Store) -> list[Rule]:
    """All rules, ended ones too, ordered by id."""
    return [
        Rule(
            row["rule_id"],
            row["text"],
            parse(row["text"], vocabulary(row["fields"])),
            row["fields"],
            row["effective_from"],
            row["end"],
        )
        for row in rules_and_mutes.stored_decisions(store, rules_and_mutes.RULE)
    ]


def vocabulary(fields: Mapping[str, Any]) -> Vocabulary:
    """The fields and features of a configuration that a rule may use, and those it may not."""
    catalogue = catalogue_of(fields)
    raw = set(catalogue.raw_names)
    kinds: dict[str, Kind] = {feature.name: "number" for feature in catalogue.features if feature.name in raw}
    unavailable = {feature.name: OF_A_MODEL for feature in catalogue.features if feature.name not in raw}
    kinds |= dict.fromkeys(("amount", *fields["numeric"]), "number")
    kinds |= dict.fromkeys((*fields["entities"], *fields["categorical"]), "text")
    return Vocabulary(kinds, {name: why for name, why in unavailable.items() if name not in kinds})


def stored_text(text: str, config: Config, displays: bool) -> tuple[str, Mapping[str, Any]]:
    """
    The text of a rule as it is stored: watch-lists are written out, values of hashed columns are hashed.

    `displays` says whether the database stores hashed values with a display form.

    Raises
    ------
    RuleError
        The rule cannot be parsed, or no payment could match it.
    """
    from pipeline.ingest.checks.stored_values import stored_values

    fields = feature_fields(config)
    condition = parse(text, replace(vocabulary(fields), stored_value=stored_values(config, displays)))
    if not may_match(condition):
        raise RuleError(
            f"no payment can match {text!r}: its conditions contradict each other, or no value meets one of them",
            code="impossible_rule",
        )
    return condition.to_text(), fields


def rule_fields(store: Store) -> list[Mapping[str, Any]]:
    """The distinct sets of configured columns and windows that rules were written for."""
    stored = [row["fields"] for row in rules_and_mutes.stored_decisions(store, rules_and_mutes.RULE)]
    return list({str(fields): fields for fields in stored}.values())


@dataclass(frozen=True)
class RuleBatch:
    """Transactions of a history, with features that were computed already."""

    history: History
    rows: Ints  # positions
    config: Config
    features: FeatureCatalogue
    raw: Floats
    maturity: int  # µs, label maturity that `raw` was computed with


def first_matching_rules(rules: Sequence[Rule], batch: RuleBatch) -> Ints:
    """The id of the first rule that flags each row, (n,), 0 if none does."""
    times = batch.history.transactions.event_time[batch.rows]
    rule_ids = np.zeros(len(times), dtype=np.int64)
    for rule in rules:
        open_ = (rule_ids == 0) & (times >= rule.start) & (times < rule.end)
        if open_.any():
            rule_ids[open_ & matches(rule, batch)] = rule.rule_id
    return rule_ids


def matches(rule: Rule, batch: RuleBatch) -> Bools:
    """Which rows a rule's condition is true for, whether or not the rule is in force, (n,)."""
    return rule.condition.evaluate(_BatchColumns(rule, batch)).true


def reasons(rules: Sequence[Rule], rule_ids: Ints) -> dict[int, dict[str, Any]]:
    """The reason for each row that a rule flags, by its place."""
    by_id = {rule.rule_id: rule for rule in rules}
    return {int(place): by_id[int(rule_ids[place])].reason() for place in np.flatnonzero(rule_ids)}


def with_rules(scores: Scores, rule_ids: Ints) -> Scores:
    """Scores in which rows that a rule flags and no detector does are flagged on channel `rule`."""
    by_rule = ~scores.flagged & (rule_ids > 0)
    if not by_rule.any():
        return scores
    return replace(
        scores,
        decision_value=np.where(by_rule, HOLDS, scores.decision_value),
        threshold=np.where(by_rule, HOLDS, scores.threshold),
        channel=np.where(by_rule, RULE, scores.channel).astype(object),
        flagged=scores.flagged | by_rule,
    )


class _BatchColumns:
    """The columns of a batch that a rule uses."""

    def __init__(self, rule: Rule, batch: RuleBatch) -> None:
        self._rule = rule
        self._batch = batch

    def texts(self, name: str) -> Coded:
        """An entity or a categorical field."""
        return self._batch.history.transactions.columns[name].take(self._batch.rows)

    def numbers(self, name: str) -> Floats:
        """The amount, a numeric field or a feature."""
        payments, rows = self._batch.history.transactions, self._batch.rows
        if name == "amount":
            return payments.amount[rows] / MONEY
        if name in self._rule.fields["numeric"]:
            return payments.numeric[name][rows]
        return self._raw[:, self._rule.catalogue.raw_names.index(name)]

    @cached_property
    def _raw(self) -> Floats:
        """Raw features of the rule's catalogue: those of the batch if they are the same, otherwise computed."""
        batch, rule = self._batch, self._rule
        if batch.features == rule.catalogue and batch.maturity == rule.fields["maturity"]:
            return batch.raw
        return raw_matrix(batch.history, batch.rows, rule.catalogue, batch.config, rule.fields)


def rule_names(config: Config) -> Iterator[dict[str, str]]:
    """The fields and features that a rule may use, fields first, as rows of a table."""
    known = vocabulary(feature_fields(config))
    own_fields = {"amount", *config.schema_.numeric, *config.schema_.entities, *config.schema_.categorical}
    for name, kind in sorted(known.kinds.items(), key=lambda item: (item[0] not in own_fields, item[0])):
        yield {"name": name, "type": kind, "kind": "field" if name in own_fields else "feature"}
