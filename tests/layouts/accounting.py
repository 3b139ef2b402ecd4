"""Accounting reports of payment processors, whose rows are events: Adyen's payment accounting and Stripe's balance transactions."""

from datetime import timedelta
from decimal import Decimal

from tests.layouts.layout import Dispute, Layout, Payment, Refund
from tests.layouts.processors import AMSTERDAM
from tests.layouts.world import csv_text, purchases

ADYEN_HEADER = (
    "Company Account,Merchant Account,Psp Reference,Merchant Reference,Payment Method,Creation Date,TimeZone,"
    "Modification Reference,Main Currency,Main Amount,Record Type,Shopper Reference,Shopper Country,Risk Scoring"
)
ADYEN = ADYEN_HEADER.split(",")
STRIPE_HEADER = "id,created,reporting_category,gross,fee,net,currency,charge_id,customer_id,card_brand,dispute_reason,description"
STRIPE = STRIPE_HEADER.split(",")


def adyen_accounting() -> Layout:
    """Adyen's payment accounting report: every step of a payment is a row, the newest first; no reasons of disputes."""
    rows, payments, refunds, disputes, final, revised = [], [], [], [], {}, 0
    for p in purchases(320, seed=21):
        psp, refused = f"88{p.number * 6_700_417 + 10**13:014d}", p.number % 30 == 4
        usual = {
            "Company Account": "ExampleShop",
            "Merchant Account": "ExampleShopNL" if p.merchant % 2 else "ExampleShopCOM",
            "Psp Reference": psp,
            "Merchant Reference": f"order-{20_000 + p.number}",
            "Payment Method": p.customer.brand.split()[0].lower(),
            "TimeZone": "Europe/Amsterdam",
            "Main Currency": "EUR",
            "Shopper Reference": f"S{p.customer.number:06d}",
            "Shopper Country": p.country,
            "Risk Scoring": str(p.number % 60),
        }
        captured = p.amount - Decimal(".50") if p.number % 20 == 6 and p.cents > 200 else p.amount
        events = [("Authorised", 0.0, p.amount)]
        if refused:
            events.append(("Refused", 0.001, p.amount))
            final[psp] = (p.amount, "Refused")
            revised += 1
        else:
            events += [
                ("SentForSettle", 1.0, captured),
                ("Settled", 26.0, captured),
                ("Fee", 26.0, Decimal("-.12")),
            ]
            final[psp] = (captured, "Settled")
            revised += 2
            if p.number % 25 == 3:
                events.append(("Refunded", 50.0, -captured))
            if p.is_fraud or p.number % 90 == 8:
                events.append(("Chargeback", 80.0, -captured))
                if p.number % 2:
                    events.append(("ChargebackReversed", 200.0, captured))
        for place, (word, hours, amount) in enumerate(events):
            at, key = p.time + timedelta(seconds=round(hours * 3600)), f"99{p.number * 10 + place:014d}"
            values = usual | {
                "Creation Date": f"{at.astimezone(AMSTERDAM):%Y-%m-%d %H:%M:%S}",
                "Modification Reference": key if place else "",
                "Main Amount": str(amount),
                "Record Type": word,
            }
            rows.append((at, [values.get(name, "") for name in ADYEN]))
            if word == "Refunded":
                refunds.append(Refund(key, psp, at, -amount))
            elif word == "Chargeback":
                disputes.append(Dispute(psp, at, "dispute", -amount, None, "unknown"))
            elif word == "ChargebackReversed":
                disputes.append(Dispute(psp, at, "won", amount, None, None))
        payments.append(Payment(psp, p.time, p.amount, {"Shopper Reference": usual["Shopper Reference"]}))
    rows.sort(key=lambda row: row[0], reverse=True)
    return Layout(
        "payments_accounting_report.csv",
        csv_text(ADYEN, [row for _, row in rows], line_end="\r\n").encode(),
        tuple(ADYEN),
        tuple(payments),
        {
            "transaction_id": "Psp Reference", "event_time": "Creation Date", "amount": "Main Amount",
            "currency": "Main Currency", "kind": "kind",
        },
        frozenset({"Shopper Reference"}),
        never_fields=frozenset({"Modification Reference", "Merchant Reference"}),
        unsettled={"Record Type": frozenset({"Refused"})},
        settings={"base_currency": "EUR", "timezone": "Europe/Amsterdam"},
        refunds=tuple(refunds),
        disputes=tuple(disputes),
        final=final,
        revised=revised,
        made=frozenset({"kind"}),
        events={"type": "Record Type", "id": "Modification Reference", "ignored": ("Fee",)},
    )  # fmt: skip


def stripe_balance() -> Layout:
    """Stripe's balance transactions: cents, seconds since 1970, money that goes out is negative, payouts between."""
    rows, payments, refunds, disputes = [], [], [], []
    for p in purchases(320, seed=22):
        charge, customer = f"ch_3Q{p.number * 7_654_321:014d}", f"cus_{p.customer.number * 104_729:014d}"
        reason = "fraudulent" if p.is_fraud else "product_not_received"
        events = [("charge", 0.0, p.cents)]
        if p.number % 25 == 3:
            events.append(("refund", 30.0, -(p.cents // 2) - 1))
        if p.is_fraud or p.number % 90 == 8:
            events.append(("dispute", 90.0, -p.cents))
            if p.number % 3 == 0:
                events.append(("dispute_reversal", 300.0, p.cents))
        for place, (word, hours, cents) in enumerate(events):
            at, key = p.time + timedelta(hours=hours), f"txn_{p.number * 10 + place:016d}"
            values = {
                "id": key,
                "created": str(int(at.timestamp())),
                "reporting_category": word,
                "gross": str(cents),
                "fee": str(25 + cents // 70) if word == "charge" else "0",
                "currency": "eur",
                "charge_id": charge,
                "customer_id": customer,
                "card_brand": p.customer.brand,
                "dispute_reason": reason if word == "dispute" else "",
                "description": f"Order {p.number}",
            }
            rows.append((at, [values.get(name, "") for name in STRIPE]))
            amount = abs(Decimal(cents).scaleb(-2))
            if word == "refund":
                refunds.append(Refund(key, charge, at, amount))
            elif word == "dispute":
                kind = None if p.is_fraud else "not_received"
                disputes.append(Dispute(charge, at, "dispute", amount, True if p.is_fraud else None, kind))
            elif word == "dispute_reversal":
                disputes.append(Dispute(charge, at, "won", amount, None, None))
        payments.append(Payment(charge, p.time, p.amount, {"customer_id": customer}))
    last = payments[-1].event_time
    for day in range(0, 40, 7):
        at = last - timedelta(days=day)
        values = {
            "id": f"txn_po{day:014d}",
            "created": str(int(at.timestamp())),
            "reporting_category": "payout",
        }
        rows.append(
            (at, [(values | {"gross": "-90000", "fee": "0", "currency": "eur"}).get(n, "") for n in STRIPE])
        )
    rows.sort(key=lambda row: row[0])
    return Layout(
        "balance_transactions.csv",
        csv_text(STRIPE, [row for _, row in rows]).encode(),
        tuple(STRIPE),
        tuple(payments),
        {
            "transaction_id": "charge_id",
            "event_time": "created",
            "amount": "gross",
            "currency": "currency",
            "kind": "kind",
        },
        frozenset({"customer_id"}),
        never_fields=frozenset({"id", "dispute_reason"}),
        settings={"base_currency": "EUR", "amount_unit": "minor", "time": "epoch_seconds"},
        answers={"format.amount_unit": "minor", "format.time": "epoch_seconds"},
        refunds=tuple(refunds),
        disputes=tuple(disputes),
        made=frozenset({"kind"}),
        events={"type": "reporting_category", "id": "id", "ignored": ("payout",)},
    )
