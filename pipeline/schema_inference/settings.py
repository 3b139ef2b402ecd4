"""
Settings that fit the volume and the span of a file: flags a day, maturity, trainings, and the first span to score.

Only what differs from the defaults is written, with its reason.
"""

from pipeline.config.sections import AlertsSection, LabelsSection, TrainingSection
from pipeline.durations import format_duration, parse_duration
from pipeline.number_text import percent
from pipeline.schema_inference.draft import SchemaDraft
from pipeline.schema_inference.maturity import decide_labels
from pipeline.schema_inference.volume import Volume
from storage.frames import DAY

FLAGGED = 0.01  # share of the payments that reviewers look at
MONDAY = 4  # 1970-01-05, from which weeks are counted
WAIT = 7 * DAY  # until a label is known, when the file does not say


def decide_settings(draft: SchemaDraft, volume: Volume) -> None:
    """Set the keys whose defaults do not fit the file."""
    days = volume.days
    span = f"the file spans {days:,} day{'s' if days > 1 else ''}"
    decide_labels(draft, volume, span)
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
            f"about {percent(FLAGGED)} of {daily:,.0f} payments a day"
            if flags > 1
            else f"{daily:,.0f} payments a day"
        )
        draft.decide("alerts.per_day", flags, f"{reason}: set it to what your reviewers can look at")


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
