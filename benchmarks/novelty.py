"""
Fraud that nobody has labelled: what the outlier detector's own share of flags finds, and what it costs.

    python -m benchmarks.novelty FOLDER
    python -m benchmarks.novelty FOLDER --world handbook --kind 3 --json
    python -m benchmarks.novelty FOLDER --part weeks --part losses

FOLDER holds the files of `benchmarks.worlds`; a world whose file is not there is left out. Two worlds have several kinds of fraud, the Handbook's (three scenarios) and that of
`fraudwatch simulate --reviewers` (four patterns). Three parts:

    kinds    Each kind in turn is the unknown one: none of its labels exists, neither for training nor in the features that are made
             of labels. Trained on everything before, with labels that come 7 days late, fraudwatch flags the week after. Recall of
             the unknown kind and of the known ones, flags a day and those of channel novelty among them, for shares of 0 to 30 %.
             It has happened all along and is taken for genuine (`unlabelled`), or begins with the test week (`new`).
    weeks    With all kinds known: the flags of novelty among all flags, by week, with a training before each.
    losses   Whether flags with a large expected loss cost more: the part of the realised loss of a channel's flags that lies in
             each week's half with the larger expected losses; beside it the halves by score and by amount.

Flags fall by the thresholds of the week before (`threshold`), which is what ships; part `kinds` also has exactly so many flags every
day, the highest values first (`budget`). A bar is out of reach where even a share without a single miss would not find so much: in
the Handbook's week scenario 3 alone has more frauds than the outlier detector has flags. Scenario 2, compromised terminals and usual
amounts, looks like anything else; nothing without labels finds it, and it has no bar.

Samples, features, model and thresholds are those of a training of fraudwatch with the shipped config, but for the file's columns, a
maturity of 7 days and alerts.per_day. One thread.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import worlds
from benchmarks.worlds import Fields
from detectors.base import Strategy
from detectors.model.auto_detector import NOVELTY
from detectors.model.model import Model, Scores, with_new_thresholds
from pipeline.config.config import Config
from pipeline.features import history as feature_history
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.history import History
from pipeline.features.label_history import label_events
from pipeline.simulation.fraud_patterns import PATTERNS
from pipeline.simulation.simulate import simulate
from pipeline.training import strategy_choice, train
from storage.frames import DAY, MONEY, Coded, Completeness, Floats, Ints, Labels, Transactions

PARTS = ("kinds", "weeks", "losses")
WEEK = 7  # days
DELAY = 7  # days until a fraud is known
PER_DAY = {"handbook": 100}  # flags; `USUAL_PER_DAY` elsewhere
USUAL_PER_DAY = 50
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)
SHIPPED = 0.1  # strategy.outlier_share
KINDS = {"handbook": ("1", "2", "3"), "simulate": PATTERNS}
LIVES = ("unlabelled", "new")
ONE_KIND = tuple(name for name in worlds.WORLDS if name != "extreme")  # whose fraud is too rare for a week
ORDERS = ("expected loss", "score", "amount")
# Recall of the unknown kind with the shipped share, where it has a bar.
BARS = {("handbook", "1"): 0.90, ("handbook", "3"): 0.55}
LOSS_MAX = 0.01  # of the known kinds' recall, for the shipped share
EXCESS_MAX = 1.2  # novelty among all flags of all weeks, in shares
SIMULATED_DAYS, SIMULATED_WEEK = 98, 84  # days in all, and the first day of the test week
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Cards:
    """Payments of a world in the order of time, and what each really was."""

    world: str
    transactions: Transactions
    kind: Ints  # 0 genuine, else the place of its kind in KINDS, from 1
    fields: Fields
    week: int  # µs: the first instant of the test week

    def take(self, rows: Bools) -> "Cards":
        """These rows only."""
        return replace(self, transactions=self.transactions.take(rows), kind=self.kind[rows])

    @property
    def per_day(self) -> int:
        """alerts.per_day."""
        return PER_DAY.get(self.world, USUAL_PER_DAY)

    @property
    def config(self) -> Config:
        """The shipped one for these fields."""
        config = self.fields.config
        return config.model_copy(
            update={"alerts": config.alerts.model_copy(update={"per_day": self.per_day})}
        )


@dataclass(frozen=True)
class Found:
    """What was flagged in the test week; a row of the table."""

    world: str
    life: str
    kind: str  # the unknown one
    share: float
    way: str
    unknown: float  # recall
    known: float
    per_day: float  # flags a day, and those of channel novelty
    novelty: float
    frauds: int  # of the unknown kind, in the test week


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; 1 if a bar is missed."""
    args = _arguments(argv)
    parts = args.part or PARTS
    found = list(_kinds(args)) if "kinds" in parts else []
    weeks = list(_weeks(args)) if "weeks" in parts else []
    orders = list(_losses(args)) if "losses" in parts else []
    bars = [*verdicts(found), *excesses(weeks)]
    if args.json:
        print(
            json.dumps(
                {"kinds": [asdict(one) for one in found], "weeks": weeks, "losses": orders, "bars": bars}
            )
        )
    else:
        print(
            "\n".join([*kinds_text(found), *weeks_text(weeks), *losses_text(orders), *map(_bar_line, bars)])
        )
    return int(any(bar["result"] == "MISSED" for bar in bars))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with the files of benchmarks.worlds")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeat for more")
    parser.add_argument("--world", action="append", choices=worlds.WORLDS, help="only this world")
    parser.add_argument("--life", action="append", choices=LIVES, help="only this")
    parser.add_argument("--kind", action="append", help="only this unknown kind; repeat for more")
    parser.add_argument("--week", help="first day of the Handbook's test week")
    parser.add_argument(
        "--weeks", type=int, default=4, help="the last so many weeks of parts weeks and losses"
    )
    parser.add_argument("--json", action="store_true", help="the tables as JSON")
    return parser.parse_args(argv)


# ── the worlds ──


def _there(args: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Those of these worlds that were asked for and whose files are there."""
    asked = [name for name in names if name in (args.world or names)]
    return [name for name in asked if name not in worlds.FILES or (args.folder / worlds.FILES[name]).exists()]


def of_kinds(name: str, args: argparse.Namespace) -> Cards:
    """A world with several kinds of fraud, each of them numbered."""
    if name == "handbook":
        table = pd.read_parquet(args.folder / worlds.FILES[name])
        kind = np.where(table["is_fraud"] == 1, table["fraud_scenario"], 0).astype(np.int64)
        week = int(pd.Timestamp(args.week or worlds.HANDBOOK_TEST, tz="UTC").value // 1000)
        return _cards(name, table, kind, Fields(("customer_id", "terminal_id")), week)
    with tempfile.TemporaryDirectory(prefix="fraudwatch-novelty-") as folder:
        paths = simulate(SIMULATED_DAYS, 7, Path(folder), reviewers=True, truth=True).paths
        table, fields = pd.read_parquet(paths["transactions"]), worlds.proposed(paths["transactions"])
        truth = pd.read_parquet(paths["truth"])
    table = table[table["kind"] == "payment"].merge(truth, on="transaction_id", how="left", validate="1:1")
    places = table["pattern"].astype(str).map({name: place for place, name in enumerate(PATTERNS, 1)})
    first = int(table["event_time"].min().floor("D").value // 1000)
    return _cards(name, table, places.fillna(0).to_numpy(np.int64), fields, first + SIMULATED_WEEK * DAY)


def _cards(name: str, table: pd.DataFrame, kind: Ints, fields: Fields, week: int) -> Cards:
    table = table.assign(number=kind).sort_values(["event_time", "transaction_id"])
    return Cards(name, worlds.transactions_of(table, fields), table["number"].to_numpy(), fields, week)


def of_one_kind(name: str, args: argparse.Namespace) -> Cards:
    """Any world, all of whose fraud is known."""
    world = worlds.load(name, args.folder)
    kind, until = world.fraud.astype(np.int64), world.transactions.event_time[-1]
    last = world.date + (until - world.date) // (WEEK * DAY) * WEEK * DAY
    return Cards(
        name, world.transactions, kind, world.fields, int(last) - (WEEK * DAY if last == until else 0)
    )


def as_lived(cards: Cards, unknown: int, life: str) -> Cards:
    """Everything up to the end of the test week, as that life has it."""
    times = cards.transactions.event_time
    lived = times < cards.week + WEEK * DAY
    if life == "new":
        lived &= (cards.kind != unknown) | (times >= cards.week)
    return cards.take(lived)


def history_of(cards: Cards, unknown: int | None) -> History:
    """The stored history: every fraud but the unknown kind is labelled DELAY days later."""
    rows = cards.transactions
    frauds = np.flatnonzero((cards.kind > 0) & (cards.kind != (unknown or -1)))
    known_at = rows.event_time[frauds] + DELAY * DAY
    labels = Labels.from_answers(
        label_id=np.arange(len(frauds)),
        transaction_id=rows.transaction_id[frauds],
        is_fraud=np.ones(len(frauds), dtype=bool),
        source=Coded(np.zeros(len(frauds), dtype=np.int32), np.array(["chargeback"], dtype=object)),
        known_at=known_at,
        recorded_at=known_at,
    )
    nothing = np.zeros(0, dtype=np.int64)
    return History(
        transactions=rows,
        labels=labels,
        events=label_events(rows, labels, ("chargeback",)),
        completeness=Completeness(int(rows.event_time[-1]) + DELAY * DAY, nothing, nothing),
        silence_ok=np.ones(len(rows), dtype=bool),
        precedence=("chargeback",),
    )


# ── one training, and the week after it ──


@dataclass(frozen=True)
class Trained:
    """A model of the test week's first instant, what it was trained on, and the week's payments."""

    cards: Cards
    model: Model
    holdout: train.Prepared
    test: "Test"

    @classmethod
    def of(cls, cards: Cards, unknown: int | None, strategy: Strategy) -> "Trained":
        """Train on what is known when the week begins."""
        config, history = cards.config, history_of(cards, unknown)
        made = train.prepare(config, history, cards.week)
        chosen = strategy_choice.StoredChoice(0, strategy, SHIPPED, "")
        model = train.fit_alone(config, made, chosen, cards.week)
        return cls(cards, model, made, Test.of(cards, config, history, made.features))

    def with_share(self, share: float) -> Model:
        """The model with the thresholds of this share."""
        days = (self.cards.week - self.holdout.training_set.holdout_start) / DAY
        settings = replace(self.model.settings, outlier_share=share)
        return with_new_thresholds(self.model, settings, self.holdout.samples.holdout, days)

    def scores(self, share: float = SHIPPED) -> Scores:
        """Scores of the week with the thresholds of this share."""
        return self.with_share(share).score(self.test.raw, self.test.amount)


@dataclass(frozen=True)
class Test:
    """The test week's payments."""

    raw: Floats
    amount: Floats
    day: Ints
    kind: Ints

    @classmethod
    def of(cls, cards: Cards, config: Config, history: History, features: FeatureCatalogue) -> "Test":
        """Their features as they are when they are scored."""
        times = history.transactions.event_time
        test = np.flatnonzero((times >= cards.week) & (times < cards.week + WEEK * DAY))
        raw = feature_history.raw_matrix(history, test, features, config)
        amount = history.transactions.amount[test] / MONEY
        return cls(raw, amount, (times[test] - cards.week) // DAY, cards.kind[test])


def judged(cards: Cards, unknown: int, life: str) -> Iterator[Found]:
    """Fit once, then set the thresholds of every share and look at what they flag."""
    name = KINDS[cards.world][unknown - 1]
    trained = Trained.of(as_lived(cards, unknown, life), unknown, "classification")
    test = trained.test
    of_unknown = test.kind == unknown
    of_known = (test.kind > 0) & ~of_unknown
    for share in SHARES:
        scores = trained.scores(share)
        flagged, novel = scores.flagged, scores.flagged & (scores.channel == NOVELTY)
        budget, of_budget = best_of_each_day(trained, share)
        for way, flags, own in (("threshold", flagged, novel), ("budget", budget, of_budget)):
            recalls = float(flags[of_unknown].mean()), float(flags[of_known].mean())
            counts = float(flags.sum() / WEEK), float(own.sum() / WEEK), int(of_unknown.sum())
            yield Found(cards.world, life, name, share, way, *recalls, *counts)


def best_of_each_day(trained: Trained, share: float) -> tuple[Bools, Bools]:
    """Exactly alerts.per_day flags a day: the classifier's best, then of the rest the outlier detector's; and the latter."""
    test, per_day = trained.test, trained.cards.per_day
    ranks, own = trained.model.detector.rank(test.raw), round(per_day * share)
    flagged, novel = np.zeros(len(test.day), dtype=bool), np.zeros(len(test.day), dtype=bool)
    for day in range(WEEK):
        rows = np.flatnonzero(test.day == day)
        order = rows[np.argsort(-ranks.suspicion[rows], kind="stable")]
        main, rest = order[: per_day - own], order[per_day - own :]
        flagged[main] = True
        novel[rest[np.argsort(-ranks.outlier_score[rest], kind="stable")][:own]] = True
    return flagged | novel, novel


def _kinds(args: argparse.Namespace) -> Iterator[Found]:
    started = time.perf_counter()
    for world in _there(args, KINDS):
        cards = of_kinds(world, args)
        for life in args.life or LIVES:
            for number, kind in enumerate(KINDS[world], 1):
                if kind in (args.kind or [kind]):
                    yield from judged(cards, number, life)
                    print(f"{world}, {life}, {kind} unknown: {time.perf_counter() - started:.0f} s",
                          file=sys.stderr, flush=True)  # fmt: skip


# ── novelty among all flags, week by week ──


def _weeks(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for world in _there(args, ONE_KIND):
        whole = of_one_kind(world, args)
        for week in _last_weeks(whole, args):
            scores = Trained.of(week, None, "classification").scores()
            novel = scores.flagged & (scores.channel == NOVELTY)
            yield {"world": world, "flags": int(scores.flagged.sum()), "novelty": int(novel.sum())}
            print(f"{world}: a week", file=sys.stderr, flush=True)


def _last_weeks(whole: Cards, args: argparse.Namespace) -> Iterator[Cards]:
    """The payments up to the end of each of the last weeks, oldest first."""
    for back in reversed(range(args.weeks)):
        yield as_lived(replace(whole, week=whole.week - back * WEEK * DAY), 0, "unlabelled")


def excesses(weeks: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The bar of novelty among all flags of a world's weeks."""
    for world in dict.fromkeys(week["world"] for week in weeks):
        flags, novel = (
            sum(week[name] for week in weeks if week["world"] == world) for name in ("flags", "novelty")
        )
        measured, bar = novel / max(flags, 1), EXCESS_MAX * SHIPPED
        yield {"of": f"{world}, all weeks", "what": "novelty among flags", "measured": measured, "bar": bar,
               "asked": "at most", "result": "met" if measured <= bar else "MISSED"}  # fmt: skip


# ── expected and realised loss ──


def _losses(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    strategies: tuple[Strategy, ...] = ("outlier", "classification")
    for world in _there(args, ONE_KIND):
        whole = of_one_kind(world, args)
        for strategy in strategies:
            weeks = [Trained.of(week, None, strategy) for week in _last_weeks(whole, args)]
            scored = [(week.scores(), week.test) for week in weeks]
            for channel in (strategy, NOVELTY):
                flags = [flagged_losses(scores, test, channel) for scores, test in scored]
                total = sum(float(week["loss"].sum()) for week in flags)
                if total > 0:
                    upper = {
                        name: sum(upper_half(week[name], week["loss"]) for week in flags) / total
                        for name in ORDERS
                    }
                    counts = (
                        sum(int(np.count_nonzero(week[name])) for week in flags) for name in ("score", "loss")
                    )
                    yield (
                        {"world": world, "channel": channel}
                        | dict(zip(("flags", "frauds"), counts, strict=True))
                        | upper
                    )
            print(f"{world}, {strategy}", file=sys.stderr, flush=True)


def flagged_losses(scores: Scores, test: Test, channel: str) -> dict[str, Floats]:
    """What the flags of a channel are ordered by, and what each of them really lost."""
    flags = np.flatnonzero(scores.flagged & (scores.channel == channel))
    values = {
        "expected loss": scores.loss_probability * test.amount,
        "score": scores.score,
        "amount": test.amount,
        "loss": test.amount * (test.kind > 0),
    }
    return {name: value[flags] for name, value in values.items()}


def upper_half(order: Floats, loss: Floats) -> float:
    """The loss that lies in the half of the flags with the larger values."""
    upper = np.argsort(-order, kind="stable")[: (len(order) + 1) // 2]
    return float(loss[upper].sum())


# ── the tables ──


Key = tuple[str, str, str, str]  # world, life, kind, way


def by_share(found: Sequence[Found]) -> dict[Key, dict[float, Found]]:
    """What was found in each case, by the outlier share."""
    cases: dict[Key, dict[float, Found]] = {}
    for one in found:
        cases.setdefault((one.world, one.life, one.kind, one.way), {})[one.share] = one
    return cases


def verdicts(found: Sequence[Found]) -> Iterator[dict[str, Any]]:
    """Each bar, what was measured with the shipped share, and whether it is met."""
    for (world, life, kind, way), shares in by_share(found).items():
        shipped, without = shares[SHIPPED], shares[0.0]
        own = SHIPPED * PER_DAY.get(world, USUAL_PER_DAY) * WEEK
        reach = min(1.0, without.unknown + own / shipped.frauds)
        of, bar = f"{world}, {kind} unknown, {life}, {way}", BARS.get((world, kind))
        if bar is not None:
            result = "met" if shipped.unknown >= bar else "MISSED" if reach >= bar else "out of reach"
            yield {"of": of, "what": "recall of the unknown", "measured": shipped.unknown, "bar": bar, "asked": "at least",
                   "result": result, "reach": reach}  # fmt: skip
        lost = without.known - shipped.known
        yield {"of": of, "what": "lost recall of the known", "measured": lost, "bar": LOSS_MAX, "asked": "at most",
               "result": "met" if lost <= LOSS_MAX else "MISSED"}  # fmt: skip


def kinds_text(found: Sequence[Found]) -> Iterator[str]:
    """The table of the unknown kinds."""
    if not found:
        return
    yield "By the outlier share: recall of the unknown / known fraud (flags a day, those of novelty)"
    yield f"{'':48}" + "".join(f"{share:>22.0%}" for share in SHARES)
    for case, shares in by_share(found).items():
        cells = (
            f"{one.unknown:.2f} / {one.known:.2f} ({one.per_day:.0f}, {one.novelty:.0f})"
            for one in shares.values()
        )
        yield f"{', '.join(case):48}" + "".join(f"{cell:>22}" for cell in cells)


def weeks_text(weeks: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The table of weeks."""
    if weeks:
        yield "Flags of novelty among all flags, by week"
    for world in dict.fromkeys(week["world"] for week in weeks):
        of_world = [week for week in weeks if week["world"] == world]
        yield f"{world:16}" + "".join(f"{week['novelty']:>6} of {week['flags']:>4}" for week in of_world)


def losses_text(orders: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The table of losses."""
    if orders:
        yield "Realised loss in the upper half of the flags by …"
        yield f"{'':32}{'flags':>8}{'frauds':>8}{'expected loss':>15}{'score':>8}{'amount':>8}"
    for row in orders:
        shares = f"{row['expected loss']:>15.0%}{row['score']:>8.0%}{row['amount']:>8.0%}"
        yield f"{row['world'] + ', ' + row['channel']:32}{row['flags']:>8}{row['frauds']:>8}{shares}"


def _bar_line(bar: dict[str, Any]) -> str:
    reach = f", at most {bar['reach']:.2f} were possible" if bar["result"] == "out of reach" else ""
    return f"  {bar['result']:13}{bar['of']}: {bar['what']} {bar['measured']:.3f}, asked {bar['asked']} {bar['bar']:.2f}{reach}"


if __name__ == "__main__":
    sys.exit(main())
