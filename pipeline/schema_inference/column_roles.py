"""
Which column of a sample has which role, told by name and content together.

A column called "amount" that holds no numbers is no amount. Each `find_…` takes what it is sure of out of
`Guess.left`, so the order of calls matters: the roles that exist once first, then the fields.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.config.consistency import SYSTEM_COLUMNS
from pipeline.config.sections import COLUMN
from pipeline.schema_inference.column_profile import PERSONAL, Column

FEW_VALUES = 50  # a text with no more different values is a category
FEW_NUMBERS = 10  # the same for whole numbers
MANY = 1000  # rows from which a column that never repeats is no entity
# The first pattern that fits decides among several columns.
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
WHO = (
    "customer|client|user|account|acct|card|pan|merchant|shop|store|terminal|pos|device|ip|email|e_mail|mail|phone"
    "|mobile|iban|payer|payee|beneficiary|sender|receiver|recipient|member|holder|employee|name_orig|name_dest"
)
ENTITY_NAME = re.compile(
    rf"(.*_)?({WHO})(_?(id|no|nr|num|number|key|ref|hash|uid|uuid|address|addr|fingerprint))?"
)
ID_SUFFIX = re.compile(r".*_?(id|uid|uuid|key|hash|number|num|no|nr|address|addr|fingerprint)")
ASK = "CHECK: "


@dataclass
class Guess:
    """What is decided so far; the columns in `left` have no role yet."""

    left: dict[str, Column]
    rows: int
    roles: dict[str, object] = field(default_factory=dict)
    why: dict[str, list[str]] = field(default_factory=dict)
    silent: dict[str, list[str]] = field(default_factory=dict)  # labels.never_by_silence

    def decide(self, key: str, value: object, reason: str) -> None:
        """Give a key its value."""
        self.roles[key] = value
        self.why.setdefault(key, []).append(reason)

    def take(self, key: str, column: Column, reason: str) -> None:
        """Give a key a column."""
        self.decide(key, column.name, reason)
        del self.left[column.name]

    def add(self, key: str, column: Column, reason: str) -> None:
        """Append a column to a key that is a list."""
        listed = self.roles.setdefault(key, [])
        assert isinstance(listed, list)
        listed.append(column.name)
        self.why.setdefault(key, []).append(f"{quoted(column.name)}: {reason}")
        self.left.pop(column.name, None)

    def leave_out(self, column: Column, reason: str) -> None:
        """Give a column no role."""
        self.why.setdefault("left out", []).append(f"{quoted(column.name)}: {reason}")
        del self.left[column.name]


def plain(name: str) -> str:
    """Return a name in lower case with underscores: txnAmount and "Txn Amount" are both txn_amount."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def quoted(name: str) -> str:
    """Return a name in quotes, on one line whatever is in it."""
    from pipeline.config.config import as_toml

    return as_toml(name)


def _named(columns: Sequence[Column], patterns: Sequence[str]) -> Column | None:
    for pattern in patterns:
        for column in columns:
            if re.fullmatch(pattern, plain(column.name)):
                return column
    return None


def find_label(guess: Guess) -> Column | None:
    """The column that says which transactions were fraud, if there is one."""
    binary = [column for column in guess.left.values() if column.binary]
    column = _named(binary, LABEL_NAMES)
    if column is None:
        guess.decide(
            "is_fraud", "", "no column says which were fraud: load labels with `fraudwatch ingest labels`"
        )
        return None
    share = sum(_is_yes(value) for value in column.values) / guess.rows
    guess.take("is_fraud", column, f"a yes or no named like a label, yes in {share:.2%} of the rows")
    if share > 0.5:
        guess.why["is_fraud"].append(ASK + "more than half are fraud: is it the right way round?")
    return column


def _is_yes(value: str) -> bool:
    return value.lower() in ("1", "true", "yes", "y", "t")


def find_transaction_id(guess: Guess) -> None:
    """A column present and different in every row."""
    unique = [c for c in guess.left.values() if c.unique and not c.instants and (c.whole or not c.number)]
    named = _named(unique, ID_NAMES)
    column = named or next(iter(unique), None)
    if column is None:
        reason = ASK + "no column is present and different in every row: name one, or make one in the query"
        guess.decide("transaction_id", "transaction_id", reason)
        return
    reason = f"different in each of {guess.rows:,} rows"
    guess.take(
        "transaction_id", column, reason + (", and named like an id" if named else f"; {ASK}only that")
    )


def find_event_time(guess: Guess) -> None:
    """A column of ISO 8601 times, and whether they need a time zone."""
    times = [column for column in guess.left.values() if column.instants]
    column = _named(times, TIME_NAMES) or next(iter(times), None)
    if column is None:
        reason = (
            ASK + "no column holds ISO 8601 times such as 2025-01-31T12:00:00+01:00: convert one and name it"
        )
        guess.decide("event_time", "event_time", reason)
        guess.decide("timezone", "", "only for times without an offset from UTC")
        return
    first, last = min(map(str, column.instants)), max(map(str, column.instants))
    guess.take("event_time", column, f"times from {first} to {last}")
    if all(instant.time().isoformat() == "00:00:00" for instant in column.instants):
        guess.why["event_time"].append(
            ASK + "only days, no time of day: hours and short windows will say nothing"
        )
    if column.naive:
        reason = ASK + 'the times carry no offset from UTC: name the zone they are in, such as "Europe/Paris"'
        guess.decide("timezone", "UTC", reason)
    else:
        guess.decide("timezone", "", "the times carry their offset from UTC")


def find_amount(guess: Guess) -> None:
    """A column of numbers named like an amount, else the most varied one with decimals."""
    numbers = [column for column in guess.left.values() if column.number]
    named = _named(numbers, AMOUNT_NAMES)
    fractions = [column for column in numbers if not column.whole]
    column = named or max(fractions, key=lambda c: len(c.distinct), default=None)
    if column is None:
        reason = (
            ASK + "no column holds amounts such as 12.50 (a point, no separators): convert one and name it"
        )
        guess.decide("amount", "amount", reason)
        return
    amounts = [float(value) for value in column.distinct]
    reason = f"numbers from {min(amounts):,.2f} to {max(amounts):,.2f}"
    guess.take(
        "amount", column, reason + (", named like an amount" if named else f"; {ASK}the name does not say")
    )


def find_currency(guess: Guess) -> None:
    """A column of currency codes; one that is always the same only names the base currency."""
    codes = [
        c for c in guess.left.values() if c.distinct and all(re.fullmatch("[A-Z]{3}", v) for v in c.distinct)
    ]
    column = _named(codes, CURRENCY_NAMES)
    if column is None:
        guess.decide("currency", "", "no column with currencies: all amounts are in base_currency")
        guess.decide("base_currency", "EUR", ASK + "the file does not say which currency it is")
        guess.decide("rates", "", "only needed with several currencies")
        return
    most = max(sorted(column.distinct), key=column.values.count)
    if len(column.distinct) == 1:
        guess.leave_out(column, f"always {most}, which is now base_currency")
        guess.decide("currency", "", f"{quoted(column.name)} is {most} in every row of the sample")
        guess.decide("base_currency", most, "the only currency in the sample")
        guess.decide("rates", "", "only needed with several currencies")
        return
    guess.take("currency", column, f"{len(column.distinct)} currency codes")
    guess.decide("base_currency", most, "the most frequent currency; costs and reports are in it")
    guess.decide("rates", "rates.csv", ASK + "make this file with the columns date, currency, rate")


def find_kind(guess: Guess) -> None:
    """A column whose values name refunds, and the one that names what a refund gives back."""
    few = [
        c
        for c in guess.left.values()
        if len(c.distinct) <= FEW_VALUES and any(map(REFUND.search, c.distinct))
    ]
    column = _named(few, KIND_NAMES)
    if column is None:
        guess.decide("kind", "", "no column tells payments from refunds")
        guess.decide("original_id", "", "only needed with kind")
        return
    refunds = sorted(filter(REFUND.search, column.distinct))
    guess.take("kind", column, f"{len(column.distinct)} kinds, some of which give money back")
    guess.decide("refund_kinds", refunds, ASK + "the kinds that give money back")
    original = _named([c for c in guess.left.values() if c.present < guess.rows], ORIGINAL_NAMES)
    if original is None:
        guess.decide("original_id", "", "no column names the payment a refund gives back")
    else:
        guess.take("original_id", original, f"present in {original.present / guess.rows:.1%} of the rows")


def leave_out_useless(guess: Guess) -> None:
    """Constants, second times, and names that cannot be a field's."""
    seen = dict[str, str]()
    for column in list(guess.left.values()):
        name = column.name
        earlier = seen.setdefault(name.lower(), name)
        if not name.strip():
            guess.leave_out(column, "it has no name")
        elif len(column.distinct) < 2:
            guess.leave_out(column, "the same in every row" if column.distinct else "empty in every row")
        elif column.instants:
            guess.leave_out(column, "a second time; what is known later than event_time must not be used")
        elif COLUMN.fullmatch(name) is None or name.lower() in SYSTEM_COLUMNS or earlier != name:
            reason = (
                "no name for a field here; rename it (letters, digits, underscores, none of fraudwatch's own)"
            )
            guess.leave_out(column, reason)


def leave_out_leaks(guess: Guess, label: Column) -> None:
    """What was known only because it was fraud."""
    fraud = [_is_yes(value) for value in label.values]
    for column in list(guess.left.values()):
        if _leaks(column, fraud):
            reason = f"the same wherever {quoted(label.name)} is no and mostly different where it is yes"
            guess.leave_out(column, f"{ASK}probably a leak of the label: {reason}")
        elif KNOWN_LATER.search(plain(column.name)):
            guess.leave_out(column, f"{ASK}by its name known only after the fraud, so it may leak the label")


def _leaks(column: Column, fraud: Sequence[bool]) -> bool:
    genuine = {value for value, is_fraud in zip(column.values, fraud, strict=True) if not is_fraud}
    frauds = [value for value, is_fraud in zip(column.values, fraud, strict=True) if is_fraud]
    other = sum(value not in genuine for value in frauds)
    return len(genuine) == 1 and other > 0 and other >= 0.5 * len(frauds)


def find_personal(guess: Guess) -> None:
    """Card numbers, e-mail addresses and IBANs: entities, but stored as hashes."""
    for column in list(guess.left.values()):
        found = next((test.finds for test in PERSONAL if column.looks_like(test)), None)
        if found and guess.rows >= MANY and column.unique:
            guess.leave_out(column, f"{found}, never twice: nothing to learn from, and better not stored")
        elif found:
            guess.add("entities", column, f"{found}, each {column.repeats:.1f} times on average")
            guess.add("hash", column, f"{found}: stored only as keyed hashes; set FRAUDWATCH_HASH_KEY")


def find_fields(guess: Guess) -> None:
    """Sort what is left into entities, categories and numbers."""
    for column in list(guess.left.values()):
        distinct = len(column.distinct)
        if _is_entity(column, guess.rows):
            guess.add(
                "entities",
                column,
                f"{distinct:,} different values, each {column.repeats:.1f} times on average",
            )
        elif _is_category(column):
            guess.add("categorical", column, f"{distinct} different values")
            _note_silence(guess, column)
        elif column.number:
            guess.add("numeric", column, f"numbers, {distinct:,} different ones")
        elif column.repeats >= 2:
            guess.add(
                "entities", column, f"{ASK}{distinct:,} texts, each {column.repeats:.1f} times on average"
            )
        else:
            guess.leave_out(
                column, f"{distinct:,} different texts in {column.present:,} rows: they hardly repeat"
            )


def _is_entity(column: Column, rows: int) -> bool:
    name = plain(column.name)
    if column.number and not column.whole:
        return False
    if ENTITY_NAME.fullmatch(name) is None and not re.fullmatch(r".*_(id|uid|uuid|key|hash)", name):
        return False
    if rows >= MANY and column.repeats < 1.1:
        return False
    # a bare "device" with the values phone and computer is a kind of device, not a device
    return ID_SUFFIX.fullmatch(name) is not None or len(column.distinct) > FEW_VALUES or column.repeats < 20


def _is_category(column: Column) -> bool:
    if column.number and not column.whole:
        return False
    few = FEW_NUMBERS if column.number else FEW_VALUES
    return len(column.distinct) <= few and (column.repeats >= 2 or column.binary)


def _note_silence(guess: Guess, column: Column) -> None:
    if not column.number and (stopped := sorted(filter(NOT_SETTLED.search, column.distinct))):
        guess.silent[column.name] = stopped
