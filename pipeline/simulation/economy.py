"""
Simulates customers, merchants and genuine payments for `fraudwatch simulate`.

Everything is drawn from one seeded generator and stored in arrays, one entry per customer, merchant or payment.
Customers have habits (amount, merchants, hour, device) and sometimes break them (a trip, a new phone, one large
purchase), so that an unusual payment is not necessarily fraud.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from storage.frames import DAY, SECOND, Floats, Ints

Bools = NDArray[np.bool_]

COUNTRIES = ("DE", "FR", "NL", "ES", "IT", "GB", "US", "RO")
HOME_SHARES = (0.62, 0.13, 0.11, 0.08, 0.06, 0.0, 0.0, 0.0)  # of customers
MERCHANT_SHARES = (0.50, 0.11, 0.09, 0.07, 0.05, 0.07, 0.07, 0.04)
CHANNELS = ("pos", "web", "app")
POS, WEB, APP = 0, 1, 2
# name, usual price, spread of log price, share of merchants, share of their payments made online
CATEGORIES = (
    ("groceries", 27.0, 0.55, 0.24, 0.08),
    ("restaurant", 31.0, 0.50, 0.20, 0.15),
    ("transport", 9.0, 0.60, 0.10, 0.55),
    ("fuel", 52.0, 0.35, 0.08, 0.00),
    ("fashion", 58.0, 0.60, 0.14, 0.60),
    ("games", 16.0, 0.70, 0.07, 1.00),
    ("electronics", 140.0, 0.80, 0.10, 0.75),
    ("travel", 230.0, 0.75, 0.07, 0.85),
)
FAVOURITES = 10  # merchants that a customer returns to
DEVICES_PER_CUSTOMER = 3  # a phone, its successor, a computer


@dataclass(frozen=True)
class Payments:
    """Payments as arrays of equal length (n,); customers, cards, merchants and devices are numbers."""

    time: Ints  # µs
    customer: Ints
    card: Ints
    merchant: Ints
    device: Ints  # −1: none, the card was present
    channel: Ints  # position in CHANNELS
    country: Ints  # position in COUNTRIES
    cents: Ints
    declined: Bools
    pattern: Ints  # position in fraud_patterns.PATTERNS, −1: genuine

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: Ints | Bools) -> "Payments":
        """Return the payments at these rows."""
        return Payments(*(getattr(self, column.name)[rows] for column in fields(self)))


def join(parts: list[Payments]) -> Payments:
    """Concatenate payments."""
    return Payments(*(np.concatenate([getattr(p, c.name) for p in parts]) for c in fields(Payments)))


@dataclass(frozen=True)
class World:
    """Customers (n_customers,) and merchants (n_merchants,)."""

    start: int  # µs
    days: int
    # customers
    home: Ints
    activity: Floats  # share of all payments
    spend: Floats  # log of the factor by which this customer pays more or less than others
    hour: Floats  # middle of the customer's day
    cards: Ints  # 1 or 2
    favourites: Ints  # (n_customers, FAVOURITES)
    loyalty: Floats  # (n_customers, FAVOURITES) cumulative shares
    trip_from: Floats  # day; a trip after the end never happens
    trip_days: Floats
    new_phone: Floats  # day
    # merchants
    category: Ints
    place: Ints
    price: Floats  # log of the usual amount
    popularity: Floats  # shares

    @property
    def online(self) -> Floats:
        """(n_merchants,) share of a merchant's payments made online."""
        return np.array([category[4] for category in CATEGORIES])[self.category]

    @property
    def spread(self) -> Floats:
        """(n_merchants,) spread of log amounts."""
        return np.array([category[2] for category in CATEGORIES])[self.category]

    def phone(self, customer: Ints, day: Floats) -> Ints:
        """Return the phone a customer has on a day."""
        changed: Ints = (day >= self.new_phone[customer]).astype(np.int64)
        return customer * DEVICES_PER_CUSTOMER + changed

    def device(self, customer: Ints, channel: Ints, day: Floats) -> Ints:
        """Return the device of a payment: none at the till, the phone in the app, the computer on the web."""
        computer = customer * DEVICES_PER_CUSTOMER + 2
        return np.where(channel == POS, -1, np.where(channel == APP, self.phone(customer, day), computer))

    @property
    def customers_devices(self) -> int:
        """How many device numbers, from 0, belong to customers."""
        return len(self.home) * DEVICES_PER_CUSTOMER

    def card_of(self, rng: Generator, customer: Ints) -> Ints:
        """Draw one of the customer's cards, the first more often."""
        second = (self.cards[customer] == 2) & (rng.random(len(customer)) < 0.3)
        cards: Ints = customer * 2 + second
        return cards


def build_world(rng: Generator, start: int, days: int, n_customers: int) -> World:
    """Draw customers with their habits, and merchants; about two customers per merchant."""
    n_merchants = max(60, n_customers // 2)
    category = rng.choice(len(CATEGORIES), n_merchants, p=[c[3] for c in CATEGORIES])
    place = rng.choice(len(COUNTRIES), n_merchants, p=MERCHANT_SHARES)
    popularity = rng.pareto(1.5, n_merchants) + 0.3
    home = rng.choice(len(COUNTRIES), n_customers, p=HOME_SHARES)
    activity = rng.gamma(2.0, size=n_customers) + 0.15
    shares = rng.gamma(0.8, size=(n_customers, FAVOURITES)) + 0.02
    return World(
        start=start,
        days=days,
        home=home,
        activity=activity / activity.sum(),
        spend=rng.normal(0.0, 0.35, n_customers),
        hour=rng.normal(14.0, 2.8, n_customers),
        cards=1 + (rng.random(n_customers) < 0.35),
        favourites=_favourites(rng, home, place, popularity),
        loyalty=np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1),
        trip_from=_random_days(rng, n_customers, share_per_90_days=0.12, days=days),
        trip_days=rng.uniform(3.0, 14.0, n_customers),
        new_phone=_random_days(rng, n_customers, share_per_90_days=0.10, days=days),
        category=category,
        place=place,
        price=np.log([c[1] for c in CATEGORIES])[category] + rng.normal(0.0, 0.3, n_merchants),
        popularity=popularity / popularity.sum(),
    )


def draw_genuine(rng: Generator, world: World, n: int) -> Payments:
    """Draw n genuine payments over all days, unordered."""
    customer = rng.choice(len(world.home), n, p=world.activity)
    time, day = _times(rng, world, customer)
    merchant = _merchants(rng, world, customer, day)
    channel = _channels(rng, world, merchant)
    return Payments(
        time=time,
        customer=customer,
        card=world.card_of(rng, customer),
        merchant=merchant,
        device=_devices(rng, world, customer, channel, day),
        channel=channel,
        country=np.where(
            channel == POS, world.place[merchant], _payment_countries(rng, world, customer, day)
        ),
        cents=_cents(rng, world, customer, merchant),
        declined=rng.random(n) < 0.02,  # no cover, a wrong PIN
        pattern=np.full(n, -1),
    )


def usual_amount(rng: Generator, world: World, customer: Ints, merchant: Ints) -> Floats:
    """Draw amounts that are usual for these customers at these merchants."""
    usual = world.price[merchant] + world.spend[customer]
    amount: Floats = np.exp(usual + world.spread[merchant] * rng.standard_normal(len(customer)))
    return amount


def to_cents(amount: Floats) -> Ints:
    """Round amounts to cents, clipped to 0.50 to 5,000."""
    return np.clip(np.rint(amount * 100), 50, 500_000).astype(np.int64)


def to_instants(world: World, day: Floats) -> Ints:
    """Convert days since the start to instants (µs, whole seconds)."""
    return world.start + np.floor(day * (DAY // SECOND)).astype(np.int64) * SECOND


def apply_drift(world: World, payments: Payments, rng: Generator) -> Payments:
    """Add drift: in the last third of the days amounts rise by 35 % and payments move from web to app."""
    late = payments.time >= world.start + world.days * DAY * 2 // 3
    moved = late & (payments.channel == WEB) & (payments.pattern < 0) & (rng.random(len(payments)) < 0.6)
    day = (payments.time - world.start) / DAY
    cents = np.where(late, payments.cents * 135 // 100, payments.cents)
    device = np.where(moved, world.phone(payments.customer, day), payments.device)
    channel = np.where(moved, APP, payments.channel)
    return Payments(**{**vars(payments), "cents": cents, "device": device, "channel": channel})


def _favourites(rng: Generator, home: Ints, place: Ints, popularity: Floats) -> Ints:
    chosen = np.zeros((len(home), FAVOURITES), dtype=np.int64)
    for country in np.unique(home):
        pool = np.flatnonzero(place == country)
        pool = pool if len(pool) else np.arange(len(place))
        here = np.flatnonzero(home == country)
        chances = popularity[pool] / popularity[pool].sum()
        chosen[here] = pool[rng.choice(len(pool), (len(here), FAVOURITES), p=chances)]
    return chosen


def _random_days(rng: Generator, n: int, share_per_90_days: float, days: int) -> Floats:
    """Draw a day for about this share of customers; inf, after the end, for the others."""
    day = rng.uniform(0.0, 90.0 / share_per_90_days, n)
    return np.where(day < days, day, np.inf)


def _times(rng: Generator, world: World, customer: Ints) -> tuple[Ints, Floats]:
    n = len(customer)
    busy = np.array([1.0, 0.97, 0.98, 1.0, 1.12, 1.2, 0.85])[np.arange(world.days) % 7]
    day = rng.choice(world.days, n, p=busy / busy.sum())
    own = world.hour[customer] + rng.normal(0.0, 3.2, n)
    hour = np.where(rng.random(n) < 0.06, rng.uniform(0.0, 24.0, n), own) % 24.0
    when = day + hour / 24.0
    return to_instants(world, when), when


def _abroad(world: World, customer: Ints, day: Floats) -> Bools:
    since = day - world.trip_from[customer]
    return (since >= 0) & (since < world.trip_days[customer])


def _merchants(rng: Generator, world: World, customer: Ints, day: Floats) -> Ints:
    n = len(customer)
    position = (rng.random(n)[:, None] > world.loyalty[customer]).sum(axis=1)
    merchant = world.favourites[customer, np.minimum(position, FAVOURITES - 1)]
    anywhere = rng.choice(len(world.popularity), n, p=world.popularity)
    new = (rng.random(n) < 0.15) | (_abroad(world, customer, day) & (rng.random(n) < 0.8))
    return np.where(new, anywhere, merchant)


def _channels(rng: Generator, world: World, merchant: Ints) -> Ints:
    n = len(merchant)
    remote = np.where(rng.random(n) < 0.45, WEB, APP)
    return np.where(rng.random(n) < world.online[merchant], remote, POS)


def _devices(rng: Generator, world: World, customer: Ints, channel: Ints, day: Floats) -> Ints:
    """Mostly the customer's own device; some web payments have none, some a new one (no cookies)."""
    device, draw = world.device(customer, channel, day), rng.random(len(customer))
    new = world.customers_devices + 10**6 + np.arange(len(customer))
    web = channel == WEB
    return np.where(web & (draw < 0.08), new, np.where(web & (draw > 0.9), -1, device))


def _payment_countries(rng: Generator, world: World, customer: Ints, day: Floats) -> Ints:
    elsewhere = _abroad(world, customer, day) | (rng.random(len(customer)) < 0.02)
    return np.where(elsewhere, rng.integers(0, len(COUNTRIES), len(customer)), world.home[customer])


def _cents(rng: Generator, world: World, customer: Ints, merchant: Ints) -> Ints:
    n = len(customer)
    large = rng.random(n) < 0.008  # a sofa, a wedding
    factor = np.where(large, rng.lognormal(1.2, 0.4, n), 1.0)
    return to_cents(usual_amount(rng, world, customer, merchant) * factor)
