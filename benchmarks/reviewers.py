"""
Prevalence, promotion gate and quality estimates in a world with reviewers (`benchmarks.worlds.reviewed`).

    python -m benchmarks.reviewers                               # both parts: a quarter of an hour or so
    python -m benchmarks.reviewers --part prevalence --seeds 100

A team answers six in ten of its flags within days, one answer in ten is wrong. What it stops is never charged back, and the card
falls silent. Two parts:

    prevalence   40 worlds whose flags a simple monitor raises: at five training dates, whether the interval covers the share of
                 payments that would be reported as fraud if nobody reviewed. By today's rule, and by the one before: labels
                 without verdicts, all else by silence
    loop         8 worlds lived through day by day: rows are ingested, fraudwatch runs, its flags are answered. Prevalence as
                 above; whether the estimates of a week's precision, recall and cost cover the truth; and whether the promotion
                 gate refuses a challenger that finds other fraud than the model in force

Ends with 1 if the interval of prevalence covers less often than it says by more than chance explains.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.stats import binom

from benchmarks.worlds import REVIEWED_DAYS, START, reviewed
from detectors.evaluation.prevalence import PrevalenceEstimate, estimate_prevalence
from detectors.model.model import Model
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.features import history as feature_history
from pipeline.features.history import History
from pipeline.ingest import ingest
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import sources
from pipeline.runs.scoring_run import run
from pipeline.schedule.run_context import LIVE, HistoryReader, start_run
from pipeline.scoring.model_cache import ModelCache
from pipeline.simulation import reviewers, tables
from pipeline.simulation.outcomes import MATURITY, METHODS, REVIEW
from pipeline.simulation.reviewed import ReviewedWorld, WorldRows
from pipeline.simulation.reviewers import FlagAnswers
from pipeline.training import train
from pipeline.training.prevalence import Reviews, prevalence_of
from pipeline.training.promotion_gate import EvaluationWindow, PromotionGate
from pipeline.training.strategy_choice import StoredChoice
from pipeline.training.train import Prepared
from pipeline.training.training_set import effective_frauds, training_set_at
from storage.database.database import Store
from storage.database.setup import upgrade
from storage.errors import Refused
from storage.frames import DAY, FRAUD, HOUR, UNKNOWN, Floats, Ints
from storage.models import models
from storage.models.models import PromotionCheck
from storage.monitoring import quality_metrics
from storage.review import rules_and_mutes, verdicts
from storage.review.verdicts import Statement
from storage.runs import scoring_queue

FIRST = START + 54 * DAY  # 2025-02-24, a Monday: the first training, and the first day that is scored
END = START + REVIEWED_DAYS * DAY
WEEK = 7 * DAY
EVERY = 14 * DAY  # between trainings
MEASURED = range(FIRST + 2 * EVERY, END, 2 * EVERY)  # trainings at which prevalence is measured
CHALLENGED = range(END - 2 * EVERY - 2 * DAY, END, EVERY)  # trainings at which a challenger is tried
FLAGS_PER_DAY = 8
SIMPLE_SHARE = FLAGS_PER_DAY / 300  # of the payments that the simple monitor flags
# Entities and categories that the model in force and a challenger look at.
CUSTOMERS = (("customer_id",), ("status", "method"))
SHOPS = (("merchant_id", "device_id"), ("channel", "country", "status", "method"))
EVERYTHING = (CUSTOMERS[0] + SHOPS[0], SHOPS[1])
STATED, STATED_QUALITY = 0.95, 0.9
METRICS = ("precision", "recall", "cost")
PARTS = ("prevalence", "loop")


@dataclass(frozen=True)
class Estimate:
    """An interval, and the truth."""

    value: float
    lower: float
    upper: float
    truth: float

    @property
    def covers(self) -> bool:
        """Whether the truth lies inside."""
        return self.lower <= self.truth <= self.upper


@dataclass
class Found:
    """What one world showed."""

    seed: int
    seconds: float = 0.0
    answers: int = 0
    stopped: int = 0  # payments that a verdict stopped
    vanished: int = 0  # payments that never happened
    prevalence: dict[str, list[Estimate]] = field(
        default_factory=dict
    )  # by rule and kind of interval: a date each
    quality: dict[str, list[Estimate]] = field(default_factory=dict)  # by metric: a week each
    gate: dict[str, list[str]] = field(default_factory=dict)  # by rule: the gate's rule at each date
    gain: dict[str, list[float]] = field(
        default_factory=dict
    )  # by rule: the challenger's gain in average precision


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts and print what they showed."""
    args = _arguments(argv)
    failed = False
    for part in args.part or PARTS:
        seeds = args.seeds or {"prevalence": 40, "loop": 8}[part]
        found = []
        for seed in range(args.first_seed, args.first_seed + seeds):
            with tempfile.TemporaryDirectory(prefix="fraudwatch-reviewers-") as folder:
                found.append(_one_world(part, seed, Path(folder)))
            print(f"{part}, {_progress(found[-1])}", flush=True)
            if args.keep:
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{part}-{seed}.json").write_text(json.dumps(asdict(found[-1])))
        failed |= report(part, found)
    return int(failed)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeat for both")
    parser.add_argument("--seeds", type=int, help="worlds, instead of 40 and 8")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write what each world showed into this folder, as JSON")
    return parser.parse_args(argv)


def config_of(folder: Path, fields: tuple[Sequence[str], Sequence[str]]) -> Config:
    """The shipped config, with ways of paying, for a small world."""
    return Config.model_validate({
        "storage": {"url": f"sqlite:///{folder / 'fraudwatch.db'}"},
        "schema": {"entities": list(fields[0]), "categorical": list(fields[1])},
        "labels": {"maturity_by": {"method": MATURITY}},
        "features": {"windows": ["1d", "7d"]},
        "training": {"every": "14d", "min_rows": 300},
        "strategy": {"method": "classification"},
        "outlier": {"detector": "hbos"},
        "alerts": {"per_day": FLAGS_PER_DAY},
        "drift": {"metrics": ["psi"]},
    })  # fmt: skip


def _one_world(part: str, seed: int, folder: Path) -> Found:
    """Live through a world, then measure."""
    began, found, world = time.perf_counter(), Found(seed), reviewed(seed)
    everything = config_of(folder, EVERYTHING)
    config = everything if part == "prevalence" else config_of(folder, CUSTOMERS)
    with open_configured(everything) as store:
        upgrade(store, config.monitor.name, 1, config.labels.precedence)
        life = Life(world, store, config, folder)
        given = life.through() if part == "loop" else life.with_simple_monitor()
        found.answers, found.stopped = len(given.at), int(given.is_fraud.sum())
        found.vanished = int((~reviewers.happening(world.payments, given)).sum())
        for date in MEASURED:
            _measure_prevalence(found, world, given, store, config, date)
        if part == "loop":
            _measure_quality(found, world, store)
            _try_challengers(found, world, store, config_of(folder, SHOPS))
    found.seconds = time.perf_counter() - began
    return found


# ── living through a world ──


class Life:
    """A world and its monitor."""

    def __init__(self, world: ReviewedWorld, store: Store, config: Config, folder: Path) -> None:
        self.world, self.store, self.config, self.folder = world, store, config, folder
        self.flagged, self.flagged_at = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def with_simple_monitor(self) -> FlagAnswers:
        """Everything that a team with a simple monitor leaves behind, as history; return its verdicts."""
        given = reviewers.earlier_team(
            self.world.payments, self.world.answers, START, REVIEWED_DAYS, SIMPLE_SHARE
        )
        self._ingest(self.world.rows(given, START, END), END, history=True)
        return given

    def through(self) -> FlagAnswers:
        """Ingest, run and answer, day by day from FIRST to END; return all verdicts given by then."""
        self._ingest(self.world.rows(self._answers(), START, FIRST), FIRST, history=True)
        scoring_queue.set_starts_at(self.store, LIVE, FIRST)
        for start in range(FIRST, END, DAY):
            end, given = start + DAY, self._answers()
            rows = self.world.rows(given, start, end)
            self._record(given, start, end)
            others = rows.reports.take(rows.reports.source != REVIEW)
            self._ingest(replace(rows, reports=others), end, history=False)
            run(self.store, self.config, as_of=end + HOUR, policy=LIVE, by="benchmark")
            self._collect_flags(end + HOUR)
        given = self._answers()
        inside = given.at < END
        return FlagAnswers(given.position[inside], given.at[inside], given.is_fraud[inside])

    def _answers(self) -> FlagAnswers:
        return reviewers.answer(self.world.answers, self.flagged, self.flagged_at)

    def _ingest(self, rows: WorldRows, now: int, *, history: bool) -> None:
        parts = {"transactions": rows.transactions, "updates": rows.updates, "labels": rows.labels}
        for name, path in tables.write(parts, self.folder, "parquet").items():
            if not len(parts[name]) and name != "labels":  # even an empty list of labels says something
                continue
            load = ingest.ingest_labels if name == "labels" else ingest.ingest_transactions
            inputs = sources(
                self.config, "labels" if name == "labels" else "transactions", [str(path)], None, None
            )
            list(load(self.store, self.config, inputs, clock=lambda: now, options=Options(history=history)))

    def _record(self, given: FlagAnswers, start: int, end: int) -> None:
        for k in np.flatnonzero((given.at >= start) & (given.at < end)):
            name = f"T{given.position[k]:09d}"
            said = Statement("fraud", action="refunded") if given.is_fraud[k] else Statement("genuine")
            try:
                list(verdicts.record(self.store, LIVE, [name], said, "reviewer", int(given.at[k])))
            except Refused as error:
                if error.code != "overrules":
                    raise  # otherwise the fraud was reported meanwhile: nobody calls it genuine any more

    def _collect_flags(self, now: int) -> None:
        names = rules_and_mutes.flagged_between(self.store, LIVE, now - 2 * DAY, now)
        new = np.setdiff1d(np.array([_position(name) for name in names], dtype=np.int64), self.flagged)
        self.flagged = np.concatenate([self.flagged, new])
        self.flagged_at = np.concatenate([self.flagged_at, np.full(len(new), now)])


def _position(transaction_id: str) -> int:
    return int(transaction_id[1:])


def _positions(ids: Sequence[str]) -> Ints:
    return np.array([_position(name) for name in ids], dtype=np.int64)


# ── prevalence ──


def _measure_prevalence(
    found: Found, world: ReviewedWorld, given: FlagAnswers, store: Store, config: Config, date: int
) -> None:
    history = feature_history.load(store, config, date - config.training.span - config.lookback, date)
    truth = true_prevalence(world, given, config, date)
    estimates = {
        "before": prevalence_before(config, history, date),
        "now": prevalence_of(config, history, training_set_at(config, history, date)),
    }
    for rule, estimate in estimates.items():
        ends = {
            "gates": (estimate.lower, estimate.upper),
            "displayed": (estimate.display_lower, estimate.display_upper),
        }
        for kind, (lower, upper) in ends.items():
            row = Estimate(estimate.prevalence or 0.0, lower, upper, truth)
            found.prevalence.setdefault(f"{rule}, {kind}", []).append(row)


def true_prevalence(world: ReviewedWorld, given: FlagAnswers, config: Config, date: int) -> float:
    """The share of mature payments that happened and went through that would be reported as fraud if nobody reviewed."""
    happened = reviewers.happening(world.payments, given) & world.outcomes.approved
    of_method = config.labels.maturity_by["method"]
    age = np.array([of_method.get(method, config.labels.maturity) for method in METHODS])
    mature = happened & (world.payments.time + age[world.outcomes.method] <= date)
    return float(world.outcomes.reported[mature].mean())


def prevalence_before(config: Config, history: History, date: int) -> PrevalenceEstimate:
    """The rule before: labels without verdicts on flags, and silence at one maturity, whatever a reviewer stopped."""
    mature, y = mature_before(config, history, date, without=("review",))
    return estimate_prevalence(len(mature), int(y.sum()), effective_frauds(config, history, mature, y))


def mature_before(
    config: Config, history: History, date: int, without: Sequence[str] = ()
) -> tuple[Ints, Floats]:
    """Mature rows and their labels by the rule before, without the labels of some sources."""
    rows, labels = history.transactions, history.labels
    source = labels.source.values.astype(str)[labels.source.codes].tolist()
    known = (labels.available_at <= date) & (labels.status >= 0) & ~np.isin(source, without)
    rank = {name: -place for place, name in enumerate(config.labels.precedence)}
    order = sorted(np.flatnonzero(known), key=lambda k: (rank.get(source[k], -99), labels.known_at[k]))
    newest = dict(zip(labels.transaction_id[order], labels.status[order], strict=True))
    status = np.array([newest.get(name, UNKNOWN) for name in rows.transaction_id])
    complete = int(history.completeness.at(np.array([date], dtype=np.int64))[0])
    visible = history.as_of(config.schedule.allowed_lateness) <= date
    old = rows.event_time + config.labels.maturity <= complete
    mature = np.flatnonzero(visible & old & ((status >= 0) | history.silence_ok))
    return mature, (status[mature] == FRAUD).astype(np.float64)


# ── quality ──


def _measure_quality(found: Found, world: ReviewedWorld, store: Store) -> None:
    """Estimates of weeks against what their payments really were."""
    for start in range(FIRST, END, WEEK):
        window = (start, start + WEEK)
        estimates = quality_metrics.read(store, LIVE, METRICS, window, END).get(window, {})
        for metric, truth in _true_quality(world, store, *window):
            row = estimates.get(("estimated", metric))
            if row is None or row.value is None or row.lower is None or row.upper is None:
                continue
            found.quality.setdefault(metric, []).append(Estimate(row.value, row.lower, row.upper, truth))


def _true_quality(world: ReviewedWorld, store: Store, start: int, end: int) -> Iterator[tuple[str, float]]:
    scores = quality_metrics.window_scores(store, LIVE, start, end)
    position = _positions(scores.transaction_id)
    settled = ~world.payments.declined[position]
    fraud, flagged = world.outcomes.reported[position][settled], scores.flagged[settled]
    caught, missed = float((fraud & flagged).sum()), float((fraud & ~flagged).sum())
    if flagged.any():
        yield "precision", caught / float(flagged.sum())
    if fraud.any():
        yield "recall", caught / (caught + missed)
    yield "cost", 100.0 * missed + float((flagged & ~fraud).sum())  # the shipped costs


# ── gate ──


class EarlierModels(ModelCache):
    """The models in force before a training, also when that training has been done."""

    def in_force_until(self, instant: int) -> list[int]:
        """Without models that took effect at the instant itself."""
        return super().in_force_until(instant - 1)


@dataclass(frozen=True)
class GateBefore(PromotionGate):
    """The rule before: all labels of mature rows, those of the champion's own flags included."""

    def check(
        self, history: History, prepared: Prepared, choice: StoredChoice, candidate: Model, date: int
    ) -> PromotionCheck | None:
        """Compare as if nobody had reviewed anything."""
        nobody = Reviews(*(np.zeros(len(history), dtype=bool) for _ in range(3)))
        return super().check(history, replace(prepared, reviews=nobody), choice, candidate, date)

    def _window(self, history: History, _prepared: Prepared, champion_id: int, date: int) -> EvaluationWindow:
        rows, y = mature_before(self.config, history, date)
        end = date - self.config.labels.maturity
        learned_until = models.learned_until(self.store, champion_id)[0] or 0
        return self._between(history, max(end - EVERY, learned_until), end, rows, y)

    def _between(self, history: History, start: int, end: int, rows: Ints, y: Floats) -> EvaluationWindow:
        times = history.transactions.event_time[rows]
        inside = (times > start) & (times <= end)
        rows, y = rows[inside], y[inside]
        effective = effective_frauds(self.config, history, rows, y)
        return EvaluationWindow(start, end, rows, y, np.ones(len(rows)), len(rows), effective)


@dataclass(frozen=True)
class GateOfTruth(GateBefore):
    """The truth about every payment that went through since the champion was trained."""

    world: ReviewedWorld

    def _window(self, history: History, _prepared: Prepared, champion_id: int, date: int) -> EvaluationWindow:
        position = _positions(history.transactions.transaction_id)
        rows = np.flatnonzero(self.world.outcomes.approved[position])
        y = self.world.outcomes.reported[position[rows]].astype(np.float64)
        trained_at = models.learned_until(self.store, champion_id)[1]
        return self._between(history, trained_at, date, rows, y)


def _try_challengers(found: Found, world: ReviewedWorld, store: Store, config: Config) -> None:
    """At the last trainings, a candidate that looks at shops and devices, before three gates."""
    for date in CHALLENGED:
        with start_run(store, config, END + DAY, LIVE, "backfill", "benchmark", None) as context:
            reader, cache = (
                HistoryReader(context.store, context.config, context.policy, date),
                EarlierModels(store, config, LIVE),
            )
            history = reader.for_training(date)
            prepared = train.prepare(config, history, date)
            choice = StoredChoice(0, "classification", config.strategy.outlier_share, "")
            gates = {
                "before": GateBefore(store, config, cache, reader),
                "now": PromotionGate(store, config, cache, reader),
                "truth": GateOfTruth(store, config, cache, reader, world),
            }
            candidate = train.fit_alone(config, prepared, choice, date)
            for rule, gate in gates.items():
                check = gate.check(history, prepared, choice, candidate, date)
                assert check is not None
                found.gate.setdefault(rule, []).append(check.rule)
                found.gain.setdefault(rule, []).append(check.ap_difference or float("nan"))


# ── the report ──


def _progress(found: Found) -> str:
    before, now = (found.prevalence[f"{rule}, displayed"][-1] for rule in ("before", "now"))
    gates = "".join(f"; gate {rule}: {' '.join(rules)}" for rule, rules in found.gate.items())
    return (
        f"seed {found.seed}: {found.answers} flags answered, {found.stopped} stopped, {found.vanished} vanished; at the end "
        f"{now.truth:.2%} is fraud, before {before.value:.2%} ({before.lower:.2%} to {before.upper:.2%}), "
        f"now {now.value:.2%} ({now.lower:.2%} to {now.upper:.2%}){gates}; {found.seconds:.0f} s"
    )


def report(part: str, found: Sequence[Found]) -> bool:
    """Print the tables; True if the interval of prevalence covers too seldom at the last date."""
    print(
        f"\n{part}: {len(found)} worlds; share of truths inside the {STATED:.0%} interval of prevalence, by day of the training"
    )
    days = [(date - START) // DAY for date in MEASURED]
    print(f"{'':20}" + "".join(f"{day:>8}" for day in days) + f"{'all':>8}{'estimate / truth':>18}")
    for rule in found[0].prevalence:
        of = [world.prevalence[rule] for world in found]
        every = [row for rows in of for row in rows]
        cells = [np.mean([rows[k].covers for rows in of]) for k in range(len(days))]
        cells.append(np.mean([row.covers for row in every]))
        ratio = np.mean([row.value for row in every]) / np.mean([row.truth for row in every])
        print(f"{rule:20}" + "".join(f"{cell:>8.0%}" for cell in cells) + f"{ratio:>18.2f}")
    if part == "loop":
        _report_quality(found)
        _report_gate(found)
    last = [world.prevalence["now, gates"][-1].covers for world in found]
    return bool(sum(last) < binom.ppf(0.01, len(last), STATED))


def _report_quality(found: Sequence[Found]) -> None:
    print(f"\nestimates of quality; share of truths inside the {STATED_QUALITY:.0%} interval")
    for metric in METRICS:
        rows = [row for world in found for row in world.quality.get(metric, [])]
        print(f"{metric:12}{np.mean([row.covers for row in rows]):>8.0%} of {len(rows)} weeks; mean estimate "
              f"{np.mean([row.value for row in rows]):,.2f}, mean truth {np.mean([row.truth for row in rows]):,.2f}")  # fmt: skip


def _report_gate(found: Sequence[Found]) -> None:
    rules = {rule: [name for world in found for name in world.gate[rule]] for rule in found[0].gate}
    honest = np.array([name not in REFUSALS for name in rules["truth"]])
    print(
        f"\ngate: {len(honest)} challengers that find other fraud; the truth refuses {int((~honest).sum())}"
    )
    for rule in ("before", "now"):
        refused = np.array([name in REFUSALS for name in rules[rule]])
        print(
            f"{rule:12}refuses {int(refused[honest].sum())} of the {int(honest.sum())} that the truth does not, "
            f"and {int(refused[~honest].sum())} of the {int((~honest).sum())} that it does"
        )
    print("mean gain in average precision, as each sees it: "
          + ", ".join(f"{rule} {_mean_gain(found, rule)}" for rule in rules))  # fmt: skip


def _mean_gain(found: Sequence[Found], rule: str) -> str:
    gains = np.array([gain for world in found for gain in world.gain[rule]])
    compared = gains[np.isfinite(gains)]
    mean = f"{compared.mean():+.3f}" if len(compared) else "none"
    return (
        mean
        if len(compared) == len(gains)
        else f"{mean} ({len(gains) - len(compared)} had too few frauds to compare)"
    )


REFUSALS = ("WORSE_AP", "WORSE_COST", "WORSE")


if __name__ == "__main__":
    sys.exit(main())
