"""
Finds the columns that every payment has: its id, time, amount, currency and kind.

A column called "amount" that holds no numbers is not an amount. What is known only after the payment, or is personal data, has
none of these roles.
"""

import re
import zoneinfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.formats import columns as columns_of
from pipeline.ingest.formats import validators
from pipeline.ingest.formats.grammars.numbers import currencies_of
from pipeline.number_text import percent
from pipeline.schema_inference import names
from pipeline.schema_inference.column_profile import CURRENCIES, ColumnProfile
from pipeline.schema_inference.draft import CHECK, SchemaDraft, quoted
from storage.frames import DAY

FEW_VALUES = 50  # a text column with at most so many different values is categorical
NEARLY_UNIQUE = 0.99
STATUSES = 0.8  # share of the different values of a status that are words for one
REPEATED = 0.05  # share of the rows that are further items of an order
MONEY = r"^[^.,]*([.,]\d{1,4})?$"  # amounts have few decimals
REFUND = re.compile(
    r"refund|reversal|reversed|return|credit_note|cancel|erstatt|storn|rembours|reembols|devoluci|rimbors|terugbetal|estorn",
    re.IGNORECASE,
)
NOT_PAID = re.compile(
    r"declin|fail|block|cancell?ed|refus|reject|denied|void|expired|abgelehnt|storniert|fehlgeschlagen|gesperrt|abgebrochen|annul"
    r"|echou|rechazad|cancelad|denegad|fallid|rifiutat|negat|fallit|geweigerd|geannuleerd|mislukt|afgewezen|recusad|negad|falhou",
    re.IGNORECASE,
)
PAID = re.compile(
    r"authori[sz]|autori[sz]|approv|captured|settled|(^|_)paid|succe|completed|gebucht|genehmigt|bezahlt|erfolgreich|autorisiert"
    r"|accepte|paye(_|$)|reussi|abouti|aprobad|aceptad|pagad[ao]|autorizad|approvat|accettat|pagat[ao]|autorizzat|betaald|geslaagd"
    r"|goedgekeurd|aprovad|aceit[ao]|(^|_)pag[ao](_|$)"
)
UNDECIDED = re.compile(
    r"pending|processing|(^|_)open(_|$)|error|offen|ausstehend|en_(attente|cours)|pendiente|in_attesa|pendente"
)
MERCHANT_INITIATED = re.compile(
    r"(^|_)(merchant|mit|recurr\w*|cont_?auth|continuous|(?<!not_)retr(y|ied)|subscription|instal?lments?|unscheduled\w*|ucof|abo|wiederkehrend\w*)(_|$)"
)
YES = frozenset({"1", "true", "t", "yes", "y", "ja", "oui", "si", "sim"})
NOT_PAYMENT = re.compile(  # columns with such words that say how something else went
    r"3_?ds|three_d|avs|cvc|cvv|csc|e_?mail|phone|device|kyc|aml|identity|review|check|verif|authenti|login|document|address|risk"
)
_FREQUENT_TEXT = """
    EUR USD GBP CHF JPY CAD AUD SEK NOK DKK PLN CZK INR CNY BRL
"""
DEBITS = 0.9  # share of negative amounts, from which on payments are written as debits
DEBIT_CREDIT = (  # money that leaves an account, and that comes to it
    ("d", "c"), ("dr", "cr"), ("debit", "credit"), ("dbit", "crdt"), ("s", "h"), ("soll", "haben"), ("debito", "credito"), ("dare", "avere"),
    ("debe", "haber"), ("af", "bij"),
)  # fmt: skip
CARD_KIND = re.compile(r"card|karte|carte|tarjeta|carta|kaart|funding|brand|product|method|scheme")
REFERENCES = 0.8  # share of the values of a column that are ids of other rows, from which on it names the payments that they refer to
FREQUENT = frozenset(_FREQUENT_TEXT.split())
SIGNS = {"€": "EUR", "£": "GBP", "¥": "JPY", "$": "USD", "₹": "INR", "zł": "PLN", "Kč": "CZK"}


def find_kind(draft: SchemaDraft) -> None:
    """Find a column that marks refunds."""
    if draft.payments is not None:
        return  # it is made from the events
    few = [
        c
        for c in draft.unassigned.values()
        if len(c.distinct) <= FEW_VALUES and any(map(REFUND.search, c.distinct)) and not _holds_statuses(c)
    ]
    column = names.first_named(few, names.KIND)
    if column is None:
        draft.decide("kind", "", "no column distinguishes refunds from payments")
        _note_indicator(draft)
        draft.decide("original_id", "", "only needed with kind")
        return
    refunds = sorted(filter(REFUND.search, column.distinct))
    draft.take("kind", column, f"{len(column.distinct)} kinds, some of which give money back")
    draft.decide("refund_kinds", refunds, CHECK + "the kinds that give money back")


def _note_indicator(draft: SchemaDraft) -> None:
    """Ask whether a column that says debit or credit tells which rows give money back."""
    for column in draft.unassigned.values():
        words = {names.normalised(value): value for value in column.distinct[:3]}
        credit = next((words[c] for d, c in DEBIT_CREDIT if set(words) == {d, c}), None)
        if credit and not CARD_KIND.search(names.normalised(column.name)):
            answer = f"kind = {quoted(column.name)} and refund_kinds = [{quoted(credit)}]"
            draft.note(
                "kind",
                f"{CHECK}does {quoted(credit)} in {quoted(column.name)} give money back? Then set {answer}",
            )


def find_transaction_id(draft: SchemaDraft) -> None:
    """Find a column with a different value in every row, or one that is named like an id and nearly has."""
    if draft.transaction is not None:
        return
    columns = [c for c in _eligible(draft) if _is_id(c)]
    unique = [c for c in columns if c.unique]
    nearly = [c for c in columns if not c.unique and len(c.distinct) >= NEARLY_UNIQUE * draft.rows]
    column = names.first_named(unique, names.ID)
    if column:
        draft.take(
            "transaction_id", column, f"different in each of {draft.rows:,} rows, and named like an id"
        )
        return
    column = next((c for c in columns if _is_order(draft, c)), None)
    if column:
        draft.take(
            "transaction_id",
            column,
            f"named like an id: {len(column.distinct):,} of them in {draft.rows:,} rows",
        )
        draft.order = column
        draft.decide(
            "line_items", True, "an order has several rows: those that repeat its id and amount are left out"
        )
        return
    column = names.first_named(nearly, names.ID)
    if column:
        again = draft.rows - len(column.distinct)
        reason = f"named like an id; {CHECK}{again:,} of {draft.rows:,} rows repeat a value or have none, and will be rejected or duplicates"
        draft.take("transaction_id", column, reason)
        return
    column = next((c for c in unique if _is_name_of_row(c)), None)
    if column:
        reason = f"different in each of {draft.rows:,} rows; {CHECK}its name does not say that it is an id"
        draft.take("transaction_id", column, reason)
        return
    draft.decide(
        "transaction_id",
        "",
        "no column is sure to name the payments: ids are made from time, amount, kind and entities",
    )


def find_original(draft: SchemaDraft) -> None:
    """Find the column that names the refunded payment: its values are ids of other rows."""
    if draft.payments is not None:
        return  # it is made from the events
    columns = [
        c
        for c in draft.unassigned.values()
        if 0 < c.present < draft.rows and not c.time_formats and c.name not in draft.personal
    ]
    columns = [c for c in columns if (c.whole or not c.number) and len(c.distinct) > 1]
    original = next((c for c in columns if _refers(draft, c)), None)
    if not draft.keys.get("kind"):
        if original is not None:
            draft.leave_out(original, f"{CHECK}its values are ids of other rows: original_id, if kind is set")
        return
    original = original or names.first_named(columns, names.ORIGINAL)
    if original is None or draft.transaction is None:
        draft.decide("original_id", "", "no column names the refunded payment")
    else:
        draft.take(
            "original_id", original, f"present in {percent(original.present / draft.rows)} of the rows"
        )


def _refers(draft: SchemaDraft, column: ColumnProfile) -> bool:
    """Whether most values are ids of other rows, and hardly repeat as those of a customer do; numbers may be any ids."""
    if draft.transaction is None or draft.transaction.whole or column.repeats >= 2:
        return False
    ids = pa.array(draft.transaction.distinct, pa.string())
    known = pc.is_in(pa.array(column.distinct, pa.string()), ids).to_numpy(zero_copy_only=False)
    same = (
        column.text.to_numpy(zero_copy_only=False) == draft.transaction.text.to_numpy(zero_copy_only=False)
    ).mean()
    return bool(
        column.counts[known].sum() >= REFERENCES * column.present
        and same < REFERENCES * column.present / draft.rows
    )


def find_event_time(draft: SchemaDraft) -> None:
    """Take the column of event times, and find out whether it needs a time zone."""
    column = draft.event_time
    if column is None:
        reason = (
            CHECK
            + "no column holds times that can be read, such as 2025-01-31T12:00:00+01:00: convert one and name it"
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
        reason = "only dates without a time of day: features of hours and short windows will be useless"
        draft.note("event_time", CHECK + reason)
    if not column.naive:
        draft.decide("timezone", "", _zone_text(column.form.time))
        return
    zone = next((c for c in draft.unassigned.values() if _is_zone(c)), None)
    if re.search(r"(^|_)(utc|gmt)(_|$)", names.normalised(column.name)):
        draft.decide("timezone", "UTC", "the name of the column says so")
    elif zone is not None:
        draft.decide("timezone", zone.distinct[0], f"the column {quoted(zone.name)} says so")
        draft.leave_out(zone, "it is now timezone")
    else:
        reason = 'the times have no offset from UTC: set their zone, such as "Europe/Paris"'
        for other in [c for c in draft.unassigned.values() if c.distinct and _names_zones(c)]:
            reason += f"; {quoted(other.name)} says {', '.join(other.distinct[:4])}"
            draft.leave_out(other, "it names the time zone, which is one for all rows: see timezone")
        draft.decide("timezone", "UTC", CHECK + reason)


def _names_zones(column: ColumnProfile) -> bool:
    return (
        re.fullmatch(r"(.*_)?(time_?zone|tz|zeitzone|fuso|zona_horaria)", names.normalised(column.name))
        is not None
    )


def _zone_text(time: str) -> str:
    """Why times need no time zone."""
    if time.startswith("epoch"):
        return "the times count from 1970 in UTC"
    if time.startswith("elapsed"):
        return "the times count from format.time_start, which has an offset from UTC"
    return "the times have an offset from UTC"


def _is_zone(column: ColumnProfile) -> bool:
    """Whether a column names one time zone, that of all rows."""
    if len(column.distinct) != 1 or not _names_zones(column):
        return False
    try:
        zoneinfo.ZoneInfo(column.distinct[0])
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def find_amount(draft: SchemaDraft) -> None:
    """Find a column of numbers named like an amount, else the decimal column with most different values."""
    numbers = [
        c
        for c in _eligible(draft)
        if c.nearly_money and not c.binary and not names.NOT_AMOUNT.search(names.normalised(c.name))
    ]
    varying = [c for c in numbers if len(c.distinct) > 1]
    whole = [c for c in varying if not names.LESSER_AMOUNT.search(names.normalised(c.name))]
    named = names.first_named(whole, names.AMOUNT) or names.first_named(varying, names.AMOUNT)
    money = [
        c
        for c in varying
        if not c.whole and c.matches(MONEY) and not re.fullmatch(r"[vcd]_?\d+", c.name, re.IGNORECASE)
    ]
    column = named or max(money, key=lambda c: len(c.distinct), default=None)
    if column is None:
        reason = CHECK + "no column holds amounts such as 12.50 that differ: convert one and name it"
        draft.decide("amount", "amount", reason)
        return
    amounts = column.numbers
    reason = f"numbers from {np.nanmin(amounts):,.2f} to {np.nanmax(amounts):,.2f}"
    by_name = ", named like an amount" if named else f"; {CHECK}its name does not say that it is an amount"
    draft.amount = column
    refused = "" if column.money else f"; {CHECK}some are no numbers, and their rows will be rejected"
    draft.take("amount", column, reason + by_name + refused)
    negative = float((amounts < 0).sum() / np.isfinite(amounts).sum())
    if negative >= DEBITS:
        reason = f"payments are written as debits: {percent(negative)} of the amounts are negative, and so all money would be"
        draft.note("amount", f"{CHECK}{reason}: convert the sign in the export or in a query")
    _note_other_half(draft, column)
    _note_kinds(draft)


def _note_other_half(draft: SchemaDraft, amount: ColumnProfile) -> None:
    """Say which column holds the amounts of the other direction, as debit and credit of a bank: each is empty where the other is not."""
    filled = np.isfinite(amount.numbers) & (amount.numbers != 0)
    for column in list(draft.unassigned.values()):
        if filled.all() or not column.money or column.binary:
            continue
        others = np.isfinite(column.numbers) & (column.numbers != 0)
        if others.any() and (filled ^ others).mean() >= NEARLY_UNIQUE:
            both = f"{quoted(amount.name)} and {quoted(column.name)} are two halves of the amounts: each is empty where the other is filled"
            remedy = f"rows with {quoted(column.name)} alone are refused, until the export or a query puts both into one column"
            draft.note("amount", f"{CHECK}{both}; {remedy}")
            draft.leave_out(
                column, f"it holds the amounts of the rows in which {quoted(amount.name)} is empty"
            )


def _note_kinds(draft: SchemaDraft) -> None:
    """List the kinds of payments, how many there are, and which amounts are negative."""
    kind, amount = draft.kind, draft.amount
    if kind is None or amount is None:
        return
    listed = []
    for place in np.argsort(-kind.counts, kind="stable").tolist():
        negative = float((amount.numbers[kind.codes == place] < 0).mean())
        share = "all negative" if negative == 1 else f"{percent(negative)} negative"
        listed.append(f"{kind.distinct[place]} {kind.counts[place]:,}" + (f" ({share})" if negative else ""))
    draft.note("refund_kinds", f"{CHECK}which of them give money back? {', '.join(listed)}")


def find_currency(draft: SchemaDraft) -> None:
    """Find a column of currency codes."""
    codes = [c for c in _eligible(draft) if c.distinct and {v.upper() for v in c.distinct} <= CURRENCIES]
    column = names.first_named(codes, names.CURRENCY)
    column = column or next((c for c in codes if FREQUENT & {v.upper() for v in c.distinct}), None)
    if column is None:
        _decide_base_by_name(draft)
        return
    counts: dict[str, int] = {}
    for value, count in zip(column.distinct, column.counts.tolist(), strict=True):
        counts[value.upper()] = counts.get(value.upper(), 0) + count
    draft.currencies = sorted(counts)
    most = max(sorted(counts), key=counts.__getitem__)
    if len(counts) == 1:
        # Kept although it says nothing yet: a later payment in another currency waits for a rate instead of counting as this one.
        draft.take("currency", column, f"{most} in every row of the sample")
        draft.decide("base_currency", most, "the only currency in the sample")
        draft.decide("rates", "", "only needed with several currencies; payments in others wait for a rate")
        return
    draft.take("currency", column, f"{len(counts)} currency codes")
    draft.decide("base_currency", most, "the most frequent currency; costs and reports are in it")
    draft.decide("rates", "rates.csv", CHECK + "make this file with the columns date, currency, rate")


def _decide_base_by_name(draft: SchemaDraft) -> None:
    """The base currency of a file without a column of currencies: by the name of its amount, else a guess."""
    draft.decide("currency", "", "no column with currencies: all amounts are in base_currency")
    name = str(draft.keys.get("amount", ""))
    spelled = [
        code
        for code in re.findall(r"[A-Z]{3}", name.upper())
        if re.search(rf"(?i)(^|[^a-z]){code}([^a-z]|$)", name)
    ]
    code = next((code for code in spelled if code in CURRENCIES), None)
    signs = "".join([name, *(draft.amount.units if draft.amount else ())])
    sign = next((code for sign, code in SIGNS.items() if sign in signs), None)
    if code is None and draft.amount is not None and len(draft.amount.units & CURRENCIES) == 1:
        code = next(iter(draft.amount.units & CURRENCIES))
    counts = _currencies_beside(draft.amount) if draft.amount else {}
    if len(counts) > 1:
        most = max(counts, key=counts.__getitem__)
        named = ", ".join(f"{unit} in {rows:,} rows" for unit, rows in counts.items())
        reason = f"the amounts name {named}; those in another currency than base_currency are refused, until a column has the currencies"
        draft.decide("base_currency", most, CHECK + reason)
    elif code or sign:
        by = f"by the name or the values of {quoted(name)}"
        reason = by if code or sign != "USD" else f"{CHECK}{by}; the sign $ may be of another dollar"
        draft.decide("base_currency", code or sign, reason)
    else:
        draft.decide("base_currency", "EUR", CHECK + "the file does not say which currency it is")
    draft.decide("rates", "", "only needed with several currencies")


def _currencies_beside(amount: ColumnProfile) -> dict[str, int]:
    """In how many rows each currency is written beside the amount, as far as that is clear, by its sign or code."""
    counts: dict[str, int] = {}
    signs = {sign.upper(): code for sign, code in SIGNS.items()}
    for marks in columns_of.numbers(amount.text, amount.form.decimal, amount.form.thousands).marks:
        for mark in filter(lambda counted: counted["values"], pc.value_counts(marks).to_pylist()):
            code = signs.get(mark["values"], mark["values"])
            counts[code] = counts.get(code, 0) + mark["counts"]
    return {code: counts[code] for code in sorted(counts) if code in CURRENCIES}


def find_never_by_silence(draft: SchemaDraft) -> None:
    """Name the values of the payment's own status that say that it did not happen, so that nobody would charge it back."""
    categorical = draft.keys.get("categorical", [])
    assert isinstance(categorical, list)
    columns = [c for c in draft.categories if c.name in categorical and not c.number]
    candidates = [c for c in columns if any(map(NOT_PAID.search, c.distinct))]
    column = names.first_named(candidates, names.STATUS)
    column = column or next((c for c in candidates if _holds_statuses(c)), None)
    if column is not None and "labels.never_by_silence" not in draft.keys:
        words = sorted(value for value in column.distinct if NOT_PAID.search(value))
        reason = "Such payments never bring a chargeback: without a label they are not genuine, but unknown."
        draft.decide("labels.never_by_silence", {column.name: words}, reason)


def find_initiated_by(draft: SchemaDraft) -> None:
    """Name the field that says who initiated a payment, and its words for recurring and retried payments."""
    named = {column.name: words for column in draft.categories if (words := _merchant_words(column))}
    hashed = draft.keys.get("hash", [])
    assert isinstance(hashed, list)
    candidates = [c for c in draft.categories if c.name in named and c.name not in hashed]
    column = names.first_named(candidates, names.INITIATOR)
    if column is not None:
        draft.decide("initiated_by", column.name, "it says which payments recur or are retried by a merchant")
        reason = "its words for them: such payments stay out of velocity and first-meeting features"
        draft.decide("merchant_initiated", named[column.name], CHECK + reason)


def _merchant_words(column: ColumnProfile) -> list[str]:
    """The values that say that a payment recurs or is retried: some of them, but not all."""
    words = [value for value in column.distinct if MERCHANT_INITIATED.search(names.normalised(value))]
    if column.binary and not words:
        words = [value for value in column.distinct if names.normalised(value) in YES]
    return sorted(words) if len(words) < len(column.distinct) else []


def _holds_statuses(column: ColumnProfile) -> bool:
    """Whether most values say how a payment went, some that it happened and others that it did not."""
    values = [names.normalised(value) for value in column.distinct]
    refused = [value for value in values if NOT_PAID.search(value)]
    paid = [value for value in values if PAID.search(value) and value not in refused]
    others = [v for v in values if v not in (*refused, *paid) and (REFUND.search(v) or UNDECIDED.search(v))]
    if not paid or all(map(REFUND.search, refused)) or NOT_PAYMENT.search(names.normalised(column.name)):
        return False
    return len(refused) + len(paid) + len(others) >= STATUSES * len(values)


def _eligible(draft: SchemaDraft) -> list[ColumnProfile]:
    """The columns that may have a role that every payment has."""
    return [
        c for c in draft.unassigned.values() if c.name not in draft.personal and not names.known_later(c.name)
    ]


def is_money(column: ColumnProfile) -> bool:
    """Whether all values are numbers, and some have a currency beside them."""
    return column.money and bool(column.units)


def is_foreign_money(draft: SchemaDraft, column: ColumnProfile) -> bool:
    """Whether a currency beside the numbers is none of the payments'."""
    ours = set(draft.currencies or [str(draft.keys.get("base_currency"))])
    return is_money(column) and any(not currencies_of(unit) & ours for unit in column.units)


def _is_id(column: ColumnProfile) -> bool:
    name = names.normalised(column.name)  # "" of one in other letters than Latin ones
    if column.time_formats or is_money(column) or (name and names.SEQUENCE.fullmatch(name)):
        return False
    return (column.whole or not column.number) and not column.refusal(validators.ids, NEARLY_UNIQUE)


def _is_order(draft: SchemaDraft, column: ColumnProfile) -> bool:
    """Whether adjacent rows share the id of an order, and its amount or none."""
    if draft.amount is None or not names.fits(column.name, names.ORDER) or column.present < draft.rows:
        return False
    again = column.codes[1:] == column.codes[:-1]
    orders = len(again) + 1 - again.sum()
    if again.mean() < REPEATED or orders > len(column.distinct) / NEARLY_UNIQUE:
        return False
    amounts = draft.amount.numbers
    first = np.maximum.accumulate(np.where(np.append(True, ~again), np.arange(len(amounts)), 0))
    same = np.isnan(amounts) | (amounts == amounts[first])
    return bool(same[1:][again].mean() >= NEARLY_UNIQUE and np.isfinite(amounts[first]).all())


def _is_name_of_row(column: ColumnProfile) -> bool:
    """Whether a column without the name of an id may be one: neither free text nor numbers that differ by accident."""
    name = names.normalised(column.name)
    if names.FREE_TEXT.fullmatch(name) or names.fits(column.name, (*names.AMOUNT, *names.EVENT_TIME)):
        return False
    if names.entity_rank(column.name) is not None or names.NOT_AMOUNT.search(name):
        return False
    return not any(" " in value for value in column.distinct[:100])
