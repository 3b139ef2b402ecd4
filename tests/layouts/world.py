"""
A small economy for all layouts: customers with habits, merchants, and a little fraud with a pattern.

Fraud happens at night, at a few merchants, from abroad, and costs many times what the customer usually pays.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
from stdnum import iban, luhn

START = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday
DAYS = 42
GROWTH = 0.4  # of the business: a third of the payments come in the first two thirds of the time
FRAUD_SHARE = 0.03
FIRST_NAMES = [
    "Anna",
    "Jürgen",
    "Zoë",
    "Paul",
    "Marie",
    "Søren",
    "Lucía",
    "Émile",
    "Ida",
    "Ben",
    "Käthe",
    "Tom",
]
LAST_NAMES = [
    "Müller",
    "Smith",
    "Dupont",
    "García",
    "O'Neill",
    "Weiß",
    "Rossi",
    "Novák",
    "Sørensen",
    "Çelik",
    "Meyer",
    "Jones",
    "Bauer",
]
CITIES = ["Köln", "Zürich", "Lyon", "Málaga", "Leeds", "Wien", "Gent", "Århus"]
COUNTRIES = ("DE", "CH", "FR", "ES", "GB", "AT", "BE", "DK")
ABROAD = ("NG", "VN", "BR")
BRANDS = {"Visa": "453957", "MasterCard": "552433", "Visa debit": "492912"}
SHOPS = [
    "Bäckerei",
    "Kiosk",
    "Drogerie",
    "Books",
    "Outdoor",
    "Garten",
    "Fashion",
    "Radio",
    "Sport",
    "Optik",
    "Toys",
    "Wine",
]
CATEGORIES = ("grocery", "fuel", "books", "travel", "electronics", "health")


@dataclass(frozen=True)
class Customer:
    """Somebody who pays; `mean` is their usual amount."""

    number: int
    first: str
    last: str
    card: str
    second_card: str
    brand: str
    city: str
    country: str
    hour: float
    mean: float

    @property
    def name(self) -> str:
        """First and last name."""
        return f"{self.first} {self.last}"

    @property
    def email(self) -> str:
        """An address of a domain that nobody has."""
        return f"customer{self.number:03d}@example.{('com', 'org', 'net')[self.number % 3]}"

    @property
    def iban(self) -> str:
        """A German account number with valid check digits."""
        account = f"DE0050010517{self.number * 7919 + 5_400_000_000:010d}"
        return account[:2] + iban.calc_check_digits(account) + account[4:]


@dataclass(frozen=True)
class Purchase:
    """One payment; `country` is the one it came from."""

    number: int
    time: datetime
    customer: Customer
    merchant: int
    cents: int
    country: str
    is_fraud: bool

    @property
    def amount(self) -> Decimal:
        """In units of a currency with two decimals."""
        return Decimal(self.cents).scaleb(-2)

    @property
    def card(self) -> str:
        """Some customers pay with two cards by turns."""
        return (
            self.customer.card if self.customer.number % 4 or self.number % 2 else self.customer.second_card
        )

    @property
    def ip(self) -> str:
        """An address of a network for documentation: at home, or of a café."""
        return (
            f"198.51.100.{self.customer.number + 1}" if self.number % 9 else f"203.0.113.{self.number % 20}"
        )

    @property
    def category(self) -> str:
        """What the merchant sells."""
        return CATEGORIES[self.merchant % len(CATEGORIES)]

    @property
    def shop(self) -> str:
        """The merchant's name."""
        return f"{SHOPS[self.merchant % len(SHOPS)]} {CITIES[self.merchant % len(CITIES)]} {self.merchant}"


def customers(number: int, rng: np.random.Generator) -> list[Customer]:
    """So many customers, each with two cards."""
    brands = list(BRANDS)
    return [
        Customer(
            n,
            FIRST_NAMES[n % len(FIRST_NAMES)],
            LAST_NAMES[n % len(LAST_NAMES)],
            *(with_check_digit(BRANDS[brands[n % 3]] + f"{rng.integers(10**9):09d}") for _ in range(2)),
            brands[n % 3],
            CITIES[n % len(CITIES)],
            COUNTRIES[n % len(COUNTRIES)],
            float(rng.uniform(9, 20)),
            float(rng.lognormal(3.3, 0.5)),
        )
        for n in range(number)
    ]


def with_check_digit(digits: str) -> str:
    """A card number of these digits and the one that makes it valid."""
    return digits + str(luhn.calc_check_digit(digits))


def purchases(
    number: int,
    seed: int,
    *,
    days: float = DAYS,
    start: datetime = START,
    growth: float = GROWTH,
    people: int = 60,
    merchants: int = 120,
) -> list[Purchase]:
    """So many payments, in the order of their times (UTC, whole seconds); the last three merchants attract fraud."""
    rng = np.random.default_rng(seed)
    payers = customers(people, rng)
    payer = rng.integers(0, people, number)
    fraud = rng.random(number) < FRAUD_SHARE
    day = np.floor(days * rng.random(number) ** growth)
    hour = np.array([payers[p].hour for p in payer]) + rng.normal(0, 1.5, number)
    hour = np.where(fraud, rng.uniform(1, 4, number), np.clip(hour, 6, 23.5))
    if days < 3:  # too short for habits
        day, hour = 0.0 * day, days * 24 * rng.random(number) ** growth
    seconds = (day * 86_400 + hour * 3_600).astype(int)
    factor = np.where(fraud, rng.uniform(8, 15, number), rng.lognormal(0, 0.35, number))
    merchant = np.where(fraud, merchants - rng.integers(1, 4, number), rng.integers(0, merchants, number))
    return [
        Purchase(
            place,
            start + timedelta(seconds=int(seconds[n])),
            payers[payer[n]],
            int(merchant[n]),
            max(1, round(payers[payer[n]].mean * factor[n] * 100)),
            ABROAD[n % 3] if fraud[n] or n % 25 == 0 else payers[payer[n]].country,
            bool(fraud[n]),
        )
        for place, n in enumerate(np.argsort(seconds, kind="stable").tolist())
    ]


def grouped(amount: Decimal, decimal: str = ".", thousands: str = ",") -> str:
    """1234.5 as 1,234.50 or in the way of another country."""
    return f"{amount:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))


def csv_text(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    separator: str = ",",
    quoting: int = csv.QUOTE_MINIMAL,
    line_end: str = "\n",
) -> str:
    """Rows under their header as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=line_end)  # type: ignore[arg-type]
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def rates(**per_unit: float) -> dict[str, bytes]:
    """A file of exchange rates from the beginning of their year on."""
    lines = ["date,currency,rate", *(f"2025-01-01,{code},{rate}" for code, rate in per_unit.items())]
    return {"rates.csv": "\n".join(lines).encode() + b"\n"}
