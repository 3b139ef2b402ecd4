import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import STRATEGIES
from detectors.evaluation.prevalence import ReviewCorrection, estimate_prevalence
from detectors.strategy.choice import (
    STAY_SHARE,
    STRATEGY_NAMES,
    Evaluation,
    Evidence,
    PreviousChoice,
    StrategyComparison,
    StrategySettings,
    choose,
    choose_in_order,
    forgets_its_past,
    outlier_share,
)
from storage.database.column_types import plain

AUTO = StrategySettings(
    min_positives_blend=10, min_positives_classifier=100
)  # bounds far apart, to see what lies between
OUTLIER, BLEND, CLASSIFICATION = (PreviousChoice(level, level) for level in STRATEGIES)


def rarity(mature, positives, effective=None):
    return estimate_prevalence(mature, positives, positives if effective is None else effective)


def bounded(upper, effective=500):
    """A rarity whose upper bound is exactly this."""
    return replace(rarity(5_000_000, 500), upper=upper, effective=effective)


FIRST = [
    # mature, positives, effective → strategy, rule
    (0, 0, 0, "outlier", "NO_LABELS"),
    (1, 0, 0, "outlier", "FEW_POSITIVES"),
    (4_000, 0, 0, "outlier", "FEW_POSITIVES"),
    (50_000, 0, 0, "outlier", "EXTREME_RARITY"),  # nothing in so many is rarer than 1 in 10,000
    (4_000, 9, 9, "outlier", "FEW_POSITIVES"),
    (4_000, 200, 9.9, "outlier", "FEW_POSITIVES"),  # two hundred frauds of ten thieves
    (4_000, 10, 10, "blend", "BLEND"),  # the bound itself is enough
    (4_000, 99, 99, "blend", "BLEND"),
    (4_000, 200, 99.999, "blend", "BLEND"),
    (4_000, 100, 100, "classification", "ENOUGH_POSITIVES"),
    (1_303_778, 10_700, 5_056, "classification", "ENOUGH_POSITIVES"),
    (10_000_000, 500, 500, "outlier", "EXTREME_RARITY"),  # 1 in 20,000, however many are known
    (67_240, 7, 7, "outlier", "FEW_POSITIVES"),  # the interval is wide: rarity is not proven
    (10_000, 10_000, 10_000, "classification", "ENOUGH_POSITIVES"),
]


@pytest.mark.parametrize(("mature", "positives", "effective", "strategy", "rule"), FIRST)
def test_the_first_choice_takes_the_proposal(mature, positives, effective, strategy, rule):
    choice = choose(rarity(mature, positives, effective), [], AUTO)
    assert (choice.strategy, choice.proposed, choice.rule) == (strategy, strategy, rule)


GATE = [
    # upper bound, gate before → proposed
    (0.99e-4, None, "outlier"),
    (1.0e-4, None, "outlier"),  # never opened yet
    (1.19e-4, None, "outlier"),
    (1.2e-4, None, "classification"),
    (0.99e-4, True, "outlier"),
    (1.0e-4, True, "classification"),  # between the two the gate stays as it was
    (1.19e-4, True, "classification"),
    (1.0e-4, False, "outlier"),
    (1.19e-4, False, "outlier"),
    (1.2e-4, False, "classification"),
]


@pytest.mark.parametrize(("upper", "before", "proposed"), GATE)
@pytest.mark.parametrize("recorded", [True, False])
def test_the_gate_of_extreme_rarity_keeps_its_state_between_two_bounds(upper, before, proposed, recorded):
    in_force = CLASSIFICATION if before else OUTLIER
    previous = [] if before is None else [replace(in_force, gate_open=before if recorded else None)]
    choice = choose(bounded(upper), previous, AUTO)
    assert choice.proposed == proposed
    assert choice.numbers["gate_open"] == (proposed != "outlier")


def test_a_gate_that_was_open_under_outlier_detection_stays_open():
    few_before = PreviousChoice("outlier", "outlier", gate_open=True)
    assert choose(bounded(1.1e-4, effective=12), [few_before], AUTO).proposed == "blend"
    assert choose(bounded(1.1e-4, effective=12), [OUTLIER], AUTO).proposed == "outlier"


def test_one_odd_evaluation_does_not_open_the_gate_for_the_next():
    waiting = PreviousChoice("outlier", "blend", gate_open=True)
    closed = PreviousChoice("outlier", "outlier", gate_open=False)
    assert choose(bounded(1.1e-4, effective=12), [waiting, closed], AUTO).strategy == "outlier"
    assert choose(bounded(1.2e-4, effective=12), [waiting, closed], AUTO).strategy == "blend"


STAYING = [
    # effective, in force → proposed, held by the lower bar
    (80, CLASSIFICATION, "classification", True),
    (79.9, CLASSIFICATION, "blend", False),
    (99, CLASSIFICATION, "classification", True),
    (100, CLASSIFICATION, "classification", False),
    (99, BLEND, "blend", False),
    (8, BLEND, "blend", True),
    (8, CLASSIFICATION, "blend", False),
    (7.9, BLEND, "outlier", False),
    (8, OUTLIER, "outlier", False),  # the lower bar is for those who are in
    (85, OUTLIER, "blend", False),
]


@pytest.mark.parametrize(("effective", "in_force", "proposed", "held"), STAYING)
def test_the_bar_to_stay_is_lower_than_the_bar_to_enter(effective, in_force, proposed, held):
    choice = choose(rarity(40_000, 200, effective), [in_force], AUTO)
    assert choice.proposed == proposed
    assert (choice.rule == "HELD_BY_HYSTERESIS") == held


CONFIRMING = [
    # earlier proposals newest first, in force, confirm → strategy at 50 effective frauds
    (["outlier"], "outlier", 2, "outlier"),
    (["blend"], "outlier", 2, "blend"),
    (["blend", "outlier"], "outlier", 2, "blend"),
    (["outlier", "blend", "blend"], "outlier", 2, "outlier"),  # not in a row
    (["classification"], "outlier", 2, "outlier"),  # not the same
    (["outlier"], "outlier", 1, "blend"),
    (["blend"], "outlier", 3, "outlier"),
    (["blend", "blend"], "outlier", 3, "blend"),
    (["blend"], "classification", 2, "blend"),  # a step back is confirmed, too
    (["classification"], "classification", 2, "classification"),
]


@pytest.mark.parametrize(("proposals", "in_force", "confirm", "strategy"), CONFIRMING)
def test_a_change_is_proposed_so_many_times_in_a_row(proposals, in_force, confirm, strategy):
    previous = [PreviousChoice(in_force, proposed) for proposed in proposals]
    choice = choose(rarity(40_000, 50), previous, replace(AUTO, confirmations=confirm))
    assert choice.strategy == strategy
    assert choice.proposed == "blend"
    assert choice.rule == ("BLEND" if strategy == "blend" else "WAITING_FOR_CONFIRMATION")


def test_nobody_waits_for_a_classifier_that_cannot_be_fitted():
    choice = choose(rarity(4_000, 1), [CLASSIFICATION], AUTO)
    assert (choice.strategy, choice.rule) == ("outlier", "FEW_POSITIVES")
    assert choose(rarity(4_000, 2), [CLASSIFICATION], AUTO).strategy == "classification"


def run(effectives, first=()):
    """A year of trainings; the strategy after each."""
    previous, strategies = list(first), []
    for effective in effectives:
        choice = choose(rarity(400_000, 4_000, max(1, effective)), previous, AUTO)
        previous.insert(0, PreviousChoice(choice.strategy, choice.proposed, choice.numbers["gate_open"]))
        strategies.append(choice.strategy)
    return strategies


def changes(strategies):
    return sum(one != other for one, other in pairwise(strategies))


@pytest.mark.parametrize("bound", [10, 100])
@pytest.mark.parametrize("seed", range(10))
def test_frauds_that_waver_around_a_bound_change_the_strategy_once_at_most(bound, seed):
    rng = np.random.default_rng(seed)
    assert changes(run(bound * rng.uniform(STAY_SHARE, 1.2, 26))) <= 1


@pytest.mark.parametrize("seed", range(10))
def test_frauds_that_rise_slowly_pass_each_bound_once(seed):
    noise = np.random.default_rng(seed).uniform(0.92, 1.08, 26)
    strategies = run(np.geomspace(4, 300, 26) * noise)
    assert changes(strategies) == 2
    assert [strategies[0], strategies[-1]] == ["outlier", "classification"]


def test_frauds_that_rise_and_fall_step_back_once():
    strategies = run([*np.geomspace(4, 300, 13), *np.geomspace(300, 4, 13)])
    assert changes(strategies) == 4


def test_one_odd_training_changes_nothing():
    assert set(run([50] * 5 + [500] + [50] * 5 + [3] + [50] * 5)) == {"blend"}


def test_the_world_of_1_in_10000_keeps_outlier_detection_however_many_frauds_are_known():
    previous, rng = [], np.random.default_rng(0)
    for week in range(1, 53):
        mature = 400_000 * week
        frauds = int(rng.binomial(mature, 0.7e-4))
        choice = choose(rarity(mature, frauds), previous, AUTO)
        previous.insert(0, PreviousChoice(choice.strategy, choice.proposed, choice.numbers["gate_open"]))
    assert frauds > 1_000
    assert (choice.strategy, choice.rule) == ("outlier", "EXTREME_RARITY")
    assert sum(one.strategy != "outlier" for one in previous) <= 2  # before rarity was proven


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fixed_strategy_is_taken_and_the_proposal_still_told(strategy):
    choice = choose(rarity(40_000, 50), [OUTLIER], replace(AUTO, method=strategy))
    assert (choice.strategy, choice.proposed, choice.rule) == (strategy, "blend", "FIXED_BY_CONFIG")
    assert f'strategy.method = "{strategy}" is set' in choice.sentence


def compared(lower, upper, measure="cost", strategy="classification", against="outlier"):
    return StrategyComparison(strategy, against, measure, lower, upper)


EVIDENCE = [
    # frauds held out, comparisons → proposed where the prior is outlier
    (20, [compared(0.1, 0.4)], "classification"),
    (19, [compared(0.1, 0.4)], "outlier"),  # too few to say
    (200, [compared(-0.1, 0.4)], "outlier"),  # a tie keeps the prior
    (200, [compared(0, 0.4)], "outlier"),
    (200, [compared(0.002, 0.009, "average precision")], "outlier"),  # certain, and too small to matter
    (200, [compared(-0.4, -0.1)], "outlier"),
    (
        200,
        [compared(-0.1, 0.4), compared(0.02, 0.1, "average precision")],
        "classification",
    ),  # either measure
    (200, [compared(0.1, 0.4), compared(-0.3, -0.1, "average precision")], "outlier"),  # they disagree
    (200, [compared(0.1, 0.4, strategy="blend"), compared(0.2, 0.4)], "blend"),  # the first that wins
    (200, [compared(0.1, 0.4, against="blend")], "outlier"),  # says nothing about the prior
    (200, [], "outlier"),
]


@pytest.mark.parametrize(("positives", "comparisons", "proposed"), EVIDENCE)
def test_evidence_replaces_the_prior_when_its_interval_excludes_zero(positives, comparisons, proposed):
    evidence = Evidence(positives, tuple(comparisons))
    choice = choose(rarity(4_000, 9), [], AUTO, evidence)
    assert (choice.strategy, choice.proposed) == (proposed, proposed)
    assert choice.rule == ("EVIDENCE" if proposed != "outlier" else "FEW_POSITIVES")


def test_a_cost_that_differs_by_a_hundredth_is_a_tie():
    dear = Evidence(200, (compared(50, 100),), values={"outlier.cost": 7_500.0})
    assert choose(rarity(4_000, 9), [], AUTO, dear).rule == "FEW_POSITIVES"
    cheap = replace(dear, values={"outlier.cost": 750.0})
    assert choose(rarity(4_000, 9), [], AUTO, cheap).rule == "EVIDENCE"


def test_evidence_needs_confirmation_like_any_change():
    evidence = Evidence(50, (compared(0.1, 0.4),))
    assert choose(rarity(4_000, 9), [OUTLIER], AUTO, evidence).rule == "WAITING_FOR_CONFIRMATION"
    again = PreviousChoice("outlier", "classification")
    choice = choose(rarity(4_000, 9), [again], AUTO, evidence)
    assert (choice.strategy, choice.rule) == ("classification", "EVIDENCE")
    assert "classification beats outlier detection on 50 held-out frauds" in choice.sentence


WEIGHED = [
    # mature, frauds, held out, comparisons → strategy, rule, said of the classifiers' weight
    (10_000_000, 500, None, (), "outlier", "EXTREME_RARITY", "until held-out frauds can weight a classifier"),
    (
        10_000_000,
        500,
        1,
        (),
        "blend",
        "WEIGHED",
        "leads a blend; its classifiers have a weight of 65 %, learned from 1 held-out fraud.",
    ),
    (
        10_000_000,
        9,
        5,
        (),
        "outlier",
        "EXTREME_RARITY",
        "outlier detection is used",
    ),  # fewer than min_positives_blend
    (10_000_000, 10, 5, (), "blend", "WEIGHED", "learned from 5 held-out frauds."),  # just enough
    (
        10_000_000,
        500,
        40,
        (compared(0.1, 0.4, against="blend"),),
        "classification",
        "EVIDENCE",
        "beats a blend",
    ),
    (
        4_000,
        50,
        12,
        (),
        "blend",
        "BLEND",
        "needs 100; its classifiers have a weight of 65 %, learned from 12 held-out frauds.",
    ),
]


@pytest.mark.parametrize(("mature", "frauds", "held_out", "comparisons", "strategy", "rule", "said"), WEIGHED)
def test_held_out_frauds_weigh_a_blend_even_where_fraud_is_extremely_rare(
    mature, frauds, held_out, comparisons, strategy, rule, said
):
    evidence = None if held_out is None else Evidence(held_out, comparisons, weight=0.65, gain=0.2)
    choice = choose(rarity(mature, frauds), [], AUTO, evidence)
    assert (choice.strategy, choice.rule) == (strategy, rule)
    assert said in choice.sentence
    assert json.dumps(choice.numbers, allow_nan=False)


def test_a_blend_under_extreme_rarity_says_what_would_make_it_classification():
    choice = choose(rarity(10_000_000, 500), [], AUTO, Evidence(5, (), weight=0.65))
    assert choice.next_change == (
        "An upper bound of 0.012 % or more with 100 independent fraud cases, or classification that beats the blend on 20 "
        "or more held-out frauds."
    )


def test_the_first_known_fraud_begins_a_blend_without_classifiers_however_rare_fraud_is():
    shipped = StrategySettings()
    first = choose(rarity(10_000_000, 1), [], shipped)
    assert (first.strategy, first.rule) == ("blend", "FIRST_FRAUD")
    assert "one known fraud steers it, and classifiers have no weight" in first.sentence
    assert choose(rarity(10_000_000, 0), [], shipped).rule == "EXTREME_RARITY"
    young = choose(rarity(10_000_000, 2), [], shipped)  # a classifier that nothing weighs
    assert (young.strategy, young.rule) == ("outlier", "EXTREME_RARITY")


@pytest.mark.parametrize(
    ("strategy", "share", "own"), [("outlier", 0.1, 1.0), ("blend", 0.1, 0.1), ("classification", 0.3, 0.3)]
)
def test_the_outlier_detector_is_never_switched_off(strategy, share, own):
    assert outlier_share(strategy, replace(AUTO, outlier_share=share)) == own
    choice = choose(rarity(40_000, 50), [], replace(AUTO, method=strategy, outlier_share=share))
    assert choice.outlier_share == own


SENTENCES = [
    # rarity, previous, settings → sentence, what would change it
    (
        rarity(43_210, 38),
        [],
        AUTO,
        "Fraud rate 0.088 % (0.063–0.119 %) among 43,210 mature transactions; 38 independent fraud cases are enough "
        "for a blend; classification needs 100.",
        "62 more independent mature fraud cases for classification; fewer than 8 for outlier detection.",
    ),
    (
        rarity(0, 0),
        [],
        AUTO,
        "No transaction is mature yet, so the fraud rate is unknown; outlier detection is used because it needs no "
        "labels.",
        "Transactions older than labels.maturity whose labels are known to be complete.",
    ),
    (
        rarity(4_000, 9),
        [],
        AUTO,
        "Fraud rate 0.22 % (0.11–0.41 %) among 4,000 mature transactions; 9 independent fraud cases are too few for a "
        "blend, which needs 10, so outlier detection is used.",
        "1 more independent mature fraud case for a blend.",
    ),
    (
        rarity(10_000_000, 500),
        [],
        AUTO,
        "Fraud rate 0.0050 % (0.0046–0.0055 %) among 10,000,000 mature transactions; even the upper bound of "
        "0.0055 % is below the gate of 0.01 %, so outlier detection is used until held-out frauds can weight a classifier.",
        "An upper bound of 0.012 % or more, or a second fraud, known some time after the first, that can be held out.",
    ),
    (
        rarity(43_210, 120, 85),
        [CLASSIFICATION],
        AUTO,
        "Fraud rate 0.28 % (0.22–0.34 %) among 43,210 mature transactions; 85 independent fraud cases (of 120) "
        "are enough to stay with classification, which needs 100 to begin and 80 to stay.",
        "Fewer than 80 independent mature fraud cases for a blend; an upper bound below 0.01 % for outlier "
        "detection.",
    ),
    (
        rarity(43_210, 120),
        [OUTLIER],
        replace(AUTO, confirmations=3),
        "Fraud rate 0.28 % (0.23–0.33 %) among 43,210 mature transactions; 120 independent fraud cases are enough "
        "for classification, which needs 100; outlier detection stays until 3 trainings in a row agree.",
        "2 more trainings in a row that propose classification.",
    ),
    (
        rarity(1_000_000, 90),
        [BLEND],
        AUTO,
        "Fraud rate 0.0090 % (0.0073–0.0110 %) among 1,000,000 mature transactions; the upper bound of 0.011 % "
        "is enough to stay with a blend, which needs 0.012 % to begin and 0.01 % to stay.",
        "10 more independent mature fraud cases for classification; fewer than 8 for outlier detection.",
    ),
]


@pytest.mark.parametrize(("counts", "previous", "settings", "sentence", "change"), SENTENCES)
def test_a_risk_manager_can_read_why_and_what_would_change_it(counts, previous, settings, sentence, change):
    choice = choose(counts, previous, settings)
    assert choice.sentence == sentence
    assert choice.next_change == change


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.floats(1, 150), st.sampled_from([(), (OUTLIER,), (BLEND,), (CLASSIFICATION,)]))
def test_the_sentence_speaks_of_staying_only_with_what_is_in_force(effective, previous):
    choice = choose(rarity(43_210, 150, effective), previous, AUTO)
    in_force = previous[0].strategy if previous else None
    stays = f"stay with {STRATEGY_NAMES[in_force]}" if in_force else "stay with"
    assert (stays in choice.sentence) == (choice.rule == "HELD_BY_HYSTERESIS")
    if "to stay" in choice.sentence:
        assert in_force in ("blend", "classification")


previous_choices = st.lists(
    st.builds(
        PreviousChoice,
        st.sampled_from(STRATEGIES),
        st.sampled_from(STRATEGIES),
        st.sampled_from([None, True, False]),
    ),
    max_size=4,
)


@settings(deadline=None, derandomize=True)
@given(
    st.integers(0, 10**8),
    st.floats(0, 1),
    st.floats(0, 1),
    previous_choices,
    st.sampled_from(["auto", *STRATEGIES]),
    st.integers(1, 4),
)
def test_any_counts_and_any_past_give_a_choice_that_json_can_hold(
    mature, share, spread, previous, fixed, confirm
):
    positives = round(mature * share**4)
    effective = min(positives, 1) + spread * max(positives - 1, 0)
    settings = replace(AUTO, method=fixed, confirmations=confirm)
    choice = choose(rarity(mature, positives, min(effective, positives)), previous, settings)
    json.dumps(choice.numbers, allow_nan=False)
    assert choice.strategy in (choice.proposed, fixed, *(one.strategy for one in previous[:1]))
    assert choice.sentence.endswith(".")
    assert "nan" not in choice.sentence
    assert 0 < choice.outlier_share <= 1


@settings(deadline=None, derandomize=True)
@given(st.floats(1, 400), st.floats(1, 400), st.sampled_from(STRATEGIES))
def test_more_frauds_never_propose_less(one, other, in_force):
    fewer, more = sorted((one, other))
    levels = [
        STRATEGIES.index(
            choose(rarity(40_000, 400, count), [PreviousChoice(in_force, in_force)], AUTO).proposed
        )
        for count in (fewer, more)
    ]
    assert levels[0] <= levels[1]


# ── a few dates in order ──


def test_a_choice_in_order_is_the_last_of_choices_one_by_one():
    cases = [4, 12, 105, 110, 90, 85, 79, 78, 4]
    evaluations = [Evaluation(rarity(4_000, n)) for n in cases]
    previous, choice = [], None
    for each in evaluations:
        choice = choose(each.prevalence, previous, AUTO, each.evidence)
        previous.insert(0, PreviousChoice(choice.strategy, choice.proposed, choice.numbers["gate_open"]))
    assert choose_in_order(evaluations, AUTO) == choice
    assert choose_in_order(evaluations[:6], AUTO).strategy == "classification"  # 85 keep it
    assert choose_in_order(evaluations[4:6], AUTO).strategy == "blend"  # but do not start it
    with pytest.raises(ValueError, match="needs an evaluation"):
        choose_in_order([], AUTO)


CASES = st.sampled_from([0, 5, 9, 10, 11, 79, 81, 99, 100, 105])
COUNTS = st.tuples(CASES, st.sampled_from([4_000, 70_000, 1_000_000, 1_150_000]))


@given(st.lists(COUNTS, min_size=1, max_size=7), st.lists(COUNTS, min_size=1, max_size=6), st.integers(1, 2))
@settings(max_examples=300)
def test_after_evaluations_that_forget_their_past_any_past_gives_the_same_choice(
    before, after, confirmations
):
    bounds = replace(AUTO, confirmations=confirmations)
    older, newer = (
        [Evaluation(rarity(mature, positives)) for positives, mature in each] for each in (before, after)
    )
    last = Evaluation(rarity(50_000, 90))
    if forgets_its_past(newer, bounds):
        alone = choose_in_order([*newer, last], bounds)
        assert choose_in_order([*older, *newer, last], bounds) == alone


def test_two_evaluations_that_start_a_strategy_forget_their_past_and_those_that_only_keep_it_do_not():
    starting, keeping = Evaluation(rarity(4_000, 100)), Evaluation(rarity(4_000, 90))
    assert forgets_its_past([starting, starting], AUTO)
    assert forgets_its_past([starting, starting, keeping, keeping], AUTO)
    for evaluations in ([], [starting], [keeping] * 8, [starting, keeping]):
        assert not forgets_its_past(evaluations, AUTO)


def test_the_choice_before_the_newest_is_a_part_of_the_past():
    nothing, many = Evaluation(rarity(4_000, 0)), Evaluation(rarity(1_000_000, 81))
    # The newest choice is the same after any past. But whether it confirms the one before, which still depends on the past, decides on
    # the next: an outlier detector has been in force with the gate open, or has not.
    assert not forgets_its_past([nothing, many], AUTO)


def test_an_evaluation_is_the_same_after_it_was_stored():
    nothing = float("nan")
    told = Evidence(
        31.5,
        (
            StrategyComparison("blend", "outlier", "cost", 1.25, 2.5),
            StrategyComparison("classification", "blend", "average precision", nothing, nothing),
        ),
        0.3,
        0.1,
        {"outlier.cost": 1 / 3, "blend.average precision": nothing},
    )
    reviewed = replace(rarity(4_000, 30, 11.1), reviews=ReviewCorrection(40, 3, 0.02, 0.01))
    for evaluation in (Evaluation(reviewed, told), Evaluation(rarity(0, 0))):
        again = Evaluation.of(json.loads(json.dumps(plain(evaluation.numbers()))))
        assert repr(again) == repr(evaluation)  # NaN is not equal to itself
    choice = choose_in_order([Evaluation(reviewed, told)], AUTO)
    assert repr(Evaluation.of(plain(choice.numbers))) == repr(Evaluation(reviewed, told))
