"""
Does the promotion gate let sound models through, and does it stop broken ones?

    python -m benchmarks.gate FOLDER                                   # everything: half an hour of processor time
    python -m benchmarks.gate FOLDER --world hidden --seeds 2
    python -m benchmarks.gate FOLDER --only-report --cells FOLDER

In the worlds of `benchmarks.worlds` with ten frauds a week or more a model is trained week after week on what is known then, a fraud
after 7 days. A seed is another world, or two thirds of a file's customers. At each date, as the pipeline does it::

    rows that both learned from ........................│ window of a week │ labels of a week missing │ later
    └ champion of the week before, candidate fitted again ┘ both are judged  ┘               date ┘ loss ┘

The settings of a seed are classification, a blend, or one after the other, as when the choice changes. The candidate draws its trees by
another seed, so that even of the same rows it is another model.

    sound    nothing is wrong: each refusal is a mistake
    broken   the candidate learns from something wrong, and loses .05 of average precision or more against the sound one on the true
             payments of the next two weeks: each promotion is a mistake

A feature is constant, in another unit (a hundredth) or has the other sign; labels are those of other payments, a fixed number of rows
away, or of any. Either only the candidate has learned from it (`fit`: all that is compared is true), or it is `stored`, so that the
window and its labels are wrong as well. It is caught by the window, or by the past: payments that both learned from. The candidate of
the comparison stands for the one that would be promoted, which has a week more.

Cells are kept in a folder, so that an interrupted run goes on where it was; they hold scores, so that a rule can be judged anew.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.worlds import DRAWN, FILES, World, load
from detectors.base import SEED, Bools, Strategy
from detectors.evaluation.comparison import FoldPredictions, FoldRows, TechniqueMetrics, evaluate_technique
from detectors.evaluation.metrics import average_precision
from detectors.evaluation.prevalence import effective_among
from detectors.inputs.sample import Sample
from detectors.model.model import Model, ModelSettings, fit_model, with_new_thresholds
from pipeline.training.learned_payments import has_changed, is_lower, learned_ranking
from pipeline.training.promotion_gate import EFFECTIVE_MIN, REJECTING, judge
from storage.frames import DAY, MONEY, Floats, Ints

WORLDS = (*FILES, *(name for name in DRAWN if name != "extreme"))  # where a week has frauds to judge by
SETTINGS: tuple[tuple[Strategy, Strategy], ...] = (
    ("classification", "classification"),
    ("blend", "blend"),
    ("blend", "classification"),
)
SEEDS, BROKEN_SEEDS = 7, 2
DATES = 3  # trainings of a seed that are judged
CANDIDATE_SEED = SEED + 1  # another draw of the same training
EVERY, LATER = 7 * DAY, 14 * DAY
SPAN = 0.5  # of a world's days: a training has rows that the one before had not, and lacks some that it had
LEARNED, JUDGED, HELD_OUT = 5_000, 9_000, 3_000  # genuine rows; they stand for all of them
PAYMENTS, CUSTOMERS = 220_000, 2 / 3  # of a file that a seed has at most
PER_DAY_SHARE = 0.005  # reviews a transaction
LOSS = 0.05
KINDS = ("constant", "unit", "sign", "other id", "shuffled")
WHERE = ("fit", "stored")
REFUSED_MAX, CAUGHT_MIN = 0.02, 0.95


@dataclass(frozen=True)
class Case:
    """One comparison: candidate and champion, in this order, on the rows of a window."""

    world: str
    seed: int
    date: int
    settings: str
    kind: str  # "sound", or what is broken
    where: str
    source: str  # columns that are broken
    loss: float  # of the candidate's average precision on later days
    effective: float
    then: dict[str, float]  # `learned_ranking` of the champion
    now: dict[str, float]
    of_candidate: dict[str, float]  # of the candidate, among the same payments
    y: Floats
    weight: Floats
    entity: Ints
    scores: Floats  # (2, n)
    flags: Bools  # (2, n)

    @property
    def name(self) -> str:
        """The name of its file."""
        parts = (self.world, self.seed, self.date // DAY, self.kind, self.where)
        return "-".join(str(part).replace(" ", "_") for part in parts)

    def write(self, folder: Path) -> None:
        """Keep it."""
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        told = {name: value for name, value in vars(self).items() if name not in arrays}
        np.savez_compressed(folder / f"{self.name}.npz", told=json.dumps(told), **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> "Case":
        """A case that was kept."""
        with np.load(path) as held:
            told = json.loads(str(held["told"]))
            return cls(**told, **{name: held[name] for name in held.files if name != "told"})

    def metrics(self) -> tuple[TechniqueMetrics, TechniqueMetrics]:
        """Of candidate and champion; a missed fraud costs 100 reviews."""
        n = len(self.y)
        day, missing = np.zeros(n, dtype=np.int64), np.full(n, np.nan)
        entity = np.unique(self.entity, return_inverse=True)[1]
        rows = FoldRows(self.y, np.full(n, 100.0), entity, day, day, weight=self.weight)
        candidate, champion = (
            evaluate_technique([rows], [FoldPredictions(score, flags, flags, flags, flags, missing)], 1.0)
            for score, flags in zip(self.scores, self.flags, strict=True)
        )
        return candidate, champion

    def verdict(self) -> "Verdict":
        """What the gate says."""
        champion, candidate = self.settings.split(" → ")
        learned = has_changed(self.then, self.now)
        learned |= champion == candidate == "classification" and is_lower(self.of_candidate, self.now)
        if self.effective < EFFECTIVE_MIN:
            return Verdict("INCONCLUSIVE", learned, float("nan"), float("nan"), float("nan"))
        rule, measured = judge(*self.metrics())
        return Verdict(rule, learned, *(measured[f"ap_{name}"] for name in ("difference", "lower", "upper")))


@dataclass(frozen=True)
class Verdict:
    """The rule by which two models compare, whether one fails on what it learned, and the difference of average precision."""

    rule: str
    learned: bool
    difference: float
    lower: float
    upper: float

    @property
    def refused(self) -> bool:
        """Whether the candidate is not promoted."""
        return self.learned or self.rule in REJECTING


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is missing, print the tables; 1 if a bar is missed."""
    args = _arguments(argv)
    args.cells.mkdir(parents=True, exist_ok=True)
    if not args.only_report:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for name in args.world or WORLDS:
                _work(args, name, seed)
    cases = [Case.read(path) for path in sorted(args.cells.glob("*.npz"))]
    if not cases:
        sys.exit(f"{args.cells} holds no cells: run without --only-report first")
    return int(report(cases))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help=f"where {', '.join(FILES.values())} are")
    parser.add_argument("--world", action="append", choices=WORLDS, help="only this; repeat for more")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each world (default {SEEDS})")
    parser.add_argument("--first-seed", type=int, default=0, help="other seeds are other worlds")
    parser.add_argument(
        "--broken",
        type=int,
        default=BROKEN_SEEDS,
        help=f"first seeds with broken models (default {BROKEN_SEEDS})",
    )
    parser.add_argument("--chosen", action="store_true", help="on the weeks to tune on")
    parser.add_argument("--cells", type=Path, default=Path("gate-cells"), help="folder to keep cells in")
    parser.add_argument("--only-report", action="store_true")
    return parser.parse_args(argv)


def _work(args: argparse.Namespace, name: str, seed: int) -> None:
    done = args.cells / f"{name}-{seed}.done"
    if done.exists():
        return
    began = time.process_time()
    world = _customers(load(name, args.folder, seed + 1), seed)
    begin, end = world.chosen if args.chosen else world.reported
    dates = np.arange(begin, end - EVERY + 1, EVERY)[:DATES].tolist()
    n = 0
    for case in Trainings(world, seed, end).cases(dates, broken=seed < args.first_seed + args.broken):
        case.write(args.cells)
        n += 1
        verdict = case.verdict()
        print(
            f"{case.name} {case.settings} {case.source}: {verdict.rule}, {verdict.difference:+.3f} ({verdict.lower:+.3f} to "
            f"{verdict.upper:+.3f}), loss {case.loss:.3f}, past {_past(case.then)} {_past(case.now)} "
            f"{_past(case.of_candidate)}",
            flush=True,
        )
    done.touch()
    print(f"{name}, seed {seed}: {n} cases, {time.process_time() - began:.0f} s", flush=True)


def _past(ranking: dict[str, float]) -> str:
    return f"{ranking['ap']:.3f}" if ranking else "–"


def _customers(world: World, seed: int) -> World:
    """Of a file other customers a seed."""
    if world.name not in FILES:
        return world
    payer = world.transactions.columns[world.fields.entities[0]].codes
    share = min(CUSTOMERS, PAYMENTS / len(payer))
    return world.without(np.random.default_rng(seed).random(payer.max() + 2)[payer] >= share)


# ── the trainings of one seed ──


class Trainings:
    """Weekly trainings in a world, and what they are compared by."""

    def __init__(self, world: World, seed: int, end: int) -> None:
        self.world, self.seed, self.end = world, seed, end
        self.times = world.transactions.event_time
        self.span = int(SPAN * float(self.times[-1] - self.times[0]))
        self.draws = np.random.default_rng((seed, 1)).random(len(self.times))
        self.entity = world.transactions.columns[world.fields.entities[0]].codes.astype(np.int64)
        self.per_day = PER_DAY_SHARE * len(self.times) * DAY / float(self.times[-1] - self.times[0])

    def cases(self, dates: Sequence[int], broken: bool) -> Iterator[Case]:
        """Train at each date, compare with the model of the week before; broken ones at the last date."""
        world, settings = self.world, SETTINGS[self.seed % len(SETTINGS)]
        for nth, date in enumerate(dates):
            champion, then = self._trained(world, date - EVERY, settings[nth % 2])
            strategy = settings[(nth + 1) % 2]
            pair = Pair(self, date, champion, then, strategy)
            past = self.learned(world, date - EVERY)
            sound = self.fitted(past, world, date, strategy, CANDIDATE_SEED)
            yield pair.case(sound, world, past, "sound", "", "", 0.0)
            if broken and date == dates[-1]:
                yield from pair.broken(sound, past)

    def _trained(self, world: World, date: int, strategy: Strategy) -> tuple[Model, dict[str, float]]:
        learned = self.learned(world, date)
        model = self.fitted(learned, world, date, strategy, SEED)
        return model, learned_ranking(model, learned)

    def learned(self, world: World, date: int) -> Sample:
        """The rows that a model of this date learns from, and the candidate of the week after in the comparison."""
        return self.sample(world, (date - self.span, date - world.maturity), LEARNED)

    def fitted(self, past: Sample, world: World, date: int, strategy: Strategy, seed: int) -> Model:
        """A model that learned from these rows, with the thresholds of the newest week."""
        silent = replace(world, fraud=np.zeros_like(world.fraud))
        recent = self.sample(silent, (date - EVERY, date), HELD_OUT, known=world)
        catalogue = world.fields.catalogue
        return fit_model(
            replace(self.settings(strategy), seed=seed),
            catalogue.layout,
            mature=past,
            usual=past.take(past.y == 0),
            recent=recent,
            days=EVERY / DAY,
            notes={},
            columns=catalogue.raw_names,
        )

    def settings(self, strategy: Strategy) -> ModelSettings:
        """Shipped, but for the budget."""
        return ModelSettings(strategy, per_day=self.per_day)

    def sample(self, world: World, span: tuple[int, int], genuine: int, known: World | None = None) -> Sample:
        """All frauds of a span and so many others, with the features that labels of `known` give; of `world` by default."""
        inside = np.flatnonzero((self.times >= span[0]) & (self.times < span[1]))
        fraud = world.fraud[inside]
        share = min(1.0, genuine / max(int((~fraud).sum()), 1))
        rows = inside[fraud | (self.draws[inside] < share)]
        y = world.fraud[rows].astype(np.float64)
        return Sample(
            (known or world).raw(rows),
            y,
            np.where(y == 1, 1.0, 1 / share),
            world.transactions.amount[rows] / MONEY,
            self.times[rows],
            self.times[rows] + world.maturity,
            self.entity[rows],
        )


@dataclass(frozen=True)
class Pair:
    """The champion in force at a date, and the candidates that are compared with it."""

    trainings: Trainings
    date: int
    champion: Model
    then: dict[str, float]
    strategy: Strategy

    @property
    def window(self) -> tuple[int, int]:
        """Of mature rows that neither was fitted on."""
        end = self.date - self.trainings.world.maturity
        return end - EVERY, end

    def case(
        self, candidate: Model, world: World, past: Sample, kind: str, where: str, source: str, loss: float
    ) -> Case:
        """Compare on the window as `world` has it; `past` is what the champion is ranked by that it learned from."""
        rows = self.trainings.sample(world, self.window, JUDGED)
        days = EVERY / DAY
        settings = self.trainings.settings(self.strategy)
        scored = [
            with_new_thresholds(model, settings, rows, days).score(rows.raw, rows.amount)
            for model in (candidate, self.champion)
        ]
        return Case(
            world.name,
            self.trainings.seed,
            self.date,
            f"{self.champion.strategy} → {candidate.strategy}",
            kind,
            where,
            source,
            loss,
            effective_among(rows.y == 1, [rows.entities]),
            self.then,
            learned_ranking(self.champion, past),
            learned_ranking(candidate, past),
            rows.y,
            rows.weight,
            rows.entities,
            np.array([each.score for each in scored]),
            np.array([each.flagged for each in scored]),
        )

    def broken(self, sound: Model, past: Sample) -> Iterator[Case]:
        """One of each kind and place, where it costs enough."""
        this, rng = self.trainings, np.random.default_rng((self.trainings.seed, 2))
        world, span = this.world, (self.date, min(self.date + LATER, this.end))
        later = this.sample(world, span, JUDGED)
        best = _ap(sound, later)
        for kind in KINDS:
            for where in WHERE:
                if kind in ("other id", "shuffled"):
                    source, wrong = "labels", replace(world, fraud=_misplaced(world.fraud, kind, rng))
                else:
                    source = self._costly(sound, later, kind, where, rng)
                    if not source:
                        continue
                    wrong = _with_wrong_field(world, source, kind, self.date) if where == "stored" else world
                if where == "stored":
                    learned, compared = this.learned(wrong, self.date - EVERY), wrong
                elif source == "labels":
                    learned, compared = replace(past, y=_misplaced(past.y == 1, kind, rng) * 1.0), world
                else:
                    learned = replace(past, raw=_spoiled(past.raw, kind, _columns(world)[source]))
                    compared = world
                candidate = this.fitted(learned, compared, self.date, self.strategy, CANDIDATE_SEED)
                seen = learned if where == "stored" else past
                loss = best - _ap(candidate, later)
                yield self.case(candidate, compared, seen, kind, where, source, loss)

    def _costly(self, model: Model, later: Sample, kind: str, where: str, rng: np.random.Generator) -> str:
        """Columns that the sound model loses enough without, drawn; none where there are none."""
        columns, best = _columns(self.trainings.world), _ap(model, later)
        sources = columns if where == "fit" else {"amount", *self.trainings.world.fields.numeric}
        counted = {source for source in columns if source.startswith("labels") and kind == "sign"}
        for source in rng.permutation(sorted(set(sources) - counted)).tolist():
            spoiled = replace(later, raw=_spoiled(later.raw, kind, columns[source]))
            if best - _ap(model, spoiled) >= LOSS:
                return str(source)
        return ""


def _ap(model: Model, rows: Sample) -> float:
    return average_precision(rows.y, model.score(rows.raw, rows.amount).score, rows.weight)


def _columns(world: World) -> dict[str, list[int]]:
    """Raw columns by what they are made of: the amount, an entity's labels, its other columns, a number of the user's."""
    names = world.fields.catalogue.raw_names
    amounts = [name for name in names if "amount" in name]
    of = {"amount": amounts}
    for entity in world.fields.entities:
        mine = [name for name in names if name.startswith(f"{entity}_") and name not in amounts]
        of[f"labels of {entity}"] = [name for name in mine if "_known_" in name or "_matured_" in name]
        of[f"payments of {entity}"] = [name for name in mine if name not in of[f"labels of {entity}"]]
    of |= {name: [name] for name in world.fields.numeric if name in names}
    return {source: [names.index(name) for name in columns] for source, columns in of.items() if columns}


def _wrong(values: Floats, kind: str) -> Floats:
    if kind == "constant":
        return np.full(len(values), float(np.nanmedian(values)))
    return values / 100 if kind == "unit" else -values


def _spoiled(raw: Floats, kind: str, columns: Sequence[int]) -> Floats:
    raw = raw.copy()
    for column in columns:
        raw[:, column] = _wrong(raw[:, column], kind)
    return raw


def _with_wrong_field(world: World, name: str, kind: str, date: int) -> World:
    """The world with a wrong field in all payments before the date."""
    rows = world.transactions
    old = rows.event_time < date
    if name == "amount":
        wrong = _wrong(rows.amount.astype(np.float64), kind)
        return replace(
            world,
            transactions=replace(rows, amount=np.where(old, np.rint(wrong), rows.amount).astype(np.int64)),
        )
    values = np.where(old, _wrong(rows.numeric[name], kind), rows.numeric[name])
    return replace(world, transactions=replace(rows, numeric={**rows.numeric, name: values}))


def _misplaced(fraud: Bools, kind: str, rng: np.random.Generator) -> Bools:
    """The labels of rows a fixed number away, or of any."""
    return np.roll(fraud, int(rng.integers(20, 200))) if kind == "other id" else rng.permutation(fraud)


# ── all cases ──


def report(cases: Sequence[Case]) -> bool:
    """Print refusals of sound models by world and what catches the broken ones by kind; whether a bar is missed."""
    verdicts = [(case, case.verdict()) for case in cases]
    sound = [(case, said) for case, said in verdicts if case.kind == "sound"]
    broken = [(case, said) for case, said in verdicts if case.kind != "sound" and case.loss >= LOSS]
    print("\nsound models        cases  conclusive  refused  difference: mean, deviation, worst")
    for world in [*(name for name in WORLDS if any(case.world == name for case, _ in sound)), "all"]:
        mine = [said for case, said in sound if world in (case.world, "all")]
        told = np.array([said.difference for said in mine if said.rule != "INCONCLUSIVE"])
        figures = f"{told.mean():+.4f} {told.std():.4f} {told.min():+.4f}" if len(told) else "–"
        refused = sum(said.refused for said in mine)
        print(f"{world:20}{len(mine):5}{len(told):12}{refused:9}  {figures}")
    for case, said in sound:
        if said.refused:
            print(f"  refused: {case.name}, {case.settings}: {said}")
    print(f"\nbroken models that lose {LOSS} or more")
    print(
        f"{'kind':12}{'where':10}{'cases':>6}{'window':>10}{'past':>6}{'caught':>8}{'loss: mean, least':>21}"
    )
    rates = {}
    for kind in KINDS:
        for where in (*WHERE, "all"):
            of_kind = [(c, said) for c, said in broken if c.kind == kind and where in (c.where, "all")]
            if not of_kind:
                continue
            caught = sum(said.refused for _, said in of_kind)
            compared, past = sum(s.rule in REJECTING for _, s in of_kind), sum(s.learned for _, s in of_kind)
            losses = [case.loss for case, _ in of_kind]
            print(
                f"{kind:12}{where:10}{len(of_kind):6}{compared:10}{past:6}{caught:8}{np.mean(losses):14.3f}{min(losses):7.3f}"
            )
            rates[kind] = caught / len(of_kind)
    for case, said in broken:
        if not said.refused:
            print(f"  missed: {case.name}, {case.settings}, {case.source}, loss {case.loss:.3f}: {said}")
    refusals = sum(said.refused for _, said in sound) / max(len(sound), 1)
    print(f"\nsound models refused: {refusals:.1%}, asked at most {REFUSED_MAX:.0%}")
    print(
        f"least caught of a kind: {min(rates.values(), default=float('nan')):.0%}, asked at least {CAUGHT_MIN:.0%}"
    )
    return refusals > REFUSED_MAX or any(rate < CAUGHT_MIN for rate in rates.values())


if __name__ == "__main__":
    sys.exit(main())
