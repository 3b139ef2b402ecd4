"""
The tables of `python -m benchmarks.worlds`: who ranks a world's fraud best, without labels and with them.

**Without labels** (`unlabelled`). Everybody is fitted on the same rows, those that a training of the first test day leaves to the
outlier detector, and ranks the payments of the test days. r is the average precision of our detector over that of the best of

    amount and ratio      isolation forest on the amount, and the amount against the payer's mean over the longest window
    all features          isolation forest on every feature that needs no label
    raw fields            isolation forest on amount, hour and the user's fields, categories as codes
    mean of families      isolation forest on each family of features; mean of their surprisals
    ECOD                  of PyOD, on every feature that needs no label
    amount                as it is

where the best of them is at least 3 times as precise as chance; the other worlds are shown.

**With labels** (`labelled`), each fraud known a week after it happened. The test days are parts of whole weeks, at most five; before
each everybody is trained anew on what was known then. Ours is the product: the functions of a training (`pipeline.training`) on a
history held in memory, with the strategy that it chooses; ingest, storage, flags and the promotion gate are left out, and so is
hysteresis, as in a first training. The others learn from the same rows with the same weights:

    LightGBM, features    300 trees, rate .05, 15 leaves, 20 rows a leaf, reg_lambda 5, on our features
    LightGBM, fields      the same on the fields, and for each entity and each field of many values: payments so far, in 1 and in
                          7 days, difference from the mean amount so far, frauds known so far, payments old enough to be known
    random forest         on fields and counts, as LightGBM
    logistic regression   on fields and counts, as LightGBM

Average precision is that of each part, the mean weighted by its frauds.

Intervals hold 90 %: entities that pay are resampled, the same for everybody. The best of the others is best on all rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.handbook import judge
from benchmarks.worlds import World
from detectors.base import Detector
from detectors.evaluation.comparison import bootstrap_weights
from detectors.evaluation.metrics import average_precision
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import RankScale, surprisal
from detectors.inputs.sample import Sample
from detectors.registry import detector_class, outlier_detector
from detectors.strategy.choice import StrategySettings, choose_in_order
from detectors.strategy.components import Components
from detectors.strategy.outlier_team import FitSettings
from pipeline import hash_sampling
from pipeline.config.config import Config
from pipeline.features.catalogue import Feature
from pipeline.features.history import History
from pipeline.training import train
from pipeline.training.samples import UNLABELLED_ROWS
from pipeline.training.strategy_choice import StoredChoice, evaluate
from storage.frames import (
    DAY,
    HOUR,
    MONEY,
    WEEK,
    Floats,
    Ints,
)

CONFIDENCE = 0.9
GENUINE = (
    60_000  # test rows beside all frauds, of a world or of a part of its days; they stand for all of them
)
RELEVANT = 3.0  # times the prevalence: the best of the others is better than chance
PARTS = 5  # trainings at most
OUR = "ours"
MANY_VALUES = 10  # of a field; of a number, so many payments a value as well
HANDBOOK_WEEKS = 4
HANDBOOK_ASKED = {"average precision": 0.74, "card precision@100": 0.30}
FAMILIES = {  # of the mean of families, by what a feature says
    "AMOUNT": "amount",
    "AMOUNT_ABOVE_USUAL": "amount",
    "AMOUNT_AGAINST_MEAN": "amount",
    "USUAL_AMOUNT": "usual",
    "AMOUNT_SPREAD": "usual",
    "VELOCITY": "velocity",
    "RECENT_ACTIVITY": "recency",
    "NEW_PAIR": "pair",
    "TIME_OF_DAY": "time",
    "FIELD_VALUE": "field",
    "CATEGORY": "category",
}


@dataclass(frozen=True)
class Interval:
    """A figure with its resamples, (r,)."""

    value: float
    samples: Floats

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval."""
        low, high = np.quantile(self.samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(low), float(high)

    def misses(self, bar: float) -> bool:
        """Whether the figure is below the bar by more than chance."""
        return self.value < bar and self.bounds[1] < bar

    def __str__(self) -> str:
        low, high = self.bounds
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"


def mean(of: Sequence[Interval]) -> Interval:
    """The mean of figures of different worlds, whose resamples have nothing to do with each other."""
    return Interval(float(np.mean([one.value for one in of])), np.mean([one.samples for one in of], axis=0))


def smallest(of: Sequence[Interval]) -> Interval:
    """The smallest of some figures, with its own resamples."""
    return min(of, key=lambda one: one.value)


@dataclass(frozen=True)
class Row:
    """What a table says of a world, and the figure that is asked for."""

    text: str
    figure: Interval
    counts: bool = True
    missed: bool = False  # something else that was asked for


# ── rows to be judged on ──


@dataclass(frozen=True)
class Judged:
    """Test rows with the truth, their weights and who paid, (n,) each."""

    rows: Ints
    y: Floats
    weight: Floats
    entity: Ints  # codes of the whole world

    @classmethod
    def draw(cls, world: World, genuine: int | None = GENUINE) -> "Judged":
        """All frauds of the test days and so many other rows; None for all."""
        rows, fraud = world.test, world.fraud[world.test]
        others = rows[~fraud]
        if genuine is not None and len(others) > genuine:
            rng = np.random.default_rng(1)
            rows = np.sort(np.concatenate([rows[fraud], rng.choice(others, genuine, replace=False)]))
        y = world.fraud[rows].astype(np.float64)
        weight = np.where(y == 1, 1.0, len(others) / max((y == 0).sum(), 1))
        codes = world.transactions.columns[world.fields.entities[0]].codes.astype(np.int64)
        missing = codes.max(initial=0) + 1 + np.arange(len(codes))
        return cls(rows, y, weight, np.where(codes < 0, missing, codes)[rows])

    @property
    def prevalence(self) -> float:
        """Share of fraud by weight."""
        return float(self.weight @ self.y / self.weight.sum())

    @cached_property
    def _codes(self) -> Ints:
        return np.unique(self.entity, return_inverse=True)[1]

    def precision(self, score: Floats) -> Interval:
        """Average precision, and that of each resample of the payers of these rows."""
        order = np.argsort(-score, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
        y, weight, codes = self.y[order], self.weight[order], self._codes[order]
        samples = []
        for counts in bootstrap_weights(int(codes.max()) + 1, 7):
            of_row = counts[:, codes] * weight
            seen, caught = np.cumsum(of_row, axis=1)[:, ends], np.cumsum(of_row * y, axis=1)[:, ends]
            gained = np.diff(caught, axis=1, prepend=0.0)
            total = np.maximum(caught[:, -1:], 1e-9)
            samples.append((gained * caught / np.maximum(seen, 1e-9) / total).sum(axis=1))
        return Interval(average_precision(self.y, score, self.weight), np.concatenate(samples))


# ── without labels ──


@dataclass(frozen=True)
class Unlabelled:
    """What the detectors of a world see: features and fields of the rows they learn from and of those they are judged on."""

    world: World
    features: Sequence[Feature]
    usual: Sample
    test: Floats  # raw
    fields: tuple[Floats, Floats]  # of usual and test rows

    def encoded(self) -> tuple[Floats, Floats]:
        """Features of the usual and of the test rows; nothing is known of fraud."""
        usual = self.usual
        encoder = Encoder.fit(self.world.fields.catalogue.encoding, usual.raw, usual.y, usual.weight)
        return encoder.transform(usual.raw), encoder.transform(self.test)


def unlabelled(world: World, seeds: int) -> tuple[Judged, dict[str, Interval]]:
    """Average precision of everybody in the test days, mean over seeds of the detectors."""
    judged = Judged.draw(world)
    rows = _usual(world)
    raw = world.raw(np.concatenate([rows, judged.rows]), np.empty(0, dtype=np.int64))
    held = world.transactions
    usual = Sample(
        raw[: len(rows)],
        np.full(len(rows), np.nan),
        np.ones(len(rows)),
        held.amount[rows] / MONEY,
        held.event_time[rows],
    )
    fields = _fields(world)
    seen = Unlabelled(
        world,
        world.fields.catalogue.features,
        usual,
        raw[len(rows) :],
        (fields[rows], fields[judged.rows]),
    )
    found: dict[str, list[Interval]] = {}
    for seed in range(7, 7 + seeds):
        for name, score in _scores(seen, seed):
            found.setdefault(name, []).append(judged.precision(score))
    return judged, {name: mean(of) for name, of in found.items()}


def _usual(world: World) -> Ints:
    """Rows that a training leaves to the outlier detector: all but the newest, on which thresholds are set."""
    config, time = world.fields.config, world.transactions.event_time
    end = world.date - config.training.holdout
    rows = np.flatnonzero((time >= world.date - config.training.span) & (time < end))
    rng = np.random.default_rng(1)
    return np.sort(rng.choice(rows, min(len(rows), UNLABELLED_ROWS), replace=False))


def _scores(seen: Unlabelled, seed: int) -> Iterator[tuple[str, Floats]]:
    """The scores of everybody for the test rows; those that no seed changes only once."""
    features, layout = seen.features, seen.world.fields.catalogue.layout
    parts = Components.fit(layout, seen.usual.take(slice(0)), seen.usual, FitSettings(seed=seed), "outlier")
    yield OUR, surprisal(parts.outliers.rank(parts.encoder.transform(seen.test)))
    usual, test = seen.encoded()
    payer, longest = seen.world.fields.entities[0], seen.world.fields.config.features.windows[-1]
    pair = [
        place
        for place, one in enumerate(features)
        if one.name == "amount"
        or (one.code == "AMOUNT_AGAINST_MEAN" and (one.entity, one.window) == (payer, longest))
    ]
    [every] = [list(group.columns) for group in layout.groups if group.name == "everything"]
    yield "amount and ratio", _forest(usual[:, pair], test[:, pair], seed)
    yield "all features", _forest(usual[:, every], test[:, every], seed)
    yield "raw fields", _forest(*seen.fields, seed)
    families: dict[str, list[int]] = {}
    for place in every:
        families.setdefault(FAMILIES[features[place].code], []).append(place)
    of_family = [_forest(usual[:, places], test[:, places], seed) for places in families.values()]
    yield "mean of families", np.mean(of_family, axis=0)
    if seed == 7:
        yield "ECOD", _ecod(usual[:, every], test[:, every])
        yield "amount", test[:, pair[0]]


def _forest(usual: Floats, test: Floats, seed: int) -> Floats:
    """Surprisals of an isolation forest."""
    detector: Detector = outlier_detector("isolation_forest", seed)
    detector.fit(np.ascontiguousarray(usual))
    scale = RankScale.fit(detector.anomaly_score(np.ascontiguousarray(usual)), np.ones(len(usual)))
    return surprisal(scale.transform(detector.anomaly_score(np.ascontiguousarray(test))))


def _ecod(usual: Floats, test: Floats) -> Floats:
    from pyod.models.ecod import ECOD

    return np.asarray(ECOD().fit(usual).decision_function(test))


def _fields(world: World) -> Floats:
    """Amount, hour and the user's fields of each payment, (n, n_fields); categories as codes, missing −1."""
    held = world.transactions
    numbers = [np.nan_to_num(held.numeric[name], nan=-1.0) for name in world.fields.numeric]
    codes = [held.columns[name].codes for name in world.fields.categorical]
    return np.column_stack([held.amount / MONEY, held.event_time // HOUR % 24, *numbers, *codes]).astype(
        np.float64
    )


def row_unlabelled(world: World, seeds: int) -> Row:
    """A world's average precisions without labels; r counts where the best of the others is better than chance."""
    judged, found = unlabelled(world, seeds)
    best = _best(found)
    ratio, counts = _ratio(found[OUR], found[best]), found[best].value >= RELEVANT * judged.prevalence
    aside = "" if counts else f"   not counted: {best} is below {RELEVANT:g} × prevalence"
    lines = [
        f"{world.name}: {int(judged.y.sum())} frauds, prevalence {judged.prevalence:.4f}",
        *_sorted_lines(found),
        f"    r = {ratio} against {best}{aside}",
    ]
    return Row("\n".join(lines), ratio, counts)


def bars_unlabelled(rows: Iterable[Row]) -> bool:
    """Print what is asked of r; whether it is missed."""
    ratios = [row.figure for row in rows if row.counts]
    return bool(ratios) and _missed({"mean of r": (mean(ratios), 1.0), "smallest r": (smallest(ratios), 0.8)})


def _best(found: Mapping[str, Interval]) -> str:
    return max((name for name in found if name != OUR), key=lambda name: found[name].value)


def _sorted_lines(found: Mapping[str, Interval]) -> list[str]:
    return [f"    {name:20}{one}" for name, one in sorted(found.items(), key=lambda item: -item[1].value)]


def _ratio(ours: Interval, best: Interval) -> Interval:
    return Interval(ours.value / best.value, ours.samples / np.maximum(best.samples, 1e-9))


def _missed(bars: Mapping[str, tuple[Interval, float]]) -> bool:
    """Print figures beside what is asked of them; whether one is missed."""
    print()
    for name, (found, bar) in bars.items():
        verdict = "missed" if found.misses(bar) else "held" if found.value >= bar else "within chance"
        print(f"{name:16}{found}, asked at least {bar:g}: {verdict}")
    return any(found.misses(bar) for found, bar in bars.values())


# ── with labels ──


@dataclass(frozen=True)
class Part:
    """Test days from one training to the next, with everybody's scores of their payments."""

    begin: int  # µs: the training
    judged: Judged
    strategy: str
    scores: Mapping[str, Floats]

    def __str__(self) -> str:
        """Average precision of everybody."""
        y, weight = self.judged.y, self.judged.weight
        told = [f"{name} {average_precision(y, score, weight):.3f}" for name, score in self.scores.items()]
        day = np.datetime64(self.begin, "us").astype("datetime64[D]")
        return f"    {day}: {', '.join(told)}; {int(y.sum())} frauds, {self.strategy}"


def labelled(world: World) -> list[Part]:
    """Train before each part of the test days and score it."""
    days = (world.until - world.date) / DAY
    step = -(-days // (7 * PARTS)) * WEEK
    edges = [*range(world.date, world.until, int(step)), world.until]
    history, fields = world.history(), _counted_fields(world)
    parts = []
    for begin, end in pairwise(edges):
        part = _part(replace(world, date=begin, until=end), history, fields)
        parts.append(part)
    return parts


def _part(world: World, history: History, fields: Floats) -> Part:
    config = world.fields.config
    judged = Judged.draw(world, None if world.name == "handbook" else GENUINE)
    seen = _known(history, world.date)
    prepared = train.prepare(config, seen, world.date)
    evaluation, folds = evaluate(config, seen, world.date)
    choice = choose_in_order([evaluation], StrategySettings())
    chosen = StoredChoice(0, choice.strategy, choice.outlier_share, choice.sentence, folds)
    model = train.fit_alone(config, prepared, chosen, world.date)
    raw = world.raw(judged.rows)
    scores = {OUR: model.score(raw, history.transactions.amount[judged.rows] / MONEY).score}

    mature = prepared.samples.mature
    encoder = Encoder.fit(prepared.features.encoding, mature.raw, mature.y, mature.weight)
    scores["LightGBM, features"] = _boosted(encoder.transform(mature.raw), mature, encoder.transform(raw))
    rows = _rows_of(prepared, config, seen)
    learned = fields[rows], fields[judged.rows]
    scores["LightGBM, fields"] = _boosted(learned[0], mature, learned[1])
    for title, name in (("random forest", "random_forest"), ("logistic regression", "logistic")):
        detector = detector_class(name)()
        detector.fit(learned[0], mature.y, mature.weight)
        scores[title] = detector.anomaly_score(learned[1])
    return Part(world.date, judged, choice.strategy, scores)


def _known(history: History, date: int) -> History:
    """The history that a training at a date loads: nothing later."""
    end = int(np.searchsorted(history.transactions.event_time, date))
    rows = history.transactions.take(slice(0, end))  # type: ignore[arg-type]
    return replace(
        history,
        transactions=rows,
        labels=history.labels.take(history.labels.known_at <= date),
        events=history.events.between(0, end),
        silence_ok=history.silence_ok[:end],
    )


def _rows_of(prepared: train.Prepared, config: Config, history: History) -> Ints:
    """The payments that the mature sample of a training consists of, as positions in the history."""
    known = prepared.training_set
    draws = hash_sampling.uniform(history.transactions.transaction_id[known.mature])
    selected, _ = hash_sampling.sample_rows(draws, config.training.max_rows, known.y == 1)
    return known.mature[selected]


def _boosted(X: Floats, mature: Sample, test: Floats) -> Floats:
    """Plain LightGBM: log-odds of the test rows."""
    from lightgbm import LGBMClassifier

    trees = LGBMClassifier(
        n_estimators=300,
        learning_rate=0.05,
        num_leaves=15,
        min_child_samples=20,
        reg_lambda=5.0,
        random_state=7,
        n_jobs=1,
        verbose=-1,
    )
    trees.fit(X, mature.y, sample_weight=mature.weight)
    return np.asarray(trees.predict(test, raw_score=True))


def _counted_fields(world: World) -> Floats:
    """Fields, and what was known of each entity and of each field of many values before a payment, (n, n_columns)."""
    held = world.transactions
    keys = [column.codes for column in held.columns.values() if len(column.values) > MANY_VALUES]
    for name in world.fields.numeric:
        codes, values = pd.factorize(held.numeric[name])
        if MANY_VALUES < len(values) < len(held) / MANY_VALUES:
            keys.append(codes.astype(np.int32))
    amount = held.amount / MONEY
    counted = [_so_far(codes, held.event_time, amount, world.fraud, world.maturity) for codes in keys]
    return np.column_stack([_fields(world), *counted])


def _so_far(
    codes: NDArray[np.int32], time: Ints, amount: Floats, fraud: NDArray[np.bool_], delay: int
) -> Floats:
    """
    Of the payments before each one with the same code, (n, 6): how many, in 1 and in 7 days, difference of the amount from their
    mean, known frauds, and how many are old enough for fraud to be known.

    Rows are in the order of time; those without a code have none before them.
    """
    order = np.argsort(codes, kind="stable")  # by code, then by time
    group, at = codes[order], time[order]
    place = np.arange(len(order))
    start = np.searchsorted(group, group)
    span = int(time[-1] - time[0]) + 1
    key = group.astype(np.int64) * (4 * span) + (
        at - time[0]
    )  # 4 spans apart, so that a shift stays in its group

    def before(age: int, side: Literal["left", "right"]) -> Ints:
        """Payments of the group up to an age before each."""
        return np.maximum(np.searchsorted(key, key - min(age, span), side=side), start)

    sums, frauds = (np.append(0.0, np.cumsum(of[order])) for of in (amount, fraud.astype(np.float64)))
    count = place - start
    usual = (sums[place] - sums[start]) / np.maximum(count, 1)
    known = before(delay, "right")
    columns = [
        count,
        place - before(DAY, "left"),
        place - before(7 * DAY, "left"),
        np.where(count > 0, amount[order] - usual, 0.0),
        frauds[known] - frauds[start],
        known - start,
    ]
    found = np.empty((len(order), len(columns)))
    found[order] = np.column_stack(columns)
    found[codes < 0] = 0.0
    return found


def row_labelled(world: World) -> Row:
    """A world's average precisions with labels, and the difference to the best of the others."""
    parts = labelled(world)
    found = {name: _over_parts(parts, name) for name in parts[0].scores}
    best = _best(found)
    gain = Interval(found[OUR].value - found[best].value, found[OUR].samples - found[best].samples)
    lines = [world.name, *map(str, parts), *_sorted_lines(found), f"    difference {gain} to {best}"]
    asked: dict[str, float] = {}
    if world.name == "handbook" and len(parts) == HANDBOOK_WEEKS:
        asked = _handbook_protocol(world, parts)
        lines += [
            f"    by the Handbook's protocol, {name} {value:.3f}, asked {HANDBOOK_ASKED[name]:g}"
            for name, value in asked.items()
        ]
    return Row(
        "\n".join(lines),
        gain,
        missed=any(round(value, 2) < HANDBOOK_ASKED[name] for name, value in asked.items()),
    )


def bars_labelled(rows: Sequence[Row]) -> bool:
    """Print what is asked of the differences; whether it is missed."""
    gains = [row.figure for row in rows]
    missed = _missed({"smallest": (smallest(gains), -0.01), "mean": (mean(gains), 0.01)})
    return missed or any(row.missed for row in rows)


def _over_parts(parts: Sequence[Part], name: str) -> Interval:
    """Average precision of each part, the mean weighted by frauds."""
    frauds = np.array([part.judged.y.sum() for part in parts])
    of = [part.judged.precision(part.scores[name]) for part, n in zip(parts, frauds, strict=True) if n]
    share = frauds[frauds > 0] / frauds.sum()
    values = np.array([one.value for one in of])
    return Interval(float(share @ values), share @ np.stack([one.samples for one in of]))


def _handbook_protocol(world: World, parts: Sequence[Part]) -> dict[str, float]:
    """Our figures by the Handbook's protocol, mean over weeks."""
    held = world.transactions
    truth = pd.DataFrame(
        {
            "transaction_id": held.transaction_id,
            "event_time": held.event_time.astype("datetime64[us]"),
            "customer_id": held.columns["customer_id"].codes,
            "is_fraud": world.fraud.astype(np.int64),
        }
    )
    truth["event_time"] = truth["event_time"].dt.tz_localize("UTC")
    figures = []
    for part in parts:
        week = str(np.datetime64(part.begin, "us").astype("datetime64[D]"))
        ids = held.transaction_id[part.judged.rows]
        scores = pd.DataFrame({"transaction_id": ids, "score": part.scores[OUR]})
        figures.append(judge(scores, truth, week)[1:])
    return dict(zip(HANDBOOK_ASKED, np.mean(figures, axis=0).tolist(), strict=True))
