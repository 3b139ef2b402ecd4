"""Texts of a choice of strategy: its rule, prevalence, gate and evidence, line by line."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.number_text import counted, exact, number

if TYPE_CHECKING:
    from pipeline.services.models.strategy import (
        ChoiceExplanation,
        ChoicePreview,
        EvidenceSummary,
        ExplainedChoice,
        PrevalenceGate,
        YoungCohort,
    )

RULE_TEXTS = {
    "NO_LABELS": "no transaction is mature",
    "EXTREME_RARITY": "the upper bound of the share of fraud is under strategy.prevalence_gate_low",
    "FIRST_FRAUD": "the upper bound is under strategy.prevalence_gate_low, and one known fraud steers outlier detection",
    "WEIGHED": "the upper bound is under strategy.prevalence_gate_low, and held-out frauds set the weight of the classifiers in a blend",
    "FEW_POSITIVES": "fewer independent fraud cases than strategy.min_positives_blend",
    "BLEND": "independent fraud cases between strategy.min_positives_blend and strategy.min_positives_classifier",
    "ENOUGH_POSITIVES": "independent fraud cases from strategy.min_positives_classifier on",
    "EVIDENCE": "held-out frauds decided against the default strategy",
    "HELD_BY_HYSTERESIS": "the bar to stay is lower than the bar to begin",
    "WAITING_FOR_CONFIRMATION": "a change takes strategy.confirmations trainings in a row",
    "FIXED_BY_CONFIG": "strategy.method is set",
}


def choice_lines(explained: "ExplainedChoice") -> Iterator[str]:
    """A stored choice with everything that it rests on."""
    choice = explained.choice
    yield f"choice {choice.choice_id} of {choice.training_date:%Y-%m-%d %H:%M:%S} UTC, policy {choice.policy}, run {choice.run_id}"
    yield from _explanation_lines(explained.explanation)


def preview_lines(preview: "ChoicePreview") -> Iterator[str]:
    """What a training would choose, and the transactions that are not mature yet."""
    yield f"a training as of {preview.training_date:%Y-%m-%d %H:%M} UTC would choose (nothing is stored)"
    yield from _explanation_lines(preview.explanation)
    for cohort in preview.young_cohorts:
        yield _line("not mature", _cohort_text(cohort))


def _explanation_lines(explanation: "ChoiceExplanation") -> Iterator[str]:
    prevalence = explanation.prevalence
    lines = {
        "strategy": f"{explanation.strategy}; this training alone proposes {explanation.proposed}",
        "reason": explanation.sentence,
        "rule": f"{explanation.rule}: {RULE_TEXTS.get(explanation.rule, '')}",
        "next change": explanation.next_change,
        "outlier share": f"{explanation.outlier_share:.0%} of flags go to the outlier detector alone",
        "mature": f"{prevalence.mature:,.0f} transactions, {prevalence.positives:,.0f} of them fraud",
        "effective": f"{counted(math.floor(prevalence.effective), 'independent fraud case')}; a cluster on one entity counts once",
        "prevalence": _prevalence_text(explanation),
        **_reviews_text(explanation),
        "thresholds": f"a blend from {exact(explanation.frauds_for_blend)}, classification from {exact(explanation.frauds_for_classification)} independent fraud cases",
        "gate": _gate_text(explanation.gate),
        "in force": explanation.in_force or "none before",
        "evidence": "; ".join(_evidence_texts(explanation.evidence)),
    }
    yield from (_line(name, text) for name, text in lines.items())


def _line(name: str, text: str) -> str:
    return f"{name + ':':17}{text}"


def _prevalence_text(explanation: "ChoiceExplanation") -> str:
    estimate = explanation.prevalence
    if estimate.prevalence is None:
        return "unknown: nothing is mature"
    value, shown_lower, shown_upper, lower, upper = (
        number(100 * share)
        for share in (
            estimate.prevalence, estimate.display_lower, estimate.display_upper, estimate.lower, estimate.upper
        )
    )  # fmt: skip
    return f"{value} % (Jeffreys {shown_lower} to {shown_upper} %; for the gate Clopper–Pearson {lower} to {upper} %)"


def _reviews_text(explanation: "ChoiceExplanation") -> dict[str, str]:
    reviews = explanation.prevalence.reviews
    if reviews is None:
        return {}
    return {
        "reviews": f"{reviews.reviewed:,} reviewed, {reviews.censored:,} stopped or refunded without a verdict; at their word the fraud "
        f"rate is {number(100 * reviews.uncorrected)} %, and reviewers call {reviews.false_verdicts:.0%} of genuine payments fraud"
    }


def _gate_text(gate: "PrevalenceGate") -> str:
    state = "open" if gate.is_open else "closed: outlier detection leads until a classifier wins"
    bounds = f"{exact(round(100 * gate.closes_below, 9))} and {exact(round(100 * gate.opens_from, 9))} %"
    return f"extreme-rarity gate {state} (closes and opens at an upper bound of {bounds})"


def _evidence_texts(evidence: "EvidenceSummary | None") -> Iterator[str]:
    if evidence is None:
        yield "none: no fraud could be held out"
        return
    yield f"{exact(round(evidence.positives, 9))} held-out frauds"
    yield f"a blend gives classifiers {evidence.classifier_weight:.0%} of the weight and finds {evidence.gain:+.2f} more of each fraud"
    ranked = [each for each in evidence.metrics if each.average_precision is not None]
    if ranked:
        yield "average precision " + ", ".join(
            f"{each.strategy} {each.average_precision:.3f}" for each in ranked
        )
    if evidence.metrics:
        yield "cost " + ", ".join(f"{each.strategy} {each.cost.value:,.0f}" for each in evidence.metrics)
    for pair in evidence.comparisons:
        form = "+.3f" if pair.metric == "average precision" else "+,.0f"
        better = f"{pair.lower:{form}} to {pair.upper:{form}}"
        yield f"{pair.strategy} better than {pair.against} by {better} in {pair.metric}"


def _cohort_text(cohort: "YoungCohort") -> str:
    expected = (
        "" if cohort.expected is None else f", about {cohort.expected:,.0f} expected from the label delay"
    )
    return (
        f"{cohort.youngest_days:g} to {cohort.oldest_days:g} days old, {cohort.transactions:,} transactions, "
        f"{cohort.reported:,} frauds reported so far{expected}"
    )
