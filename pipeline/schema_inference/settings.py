"""
Settings that fit the volume and the span of a file: flags a day, maturity, trainings, and the first span to score.

Only what differs from the defaults is written, with its reason.
"""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.config.sections import AlertsSection, LabelsSection, TrainingSection
from pipeline.durations import format_duration, parse_duration
from pipeline.schema_inference.draft import CHECK, SchemaDraft
from pipeline.schema_inference.labels import is_fraud, says_genuine
from storage.frames import DAY, HOUR, Ints

FLAGGED = 0.01  # share of the payments that reviewers look at
MONDAY = 4  # 1970-01-05, from which weeks are counted
MATURITIES = (30, 21, 14, 7, 3, 1)  # days
DAMAGED = 0.001  # share of the dates at either end
WAIT = 7 * DAY  # until a label is known, when the file does not say
REPORTED = 0.95  # share of frauds that are reported by maturity


@dataclass(frozen=True)
class Volume:
    """How many payments each day has, from the first to the last."""

    first: int  # days since 1970
    counts: Ints

    @classmethod
    def of(cls, days: Ints) -> "Volume | None":
        """The volume of payments on these days (since 1970); None without any."""
        if not len(days):
            return None
        return cls(int(days.min()), np.bincount(days - days.min()))

    def plus(self, other: "Volume | None") -> "Volume":
        """The volume of both together."""
        if other is None:
            return self
        first = min(self.first, other.first)
        counts = np.zeros(max(self.end, other.end) - first, dtype=np.int64)
        for volume in (self, other):
            counts[volume.first - first :][: len(volume.counts)] += volume.counts
        return Volume(first, counts)

    def trimmed(self) -> "Volume":
        """The volume without days at its ends that only a few damaged dates make so distant."""
        rows = np.cumsum(self.counts)
        first, last = np.searchsorted(rows, [DAMAGED * self.rows, (1 - DAMAGED) * self.rows]).tolist()
        if last - first >= self.days / 2:
            return self
        return Volume(self.first + first, self.counts[first : last + 1])

    @property
    def days(self) -> int:
        """How many days there are."""
        return len(self.counts)

    @property
    def end(self) -> int:
        """The day after the last."""
        return self.first + self.days

    @property
    def rows(self) -> int:
        """How many payments there are."""
        return int(self.counts.sum())

    def before(self, day: int) -> int:
        """How many payments there are before a day."""
        return int(self.counts[: max(0, day - self.first)].sum())


def decide_settings(draft: SchemaDraft, volume: Volume) -> None:
    """Set the keys whose defaults do not fit the file."""
    days = volume.days
    span = f"the file spans {days:,} day{'s' if days > 1 else ''}"
    if draft.fraud is not None:
        _decide_maturity(draft, days, span)
    if days < 60:
        windows = ["1d", "7d"] if days >= 14 else ["1h", "1d"]
        draft.decide("features.windows", windows, f"longer windows would never fill: {span}")
    if days < 28:
        draft.decide("training.every", "1d", f"{span}, so a training a week would be one or none")
    if days < 42:
        holdout = f"{max(1, days // 6)}d"
        draft.decide("training.holdout", holdout, f"{span}, and the rest is needed for training")
    if volume.rows < 4 * TrainingSection().min_rows:
        least = max(50, volume.rows // 4)
        reason = f"the file has {volume.rows:,} payments; with so few, thresholds and reasons are rough"
        draft.decide("training.min_rows", least, reason)
    daily = volume.rows / days
    flags = max(1, round(FLAGGED * daily))
    if flags < AlertsSection().per_day:
        reason = (
            f"about {FLAGGED:.0%} of {daily:,.0f} payments a day"
            if flags > 1
            else f"{daily:,.0f} payments a day"
        )
        draft.decide("alerts.per_day", flags, f"{reason}: set it to what your reviewers can look at")


def _decide_maturity(draft: SchemaDraft, days: int, span: str) -> None:
    """Choose the maturity of labels that stand in the file."""
    chosen = next((age for age in MATURITIES if age <= days / 4), 0)
    delay = _delay(draft)
    if chosen < delay <= days / 2:
        chosen = min(age for age in (*MATURITIES, math.ceil(delay)) if age >= delay)
    elif not says_genuine(draft) and days >= 42:
        chosen = max(chosen, 14)
    maturity = int(chosen * DAY) or (HOUR if says_genuine(draft) else DAY)
    if maturity == LabelsSection().maturity:
        return
    reason = f"with {format_duration(LabelsSection().maturity)} too little would be mature: {span}"
    if delay > chosen:
        reason += f"; {CHECK}5% of the frauds were reported later than {delay:,.0f} days, and count as genuine until then"
    elif not says_genuine(draft):
        reason += f"; {CHECK}payments of this age without a label count as genuine"
    else:
        reason += ", and its labels also say what is genuine"
    draft.decide("labels.maturity", format_duration(maturity), reason)


def _delay(draft: SchemaDraft) -> float:
    """Days within which nearly all frauds were reported; 0 if the file does not say."""
    known = draft.known_at.moments if draft.known_at else np.empty(0)
    if not len(known) or draft.event_time is None:
        return 0.0
    delays = (known - draft.event_time.moments)[is_fraud(draft)]
    delays = delays[np.isfinite(delays)]
    return float(np.quantile(delays, REPORTED)) / DAY if len(delays) else 0.0


def known_after(draft: SchemaDraft) -> str:
    """How long after a payment its label counts as known; "" if each label has a time, or there are none."""
    if draft.fraud is None:
        return ""
    labelled = draft.fraud.codes >= 0
    if draft.known_at is not None and (draft.known_at.codes[labelled] >= 0).all():
        return ""
    return format_duration(min(WAIT, _duration(draft, "labels.maturity", LabelsSection().maturity)))


def first_scoring(draft: SchemaDraft, volume: Volume | None) -> tuple[int, int] | None:
    """
    The days from and until which payments can be scored, by a first training on those before; None with too few.

    The first day is one on which a model is trained.
    """
    if volume is None:
        return None
    defaults = TrainingSection()
    min_rows = draft.keys.get("training.min_rows", defaults.min_rows)
    assert isinstance(min_rows, int)
    every = _duration(draft, "training.every", defaults.every) // DAY
    dates = [day for day in range(volume.first + 1, volume.end) if (day - MONDAY) % every == 0]
    enough = [day for day in dates if volume.before(day) >= min_rows]
    usual = [day for day in enough if volume.before(day) >= volume.rows // 3 and _mature(draft, volume, day)]
    start = next(iter([*usual, *enough]), None)
    return None if start is None else (start, volume.end)


def _mature(draft: SchemaDraft, volume: Volume, day: int) -> bool:
    """Whether a tenth of the payments is mature on a day; without labels nothing is."""
    if draft.fraud is None:
        return True
    maturity = _duration(draft, "labels.maturity", LabelsSection().maturity)
    return volume.before(day - -(-maturity // DAY)) >= volume.rows // 10 or maturity < DAY


def _duration(draft: SchemaDraft, key: str, default: int) -> int:
    return parse_duration(draft.keys[key]) if key in draft.keys else default
