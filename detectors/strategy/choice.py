"""
The strategy choice between outlier detection, a blend and classification, with the rule behind it.

Prevalence comes first, then the number of effective frauds, then evidence, then hysteresis::

    prior       upper bound of prevalence below `prevalence_gate_low` → outlier, until it reaches
                `prevalence_gate_high`; with a held-out fraud → a blend, whose weight is learned from such frauds, and
                with a single known one → a blend in which classifiers have no weight
                effective frauds below `min_positives_blend` → outlier, below `min_positives_classifier` → blend,
                else classification
    evidence    a strategy that beats the prior on held-out frauds replaces it; a tie keeps the prior
    hysteresis  a change needs `confirmations` evaluations in a row, and the bounds to stay are lower

The function is pure: the same counts and the same earlier choices give the same choice. `choose_in_order` has a finite memory: it
takes what some dates say, oldest first, and begins with the first of them as if nothing had been chosen before. A classifier catches up with an
outlier detector at 2 to 1,000 known frauds, depending on the data, so no bound on a count is right everywhere. A low bound
is safe because the blend's weight is learned (`detectors.strategy.blend`): it favours the outlier detector until held-out
frauds show that classifiers are better. The default bounds come from `benchmarks/choice.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, Literal, Self

from detectors.base import MIN_FRAUDS_TO_FIT, STRATEGIES, Method, Strategy
from detectors.evaluation.comparison import MIN_AP_DIFFERENCE, MIN_COST_DIFFERENCE
from detectors.evaluation.prevalence import (
    PrevalenceEstimate,
    ReviewCorrection,
    describe_frauds,
    describe_prevalence,
    percent,
)

Metric = Literal["cost", "average precision"]

STAY_SHARE = 0.8  # of a bound on frauds: one in five may vanish (the span moves on, verdicts change) before a step back
# Effective frauds in validation folds; with fewer, confidence intervals of differences are too wide.
MIN_VALIDATION_FRAUDS = 20
MOST_CONFIRMATIONS = 2  # with more, the pasts to be tried are too many
STRATEGY_NAMES = {"outlier": "outlier detection", "blend": "a blend", "classification": "classification"}


@dataclass(frozen=True)
class StrategySettings:
    """The keys of `[strategy]`."""

    method: Method = "auto"
    min_positives_blend: float = 1
    min_positives_classifier: float = 300
    prevalence_gate_low: float = 1e-4
    prevalence_gate_high: float = 1.2e-4
    confirmations: int = 2
    outlier_share: float = 0.1


@dataclass(frozen=True)
class PreviousChoice:
    """
    The choice of an earlier training.

    `gate_open` is the state of the prevalence gate then (`Choice.numbers["gate_open"]`). If it is unknown, it is
    inferred from the strategy: the gate was open unless the strategy was outlier detection.
    """

    strategy: Strategy  # in force
    proposed: Strategy  # by that training alone
    gate_open: bool | None = None


@dataclass(frozen=True)
class StrategyComparison:
    """Confidence interval of how much better `strategy` was than `against` by `metric`; positive = better."""

    strategy: Strategy
    against: Strategy
    metric: Metric
    lower: float
    upper: float


@dataclass(frozen=True)
class Evidence:
    """
    Comparison of the strategies on the same time-ordered validation folds.

    Attributes
    ----------
    positives
        Held-out frauds, clusters on one entity within a fold counted once.
    weight, gain
        Weight of the classifiers in a blend, and its mean gain in detection credit per held-out fraud over the outlier
        detector alone.
    values
        Average precision and cost of each strategy, by "strategy.metric".
    """

    positives: float
    comparisons: tuple[StrategyComparison, ...]
    weight: float = 0.0
    gain: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What one training date says of the strategies, whatever was chosen before."""

    prevalence: PrevalenceEstimate
    evidence: Evidence | None = None

    def numbers(self) -> dict[str, Any]:
        """Everything in it, as JSON."""
        evidence = None if self.evidence is None else asdict(self.evidence)
        return {"prevalence": asdict(self.prevalence), "evidence": evidence}

    @classmethod
    def of(cls, numbers: Mapping[str, Any]) -> Self:
        """The evaluation that has these numbers, `numbers()` of it or of a choice; null is NaN, which JSON does not have."""
        prevalence, evidence = numbers["prevalence"], numbers["evidence"]
        reviews = prevalence.get("reviews")
        correction = None if reviews is None else ReviewCorrection(**reviews)
        estimate = PrevalenceEstimate(**{**prevalence, "reviews": correction})
        return cls(estimate, None if evidence is None else _evidence_of(evidence))


def _evidence_of(numbers: Mapping[str, Any]) -> Evidence:
    comparisons = tuple(
        StrategyComparison(**{**pair, "lower": _number(pair["lower"]), "upper": _number(pair["upper"])})
        for pair in numbers["comparisons"]
    )
    values = {name: _number(value) for name, value in numbers["values"].items()}
    return Evidence(numbers["positives"], comparisons, numbers["weight"], numbers["gain"], values)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True)
class Choice:
    """The chosen strategy and its explanation."""

    strategy: Strategy
    proposed: Strategy  # by this evaluation alone
    rule: str  # stable code
    sentence: str  # prevalence first, for a risk manager
    next_change: str
    outlier_share: float  # share of flags reserved for the outlier detector
    numbers: dict[str, Any]  # JSON


@dataclass(frozen=True)
class _Bounds:
    """The bounds from which strategies are proposed, given the one in force."""

    gate_open: bool
    min_positives_blend: float
    min_positives_classifier: float


def choose(
    prevalence: PrevalenceEstimate,
    previous: Sequence[PreviousChoice],
    settings: StrategySettings,
    evidence: Evidence | None = None,
) -> Choice:
    """
    Choose the strategy of one training.

    Parameters
    ----------
    previous
        Earlier choices of the same policy, newest first; empty for the first choice, which needs no
        confirmation.
    evidence
        Comparison of the strategies on held-out frauds, if there are any.

    Notes
    -----
    A strategy with a classifier is left without confirmation if there are too few frauds to fit one.
    """
    explanation = _explained(prevalence, previous, settings, evidence)
    strategy, proposed = explanation.strategy, explanation.proposed
    return Choice(
        strategy=strategy,
        proposed=proposed,
        rule=explanation.rule,
        sentence=f"{describe_prevalence(prevalence)}; {explanation.reason_text()}.",
        next_change=explanation.next_change(_votes(proposed, previous)),
        outlier_share=outlier_share(strategy, settings),
        numbers=explanation.numbers(previous[0].strategy if previous else None),
    )


def _explained(
    prevalence: PrevalenceEstimate,
    previous: Sequence[PreviousChoice],
    settings: StrategySettings,
    evidence: Evidence | None,
) -> "_Explanation":
    """The choice, before it is put into words."""
    in_force = previous[0].strategy if previous else None
    bounds = _bounds(prevalence, previous, settings, in_force)
    prior, reason = _prior(prevalence, bounds, evidence)
    proposed = _winner(prior, evidence)
    if proposed != prior:
        reason = "EVIDENCE"
    elif (
        proposed == in_force
        and _prior(prevalence, _bounds(prevalence, (), settings, None), evidence)[0] != prior
    ):
        reason = "HELD_BY_HYSTERESIS"
    strategy, rule = _confirmed(prevalence, proposed, reason, previous, settings)
    return _Explanation(prevalence, settings, bounds, strategy, proposed, prior, reason, rule, evidence)


def choose_in_order(evaluations: Sequence[Evaluation], settings: StrategySettings) -> Choice:
    """
    Choose the strategy of the newest of some evaluations, oldest first: the first is chosen as if none had been before.

    What came before them does not matter, so that a choice can be repeated from a few dates. With 2 confirmations and all but
    the last evaluation in common, chains that begin at different dates end alike once two evaluations in a row propose the same
    from every strategy. They may part only where none did for as long as they look back: between the bounds to start and to stay.

    Raises
    ------
    ValueError
        There is no evaluation.
    """
    previous: list[PreviousChoice] = []
    choice: Choice | None = None
    for each in evaluations:
        choice = choose(each.prevalence, previous, settings, each.evidence)
        previous.insert(0, PreviousChoice(choice.strategy, choice.proposed, choice.numbers["gate_open"]))
    if choice is None:
        raise ValueError("a choice needs an evaluation")
    return choice


def forgets_its_past(evaluations: Sequence[Evaluation], settings: StrategySettings) -> bool:
    """
    Whether a choice after these evaluations, oldest first, is the same whatever was chosen before them.

    Every past that a choice looks at is tried: the newest `confirmations` choices before the first evaluation, or fewer.
    """
    looked_at = settings.confirmations
    if looked_at > MOST_CONFIRMATIONS or len(evaluations) < looked_at:
        return False
    choices = [PreviousChoice(*each) for each in product(STRATEGIES, STRATEGIES, (True, False))]
    pasts = {past for n in range(looked_at + 1) for past in product(choices, repeat=n)}
    for each in evaluations:
        pasts = {(_as_previous(each, past, settings), *past)[:looked_at] for past in pasts}
    # Of choices before the newest only what was proposed matters, and whether the gate was open.
    return len({(past[0], *((one.proposed, one.gate_open) for one in past[1:])) for past in pasts}) == 1


def _as_previous(
    evaluation: Evaluation, past: Sequence[PreviousChoice], settings: StrategySettings
) -> PreviousChoice:
    choice = _explained(evaluation.prevalence, past, settings, evaluation.evidence)
    return PreviousChoice(choice.strategy, choice.proposed, choice.bounds.gate_open)


def outlier_share(strategy: Strategy, settings: StrategySettings) -> float:
    """
    Share of flags reserved for the outlier detector: all under `outlier`, else `settings.outlier_share`.

    5 to 10 flags in a hundred found fraud without any label of its kind, at no cost in recall. A blend needs no more:
    until its classifiers gain weight, the outlier detector leads it anyway.
    """
    return 1.0 if strategy == "outlier" else settings.outlier_share


def _bounds(
    prevalence: PrevalenceEstimate,
    previous: Sequence[PreviousChoice],
    settings: StrategySettings,
    in_force: Strategy | None,
) -> _Bounds:
    # Under outlier detection one noisy evaluation must not lower the bound for the one that confirms it.
    recent = previous[: settings.confirmations] if in_force == "outlier" else previous[:1]
    stays_open = (
        bool(recent) and all(map(_was_open, recent)) and prevalence.upper >= settings.prevalence_gate_low
    )
    return _Bounds(
        prevalence.upper >= settings.prevalence_gate_high or stays_open, *_fraud_bounds(settings, in_force)
    )


def _was_open(previous: PreviousChoice) -> bool:
    return previous.strategy != "outlier" if previous.gate_open is None else previous.gate_open


def _prior(
    prevalence: PrevalenceEstimate, bounds: _Bounds, evidence: Evidence | None
) -> tuple[Strategy, str]:
    if prevalence.mature == 0:
        return "outlier", "NO_LABELS"
    if prevalence.effective < bounds.min_positives_blend:
        return "outlier", "FEW_POSITIVES" if bounds.gate_open else "EXTREME_RARITY"
    if not bounds.gate_open and evidence is not None:
        return "blend", "WEIGHED"
    if not bounds.gate_open:  # classifiers that nothing has weighed are not let in
        one = prevalence.positives < MIN_FRAUDS_TO_FIT
        return ("blend", "FIRST_FRAUD") if one else ("outlier", "EXTREME_RARITY")
    if prevalence.effective < bounds.min_positives_classifier:
        return "blend", "BLEND"
    return "classification", "ENOUGH_POSITIVES"


def _winner(prior: Strategy, evidence: Evidence | None) -> Strategy:
    """The first strategy that is significantly and relevantly better than the prior by one metric and worse by none."""
    if evidence is None or evidence.positives < MIN_VALIDATION_FRAUDS:
        return prior
    rivals = [comparison for comparison in evidence.comparisons if comparison.against == prior]
    losers = {rival.strategy for rival in rivals if rival.upper < 0}
    winners = [
        rival.strategy
        for rival in rivals
        if rival.lower > 0 and _is_relevant(rival, evidence) and rival.strategy not in losers
    ]
    return winners[0] if winners else prior


def _is_relevant(comparison: StrategyComparison, evidence: Evidence) -> bool:
    """A significant difference that is too small to change the strategy for counts as a tie."""
    middle = (comparison.lower + comparison.upper) / 2
    if comparison.metric == "average precision":
        return middle >= MIN_AP_DIFFERENCE
    return middle >= MIN_COST_DIFFERENCE * evidence.values.get(f"{comparison.against}.cost", 0.0)


def _confirmed(
    prevalence: PrevalenceEstimate,
    proposed: Strategy,
    reason: str,
    previous: Sequence[PreviousChoice],
    settings: StrategySettings,
) -> tuple[Strategy, str]:
    if settings.method != "auto":
        return settings.method, "FIXED_BY_CONFIG"
    if not previous or proposed == previous[0].strategy:
        return proposed, reason
    if _votes(proposed, previous) >= settings.confirmations or prevalence.positives < MIN_FRAUDS_TO_FIT:
        return proposed, reason
    return previous[0].strategy, "WAITING_FOR_CONFIRMATION"


def _votes(proposed: Strategy, previous: Sequence[PreviousChoice]) -> int:
    """How many evaluations in a row, this one included, propose the same strategy."""
    others = (place for place, choice in enumerate(previous, 1) if choice.proposed != proposed)
    return next(others, len(previous) + 1)


@dataclass(frozen=True)
class _Explanation:
    """The inputs and the result of a choice, to explain it in sentences and numbers."""

    prevalence: PrevalenceEstimate
    settings: StrategySettings
    bounds: _Bounds
    strategy: Strategy
    proposed: Strategy
    prior: Strategy
    reason: str  # the rule behind `proposed`
    rule: str
    evidence: Evidence | None

    def reason_text(self) -> str:
        """Why this strategy was chosen: the second half of the sentence."""
        reason = self._reasons()[self.reason]
        if self.rule == "FIXED_BY_CONFIG":
            proposal = f"the data alone would choose {STRATEGY_NAMES[self.proposed]}: {reason}"
            return f'strategy.method = "{self.strategy}" is set; {proposal}'
        if self.rule == "WAITING_FOR_CONFIRMATION":
            confirmations = f"until {self.settings.confirmations} trainings in a row agree"
            return f"{reason}; {STRATEGY_NAMES[self.strategy]} stays {confirmations}"
        return reason

    def next_change(self, votes: int) -> str:
        """What has to happen for another strategy to be chosen, with numbers."""
        if self.rule == "FIXED_BY_CONFIG":
            proposal = STRATEGY_NAMES[self.proposed]
            return f'strategy.method = "auto" lets the data choose, which would now be {proposal}.'
        if self.rule == "WAITING_FOR_CONFIRMATION":
            more = self.settings.confirmations - votes
            trainings = (
                "1 more training that proposes"
                if more == 1
                else f"{more} more trainings in a row that propose"
            )
            return f"{trainings} {STRATEGY_NAMES[self.proposed]}."
        if self.reason == "EVIDENCE":
            winner, loser = STRATEGY_NAMES[self.strategy], STRATEGY_NAMES[self.prior]
            return f"Held-out frauds on which {winner} no longer beats {loser}."
        return f"{self._next()}."

    def numbers(self, in_force: Strategy | None) -> dict[str, Any]:
        """All inputs of the choice, as JSON."""
        return {
            "in_force": in_force,
            "prior": self.prior,
            "reason": self.reason,
            "prevalence": asdict(self.prevalence),
            "settings": asdict(self.settings),
            "gate_open": self.bounds.gate_open,
            "min_positives_blend": self.bounds.min_positives_blend,
            "min_positives_classifier": self.bounds.min_positives_classifier,
            "evidence": None if self.evidence is None else asdict(self.evidence),
        }

    def _reasons(self) -> dict[str, str]:
        """The sentence of each rule that can stand behind the proposal."""
        frauds, bounds, settings = describe_frauds(self.prevalence), self.bounds, self.settings
        blend = _bound_text(bounds.min_positives_blend, settings.min_positives_blend)
        classifier = _bound_text(bounds.min_positives_classifier, settings.min_positives_classifier)
        are = "is" if math.floor(self.prevalence.effective) == 1 else "are"
        beats = f"{STRATEGY_NAMES[self.proposed]} beats {STRATEGY_NAMES[self.prior]}"
        return {
            "NO_LABELS": "outlier detection is used because it needs no labels",
            "EXTREME_RARITY": f"{self._gate()}, so outlier detection is used until held-out frauds can weight a classifier",
            "WEIGHED": f"{self._gate()}, so outlier detection leads a blend; {self._classifier_weight()}",
            "FIRST_FRAUD": f"{self._gate()}, so outlier detection leads a blend; one known fraud steers it, and classifiers have no weight",
            "FEW_POSITIVES": f"{frauds} {are} too few for a blend, which needs {blend}, so outlier detection is used",
            "BLEND": f"{frauds} {are} enough for a blend; classification needs {classifier}{self._learned_weight()}",
            "ENOUGH_POSITIVES": f"{frauds} {are} enough for classification, which needs {classifier}",
            "HELD_BY_HYSTERESIS": self._hysteresis(),
            "EVIDENCE": f"{beats} on {self._validation_frauds():g} held-out frauds",
        }

    def _learned_weight(self) -> str:
        return "" if self.evidence is None else f"; {self._classifier_weight()}"

    def _classifier_weight(self) -> str:
        """The weight of the classifiers in a blend, and the number of held-out frauds behind it."""
        weight, n = (self.evidence.weight, self._validation_frauds()) if self.evidence else (0.0, 0.0)
        frauds = f"{n:,.0f} held-out fraud{'' if round(n) == 1 else 's'}"
        return f"its classifiers have a weight of {100 * weight:.0f} %, learned from {frauds}"

    def _validation_frauds(self) -> float:
        return self.evidence.positives if self.evidence else 0.0

    def _gate(self) -> str:
        low, high = self.settings.prevalence_gate_low, self.settings.prevalence_gate_high
        gate = low if self.prevalence.upper < low else high
        return (
            f"even the upper bound of {percent(self.prevalence.upper)} is below the gate of {percent(gate)}"
        )

    def _hysteresis(self) -> str:
        """Which bound keeps the strategy in force, and that the one to begin is higher; the strategy may have begun by another rule."""
        name, settings = STRATEGY_NAMES[self.proposed], self.settings
        begin = (
            settings.min_positives_blend if self.proposed == "blend" else settings.min_positives_classifier
        )
        if self.prevalence.effective < begin:
            frauds = describe_frauds(self.prevalence)
            are = "is" if math.floor(self.prevalence.effective) == 1 else "are"
            return f"{frauds} {are} enough to stay with {name}, which needs {begin:g} to begin and {begin * STAY_SHARE:g} to stay"
        upper, low, high = map(
            percent, (self.prevalence.upper, settings.prevalence_gate_low, settings.prevalence_gate_high)
        )
        return f"the upper bound of {upper} is enough to stay with {name}, which needs {high} to begin and {low} to stay"

    def _next(self) -> str:
        """What makes the next evaluation propose another strategy than the chosen one."""
        low, high = percent(self.settings.prevalence_gate_low), percent(self.settings.prevalence_gate_high)
        blend, classifier = _fraud_bounds(self.settings, self.strategy)
        if self.reason == "NO_LABELS":
            return "Transactions older than labels.maturity whose labels are known to be complete"
        if self.reason == "EXTREME_RARITY":
            second = "a second fraud, known some time after the first, that can be held out"
            return f"An upper bound of {high} or more, or {second}"
        if self.reason in ("WEIGHED", "FIRST_FRAUD"):
            cases = f"{classifier:g} independent fraud cases"
            win = f"classification that beats the blend on {MIN_VALIDATION_FRAUDS} or more held-out frauds"
            return f"An upper bound of {high} or more with {cases}, or {win}"
        if self.strategy == "outlier":
            return f"{self._missing_frauds(blend)} for a blend"
        if self.strategy == "blend":
            more = f"{self._missing_frauds(classifier)} for classification"
            return f"{more}; fewer than {blend:g} for outlier detection"
        fewer = f"Fewer than {classifier:g} independent mature fraud cases for a blend"
        return f"{fewer}; an upper bound below {low} for outlier detection"

    def _missing_frauds(self, bound: float) -> str:
        missing = math.ceil(bound - self.prevalence.effective)
        return f"{missing:,} more independent mature fraud case{'' if missing == 1 else 's'}"


def _bound_text(bound: float, begin: float) -> str:
    """A bound on frauds; the one to stay is lower than the one to begin."""
    return f"{bound:g}" if bound == begin else f"{bound:g} to stay"


def _fraud_bounds(settings: StrategySettings, in_force: Strategy | None) -> tuple[float, float]:
    """Effective frauds from which a blend and classification are proposed; lower for the strategy in force."""
    level = STRATEGIES.index(in_force) if in_force else 0
    blend = settings.min_positives_blend * (STAY_SHARE if level >= 1 else 1)
    return blend, settings.min_positives_classifier * (STAY_SHARE if level >= 2 else 1)
