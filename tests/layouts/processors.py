"""What payment processors export: Stripe's report and its API, Adyen's report and its notifications."""

import json
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from tests.layouts.layout import Layout, Payment
from tests.layouts.world import Purchase, csv_text, purchases, rates

STRIPE_HEADER = (
    "id,Created date (UTC),Amount,Amount Refunded,Currency,Captured,Converted Amount,"
    "Converted Amount Refunded,Converted Currency,Decline Reason,Description,Fee,Is Link,Mode,"
    "PaymentIntent ID,Statement Descriptor,Status,Seller Message,Customer ID,Customer Description,"
    "Customer Email,Card ID,Card Name,Card Address Zip,Card Brand,Card Exp Month,Card Exp Year,"
    "Card Fingerprint,Card Funding,Card Issue Country,Card Last4,Card Tokenization Method,"
    "Disputed Amount,Dispute Status,Dispute Reason,Dispute Date (UTC),Dispute Evidence Due (UTC),Transfer"
)
STRIPE = STRIPE_HEADER.split(",")
ADYEN_HEADER = (
    "Company Account,Merchant Account,Psp Reference,Merchant Reference,Payment Method,Creation Date,"
    "TimeZone,Currency,Amount,Type,Risk Scoring,Shopper Interaction,Shopper Name,Shopper PAN,Shopper IP,"
    "Shopper Country,Issuer Name,Issuer Id,Issuer City,Issuer Country,Acquirer Response,"
    "Authorisation Code,Shopper Email,Shopper Reference,3D Directory Response,3D Authentication Response,"
    "CVC2 Response,AVS Response,Payment Method Variant,Reserved 1"
)
ADYEN = ADYEN_HEADER.split(",")
WITHOUT_DECIMALS = "JPY"
AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def stripe() -> Layout:
    """The report "All payments" of Stripe's dashboard: two currencies in lower case, disputes in further columns."""
    rows, payments = [], []
    for p in purchases(1_600, seed=1):
        currency = "usd" if p.customer.number % 5 == 0 else "eur"
        values, known_at = _stripe_row(p, currency), None
        if p.is_fraud:
            known_at = p.time + timedelta(days=3, hours=p.number % 24)
        rows.append([values.get(name, "") for name in STRIPE])
        payments.append(
            Payment(
                values["id"],
                p.time,
                p.amount,
                {
                    name: values[name]
                    for name in ("Customer ID", "Customer Email", "Card Name", "Card Fingerprint")
                },
                currency.upper(),
                True if p.is_fraud else None,
                known_at,
            )
        )
    return Layout(
        "unified payments.csv",
        csv_text(STRIPE, rows).encode(),
        tuple(STRIPE),
        tuple(payments),
        {
            "transaction_id": "id",
            "event_time": "Created date (UTC)",
            "amount": "Amount",
            "currency": "Currency",
            "is_fraud": "Dispute Reason",
            "known_at": "Dispute Date (UTC)",
        },
        frozenset({"Card Fingerprint"}),
        frozenset({"Customer Email"}),
        payers=frozenset({"Customer ID", "Customer Email", "Card Name"}),
        never_fields=frozenset(
            {
                "Amount Refunded", "Converted Amount Refunded", "Disputed Amount", "Dispute Status",
                "Dispute Reason", "Dispute Date (UTC)", "Dispute Evidence Due (UTC)",
            }
        ),
        unsettled={"Status": frozenset({"Failed"})},
        settings={"base_currency": "EUR", "timezone": "UTC", "amount_unit": "major"},
        answers={"schema.timezone": "UTC", "schema.rates": "rates.csv", "format.amount_unit": "major"},
        files=rates(USD=0.9),
    )  # fmt: skip


def _stripe_row(p: Purchase, currency: str) -> dict[str, str]:
    text = f"{p.amount:.2f}"
    other_dispute = not p.is_fraud and p.number % 151 == 7
    refunded = p.number % 40 == 3 and not p.is_fraud
    status = "Failed" if p.number % 25 == 2 else "Refunded" if refunded else "Paid"
    values = {
        "id": f"ch_3Q{p.number * 7_654_321:014d}a{p.number % 7}",
        "Created date (UTC)": f"{p.time:%Y-%m-%d %H:%M:%S}",
        "Amount": text,
        "Amount Refunded": text if refunded else "0.00",
        "Currency": currency,
        "Captured": "false" if status == "Failed" else "true",
        "Converted Amount": text if currency == "eur" else f"{p.amount * Decimal('.9'):.2f}",
        "Converted Amount Refunded": "0.00",
        "Converted Currency": "eur",
        "Decline Reason": "insufficient_funds" if status == "Failed" else "",
        "Description": f"Order {10_000 + p.number}, {p.shop}",
        "Fee": f"{p.amount * Decimal('.014') + Decimal('.25'):.2f}",
        "Is Link": "false",
        "Mode": "Live",
        "PaymentIntent ID": f"pi_3Q{p.number * 7_654_321:014d}b{p.number % 7}",
        "Status": status,
        "Customer ID": f"cus_{p.customer.number * 104_729:014d}",
        "Customer Email": p.customer.email,
        "Card ID": f"pm_{p.number * 91:016d}",
        "Card Name": p.customer.name,
        "Card Brand": p.customer.brand,
        "Card Exp Month": str(p.customer.number % 12 + 1),
        "Card Exp Year": str(2026 + p.customer.number % 4),
        "Card Fingerprint": f"fp{int(p.card) * 15_485_863 % 10**14:014d}",
        "Card Funding": "debit" if p.customer.number % 3 else "credit",
        "Card Issue Country": p.customer.country,
        "Card Last4": p.card[-4:],
    }
    if p.is_fraud or other_dispute:
        disputed = p.time + timedelta(days=3, hours=p.number % 24)
        values |= {
            "Disputed Amount": text,
            "Dispute Status": "lost" if p.number % 3 else "needs_response",
            "Dispute Reason": "fraudulent" if p.is_fraud else "product_not_received",
            "Dispute Date (UTC)": f"{disputed:%Y-%m-%d %H:%M:%S}",
            "Dispute Evidence Due (UTC)": f"{disputed + timedelta(days=9):%Y-%m-%d %H:%M:%S}",
        }
    return values


def stripe_api() -> Layout:
    """Charges of Stripe's API as JSON Lines: cents, seconds since 1970, objects within objects, one currency."""
    lines, payments = [], []
    for p in purchases(1_200, seed=2):
        refunded = p.cents if p.number % 40 == 3 else 0
        charge = {
            "id": f"ch_1N{p.number * 7_654_321:014d}",
            "object": "charge",
            "amount": p.cents,
            "amount_captured": p.cents,
            "amount_refunded": refunded,
            "balance_transaction": f"txn_1N{p.number * 3_331:014d}",
            "billing_details": {
                "address": {"city": p.customer.city, "country": p.customer.country, "line1": None},
                "email": p.customer.email,
                "name": p.customer.name,
            },
            "captured": True,
            "created": int(p.time.timestamp()),
            "currency": "eur",
            "customer": f"cus_{p.customer.number * 104_729:014d}",
            "disputed": p.is_fraud,
            "dispute": f"dp_{p.number:014d}" if p.is_fraud else None,
            "livemode": True,
            "metadata": {},
            "outcome": {"network_status": "approved_by_network", "risk_score": p.number % 70},
            "paid": True,
            "payment_method": f"pm_{p.number * 91:016d}",
            "payment_method_details": {
                "card": {"brand": p.customer.brand.lower(), "country": p.country, "last4": p.card[-4:]},
                "type": "card",
            },
            "refunded": bool(refunded),
            "status": "succeeded",
        }  # fmt: skip
        lines.append(json.dumps(charge))
        entities = {"customer": str(charge["customer"])}
        payments.append(Payment(str(charge["id"]), p.time, p.amount, entities, is_fraud=p.is_fraud))
    return Layout(
        "charges.jsonl",
        "\n".join(lines).encode() + b"\n",
        tuple(json.loads(lines[0])),
        tuple(payments),
        {
            "transaction_id": "id",
            "event_time": "created",
            "amount": "amount",
            "currency": "currency",
            "is_fraud": "disputed",
        },
        frozenset({"customer"}),
        never_fields=frozenset(
            {"amount_captured", "amount_refunded", "created", "disputed", "dispute", "refunded"}
        ),
        settings={"base_currency": "EUR", "amount_unit": "minor", "time": "epoch_seconds"},
        answers={"format.amount_unit": "minor", "format.time": "epoch_seconds"},
    )


def adyen() -> Layout:
    """Adyen's report of received payments: major units, three currencies, card numbers in masks, times of a zone."""
    return _adyen("received_payments_report.csv", minor=False)


def adyen_minor_units() -> Layout:
    """The same with amounts as Adyen's API has them: in cents, but in whole yen."""
    return _adyen("notifications.csv", minor=True)


def _adyen(file_name: str, minor: bool) -> Layout:
    rows, payments = [], []
    for p in purchases(1_400, seed=3):
        currency = ("EUR", "EUR", "GBP", "JPY")[p.customer.number % 4]
        yen = currency == WITHOUT_DECIMALS
        amount = Decimal(p.cents) if yen else p.amount
        values = {
            "Company Account": "ExampleShop",
            "Merchant Account": "ExampleShopNL" if p.merchant % 2 else "ExampleShopCOM",
            "Psp Reference": f"88{p.number * 6_700_417 + 10**13:014d}",
            "Merchant Reference": f"order-{20_000 + p.number}",
            "Payment Method": p.customer.brand.split()[0].replace("MasterCard", "mc").lower(),
            "Creation Date": f"{p.time.astimezone(AMSTERDAM):%Y-%m-%d %H:%M:%S}",
            "TimeZone": "CET",
            "Currency": currency,
            "Amount": str(p.cents) if minor else str(amount),
            "Type": "Refused" if p.number % 30 == 4 else "Authorised",
            "Risk Scoring": str(p.number % 60 + 30 * p.is_fraud),
            "Shopper Interaction": "Ecommerce",
            "Shopper Name": p.customer.name,
            "Shopper PAN": p.card[:6] + "XXXXXX" + p.card[-4:],
            "Shopper IP": p.ip,
            "Shopper Country": p.country,
            "Issuer Name": f"Bank of {p.customer.city}",
            "Issuer Country": p.customer.country,
            "Acquirer Response": "APPROVED",
            "Authorisation Code": f"{p.number * 37 % 1_000_000:06d}",
            "Shopper Email": p.customer.email,
            "Shopper Reference": f"S{p.customer.number:06d}",
            "CVC2 Response": "1 Matches",
            "Payment Method Variant": p.customer.brand.lower().replace(" ", ""),
        }
        rows.append([values.get(name, "") for name in ADYEN])
        keys = ("Shopper Reference", "Shopper Email", "Shopper Name", "Shopper PAN", "Shopper IP")
        payments.append(
            Payment(values["Psp Reference"], p.time, amount, {key: values[key] for key in keys}, currency)
        )
    unit = "minor" if minor else "major"
    return Layout(
        file_name,
        csv_text(ADYEN, rows, line_end="\r\n").encode(),
        tuple(ADYEN),
        tuple(payments),
        {
            "transaction_id": "Psp Reference",
            "event_time": "Creation Date",
            "amount": "Amount",
            "currency": "Currency",
        },
        frozenset({"Shopper PAN"}),
        frozenset({"Shopper Email"}),
        payers=frozenset({"Shopper Reference", "Shopper Email", "Shopper Name"}),
        never_fields=frozenset({"Creation Date", "Authorisation Code"}),
        unsettled={"Type": frozenset({"Refused"})},
        settings={"base_currency": "EUR", "amount_unit": unit},
        answers={
            "schema.timezone": "Europe/Amsterdam",
            "schema.rates": "rates.csv",
            "format.amount_unit": unit,
        },
        files=rates(GBP=1.2, JPY=0.006),
    )
