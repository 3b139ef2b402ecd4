"""
Readiness checks before a training; each finding has a number and a remedy.

Errors stop the promotion, and the champion stays. Warnings and hints do not. All checks use what was known at the
training's date, so that a report of last month reads the same today.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, mannwhitneyu

from detectors.drift.histograms import COARSE_BINS, ReferenceHistograms
from detectors.drift.metrics import Drift, compare
from detectors.evaluation.label_delay import nowcast
from detectors.evaluation.prevalence import PrevalenceEstimate, describe_cases
from detectors.inputs.encoding import Encoder
from detectors.inputs.sample import Sample
from pipeline.config.config import Config
from pipeline.features.catalogue import FeatureCatalogue
from pipeline.features.history import History
from pipeline.number_text import counted, exact, percent
from pipeline.training.delay_tail import OTHERS, REPORTS_MIN, FraudReports, maturity_groups, reports_of
from pipeline.training.leaks import find_leaks, trusted_line
from storage.frames import DAY, Coded, Ints

LEAK = (
    "LEAK"  # the code of the errors that the promotion gate decides on: a model is fitted, but not promoted
)
Level = Literal["error", "warning", "hint"]
Figure = float | str | list[float] | Mapping[str, float]
LEVELS: tuple[Level, ...] = ("error", "warning", "hint")

WEEKS_MAX = 8  # pieces of the mature span whose fraud rates are compared
UNSTABLE_P, UNSTABLE_RATIO = 1e-3, 3.0  # both must be exceeded: with many rows any difference is significant
CLUSTERED = 0.2  # effective frauds per fraud; below it, few entities have most of the fraud
DIFFERENT_DELAYS = 2.0  # times as many days until nearly all reports, for a maturity of its own
MATURE_SHARE = 0.95  # share of fraud reports that should have arrived by labels.maturity
FRAUDS_MIN = 20  # with fewer, delays and rates over time are not checked
GAP_SHARE = 0.02  # share of days without a transaction
LATE_SHARE = 0.05  # share of transactions that arrived after allowed_lateness
CONSTANT, MISSING, IDENTIFIER = (
    0.999,
    0.95,
    0.9,
)  # shares of the commonest value, of missing values, and of distinct values
DOMINANT = 0.2  # share of one value among the rows of an entity column
REPEATED = 0.01  # share of transactions that equal another in all but the id
MOVED_PSI = 0.25  # the conventional alarm level
SAMPLE_ROWS = 20_000
NAMED = 5  # features that a sentence lists at most


@dataclass(frozen=True)
class ReadinessFinding:
    """A finding of a readiness check; `numbers` has the figures of the message."""

    level: Level
    code: str
    message: str
    remedy: str
    numbers: Mapping[str, Figure] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The finding as it is stored and listed."""
        return {
            "level": self.level, "code": self.code, "message": self.message, "remedy": self.remedy,
            "numbers": dict(self.numbers),
        }  # fmt: skip


@dataclass(frozen=True)
class TrainingData:
    """The data of a training at `date`, which the checks examine."""

    config: Config
    history: History
    date: int
    mature: Ints  # positions
    y: NDArray[np.float64]
    prevalence: PrevalenceEstimate
    features: FeatureCatalogue
    labelled: Sample  # of the mature rows, as used in training
    unlabelled: Sample
    holdout: Sample

    @property
    def visible_rows(self) -> Ints:
        """Positions in the training span that were visible at the date."""
        times = self.history.transactions.event_time
        visible = self.history.as_of(self.config.schedule.allowed_lateness) <= self.date
        return np.flatnonzero(visible & (times >= self.date - self.config.training.span))


def examine(data: TrainingData) -> list[ReadinessFinding]:
    """Run all checks and return their findings, errors first."""
    checks = (
        _frauds,
        _reviews,
        _inverted,
        _rates,
        _clusters,
        _labels,
        _delays,
        _time,
        _fields,
        _entities,
        _leaks,
        _repeated,
        _amounts,
        _moved,
    )
    findings = [finding for check in checks for finding in check(data)]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


@dataclass(frozen=True)
class Cohort:
    """Transactions younger than maturity, of ages from `youngest` to `oldest` in days before the date."""

    youngest: float
    oldest: float
    transactions: int
    reported: int
    expected: float  # frauds that will be reported in the end, NaN if the delay curve has too few reports


def young_cohorts(history: History, maturity: int, date: int) -> list[Cohort]:
    """
    Weeks younger than maturity, newest first, with the number of frauds that the delay curve expects.
    """
    reports = reports_of(history, date)
    curve = reports.curve
    ages = (date - history.transactions.event_time) / DAY
    edges = np.arange(0, maturity / DAY + 7, 7)[: int(np.ceil(maturity / DAY / 7)) + 1]
    cohorts = []
    for youngest, oldest in pairwise(edges.tolist()):
        in_cohort = (reports.age >= youngest) & (reports.age < oldest)
        expected = nowcast(curve, [(youngest + oldest) / 2], [in_cohort.sum()]).expected[0]
        transactions = int(((ages >= youngest) & (ages < oldest)).sum())
        cohorts.append(Cohort(youngest, oldest, transactions, int(in_cohort.sum()), float(expected)))
    return [cohort for cohort in cohorts if cohort.transactions]


def _frauds(data: TrainingData) -> Iterator[ReadinessFinding]:
    strategy, effective = data.config.strategy, data.prevalence.effective
    numbers = {"frauds": data.prevalence.positives, "effective": effective, "mature": data.prevalence.mature}
    if not data.prevalence.mature:
        yield _nothing_mature(data, numbers)
        return
    for name, bar in (
        ("a blend", strategy.min_positives_blend),
        ("classification", strategy.min_positives_classifier),
    ):
        if effective < bar:
            yield ReadinessFinding(
                "hint", "FEW_FRAUDS", f"{describe_cases(effective)}, {name} needs {exact(bar)}",
                f"{math.ceil(bar - effective):,} more, by chargebacks, verdicts on flags, or a longer training.span", numbers,
            )  # fmt: skip


def _nothing_mature(data: TrainingData, numbers: Mapping[str, Figure]) -> ReadinessFinding:
    labels = data.config.labels
    by = ", or labels.maturity_by of its value," if labels.maturity_by else ""
    maturity = f"labels.maturity ({exact(labels.maturity / DAY)} days{by})"
    if len(data.history.labels):
        remedy = (
            "ingest newer labels and say until when they are complete (--complete-through), wait until payments are older than "
            f"{maturity}, or lower it"
        )
    else:
        remedy = (
            "ingest labels and say until when they are complete (--complete-through): frauds alone are enough, and a file without rows "
            "says that there were none"
        )
    message = (
        f"no transaction is mature: none is {maturity} older than the date until which labels are complete; "
        "only outlier detection works without labels"
    )
    return ReadinessFinding("hint", "NO_MATURE_LABELS", message, remedy, numbers)


def _reviews(data: TrainingData) -> Iterator[ReadinessFinding]:
    """Say how many mature payments people looked at, and what that changes."""
    reviews, prevalence = data.prevalence.reviews, data.prevalence.prevalence
    if reviews is None or not reviews.reviewed or prevalence is None:
        return
    yield ReadinessFinding(
        "hint", "REVIEWED",
        f"{reviews.reviewed:,} mature payments were reviewed and {reviews.censored:,} stopped or refunded without a verdict; the fraud "
        f"rate is {percent(prevalence)} with comparable payments in their place, {percent(reviews.uncorrected)} with verdicts at their word",
        f"nothing if reviewers call about {percent(reviews.false_verdicts)} of genuine payments fraud, as comparable payments show; alerts.audit_per_day draws "
        "payments at random, which measure it better",
        {
            "reviewed": reviews.reviewed, "censored": reviews.censored, "false_verdicts": reviews.false_verdicts,
            "prevalence": prevalence, "uncorrected": reviews.uncorrected,
        },
    )  # fmt: skip


def _inverted(data: TrainingData) -> Iterator[ReadinessFinding]:
    share = data.prevalence.prevalence or 0.0
    if share > 0.5:
        yield ReadinessFinding(
            "error", "LABELS_INVERTED", f"{percent(share)} of the mature transactions are labelled fraud",
            "check labels.is_fraud: 1 means fraud; undo the batch of labels and ingest it again", {"share": share},
        )  # fmt: skip


def _rates(data: TrainingData) -> Iterator[ReadinessFinding]:
    """Check that the share of fraud is stable over the mature span."""
    if data.y.sum() < FRAUDS_MIN or data.y.all():
        return
    pieces = np.array_split(np.arange(len(data.y)), min(WEEKS_MAX, int(data.y.sum()) // 5))
    frauds = np.array([data.y[piece].sum() for piece in pieces])
    rows = np.array([len(piece) for piece in pieces])
    p = float(chi2_contingency(np.stack([frauds, rows - frauds]))[1]) if len(pieces) > 1 else 1.0
    rates = frauds / rows
    ratio = float(rates.max() / max(rates.min(), 0.5 / rows.mean()))
    if p < UNSTABLE_P and ratio > UNSTABLE_RATIO:
        yield ReadinessFinding(
            "warning", "FRAUD_RATE_UNSTABLE",
            f"the share of fraud varies {ratio:.1f}-fold over {len(pieces)} pieces of the mature span",
            "look for weeks without labels; if it is an attack, a shorter training.span follows it faster",
            {"ratio": ratio, "p": p, "rates": [round(float(rate), 6) for rate in rates]},
        )  # fmt: skip


def _clusters(data: TrainingData) -> Iterator[ReadinessFinding]:
    frauds, effective = data.prevalence.positives, data.prevalence.effective
    if frauds >= FRAUDS_MIN and effective < CLUSTERED * frauds:
        yield ReadinessFinding(
            "warning", "FEW_ENTITIES", f"{counted(round(frauds), 'fraud is', 'frauds are')} on few entities: they are {describe_cases(effective)}",
            "different frauds teach more than many alike: label flags of channel novelty first",
            {"frauds": frauds, "effective": effective},
        )  # fmt: skip


def _labels(data: TrainingData) -> Iterator[ReadinessFinding]:
    """Check that labels are complete."""
    config, date = data.config, data.date
    behind = (date - int(data.history.completeness.at(np.array([date], dtype=np.int64))[0])) / DAY
    if len(data.history.labels) and behind > max(config.labels.longest_maturity / DAY, 7):
        yield ReadinessFinding(
            "warning", "LABELS_STALE", f"labels are complete only until {counted(round(behind), 'day')} before the training date",
            "ingest newer labels, if only an empty file that says until when all frauds are reported", {"days": behind},
        )  # fmt: skip


def _delays(data: TrainingData) -> Iterator[ReadinessFinding]:
    """Check that nearly all reports arrive by maturity, and whether it should differ between the values of a field."""
    reports, labels = reports_of(data.history, data.date), data.config.labels
    group = maturity_groups(data.config, data.history)[reports.rows]
    for name, value, maturity, code in _maturities(data):
        own = reports.take(group == code)
        if len(own.rows) >= REPORTS_MIN:
            yield from _too_short(own, name, value, maturity)
    if not labels.maturity_by:
        yield from _different_delays(data, reports)


def _maturities(data: TrainingData) -> Iterator[tuple[str, str, int, int]]:
    """Field, value, maturity and code of each group of payments that has a maturity of its own."""
    labels = data.config.labels
    yield "", "", labels.maturity, OTHERS
    for name, spans in labels.maturity_by.items():
        values = data.history.transactions.columns[name].values.astype(str).tolist()
        yield from ((name, value, spans[value], code) for code, value in enumerate(values) if value in spans)


def _too_short(reports: FraudReports, name: str, value: str, maturity: int) -> Iterator[ReadinessFinding]:
    curve, days = reports.curve, maturity / DAY
    by_then, needed = float(curve(days)), curve.quantile(MATURE_SHARE)
    if by_then >= MATURE_SHARE:
        return
    of, key = (
        (f" of {name} {value}", f"labels.maturity_by.{name}.{value}") if name else ("", "labels.maturity")
    )
    yield ReadinessFinding(
        "warning", "MATURITY_TOO_SHORT",
        f"{percent(by_then)} of fraud{of} is reported within {key} ({days:g} days); each reported fraud counts for those that are missing at its age",
        f'set {key} = "{int(np.ceil(needed))}d" to cover {percent(MATURE_SHARE)}',
        {"share": by_then, "days": needed, "reports": curve.n},
    )  # fmt: skip


def _different_delays(data: TrainingData, reports: FraudReports) -> Iterator[ReadinessFinding]:
    """Propose `labels.maturity_by` for the field whose values differ most in when fraud is reported."""
    schema, columns = data.config.schema_, data.history.transactions.columns
    fields = (name for name in schema.categorical if name not in schema.hash)
    candidates = {name: _days_by_value(columns[name], reports) for name in fields}
    ratios = {
        name: max(days.values()) / max(min(days.values()), 1) for name, days in candidates.items() if days
    }
    if not ratios:
        return
    name = max(ratios, key=lambda field: ratios[field])
    days = candidates[name]
    slow, quick = max(days, key=lambda value: days[value]), min(days, key=lambda value: days[value])
    spans = ", ".join(f'"{value}" = "{span}d"' for value, span in sorted(days.items()))
    yield ReadinessFinding(
        "hint", "DELAYS_DIFFER",
        f"{percent(MATURE_SHARE)} of fraud is reported within {days[quick]} days for {name} {quick}, but within {days[slow]} for {slow}",
        f"set labels.maturity_by = {{{name} = {{{spans}}}}}: quick values teach earlier, slow ones hide no fraud as genuine",
        {"field": name, "days": {value: float(span) for value, span in days.items()}},
    )  # fmt: skip


def _days_by_value(column: Coded, reports: FraudReports) -> dict[str, int]:
    """Days until nearly all reports of each value, rounded up; empty if no two values differ clearly."""
    codes = column.codes[reports.rows]
    known, counts = np.unique(codes[codes >= 0], return_counts=True)
    groups = {str(column.values[code]): reports.take(codes == code) for code in known[counts >= REPORTS_MIN]}
    days = {value: int(np.ceil(group.curve.quantile(MATURE_SHARE))) for value, group in groups.items()}
    if len(days) < 2:
        return {}
    slow, quick = max(days, key=lambda value: days[value]), min(days, key=lambda value: days[value])
    apart = days[slow] >= DIFFERENT_DELAYS * max(days[quick], 1)
    by_chance = mannwhitneyu(groups[slow].delay, groups[quick].delay).pvalue
    return days if apart and by_chance < UNSTABLE_P else {}


def _time(data: TrainingData) -> Iterator[ReadinessFinding]:
    rows = data.visible_rows
    times = data.history.transactions.event_time[rows]
    if not len(times):
        return
    future = float((times > data.date).mean())
    if future > 0.01:
        yield ReadinessFinding(
            "error", "FUTURE_DATES", f"{percent(future)} of the transactions are dated after the training date",
            "check schema.event_time and schema.timezone; undo the batch and ingest it again", {"share": future},
        )  # fmt: skip
    days = times // DAY
    empty = int(days[-1] - days[0] + 1 - len(np.unique(days)))
    if empty > GAP_SHARE * (days[-1] - days[0] + 1):
        yield ReadinessFinding(
            "warning", "TIME_GAPS", f"{empty:,} of {days[-1] - days[0] + 1:,} days {'has' if empty == 1 else 'have'} no transaction",
            "ingest the missing days: features treat a missing day as a quiet one", {"days": empty},
        )  # fmt: skip
    late = data.history.transactions.ingested_at[rows] > times + data.config.schedule.allowed_lateness
    if late.mean() > LATE_SHARE:
        yield ReadinessFinding(
            "warning", "ARRIVES_LATE", f"{percent(late.mean())} of the transactions arrived after schedule.allowed_lateness",
            "raise it, or ingest more often: a late transaction is scored late, and features of others miss it",
            {"share": float(late.mean())},
        )  # fmt: skip


def _fields(data: TrainingData) -> Iterator[ReadinessFinding]:
    """Check for configured fields that are constant, missing, or identify the transaction."""
    rows = data.visible_rows
    transactions = data.history.transactions
    for name in data.config.schema_.categorical:
        yield from _field(name, *_shares_of_codes(transactions.columns[name], rows), category=True)
    for name in data.config.schema_.numeric:
        yield from _field(name, *_shares_of_numbers(transactions.numeric[name][rows]), category=False)


def _field(
    name: str, missing: float, commonest: float, distinct: float, category: bool
) -> Iterator[ReadinessFinding]:
    if missing > MISSING:
        yield ReadinessFinding(
            "warning", "FIELD_MISSING", f"{name} is missing in {percent(missing)} of the transactions",
            "map it in [schema] to the name in your data, or leave it out", {"field": name, "share": missing},
        )  # fmt: skip
    elif commonest > CONSTANT:
        yield ReadinessFinding(
            "hint", "FIELD_CONSTANT", f"{name} has one value in {percent(commonest)} of the transactions",
            "leave it out of [schema]: a constant carries no information", {"field": name, "share": commonest},
        )  # fmt: skip
    elif category and distinct > IDENTIFIER:
        yield ReadinessFinding(
            "warning", "FIELD_IDENTIFIES", f"{name} has a distinct value in {percent(distinct)} of the transactions",
            "an identifier is not a category: leave it out, or make it one of schema.entities",
            {"field": name, "share": distinct},
        )  # fmt: skip


def _entities(data: TrainingData) -> Iterator[ReadinessFinding]:
    """Check that no value holds a large part of an entity column, as a text for a missing value does."""
    for name in data.config.schema_.entities:
        column = data.history.transactions.columns[name]
        counts = np.bincount(column.codes[data.visible_rows] + 1, minlength=2)[1:]
        place = int(counts.argmax())
        share = float(counts[place]) / max(int(counts.sum()), 1)
        if share > DOMINANT:
            value = str(column.values[place])
            yield ReadinessFinding(
                "warning", "ENTITY_DOMINATED", f"{value!r} is the {name} of {percent(share)} of the transactions",
                "if it stands for a missing value, make it empty in the data: it counts as one customer with a very long history",
                {"field": name, "value": value, "share": share},
            )  # fmt: skip


def _shares_of_codes(column: Coded, rows: Ints) -> tuple[float, float, float]:
    codes = column.codes[rows]
    present = codes[codes >= 0]
    counts = np.bincount(present) if len(present) else np.zeros(1, dtype=np.int64)
    n = max(len(codes), 1)
    return 1 - len(present) / n, float(counts.max()) / n, float((counts > 0).sum()) / n


def _shares_of_numbers(values: NDArray[np.float64]) -> tuple[float, float, float]:
    present = values[np.isfinite(values)]
    counts = np.unique(present, return_counts=True)[1] if len(present) else np.zeros(1, dtype=np.int64)
    n = max(len(values), 1)
    return 1 - len(present) / n, float(counts.max()) / n, float(len(counts)) / n


def _leaks(data: TrainingData) -> Iterator[ReadinessFinding]:
    """Check for fields that are filled in once a fraud is known."""
    leaks = find_leaks(data.config, data.history, data.mature, data.y)
    for leak in leaks:
        yield ReadinessFinding(
            "error", LEAK, leak.sentence,
            "leave it out if it is filled in once a fraud is known; if it is known when a payment happens, write "
            f"{trusted_line(data.config, leaks)} under [schema]",
            {"field": leak.name, "state": leak.state, "precision": leak.precision, "recall": leak.recall},
        )  # fmt: skip


def _repeated(data: TrainingData) -> Iterator[ReadinessFinding]:
    rows = data.history.transactions.take(data.visible_rows)
    entities: list[NDArray[Any]] = [rows.columns[name].codes for name in data.config.schema_.entities]
    if not len(rows) or not entities:
        return
    same_time = np.append(False, rows.event_time[1:] == rows.event_time[:-1])
    near = same_time | np.append(same_time[1:], False)  # only these can equal another
    compared: list[NDArray[Any]] = [rows.event_time, rows.amount, *entities]
    close = np.column_stack([column[near] for column in compared])
    repeated = (len(close) - len(np.unique(close, axis=0))) / len(rows)
    if repeated > REPEATED:
        yield ReadinessFinding(
            "warning", "REPEATED_ROWS",
            f"{percent(repeated)} of the transactions equal another in time, amount and all entities",
            "a payment with two ids counts twice: check schema.transaction_id", {"share": repeated},
        )  # fmt: skip


def _amounts(data: TrainingData) -> Iterator[ReadinessFinding]:
    amount = data.history.transactions.amount[data.visible_rows]
    negative = float((amount < 0).mean()) if len(amount) else 0.0
    if 0 < negative < 1:
        yield ReadinessFinding(
            "warning", "AMOUNT_SIGNS", f"{percent(negative)} of the payments have a negative amount",
            "set schema.kind and schema.refund_kinds, or give all amounts the same sign", {"share": negative},
        )  # fmt: skip


def _moved(data: TrainingData) -> Iterator[ReadinessFinding]:
    """
    Check for features whose newest days differ from the history that is trained on.

    Only the newer half of the history is compared, because windows are still filling when a stored history begins. Only
    features of the transaction itself or of its last day are compared: sums over weeks move slowly, so a few entities
    would look like a change.
    """
    history = data.unlabelled.take(slice(len(data.unlabelled) // 2, len(data.unlabelled)))
    if min(len(history), len(data.holdout)) < data.config.drift.min_rows:
        return
    encoder = Encoder.fit(data.features.encoding, history.raw, np.zeros(len(history)), history.weight)
    names = data.features.encoding.names
    then, now = (encoder.transform(part.raw[:: _step(part)]) for part in (history, data.holdout))
    quick = {
        one.name
        for one in data.features.features
        if one.label_free and one.period is None and (one.window or 0) <= DAY
    }
    moved = {
        one.feature: one.value
        for one in compare(ReferenceHistograms.fit(then, names), now, ["psi"])
        if one.value > MOVED_PSI + _by_chance(one) and one.feature in quick
    }
    if moved:
        worst = sorted(moved, key=lambda name: -moved[name])[:NAMED]
        yield ReadinessFinding(
            "warning", "FEATURES_MOVED", f"{len(moved)} feature{'s differ' if len(moved) > 1 else ' differs'} between history and now: {', '.join(worst)}",
            "look at which features drift; after a lasting change, shorten training.span",
            {"psi": {name: round(float(moved[name]), 3) for name in worst}},
        )  # fmt: skip


def _by_chance(drift: Drift) -> float:
    """Three times the PSI that two samples of these sizes have without any drift, (bins − 1)(1/n + 1/m)."""
    return 3 * (COARSE_BINS - 1) * (1 / max(drift.n_reference, 1) + 1 / max(drift.n_current, 1))


def _step(sample: Sample) -> int:
    return max(1, len(sample) // SAMPLE_ROWS)
