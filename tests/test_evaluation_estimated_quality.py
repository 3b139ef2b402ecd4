"""What probabilities expect, and that intervals cover the truth at their rate where probabilities are off, by little or by much."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from detectors.base import DetectorError
from detectors.evaluation.calibration import fit_calibrator
from detectors.evaluation.estimated_quality import (
    Calibration,
    ExpectedFrauds,
    PastWindow,
    QualityEstimate,
    ShiftPosterior,
    estimate,
    fit_shift_posterior,
)

MANY = Calibration(frauds=1e9, cluster=1.0)  # so many held-out frauds that the calibrator itself is sure
NOTHING = fit_shift_posterior([], MANY)


def expected(p: np.ndarray, loss: float = 100.0) -> ExpectedFrauds:
    return ExpectedFrauds.of(p, np.full(len(p), loss))


def said(
    flagged: ExpectedFrauds, rest: ExpectedFrauds, past: tuple[list[PastWindow], list[PastWindow]] = ([], [])
):  # type: ignore[no-untyped-def]
    shifts = [fit_shift_posterior(windows, MANY) for windows in past]
    return estimate(flagged, rest, *shifts, 1.0, 0.9, 0.99)


def known(dispersion: float, mean: float = 0.0) -> ShiftPosterior:
    """How far truth lies from expectation, without a doubt."""
    return ShiftPosterior(*(np.array([value]) for value in (1.0, mean, 0.0, 0.0, dispersion)))


def test_expectations_are_added_up_by_hand() -> None:
    found = ExpectedFrauds.of(np.array([0.5, 0.1]), np.array([10.0, 30.0]))
    assert (found.n, found.frauds, found.variance) == (2, 0.6, pytest.approx(0.25 + 0.09))
    assert (found.loss, found.loss_square) == (8.0, 50.0 + 90.0)
    assert found.rate == pytest.approx(0.65 / 2.1)
    assert found.variance_ratio == pytest.approx((0.34 + 0.05) / (0.6 * 0.7 + 0.05))
    assert found.loss_variation == pytest.approx((140 / 8) / (8 / 0.6) - 1)
    assert ExpectedFrauds.of(np.array([0.5]), np.zeros(1)).loss_variation == 0.0


@pytest.mark.parametrize("dispersion", [1.0, 4.0])
def test_counts_vary_as_coins_do_times_the_dispersion(dispersion: float) -> None:
    p = np.concatenate([np.full(4_000, 0.05), np.full(100, 0.9)])
    nothing = known(1.0)
    found = estimate(expected(p), ExpectedFrauds(0, 0.0, 0.0), known(dispersion), nothing, 1.0, 0.9, 0.99)[
        "caught"
    ]
    deviation = np.sqrt(dispersion * (p @ (1 - p)))
    assert found.upper - found.lower == pytest.approx(2 * 1.645 * deviation, rel=0.05)
    assert found.alarm_above - found.alarm_below == pytest.approx(2 * 2.576 * deviation, rel=0.07)
    assert found.value == pytest.approx(p.sum(), rel=0.03)


def test_shifts_are_drawn_as_they_are_weighed() -> None:
    unsure = ShiftPosterior(
        *(np.array(pair) for pair in ([0.5, 1.5], [0.0, 10.0], [0.3, 0.3], [0.4, 0.4], [1.0, 2.0]))
    )
    shift, dispersion = unsure.sample(np.random.default_rng(1), 20_000)
    assert (dispersion == 2.0).mean() == pytest.approx(0.75, abs=0.02)
    assert shift[dispersion == 2.0].mean() == pytest.approx(10.0, abs=0.02)
    assert shift[dispersion == 2.0].std() == pytest.approx(
        0.5, abs=0.02
    )  # level and spread, squared and added


def test_one_window_moves_an_estimate_part_of_the_way_and_ages() -> None:
    """By hand, in logits: twice as many frauds came as were expected, in a window as sure as a thousand frauds are."""
    double = [expected(np.full(100_000, 0.01)), 2_000.0]
    fresh, old = (fit_shift_posterior([PastWindow(*double, age)], MANY) for age in (0.0, 30.0))  # type: ignore[arg-type]
    assert 0.5 * np.log(2) < fresh.weight @ fresh.mean < np.log(2.02)
    assert abs(old.weight @ old.mean) < 0.1
    assert (
        fit_shift_posterior([PastWindow(ExpectedFrauds(0, 0.0, 0.0), 0.0, 0.0)], MANY).mean.tolist()
        == NOTHING.mean.tolist()
    )


def test_estimates_are_sums_of_probabilities_while_nothing_is_known_of_the_past() -> None:
    found = said(expected(np.full(200, 0.5)), expected(np.full(10_000, 0.005)))
    assert found["caught"].value == pytest.approx(100, rel=0.03)
    assert found["missed"].value == pytest.approx(50, rel=0.1)
    assert found["precision"].value == pytest.approx(0.5, rel=0.03)
    assert found["recall"].value == pytest.approx(100 / 150, rel=0.05)
    assert found["cost"].value == pytest.approx(50 * 100 + 100, rel=0.1)
    for one in found.values():
        assert one.alarm_below <= one.lower < one.value < one.upper <= one.alarm_above


def test_the_same_past_gives_the_same_numbers_to_the_last_bit() -> None:
    past = [PastWindow(expected(np.full(100, 0.4)), 55.0, 0.0)]
    first = said(expected(np.full(90, 0.4)), expected(np.full(5_000, 0.01)), (past, []))
    assert first == said(expected(np.full(90, 0.4)), expected(np.full(5_000, 0.01)), (past, []))


def test_probabilities_that_were_half_of_the_truth_before_are_corrected() -> None:
    before = [PastWindow(expected(np.full(5_000, 0.02)), 200.0, float(age)) for age in range(6)]
    found = said(expected(np.full(100, 0.5)), expected(np.full(5_000, 0.02)), ([], before))
    assert 170 < found["missed"].value < 210


def test_what_varied_much_before_has_a_wider_interval() -> None:
    steady = [PastWindow(expected(np.full(5_000, 0.02)), 100.0, float(age)) for age in range(6)]
    wild = [
        PastWindow(expected(np.full(5_000, 0.02)), (40.0, 180.0)[age % 2], float(age)) for age in range(6)
    ]
    rest = expected(np.full(5_000, 0.02))
    calm, moved = (said(expected(np.full(100, 0.5)), rest, ([], past))["missed"] for past in (steady, wild))
    assert moved.upper - moved.lower > 2 * (calm.upper - calm.lower)


@pytest.mark.parametrize(
    ("spread", "clustered"),
    [
        (0.0, 1),  # probabilities keep their word
        (0.25, 1),  # calibration moves by a quarter from week to week
        (0.1, 4),  # frauds come four at a time
    ],
)
def test_nine_in_ten_truths_lie_in_the_interval(spread: float, clustered: int) -> None:
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(12):
        past: list[PastWindow] = []
        for week in range(12):
            p = rng.beta(0.5, 60, 4_000)
            shift = 1.2 * np.exp(spread * rng.standard_normal())
            truth = float(clustered * rng.binomial(4_000 // clustered, min(1.0, p.mean() * shift)))
            one = expected(p)
            found = said(expected(np.full(50, 0.9)), one, ([], past))["missed"]
            inside.append(found.lower <= truth <= found.upper)
            past = [PastWindow(old.expected, old.frauds, old.age + 1) for old in past]
            past.append(PastWindow(one, truth, 0.0))
            del week
    assert 0.83 <= np.mean(inside) <= 0.99


CLUSTER = 3  # frauds of one cause


def scores(rng: np.random.Generator, causes: int, genuine: int, lift: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of clustered frauds and of genuine rows, which score lower by 2.2 + `lift` standard deviations."""
    cause = np.repeat(0.7 * rng.standard_normal(causes), CLUSTER)
    frauds = 2.2 + lift + cause + rng.standard_normal(len(cause))
    z = 2 * np.concatenate([frauds, rng.standard_normal(genuine)])
    return z, np.append(np.ones(len(cause)), np.zeros(genuine))


def first_estimate(
    rng: np.random.Generator, held_out: int, calibration: Calibration
) -> tuple[Mapping[str, QualityEstimate], dict[str, float]]:
    """Estimate and truth of a first week: calibrated on so many clusters of frauds, by a detector that learns more from then on."""
    calibrator = fit_calibrator(*scores(rng, held_out, 60 * held_out * CLUSTER, 0.0))
    z, y = scores(rng, int(rng.poisson(15)), 2_700, 4 / np.sqrt(held_out))
    flagged, p = z >= np.quantile(z, 0.98), calibrator.probability(z)
    shift = fit_shift_posterior([], calibration)
    found = estimate(expected(p[flagged]), expected(p[~flagged]), shift, shift, 1.0, 0.9, 0.99)
    truth = {"caught": y[flagged].sum(), "missed": y[~flagged].sum(), "precision": y[flagged].mean()}
    return found, truth | {"cost": 100 * truth["missed"] + flagged.sum() - truth["caught"]}


def covered(held_out: int, calibration: Calibration) -> dict[str, float]:
    rng, inside = np.random.default_rng(11), []
    for _ in range(40):
        found, truth = first_estimate(rng, held_out, calibration)
        inside.append([found[name].lower <= value <= found[name].upper for name, value in truth.items()])
    return dict(zip(truth, np.mean(inside, axis=0), strict=True))


@pytest.mark.parametrize("held_out", [20, 40])
def test_the_first_estimate_covers_nine_in_ten_truths_however_few_frauds_calibrated_it(held_out: int) -> None:
    rates = covered(held_out, Calibration(held_out, CLUSTER))
    assert min(rates.values()) >= 0.85, rates


def test_without_the_doubt_of_the_calibrator_and_the_clusters_it_covers_too_few() -> None:
    rates = covered(20, MANY)
    assert min(rates.values()) < 0.85, rates


def test_what_few_frauds_calibrated_stays_unsure_after_many_windows() -> None:
    """Each training calibrates anew: the error of earlier ones says little of the next one's."""
    past = [PastWindow(expected(np.full(5_000, 0.02)), 100.0, float(age)) for age in range(26)]
    few, many = (fit_shift_posterior(past, Calibration(frauds, 1.0)) for frauds in (20.0, 2_000.0))
    rng = np.random.default_rng(1)
    assert few.sample(rng, 20_000)[0].std() > 2 * many.sample(rng, 20_000)[0].std()


def test_losses_of_clustered_frauds_vary_more() -> None:
    rest = ExpectedFrauds.of(np.full(1_000, 0.05), np.append(np.full(990, 10.0), np.full(10, 9_010.0)))
    nothing = ExpectedFrauds(0, 0.0, 0.0)
    one, four = (
        estimate(nothing, rest, known(1.0), replace(known(1.0), dispersion=np.array([d])), 1.0, 0.9, 0.99)[
            "cost"
        ]
        for d in (1.0, 4.0)
    )
    assert four.upper - four.lower > 1.5 * (one.upper - one.lower)


def test_amounts_that_differ_make_the_cost_less_sure() -> None:
    p = np.full(1_000, 0.02)
    even = ExpectedFrauds.of(p, np.full(1_000, 100.0))
    uneven = ExpectedFrauds.of(p, np.append(np.full(990, 10.0), np.full(10, 9_010.0)))
    flagged = expected(np.full(10, 0.5))
    narrow, wide = (said(flagged, rest)["cost"] for rest in (even, uneven))
    assert wide.upper - wide.lower > 1.5 * (narrow.upper - narrow.lower)


DEGENERATE = [
    (ExpectedFrauds(0, 0.0, 0.0), ExpectedFrauds(0, 0.0, 0.0), {"precision", "recall"}),  # nothing at all
    (ExpectedFrauds(0, 0.0, 0.0), expected(np.full(10, 0.01)), {"precision"}),  # nothing flagged
    (expected(np.ones(5)), ExpectedFrauds(0, 0.0, 0.0), set()),  # all of it flagged, all of it sure
    (expected(np.zeros(5)), expected(np.zeros(100)), set()),  # probabilities of nothing
    (expected(np.array([0.3])), expected(np.array([1e-300])), set()),  # one row of each
]


@pytest.mark.parametrize(("flagged", "rest", "unknown"), DEGENERATE)
def test_windows_with_little_in_them_are_estimated_as_far_as_can_be(
    flagged: ExpectedFrauds, rest: ExpectedFrauds, unknown: set[str]
) -> None:
    found = said(flagged, rest)
    assert {"precision"} & unknown == {name for name in ("precision",) if np.isnan(found[name].value)}
    assert np.isfinite([found[name].value for name in ("caught", "missed", "cost")]).all()


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(DetectorError, match="from 0 to 1"):
        expected(np.array([0.5, bad]))
