"""
Texts of reasons: one sentence for each code of `pipeline.features.columns`.

Codes are stable, because reports, dashboards and mutes rely on them. Sentences may be reworded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.features.amount_windows import RATIO_PRIOR
from pipeline.features.catalogue import Feature
from pipeline.number_text import amount, counted, exact, number, percent
from storage.database.column_types import as_datetime
from storage.frames import DAY, HOUR, SECOND

NO_VALUE = "NO_VALUE"
OFF_HOURS = {"night": "at night", "weekend": "at the weekend"}  # what times are compared by
WIDE = 3.0  # a typical factor between amounts, from which on they vary widely
# From so many standard deviations on.
DEVIATIONS = ((3.0, "far {side}"), (1.5, "clearly {side}"), (0.5, "a little {side}"), (0.0, "close to"))


@dataclass(frozen=True)
class ReasonFacts:
    """The facts that a reason's sentence is made from."""

    feature: Feature
    value: float  # of the final feature
    usual: float | None  # the entity's usual value, where there is one
    amount: float  # of the transaction, in the base currency
    currency: str
    event_time: int = 0  # of the transaction, µs
    absent: str | None = None  # the column in which the transaction has nothing
    is_imputed: bool = False  # whether the payment has no such value, and `value` is that of others
    frauds: float = 0.0  # that a rate is made from
    payments: float = 0.0  # among which they are
    compared: str = ""  # the feature by which earlier payments are compared
    shares: tuple[float, float] | None = (
        None  # of earlier payments with at most its value, and with at least it
    )

    @property
    def whose(self) -> str:
        """The entity for reviewers: "customer_id" → "this customer"."""
        return f"this {_spoken(self.feature.entity or '')}"

    @property
    def span(self) -> str:
        """The feature's window: "30 days", "24 hours"."""
        window = self.feature.window or 0
        if window % DAY == 0 and window > DAY:
            return f"{window // DAY} days"
        return "hour" if window == HOUR else f"{window // HOUR} hours"

    @property
    def before(self) -> str:
        """The feature's window before the payment: "in the 30 days before"."""
        return f"in the {self.span} before"


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
    """Deviations are of logarithms: an amount may be above most others and still below their mean, which is then not named."""
    if facts.usual is not None and np.isnan(facts.usual):
        return _nothing_to_compare(facts)
    words = next(words for least, words in DEVIATIONS if abs(facts.value) >= least)
    is_above = facts.value >= 0
    text = f"amount {amount(facts.amount)} is {words.format(side='above' if is_above else 'below')} what is usual for {facts.whose}"
    if facts.usual is None or (facts.amount >= facts.usual) != is_above:
        return text
    return f"{text}, {facts.usual:,.2f} on average {facts.before}"


def _against(facts: ReasonFacts, other: str) -> str:
    """The amount beside a number, as reviewers would compare the two, and the stored value where that reads differently."""
    this, usual = f"amount {amount(facts.amount)}", facts.usual or 0.0
    if usual <= 0 or facts.amount <= 0:
        return f"{this} beside {other} ({usual:,.2f})"
    times = facts.amount / usual
    if times >= 2:
        stored, this_many = number(facts.value, 2), number(times, 2)
        prior = f"; {stored} times with {RATIO_PRIOR:g} {facts.currency} added to both"
        return f"{this} is {this_many} times {other} ({usual:,.2f}{prior if stored != this_many else ''})"
    if abs(times - 1) < 0.005:
        return f"{this} is {other}"
    return f"{this} is {percent(abs(times - 1))} {'above' if times > 1 else 'below'} {other} ({usual:,.2f})"


def _nothing_to_compare(facts: ReasonFacts) -> str:
    return f"amount {amount(facts.amount)} has no payment of {facts.whose} {facts.before} to compare with"


def _ratio(facts: ReasonFacts) -> str:
    if not _is_known(facts.usual):
        return _nothing_to_compare(facts)
    return _against(facts, f"{facts.whose}'s average {facts.before}")


def _against_field(facts: ReasonFacts) -> str:
    name = _spoken(facts.feature.name.removeprefix("amount_against_"))
    if not _is_known(facts.usual):
        return f"amount {amount(facts.amount)} has no {name} to compare with"
    return _against(facts, f"the {name}")


def _spread(facts: ReasonFacts) -> str:
    """Amounts are typically within this factor of the middle one: e to the standard deviation of their logarithms."""
    if facts.is_imputed:
        return (
            f"fewer than two payments of {facts.whose} {facts.before}, too few to know how its amounts vary"
        )
    factor = float(np.exp(facts.value))
    if factor < 1.005:
        return f"{facts.whose}'s amounts were all alike {facts.before}"
    if factor < 2:
        text = f"{facts.whose}'s amounts vary little: typically by {percent(factor - 1)} {facts.before}"
    else:
        much = " widely" if factor >= WIDE else ""
        text = (
            f"{facts.whose}'s amounts vary{much}: typically by a factor of {number(factor, 2)} {facts.before}"
        )
    return text + _how_common(facts, "much", "little")


def _usual_amount(facts: ReasonFacts) -> str:
    if facts.is_imputed:
        return f"no payment of {facts.whose} {facts.before}"
    return f"payments of {facts.whose} are {facts.value:,.2f} on average {facts.before}{_how_common(facts, 'high', 'low')}"


def _ago(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return counted(round(seconds), "second")


def _recent_activity(facts: ReasonFacts) -> str:
    """In words that are true also where there is no earlier payment, or none within what was read of the past."""
    if facts.value >= 2 * 86400:
        return f"no payment of {facts.whose} in the {_ago(facts.value)} before{_how_common(facts, '', '')}"
    if facts.value < 0.5:
        return f"at the same moment as another payment of {facts.whose}{_how_common(facts, '', '')}"
    return f"{_ago(facts.value)} after {facts.whose}'s last payment{_how_common(facts, 'late', 'soon')}"


def _fraud_history(facts: ReasonFacts) -> str:
    """Of payments that are old enough for labels: those of a window that ends when labels are mature."""
    if not facts.payments > 0:
        return f"no payment of {facts.whose} in the newest {facts.span} with a known outcome"
    were = "was" if round(facts.frauds) == 1 else "were"
    payments = counted(round(facts.payments), "payment")
    return f"{facts.frauds:,.0f} of {payments} of {facts.whose} {were} fraud in the newest {facts.span} with a known outcome"


def _known_fraud(facts: ReasonFacts) -> str:
    n = round(facts.value)
    return f"{counted(n, 'known fraud') if n else 'no known fraud'} of {facts.whose} {facts.before}"


def _recent_fraud(facts: ReasonFacts) -> str:
    if facts.value * SECOND >= (facts.feature.window or 0):
        return f"no known fraud of {facts.whose} {facts.before}"
    return f"{_ago(facts.value)} after {facts.whose}'s last known fraud"


def _new_pair(facts: ReasonFacts) -> str:
    first, _, second = (facts.feature.entity or "").partition("+")
    names = [_spoken(name) for name in (first, second)]
    if facts.value > 0:
        return f"first payment of this {names[0]} with this {names[1]}"
    return f"earlier payments of this {names[0]} with this {names[1]}"


def _how_common(facts: ReasonFacts, high: str, low: str) -> str:
    """How many earlier payments have a value as high, or as low where that is rarer; the words may be empty."""
    if facts.shares is None:
        return ""
    share, word = min((facts.shares[1], high), (facts.shares[0], low), key=lambda each: each[0])
    rounded = round(share, 2) if share >= 0.01 else float(f"{share:.1g}")  # as exact as a bin is
    many = f"about {percent(rounded)} of earlier payments" if share else "no earlier payment"
    return f", as {word} in {many}" if word else f", as in {many}"


def _amount(facts: ReasonFacts) -> str:
    return f"amount is {amount(facts.amount)} {facts.currency}{_how_common(facts, 'large', 'small')}"


def _field_value(facts: ReasonFacts) -> str:
    return f"{_spoken(facts.feature.name)} is {exact(facts.value)}{_how_common(facts, 'high', 'low')}"


def _velocity(facts: ReasonFacts) -> str:
    n = round(facts.value)
    many = f"{counted(n, 'payment') if n else 'no payment'} of {facts.whose} {facts.before}"
    return many + _how_common(facts, "many", "few" if n else "")


def _category(facts: ReasonFacts) -> str:
    """A model learns from mature payments, which may lack whole groups, such as the declined ones: the shares are theirs."""
    name = _spoken(categorical_field(facts.feature) or "")
    if facts.feature.name.endswith("_fraud_rate"):
        return f"about {percent(facts.value)} of the payments with this {name} that the model learned from were fraud"
    if facts.value <= 0:
        return f"none of the payments that the model learned from has this {name}"
    return f"{percent(facts.value)} of the payments that the model learned from have this {name}"


def _time_of_day(facts: ReasonFacts) -> str:
    holiday = " on a holiday" if facts.feature.name == "is_holiday" and facts.value > 0 else ""
    text = f"it happened{holiday} on a {as_datetime(facts.event_time):%A at %H:%M} UTC"
    if facts.shares is None:
        return text
    return f"{text}, {OFF_HOURS[facts.compared]}, as about {percent(facts.shares[1])} of earlier payments"


TEXTS: Mapping[str, Callable[[ReasonFacts], str]] = {
    "AMOUNT": _amount,
    "AMOUNT_ABOVE_USUAL": _deviation,
    "AMOUNT_AGAINST_FIELD": _against_field,
    "AMOUNT_AGAINST_MEAN": _ratio,
    "AMOUNT_SPREAD": _spread,
    "CATEGORY": _category,
    "FIELD_VALUE": _field_value,
    "FRAUD_HISTORY": _fraud_history,
    "KNOWN_FRAUD": _known_fraud,
    "NEW_PAIR": _new_pair,
    NO_VALUE: lambda facts: f"this payment has no {_spoken(facts.absent or '')}",
    "RECENT_ACTIVITY": _recent_activity,
    "RECENT_FRAUD": _recent_fraud,
    "TIME_OF_DAY": _time_of_day,
    "USUAL_AMOUNT": _usual_amount,
    "VELOCITY": _velocity,
}
