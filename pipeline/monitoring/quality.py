"""
How good detection is: estimated when a window ends, realised once its labels are mature, and an alarm where the two part.

A step belongs to a window and knows what was known at its end. It measures the truth of every window that has matured
since the step before it or of which something new became known, and then estimates its own, by what those taught. So the cost
of a step follows new windows and new labels, and an estimate never knows more than its date.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from detectors.evaluation.estimated_quality import Estimated, Expected, Past, estimate, learn
from detectors.evaluation.realised_quality import NO_FLAG, NO_PROBABILITY, NO_ROWS
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.monitoring.realised_quality import ALARMING, Scored, realise, reviewed, scored_by
from pipeline.schedule.run_context import job
from storage.database.database import Store
from storage.frames import DAY, MONEY
from storage.ingest.history import completeness
from storage.monitoring import quality_metrics
from storage.monitoring.quality_metrics import Row, Window
from storage.runs import runs
from storage.runs.ledger import newest_done

Measures = Mapping[tuple[str, str], Row]  # of a window, by kind and metric

PAST = 26  # windows, the newest, that teach how far probabilities are off
ESTIMATED = ("caught", "missed", "frauds", "precision", "recall", "cost")
GROUPS = ("caught", "missed")  # frauds among what was flagged, and among the rest
TEACHING = (*GROUPS, *(f"expected_{name}{rest}" for name in GROUPS for rest in ("", "_variance")))


@dataclass(frozen=True)
class Done:
    """What a step did."""

    transactions: int = 0
    realised: int = 0  # windows whose truth was measured
    alarms: tuple[str, ...] = ()  # a sentence each

    def counts(self) -> dict[str, int]:
        """For the ledger."""
        return {"transactions": self.transactions, "realised": self.realised, "alarms": len(self.alarms)}


def step(store: Store, config: Config, policy: str, run_id: int, window: Window) -> Done:
    """Measure what has become known by the window's end, then estimate the window itself."""
    since = quality_metrics.newest_before(store, policy, window[1])
    done = settle(store, config, policy, run_id, since or window[0], window[1])
    scored = scored_by(store, config, policy, window, window[1])
    if not len(scored):
        return done
    known = quality_metrics.measured_windows(store, policy).get(window)
    if _said_before(store, policy, window) != len(
        scored
    ):  # else what was said before the truth was known stays
        rows = _estimates(store, config, policy, window, scored)
        quality_metrics.write(store, policy, run_id, window[1], window, "estimated", rows)
        if known is not None:  # a backfill has scored more of it
            realise(store, config, policy, run_id, window, known)
    if known is None:
        reviews = list(reviewed(store, config, policy, window))
        quality_metrics.write(store, policy, run_id, window[1], window, "realised", reviews)
    return replace(done, transactions=len(scored))


def settle(store: Store, config: Config, policy: str, run_id: int | None, since: int, as_of: int) -> Done:
    """
    Measure the truth of windows that are mature at `as_of` and were not measured, or have other labels since.

    A window that was measured with later knowledge stays as it is.
    """
    matured = _complete(store, as_of) - config.labels.maturity
    windows = {
        w: known for w, known in quality_metrics.measured_windows(store, policy).items() if w[1] <= matured
    }
    changed = quality_metrics.relabelled(store, since, as_of, matured)
    done = Done()
    for window, known in windows.items():
        first, last = np.searchsorted(changed, window)
        if known is None or (known < as_of and last > first):
            alarms = realise(store, config, policy, run_id, window, as_of)
            done = Done(realised=done.realised + 1, alarms=(*done.alarms, *alarms))
    return done


def refresh(store: Store, config: Config, policy: str, as_of: int, by: str) -> Done:
    """Measure what is mature at `as_of` and was not measured, or has other labels since the newest step."""
    with job(store, config, as_of, policy, "manual", by, None) as this:
        since = quality_metrics.newest_before(store, policy, as_of)
        done = settle(store, config, policy, this.run_id, since or 0, as_of)
        runs.end_run(
            store, this.run_id, as_of, "done", {"realised": done.realised, "alarms": len(done.alarms)}, None
        )
        return done


def catch_up(store: Store, config: Config, policy: str, run_id: int, end: int) -> Done:
    """After a backfill of an older span: measure what steps after its end would have measured of it."""
    newest = newest_done(store, policy, "quality")
    return (
        settle(store, config, policy, run_id, end, newest) if newest is not None and newest > end else Done()
    )


def _complete(store: Store, as_of: int) -> int:
    return int(completeness(store).at(np.array([as_of], dtype=np.int64))[0])


def _said_before(store: Store, policy: str, window: Window) -> int | None:
    found = quality_metrics.read(store, policy, ["transactions"], window, window[1]).get(window, {})
    row = found.get(("estimated", "transactions"))
    return None if row is None else row.n


def _estimates(store: Store, config: Config, policy: str, window: Window, scored: Scored) -> list[Row]:
    flags = int(scored.detected.sum())
    counts = {"transactions": float(len(scored)), "flags": float(flags)}
    rows = [Row(*window, name, "estimated", value, n=len(scored)) for name, value in counts.items()]
    told = scored.take(scored.history.silence_ok[scored.rows])  # of others the truth never comes
    probability = told.judged.probability
    blind = int(np.isnan(probability).sum())
    if blind or not len(told):
        why = NO_PROBABILITY if blind == len(told) else f"{NO_PROBABILITY} of {blind:,} of them"
        why = why if len(told) else NO_ROWS
        return rows + [Row(*window, name, "estimated", None, said=why) for name in ESTIMATED]
    loss = costs_of(config).at_stake(told.history.transactions.amount[told.rows] / MONEY)
    groups = {"caught": told.detected, "missed": ~told.detected}
    expected = {name: Expected.of(probability[group], loss[group]) for name, group in groups.items()}
    strategy = str(pd.Series(told.judged.strategy).mode()[0])
    for name, one in expected.items():
        rows.append(Row(*window, f"expected_{name}", "estimated", one.frauds, n=one.n, said=strategy))
        rows.append(Row(*window, f"expected_{name}_variance", "estimated", one.variance, n=one.n))
    past = _past(store, config, policy, window, strategy)
    found = estimate(
        expected["caught"], expected["missed"], learn(past["caught"]), learn(past["missed"]),
        config.costs.review, config.quality.confidence, 1 - config.quality.alarm_rate / len(ALARMING),
    )  # fmt: skip
    return rows + [
        _estimated(window, name, found[name], expected["caught"].n, len(told)) for name in ESTIMATED
    ]


def _estimated(window: Window, name: str, one: Estimated, flags: int, n: int) -> Row:
    if np.isnan(one.value):
        return Row(*window, name, "estimated", None, said=NO_FLAG)
    rests_on = flags if name == "precision" else n
    return Row(
        *window, name, "estimated", one.value, one.lower, one.upper, rests_on,
        alarm_below=one.alarm_below, alarm_above=one.alarm_above,
    )  # fmt: skip


def _past(
    store: Store, config: Config, policy: str, window: Window, strategy: str
) -> Mapping[str, list[Past]]:
    """What windows of the same strategy, whose truth was known by then, teach of flagged and other transactions."""
    length = window[1] - window[0]
    reach = PAST * length + config.labels.maturity
    found = quality_metrics.read(store, policy, TEACHING, (window[0] - reach, window[0]), window[1])
    alike = [rows for (start, end), rows in found.items() if abs(end - start - length) < DAY / 2]
    taught = [rows for rows in alike if _of_strategy(rows, strategy)][-PAST:]
    return {name: [_taught(rows, name, age) for age, rows in enumerate(reversed(taught))] for name in GROUPS}


def _of_strategy(rows: Measures, strategy: str) -> bool:
    """Whether the window was estimated under this strategy, and its truth is known."""
    said = rows.get(("estimated", "expected_caught"))
    return said is not None and said.said == strategy and ("realised", "caught") in rows


def _taught(rows: Measures, name: str, age: int) -> Past:
    said, came = rows["estimated", f"expected_{name}"], rows["realised", name].value or 0.0
    variance = rows["estimated", f"expected_{name}_variance"].value or 0.0
    return Past(Expected(said.n, said.value or 0.0, variance), min(came, float(said.n)), float(age))
