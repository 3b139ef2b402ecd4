"""Numbers and money as text: never with an exponent, and an amount exactly as it is stored."""

import math
from decimal import Decimal

import numpy as np

from storage.database.column_types import exact_money

RAREST = 1e-9  # share of payments that a score tells from 0


def exact(value: float) -> str:
    """A value of the data with all of its digits: 557,200 or 103.59 or 0.000009699."""
    if not math.isfinite(value):
        return str(value)
    return f"{Decimal(repr(float(value))):,f}".removesuffix(".0")


def number(value: float, digits: int = 3) -> str:
    """A measured number with so many significant digits, and all of those before the point."""
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return np.format_float_positional(value, digits, unique=False, fractional=False, trim="-")


def percent(share: float) -> str:
    """A share as text: 75 %, 1.5 %, 0.02 %."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{number(value, 2)} %"


def hundredths(share: float) -> str:
    """A share times 100 with two decimals, as a column of shares needs: 2.60, 0.34, < 0.01."""
    return "< 0.01" if 0 < share < 0.00005 else f"{100 * share:.2f}"


def score_text(score: float) -> str:
    """
    A score as the share of payments that are as suspicious: 0.99917 is "1 in 1,200", 0.6 is "1 in 2.5".

    A score says which share of the reference transactions ranks lower (`docs/glossary.md`), so that scores near 1, which matter, would
    differ by digits that nobody counts.
    """
    share = 1 - score
    if share < RAREST:
        return f"1 in over {1 / RAREST:,.0f}"
    of = 1 / share
    if of < 9.95:
        return f"1 in {number(of, 2)}"
    digits = max(math.floor(math.log10(of)) - 1, 0)
    return f"1 in {round(of / 10**digits) * 10**digits:,}"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number of things: 1 payment, 1,200 payments."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def amount(value: float | Decimal) -> str:
    """A stored amount, or a sum of them: 4,294.30, or 0.1234 where cents are not enough."""
    return f"{exact_money(value):,f}"


def table_amount(value: Decimal) -> str:
    """An amount in a table: to the cent, and one below 1 as it is stored, because it may be less than a cent."""
    return f"{value:,.2f}" if abs(value) >= 1 else amount(value)


def money(value: float | Decimal, currency: str) -> str:
    """A stored amount, or a sum of them, with its currency."""
    return f"{amount(value)} {currency}"


def mean_money(value: float, currency: str) -> str:
    """An amount that is estimated or a mean, to the cent, with its currency."""
    return f"{value:,.2f} {currency}"
