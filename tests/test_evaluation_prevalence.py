from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from detectors.base import DetectorError
from detectors.evaluation.prevalence import (
    ReviewCorrection,
    describe_cases,
    describe_frauds,
    describe_prevalence,
    effective_positives,
    estimate_prevalence,
    upper_guess,
)

COUNTS = [(67_240, 7), (43_210, 117), (100, 100), (100, 99), (1, 0), (1, 1), (5_000_000, 500), (2_000, 0)]


@pytest.mark.parametrize(("mature", "frauds"), COUNTS)
def test_the_interval_for_gates_is_scipys_exact_one(mature, frauds):
    exact = binomtest(frauds, mature).proportion_ci(0.95, method="exact")
    found = estimate_prevalence(mature, frauds, frauds)
    assert (found.lower, found.upper) == pytest.approx((exact.low, exact.high), rel=1e-9)
    assert found.prevalence == frauds / mature


@pytest.mark.parametrize(("mature", "frauds"), [(67_240, 7), (43_210, 117), (5_000_000, 500)])
def test_the_interval_for_people_is_jeffreys(mature, frauds):
    posterior = beta(frauds + 0.5, mature - frauds + 0.5)
    found = estimate_prevalence(mature, frauds, frauds, display_confidence=0.9)
    assert found.display_lower == pytest.approx(posterior.ppf(0.05), rel=1e-9)
    assert found.display_upper == pytest.approx(posterior.ppf(0.95), rel=1e-9)


def test_seven_frauds_in_67240_leave_a_range_of_five():
    found = estimate_prevalence(67_240, 7, 7)
    assert (found.lower * 1e4, found.upper * 1e4) == pytest.approx((0.42, 2.15), abs=0.01)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 20))
@settings(deadline=None, derandomize=True)
def test_of_the_rows_that_rank_at_least_as_high_no_larger_share_is_fraud(fraud, ties):
    y = np.array(fraud)
    rank = np.arange(len(y)) // ties
    for row in range(len(y)):
        above = rank >= rank[row]
        (guess,) = upper_guess(np.array([1.0 - above.mean()]), y.mean())
        assert y[above].mean() <= guess + 1e-9
        assert guess <= 1.0


def test_an_upper_guess_assumes_the_prevalence_or_the_upper_end_while_no_fraud_is_known():
    assert estimate_prevalence(1000, 5, 5).assumed == 0.005
    silent = estimate_prevalence(1000, 0, 0)
    assert silent.assumed == silent.upper > 0.003
    assert estimate_prevalence(0, 0, 0).assumed is None
    assert np.isnan(upper_guess(np.array([0.5, 0.999]), None)).all()
    assert upper_guess(np.array([0.0, 0.9, 0.999]), 0.01) == pytest.approx([0.01, 0.1, 1.0])


def test_without_mature_transactions_anything_is_possible():
    found = estimate_prevalence(0, 0, 0)
    assert (found.prevalence, found.lower, found.upper) == (None, 0.0, 1.0)
    assert describe_prevalence(found).startswith("No transaction is mature yet")


def test_without_frauds_the_upper_bound_falls_with_the_number_of_transactions():
    uppers = [estimate_prevalence(n, 0, 0).upper for n in (10, 1_000, 100_000)]
    assert uppers == sorted(uppers, reverse=True)
    assert uppers[-1] == pytest.approx(1 - 0.025 ** (1 / 100_000))


def test_clusters_widen_the_interval_and_keep_the_point():
    alone, clustered = estimate_prevalence(10_000, 60, 60), estimate_prevalence(10_000, 60, 6)
    assert clustered.prevalence == alone.prevalence
    assert clustered.lower < alone.lower < alone.upper < clustered.upper
    few = binomtest(6, 1_000).proportion_ci(0.95, method="exact")  # six causes of ten frauds each
    assert (clustered.lower, clustered.upper) == pytest.approx((few.low, few.high))


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 10**7), st.floats(0, 1), st.floats(0, 1))
def test_bounds_are_in_order_and_hold_the_point(mature, share, spread):
    frauds = round(mature * share)
    effective = min(frauds, 1) + spread * max(frauds - 1, 0)
    found = estimate_prevalence(mature, frauds, min(effective, frauds))
    assert 0 <= found.lower <= frauds / mature <= found.upper <= 1
    assert found.lower <= found.display_lower <= found.display_upper <= found.upper


@pytest.mark.parametrize(
    "counts",
    [
        (10, 11, 11),  # more frauds than transactions
        (10, -1, -1),
        (10, 5, 6),  # more causes than frauds
        (10, 5, 0.5),  # frauds without a cause
        (float("nan"), 1, 1),
        (float("inf"), 1, 1),
    ],
)
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(DetectorError):
        estimate_prevalence(*counts)


def test_a_confidence_outside_0_and_1_is_refused():
    with pytest.raises(DetectorError, match=r"between 0 and 1, got 95"):
        estimate_prevalence(10, 1, 1, confidence=95)


ONE, EACH = np.zeros(20, dtype=np.int32), np.arange(20, dtype=np.int32)
FRAUDS_ALONE = [
    # customer, card, merchant, device                      counted
    ([ONE, ONE, EACH, ONE], 1),  # one card, twenty merchants
    ([EACH, EACH, ONE, EACH], 20),  # one giant merchant, unrelated cards
    ([EACH, EACH, EACH, EACH], 20),
    ([ONE, ONE, ONE, ONE], 1),
    ([EACH // 10, EACH // 10, EACH, EACH], 2),  # two cards, ten frauds each
    # customer, terminal
    ([ONE, EACH], 1),  # a customer's card on tour
    ([EACH, ONE], 1),  # a compromised terminal
    ([EACH, EACH], 20),
    # one entity column
    ([EACH // 4], 5),
    ([np.full(20, -1)], 20),  # missing values relate nothing
]


@pytest.mark.parametrize(("columns", "counted"), FRAUDS_ALONE)
def test_frauds_with_a_common_cause_count_once(columns, counted):
    assert effective_positives(*columns) == counted


def test_a_mix_of_stolen_cards_and_compromised_terminals_counts_its_causes():
    customer = np.concatenate((np.repeat(np.arange(10), 10), 100 + np.arange(100)))  # 10 cards, then anyone
    terminal = np.concatenate(
        (np.arange(100), np.repeat(200 + np.arange(5), 20))
    )  # anywhere, then 5 terminals
    assert effective_positives(customer, terminal) == 15


def test_the_volume_of_all_transactions_tells_a_popular_merchant_from_a_compromised_one():
    n = 20_000
    customers = np.arange(n)
    popular = np.where(customers % 2 == 0, 1, 1_000 + customers)  # half of all payments
    compromised = np.where(customers < 25, 1, 1_000 + customers)  # 25 payments
    frauds = np.arange(0, 40, 2)  # 20 frauds, all at merchant 1 where it is popular
    assert effective_positives(frauds, popular[frauds], mature=[customers, popular]) == pytest.approx(11)
    at_terminal = np.arange(20)
    counted = effective_positives(at_terminal, compromised[at_terminal], mature=[customers, compromised])
    assert counted == pytest.approx(1, abs=0.05)


def test_a_shop_that_is_the_only_merchant_merges_nothing():
    frauds, mature = np.arange(500), np.arange(100_000)
    shop = [np.zeros(len(mature), dtype=np.int32)]
    assert effective_positives(frauds, np.zeros(500, np.int32), mature=[mature, *shop]) == 500


def test_a_missing_entity_relates_nothing_whatever_its_volume():
    missing, others = np.full(20, -1), np.arange(480)
    mature = [np.concatenate((missing, others)), np.arange(500)]
    assert effective_positives(missing, EACH, mature=mature) == 20


def test_no_fraud_is_no_cause():
    nothing = np.empty(0, dtype=np.int32)
    assert effective_positives(nothing, nothing) == 0
    assert effective_positives(nothing, mature=[np.arange(5)]) == 0


@settings(deadline=None, derandomize=True)
@given(
    st.integers(1, 60).flatmap(
        lambda n: st.lists(st.lists(st.integers(-1, 8), min_size=n, max_size=n), min_size=1, max_size=4)
    ),
    st.booleans(),
)
def test_effective_frauds_can_be_measured_with_whatever_they_share(columns, with_volume):
    codes = [np.array(column) for column in columns]
    mature = [np.tile(column, 3) for column in codes] if with_volume else None
    counted = effective_positives(*codes, mature=mature)
    assert 1 <= counted <= len(codes[0])
    estimate_prevalence(3 * len(codes[0]), len(codes[0]), counted)


@pytest.mark.parametrize(
    ("frauds", "mature", "message"),
    [
        ([], None, "one entity column or more"),
        ([ONE, ONE[:3]], None, "unequal lengths"),
        ([ONE, ONE], [ONE], "2 entity columns of frauds, 1 of mature"),
    ],
)
def test_columns_that_do_not_fit_are_refused(frauds, mature, message):
    with pytest.raises(DetectorError, match=message):
        effective_positives(*frauds, mature=mature)


SENTENCES = [
    (
        estimate_prevalence(43_210, 117, 117),
        "Fraud rate 0.27 % (0.23–0.32 %) among 43,210 mature transactions",
    ),
    (estimate_prevalence(10_000_000, 500, 500), "Fraud rate 0.0050 % (0.0046–0.0055 %)"),
    (estimate_prevalence(10_000_000, 50, 50), "Fraud rate 0.00050 % (0.00038–0.00065 %)"),
    (estimate_prevalence(1, 0, 0), "No known fraud among 1 mature transaction,"),
    (estimate_prevalence(4_000, 0, 0), "so the fraud rate is at most 0.063 %"),
    (
        replace(estimate_prevalence(2_000, 5, 5), mature=17_899, positives=153, measured=2_000),
        "among the 2,000 of 17,899 mature transactions that are older than any label takes",
    ),
]


@pytest.mark.parametrize(("prevalence", "text"), SENTENCES)
def test_prevalence_reads_as_a_sentence(prevalence, text):
    assert text in describe_prevalence(prevalence)


def test_effective_frauds_are_never_rounded_up_to_a_bound():
    assert describe_frauds(estimate_prevalence(5_000, 120, 99.9)) == "99 independent fraud cases (of 120)"
    assert describe_frauds(estimate_prevalence(5_000, 1, 1)) == "1 independent fraud case"
    assert describe_cases(1_082.51) == "1,082 independent fraud cases"


def test_frauds_that_the_rate_leaves_out_are_named():
    reviews = ReviewCorrection(40, 3, 0.02, 0.01)
    told = [
        describe_frauds(replace(estimate_prevalence(17_899, 153, effective), reviews=reviews))
        for effective in (59.9, 153)
    ]
    assert told == [
        "59 independent fraud cases (of 153, those that reviewers found among them)",
        "153 independent fraud cases (those that reviewers found among them)",
    ]
    censored = replace(estimate_prevalence(17_899, 153, 153), reviews=ReviewCorrection(0, 3, 0.0, 0.01))
    assert describe_frauds(censored) == "153 independent fraud cases"
