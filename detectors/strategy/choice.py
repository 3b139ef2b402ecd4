"""
The choice between outlier detection, a blend and classification, with the rule that made it.

Rarity first, then the number of effective frauds, then evidence, then patience::

    prior       upper bound of prevalence under `rare` → outlier, until it reaches `common`; from the first
                held-out fraud on a blend, in which classifiers weigh what they won on such frauds
                effective frauds under `few` → outlier, under `enough` → blend, else classification
    evidence    what beats the prior on held-out frauds replaces it; a tie keeps it
    patience    `confirm` evaluations in a row propose a change, and the bars to stay are lower

The function is pure: the same counts and the same past give the same choice. A classifier catches up with an outlier
detector at 2 to 1,000 known frauds, depending on the world, so no bound on a count is right everywhere. What makes an early
bound safe is the blend's learned weight (`detectors.blend`): it stays with the outlier detector until held-out frauds
say otherwise. The shipped bounds are those of `benchmarks/choice.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from detectors.evaluation.comparison import AP_MATTERS, COST_MATTERS
from detectors.evaluation.prevalence import Rarity, frauds_in_words, in_words, per_10_000

Strategy = Literal["outlier", "blend", "classification"]

Measure = Literal["cost", "average precision"]

LEVELS: tuple[Strategy, ...] = ("outlier", "blend", "classification")
STAY = 0.8  # of a bound on frauds: one in five may vanish (span moves on, verdicts change) before a step back
FITTABLE = 2  # frauds without which no classifier can be fitted, whatever was in force
HELD_OUT_FRAUDS = 20  # in validation folds; with fewer, an interval of the difference says nothing
WORDS = {"outlier": "outlier detection", "blend": "a blend", "classification": "classification"}


@dataclass(frozen=True)
class ChooseSettings:
    """The keys of `[choose]`."""

    strategy: Literal["auto", "outlier", "blend", "classification"] = "auto"
    few: float = 2
    enough: float = 300
    rare: float = 1e-4
    common: float = 1.2e-4
    confirm: int = 2
    outlier_share: float = 0.1


@dataclass(frozen=True)
class Previous:
    """
    What an earlier training chose.

    `gate_open` is the gate of extreme rarity then (`Choice.numbers["gate_open"]`); unknown, it is read off
    the strategy: anything but outlier detection had passed it.
    """

    strategy: Strategy  # in force
    proposed: Strategy  # what that training alone would have chosen
    gate_open: bool | None = None


@dataclass(frozen=True)
class Comparison:
    """Interval of how much better `strategy` was than `against` by `measure`; positive = better."""

    strategy: Strategy
    against: Strategy
    measure: Measure
    lower: float
    upper: float


@dataclass(frozen=True)
class Evidence:
    """
    Candidates compared on the same time-ordered folds, and the frauds in those folds.

    Attributes
    ----------
    positives
        Held-out frauds, clusters on one entity within a fold counted once.
    weight, gain
        What a blend gives its classifiers, and how much more of a held-out fraud it finds than the outlier detector alone.
    values
        Each candidate's average precision and cost, by "strategy.measure".
    """

    positives: float
    comparisons: tuple[Comparison, ...]
    weight: float = 0.0
    gain: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """A decision for a strategy, and why."""

    strategy: Strategy
    proposed: Strategy  # what this evaluation alone says
    rule: str  # stable code
    sentence: str  # rarity first, for a risk manager
    what_would_change: str
    outlier_share: float  # of flags, the outlier detector's own
    numbers: dict[str, Any]  # JSON


@dataclass(frozen=True)
class _Bars:
    """From where on a strategy is proposed, given the one in force."""

    gate_open: bool
    few: float
    enough: float


def choose(
    rarity: Rarity, previous: Sequence[Previous], settings: ChooseSettings, evidence: Evidence | None = None
) -> Choice:
    """
    Choose the strategy of one training.

    Parameters
    ----------
    previous
        Earlier choices of the same policy, newest first; empty for the first choice, which needs no
        confirmation.
    evidence
        Candidates compared on held-out frauds, when there are any.

    Notes
    -----
    A strategy that needs a classifier is left at once when there is nothing to fit one on.
    """
    in_force = previous[0].strategy if previous else None
    bars = _bars(rarity, previous, settings, in_force)
    prior, reason = _prior(rarity, bars, evidence)
    proposed = _winner(prior, evidence)
    if proposed != prior:
        reason = "EVIDENCE"
    elif proposed == in_force and _prior(rarity, _bars(rarity, (), settings, None), evidence)[0] != prior:
        reason = "HELD_BY_HYSTERESIS"
    strategy, rule = _patient(rarity, proposed, reason, previous, settings)
    case = _Case(rarity, settings, bars, strategy, proposed, prior, reason, rule, evidence)
    return Choice(
        strategy=strategy,
        proposed=proposed,
        rule=rule,
        sentence=f"{in_words(rarity)}; {case.because()}.",
        what_would_change=case.what_would_change(_votes(proposed, previous)),
        outlier_share=outlier_share(strategy, settings),
        numbers=case.numbers(in_force),
    )


def outlier_share(strategy: Strategy, settings: ChooseSettings) -> float:
    """
    Share of flags that is the outlier detector's own: all under `outlier`, else `settings.outlier_share`.

    5 to 10 flags in a hundred found fraud nobody had labelled at no cost in recall. A blend needs no more: while its
    classifiers have won nothing, it is led by the outlier detector anyway.
    """
    return 1.0 if strategy == "outlier" else settings.outlier_share


def _bars(
    rarity: Rarity, previous: Sequence[Previous], settings: ChooseSettings, in_force: Strategy | None
) -> _Bars:
    # Under outlier detection one noisy evaluation must not lower the bar for the one that confirms it.
    asked = previous[: settings.confirm] if in_force == "outlier" else previous[:1]
    stays_open = bool(asked) and all(map(_was_open, asked)) and rarity.upper >= settings.rare
    return _Bars(rarity.upper >= settings.common or stays_open, *_fraud_bars(settings, in_force))


def _was_open(previous: Previous) -> bool:
    return previous.strategy != "outlier" if previous.gate_open is None else previous.gate_open


def _prior(rarity: Rarity, bars: _Bars, evidence: Evidence | None) -> tuple[Strategy, str]:
    if rarity.mature == 0:
        return "outlier", "NO_LABELS"
    if not bars.gate_open and evidence is not None and rarity.effective >= bars.few:
        return "blend", "WEIGHED"
    if not bars.gate_open:
        return "outlier", "EXTREME_RARITY"
    if rarity.effective < bars.few:
        return "outlier", "FEW_POSITIVES"
    if rarity.effective < bars.enough:
        return "blend", "BLEND"
    return "classification", "ENOUGH_POSITIVES"


def _winner(prior: Strategy, evidence: Evidence | None) -> Strategy:
    """The first candidate that is better than the prior by one measure, so that it matters, and worse by none."""
    if evidence is None or evidence.positives < HELD_OUT_FRAUDS:
        return prior
    rivals = [one for one in evidence.comparisons if one.against == prior]
    losers = {one.strategy for one in rivals if one.upper < 0}
    winners = [
        one.strategy
        for one in rivals
        if one.lower > 0 and _matters(one, evidence) and one.strategy not in losers
    ]
    return winners[0] if winners else prior


def _matters(one: Comparison, evidence: Evidence) -> bool:
    """On the same rows a difference may be certain and too small to change a strategy for: that is a tie."""
    middle = (one.lower + one.upper) / 2
    if one.measure == "average precision":
        return middle >= AP_MATTERS
    return middle >= COST_MATTERS * evidence.values.get(f"{one.against}.cost", 0.0)


def _patient(
    rarity: Rarity, proposed: Strategy, reason: str, previous: Sequence[Previous], settings: ChooseSettings
) -> tuple[Strategy, str]:
    if settings.strategy != "auto":
        return settings.strategy, "FIXED_BY_CONFIG"
    if not previous or proposed == previous[0].strategy:
        return proposed, reason
    if _votes(proposed, previous) >= settings.confirm or rarity.positives < FITTABLE:
        return proposed, reason
    return previous[0].strategy, "WAITING_FOR_CONFIRMATION"


def _votes(proposed: Strategy, previous: Sequence[Previous]) -> int:
    """How many evaluations in a row, this one included, propose the same."""
    others = (place for place, one in enumerate(previous, 1) if one.proposed != proposed)
    return next(others, len(previous) + 1)


@dataclass(frozen=True)
class _Case:
    """All that went into a choice, to put it into words and numbers."""

    rarity: Rarity
    settings: ChooseSettings
    bars: _Bars
    strategy: Strategy
    proposed: Strategy
    prior: Strategy
    reason: str  # the rule behind `proposed`
    rule: str
    evidence: Evidence | None

    def because(self) -> str:
        """Why this strategy, as the second half of the sentence."""
        reason = self._reasons()[self.reason]
        if self.rule == "FIXED_BY_CONFIG":
            alone = f"the measurement alone proposes {WORDS[self.proposed]}: {reason}"
            return f'choose.strategy = "{self.strategy}" is set, {alone}'
        if self.rule == "WAITING_FOR_CONFIRMATION":
            patience = f"{WORDS[self.strategy]} stays until {self.settings.confirm} trainings in a row agree"
            return f"{reason}; {patience}"
        return reason

    def what_would_change(self, votes: int) -> str:
        """What has to happen for another strategy, with numbers."""
        if self.rule == "FIXED_BY_CONFIG":
            return f'choose.strategy = "auto" lets the measurement choose: now {WORDS[self.proposed]}.'
        if self.rule == "WAITING_FOR_CONFIRMATION":
            more = self.settings.confirm - votes
            trainings = "1 more training" if more == 1 else f"{more} more trainings in a row"
            return f"{trainings} proposing {WORDS[self.proposed]}."
        if self.reason == "EVIDENCE":
            return f"Held-out frauds on which {WORDS[self.strategy]} no longer beats {WORDS[self.prior]}."
        return f"{self._next()}."

    def numbers(self, in_force: Strategy | None) -> dict[str, Any]:
        """Everything the choice rests on, as JSON can hold it."""
        return {
            "in_force": in_force,
            "prior": self.prior,
            "reason": self.reason,
            "rarity": asdict(self.rarity),
            "settings": asdict(self.settings),
            "gate_open": self.bars.gate_open,
            "few_bar": self.bars.few,
            "enough_bar": self.bars.enough,
            "comparison": None if self.evidence is None else asdict(self.evidence),
        }

    def _reasons(self) -> dict[str, str]:
        """The rule behind the proposal, in words, for each code."""
        frauds, few, enough = frauds_in_words(self.rarity), self.bars.few, self.bars.enough
        beats = f"{WORDS[self.proposed]} beats {WORDS[self.prior]} on {self._held_out():g} held-out frauds"
        return {
            "NO_LABELS": "outlier detection, which needs no labels, leads",
            "EXTREME_RARITY": f"{self._gate()}, so outlier detection leads until held-out frauds can weigh a classifier",
            "WEIGHED": f"{self._gate()}, so outlier detection leads a blend in which {self._won()}",
            "FEW_POSITIVES": f"{frauds} to learn from, a blend takes {few:g}, so outlier detection leads",
            "BLEND": f"{frauds} are enough for a blend, not yet for classification ({enough:g}){self._weighs()}",
            "ENOUGH_POSITIVES": f"{frauds} are enough for classification ({enough:g})",
            "HELD_BY_HYSTERESIS": f"{self._held()}, so it stays",
            "EVIDENCE": beats,
        }

    def _weighs(self) -> str:
        return "" if self.evidence is None else f"; {self._won()}"

    def _won(self) -> str:
        """What classifiers weigh in a blend, and since when."""
        weight, n = (self.evidence.weight, self._held_out()) if self.evidence else (0.0, 0.0)
        return f"classifiers weigh {weight:.0%} by {n:,.0f} held-out fraud{'' if round(n) == 1 else 's'}"

    def _held_out(self) -> float:
        return self.evidence.positives if self.evidence else 0.0

    def _gate(self) -> str:
        bar = self.settings.rare if self.rarity.upper < self.settings.rare else self.settings.common
        return f"even the upper bound, {per_10_000(self.rarity.upper)}, is under {per_10_000(bar)} in 10,000"

    def _held(self) -> str:
        """Which of the two bars would not let the strategy begin, but does not end it."""
        name, settings = WORDS[self.proposed], self.settings
        begins = settings.few if self.proposed == "blend" else settings.enough
        if self.rarity.effective < begins:
            frauds = frauds_in_words(self.rarity)
            return f"{frauds} would not begin {name} ({begins:g}) but do not end it (under {begins * STAY:g})"
        upper, common, rare = map(per_10_000, (self.rarity.upper, settings.common, settings.rare))
        return (
            f"an upper bound of {upper} would not begin {name} ({common}) but does not end it (under {rare})"
        )

    def _next(self) -> str:
        """What makes the next evaluation propose another strategy than the one it now agrees with."""
        rare, common = per_10_000(self.settings.rare), per_10_000(self.settings.common)
        few, enough = _fraud_bars(self.settings, self.strategy)
        if self.reason == "NO_LABELS":
            return "Transactions older than labels.maturity, with labels known to be complete that far"
        if self.reason == "EXTREME_RARITY":
            proof = "a second fraud, known some time after the first, to weigh classifiers by"
            return f"An upper bound of {common} in 10,000 or more, or {proof}"
        if self.reason == "WEIGHED":
            proof = f"classification that beats the blend on {HELD_OUT_FRAUDS} or more held-out frauds"
            return (
                f"An upper bound of {common} in 10,000 or more with {enough:g} effective frauds, or {proof}"
            )
        if self.strategy == "outlier":
            return f"{self._more(few)} for a blend"
        if self.strategy == "blend":
            return f"{self._more(enough)} for classification; fewer than {few:g} for outlier detection"
        scarce = f"an upper bound under {rare} in 10,000 for outlier detection"
        return f"Fewer than {enough:g} effective mature frauds for a blend; {scarce}"

    def _more(self, bar: float) -> str:
        missing = math.ceil(bar - self.rarity.effective)
        return f"{missing:,} more effective mature fraud{'' if missing == 1 else 's'}"


def _fraud_bars(settings: ChooseSettings, in_force: Strategy | None) -> tuple[float, float]:
    """Effective frauds from which a blend and classification are proposed."""
    level = LEVELS.index(in_force) if in_force else 0
    few = settings.few * (STAY if level >= 1 else 1)
    return few, settings.enough * (STAY if level >= 2 else 1)
