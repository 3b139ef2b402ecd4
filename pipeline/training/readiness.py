"""
Is this history fit to train on? Findings before a training, each with a number and a remedy.

Errors stop a promotion: the model in force stays. Warnings and hints never do. Everything is judged by what was
known at the training's date, so a report of last month reads the same today.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from detectors.drift.histograms import COARSE_BINS, Reference
from detectors.drift.metrics import Drift, compare
from detectors.evaluation.label_delay import DelayCurve, delay_curve, nowcast
from detectors.evaluation.metrics import auc_roc, average_precision
from detectors.evaluation.prevalence import Rarity
from detectors.inputs.encoding import Encoder
from detectors.inputs.sample import Sample
from pipeline.config.config import Config
from pipeline.features.compute import Plan
from pipeline.features.history import History
from pipeline.features.label_history import positions
from storage.frames import DAY, Coded, Ints

Level = Literal["error", "warning", "hint"]
LEVELS: tuple[Level, ...] = ("error", "warning", "hint")

WEEKS_MAX = 8  # pieces of the mature span whose fraud rates are compared
UNSTABLE_P, UNSTABLE_RATIO = 1e-3, 3.0  # both: large numbers make any difference significant
CLUSTERED = 0.2  # effective frauds per fraud, below which few entities carry the fraud
MATURE_SHARE = 0.95  # of reports that should have come by labels.maturity
FRAUDS_TO_JUDGE = 20  # below, delays, leaks and rates over time say little
GAP_SHARE = 0.02  # of days without a transaction
LATE_SHARE = 0.05  # of transactions that came after allowed_lateness
CONSTANT, MISSING, IDENTIFIER = 0.999, 0.95, 0.9  # shares of one value, of none, and of distinct values
LEAK_AUC, LEAK_AP = 0.995, 0.9  # of one feature alone
REPEATED = 0.01  # share of transactions that equal another in everything but the id
MOVED_PSI = 0.25  # the conventional alarm level
JUDGED_ROWS = 20_000
NEVER_REPORTED = np.iinfo(np.int64).max
NAMED = 5  # things a sentence lists at most


@dataclass(frozen=True)
class Finding:
    """One thing that was found; `numbers` hold what the sentence says."""

    level: Level
    code: str
    said: str
    remedy: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """As it is stored and listed."""
        return {
            "level": self.level, "code": self.code, "said": self.said, "remedy": self.remedy,
            "numbers": dict(self.numbers),
        }  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What a training at `date` would be made of."""

    config: Config
    history: History
    date: int
    mature: Ints  # positions
    y: NDArray[np.float64]
    rarity: Rarity
    features: Plan
    labelled: Sample  # of the mature rows, as they would be trained on
    usual: Sample
    recent: Sample

    @property
    def known_rows(self) -> Ints:
        """Positions in the training span that were visible at the date."""
        times = self.history.transactions.event_time
        visible = self.history.as_of(self.config.schedule.allowed_lateness) <= self.date
        return np.flatnonzero(visible & (times >= self.date - self.config.training.span))


def examine(subject: Subject) -> list[Finding]:
    """All findings, errors first."""
    checks = (
        _frauds,
        _inverted,
        _rates,
        _clusters,
        _labels,
        _time,
        _fields,
        _leaks,
        _repeated,
        _amounts,
        _moved,
    )
    found = [finding for check in checks for finding in check(subject)]
    return sorted(found, key=lambda one: LEVELS.index(one.level))


@dataclass(frozen=True)
class Reports:
    """Frauds of a history and when each was first reported, as known at a date; in days before that date."""

    age: NDArray[np.float64]
    delay: NDArray[np.float64]

    @property
    def curve(self) -> DelayCurve:
        """How late frauds are reported."""
        return delay_curve(self.delay, self.age)


@dataclass(frozen=True)
class Cohort:
    """Transactions of some days that are too young for silence to mean anything; days before the date."""

    youngest: float
    oldest: float
    transactions: int
    reported: int
    expected: float  # all that will be reported, NaN where the delay curve says nothing yet


def reports_of(history: History, date: int) -> Reports:
    """Which frauds had been reported at a date, each by its first report."""
    labels, times = history.labels, history.transactions.event_time
    rows = positions(history.transactions, labels)
    mine = (rows >= 0) & labels.is_fraud & (labels.available_at <= date)
    first = np.full(len(times), NEVER_REPORTED)
    np.minimum.at(first, rows[mine], labels.available_at[mine])
    frauds = np.flatnonzero((first < NEVER_REPORTED) & (times <= date))
    delay = np.maximum(first[frauds] - times[frauds], 0)
    return Reports((date - times[frauds]) / DAY, delay / DAY)


def young_cohorts(history: History, maturity: int, date: int) -> list[Cohort]:
    """
    Weeks younger than maturity, newest first, with what the delay curve expects of them: an estimate, never a label.
    """
    reports = reports_of(history, date)
    curve = reports.curve
    ages = (date - history.transactions.event_time) / DAY
    edges = np.arange(0, maturity / DAY + 7, 7)[: int(np.ceil(maturity / DAY / 7)) + 1]
    found = []
    for youngest, oldest in pairwise(edges.tolist()):
        mine = (reports.age >= youngest) & (reports.age < oldest)
        expected = nowcast(curve, [(youngest + oldest) / 2], [mine.sum()]).expected[0]
        transactions = int(((ages >= youngest) & (ages < oldest)).sum())
        found.append(Cohort(youngest, oldest, transactions, int(mine.sum()), float(expected)))
    return [one for one in found if one.transactions]


def _frauds(subject: Subject) -> Iterator[Finding]:
    choose, effective = subject.config.choose, subject.rarity.effective
    numbers = {"frauds": subject.rarity.positives, "effective": effective, "mature": subject.rarity.mature}
    if not subject.rarity.mature:
        yield Finding(
            "hint", "NO_MATURE_LABELS", "no transaction is mature: outlier detection needs no labels, the rest does",
            "ingest labels, or --complete-through when silence is complete that far", numbers,
        )  # fmt: skip
        return
    for name, bar in (("a blend", choose.few), ("classification", choose.enough)):
        if effective < bar:
            yield Finding(
                "hint", "FEW_FRAUDS", f"{effective:g} effective mature frauds, {name} takes {bar:g}",
                f"{bar - effective:.0f} more, by chargebacks, verdicts on flags, or a longer training.span", numbers,
            )  # fmt: skip


def _inverted(subject: Subject) -> Iterator[Finding]:
    share = subject.rarity.prevalence or 0.0
    if share > 0.5:
        yield Finding(
            "error", "LABELS_INVERTED", f"{share:.0%} of the mature transactions are labelled fraud",
            "check labels.is_fraud: 1 means fraud; undo the batch of labels and ingest it again", {"share": share},
        )  # fmt: skip


def _rates(subject: Subject) -> Iterator[Finding]:
    """Does the share of fraud hold over the mature span?"""
    if subject.y.sum() < FRAUDS_TO_JUDGE or subject.y.all():
        return
    pieces = np.array_split(np.arange(len(subject.y)), min(WEEKS_MAX, int(subject.y.sum()) // 5))
    frauds = np.array([subject.y[piece].sum() for piece in pieces])
    rows = np.array([len(piece) for piece in pieces])
    p = float(chi2_contingency(np.stack([frauds, rows - frauds]))[1]) if len(pieces) > 1 else 1.0
    rates = frauds / rows
    ratio = float(rates.max() / max(rates.min(), 0.5 / rows.mean()))
    if p < UNSTABLE_P and ratio > UNSTABLE_RATIO:
        yield Finding(
            "warning", "FRAUD_RATE_UNSTABLE",
            f"the share of fraud varies {ratio:.1f}-fold over {len(pieces)} pieces of the mature span",
            "look for weeks without labels; if it is an attack, a shorter training.span follows it faster",
            {"ratio": ratio, "p": p, "rates": [round(float(rate), 6) for rate in rates]},
        )  # fmt: skip


def _clusters(subject: Subject) -> Iterator[Finding]:
    frauds, effective = subject.rarity.positives, subject.rarity.effective
    if frauds >= FRAUDS_TO_JUDGE and effective < CLUSTERED * frauds:
        yield Finding(
            "warning", "FEW_ENTITIES", f"{frauds:,.0f} frauds lie on few entities: they count as {effective:,.0f}",
            "more kinds of fraud teach more than more of the same: label flags of the channel novelty first",
            {"frauds": frauds, "effective": effective},
        )  # fmt: skip


def _labels(subject: Subject) -> Iterator[Finding]:
    """Are labels complete, and have nearly all come by maturity?"""
    config, date = subject.config, subject.date
    behind = (date - int(subject.history.completeness.at(np.array([date], dtype=np.int64))[0])) / DAY
    if len(subject.history.labels) and behind > max(config.labels.maturity / DAY, 7):
        yield Finding(
            "warning", "LABELS_STALE", f"labels are complete only until {behind:,.0f} days before the training date",
            "ingest newer labels, even an empty file with --complete-through", {"days": behind},
        )  # fmt: skip
    curve = reports_of(subject.history, date).curve
    if curve.n < FRAUDS_TO_JUDGE:
        return
    maturity = config.labels.maturity / DAY
    by_then, needed = float(curve(maturity)), curve.quantile(MATURE_SHARE)
    if by_then < MATURE_SHARE:
        yield Finding(
            "warning", "MATURITY_TOO_SHORT",
            f"{by_then:.0%} of fraud is reported within labels.maturity ({maturity:g} days); the rest is trained on as genuine",
            f'labels.maturity = "{int(np.ceil(needed))}d" would see {MATURE_SHARE:.0%}',
            {"share": by_then, "days": needed, "reports": curve.n},
        )  # fmt: skip


def _time(subject: Subject) -> Iterator[Finding]:
    rows = subject.known_rows
    times = subject.history.transactions.event_time[rows]
    if not len(times):
        return
    future = float((times > subject.date).mean())
    if future > 0.01:
        yield Finding(
            "error", "FUTURE_DATES", f"{future:.1%} of the transactions are dated after the training date",
            "check schema.event_time and schema.timezone; undo the batch and ingest it again", {"share": future},
        )  # fmt: skip
    days = times // DAY
    empty = int(days[-1] - days[0] + 1 - len(np.unique(days)))
    if empty > GAP_SHARE * (days[-1] - days[0] + 1):
        yield Finding(
            "warning", "TIME_GAPS", f"{empty:,} of {days[-1] - days[0] + 1:,} days hold no transaction",
            "ingest what is missing: features take a silent day for a quiet one", {"days": empty},
        )  # fmt: skip
    late = subject.history.transactions.ingested_at[rows] > times + subject.config.schedule.allowed_lateness
    if late.mean() > LATE_SHARE:
        yield Finding(
            "warning", "ARRIVES_LATE", f"{late.mean():.0%} of the transactions came after schedule.allowed_lateness",
            "raise it, or ingest more often: a late transaction is scored late, and not seen by those before it",
            {"share": float(late.mean())},
        )  # fmt: skip


def _fields(subject: Subject) -> Iterator[Finding]:
    """Configured fields that say nothing, are not there, or name the transaction."""
    rows = subject.known_rows
    transactions = subject.history.transactions
    for name in subject.config.schema_.categorical:
        yield from _field(name, *_shares_of_codes(transactions.columns[name], rows), category=True)
    for name in subject.config.schema_.numeric:
        yield from _field(name, *_shares_of_numbers(transactions.numeric[name][rows]), category=False)


def _field(name: str, missing: float, commonest: float, distinct: float, category: bool) -> Iterator[Finding]:
    if missing > MISSING:
        yield Finding(
            "warning", "FIELD_MISSING", f"{name} is missing in {missing:.0%} of the transactions",
            "map it in [schema] as your data call it, or leave it out", {"field": name, "share": missing},
        )  # fmt: skip
    elif commonest > CONSTANT:
        yield Finding(
            "hint", "FIELD_CONSTANT", f"{name} has one value in {commonest:.1%} of the transactions",
            "leave it out of [schema]: it tells nothing apart", {"field": name, "share": commonest},
        )  # fmt: skip
    elif category and distinct > IDENTIFIER:
        yield Finding(
            "warning", "FIELD_IDENTIFIES", f"{name} has a value of its own in {distinct:.0%} of the transactions",
            "an identifier is no category: leave it out, or make it one of schema.entities",
            {"field": name, "share": distinct},
        )  # fmt: skip


def _shares_of_codes(column: Coded, rows: Ints) -> tuple[float, float, float]:
    codes = column.codes[rows]
    there = codes[codes >= 0]
    counts = np.bincount(there) if len(there) else np.zeros(1, dtype=np.int64)
    n = max(len(codes), 1)
    return 1 - len(there) / n, float(counts.max()) / n, float((counts > 0).sum()) / n


def _shares_of_numbers(values: NDArray[np.float64]) -> tuple[float, float, float]:
    there = values[np.isfinite(values)]
    counts = np.unique(there, return_counts=True)[1] if len(there) else np.zeros(1, dtype=np.int64)
    n = max(len(values), 1)
    return 1 - len(there) / n, float(counts.max()) / n, float(len(counts)) / n


def _leaks(subject: Subject) -> Iterator[Finding]:
    """A feature that alone ranks fraud almost perfectly is more often a leak than a discovery."""
    sample = subject.labelled
    if sample.y.sum() < FRAUDS_TO_JUDGE or sample.y.all():
        return
    step = _step(sample)
    sample = sample.take((sample.y == 1) | (np.arange(len(sample)) % step == 0))
    stands_for = np.where(sample.y == 1, 1.0, step)
    X = Encoder(subject.features.encoding).fit(sample.raw, sample.y, sample.weight).transform(sample.raw)
    for name, column in zip(subject.features.encoding.names, X.T, strict=True):
        up = auc_roc(sample.y, column)
        auc, score = (up, column) if up >= 0.5 else (1 - up, -column)
        if auc > LEAK_AUC and average_precision(sample.y, score, stands_for) > LEAK_AP:
            yield Finding(
                "warning", "LEAK", f"{name} alone tells fraud from genuine with an AUC of {auc:.4f}",
                "make sure that it is known when the transaction happens, not filled in afterwards; if not, leave it out",
                {"feature": name, "auc": auc},
            )  # fmt: skip


def _repeated(subject: Subject) -> Iterator[Finding]:
    rows = subject.history.transactions.take(subject.known_rows)
    entities: list[NDArray[Any]] = [rows.columns[name].codes for name in subject.config.schema_.entities]
    if not len(rows) or not entities:
        return
    same_time = np.append(False, rows.event_time[1:] == rows.event_time[:-1])
    near = same_time | np.append(same_time[1:], False)  # only these can equal another
    told: list[NDArray[Any]] = [rows.event_time, rows.amount, *entities]
    close = np.column_stack([column[near] for column in told])
    repeated = (len(close) - len(np.unique(close, axis=0))) / len(rows)
    if repeated > REPEATED:
        yield Finding(
            "warning", "REPEATED_ROWS",
            f"{repeated:.1%} of the transactions equal another in time, amount and all entities",
            "the same payment under two ids counts twice: check schema.transaction_id", {"share": repeated},
        )  # fmt: skip


def _amounts(subject: Subject) -> Iterator[Finding]:
    amount = subject.history.transactions.amount[subject.known_rows]
    negative = float((amount < 0).mean()) if len(amount) else 0.0
    if 0 < negative < 1:
        yield Finding(
            "warning", "AMOUNT_SIGNS", f"{negative:.1%} of the payments have a negative amount",
            "name what they are in schema.kind and schema.refund_kinds, or give amounts one sign", {"share": negative},
        )  # fmt: skip


def _moved(subject: Subject) -> Iterator[Finding]:
    """
    Features whose newest days do not look like the history that is trained on.

    Of the history its newer half: when a stored history begins, windows are still filling. Only what a transaction brings
    itself or its last day does: sums over weeks move slowly, and a handful of entities then look like a change.
    """
    usual = subject.usual.take(slice(len(subject.usual) // 2, len(subject.usual)))
    if min(len(usual), len(subject.recent)) < subject.config.drift.min_rows:
        return
    encoder = Encoder(subject.features.encoding).fit(usual.raw, np.zeros(len(usual)), usual.weight)
    names = subject.features.encoding.names
    then, now = (encoder.transform(part.raw[:: _step(part)]) for part in (usual, subject.recent))
    quick = {
        one.name
        for one in subject.features.features
        if one.label_free and one.family != "time" and (one.window or 0) <= DAY
    }
    moved = {
        one.feature: one.value
        for one in compare(Reference.fit(then, names), now)
        if one.metric == "psi" and one.value > MOVED_PSI + _by_chance(one) and one.feature in quick
    }
    if moved:
        worst = sorted(moved, key=lambda name: -moved[name])[:NAMED]
        yield Finding(
            "warning", "FEATURES_MOVED", f"{len(moved)} feature{'s differ' if len(moved) > 1 else ' differs'} between history and now: {', '.join(worst)}",
            "look at fraudwatch drift; after a lasting change, shorten training.span",
            {"psi": {name: round(float(moved[name]), 3) for name in worst}},
        )  # fmt: skip


def _by_chance(one: Drift) -> float:
    """Three times the PSI that two samples of these sizes have without any drift, (bins − 1)(1/n + 1/m)."""
    return 3 * (COARSE_BINS - 1) * (1 / max(one.n_reference, 1) + 1 / max(one.n_current, 1))


def _step(sample: Sample) -> int:
    return max(1, len(sample) // JUDGED_ROWS)
