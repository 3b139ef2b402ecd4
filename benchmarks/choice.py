"""
Does the choice know when to stop detecting outliers and begin to classify? k known frauds, all else honest.

    python -m benchmarks.choice PATH/TO/handbook.parquet                      # everything: an hour or two
    python -m benchmarks.choice PATH/TO/handbook.parquet --world hidden --k 5 --k 50
    python -m benchmarks.choice --only-report --cells FOLDER --chart choice.png

In four worlds (`benchmarks.worlds`) k frauds of the mature history are known and the others either never happened or
happened and stay unlabelled. What is withheld from training is withheld from label-derived features, too. Every
strategy is fitted as a training would, on the same rows, and judged on the days that follow, against the truth::

    outlier, blend, classification    insisted on
    auto                               whichever of them `detectors.strategy.choice` chooses, with evidence and shipped bounds

A cell is a world, a variant and a k; its figures are means over seeds: 10 up to k = 20, 5 above. A seed draws other
frauds and other trees, in simulated worlds another world. Regret is what auto's mean average precision lacks to the best
fixed strategy's in hindsight. With fewer than two known frauds nothing but outlier detection can be insisted on; what
LightGBM made of a single one is shown beside.

Cells are kept in a folder, so that an interrupted run goes on where it was.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.machine import require
from benchmarks.worlds import HANDBOOK_TEST, SIMULATED, World, handbook
from detectors.algorithms.boosting import Boosting
from detectors.base import FRAUDS_NEEDED, MIN_FRAUDS_TO_FIT, STRATEGIES
from detectors.evaluation.metrics import average_precision
from detectors.evaluation.prevalence import effective_among, estimate_prevalence
from detectors.evaluation.thresholds import Costs
from detectors.inputs.encoding import Encoder
from detectors.inputs.ranks import surprisal
from detectors.inputs.sample import Layout, Sample
from detectors.strategy.blend import blend_surprisal, learn_weight
from detectors.strategy.choice import StrategySettings, choose
from detectors.strategy.components import Components
from detectors.strategy.evidence import ReviewBudget, gather_evidence
from detectors.strategy.outlier_team import FitSettings
from detectors.strategy.validation_folds import ValidationFold, fit_validation_folds
from storage.frames import MONEY, Floats, Ints

KS = (0, 1, 2, 5, 10, 20, 50, 100, 300, 1000)
ALL = 10**9
NEVER, UNLABELLED = "others never happened", "others unlabelled"
VARIANTS = (NEVER, UNLABELLED)
WORLDS = ("handbook", *SIMULATED)
MANY, FEW = 10, 5  # seeds up to k = 20 and above
ROWS = 25_000  # genuine rows to learn from; they stand for all of them
TEST_GENUINE = 25_000  # genuine rows to judge on; they stand for all of them
PER_DAY_SHARE = 50 / 10_000  # reviews a transaction
COSTS = Costs(missed_fraud=100.0, review=1.0, missed="constant")
ASKED = {"mean regret": 0.01, "worst regret": 0.05, "below outlier": 0.02, "below classification": 0.01}
MANY = 300  # known frauds from which on nothing may be lost to classification


Place = tuple[str, str, int]  # world, variant, known frauds


@dataclass(frozen=True)
class Figures:
    """What one strategy achieved in the test days."""

    ap: float
    recall: float  # of frauds, within the budget of reviews
    cost: float  # per 1,000 transactions, in reviews


@dataclass(frozen=True)
class Cell:
    """One seed of a cell."""

    world: str
    variant: str
    k: int
    seed: int
    effective: float
    held_out: float
    weight: float
    rule: str
    chosen: str
    strategies: dict[str, Figures] = field(default_factory=dict)
    single: float = float("nan")  # average precision of LightGBM on one fraud


def main(argv: Sequence[str] | None = None) -> int:
    """Fit what is missing, print the tables; 1 if a figure is missed."""
    args = _arguments(argv)
    args.cells.mkdir(parents=True, exist_ok=True)
    if not args.only_report:
        jobs = [job for job in _jobs(args) if not _file(args.cells, *job[1:]).exists()]
        began = time.perf_counter()
        with ProcessPoolExecutor(args.processes) as pool:
            for done, said in enumerate(pool.map(_work, jobs), 1):
                print(f"{done}/{len(jobs)} {said} ({time.perf_counter() - began:.0f} s)", flush=True)
    cells = [_read(path) for path in sorted(args.cells.glob("*.json"))]
    if not cells:
        sys.exit(f"{args.cells} holds no cells: run without --only-report first")
    missed = report(cells)
    if args.chart:
        draw(cells, args.chart)
    return int(missed)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, help="the Handbook's transactions, a Parquet file")
    parser.add_argument("--world", action="append", choices=WORLDS)
    parser.add_argument("--variant", action="append", choices=VARIANTS)
    parser.add_argument("--k", action="append", type=int, help=f"known frauds; {ALL} for all")
    parser.add_argument("--seeds", type=int, help="instead of 10 and 5")
    parser.add_argument("--first-seed", type=int, default=0, help="other seeds are other worlds")
    parser.add_argument("--date", default=HANDBOOK_TEST, help="first test day of the Handbook's payments")
    parser.add_argument("--cells", type=Path, default=Path("choice-cells"), help="folder to keep cells in")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only-report", action="store_true")
    parser.add_argument("--chart", type=Path, help="draw the curves into this PNG")
    return parser.parse_args(argv)


Job = tuple[argparse.Namespace, str, str, int, int]


def _jobs(args: argparse.Namespace) -> Iterable[Job]:
    """Seed by seed, so that an interrupted run has a little of everything."""
    worlds = args.world or WORLDS
    if "handbook" in worlds:
        require(args.data, "the Handbook's transactions as Parquet")
    for nth in range(args.seeds or MANY):
        for k in args.k or (*KS, ALL):
            if nth >= (args.seeds or (MANY if k <= 20 else FEW)):
                continue
            for world in worlds:
                for variant in args.variant or VARIANTS:
                    if k != ALL or variant == VARIANTS[0]:  # all known: there are no others
                        yield args, world, variant, k, args.first_seed + nth


def _work(job: Job) -> str:
    args, name, variant, k, seed = job
    world = handbook(args.data, args.date) if name == "handbook" else SIMULATED[name](seed + 1)
    if k != ALL and k > int((world.fraud & world.mature).sum()):
        return f"{name}: no {k} frauds"
    began = time.perf_counter()
    cell = live(world, variant, k, seed)
    _file(args.cells, name, variant, k, seed).write_text(json.dumps(asdict(cell)))
    told = " ".join(f"{name} {found.ap:.3f}" for name, found in cell.strategies.items())
    return f"{name}, {variant}, k={k}, seed {seed}: {told}, chose {cell.chosen}, {time.perf_counter() - began:.0f} s"


def _file(folder: Path, world: str, variant: str, k: int, seed: int) -> Path:
    return folder / f"{world}-{variant.rsplit(maxsplit=1)[-1]}-{k}-{seed}.json"


def _read(path: Path) -> Cell:
    found = json.loads(path.read_text())
    found["strategies"] = {name: Figures(**values) for name, values in found["strategies"].items()}
    return Cell(**found)


# ── one seed of a cell ──


@dataclass(frozen=True)
class Known:
    """What a monitor of a world may know."""

    world: World
    frauds: Ints  # positions of the known ones, mature or not


def live(world: World, variant: str, k: int, seed: int) -> Cell:
    """Let k frauds be known, choose, fit every strategy, and judge."""
    known = withheld(world, variant, k, seed)
    mature, test, y_test = samples(known, seed)
    layout, how = known.world.fields.catalogue.layout, FitSettings(seed=7 + seed)
    folds = fit_validation_folds(mature, layout, how)
    told = gather_evidence(folds, ReviewBudget(COSTS, PER_DAY_SHARE), seed)
    choice = choose(_rarity(known), (), StrategySettings(), told)
    strategies = {
        strategy: judged(score, y_test, test.weight)
        for strategy, score in scores_of(mature, test, layout, how, folds).items()
    }
    single = float("nan")
    if mature.y.sum() == 1:
        encoder = Encoder.fit(layout.encoding, mature.raw, mature.y, mature.weight)
        alone = Boosting(seed=7 + seed).fit(encoder.transform(mature.raw), mature.y, mature.weight)
        score = alone.anomaly_score(encoder.transform(test.raw))
        single = judged(score, y_test, test.weight).ap
    return Cell(
        world.name,
        variant,
        k,
        seed,
        effective=_rarity(known).effective,
        held_out=told.positives if told else 0.0,
        weight=told.weight if told else float("nan"),
        rule=choice.rule,
        chosen=choice.strategy,
        strategies=strategies | {"auto": strategies[choice.strategy]},
        single=single,
    )


def scores_of(
    mature: Sample, test: Sample, layout: Layout, how: FitSettings, folds: Sequence[ValidationFold]
) -> dict[str, Floats]:
    """What each strategy ranks the test rows by; as `AutoDetector`, whose strategies share their parts."""
    frauds = int(mature.y.sum())
    parts = Components.fit(layout, mature, mature.take(mature.y == 0), how, "blend" if frauds else "outlier")
    X = parts.encoder.transform(test.raw)
    if not frauds:
        return {"outlier": surprisal(parts.outliers.rank(X))}
    sides = parts.sides(X)
    known = float(len(np.unique(mature.entities[mature.y == 1])))
    weight = learn_weight(folds, known).value if frauds >= MIN_FRAUDS_TO_FIT else 0.0
    scores = {
        "outlier": sides.team.surprisal,
        "blend": blend_surprisal(weight, *sides.mixed),
        "classification": parts.boosting.classifier.anomaly_score(X),
    }
    return {strategy: score for strategy, score in scores.items() if frauds >= FRAUDS_NEEDED[strategy]}


def withheld(world: World, variant: str, k: int, seed: int) -> Known:
    """Draw the known frauds; the others vanish from the past, or stay without a label."""
    candidates = np.flatnonzero(world.fraud & world.mature)
    if k == ALL:
        known = np.flatnonzero(world.fraud)
    else:
        rng = np.random.default_rng((seed, k))
        known = np.sort(rng.choice(candidates, k, replace=False))
        if variant == NEVER:
            gone = world.fraud & (world.transactions.event_time < world.date)
            gone[known] = False
            known = known - np.cumsum(gone)[known]
            world = world.without(gone)
    return Known(world, known)


def samples(known: Known, seed: int) -> tuple[Sample, Sample, Floats]:
    """Rows to learn from, rows to be judged on with their weights, and the truth of the latter."""
    world, rng = known.world, np.random.default_rng((seed, 1))
    y = np.zeros(len(world.fraud))
    y[known.frauds] = 1
    mature = np.flatnonzero(world.mature)
    learn, weight = _drawn(rng, mature, y[mature] == 1, ROWS)
    test, of_test = _drawn(rng, world.test, world.fraud[world.test], TEST_GENUINE)
    raw = world.raw(np.concatenate([learn, test]), known.frauds)
    rows = world.transactions
    train = Sample(
        raw[: len(learn)],
        y[learn],
        weight,
        rows.amount[learn] / MONEY,
        rows.event_time[learn],
        world.known_at[learn],
        rows.columns[world.fields.entities[0]].codes[learn].astype(np.int64),
    )
    asked = Sample(raw[len(learn) :], np.full(len(test), np.nan), of_test, rows.amount[test] / MONEY)
    return train, asked, world.fraud[test].astype(np.float64)


def _drawn(rng: np.random.Generator, rows: Ints, always: np.ndarray, genuine: int) -> tuple[Ints, Floats]:
    """All rows of `always` and so many others, in order, with how many each stands for."""
    others = rows[~always]
    kept = np.sort(rng.choice(others, min(genuine, len(others)), replace=False))
    chosen = np.sort(np.concatenate([rows[always], kept]))
    return chosen, np.where(np.isin(chosen, rows[always]), 1.0, len(others) / max(len(kept), 1))


def _rarity(known: Known):
    world = known.world
    fraud = np.isin(np.flatnonzero(world.mature), known.frauds)
    columns = [world.transactions.columns[name].codes[world.mature] for name in world.fields.entities]
    return estimate_prevalence(float(len(fraud)), float(fraud.sum()), effective_among(fraud, columns))


def judged(score: Floats, y: Floats, weight: Floats) -> Figures:
    """Average precision, and recall and cost when the highest scores are reviewed as far as there is time."""
    order = np.argsort(-score, kind="stable")
    flagged = np.zeros(len(score), dtype=bool)
    flagged[order] = np.cumsum(weight[order]) <= PER_DAY_SHARE * weight.sum()
    missed = float(y @ ~flagged)
    cost = missed * COSTS.missed_fraud + float(weight @ ((y == 0) & flagged))
    return Figures(
        float(average_precision(y, score, weight)), 1 - missed / float(y.sum()), 1000 * cost / weight.sum()
    )


# ── all cells ──


def report(cells: list[Cell]) -> bool:
    """Print a table a world and variant, then regret; whether a figure is missed."""
    regrets: dict[Place, float] = {}
    below: dict[Place, float] = {}
    many: dict[Place, float] = {}
    for world, variant in [(w, v) for w in WORLDS for v in VARIANTS]:
        mine = [cell for cell in cells if (cell.world, cell.variant) == (world, variant)]
        ks = sorted({cell.k for cell in mine})
        if not ks:
            continue
        print(f"\n{world}, {variant}: average precision, mean ± half of the 95 % interval over seeds")
        print(f"{'k':16}" + "".join(f"{'all' if k == ALL else k:>15}" for k in ks))
        of = {k: [cell for cell in mine if cell.k == k] for k in ks}
        for strategy in (*STRATEGIES, "auto"):
            print(f"{strategy:16}" + "".join(f"{_shown(of[k], strategy, 'ap'):>15}" for k in ks))
        for k in ks:
            means = {s: _mean(of[k], s, "ap") for s in of[k][0].strategies}
            regrets[world, variant, k] = max(means.values()) - means["auto"]
            below[world, variant, k] = means["outlier"] - means["auto"]
            if k >= MANY:
                many[world, variant, k] = means["classification"] - means["auto"]
        print(f"{'regret':16}" + "".join(f"{regrets[world, variant, k]:15.3f}" for k in ks))
        for name, what in (("recall", "recall in budget"), ("cost", "cost of 1,000")):
            for strategy in (*STRATEGIES, "auto"):
                shown = "".join(f"{_mean(of[k], strategy, name):15.3g}" for k in ks)
                print(f"{what.ljust(17) + strategy:31}{shown}")
        print(f"{'effective':16}" + "".join(f"{np.mean([c.effective for c in of[k]]):15.1f}" for k in ks))
        print(f"{'held out':16}" + "".join(f"{np.mean([c.held_out for c in of[k]]):15.1f}" for k in ks))
        print(f"{'weight':16}" + "".join(f"{_known_mean([c.weight for c in of[k]]):15.2f}" for k in ks))
        print(f"{'chosen':16}" + "".join(f"{_chosen(of[k]):>15}" for k in ks))
        if 1 in of:
            print(f"LightGBM on one fraud: {np.mean([c.single for c in of[1]]):.3f}")
    return _regret({"worst regret": regrets, "below outlier": below, "below classification": many})


def _regret(differences: Mapping[str, Mapping[Place, float]]) -> bool:
    """Print the mean regret and the worst cell of each difference; whether one is more than what is asked."""
    regrets = differences["worst regret"]
    figures = {"mean regret": (float(np.mean(list(regrets.values()))), "")}
    for name, of in differences.items():
        if of:
            worst = max(of, key=lambda place: of[place])
            figures[name] = (of[worst], f"  {worst}")
    print(f"\nregret of auto against the best fixed strategy in hindsight, {len(regrets)} cells")
    for name, (value, where) in figures.items():
        print(f"{name:22}{value:.4f}, asked at most {ASKED[name]:g}{where}")
    return any(value > ASKED[name] for name, (value, _) in figures.items())


def _mean(cells: list[Cell], strategy: str, figure: str) -> float:
    known = [getattr(cell.strategies[strategy], figure) for cell in cells if strategy in cell.strategies]
    return float(np.mean(known)) if known else float("nan")


def _known_mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _half(values: list[float]) -> float:
    """Half of the 95 % interval of a mean, by Student's t."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def _shown(cells: list[Cell], strategy: str, figure: str) -> str:
    values = [getattr(c.strategies[strategy], figure) for c in cells if strategy in c.strategies]
    return f"{np.mean(values):.3f} ± {_half(values):.3f}" if values else "–"


def _chosen(cells: list[Cell]) -> str:
    names = [cell.chosen for cell in cells]
    common = max(set(names), key=names.count)
    return common if names.count(common) == len(names) else f"{common[:8]} {names.count(common)}/{len(names)}"


def draw(cells: list[Cell], path: Path) -> None:
    """Small multiples: average precision over k, a panel a world and variant."""
    import altair as alt
    import pandas as pd

    rows = [
        {
            "world": cell.world,
            "variant": cell.variant,
            "known frauds": 5000 if cell.k == ALL else max(cell.k, 0.5),
            "strategy": strategy,
            "average precision": found.ap,
        }
        for cell in cells
        for strategy, found in cell.strategies.items()
    ]
    names, frame = [*STRATEGIES, "auto"], pd.DataFrame(rows)
    means = frame.groupby(["world", "variant", "known frauds", "strategy"], as_index=False).mean()
    line = (
        alt.Chart(means)
        .mark_line(point={"size": 18})
        .encode(
            x=alt.X("known frauds:Q", scale=alt.Scale(type="log"), title="known frauds (log; left: none)"),
            y=alt.Y("average precision:Q"),
            color=alt.Color("strategy:N", sort=names, scale=alt.Scale(domain=names, range=COLOURS)),
            strokeDash=alt.StrokeDash("strategy:N", sort=names, scale=alt.Scale(domain=names, range=DASHES)),
            strokeWidth=alt.condition(alt.datum.strategy == "auto", alt.value(5), alt.value(1.6)),
            opacity=alt.condition(alt.datum.strategy == "auto", alt.value(0.45), alt.value(1)),
        )
        .properties(width=210, height=130)
    )
    chart = line.facet(column=alt.Column("world:N", sort=list(WORLDS)), row="variant:N")
    chart.resolve_scale(y="independent").save(path, scale_factor=1.5)


COLOURS = ["#0072b2", "#e69f00", "#000000", "#7f7f7f"]  # told apart by the colour-blind, and in grey
DASHES = [[2, 2], [6, 3], [1, 0], [1, 0]]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
