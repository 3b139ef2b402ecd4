"""
Is a new model fit to take over from the one in force? Judged on the newest window whose labels are mature.

The new model has learned from that window, the one in force has not, so their scores there cannot be compared. What is
judged is the new model's twin: the same choice, settings and draw of rows, without what happened from the window on::

    labelled rows .............................│ newest mature window │ no label yet ...... │ date of the training
    └ the twin, and the one in force, learned ─┘ both are judged      ┘

Ranking is compared by average precision, and what is flagged by its cost, at the same number of reviews: both get their
thresholds from the window's scores, which know no label, by today's budget and costs. (With thresholds of their own weeks
whoever flags more wins.) Features are point in time, so a row shows each model what it would have shown it then. A row
whose label the model in force was fitted on does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from detectors.base import DetectorError
from detectors.evaluation import comparison
from detectors.evaluation.comparison import AP_MATTERS, COST_MATTERS, Answer, Estimate, Verdict
from detectors.inputs.sample import Sample
from detectors.model.model import Model, cut_anew
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.config.costs import costs_of
from pipeline.features import history as histories
from pipeline.features.history import Floats, History
from pipeline.features.label_history import FRAUD
from pipeline.schedule.run_context import Reader
from pipeline.scoring.model_cache import Shelf
from pipeline.training import train
from pipeline.training.strategy_choice import Chosen
from pipeline.training.train import Prepared
from pipeline.training.training_set import effective_of, payers
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.errors import Damaged
from storage.frames import DAY, MONEY, Ints
from storage.models import models
from storage.models.models import Check

EFFECTIVE_MIN = (
    10  # effective frauds; with fewer an interval of average precision spans half of what there is
)
GENUINE_ROWS = 60_000  # of the window that are judged, drawn by hash; each then stands for several


@dataclass(frozen=True)
class Window:
    """The rows that are judged, and on which their truth is known."""

    start: int
    end: int
    rows: Ints  # positions in the history
    y: Floats
    weight: Floats
    transactions: int
    effective: float

    @property
    def frauds(self) -> int:
        """Known frauds in the window."""
        return int(self.y.sum())


@dataclass(frozen=True)
class Gate:
    """What a training is judged with: where the model in force is found, and how history is read."""

    store: Store
    config: Config
    shelf: Shelf
    reader: Reader

    def check(self, history: History, made: Prepared, chosen: Chosen, date: int) -> Check:
        """
        Compare the new model's twin with the model in force at `date`, or say why that cannot be.

        Only a comparison that tells can refuse: without a model in force, or with too few frauds, the new one goes in.
        """
        self.shelf.refresh()
        in_force = self.shelf.in_force_until(date)
        if not in_force:
            return Check("promoted", "FIRST", "It is the first model: there is none to compare it with.")
        against = in_force[-1]
        window = self._window(history, made, against, date)
        if window.effective < EFFECTIVE_MIN:
            few = f"the newest mature window holds {window.effective:g} effective frauds, {EFFECTIVE_MIN} are needed"
            return _untold(window, against, few)
        try:
            active = self.shelf.model(against)
            earlier = (fold.before(window.start) for fold in chosen.folds)
            folds = tuple(fold for fold in earlier if fold.y.any())
            twin = train.fit_alone(self.config, made.before(window.start), replace(chosen, folds=folds), date)
        except (DetectorError, Damaged) as error:
            return _untold(window, against, f"they cannot be compared ({error})")
        own = histories.raw_matrix(history, window.rows, made.features, self.config)
        theirs = self._seen_by(against, history, window, own)
        return _decided(window, against, *self._verdicts(history, window, [(twin, own), (active, theirs)]))

    def _verdicts(
        self, history: History, window: Window, seen: Sequence[tuple[Model, Floats]]
    ) -> list[Verdict]:
        amount = history.transactions.amount[window.rows] / MONEY
        times = history.transactions.event_time[window.rows]
        owner = payers(self.config, history)[window.rows]
        days = (window.end - window.start) / DAY
        settings = seen[0][0].settings
        rows = comparison.Rows(
            y=window.y,
            amount=costs_of(self.config).at_stake(amount),
            entity=np.unique(owner, return_inverse=True)[1],
            time=times,
            day=times // DAY,
            weight=window.weight,
        )
        verdicts = []
        for model, raw in seen:
            sample = Sample(raw, window.y, window.weight, amount)
            answer = _answer(cut_anew(model, settings, sample, days), sample)
            verdicts.append(comparison.judge([rows], [answer], self.config.costs.review))
        return verdicts

    def _window(self, history: History, made: Prepared, against: int, date: int) -> Window:
        """The newest `training.every` of mature rows, less those whose labels the model in force has seen."""
        complete = int(history.completeness.at(np.array([date], dtype=np.int64))[0])
        end = complete - self.config.labels.maturity
        seen = models.learned_until(self.store, against)
        start = max(end - self.config.training.every, seen or 0)
        times = history.transactions.event_time[made.known.mature]
        inside = times > start
        rows, y = made.known.mature[inside], made.known.y[inside]
        draws = hash_sampling.uniform(history.transactions.transaction_id[rows])
        drawn, weight = hash_sampling.draw(draws, GENUINE_ROWS + int(y.sum()), y == FRAUD)
        effective = effective_of(self.config, history, rows, y)
        return Window(start, end, rows[drawn], y[drawn], weight, len(rows), effective)

    def _seen_by(self, against: int, history: History, window: Window, own: Floats) -> Floats:
        """Raw features as the model in force reads them, by the fields, windows and maturity of its training."""
        fields = self.shelf.fields(against)
        if fields == histories.fields_of(self.config):
            return own
        ids, span = history.transactions.transaction_id[window.rows], (window.start, window.end + 1)
        past = self.reader.for_rows(*span, ids)
        rows = past.positions(ids, *span)
        return histories.raw_matrix(past, rows, self.shelf.plan(against), self.config, fields)


def _answer(model: Model, rows: Sample) -> Answer:
    """All that a judge asks of a model; the flags are the ones it would have raised."""
    scores = model.score(rows.raw, rows.amount)
    flags = scores.flagged
    return Answer(scores.score, flags, flags, flags, flags, np.full(len(rows), np.nan))


def _untold(window: Window, against: int, why: str) -> Check:
    said = f"Nothing can be told against model {against}: {why}. So the new model goes in."
    return Check("promoted", "UNTOLD", said, against=against, **_counts(window))


def _decided(window: Window, against: int, twin: Verdict, active: Verdict) -> Check:
    ap, cost = comparison.difference(twin, active, "ap"), comparison.difference(twin, active, "cost")
    of_ap = _told(ap, AP_MATTERS)
    of_cost = _told(_negative(cost), COST_MATTERS * active.measures["cost"].value)
    rule = RULES[of_ap, of_cost]
    measures: dict[str, Any] = {
        "ap": twin.measures["ap"].value,
        "ap_in_force": active.measures["ap"].value,
        **{f"ap_{name}": value for name, value in _of(ap).items()},
        "cost": twin.measures["cost"].value,
        "cost_in_force": active.measures["cost"].value,
        **{f"cost_{name}": value for name, value in _of(cost).items()},
    }
    verdict: Literal["promoted", "refused"] = "refused" if rule in REFUSING else "promoted"
    said = _sentence(window, against, rule, measures)
    return Check(verdict, rule, said, against=against, **_counts(window), **measures)


def _told(gain: Estimate, matters: float) -> int:
    """1 better, −1 worse beyond noise and by more than what matters, 0 neither."""
    if gain.lower > 0 and gain.value > 0:
        return 1
    return -1 if gain.upper < 0 and -gain.value > matters else 0


def _negative(one: Estimate) -> Estimate:
    """What is gained where less is better."""
    return Estimate(-one.value, -one.upper, -one.lower)


def _of(one: Estimate) -> dict[str, float]:
    return {"difference": one.value, "lower": one.lower, "upper": one.upper}


def _counts(window: Window) -> dict[str, Any]:
    if not window.transactions:
        return {"transactions": 0, "frauds": 0, "effective_frauds": 0.0}
    return {
        "window_start": window.start,
        "window_end": window.end,
        "transactions": window.transactions,
        "frauds": window.frauds,
        "effective_frauds": window.effective,
    }


def _sentence(window: Window, against: int, rule: str, m: Mapping[str, float]) -> str:
    begin, end = (f"{as_datetime(at):%Y-%m-%d}" for at in (window.start, window.end))
    ap = (
        f"average precision {m['ap']:.3f} against {m['ap_in_force']:.3f} "
        f"(difference {m['ap_difference']:+.3f}, {m['ap_lower']:+.3f} to {m['ap_upper']:+.3f})"
    )
    cost = (
        f"cost {m['cost']:,.0f} against {m['cost_in_force']:,.0f} "
        f"(difference {m['cost_difference']:+,.0f}, {m['cost_lower']:+,.0f} to {m['cost_upper']:+,.0f})"
    )
    where = f"from {begin} to {end} ({window.transactions:,} transactions, {window.frauds:,} of them fraud)"
    said = f"The new model is {SAID[rule]} than model {against} on what it had not learned from, {where}: {ap}, {cost}."
    if rule not in REFUSING:
        return said
    return f"{said} Model {against} stays in force; fraudwatch models promote {{model_id}} overrules this."


# What is told by average precision and by cost → the rule.
RULES = {
    (1, 1): "BETTER", (1, 0): "BETTER", (0, 1): "BETTER",
    (0, 0): "NOT_WORSE", (1, -1): "MIXED", (-1, 1): "MIXED",
    (-1, 0): "WORSE_AP", (0, -1): "WORSE_COST", (-1, -1): "WORSE",
}  # fmt: skip
REFUSING = frozenset({"WORSE_AP", "WORSE_COST", "WORSE"})
SAID = {
    "BETTER": "better",
    "NOT_WORSE": "not shown to be worse",
    "MIXED": "better by one measure and worse by the other",
    "WORSE_AP": "worse by average precision",
    "WORSE_COST": "dearer",
    "WORSE": "worse and dearer",
}
