"""
Texts of reasons: one sentence for each code of `pipeline.features.columns`.

Codes are stable, because reports, dashboards and mutes rely on them. Sentences may be reworded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.features.catalogue import Feature
from pipeline.number_text import amount, exact
from storage.frames import DAY, HOUR, SECOND

NO_VALUE = "NO_VALUE"


@dataclass(frozen=True)
class ReasonFacts:
    """The facts that a reason's sentence is made from."""

    feature: Feature
    value: float  # of the final feature
    usual: float | None  # the entity's usual value, where there is one
    amount: float  # of the transaction, in the base currency
    currency: str
    absent: str | None = None  # the entity or categorical column in which the transaction has nothing
    frauds: float = 0.0  # that a rate is made from
    payments: float = 0.0  # among which they are

    @property
    def entity_name(self) -> str:
        """The entity's name for reviewers: "customer_id" → "customer"."""
        return _spoken(self.feature.entity or "")

    @property
    def span(self) -> str:
        """The feature's window as an adjective: "30-day"."""
        window = self.feature.window or 0
        return f"{window // DAY}-day" if window % DAY == 0 else f"{window // HOUR}-hour"


def reason_text(facts: ReasonFacts) -> str:
    """One sentence that a reviewer understands without knowing the model."""
    return TEXTS[reason_code(facts)](facts)


def reason_code(facts: ReasonFacts) -> str:
    """The code of the reason: that of the feature, unless the transaction lacks what the feature is about."""
    return facts.feature.code if facts.absent is None else NO_VALUE


def categorical_field(feature: Feature) -> str | None:
    """The categorical field that a feature is about; None if it is about none."""
    if feature.code != "CATEGORY":
        return None
    return feature.name.removesuffix("_fraud_rate").removesuffix("_frequency")


def _spoken(column: str) -> str:
    return column.removesuffix("_id").replace("_", " ")


def _is_known(value: float | None) -> bool:
    return value is not None and not np.isnan(value)


def _deviation(facts: ReasonFacts) -> str:
    side = "above" if facts.value >= 0 else "below"
    usual = f" of {facts.usual:,.2f}" if _is_known(facts.usual) else ""
    return (
        f"amount {amount(facts.amount)} is {abs(facts.value):.1f} standard deviations {side} "
        f"this {facts.entity_name}'s {facts.span} mean{usual}"
    )


def _ratio(facts: ReasonFacts) -> str:
    if not _is_known(facts.usual):
        return f"amount {amount(facts.amount)} has no earlier payment of this {facts.entity_name} to compare with"
    return f"amount {amount(facts.amount)} against this {facts.entity_name}'s {facts.span} mean of {facts.usual:,.2f}"


def _against_field(facts: ReasonFacts) -> str:
    name = facts.feature.name.removeprefix("amount_against_")
    if not _is_known(facts.usual):
        return f"amount {amount(facts.amount)} has no {name} to compare with"
    return f"amount {amount(facts.amount)} against {name} of {facts.usual:,.2f}"


def _ago(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def _recent_activity(facts: ReasonFacts) -> str:
    """In words that are true also where there is no earlier payment, or none within what was read of the past."""
    if facts.value >= 2 * 86400:
        return f"no payment of this {facts.entity_name} in the {_ago(facts.value)} before"
    return f"{_ago(facts.value)} after this {facts.entity_name}'s last payment"


def _fraud_history(facts: ReasonFacts) -> str:
    where = f"({facts.span} window before maturity)"
    if not facts.payments > 0:
        return f"no matured payment of this {facts.entity_name} says how often it is fraud {where}"
    return f"{facts.frauds:,.0f} of {facts.payments:,.0f} matured payments of this {facts.entity_name} were fraud {where}"


def _recent_fraud(facts: ReasonFacts) -> str:
    if facts.value * SECOND >= (facts.feature.window or 0):
        return f"no known fraud of this {facts.entity_name} in its {facts.span} window"
    return f"{_ago(facts.value)} after this {facts.entity_name}'s last known fraud"


def _new_pair(facts: ReasonFacts) -> str:
    first, _, second = (facts.feature.entity or "").partition("+")
    names = [_spoken(name) for name in (first, second)]
    if facts.value > 0:
        return f"first payment of this {names[0]} with this {names[1]}"
    return f"this {names[0]} has paid with this {names[1]} before"


def _category(facts: ReasonFacts) -> str:
    """A model learns from mature payments, which may lack whole groups, such as the declined ones: the shares are theirs."""
    name = categorical_field(facts.feature)
    if facts.feature.name.endswith("_fraud_rate"):
        return f"of payments with this {name} that the model learned from about {facts.value:.2%} were fraud"
    return f"{facts.value:.2%} of the payments that the model learned from have this {name}"


TEXTS: Mapping[str, Callable[[ReasonFacts], str]] = {
    "AMOUNT": lambda facts: f"amount is {amount(facts.amount)} {facts.currency}",
    "AMOUNT_ABOVE_USUAL": _deviation,
    "AMOUNT_AGAINST_FIELD": _against_field,
    "AMOUNT_AGAINST_MEAN": _ratio,
    "AMOUNT_SPREAD": lambda facts: (
        f"this {facts.entity_name}'s amounts vary by {facts.value:.2f} (log) over its {facts.span} window"
    ),
    "CATEGORY": _category,
    "FIELD_VALUE": lambda facts: f"{facts.feature.name} is {exact(facts.value)}",
    "FRAUD_HISTORY": _fraud_history,
    "KNOWN_FRAUD": lambda facts: (
        f"{facts.value:,.0f} known frauds of this {facts.entity_name} in its {facts.span} window"
    ),
    "NEW_PAIR": _new_pair,
    NO_VALUE: lambda facts: f"this payment has no {_spoken(facts.absent or '')}",
    "RECENT_ACTIVITY": _recent_activity,
    "RECENT_FRAUD": _recent_fraud,
    "TIME_OF_DAY": lambda _facts: "time of day or week",
    "USUAL_AMOUNT": lambda facts: (
        f"this {facts.entity_name}'s {facts.span} mean amount is {facts.value:,.2f}"
    ),
    "VELOCITY": lambda facts: (
        f"{facts.value:,.0f} payments of this {facts.entity_name} in the {facts.span} window before"
    ),
}
