"""What offices send around: an Excel sheet, "Unicode text", a zip from Switzerland, and Parquet from a warehouse."""

import io
import uuid
import zipfile
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.layouts.layout import Layout, Payment
from tests.layouts.world import csv_text, grouped, purchases

EXCEL_HEADER = "Booking No.,Booked at,Customer No.,Card,CVV,Merchant,Amount (EUR),Fraud?,Reviewed by"
EXCEL = EXCEL_HEADER.split(",")
FRENCH_HEADER = "N° d'opération,Date,Client,Adresse e-mail,Commerçant,Montant,Devise,Fraude,Date de fraude"
FRENCH = FRENCH_HEADER.split(",")
SWISS_HEADER = "Beleg-Nr.,Datum,Zeit,Kunden-Nr.,Karte,Händler,Betrag CHF,Land,Rückbuchung am,Betrug"
SWISS = SWISS_HEADER.split(",")
PARIS, ZURICH = ZoneInfo("Europe/Paris"), ZoneInfo("Europe/Zurich")
NARROW_BLANK = "\u202f"  # between thousands, as French Windows writes them


def excel() -> Layout:
    """A workbook: whole numbers that Excel keeps as floats, dates as cells, card numbers as text, and a CVV."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Payments")
    sheet.append(EXCEL)
    payments = []
    for p in purchases(1_000, seed=13, people=40):
        local = p.time.astimezone(PARIS)
        number, customer = 4_111_000_000 + p.number, 70_000 + p.customer.number
        reviewer = ("anna", "ben")[p.number % 2] if p.is_fraud else None
        cvv = f"{p.customer.number * 37 % 900 + 100}"
        fraud = "yes" if p.is_fraud else "no"
        sheet.append(
            [
                number, local.replace(tzinfo=None), customer, p.card, cvv, p.shop, float(p.amount), fraud, reviewer,
            ]
        )  # fmt: skip
        entities = {"Customer No.": str(customer), "Card": p.card, "Merchant": p.shop}
        payments.append(Payment(str(number), p.time, p.amount, entities, is_fraud=p.is_fraud))
    out = io.BytesIO()
    book.save(out)
    return Layout(
        "payments.xlsx",
        out.getvalue(),
        tuple(EXCEL),
        tuple(payments),
        {
            "transaction_id": "Booking No.",
            "event_time": "Booked at",
            "amount": "Amount (EUR)",
            "is_fraud": "Fraud?",
        },
        frozenset({"Customer No.", "Card", "Merchant"}),
        frozenset({"Card"}),
        never_fields=frozenset({"CVV", "Reviewed by", "Fraud?"}),
        settings={"base_currency": "EUR", "timezone": "Europe/Paris"},
        answers={"schema.base_currency": "EUR", "schema.timezone": "Europe/Paris"},
    )


def french_text() -> Layout:
    """UTF-16 with tabs, as Excel saves "Unicode text": French words, decimal commas, blanks between thousands."""
    rows, payments = [], []
    for p in purchases(1_300, seed=14):
        local = p.time.astimezone(PARIS)
        number, known = f"OP{p.number:06d}", (p.time + timedelta(days=2)).astimezone(PARIS)
        client = f"CL-{p.customer.number:04d}"
        rows.append(
            [
                number,
                f"{local:%d/%m/%Y %H:%M:%S}",
                client,
                p.customer.email,
                f"Café « {p.shop} »",
                grouped(p.amount * 10, ",", NARROW_BLANK),
                "EUR",
                "oui" if p.is_fraud else "non",
                f"{known:%d/%m/%Y %H:%M:%S}" if p.is_fraud else "",
            ]
        )
        entities = {"Client": client, "Adresse e-mail": p.customer.email, "Commerçant": rows[-1][4]}
        known_at = known if p.is_fraud else None
        payments.append(
            Payment(number, p.time, p.amount * 10, entities, is_fraud=p.is_fraud, known_at=known_at)
        )
    return Layout(
        "opérations.txt",
        csv_text(FRENCH, rows, "\t", line_end="\r\n").encode("utf-16"),
        tuple(FRENCH),
        tuple(payments),
        {
            "transaction_id": "N° d'opération",
            "event_time": "Date",
            "amount": "Montant",
            "currency": "Devise",
            "is_fraud": "Fraude",
            "known_at": "Date de fraude",
        },
        frozenset({"Commerçant"}),
        frozenset({"Adresse e-mail"}),
        payers=frozenset({"Client", "Adresse e-mail"}),
        never_fields=frozenset({"Fraude", "Date de fraude"}),
        settings={
            "base_currency": "EUR",
            "timezone": "Europe/Paris",
            "decimal": ",",
            "thousands": " ",
            "time": "day_first",
        },
        answers={"schema.timezone": "Europe/Paris", "format.time": "day_first"},
    )


def swiss_zip() -> Layout:
    """A zip with a semicolon CSV: the time of day apart, apostrophes between thousands, \\N for what is missing."""
    rows, payments = [], []
    for p in purchases(1_200, seed=15):
        local = p.time.astimezone(ZURICH)
        number, customer = f"{p.number + 1:07d}", f"{p.customer.number + 40:05d}"
        card = " ".join(p.card[at : at + 4] for at in range(0, 16, 4))
        known = (local + timedelta(days=5)).replace(hour=0, minute=0, second=0)
        guest = p.number % 12 == 5
        rows.append(
            [
                number, f"{local:%d.%m.%Y}", f"{local:%H:%M:%S}", "\\N" if guest else customer, card, p.shop,
                grouped(p.amount * 20, ".", "'"), p.country, f"{known:%d.%m.%Y}" if p.is_fraud else "",
                "ja" if p.is_fraud else "nein",
            ]
        )  # fmt: skip
        entities = {"Karte": card, "Händler": p.shop} | ({} if guest else {"Kunden-Nr.": customer})
        known_at = known if p.is_fraud else None
        payments.append(Payment(number, p.time, p.amount * 20, entities, "CHF", p.is_fraud, known_at))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            zipfile.ZipInfo("Zahlungen Q1.csv"),
            csv_text(SWISS, rows, ";", line_end="\r\n").encode("utf-8-sig"),
            zipfile.ZIP_DEFLATED,
        )
    return Layout(
        "Zahlungen.zip",
        out.getvalue(),
        tuple(SWISS),
        tuple(payments),
        {
            "transaction_id": "Beleg-Nr.",
            "event_time": "Datum",
            "time_of_day": "Zeit",
            "amount": "Betrag CHF",
            "is_fraud": "Betrug",
            "known_at": "Rückbuchung am",
        },
        frozenset({"Kunden-Nr.", "Karte", "Händler"}),
        frozenset({"Karte"}),
        never_fields=frozenset({"Betrug", "Rückbuchung am", "Zeit"}),
        settings={
            "base_currency": "CHF",
            "timezone": "Europe/Zurich",
            "thousands": "'",
            "decimal": ".",
            "time": "day_first",
        },
        answers={
            "schema.base_currency": "CHF",
            "schema.timezone": "Europe/Zurich",
            "format.time": "day_first",
        },
    )


def parquet() -> Layout:
    """A warehouse's table: UUIDs as 16 bytes, decimals with zeros, milliseconds since 1970, labels for some rows."""
    bought = purchases(1_500, seed=16)
    ids = [uuid.UUID(int=(p.number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128) for p in bought]
    accounts = [
        uuid.UUID(int=(p.customer.number + 7) * 0xC2B2AE3D27D4EB4F165667B19E3779F9 % 2**128) for p in bought
    ]
    merchants = [1_001 + p.merchant for p in bought]
    labels = [None if p.number % 10 == 1 else p.is_fraud for p in bought]
    table = pa.table(
        {
            "payment_uuid": pa.array([one.bytes for one in ids], pa.binary(16)),
            "created_ms": pa.array([int(p.time.timestamp()) * 1_000 for p in bought], pa.int64()),
            "account_uuid": pa.array([one.bytes for one in accounts], pa.binary(16)),
            "merchant": pa.array([Decimal(m) for m in merchants], pa.decimal128(20, 10)),
            "amount": pa.array([p.amount for p in bought], pa.decimal128(18, 6)),
            "currency": pa.array(["EUR"] * len(bought)).dictionary_encode(),
            "country": pa.array([p.country for p in bought]).dictionary_encode(),
            "chargeback_amount": pa.array([p.amount if p.is_fraud else None for p in bought], pa.decimal128(18, 2)),
            "is_fraud": pa.array(labels, pa.bool_()),
        }
    )  # fmt: skip
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=400)
    payments = [
        Payment(
            str(ids[n]),
            p.time,
            p.amount,
            {"account_uuid": str(accounts[n]), "merchant": str(merchants[n])},
            is_fraud=labels[n],
        )
        for n, p in enumerate(bought)
    ]
    return Layout(
        "payments.parquet",
        out.getvalue(),
        tuple(table.column_names),
        tuple(payments),
        {
            "transaction_id": "payment_uuid",
            "event_time": "created_ms",
            "amount": "amount",
            "currency": "currency",
            "is_fraud": "is_fraud",
        },
        frozenset({"account_uuid", "merchant"}),
        never_fields=frozenset({"created_ms", "chargeback_amount", "is_fraud"}),
        settings={"base_currency": "EUR", "time": "epoch_milliseconds", "amount_unit": "major"},
        answers={"format.time": "epoch_milliseconds"},
    )
