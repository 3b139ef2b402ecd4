"""A choice in full, for whoever has to defend it."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from detectors.strategy.choice import LEVELS, Choice
from pipeline.training.readiness import Cohort
from storage.database.column_types import as_datetime

WORDS = {
    "NO_LABELS": "no transaction is mature",
    "EXTREME_RARITY": "the upper bound of the share of fraud is under choose.rare",
    "WEIGHED": "the upper bound is under choose.rare, and held-out frauds weigh the classifiers of a blend",
    "FEW_POSITIVES": "fewer effective frauds than choose.few",
    "BLEND": "effective frauds between choose.few and choose.enough",
    "ENOUGH_POSITIVES": "effective frauds from choose.enough on",
    "EVIDENCE": "held-out frauds decided against the prior",
    "HELD_BY_HYSTERESIS": "the bar to stay is lower than the bar to begin",
    "WAITING_FOR_CONFIRMATION": "a change takes choose.confirm trainings in a row",
    "FIXED_BY_CONFIG": "choose.strategy is set",
}


def explained(numbers: Mapping[str, Any]) -> Iterator[str]:
    """A stored choice, line by line."""
    row = numbers["row"]
    yield f"choice {row['choice_id']} of {row['training_date']}, policy {row['policy']}, run {row['run_id']}"
    yield from _lines(row, numbers)


def previewed(choice: Choice, date: int) -> Iterator[str]:
    """A choice that was not made, line by line."""
    yield f"a training as of {as_datetime(date):%Y-%m-%d %H:%M} UTC would choose (nothing is stored)"
    row = {
        name: getattr(choice, name)
        for name in ("strategy", "proposed", "outlier_share", "rule", "sentence", "what_would_change")
    }
    yield from _lines(row, choice.numbers)


def _lines(row: Mapping[str, Any], numbers: Mapping[str, Any]) -> Iterator[str]:
    rarity, settings = numbers["rarity"], numbers["settings"]
    told = [
        ("strategy", f"{row['strategy']}; this training alone proposes {row['proposed']}"),
        ("because", row["sentence"]),
        ("rule", f"{row['rule']}: {WORDS.get(row['rule'], '')}"),
        ("would change it", row["what_would_change"]),
        ("outlier share", f"{row['outlier_share']:.0%} of flags are the outlier detector's own"),
        ("mature", f"{rarity['mature']:,.0f} transactions, {rarity['positives']:,.0f} of them fraud"),
        ("effective", f"{rarity['effective']:,.1f} frauds once clusters on one entity count once"),
        ("prevalence", _prevalence(rarity)),
        ("bars", f"a blend from {numbers['few_bar']:g}, classification from {numbers['enough_bar']:g} effective frauds"),
        ("gate", _gate(numbers, settings)),
        ("in force", numbers["in_force"] or "nothing before"),
        ("evidence", _evidence(numbers["comparison"])),
    ]  # fmt: skip
    for name, text in told:
        yield f"{name + ':':17}{text}"


def _prevalence(rarity: Mapping[str, Any]) -> str:
    if rarity["prevalence"] is None:
        return "unknown: nothing is mature"
    shown = [
        f"{10_000 * rarity[name]:.3g}"
        for name in ("prevalence", "shown_lower", "shown_upper", "lower", "upper")
    ]
    return f"{shown[0]} in 10,000 (Jeffreys {shown[1]} to {shown[2]}; for the gate Clopper–Pearson {shown[3]} to {shown[4]})"


def _gate(numbers: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    state = "open" if numbers["gate_open"] else "closed: outlier detection leads until a classifier wins"
    bounds = f"{10_000 * settings['rare']:g} and {10_000 * settings['common']:g} in 10,000"
    return f"of extreme rarity {state} (closes and opens at an upper bound of {bounds})"


def _evidence(comparison: Mapping[str, Any] | None) -> str:
    return "; ".join(_told(comparison)) if comparison else "none: no fraud could be held out"


def _told(comparison: Mapping[str, Any]) -> Iterator[str]:
    yield f"{comparison['positives']:g} held-out frauds"
    if "weight" in comparison:  # choices of earlier versions have none
        yield f"a blend gives classifiers {comparison['weight']:.0%} of the say and finds {comparison['gain']:+.2f} of each more"
    values = comparison.get("values") or {}
    for measure, form in (("average precision", ".3f"), ("cost", ",.0f")):
        of = [f"{name} {values[key]:{form}}" for name in LEVELS if (key := f"{name}.{measure}") in values]
        if of:
            yield f"{measure} {', '.join(of)}"
    for one in comparison["comparisons"]:
        if LEVELS.index(one["strategy"]) > LEVELS.index(one["against"]):  # the other way round says the same
            form = "+.3f" if one["measure"] == "average precision" else "+,.0f"
            better = f"{one['lower']:{form}} to {one['upper']:{form}}"
            yield f"{one['strategy']} better than {one['against']} by {better} in {one['measure']}"


def young(cohorts: Sequence[Cohort]) -> Iterator[str]:
    """What is too young to be counted, as an estimate, line by line."""
    for one in cohorts:
        expected = (
            ""
            if isnan(one.expected)
            else f", about {one.expected:,.0f} to be expected by the delays of reports"
        )
        yield (
            f"{'not mature:':17}{one.youngest:g} to {one.oldest:g} days old, {one.transactions:,} transactions, "
            f"{one.reported:,} frauds reported so far{expected}"
        )
