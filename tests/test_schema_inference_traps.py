"""What `init --from` must not propose: values known only afterwards, clocks, six names of one customer, a constant amount."""

import random
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stdnum import iban, luhn

from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.schema_inference.names import KNOWN_AT, LABEL, field_names, fits, known_later, normalised
from pipeline.schema_inference.propose import Proposal, propose
from pipeline.schema_inference.volume import Volume
from tests.support.commands import fraudwatch
from tests.support.ingest import NOW
from tests.support.payments import write_csv

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
ROWS = 1200
ENVIRONMENT = {"FRAUDWATCH_HASH_KEY": "0123456789abcdef"}
Column = list[Any] | Callable[[int], Any]


def proposed(
    folder: Path, per_day: float = 13.0, rows: int = ROWS, **columns: Column
) -> tuple[Proposal, Config]:
    """What is proposed for rows with id, time and these columns: values to draw from, or a function of the row."""
    draw = random.Random(3)
    usual: dict[str, Column] = {
        "transaction_id": lambda n: f"t{n * 7919 % 99991:x}",
        "created_at": lambda n: (FIRST + timedelta(days=n / per_day)).isoformat(),
        "customer_id": lambda n: f"c{n * 37 % 211}",
        "amount": lambda n: f"{5 + n * 7919 % 9973 / 100:.2f}",
    }
    table = {name: given for name, given in (usual | columns).items() if given}
    lines = [
        ",".join(str(given(n) if callable(given) else draw.choice(given)) for given in table.values())
        for n in range(rows)
    ]
    write_csv(folder / "sample.csv", ",".join(table), lines)
    return load(folder, folder / "sample.csv")


def load(folder: Path, path: Path) -> tuple[Proposal, Config]:
    proposal = propose(path, NOW)
    (folder / "proposed.toml").write_text(proposal.toml, encoding="utf-8")
    return proposal, load_config(folder / "proposed.toml", ENVIRONMENT)


def fields(config: Config) -> dict[str, str]:
    """Each field and its kind, by the name in the file."""
    names = {new: old for old, new in config.schema_.columns.items()}
    return {
        names.get(name, name): kind
        for kind in ("entities", "numeric", "categorical")
        for name in getattr(config.schema_, kind)
    }


def reason_of(proposal: Proposal, name: str) -> str:
    """Why a column was left out; "" if it was not."""
    found = [line for line in proposal.explanations if line.startswith(f'left out: "{name}": ')]
    return found[0] if found else ""


def every(number: int, value: Any, other: Any = "") -> Callable[[int], Any]:
    """A value in every so many rows."""
    return lambda n: (value(n) if callable(value) else value) if n % number == 0 else other


AFTERWARDS: list[tuple[str, Column]] = [
    ("dispute_status", every(100, "lost")),
    ("disputed_amount", every(100, lambda n: n / 7)),
    ("Disputed Amount", every(100, lambda n: n / 7)),
    ("amount_refunded", [0, 1.5]),
    ("refunded_at", every(9, "2025-02-01T00:00:00+00:00")),
    ("chargeback_date", every(90, "2025-02-01T00:00:00+00:00")),
    ("outcome", ["ok", "bad"]),
    ("outcome_type", ["authorized", "manual_review"]),
    ("review_status", ["", "open", "closed"]),
    ("fraud_score_after", lambda n: n % 97),
    ("isFlaggedFraud", every(300, 1, 0)),
    ("settled_at", lambda n: f"2025-03-{1 + n % 28:02}T00:00:00+00:00"),
    ("payout_id", lambda n: f"po_{n // 9}"),
    ("fraud_scenario", lambda n: n % 4),
    ("newbalanceOrig", lambda n: n * 31 % 997),
    ("Rückbuchungen", ["keine", "eine"]),
    ("litiges", [0, 1, 2]),
    ("case_status", ["open", "closed"]),
]


@pytest.mark.parametrize(("name", "given"), AFTERWARDS, ids=[name for name, _ in AFTERWARDS])
@pytest.mark.parametrize("labelled", [False, True])
def test_what_is_known_only_afterwards_is_never_a_field(
    tmp_path, name: str, given: Column, labelled: bool
) -> None:
    label: dict[str, Column] = {"is_fraud": lambda n: int(n % 60 == 1)} if labelled else {}
    proposal, config = proposed(tmp_path, **{name: given}, **label)
    assert fields(config) == {"customer_id": "entities"}
    assert "known only after the payment" in reason_of(proposal, name)


LATER_NAMES = """
    Fulfillment Status, Fulfilled at, fulfilment_date, shipped_at, shipmentStatus, shipping_date, delivered, delivery_status, Settled,
    payout_date, closed_at, Cancelled at, cancelReason, is_cancelled, return_reason, returned, is_return, tracking_number, captured,
    Lieferstatus, Versanddatum, geliefert_am, Retoure, Storniert am, statut_livraison, Annulé le, fecha_entregado, cancelado, consegnato,
    verzonden, geannuleerd_op
"""
NAMES_AT_THE_TIME = """
    Shipping, Shipping Method, shipping_amount, shipping_country, shipping_state, delivery_address, delivery_method, delivery_time_slot,
    fulfillment_method, cancellation_policy, return_url, returning_customer, Versandkosten, Lieferland, adresse_livraison, aller_retour,
    close_price, disclosed, annual_income, order_status, Livre
"""


@pytest.mark.parametrize(("listed", "later"), [(LATER_NAMES, True), (NAMES_AT_THE_TIME, False)])
def test_what_becomes_of_an_order_is_known_later_and_where_it_is_sent_is_not(
    listed: str, later: bool
) -> None:
    names = [name.strip() for name in listed.split(",")]
    assert [name for name in names if known_later(name) != later] == []


@pytest.mark.parametrize(
    ("name", "known_at"),
    [
        *((name, True) for name in ("Rückbuchung am", "Date de fraude", "fecha_contracargo", "Data della contestazione")),
        *((name, True) for name in ("terugboeking op", "data_estorno", "Betrug gemeldet am", "chargebackAt", "Dispute Date (UTC)")),
        *((name, False) for name in ("Rückbuchung", "Betrag", "date_operation", "fraud_type", "confirmed")),
    ],
)  # fmt: skip
def test_the_time_of_a_label_is_recognised_in_other_languages(name: str, known_at: bool) -> None:
    assert fits(name, KNOWN_AT) == known_at


@pytest.mark.parametrize(
    ("given", "leaks"),
    [
        (lambda n: f"c{n % 7}" if n % 60 == 0 else "", True),  # filled for frauds only, with several values
        (lambda n: f"c{n % 7}" if n % 60 == 0 or n == 7 else "", True),  # and for one payment that is none
        (lambda n: "" if n % 60 == 0 else f"c{n % 7}", True),  # empty for frauds only
        (lambda n: "stop" if n % 60 == 0 else f"c{n % 7}", True),  # one value only for frauds
        (lambda n: 1.5 + n if n % 60 == 0 else 0, True),
        (lambda n: f"c{n % 7}" if n % 5 == 0 else "", False),  # also for many others
        (lambda n: f"c{n % 7}" if n % 60 in (0, 1) else "", False),  # half of them are frauds
        (lambda n: "x" if n == 60 else f"c{n % 7}", False),  # a single row tells nothing
    ],
)
def test_a_column_that_tells_the_label_is_left_out(tmp_path: Path, given: Column, leaks: bool) -> None:
    proposal, config = proposed(tmp_path, note_code=given, is_fraud=lambda n: int(n % 60 == 0))
    assert ("note_code" not in fields(config)) == leaks
    assert ("probably a leak of the label" in reason_of(proposal, "note_code")) == leaks


def test_one_row_of_a_few_frauds_tells_nothing(tmp_path: Path) -> None:
    _, config = proposed(tmp_path, note_code=every(1000, "x", "y"), is_fraud=every(500, 1, 0))
    assert "note_code" in fields(config)


@pytest.mark.parametrize(
    ("name", "given", "clock"),
    [
        ("unix_time", lambda n: 1_735_000_000 + n * 6646, True),
        ("step", lambda n: n // 10, True),
        ("Unnamed: 0", lambda n: n, True),
        ("index", lambda n: (n * 7919) % ROWS, True),  # by its name
        ("countdown", lambda n: 10_000 - n, True),
        ("hour", lambda n: n * 24 // 13 % 24, False),
        ("distance", lambda n: n * 7919 % 997, False),
        ("screen_resolution", lambda n: n * 31 % 997, False),
        ("weight", lambda n: n + n * 7919 % 997, False),  # rises, and varies
    ],
)
def test_clocks_and_counters_are_no_features(tmp_path: Path, name: str, given: Column, clock: bool) -> None:
    proposal, config = proposed(tmp_path, **{name: given})
    assert (fields(config).get(name) != "numeric") == clock
    assert bool(re.search("a clock or a counter|a number of rows", reason_of(proposal, name))) == clock


def card_number(n: int) -> str:
    body = f"400000{n:09}"
    return next(body + str(digit) for digit in range(10) if luhn.is_valid(body + str(digit)))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("a", lambda n: card_number(n % 300)),
        ("a", lambda n: f"{card_number(n % 300)}.0"),  # as pandas writes numbers if one is missing
        ("transaction_number", lambda n: card_number(n % 300)),
        ("cc_num", lambda n: card_number(n % 3)),  # too few to be sure by their values alone
        ("reference", lambda n: " ".join(re.findall("....", card_number(n % 300)))),
        ("buyer", lambda n: f"user{n % 300}@example.org"),
        ("contact", lambda n: f"+49 170 {1000000 + n % 300}"),
        ("telefon", lambda n: f"0170/{1000000 + n % 300}"),
    ],
)
def test_personal_data_is_a_hashed_entity_whatever_it_is_called(
    tmp_path: Path, name: str, given: Column
) -> None:
    proposal, config = proposed(tmp_path, **{name: given})
    assert (config.schema_.hash, fields(config)[name]) == ((name,), "entities")
    assert any("export FRAUDWATCH_HASH_KEY=" in line for line in proposal.heading)


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (every(100, lambda n: f"paid w/ {card_number(n)}", "ok"), 12),
        (every(100, lambda n: " ".join(re.findall("....", card_number(n))), "ok"), 12),
        (every(600, card_number, 7), 2),
        (lambda n: f"n{n % 40}" if n else f"card {card_number(1)}", 1),
        (lambda n: f"ref {4_000_000_000_000_000 + n % 40 * 77_777}", 0),  # ids, of which few look like cards
        (every(100, "order 12345", "ok"), 0),
    ],
)
def test_a_text_with_a_card_number_in_a_few_rows_is_left_out(
    tmp_path: Path, given: Column, rows: int
) -> None:
    proposal, config = proposed(tmp_path, tag=given)
    holds = f"holds card numbers in {rows} row{'s' if rows > 1 else ''}"
    assert (holds in reason_of(proposal, "tag")) == bool(rows)
    assert ("tag" in fields(config)) == (not rows)


def test_a_card_number_is_no_transaction_id(tmp_path: Path) -> None:
    _, config = proposed(tmp_path, rows=900, transaction_id=[], payment_id=card_number)
    assert config.schema_.transaction_id == ""
    assert config.schema_.hash == ("payment_id",)


@pytest.mark.parametrize(
    ("name", "given", "secret"),
    [
        ("cvv", lambda n: 100 + n % 900, True),
        ("card_cvc2", lambda n: 100 + n % 900, True),
        ("PIN", lambda n: 1000 + n % 900, True),
        ("pin_block", lambda n: f"{n * 7919:016X}", True),
        ("swipe", lambda n: f"%B{card_number(n)}^DOE/J^2512101", True),
        ("track2", lambda n: f";{card_number(n)}=25121010000012345?", True),
        ("cvc_check", ["pass", "fail"], False),  # the result of a check
        ("security_code", ["M", "N"], True),  # no field may be called that
        ("avs_check", ["M", "N"], False),
        ("pincode_area", lambda n: 1000 + n % 900, False),
    ],
)
def test_security_codes_and_track_data_are_left_out(
    tmp_path: Path, name: str, given: Column, secret: bool
) -> None:
    proposal, config = proposed(tmp_path, **{name: given})
    assert ("must never be stored" in reason_of(proposal, name)) == secret
    assert (name not in fields(config)) == secret


def test_six_names_of_one_cardholder_are_one_entity(tmp_path: Path) -> None:
    def holder(n: int) -> int:
        return n * 37 % 97

    proposal, config = proposed(
        tmp_path,
        customer_id=[],
        cc_num=lambda n: card_number(holder(n)),
        first=lambda n: f"Ann{holder(n) % 60}",
        last=lambda n: f"Bee{holder(n) % 90}",
        street=lambda n: f"{holder(n)} Main Street",
        zip=lambda n: 10_000 + holder(n),
        dob=lambda n: f"19{50 + holder(n) % 40}-03-01",
        gender=lambda n: "MF"[holder(n) % 2],
        state=lambda n: f"S{holder(n) % 40}",
        category=[f"k{n}" for n in range(14)],
        merchant=[f"m{n}" for n in range(80)],
        city_pop=lambda n: holder(n) ** 2 * 331,
    )
    assert fields(config) == {
        "cc_num": "entities", "merchant": "entities", "gender": "categorical", "state": "categorical",
        "category": "categorical", "city_pop": "numeric",
    }  # fmt: skip
    for name in ("first", "last", "street", "zip", "dob"):
        assert 'always the same for one "cc_num"' in reason_of(proposal, name)


def test_of_two_ids_of_one_customer_the_one_that_needs_no_hash_is_taken(tmp_path: Path) -> None:
    proposal, config = proposed(tmp_path, e_mail=lambda n: f"u{n * 37 % 211}@example.org")
    assert fields(config) == {"customer_id": "entities"}
    assert 'always the same for one "customer_id"' in reason_of(proposal, "e_mail")


def full_name(n: int) -> str:
    return f"{chr(65 + n % 23)}nna {chr(65 + n * 7 % 26)}erg{'er' * (n % 5)}{'in' * (n // 115)}"


@pytest.mark.parametrize(
    ("name", "other", "given", "chosen"),
    [
        ("Auftraggeber/Empfänger", "IBAN", lambda n: f"DE{iban.calc_check_digits(f'DE00{n:018}')}{n:018}", "IBAN"),
        ("Kunde", "E-Mail", lambda n: f"u{n}@example.org", "E-Mail"),
        ("customer", "cc_num", card_number, "cc_num"),
        ("Kunde", "Konto", lambda n: 70_000_000 + n * 7919, "Konto"),
        ("customer", "phone", lambda n: f"+49 170 {1000000 + n}", "customer"),  # readable, and as good
    ],
)  # fmt: skip
@pytest.mark.parametrize("name_first", [True, False])
def test_a_name_is_not_the_entity_where_the_same_person_has_a_number(
    tmp_path: Path, name: str, other: str, given: Callable[[int], Any], chosen: str, name_first: bool
) -> None:
    def person(n: int) -> int:
        return n * 37 % 211

    both: dict[str, Column] = {name: lambda n: full_name(person(n)), other: lambda n: given(person(n))}
    columns = both if name_first else dict(reversed(both.items()))
    _, config = proposed(tmp_path, customer_id=[], **columns)
    assert fields(config) == {chosen: "entities"}
    assert bool(config.schema_.hash) == (chosen not in ("Konto", "customer"))


def test_cards_of_one_account_are_entities_beside_it(tmp_path: Path) -> None:
    _, config = proposed(tmp_path, account_id=lambda n: f"a{n * 37 % 211 // 2}")  # customers share accounts
    assert fields(config) == {"customer_id": "entities", "account_id": "entities"}


def test_no_entity_is_said_loudly(tmp_path: Path) -> None:
    proposal, _ = proposed(tmp_path, customer_id=[])
    assert any(line.startswith("Entities: NONE") for line in proposal.heading)
    assert any(line.startswith("entities: CHECK") for line in proposal.explanations)


def decimals(n: int) -> str:
    return f"{n * 7919 % 997 / 100:.2f}"


@pytest.mark.parametrize(
    ("columns", "amount"),
    [
        ({"amount": ["1.00"], "price": decimals}, "price"),  # a constant is not the amount
        ({"fee": decimals, "net": decimals, "balance_after": decimals, "amount": decimals}, "amount"),
        ({"Converted Amount": decimals, "Amount": decimals}, "Amount"),
        ({"Subtotal": decimals, "Total": decimals}, "Total"),
        ({"local_amount": decimals, "price": decimals}, "price"),
        ({f"V{k}": (lambda n: f"{n * 7919 % 99991 / 1e5:.5f}") for k in range(3)} | {"Amount": decimals}, "Amount"),
        ({"tax_amount": decimals, "Betrag (EUR)": decimals}, "Betrag (EUR)"),
        ({"latitude": decimals, "rate": decimals, "montant": decimals}, "montant"),
        ({"oldbalanceOrg": decimals, "age": [20, 30.5], "importe": decimals}, "importe"),
        ({"latitude": decimals, "oldbalanceOrg": decimals, "charged": decimals}, "charged"),  # by its values
        ({"latitude": decimals, "oldbalanceOrg": decimals}, "amount"),  # none: a name to be replaced
    ],
)  # fmt: skip
def test_the_amount_is_chosen_by_name(tmp_path: Path, columns: dict[str, Column], amount: str) -> None:
    _, config = proposed(tmp_path, **{"amount": [], **columns})
    assert config.schema_.amount == amount
    if "oldbalanceOrg" in columns:
        assert fields(config)["oldbalanceOrg"] == "numeric"  # known before the payment


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        ("tax", lambda n: f"${n * 7919 % 97 / 100:.2f}", "numeric"),
        ("Cash", every(2, lambda n: f"${n * 7919 % 97 / 100:.2f}", "$0.00"), "numeric"),
        ("Card", lambda n: f"${n % 3 * n * 7919 % 9973 / 100:.2f}", "numeric"),  # money paid by card
        ("Fees", lambda n: f"-${n * 7919 % 97 / 100:.2f}", "numeric"),
        ("extra", ["$1", "$2"], "numeric"),
        ("extra", lambda n: f"{n * 7919 % 97} USD", "numeric"),
        ("extra", lambda n: f"{n * 7919 % 97} EUR", None),  # rows in dollars would be refused
    ],
)  # fmt: skip
def test_money_is_a_number_and_never_an_entity(tmp_path: Path, name: str, given: Column, kind) -> None:
    _, config = proposed(tmp_path, amount=lambda n: f"${5 + n * 7919 % 9973 / 100:.2f}", **{name: given})
    assert fields(config).get(name) == kind


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("status", ["ok", "declined", "reversed", "refunded"], {"status": ("declined",)}),
        ("Status", ["Paid", "Failed", "Canceled"], {"Status": ("Canceled", "Failed")}),
        (
            "payment_state",
            ["gebucht", "abgelehnt", "storniert"],
            {"payment_state": ("abgelehnt", "storniert")},
        ),
        ("estado", ["aceptada", "rechazada"], {"estado": ("rechazada",)}),
        ("response", ["approved", "void"], {"response": ("void",)}),
        ("Type", ["Authorised", "Refused"], {"Type": ("Refused",)}),  # by its values
        ("Type", ["Authorised", "Refused", "Cancelled"], {"Type": ("Cancelled", "Refused")}),
        ("Vorgang", ["genehmigt", "abgelehnt", "offen"], {"Vorgang": ("abgelehnt",)}),
        ("decision", ["approved", "declined by bank"], {"decision": ("declined by bank",)}),
        ("type", ["sale", "refund", "failed"], {}),  # kinds
        ("card_check", ["approved", "declined"], {}),
        ("three_ds", ["authenticated", "failed"], {}),
        ("device_status", ["ok", "blocked"], {}),  # of something else
        ("three_ds_result", ["ok", "failed"], {}),
        ("email_status", ["ok", "failed"], {}),
        ("result", ["ok", "reversed", "refunded"], {}),
    ],
)
def test_only_payments_that_did_not_happen_are_never_genuine_by_silence(
    tmp_path, name, values, words
) -> None:
    _, config = proposed(tmp_path, **{name: values})
    assert config.labels.never_by_silence == words


@pytest.mark.parametrize(
    ("columns", "currency", "base"),
    [
        ({"currency": ["eur"]}, "currency", "EUR"),  # a later payment may be in another one
        ({"currency": ["eur", "usd", "usd"]}, "currency", "USD"),
        ({"Währung": ["CHF", "Eur", "CHF"]}, "Währung", "CHF"),
        ({"money": ["GBP", "EUR", "GBP"]}, "money", "GBP"),
        ({"answer": ["YES", "NOT"]}, "", "EUR"),  # no currencies
        ({"currency_mode": ["MAX", "MIN"]}, "", "EUR"),
        ({"amount": [], "Amount (CHF)": decimals}, "", "CHF"),
        ({"amount": [], "Betrag in €": decimals}, "", "EUR"),
        ({"amount": [], "amount_usd": decimals}, "", "USD"),
    ],
)
def test_currencies_are_those_of_iso_4217(
    tmp_path, columns: dict[str, Column], currency: str, base: str
) -> None:
    proposal, config = proposed(tmp_path, **columns)
    assert (config.schema_.currency, config.schema_.base_currency) == (currency, base)
    asked = any(line.startswith("base_currency: CHECK") for line in proposal.explanations)
    assert asked == (list(columns) in (["answer"], ["currency_mode"]))


ROLE_NAMES = [
    # id, time, amount, currency, customer, shop in several languages
    ("Buchungsnummer", "Buchungstag", "Betrag", "Währung", "Kunde", "Händler-ID"),
    ("Transaktions-ID", "Datum", "Betrag (EUR)", "Währung", "Kontonummer", "Empfänger"),
    ("id_transaction", "date_operation", "montant", "devise", "client", "commerçant"),
    ("id_transaccion", "fecha", "importe", "moneda", "cliente", "comercio"),
    ("id_transazione", "data", "importo", "divisa", "conto", "esercente"),
    ("transactie_id", "transactiedatum", "bedrag", "munt", "klantnummer", "winkel"),
    ("id_transação", "data", "valor", "moeda", "conta", "loja"),
    ("txnId", "txnDateTime", "txnAmount", "ccy", "accountNumber", "merchantName"),
]


@pytest.mark.parametrize("named", ROLE_NAMES, ids=[names[0] for names in ROLE_NAMES])
def test_roles_are_recognised_in_other_languages(tmp_path: Path, named: tuple[str, ...]) -> None:
    transaction, time, amount, currency, customer, shop = named
    _, config = proposed(
        tmp_path,
        transaction_id=[], created_at=[], amount=[], customer_id=[],
        **{
            "other": lambda n: f"x{n}",
            transaction: lambda n: f"b{n}",
            "Geburtsdatum": lambda n: f"1980-01-{1 + n % 28:02}",
            time: lambda n: (FIRST + timedelta(hours=n)).isoformat(),
            "extra": lambda n: f"{n % 991 / 7:.2f}",
            amount: lambda n: f"{n * 7919 % 997 / 100:.2f}",
            currency: ["EUR", "USD"],
            customer: lambda n: f"k{n * 37 % 211}",
            shop: [f"s{n}" for n in range(80)],
        },
    )  # fmt: skip
    schema = config.schema_
    assert (schema.transaction_id, schema.event_time, schema.amount, schema.currency) == (
        transaction,
        time,
        amount,
        currency,
    )
    assert {name: kind for name, kind in fields(config).items() if kind == "entities"} == {
        customer: "entities", shop: "entities"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "yes", "no", "written"),
    [
        ("is_fraud", "1", "0", False),
        ("fraud", "Yes", "No", False),
        ("Betrug", "ja", "nein", True),
        ("fraude", "oui", "non", True),
        ("es_fraude", "sí", "no", True),
        ("frode", "vero", "falso", True),
        ("Betrug", "Betrug", "echt", True),
        ("label", "fraudulent", "legit", True),
        ("class", "F", "G", True),
        ("is_fraud", "T", "F", False),
    ],
)
def test_labels_in_other_words_are_recognised(
    tmp_path: Path, name: str, yes: str, no: str, written: bool
) -> None:
    _, config = proposed(tmp_path, **{name: every(50, yes, no)})
    assert config.schema_.is_fraud == name
    words = (config.labels.fraud_words, config.labels.genuine_words)
    assert words == (
        ((yes.lower(),), (no.lower(),))
        if written
        else (Config().labels.fraud_words, Config().labels.genuine_words)
    )


def test_a_dispute_column_says_only_what_was_fraud(tmp_path: Path) -> None:
    proposal, config = proposed(
        tmp_path,
        dispute_reason=lambda n: (
            ["fraudulent", "product_not_received", "general"][n // 50 % 3] if n % 50 == 0 else ""
        ),
        dispute_date=every(50, lambda n: (FIRST + timedelta(days=n / 13 + 9)).isoformat()),
    )
    assert (config.schema_.is_fraud, config.schema_.known_at) == ("dispute_reason", "dispute_date")
    labels, default = config.labels, Config().labels
    assert (labels.fraud_words, labels.unlabelled_words, labels.fraud_reasons) == (
        default.fraud_words, (), default.fraud_reasons
    )  # fmt: skip
    assert labels.dispute_types == {**default.dispute_types, "other": ("general",)}
    assert 'labels.dispute_types: CHECK: "general" is taken for' in "\n".join(proposal.explanations)
    assert not any("--known-after" in line for line in proposal.heading)  # each label has its time


LABELS_BY_VALUE = [
    # name, fraud, the others, words for fraud, for genuine, others
    *(
        (name, fraud, [genuine], [fraud.lower()], [genuine.lower()], [])
        for name in ("status", "Estado", "outcome", "x", "risk.state")
        for fraud, genuine in (("confirmed fraud", "genuine"), ("Fraude", "Liquidada"), ("fraudulent", "legit"), ("chargeback", "settled"))
    ),
    ("status", "fraud", ["genuine"], [*Config().labels.fraud_words], [*Config().labels.genuine_words], []),
    ("Rückbuchung", "ja", ["nein"], ["ja"], ["nein"], []),
    ("litige", "oui", ["non"], ["oui"], ["non"], []),
    ("chargeback", "Y", ["N"], [*Config().labels.fraud_words], [*Config().labels.genuine_words], []),
    ("chargeback", "chargeback", ["settled"], ["chargeback"], ["settled"], []),
    ("chargeback", "bad", ["good"], ["bad"], ["good"], []),
    ("不正", "不正", ["正常"], ["不正"], ["正常"], []),
    ("結果", "不正", ["正常"], ["不正"], ["正常"], []),
    ("outcome", "confirmed fraud", ["genuine", "under review"], ["confirmed fraud"], ["genuine"], ["under review"]),
    ("status", "Chargeback", ["Paid", "Failed"], ["chargeback"], ["paid"], ["failed"]),
    ("risk.is_fraud", "true", ["false"], [*Config().labels.fraud_words], [*Config().labels.genuine_words], []),
    ("risk.chargeback", "true", ["false"], [*Config().labels.fraud_words], [*Config().labels.genuine_words], []),
    ("Remarks", "fraud reported", [""], ["fraud reported"], [*Config().labels.genuine_words], []),  # says only fraud
]  # fmt: skip


@pytest.mark.parametrize(("name", "fraud", "others", "frauds", "genuine", "unlabelled"), LABELS_BY_VALUE)
def test_a_column_with_a_word_for_fraud_is_the_label_whatever_its_name(
    tmp_path: Path, name: str, fraud: str, others: list[str], frauds, genuine, unlabelled
) -> None:
    proposal, config = proposed(
        tmp_path, **{name: lambda n: fraud if n % 50 == 0 else others[n % len(others)]}
    )
    assert config.schema_.is_fraud == name
    labels = config.labels
    assert [list(labels.fraud_words), list(labels.genuine_words), list(labels.unlabelled_words)] == [
        frauds, genuine, unlabelled,
    ]  # fmt: skip
    sure = fits(name, LABEL)
    assert any(line.startswith("is_fraud: CHECK") for line in proposal.explanations) != sure


@pytest.mark.parametrize(
    ("name", "values", "left_out"),
    [
        ("status", ["bad", "good"], True),  # too uncertain
        ("status", ["fraud", "under review"], True),
        ("Type", ["Payment", "Chargeback"], False),  # kinds of rows
        ("status", ["Paid", "Failed", "Refunded", "Chargeback"], False),
        ("status", ["Y", "N"], False),
        ("screening", ["suspected fraud", "ok"], False),  # known with the payment
        ("screening", ["no fraud", "unknown"], False),
    ],
)
def test_words_that_may_be_labels_are_asked_about(
    tmp_path: Path, name: str, values: list[str], left_out: bool
) -> None:
    proposal, config = proposed(tmp_path, **{name: lambda n: values[n * 7919 % 101 % len(values)]})
    assert config.schema_.is_fraud == ""
    assert ("set is_fraud to it if it is your label" in reason_of(proposal, name)) == left_out
    assert (name in fields(config)) != left_out


def test_the_time_of_a_nested_label_is_recognised(tmp_path: Path) -> None:
    dispute = every(50, lambda n: (FIRST + timedelta(days=n / 13 + 9)).isoformat())
    label = every(50, "true", "false")
    _, config = proposed(tmp_path, **{"risk.chargeback": label, "risk.chargeback_at": dispute})
    assert config.schema_.known_at == "risk.chargeback_at"


SETTINGS = [
    # payments a day, days, labelled: flags a day, maturity, holdout, every, in days
    (7, 120, False, 1, 30, 7, 7),
    (7, 400, True, 1, 30, 7, 7),
    (40, 90, True, 1, 21, 7, 7),
    (300, 30, True, 3, 7, 5, 7),
    (300, 20, True, 3, 3, 3, 1),
    (2000, 2, True, 20, 1 / 24, 1, 1),
]


@pytest.mark.parametrize(
    ("per_day", "days", "labelled", "flags", "maturity", "holdout", "every_days"), SETTINGS
)
def test_settings_fit_the_volume_and_the_span(
    tmp_path, per_day, days, labelled, flags, maturity, holdout, every_days
) -> None:
    label: dict[str, Column] = {"is_fraud": lambda n: int(n % 60 == 1)} if labelled else {}
    _, config = proposed(tmp_path, per_day=per_day, rows=per_day * days - 1, **label)
    day = 86_400_000_000
    assert config.alerts.per_day == flags
    assert (config.labels.maturity, config.training.holdout, config.training.every) == (
        maturity * day, holdout * day, every_days * day,
    )  # fmt: skip
    assert config.schedule.window == day


def test_keys_that_need_no_change_are_not_written(tmp_path: Path) -> None:
    proposal, _ = proposed(tmp_path, per_day=60, rows=60 * 130, is_fraud=lambda n: int(n % 60 == 1))
    assert re.findall(r"^\[(.*)\]$", proposal.toml, re.MULTILINE) == ["schema", "alerts"]


@pytest.mark.parametrize(("per_day", "days"), [(20, 30), (700, 2)])
def test_the_proposed_commands_lead_to_flags(tmp_path: Path, per_day: int, days: int) -> None:
    proposed(tmp_path, per_day=per_day, rows=per_day * days - 1, is_fraud=lambda n: int(n % 60 == 1))
    heading = fraudwatch(tmp_path, "init", "--from", "sample.csv", "-o", "my.toml")
    commands = [shlex.split(line)[1:] for line in heading.splitlines() if line.startswith("  fraudwatch")]
    assert [command[2] for command in commands] == ["init", "ingest", "backfill"]
    outputs = [fraudwatch(tmp_path, *command) for command in commands]
    assert "0 rejected" in outputs[1]
    assert re.search(r", [1-9][\d,]* flagged", outputs[2])
    assert "older than the first model" not in outputs[2]


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("Kunde Nr.", "kunde_nr"),
        ("Händler", "haendler"),
        ("café", "cafe"),
        ("order", "order_field"),
        ("USER", "user_field"),
        ("batch_id", "batch_id_2"),
        ("Amount", "amount_2"),
        ("3ds", "column_3ds"),
        ("顧客", "column_1"),
        ("€", "column_1"),
        ("x" * 80, "x" * 60),
    ],
)
def test_a_field_gets_a_name_that_a_database_takes(name: str, new: str) -> None:
    assert field_names([name], ["Betrag"], [name, "Betrag"]) == {name: new}


def test_names_of_fields_are_unique(tmp_path: Path) -> None:
    columns = ["Kunde", "kunde", "Kunde!", "kunde_2", "Betrag", "betrag"]
    assert field_names(columns[:4], [], columns) == {"kunde": "kunde_3", "Kunde!": "kunde_4"}
    assert field_names(["betrag"], ["Betrag"], columns) == {"betrag": "betrag_2"}
    assert field_names(["customer_id", "V1"], ["Amount"], ["customer_id", "V1", "Amount"]) == {}


def test_volumes_add_up() -> None:
    volume = Volume.of(np.array([10, 10, 12])).plus(Volume.of(np.array([8]))).plus(None)
    assert (volume.first, volume.counts.tolist(), volume.before(11), volume.end) == (
        8,
        [1, 0, 2, 0, 1],
        3,
        13,
    )


def test_a_few_damaged_dates_do_not_make_a_history_long() -> None:
    days = np.array([1, *range(20_000, 20_100), 30_000]).repeat([1, *[20] * 100, 1])
    volume = Volume.of(days)
    assert volume is not None
    assert (volume.trimmed().first, volume.trimmed().days, volume.trimmed().rows) == (20_000, 100, 2000)


def test_without_a_time_rows_in_the_order_of_a_number_are_no_clock(tmp_path: Path) -> None:
    _, config = proposed(tmp_path, created_at=[], weight=lambda n: n + n % 3 / 7)
    assert fields(config)["weight"] == "numeric"


def test_umlauts_and_accents_are_folded() -> None:
    assert [normalised(name) for name in ("Währung", "Straße", "Société (réf.)", "idTransação")] == [
        "waehrung", "strasse", "societe_ref", "id_transacao",
    ]  # fmt: skip
