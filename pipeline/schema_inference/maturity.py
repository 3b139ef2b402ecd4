"""
What a 0 in a column of labels means, and by which age of a payment its label has arrived.

Frauds are reported late: if the column says what is known so far, its newest payments have the fewest. The delay from payment to
report gives the maturity, for each value of a field if they clearly differ.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binom, mannwhitneyu

from detectors.evaluation.label_delay import delay_curve
from pipeline.config.sections import LabelsSection
from pipeline.durations import format_duration
from pipeline.number_text import percent
from pipeline.schema_inference.draft import CHECK, ReportDelays, SchemaDraft, quoted
from pipeline.schema_inference.labels import is_fraud, says_genuine
from pipeline.schema_inference.volume import Volume
from storage.frames import DAY, HOUR, Ints

Zeros = Literal["none", "silence", "unclear", "genuine"]
MATURITIES = (30, 21, 14, 7, 3, 1)  # days, without a delay that says more
REPORTED = 0.95  # share of frauds that are reported by maturity
REPORTS_MIN = 20  # of frauds, without which the curve of delays is too rough
FILLED = 0.8  # share of rows with a label, from which most zeros cannot be answers of somebody
OLD, YOUNG = 60, 7  # days: payments that are compared, if the file is long enough
FALLS_P, FALLS_BELOW = (
    0.01,
    0.7,
)  # the share of the young is lower: by chance at most so often, and by so much
VALUES_MAX = 20  # of a field whose values may have maturities of their own
DIFFERS_P, DIFFERS_TIMES, DIFFERS_DAYS = 0.001, 2, 7  # what counts as a clear difference of delays


@dataclass(frozen=True)
class _Shares:
    """The share of fraud among payments that are older than `old` days, and among those of the newest `young` days."""

    old: int
    older: float
    young: int
    younger: float
    falls: bool

    @classmethod
    def of(cls, volume: Volume) -> "_Shares":
        old, young = min(OLD, volume.days // 2), max(1, min(YOUNG, volume.days // 4))
        rows, frauds = volume.counts, volume.frauds
        end = max(1, volume.days - old)
        older = float(frauds[:end].sum() / max(1, rows[:end].sum()))
        n, k = int(rows[-young:].sum()), int(frauds[-young:].sum())
        younger = k / max(1, n)
        falls = younger < FALLS_BELOW * older and float(binom.cdf(k, n, older)) < FALLS_P
        return cls(old, older, young, younger, falls)

    def __str__(self) -> str:
        newest = "the newest day" if self.young == 1 else f"the newest {self.young} days"
        return f"{percent(self.older)} of the payments older than {self.old} days are fraud, and {percent(self.younger)} of {newest}"


def decide_labels(draft: SchemaDraft, volume: Volume, span: str) -> None:
    """Decide what a 0 means, and the maturity; `span` says in words how long the file is."""
    if draft.fraud is not None:
        draft.reports = draft.reports or _inline_reports(draft)
    elif draft.reports is None:
        return
    zeros: Zeros = "none" if draft.fraud is None else _decide_zeros(draft, volume)
    _decide_maturity(draft, volume.days, span, zeros)
    if draft.reports is not None:
        _decide_maturity_by(draft, draft.reports)


def _decide_zeros(draft: SchemaDraft, volume: Volume) -> Zeros:
    """Decide `schema.genuine_means`, if the column has words for genuine."""
    assert draft.fraud is not None
    if not says_genuine(draft):
        return "none"
    filled = draft.fraud.present / draft.rows
    if filled < FILLED:
        reason = f"{CHECK}only {percent(filled)} of the rows have a label, so somebody has established what is genuine"
        draft.decide("genuine_means", "genuine", reason)
        return "genuine"
    shares = _Shares.of(volume)
    if shares.falls:
        draft.decide("genuine_means", "silence", f"{shares}: a 0 says that no fraud is known yet")
        return "silence"
    question = 'whether a 0 says that no fraud is known, or that somebody has established it ("genuine")'
    draft.decide("genuine_means", "silence", f"{CHECK}the file does not tell {question}: {shares}")
    return "unclear"


def _inline_reports(draft: SchemaDraft) -> ReportDelays | None:
    """Delays of the frauds whose rows say when they were reported; None if none does."""
    if draft.known_at is None or draft.event_time is None or not len(draft.known_at.moments):
        return None
    times, known_at = draft.event_time.moments, draft.known_at.moments
    rows = np.flatnonzero(is_fraud(draft) & np.isfinite(known_at - times))
    end = float(max(np.nanmax(times), np.nanmax(known_at)))
    return ReportDelays.of(rows, times[rows], known_at[rows], end) if len(rows) else None


def _days_of_delay(reports: ReportDelays) -> float:
    """Days within which nearly all frauds were reported: by the curve of delays, if there are enough for one."""
    if len(reports.rows) >= REPORTS_MIN:
        days = delay_curve(reports.delay, reports.observed).quantile(REPORTED)
        if days == days:  # noqa: PLR0124 (NaN: no delay could be observed often enough)
            return days
    return float(np.quantile(reports.delay, REPORTED))


def _decide_maturity(draft: SchemaDraft, days: int, span: str, zeros: Zeros) -> None:
    """Choose the maturity by the delays of reports, else by the span of the file."""
    at_once = zeros in ("unclear", "genuine")
    delay = 0.0 if draft.reports is None else _days_of_delay(draft.reports)
    if draft.reports is not None and len(draft.reports.rows) >= REPORTS_MIN and delay <= days / 2:
        reported = f"{percent(REPORTED)} of {len(draft.reports.rows):,} frauds were reported within {max(1, delay):,.0f} days"
        _write_maturity(draft, max(1, math.ceil(delay)) * DAY, reported)
        return
    chosen = next((age for age in MATURITIES if age <= days / 4), 0)
    if chosen < delay <= days / 2:
        chosen = min(age for age in (*MATURITIES, math.ceil(delay)) if age >= delay)
    elif not at_once and days >= 42:
        chosen = max(chosen, 14)
    reason = f"with {format_duration(LabelsSection().maturity)} too little would be mature: {span}"
    if delay > chosen:
        reason += f"; {CHECK}5 % of the frauds were reported later than {delay:,.0f} days, and count as genuine until then"
    elif zeros == "genuine":
        reason += ", and its labels also say what is genuine"
    else:
        reason += (
            f"; {CHECK}payments of this age {'that are 0' if at_once else 'without a label'} count as genuine"
        )
    _write_maturity(draft, int(chosen * DAY) or (HOUR if at_once else DAY), reason)


def _write_maturity(draft: SchemaDraft, maturity: int, reason: str) -> None:
    if maturity != LabelsSection().maturity:
        draft.decide("labels.maturity", format_duration(maturity), reason)


def _decide_maturity_by(draft: SchemaDraft, reports: ReportDelays) -> None:
    """Give the values of the field whose delays differ most maturities of their own, if they clearly differ."""
    days_by_field = {
        column.name: _days_by_value(reports, column.codes[reports.rows], column.distinct)
        for column in draft.categories
        if len(column.distinct) <= VALUES_MAX and column.name not in draft.personal
    }
    name = max(days_by_field, key=lambda name: _ratio(days_by_field[name]), default="")
    if not name or _ratio(days_by_field[name]) < DIFFERS_TIMES:
        return
    days = days_by_field[name]
    listed = ", ".join(f"{value} {n:,}" for value, n in days.items())
    reason = (
        f"{percent(REPORTED)} of the frauds were reported within so many days by {quoted(name)}: {listed}"
    )
    draft.decide("labels.maturity_by", {name: {value: f"{n}d" for value, n in days.items()}}, reason)


def _days_by_value(reports: ReportDelays, codes: Ints, values: Sequence[str]) -> dict[str, int]:
    """Days until nearly all frauds are reported, of values with enough of them; empty if none differs clearly from the others."""
    days, differs = dict[str, int](), False
    for code, value in enumerate(values):
        mine = np.flatnonzero(codes == code)
        others = np.flatnonzero(codes != code)
        if min(len(mine), len(others)) >= REPORTS_MIN:
            days[value] = max(1, math.ceil(_days_of_delay(reports.take(mine))))
            p = float(mannwhitneyu(reports.delay[mine], reports.delay[others]).pvalue)
            differs |= p < DIFFERS_P
    spread = max(days.values(), default=0) - min(days.values(), default=0)
    return days if differs and spread >= DIFFERS_DAYS else {}


def _ratio(days: Mapping[str, int]) -> float:
    return max(days.values(), default=1) / min(days.values(), default=1)
