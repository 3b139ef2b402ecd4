"""Columns that are known only after the payment: by their names, by what their values tell of the label, or by being there."""

import numpy as np

from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.schema_inference import names
from pipeline.schema_inference.column_profile import ColumnProfile
from pipeline.schema_inference.draft import CHECK, SchemaDraft, quoted
from pipeline.schema_inference.labels import is_fraud

ROWS_MIN = 3  # with fewer rows a value tells nothing
TELLING = 0.9  # share of fraud among the rows with a telling value
COVERED = 0.1  # share of all frauds that have one, at least
VALUES_MAX = (
    50  # of a column whose single values are looked at; entities have more, and a stolen card is no leak
)


def known_later(column: ColumnProfile) -> bool:
    """Whether a column is known only after the payment, by its name."""
    return names.KNOWN_LATER.search(names.normalised(column.name)) is not None


def leave_out_known_later(draft: SchemaDraft) -> None:
    """Leave out what is known only after the payment, by its name."""
    for column in list(draft.unassigned.values()):
        if known_later(column):
            draft.leave_out(
                column, f"{CHECK}by its name it is known only after the payment, so it may leak the label"
            )


def leave_out_leaks(draft: SchemaDraft) -> None:
    """Leave out columns that tell the label because they were filled in after it."""
    if draft.fraud is None:
        return
    fraud = is_fraud(draft)
    for column in list(draft.unassigned.values()):
        reason = _leak(column, fraud, quoted(draft.fraud.name))
        if reason:
            draft.leave_out(column, f"{CHECK}probably a leak of the label: {reason}")


def _leak(column: ColumnProfile, fraud: Bools, label: str) -> str:
    """What gives a label away; "" if nothing does."""
    places = column.codes + 1  # 0: missing
    all_rows = np.bincount(places, minlength=len(column.distinct) + 1)
    frauds = np.bincount(places[fraud], minlength=len(all_rows))
    genuine = all_rows - frauds
    usual = int(genuine.argmax())
    if not fraud.any() or not genuine[usual]:
        return ""
    others, other_frauds = len(fraud) - all_rows[usual], fraud.sum() - frauds[usual]
    if _tells(other_frauds, others, fraud):
        if usual == 0:
            return f"(nearly) only filled where {label} is yes"
        return f"constant where {label} is no, mostly different where it is yes"
    if _tells(frauds[0], all_rows[0], fraud):
        return f"(nearly) only empty where {label} is yes"
    if len(all_rows) <= VALUES_MAX:
        telling = (all_rows >= ROWS_MIN) & (frauds >= 0.95 * all_rows)
        if frauds[telling].sum() >= 0.5 * fraud.sum():
            return f"some of its values occur (nearly) only where {label} is yes"
    return ""


def _tells(frauds: int, rows: int, fraud: Bools) -> bool:
    """Whether so many frauds among some rows are no accident: most of these rows, and a part of all frauds."""
    share = max(TELLING, 1 - (1 - fraud.mean()) / 2)  # also where most rows are fraud
    return bool(rows >= ROWS_MIN and frauds >= share * rows and frauds >= COVERED * fraud.sum())
