"""
Sorts the columns that are left into entities, categorical and numeric fields, and leaves out what would mislead a model.

A clock tells a model only when it was trained; several names of one customer are one entity.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import rankdata

from pipeline.ingest.formats import validators
from pipeline.ingest.formats.grammars.numbers import BLANK
from pipeline.schema_inference import names
from pipeline.schema_inference.column_profile import ENOUGH, ColumnProfile
from pipeline.schema_inference.draft import CHECK, SchemaDraft, quoted
from pipeline.schema_inference.payment_roles import FEW_VALUES, is_foreign_money, is_money
from pipeline.schema_inference.personal_data import PHONES, REPEAT_ROWS_MIN
from storage.frames import Floats, Ints

CATEGORY_VALUES = 300  # the same for a column that is named like a category, such as country
FEW_NUMBERS = 10  # the same for a column of whole numbers
FULL_NAMES = 0.5  # share of the values of a column of names that are several words
CLOCK_ROWS = 5000  # that are compared with the event time
CLOCK_ROWS_MIN = 30
ITEMS_DIFFER = 0.05  # share of the items that differ from the one before
RISES = 0.999  # rank correlation with the event time
SAME = 0.999  # share of the rows in which one column determines another
SAME_ROWS_MIN = 20  # with an entity that occurs again
TRAIT_SHARE = (
    0.1  # a trait of customers with fewer values than this share of the customers says something of its own
)


def leave_out_unnamed(draft: SchemaDraft) -> None:
    """Leave out columns that no config can name."""
    for column in list(draft.unassigned.values()):
        if not column.name.strip() or not column.name.isprintable():
            draft.leave_out(column, "its name is empty or not printable")


def leave_out_unusable(draft: SchemaDraft) -> None:
    """Leave out constants, further times, and columns that cannot be fields."""
    for column in list(draft.unassigned.values()):
        refusal = column.refusal(validators.texts, ENOUGH)
        if refusal:
            draft.leave_out(column, refusal)
        elif len(column.distinct) < 2:
            draft.leave_out(column, "the same in every row" if column.distinct else "empty in every row")
        elif column.time_formats:
            draft.leave_out(column, "a further time; data known only after event_time must not be used")
        elif _differs_between_items(draft, column):
            draft.leave_out(
                column, "it differs between the items of an order, of which only the first counts"
            )


def _differs_between_items(draft: SchemaDraft, column: ColumnProfile) -> bool:
    order = draft.order
    if order is None:
        return False
    again = (order.codes[1:] == order.codes[:-1]) & (column.codes[1:] >= 0)
    return bool(again.any() and (column.codes[1:] != column.codes[:-1])[again].mean() > ITEMS_DIFFER)


def leave_out_clocks(draft: SchemaDraft) -> None:
    """Leave out numbers that rise with the event time, and numbers of rows."""
    time = draft.event_time.moments if draft.event_time else np.full(draft.rows, np.nan)
    for column in list(draft.unassigned.values()):
        if not column.number or _is_entity_name(column) or column.name in draft.personal:
            continue
        if _counts_rows(column) or _rises_with(column.numbers, time):
            draft.leave_out(
                column,
                "a clock or a counter: it rises with the event time, so new payments are unlike all old ones",
            )
        elif names.SEQUENCE.fullmatch(names.normalised(column.name)):
            draft.leave_out(column, "a number of rows, by its name")


def find_entities(draft: SchemaDraft) -> None:
    """Choose the customers, cards, shops and the like; of several names of one thing the best."""
    candidates = [c for c in draft.unassigned.values() if _is_entity(draft, c)]
    chosen = list[ColumnProfile]()
    for column in sorted(candidates, key=lambda c: _entity_order(draft, c)):
        named = _is_entity_name(column) or column.name in draft.personal
        other = next((c for c in chosen if _same_thing(c, column, named=named)), None)
        if other:
            draft.leave_out(column, f"always the same for one {quoted(other.name)}")
        else:
            chosen.append(column)
    ours = {column.name for column in chosen}
    payers_first = sorted((c for c in candidates if c.name in ours), key=lambda c: not names.is_payer(c.name))
    for column in payers_first:
        unsure = "" if _is_entity_name(column) or column.name in draft.personal else CHECK
        kind = draft.personal.get(column.name)
        values = f"{len(column.distinct):,} different {kind or 'values'}"
        draft.add("entities", column, f"{unsure}{values}, each {column.repeats:.1f} times on average")
    if not draft.entities:
        reason = (
            "no column names a customer, card or account: without one no payment has a history to differ from"
        )
        draft.decide("entities", [], CHECK + reason)


def find_fields(draft: SchemaDraft) -> None:
    """Assign the remaining columns to categorical and numeric."""
    for column in list(draft.unassigned.values()):
        distinct = len(column.distinct)
        entity = _entity_of_trait(draft, column)
        if entity:
            draft.leave_out(column, f"always the same for one {quoted(entity.name)}")
        elif is_foreign_money(draft, column):
            draft.leave_out(column, "money in another currency than that of the payment")
        elif _is_category(column):
            later = next(
                (value for value in column.distinct if names.LATER_VALUE.search(names.normalised(value))), ""
            )
            note = f"; {CHECK}{quoted(later)} is known only after the payment" if later else ""
            draft.add("categorical", column, f"{distinct} different values{note}")
        elif _is_number(column):
            draft.add("numeric", column, f"numbers, {distinct:,} different ones")
        else:
            hardly = "free text" if _is_free_text(column) else "they hardly repeat"
            draft.leave_out(column, f"{distinct:,} different texts in {column.present:,} rows: {hardly}")


def _entity_of_trait(draft: SchemaDraft, column: ColumnProfile) -> ColumnProfile | None:
    """The entity that a text nearly names, such as the street of a customer; None for texts with few values."""
    if (
        _is_number(column)
        or len(column.distinct) <= FEW_NUMBERS
        or names.CATEGORY.fullmatch(names.normalised(column.name))
    ):
        return None
    return next((entity for entity in draft.entities if _same_thing(entity, column, named=False)), None)


def _is_number(column: ColumnProfile) -> bool:
    """Whether a column holds numbers that can be compared, unlike postal codes."""
    return (column.number or is_money(column)) and not names.CODE.fullmatch(names.normalised(column.name))


def _is_free_text(column: ColumnProfile) -> bool:
    return names.FREE_TEXT.fullmatch(names.normalised(column.name)) is not None


def _is_entity_name(column: ColumnProfile) -> bool:
    name = names.normalised(column.name)
    return names.entity_rank(column.name) is not None or bool(names.ID_WORD.fullmatch(name))


def _is_entity(draft: SchemaDraft, column: ColumnProfile) -> bool:
    if column.name in draft.personal:
        return True
    if (column.number and not column.whole) or is_money(column):
        return False
    if names.CATEGORY.fullmatch(names.normalised(column.name)) and len(column.distinct) <= CATEGORY_VALUES:
        return False
    if draft.rows >= REPEAT_ROWS_MIN and column.repeats < 1.1:
        return False
    if not _is_entity_name(column):
        return (
            not _is_number(column)
            and not _is_category(column)
            and not _is_free_text(column)
            and column.repeats >= 2
        )
    suffix = names.ID_SUFFIX.fullmatch(names.normalised(column.name)) is not None
    # "device" with the values phone and computer is a type of device, not a device
    ids = len(column.distinct) >= FEW_NUMBERS and column.matches(r"\d")
    return suffix or ids or len(column.distinct) > FEW_VALUES or column.repeats < 20


def _is_category(column: ColumnProfile) -> bool:
    if (column.number and not column.whole) or is_money(column):
        return False
    few = FEW_NUMBERS if _is_number(column) else FEW_VALUES
    if names.CATEGORY.fullmatch(names.normalised(column.name)):
        few = CATEGORY_VALUES
    return len(column.distinct) <= few and (column.repeats >= 2 or column.binary)


def _entity_order(draft: SchemaDraft, column: ColumnProfile) -> tuple[bool, int, bool, int]:
    """What tells best who it is first, then the best name."""
    rank = names.entity_rank(column.name)
    suffix = names.ID_SUFFIX.fullmatch(names.normalised(column.name)) is not None
    unnamed = rank is None and column.name not in draft.personal
    return unnamed, _ambiguity(draft, column), not suffix, 99 if rank is None else rank


def _ambiguity(draft: SchemaDraft, column: ColumnProfile) -> int:
    """How badly values tell who it is: best is what needs no hash key; names are not unique, and phones change hands."""
    kind = draft.personal.get(column.name)
    if kind:
        return 3 if kind == PHONES else 1
    return 2 if _holds_full_names(column) else 0


def _holds_full_names(column: ColumnProfile) -> bool:
    """Whether most values are several words without digits, as names of people and companies are."""
    words = pc.match_substring_regex(pa.array(column.distinct, pa.string()), rf"^\PN*\pL[.,]?{BLANK}\PN*$")
    return bool(column.distinct) and bool(pc.mean(words.cast(pa.int8())).as_py() > FULL_NAMES)


def _same_thing(chosen: ColumnProfile, column: ColumnProfile, *, named: bool) -> bool:
    """Whether a column is another name of a chosen entity, or nearly: a trait that hardly any two of them share."""
    both = (chosen.codes >= 0) & (column.codes >= 0)
    if column.present > 1.01 * both.sum():
        return False
    there, here = chosen.codes[both], column.codes[both]
    if not _determines(there, here):
        return False
    if _determines(here, there):
        return True
    return not named and len(column.distinct) >= TRAIT_SHARE * len(chosen.distinct)


def _determines(codes: Ints, determined: Ints) -> bool:
    """Whether rows that agree in one column nearly always agree in the other; False if too few agree in the first."""
    if not len(codes):
        return False
    groups, sizes = np.unique(codes, return_counts=True)
    pairs, counts = np.unique(codes * (determined.max() + 1) + determined, return_counts=True)
    commonest = np.zeros(groups.max() + 1, dtype=np.int64)
    np.maximum.at(commonest, pairs // (determined.max() + 1), counts)
    again = sizes >= 2
    rows = sizes[again].sum()
    return bool(rows >= SAME_ROWS_MIN and commonest[groups[again]].sum() >= SAME * rows)


def _counts_rows(column: ColumnProfile) -> bool:
    values = column.numbers
    return len(values) >= CLOCK_ROWS_MIN and column.whole and bool((np.diff(values) == 1).all())


def _rises_with(values: Floats, time: Floats) -> bool:
    """Whether numbers rise or fall with the time, but for a few."""
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(time))
    known = known[:: max(1, len(known) // CLOCK_ROWS)]
    values, time = values[known], time[known]
    if len(known) < CLOCK_ROWS_MIN or len(np.unique(values)) < CLOCK_ROWS_MIN // 2 or np.ptp(time) == 0:
        return False
    return bool(abs(np.corrcoef(rankdata(values), rankdata(time))[0, 1]) >= RISES)
