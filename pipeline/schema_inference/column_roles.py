"""
Infers the role of each column of a sample from its name and content.

A column called "amount" that holds no numbers is not an amount. Each `find_…` function assigns roles and removes their
columns from `SchemaDraft.unassigned`, so the order of calls matters: roles that exist once first, then the fields.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.config.consistency import SYSTEM_COLUMNS
from pipeline.config.sections import COLUMN
from pipeline.ingest.formats import columns, validators
from pipeline.schema_inference.column_profile import ENOUGH, PERSONAL_DATA_TESTS, ColumnProfile
from storage.frames import DAY

FEW_VALUES = 50  # a text column with at most so many different values is categorical
FEW_NUMBERS = 10  # the same for a column of whole numbers
REPEAT_ROWS_MIN = 1000  # from so many rows on, a column that never repeats is not an entity
# Among several columns the one that matches the earliest pattern is taken.
ID_NAMES = (
    r"(transaction|txn|tx|trans|trx|payment)_?id",
    r"id|uuid|guid",
    r"(transaction|txn|tx|trans|trx|payment|event|order)_?(ref|reference|number|num|no|nr|key|uuid|id)",
    r"ref|reference|key",
)
TIME_NAMES = (
    r"event_?time",
    r"(transaction|txn|tx|trans|trx|payment)_?(date_?time|timestamp|time|date|ts)",
    r"timestamp|date_?time|ts",
    r".*creat.*",
    r".*time.*",
    r".*date.*",
)
AMOUNT_NAMES = (
    r"((transaction|txn|tx|payment)_?)?(amount|amt)",
    r".*(amount|amt).*",
    r"value|price|total|sum",
)
LABEL_NAMES = (r"(is|tx)_?fraud", r"fraud(ulent)?(_?(flag|label|ind|indicator))?", r"class|label|target")
KIND_NAMES = (r"kind|type", r"(transaction|txn|tx|trans|payment|operation)_?(type|kind)")
ORIGINAL_NAMES = (r".*(original|parent|refund_of|refunded|reversed|related|linked).*",)
CURRENCY_NAMES = (r".*(currency|curr|ccy).*",)
KNOWN_LATER = re.compile(r"fraud|chargeback|charge_back|dispute|reported|investigat")
REFUND = re.compile(r"refund|reversal|reversed|return|credit_note|cancel", re.IGNORECASE)
NOT_SETTLED = re.compile(r"declin|block|reject|fail|denied|refused", re.IGNORECASE)
ENTITY_WORDS = (
    "customer|client|user|account|acct|card|pan|merchant|shop|store|terminal|pos|device|ip|email|e_mail|mail|phone"
    "|mobile|iban|payer|payee|beneficiary|sender|receiver|recipient|member|holder|employee|name_orig|name_dest"
)
ENTITY_NAME = re.compile(
    rf"(.*_)?({ENTITY_WORDS})(_?(id|no|nr|num|number|key|ref|hash|uid|uuid|address|addr|fingerprint))?"
)
ID_SUFFIX = re.compile(r".*_?(id|uid|uuid|key|hash|number|num|no|nr|address|addr|fingerprint)")
CHECK = "CHECK: "


@dataclass
class SchemaDraft:
    """The schema inferred so far; columns in `unassigned` have no role yet."""

    unassigned: dict[str, ColumnProfile]
    rows: int
    keys: dict[str, object] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    never_by_silence: dict[str, list[str]] = field(default_factory=dict)  # labels.never_by_silence

    def decide(self, key: str, value: object, reason: str) -> None:
        """Set the value of a key."""
        self.keys[key] = value
        self.reasons.setdefault(key, []).append(reason)

    def take(self, key: str, column: ColumnProfile, reason: str) -> None:
        """Assign a column to a key."""
        self.decide(key, column.name, reason)
        del self.unassigned[column.name]

    def add(self, key: str, column: ColumnProfile, reason: str) -> None:
        """Append a column to a list key."""
        listed = self.keys.setdefault(key, [])
        assert isinstance(listed, list)
        listed.append(column.name)
        self.reasons.setdefault(key, []).append(f"{quoted(column.name)}: {reason}")
        self.unassigned.pop(column.name, None)

    def leave_out(self, column: ColumnProfile, reason: str) -> None:
        """Leave a column without a role."""
        self.reasons.setdefault("left out", []).append(f"{quoted(column.name)}: {reason}")
        del self.unassigned[column.name]


def snake_case(name: str) -> str:
    """Return a name in lower case with underscores: txnAmount and "Txn Amount" are both txn_amount."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", separated.lower()).strip("_")


def quoted(name: str) -> str:
    """Return a name in quotes, escaped to one line."""
    from pipeline.config.config import as_toml

    return as_toml(name)


def _named(columns: Sequence[ColumnProfile], patterns: Sequence[str]) -> ColumnProfile | None:
    for pattern in patterns:
        for column in columns:
            if re.fullmatch(pattern, snake_case(column.name)):
                return column
    return None


def find_label(draft: SchemaDraft) -> ColumnProfile | None:
    """Find the label column, if there is one."""
    binary = [column for column in draft.unassigned.values() if column.binary]
    column = _named(binary, LABEL_NAMES)
    if column is None:
        draft.decide("is_fraud", "", "no column holds labels: ingest labels by themselves")
        return None
    share = sum(_is_yes(value) for value in column.values) / draft.rows
    draft.take("is_fraud", column, f"a yes or no named like a label, yes in {share:.2%} of the rows")
    if share > 0.5:
        draft.reasons["is_fraud"].append(CHECK + "more than half are fraud: check that 1 means fraud")
    return column


def _is_yes(value: str) -> bool:
    return value.lower() in validators.FRAUD_WORDS


def find_transaction_id(draft: SchemaDraft) -> None:
    """Find a column with a different value in every row."""
    unique = [
        c
        for c in draft.unassigned.values()
        if c.unique and not len(c.instants) and (c.whole or not c.number) and not c.refusal(validators.ids)
    ]
    named = _named(unique, ID_NAMES)
    column = named or next(iter(unique), None)
    if column is None:
        reason = CHECK + "no column has a different value in every row: name one, or make one in the query"
        draft.decide("transaction_id", "transaction_id", reason)
        return
    reason = f"different in each of {draft.rows:,} rows"
    draft.take(
        "transaction_id",
        column,
        reason + (", and named like an id" if named else f"; {CHECK}its name does not say that it is an id"),
    )


def find_event_time(draft: SchemaDraft) -> None:
    """Find a column of ISO 8601 times, and whether it needs a time zone."""
    times = [column for column in draft.unassigned.values() if len(column.instants)]
    column = _named(times, TIME_NAMES) or next(iter(times), None)
    if column is None:
        reason = (
            CHECK
            + "no column holds ISO 8601 times such as 2025-01-31T12:00:00+01:00: convert one and name it"
        )
        draft.decide("event_time", "event_time", reason)
        draft.decide("timezone", "", "only for times without an offset from UTC")
        return
    first, last = (
        np.datetime64(int(moment), "us").astype("datetime64[s]")
        for moment in (column.instants.min(), column.instants.max())
    )
    draft.take("event_time", column, f"times from {first} to {last}")
    if (column.instants % DAY == 0).all():
        draft.reasons["event_time"].append(
            CHECK + "only dates without a time of day: features of hours and short windows will be useless"
        )
    if column.naive:
        reason = CHECK + 'the times have no offset from UTC: set their zone, such as "Europe/Paris"'
        draft.decide("timezone", "UTC", reason)
    else:
        draft.decide("timezone", "", "the times have an offset from UTC")


def find_amount(draft: SchemaDraft) -> None:
    """Find a column of numbers named like an amount, else the decimal column with most different values."""
    numbers = [column for column in draft.unassigned.values() if column.number]
    named = _named(numbers, AMOUNT_NAMES)
    fractions = [column for column in numbers if not column.whole]
    column = named or max(fractions, key=lambda c: len(c.distinct), default=None)
    if column is None:
        reason = (
            CHECK + "no column holds amounts such as 12.50 (a point, no separators): convert one and name it"
        )
        draft.decide("amount", "amount", reason)
        return
    amounts = columns.numbers(column.column).values
    reason = f"numbers from {np.nanmin(amounts):,.2f} to {np.nanmax(amounts):,.2f}"
    draft.take(
        "amount",
        column,
        reason
        + (", named like an amount" if named else f"; {CHECK}its name does not say that it is an amount"),
    )


def find_currency(draft: SchemaDraft) -> None:
    """Find a column of currency codes; a constant one only sets the base currency."""
    codes = [
        c
        for c in draft.unassigned.values()
        if c.distinct and all(re.fullmatch("[A-Z]{3}", v) for v in c.distinct)
    ]
    column = _named(codes, CURRENCY_NAMES)
    if column is None:
        draft.decide("currency", "", "no column with currencies: all amounts are in base_currency")
        draft.decide("base_currency", "EUR", CHECK + "the file does not say which currency it is")
        draft.decide("rates", "", "only needed with several currencies")
        return
    most = max(sorted(column.distinct), key=column.values.count)
    if len(column.distinct) == 1:
        draft.leave_out(column, f"always {most}, which is now base_currency")
        draft.decide("currency", "", f"{quoted(column.name)} is {most} in every row of the sample")
        draft.decide("base_currency", most, "the only currency in the sample")
        draft.decide("rates", "", "only needed with several currencies")
        return
    draft.take("currency", column, f"{len(column.distinct)} currency codes")
    draft.decide("base_currency", most, "the most frequent currency; costs and reports are in it")
    draft.decide("rates", "rates.csv", CHECK + "make this file with the columns date, currency, rate")


def find_kind(draft: SchemaDraft) -> None:
    """Find a column that marks refunds, and the column that names the refunded payment."""
    few = [
        c
        for c in draft.unassigned.values()
        if len(c.distinct) <= FEW_VALUES and any(map(REFUND.search, c.distinct))
    ]
    column = _named(few, KIND_NAMES)
    if column is None:
        draft.decide("kind", "", "no column distinguishes refunds from payments")
        draft.decide("original_id", "", "only needed with kind")
        return
    refunds = sorted(filter(REFUND.search, column.distinct))
    draft.take("kind", column, f"{len(column.distinct)} kinds, some of which give money back")
    draft.decide("refund_kinds", refunds, CHECK + "the kinds that give money back")
    original = _named([c for c in draft.unassigned.values() if c.present < draft.rows], ORIGINAL_NAMES)
    if original is None:
        draft.decide("original_id", "", "no column names the refunded payment")
    else:
        draft.take("original_id", original, f"present in {original.present / draft.rows:.1%} of the rows")


def leave_out_unusable(draft: SchemaDraft) -> None:
    """Leave out constants, further times, and columns whose names are not valid for a field."""
    first_names = dict[str, str]()
    for column in list(draft.unassigned.values()):
        name = column.name
        earlier = first_names.setdefault(name.lower(), name)
        refusal = column.refusal(validators.texts, ENOUGH)
        if not name.strip():
            draft.leave_out(column, "it has no name")
        elif refusal:
            draft.leave_out(column, refusal)
        elif len(column.distinct) < 2:
            draft.leave_out(column, "the same in every row" if column.distinct else "empty in every row")
        elif len(column.instants):
            draft.leave_out(column, "a further time; data known only after event_time must not be used")
        elif COLUMN.fullmatch(name) is None or name.lower() in SYSTEM_COLUMNS or earlier != name:
            reason = "not a valid name for a field; rename it (letters, digits, underscores, not the name of a column of fraudwatch or of the database)"
            draft.leave_out(column, reason)


def leave_out_leaks(draft: SchemaDraft, label: ColumnProfile) -> None:
    """Leave out columns that leak the label: known only because the payment was fraud."""
    fraud = [_is_yes(value) for value in label.values]
    for column in list(draft.unassigned.values()):
        if _leaks(column, fraud):
            reason = f"constant where {quoted(label.name)} is no, mostly different where it is yes"
            draft.leave_out(column, f"{CHECK}probably a leak of the label: {reason}")
        elif KNOWN_LATER.search(snake_case(column.name)):
            draft.leave_out(
                column, f"{CHECK}by its name it is known only after the fraud, so it may leak the label"
            )


def _leaks(column: ColumnProfile, fraud: Sequence[bool]) -> bool:
    genuine = {value for value, is_fraud in zip(column.values, fraud, strict=True) if not is_fraud}
    frauds = [value for value, is_fraud in zip(column.values, fraud, strict=True) if is_fraud]
    other = sum(value not in genuine for value in frauds)
    return len(genuine) == 1 and other > 0 and other >= 0.5 * len(frauds)


def find_personal(draft: SchemaDraft) -> None:
    """Make card numbers, e-mail addresses and IBANs hashed entities."""
    for column in list(draft.unassigned.values()):
        kind = next((test.kind for test in PERSONAL_DATA_TESTS if column.looks_like(test)), None)
        if kind and draft.rows >= REPEAT_ROWS_MIN and column.unique:
            draft.leave_out(column, f"{kind}, never repeated: useless for learning, and better not stored")
        elif kind:
            draft.add("entities", column, f"{kind}, each {column.repeats:.1f} times on average")
            draft.add("hash", column, f"{kind}: stored only as keyed hashes; set FRAUDWATCH_HASH_KEY")


def find_fields(draft: SchemaDraft) -> None:
    """Assign the remaining columns to entities, categorical and numeric."""
    for column in list(draft.unassigned.values()):
        distinct = len(column.distinct)
        if _is_entity(column, draft.rows):
            draft.add(
                "entities",
                column,
                f"{distinct:,} different values, each {column.repeats:.1f} times on average",
            )
        elif _is_category(column):
            draft.add("categorical", column, f"{distinct} different values")
            _note_never_by_silence(draft, column)
        elif column.number:
            draft.add("numeric", column, f"numbers, {distinct:,} different ones")
        elif column.repeats >= 2:
            draft.add(
                "entities", column, f"{CHECK}{distinct:,} texts, each {column.repeats:.1f} times on average"
            )
        else:
            draft.leave_out(
                column, f"{distinct:,} different texts in {column.present:,} rows: they hardly repeat"
            )


def _is_entity(column: ColumnProfile, rows: int) -> bool:
    name = snake_case(column.name)
    if column.number and not column.whole:
        return False
    if ENTITY_NAME.fullmatch(name) is None and not re.fullmatch(r".*_(id|uid|uuid|key|hash)", name):
        return False
    if rows >= REPEAT_ROWS_MIN and column.repeats < 1.1:
        return False
    # "device" with the values phone and computer is a type of device, not a device
    return ID_SUFFIX.fullmatch(name) is not None or len(column.distinct) > FEW_VALUES or column.repeats < 20


def _is_category(column: ColumnProfile) -> bool:
    if column.number and not column.whole:
        return False
    few = FEW_NUMBERS if column.number else FEW_VALUES
    return len(column.distinct) <= few and (column.repeats >= 2 or column.binary)


def _note_never_by_silence(draft: SchemaDraft, column: ColumnProfile) -> None:
    if not column.number and (blocked := sorted(filter(NOT_SETTLED.search, column.distinct))):
        draft.never_by_silence[column.name] = blocked
