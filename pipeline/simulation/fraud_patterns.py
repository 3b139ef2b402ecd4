"""
Simulates fraud for `fraudwatch simulate`: four patterns, each difficult to detect for another reason.

- stolen card: a few large payments within hours at merchants the customer never used, mostly on a new device;
- takeover: a criminal uses the customer's account; amounts rise over days, the first ones are usual;
- card testing: many tiny amounts from one device within an hour, most of them declined;
- compromised merchant: for weeks usual-looking payments with stolen data at one merchant. No single payment is
  unusual; only labels reveal the merchant.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from pipeline.simulation.economy import (
    APP,
    COUNTRIES,
    WEB,
    Payments,
    World,
    join,
    to_cents,
    to_instants,
    usual_amount,
)
from storage.frames import Floats, Ints


@dataclass(frozen=True)
class Pattern:
    """The properties of one kind of fraud. Shares are of its payments, unless noted otherwise."""

    name: str
    share: float  # of all attacks
    sizes: tuple[int, int]  # payments per attack: from, and below
    days: float  # from first to last payment
    in_app: float
    declined: float
    hidden: float  # share of attacks through a proxy in the victim's country
    own_device: float  # share of attacks from a device the victim uses
    no_device: float  # share of attacks whose payments carry no device
    many_victims: bool = False  # if so, all payments are at one merchant


STOLEN, TAKEOVER, TESTING, COMPROMISED, SPREE = range(5)
FRAUDS = (
    Pattern("stolen_card", 0.60, (3, 7), 0.3, 0.25, 0.10, 0.70, 0.05, 0.35),
    Pattern("takeover", 0.33, (3, 7), 4.0, 0.60, 0.06, 0.75, 0.45, 0.05),
    Pattern("card_testing", 0.04, (8, 17), 0.04, 0.0, 0.7, 0.50, 0.0, 0.1, many_victims=True),
    Pattern("compromised_merchant", 0.03, (12, 29), 21.0, 0.5, 0.04, 0.95, 0.75, 0.0, many_victims=True),
)
# Genuine but looks like fraud: a customer buys several things within hours at new shops, some expensive.
LOOKALIKE = Pattern("spree", 0.0, (2, 7), 0.25, 0.45, 0.04, 0.93, 0.75, 0.15)
PATTERNS = tuple(pattern.name for pattern in FRAUDS)

CARELESS = 6  # merchants that are attacked again and again
SHARED_DEVICES = 12  # used in more than one attack
FIRST_DAYS = 25  # attacks become more frequent until then


def draw_attacks(rng: Generator, world: World, n_frauds: int) -> Payments:
    """Draw attacks with about n_frauds payments in total, unordered."""
    size_mean = sum(pattern.share * (sum(pattern.sizes) - 1) / 2 for pattern in FRAUDS)
    n = max(len(FRAUDS), round(n_frauds / size_mean))
    begins = _begin_days(rng, world.days, n)
    kinds = rng.permutation(np.repeat(np.arange(len(FRAUDS)), _attack_counts(n)))
    return join([_draw_attacks_of(rng, world, kind, begins[kinds == kind]) for kind in range(len(FRAUDS))])


def draw_sprees(rng: Generator, world: World, n: int) -> Payments:
    """Draw n genuine shopping sprees on any days, unordered."""
    return _draw_attacks_of(rng, world, SPREE, np.sort(rng.uniform(0.0, world.days, n)))


def _begin_days(rng: Generator, days: int, n: int) -> Floats:
    """Draw the days on which attacks begin, at a rate that grows for FIRST_DAYS and is then constant."""
    grid = np.linspace(0.0, days, 50 * days + 1)
    rate = np.minimum(0.35 + 0.65 * grid / FIRST_DAYS, 1.0)
    reached = np.concatenate(([0.0], np.cumsum(rate[1:])))
    return np.interp((np.arange(n) + rng.random(n)) / n, reached / reached[-1], grid)


def _attack_counts(n: int) -> list[int]:
    counts = [max(1, round(n * pattern.share)) for pattern in FRAUDS[1:]]
    return [max(1, n - sum(counts)), *counts]


@dataclass(frozen=True)
class _AttackPayments:
    """The payments of all attacks of one kind, ordered by attack; arrays (n_payments,)."""

    kind: int
    attack: Ints  # number of the attack, ascending from 0
    nth: Ints  # of its attack, from 0
    day: Floats
    customer: Ints
    merchant: Ints
    channel: Ints

    @property
    def attacks(self) -> int:
        """The number of attacks."""
        return int(self.attack[-1]) + 1

    @property
    def pattern(self) -> Pattern:
        """Their pattern."""
        return (*FRAUDS, LOOKALIKE)[self.kind]

    def uniform_by_attack(self, rng: Generator) -> Floats:
        """Draw a uniform number for each attack, repeated for its payments."""
        return rng.random(self.attacks)[self.attack]


def _draw_attacks_of(rng: Generator, world: World, kind: int, begins: Floats) -> Payments:
    """Draw all attacks of one kind: first time, victim and merchant, then the rest."""
    pattern = (*FRAUDS, LOOKALIKE)[kind]
    sizes = rng.integers(*pattern.sizes, len(begins))
    attack = np.repeat(np.arange(len(begins)), sizes)
    nth = np.arange(len(attack)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    n = len(attack)
    series = _AttackPayments(
        kind=kind,
        attack=attack,
        nth=nth,
        day=begins[attack] + pattern.days * (nth + rng.random(n)) / sizes[attack],
        customer=_victims(rng, world, pattern, attack),
        merchant=_merchants(rng, world, pattern, attack),
        channel=np.where(rng.random(n) < pattern.in_app, APP, WEB),
    )
    return Payments(
        time=to_instants(world, series.day),
        customer=series.customer,
        card=_cards(rng, world, series),
        merchant=series.merchant,
        device=_devices(rng, world, series),
        channel=series.channel,
        country=_countries(rng, world, series),
        cents=_cents(rng, world, series),
        declined=rng.random(n) < pattern.declined,
        pattern=np.full(n, -1 if kind == SPREE else kind),
    )


def _victims(rng: Generator, world: World, pattern: Pattern, attack: Ints) -> Ints:
    """Draw one victim per attack, or one per payment."""
    n = len(attack) if pattern.many_victims else int(attack[-1]) + 1
    victims: Ints = rng.choice(len(world.home), n, p=world.activity)
    return victims if pattern.many_victims else victims[attack]


def _merchants(rng: Generator, world: World, pattern: Pattern, attack: Ints) -> Ints:
    """Draw merchants: expensive and online ones; for patterns with many victims one of CARELESS merchants."""
    temptation = world.online * np.exp(0.5 * world.price) * world.popularity**0.15
    chances = temptation / temptation.sum()
    if pattern.many_victims:
        careless: Ints = np.argsort(-temptation)[
            10 : 10 + CARELESS
        ]  # expensive and online, but not the largest
        return careless[rng.integers(0, CARELESS, int(attack[-1]) + 1)][attack]
    chosen: Ints = rng.choice(len(chances), len(attack), p=chances)
    return chosen


def _cards(rng: Generator, world: World, series: _AttackPayments) -> Ints:
    cards = world.card_of(rng, series.customer)
    if series.pattern.many_victims:
        return cards
    first = np.searchsorted(series.attack, np.arange(series.attacks))
    return cards[first][series.attack]


def _devices(rng: Generator, world: World, series: _AttackPayments) -> Ints:
    """The victim's device, none, or an unknown one; one unknown device in six is used in another attack, too."""
    taken = world.customers_devices
    again = taken + rng.integers(0, SHARED_DEVICES, series.attacks)
    new = taken + SHARED_DEVICES + rng.integers(0, 10**6, series.attacks)
    strange = np.where(rng.random(series.attacks) < 1 / 6, again, new)[series.attack]
    pattern, draw = series.pattern, series.uniform_by_attack(rng)
    without = np.where(draw > 1.0 - pattern.no_device, -1, strange)
    return np.where(
        draw < pattern.own_device, world.device(series.customer, series.channel, series.day), without
    )


def _countries(rng: Generator, world: World, series: _AttackPayments) -> Ints:
    far = rng.integers(0, len(COUNTRIES), series.attacks)[series.attack]
    return np.where(series.uniform_by_attack(rng) < series.pattern.hidden, world.home[series.customer], far)


def _cents(rng: Generator, world: World, series: _AttackPayments) -> Ints:
    n = len(series.attack)
    if series.kind == TESTING:
        return to_cents(rng.uniform(0.5, 4.0, n))
    usual = usual_amount(rng, world, series.customer, series.merchant)
    # log of the factor on usual amounts: rising with each payment, constant, or none
    rise = {TAKEOVER: 0.2 + 0.25 * series.nth, STOLEN: np.full(n, 0.7), SPREE: np.full(n, 0.25)}
    return to_cents(
        usual * np.exp(rise[series.kind] + rng.normal(0.0, 0.45, n)) if series.kind in rise else usual
    )
