"""
A feature that moved a score, in words.

A code is stable: reports, dashboards and suppressions may rely on it. The sentence may be reworded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.features.compute import Feature
from storage.frames import DAY, HOUR


@dataclass(frozen=True)
class Case:
    """One reason's facts."""

    feature: Feature
    value: float  # of the final feature
    usual: float | None  # the entity's usual value, where there is one
    amount: float  # of the transaction, in the base currency
    currency: str

    @property
    def who(self) -> str:
        """ "customer_id" → "customer": what a reviewer calls it."""
        return (self.feature.entity or "").removesuffix("_id").replace("_", " ")

    @property
    def span(self) -> str:
        """The feature's window as an adjective: "30-day"."""
        window = self.feature.window or 0
        return f"{window // DAY}-day" if window % DAY == 0 else f"{window // HOUR}-hour"


def in_words(case: Case) -> str:
    """One sentence a reviewer understands without knowing the model."""
    return WORDS.get(case.feature.code, _plain)(case)


def _known(value: float | None) -> bool:
    return value is not None and not np.isnan(value)


def _deviation(case: Case) -> str:
    side = "above" if case.value >= 0 else "below"
    usual = f" of {case.usual:,.2f}" if _known(case.usual) else ""
    return (
        f"amount {case.amount:,.2f} is {abs(case.value):.1f} standard deviations {side} "
        f"this {case.who}'s {case.span} mean{usual}"
    )


def _ratio(case: Case) -> str:
    if not _known(case.usual):
        return f"amount {case.amount:,.2f} has no earlier payment of this {case.who} to compare with"
    return f"amount {case.amount:,.2f} against this {case.who}'s {case.span} mean of {case.usual:,.2f}"


def _amount(case: Case) -> str:
    return f"amount is {case.amount:,.2f} {case.currency}"


def _velocity(case: Case) -> str:
    return f"{case.value:,.0f} payments of this {case.who} in the {case.span} window before"


def _spend(case: Case) -> str:
    return f"this {case.who}'s {case.span} mean amount is {case.value:,.2f}"


def _spread(case: Case) -> str:
    return f"this {case.who}'s amounts vary by {case.value:.2f} (log) over its {case.span} window"


def _recency(case: Case) -> str:
    return f"{_ago(case.value)} after this {case.who}'s last payment"


def _ago(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def _new_pair(case: Case) -> str:
    first, _, second = (case.feature.entity or "").partition("+")
    names = [name.removesuffix("_id").replace("_", " ") for name in (first, second)]
    if case.value > 0:
        return f"first payment of this {names[0]} with this {names[1]}"
    return f"this {names[0]} has paid with this {names[1]} before"


def _fraud_rate(case: Case) -> str:
    return f"{case.value:.2%} of this {case.who}'s matured payments were fraud ({case.span} window before maturity)"


def _known_fraud(case: Case) -> str:
    return f"{case.value:,.0f} known frauds of this {case.who} in its {case.span} window"


def _hour(_case: Case) -> str:
    return "time of day or week"


def _category(case: Case) -> str:
    name = case.feature.name.removesuffix("_fraud_rate").removesuffix("_frequency")
    if case.feature.name.endswith("_fraud_rate"):
        return f"{case.value:.2%} of payments with this {name} were fraud"
    return f"{case.value:.2%} of payments have this {name}"


def _field(case: Case) -> str:
    return f"{case.feature.name} is {case.value:,.4g}"


def _plain(case: Case) -> str:
    return f"{case.feature.name} is {case.value:,.4g}"


WORDS: Mapping[str, Callable[[Case], str]] = {
    "AMOUNT_ABOVE_USUAL": _deviation,
    "AMOUNT_AGAINST_MEAN": _ratio,
    "AMOUNT": _amount,
    "VELOCITY": _velocity,
    "USUAL_AMOUNT": _spend,
    "AMOUNT_SPREAD": _spread,
    "RECENT_ACTIVITY": _recency,
    "NEW_PAIR": _new_pair,
    "FRAUD_HISTORY": _fraud_rate,
    "KNOWN_FRAUD": _known_fraud,
    "TIME_OF_DAY": _hour,
    "CATEGORY": _category,
    "FIELD_VALUE": _field,
}
