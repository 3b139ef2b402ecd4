"""
Detection quality: estimated when a window ends, realised once its labels are mature; an alarm if the two differ.

A quality step belongs to a window and uses what was known at its end. It computes realised metrics of every window that
has matured since the previous step or got new labels, and then estimates its own window from past windows. So the cost of
a step depends on new windows and labels, and an estimate never uses later knowledge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from detectors.evaluation.estimated_quality import (
    MIN_FRAUDS,
    Calibration,
    ExpectedFrauds,
    PastWindow,
    QualityEstimate,
    estimate,
    fit_shift_posterior,
)
from detectors.evaluation.realised_quality import NO_FLAG, NO_PROBABILITY, NO_ROWS
from detectors.strategy.choice import Evaluation
from pipeline.config.config import Config
from pipeline.config.costs import at_stake
from pipeline.monitoring.realised_quality import (
    ALARMING,
    ScoredWindow,
    load_scored_window,
    realise,
    review_metrics,
)
from pipeline.schedule import grid as window_grid
from pipeline.schedule.run_context import start_run
from storage.database.database import Store
from storage.frames import DAY, Ints
from storage.ingest.history import completeness
from storage.models import models
from storage.monitoring import quality_metrics
from storage.monitoring.quality_metrics import QualityMetric, Window
from storage.runs import runs
from storage.runs.ledger import newest_done

Measures = Mapping[tuple[str, str], QualityMetric]  # metrics of a window, by kind and metric name

TOO_FEW = (
    "an estimate needs {needed:.0f} frauds that probabilities could be checked on, and there are {frauds:.0f}"
)
PAST_WINDOWS = 26  # newest windows that show how far probabilities are off
ESTIMATED = ("caught", "missed", "frauds", "precision", "recall", "cost")
GROUPS = ("caught", "missed")  # frauds among flagged transactions, and among the others
PAST_METRICS = (*GROUPS, *(f"expected_{name}{rest}" for name in GROUPS for rest in ("", "_variance")))


@dataclass(frozen=True)
class QualityStep:
    """Counts and alarms of a quality step."""

    transactions: int = 0
    realised: int = 0  # windows whose realised metrics were computed
    alarms: tuple[str, ...] = ()  # a sentence each

    def counts(self) -> dict[str, int]:
        """The counts as they are stored in the ledger."""
        return {"transactions": self.transactions, "realised": self.realised, "alarms": len(self.alarms)}


def run_step(store: Store, config: Config, policy: str, run_id: int, window: Window) -> QualityStep:
    """Compute realised metrics of windows that matured by the window's end, then estimate the window itself."""
    since = quality_metrics.newest_before(store, policy, window[1])
    done = realise_mature(store, config, policy, run_id, since or window[0], window[1])
    scored = load_scored_window(store, config, policy, window, window[1])
    if not len(scored):
        return done
    known = quality_metrics.measured_windows(store, policy).get(window)
    # An estimate of the same rows is kept: it was made before the labels were known.
    if _rows_estimated_before(store, policy, window) != len(scored):
        rows = _estimates(store, config, policy, window, scored)
        quality_metrics.write(store, policy, run_id, window[1], window, "estimated", rows)
        if known is not None:  # a backfill has scored more of it
            realise(store, config, policy, run_id, window, known)
    if known is None:
        reviews = list(review_metrics(store, config, policy, window))
        quality_metrics.write(store, policy, run_id, window[1], window, "realised", reviews)
    return replace(done, transactions=len(scored))


def is_outdated(store: Store, config: Config, policy: str, window: Window) -> bool:
    """Whether more of a window was scored since it was estimated."""
    scored = load_scored_window(store, config, policy, window, window[1])
    return len(scored) != (_rows_estimated_before(store, policy, window) or 0)


def realise_mature(
    store: Store, config: Config, policy: str, run_id: int | None, since: int, as_of: int
) -> QualityStep:
    """
    Compute realised metrics of windows that matured by `as_of` and have none, or whose labels changed since.

    A window whose metrics used later knowledge stays as it is.
    """
    due = _due_windows(store, config, policy, since, as_of)
    return _realise_each(store, config, policy, run_id, dict.fromkeys(due, as_of))


def _due_windows(
    store: Store, config: Config, policy: str, since: int, as_of: int
) -> dict[Window, int | None]:
    """Windows that matured by `as_of` and have no realised metrics, or older ones; each with the as_of of these."""
    matured = _complete_until(store, as_of) - config.labels.longest_maturity
    windows = {
        window: known
        for window, known in quality_metrics.measured_windows(store, policy).items()
        if window[1] <= matured and (known is None or known < as_of)
    }
    # a window that was measured after the newest step saw the labels of its time already
    starts = {max(since, known) for known in windows.values() if known is not None}
    changed = {
        start: quality_metrics.relabelled_event_times(store, start, as_of, matured) for start in starts
    }
    return {
        window: known
        for window, known in windows.items()
        if known is None or _any_inside(changed[max(since, known)], window)
    }


def _any_inside(times: Ints, window: Window) -> bool:
    first, last = np.searchsorted(times, window)
    return bool(last > first)


def _realise_each(
    store: Store, config: Config, policy: str, run_id: int | None, as_of: Mapping[Window, int]
) -> QualityStep:
    """Compute realised metrics of windows, each with the labels known at its as_of."""
    alarms = [
        alarm for window, at in as_of.items() for alarm in realise(store, config, policy, run_id, window, at)
    ]
    return QualityStep(realised=len(as_of), alarms=tuple(alarms))


def refresh(store: Store, config: Config, policy: str, as_of: int, by: str) -> QualityStep:
    """
    Compute realised metrics of windows that matured by `as_of`, or whose labels changed since they were measured.

    Where nothing is due, nothing is written. A window that has no realised metrics gets those that the first quality
    step after its maturity computes, if that step's time has come: a backfill that gets there later finds what it would
    have written, and estimates the same.
    """
    since = quality_metrics.newest_before(store, policy, as_of) or 0
    due = _due_windows(store, config, policy, since, as_of)
    if not due:
        return QualityStep()
    times = {
        window: as_of if known is not None else min(as_of, _first_step_after(store, config, window))
        for window, known in due.items()
    }
    with start_run(store, config, as_of, policy, "manual", by, None) as run:
        outcome = _realise_each(store, config, policy, run.run_id, times)
        runs.end_run(
            store,
            run.run_id,
            run.ended_at,
            "done",
            {"realised": outcome.realised, "alarms": len(outcome.alarms)},
            None,
        )
        return outcome


def catch_up(store: Store, config: Config, policy: str, run_id: int, end: int) -> QualityStep:
    """Compute the realised metrics that later quality steps would have computed of a backfilled span."""
    newest = newest_done(store, policy, "quality")
    return (
        realise_mature(store, config, policy, run_id, end, newest)
        if newest is not None and newest > end
        else QualityStep()
    )


def _first_step_after(store: Store, config: Config, window: Window) -> int:
    """The end of the first quality window at which this window is mature."""
    end = np.array([window[1] + config.labels.longest_maturity], dtype=np.int64)
    mature = int(completeness(store).reached(end)[0])
    step, zone = config.quality.window, config.schedule.timezone
    floor = window_grid.floor(step, zone, mature)
    return floor if floor == mature else window_grid.following(step, zone, floor)


def _complete_until(store: Store, as_of: int) -> int:
    return int(completeness(store).at(np.array([as_of], dtype=np.int64))[0])


def _rows_estimated_before(store: Store, policy: str, window: Window) -> int | None:
    metrics = quality_metrics.read(store, policy, ["transactions"], window, window[1]).get(window, {})
    row = metrics.get(("estimated", "transactions"))
    return None if row is None else row.n


def _estimates(
    store: Store, config: Config, policy: str, window: Window, scored: ScoredWindow
) -> list[QualityMetric]:
    flags = int(scored.detected.sum())
    counts = {"transactions": float(len(scored)), "flags": float(flags)}
    rows = [QualityMetric(*window, name, "estimated", value, n=len(scored)) for name, value in counts.items()]
    labelled = scored.take(scored.history.silence_ok[scored.rows])  # of others the truth never comes
    probability = labelled.scores.probability
    without_probability = int(np.isnan(probability).sum())
    if without_probability or not len(labelled):
        why = (
            NO_PROBABILITY
            if without_probability == len(labelled)
            else f"{NO_PROBABILITY} of {without_probability:,} of them"
        )
        why = why if len(labelled) else NO_ROWS
        return rows + [QualityMetric(*window, name, "estimated", None, message=why) for name in ESTIMATED]
    loss = at_stake(config, labelled.history.transactions.take(labelled.rows))
    groups = {"caught": labelled.detected, "missed": ~labelled.detected}
    expected = {name: ExpectedFrauds.of(probability[group], loss[group]) for name, group in groups.items()}
    strategy = str(pd.Series(labelled.scores.strategy).mode()[0])
    for name, expectation in expected.items():
        rows.append(
            QualityMetric(
                *window,
                f"expected_{name}",
                "estimated",
                expectation.frauds,
                n=expectation.n,
                message=strategy,
            )
        )
        rows.append(
            QualityMetric(
                *window, f"expected_{name}_variance", "estimated", expectation.variance, n=expectation.n
            )
        )
    calibration = _calibration(store, labelled)
    past = _past_windows(store, config, policy, window, strategy)
    matured = sum(one.frauds for windows in past.values() for one in windows) / calibration.cluster
    if calibration.frauds + matured < MIN_FRAUDS:
        why = TOO_FEW.format(needed=MIN_FRAUDS, frauds=np.floor(calibration.frauds + matured))
        return rows + [QualityMetric(*window, name, "estimated", None, message=why) for name in ESTIMATED]
    shifts = {name: fit_shift_posterior(windows, calibration) for name, windows in past.items()}
    estimates = estimate(
        expected["caught"], expected["missed"], shifts["caught"], shifts["missed"],
        config.costs.review, config.quality.confidence, 1 - config.quality.alarm_rate / len(ALARMING),
    )  # fmt: skip
    return rows + [
        _estimated(window, name, estimates[name], expected["caught"].n, len(labelled)) for name in ESTIMATED
    ]


def _calibration(store: Store, scored: ScoredWindow) -> Calibration:
    """What the probabilities of the window's main model rest on, as its training stored it."""
    choice = models.choice_of_model(store, int(pd.Series(scored.scores.model_id).mode()[0]))
    evaluation = Evaluation.of(choice["evidence"])
    frauds, effective = evaluation.prevalence.positives, evaluation.prevalence.effective
    return Calibration(
        frauds=evaluation.evidence.positives if evaluation.evidence else 0.0,
        cluster=frauds / effective if effective else 1.0,
    )


def _estimated(window: Window, name: str, estimate_: QualityEstimate, flags: int, n: int) -> QualityMetric:
    if np.isnan(estimate_.value):
        return QualityMetric(*window, name, "estimated", None, message=NO_FLAG)
    rests_on = flags if name == "precision" else n
    return QualityMetric(
        *window, name, "estimated", estimate_.value, estimate_.lower, estimate_.upper, rests_on,
        alarm_below=estimate_.alarm_below, alarm_above=estimate_.alarm_above,
    )  # fmt: skip


def _past_windows(
    store: Store, config: Config, policy: str, window: Window, strategy: str
) -> Mapping[str, list[PastWindow]]:
    """Expected and realised frauds of past windows of the same strategy, for flagged and for other transactions."""
    length = window[1] - window[0]
    reach = PAST_WINDOWS * length + config.labels.longest_maturity
    metrics = quality_metrics.read(store, policy, PAST_METRICS, (window[0] - reach, window[0]), window[1])
    same_length = [rows for (start, end), rows in metrics.items() if abs(end - start - length) < DAY / 2]
    past = [rows for rows in same_length if _of_strategy(rows, strategy)][-PAST_WINDOWS:]
    return {
        name: [_past_window(rows, name, age) for age, rows in enumerate(reversed(past))] for name in GROUPS
    }


def _of_strategy(rows: Measures, strategy: str) -> bool:
    """Whether the window was estimated under this strategy and has realised metrics."""
    expected = rows.get(("estimated", "expected_caught"))
    return expected is not None and expected.message == strategy and ("realised", "caught") in rows


def _past_window(rows: Measures, name: str, age: int) -> PastWindow:
    expected, realised = rows["estimated", f"expected_{name}"], rows["realised", name].value or 0.0
    variance = rows["estimated", f"expected_{name}_variance"].value or 0.0
    return PastWindow(
        ExpectedFrauds(expected.n, expected.value or 0.0, variance),
        min(realised, float(expected.n)),
        float(age),
    )
