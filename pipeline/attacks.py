"""
The frauds of `fraudwatch simulate`: four patterns, each hard in its own way.

- stolen card: a few large payments within hours, at merchants and on a device the customer never used;
- takeover: the customer's account from another device, amounts rising over days, the first ones unremarkable;
- card testing: many tiny amounts from one device within an hour, most of them declined;
- compromised merchant: for weeks usual-looking payments with stolen data at one merchant. Nothing about a
  single one is unusual; only labels give the merchant away.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from pipeline.world import (
    APP,
    COUNTRIES,
    DEVICES_PER_CUSTOMER,
    WEB,
    Payments,
    World,
    at,
    join,
    to_cents,
    usual_amount,
)
from storage.frames import Floats, Ints

PATTERNS = ("stolen_card", "takeover", "card_testing", "compromised_merchant")
STOLEN, TAKEOVER, TESTING, COMPROMISED = range(4)
SHARES = (0.60, 0.33, 0.04, 0.03)  # of attacks
SIZES = ((3, 7), (3, 7), (8, 17), (12, 29))  # payments an attack makes, from and below
LASTS = (0.3, 4.0, 0.04, 21.0)  # days
IN_APP = (0.25, 0.6, 0.0, 0.5)  # share of payments
DECLINED = (0.12, 0.06, 0.7, 0.04)  # share of payments
HIDDEN = (0.5, 0.65, 0.4, 0.9)  # share of attacks through a proxy in the victim's country
SHARED_DEVICES = 12
FIRST_DAYS = 25  # attacks become more frequent until then: the word gets round


def draw_attacks(rng: Generator, world: World, n_frauds: int) -> Payments:
    """Draw attacks that make about n_frauds payments together, in no order."""
    size_mean = sum(share * (low + high - 1) / 2 for share, (low, high) in zip(SHARES, SIZES, strict=True))
    n = max(len(PATTERNS), round(n_frauds / size_mean))
    begins = _begins(rng, world.days, n)
    pattern = rng.permutation(np.repeat(np.arange(len(PATTERNS)), _split(n)))
    return join([_attack(rng, world, kind, begins[pattern == kind]) for kind in range(len(PATTERNS))])


def _begins(rng: Generator, days: int, n: int) -> Floats:
    """Days on which attacks begin: spread evenly over a rate that grows for FIRST_DAYS, then stays."""
    grid = np.linspace(0.0, days, 50 * days + 1)
    rate = np.minimum(0.35 + 0.65 * grid / FIRST_DAYS, 1.0)
    reached = np.concatenate(([0.0], np.cumsum(rate[1:])))
    return np.interp((np.arange(n) + rng.random(n)) / n, reached / reached[-1], grid)


def _split(n: int) -> list[int]:
    counts = [max(1, round(n * share)) for share in SHARES[1:]]
    return [max(1, n - sum(counts)), *counts]


@dataclass(frozen=True)
class _Series:
    """The payments of all attacks of one kind, in the order of the attacks; arrays (n_payments,)."""

    kind: int
    attack: Ints  # number of the attack, ascending from 0
    nth: Ints  # of its attack, from 0
    day: Floats
    customer: Ints
    merchant: Ints
    channel: Ints

    @property
    def attacks(self) -> int:
        """How many attacks there are."""
        return int(self.attack[-1]) + 1


def _attack(rng: Generator, world: World, kind: int, begins: Floats) -> Payments:
    """Draw all attacks of one kind: first when, who and where, then the rest."""
    sizes = rng.integers(*SIZES[kind], len(begins))
    attack = np.repeat(np.arange(len(begins)), sizes)
    nth = np.arange(len(attack)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    n = len(attack)
    series = _Series(
        kind=kind,
        attack=attack,
        nth=nth,
        day=begins[attack] + LASTS[kind] * (nth + rng.random(n)) / sizes[attack],
        customer=_victims(rng, world, kind, attack),
        merchant=_merchants(rng, world, kind, attack),
        channel=np.where(rng.random(n) < IN_APP[kind], APP, WEB),
    )
    return Payments(
        time=at(world, series.day),
        customer=series.customer,
        card=_cards(rng, world, series),
        merchant=series.merchant,
        device=_devices(rng, world, series),
        channel=series.channel,
        country=_countries(rng, world, series),
        cents=_cents(rng, world, series),
        declined=rng.random(n) < DECLINED[kind],
        pattern=np.full(n, kind),
    )


def _victims(rng: Generator, world: World, kind: int, attack: Ints) -> Ints:
    """One victim an attack; stolen data used at one merchant or tested in a series is of many customers."""
    several = kind in (TESTING, COMPROMISED)
    n = len(attack) if several else int(attack[-1]) + 1
    victims: Ints = rng.choice(len(world.home), n, p=world.activity)
    return victims if several else victims[attack]


def _merchants(rng: Generator, world: World, kind: int, attack: Ints) -> Ints:
    """Fraud goes where goods are dear and checks are weak; a series stays at one merchant."""
    temptation = world.online * np.exp(0.5 * world.price) * world.popularity**0.15
    one = kind in (TESTING, COMPROMISED)
    n = int(attack[-1]) + 1 if one else len(attack)
    chosen: Ints = rng.choice(len(temptation), n, p=temptation / temptation.sum())
    return chosen[attack] if one else chosen


def _cards(rng: Generator, world: World, series: _Series) -> Ints:
    cards = world.card_of(rng, series.customer)
    if series.kind != STOLEN:
        return cards
    first = np.searchsorted(series.attack, np.arange(series.attacks))
    return cards[first][series.attack]  # one card was stolen, not both


def _devices(rng: Generator, world: World, series: _Series) -> Ints:
    """A device of the attack's own; one attack in six uses a device that served another attack, too."""
    own = len(world.home) * DEVICES_PER_CUSTOMER
    n, attacks = len(series.attack), series.attacks
    if series.kind == COMPROMISED:  # the merchant leaks: half of it comes from the customer's device
        computer = series.customer * DEVICES_PER_CUSTOMER + 2
        theirs = np.where(series.channel == APP, world.phone(series.customer, series.day), computer)
        return np.where(rng.random(n) < 0.5, theirs, own + SHARED_DEVICES + rng.integers(0, 10**6, n))
    again = own + rng.integers(0, SHARED_DEVICES, attacks)
    new = own + SHARED_DEVICES + rng.integers(0, 10**6, attacks)
    return np.where(rng.random(attacks) < 1 / 6, again, new)[series.attack]


def _countries(rng: Generator, world: World, series: _Series) -> Ints:
    far = rng.integers(0, len(COUNTRIES), series.attacks)[series.attack]
    hidden = rng.random(series.attacks)[series.attack] < HIDDEN[series.kind]
    return np.where(hidden, world.home[series.customer], far)


def _cents(rng: Generator, world: World, series: _Series) -> Ints:
    n = len(series.attack)
    if series.kind == TESTING:
        return to_cents(rng.uniform(0.5, 4.0, n))
    usual = usual_amount(rng, world, series.customer, series.merchant)
    if series.kind == COMPROMISED:
        return to_cents(usual)
    rise = 0.3 + 0.3 * series.nth if series.kind == TAKEOVER else 0.9
    return to_cents(usual * np.exp(rise + rng.normal(0.0, 0.45, n)))
