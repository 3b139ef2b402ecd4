"""Explain a choice of strategy: its evidence, thresholds and rule, line by line."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from detectors.base import STRATEGIES
from detectors.strategy.choice import Choice
from pipeline.training.readiness import Cohort
from storage.database.column_types import as_datetime

RULE_TEXTS = {
    "NO_LABELS": "no transaction is mature",
    "EXTREME_RARITY": "the upper bound of the share of fraud is under strategy.prevalence_gate_low",
    "WEIGHED": "the upper bound is under strategy.prevalence_gate_low, and held-out frauds set the weight of the classifiers in a blend",
    "FEW_POSITIVES": "fewer effective frauds than strategy.min_positives_blend",
    "BLEND": "effective frauds between strategy.min_positives_blend and strategy.min_positives_classifier",
    "ENOUGH_POSITIVES": "effective frauds from strategy.min_positives_classifier on",
    "EVIDENCE": "held-out frauds decided against the default strategy",
    "HELD_BY_HYSTERESIS": "the bar to stay is lower than the bar to begin",
    "WAITING_FOR_CONFIRMATION": "a change takes strategy.confirmations trainings in a row",
    "FIXED_BY_CONFIG": "strategy.method is set",
}


def explain_choice(numbers: Mapping[str, Any]) -> Iterator[str]:
    """Explain a stored choice, line by line."""
    row = numbers["row"]
    yield f"choice {row['choice_id']} of {row['training_date']:%Y-%m-%d %H:%M} UTC, policy {row['policy']}, run {row['run_id']}"
    yield from _lines(row, numbers)


def describe_preview(choice: Choice, date: int) -> Iterator[str]:
    """Explain a choice that was only previewed, line by line."""
    yield f"a training as of {as_datetime(date):%Y-%m-%d %H:%M} UTC would choose (nothing is stored)"
    row = {
        name: getattr(choice, name)
        for name in ("strategy", "proposed", "outlier_share", "rule", "sentence", "next_change")
    }
    yield from _lines(row, choice.numbers)


def _lines(row: Mapping[str, Any], numbers: Mapping[str, Any]) -> Iterator[str]:
    prevalence, settings = numbers["prevalence"], numbers["settings"]
    lines = [
        ("strategy", f"{row['strategy']}; this training alone proposes {row['proposed']}"),
        ("reason", row["sentence"]),
        ("rule", f"{row['rule']}: {RULE_TEXTS.get(row['rule'], '')}"),
        ("next change", row["next_change"]),
        ("outlier share", f"{row['outlier_share']:.0%} of flags go to the outlier detector alone"),
        ("mature", f"{prevalence['mature']:,.0f} transactions, {prevalence['positives']:,.0f} of them fraud"),
        ("effective", f"{prevalence['effective']:,.1f} frauds; a cluster on one entity counts once"),
        ("prevalence", _prevalence_text(prevalence)),
        ("thresholds", f"a blend from {numbers['min_positives_blend']:g}, classification from {numbers['min_positives_classifier']:g} effective frauds"),
        ("gate", _gate_text(numbers, settings)),
        ("in force", numbers["in_force"] or "none before"),
        ("evidence", _evidence_text(numbers["evidence"])),
    ]  # fmt: skip
    for name, text in lines:
        yield f"{name + ':':17}{text}"


def _prevalence_text(prevalence: Mapping[str, Any]) -> str:
    if prevalence["prevalence"] is None:
        return "unknown: nothing is mature"
    values = [
        f"{100 * prevalence[name]:.3g}"
        for name in ("prevalence", "display_lower", "display_upper", "lower", "upper")
    ]
    return f"{values[0]} % (Jeffreys {values[1]} to {values[2]} %; for the gate Clopper–Pearson {values[3]} to {values[4]} %)"


def _gate_text(numbers: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    state = "open" if numbers["gate_open"] else "closed: outlier detection leads until a classifier wins"
    bounds = f"{100 * settings['prevalence_gate_low']:g} and {100 * settings['prevalence_gate_high']:g} %"
    return f"extreme-rarity gate {state} (closes and opens at an upper bound of {bounds})"


def _evidence_text(comparison: Mapping[str, Any] | None) -> str:
    return "; ".join(_comparison_texts(comparison)) if comparison else "none: no fraud could be held out"


def _comparison_texts(comparison: Mapping[str, Any]) -> Iterator[str]:
    yield f"{comparison['positives']:g} held-out frauds"
    if "weight" in comparison:
        yield f"a blend gives classifiers {comparison['weight']:.0%} of the weight and finds {comparison['gain']:+.2f} more of each fraud"
    values = comparison.get("values") or {}
    for metric, form in (("average precision", ".3f"), ("cost", ",.0f")):
        of = [f"{name} {values[key]:{form}}" for name in STRATEGIES if (key := f"{name}.{metric}") in values]
        if of:
            yield f"{metric} {', '.join(of)}"
    for pair in comparison["comparisons"]:
        # the reverse pair would repeat it
        if STRATEGIES.index(pair["strategy"]) > STRATEGIES.index(pair["against"]):
            form = "+.3f" if pair["metric"] == "average precision" else "+,.0f"
            better = f"{pair['lower']:{form}} to {pair['upper']:{form}}"
            yield f"{pair['strategy']} better than {pair['against']} by {better} in {pair['metric']}"


def describe_young_cohorts(cohorts: Sequence[Cohort]) -> Iterator[str]:
    """Describe transactions that are not mature yet, with the frauds expected among them, a line per cohort."""
    for cohort in cohorts:
        expected = (
            "" if isnan(cohort.expected) else f", about {cohort.expected:,.0f} expected from the label delay"
        )
        yield (
            f"{'not mature:':17}{cohort.youngest:g} to {cohort.oldest:g} days old, {cohort.transactions:,} transactions, "
            f"{cohort.reported:,} frauds reported so far{expected}"
        )
