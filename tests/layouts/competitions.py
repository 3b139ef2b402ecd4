"""Two files of competitions: credit cards with principal components, and IEEE-CIS with hundreds of columns."""

import csv
from datetime import timedelta
from decimal import Decimal

import numpy as np

from tests.layouts.layout import Layout, Payment
from tests.layouts.world import START, csv_text, purchases

COMPONENTS = [f"V{n}" for n in range(1, 29)]
IEEE = [
    "TransactionID", "isFraud", "TransactionDT", "TransactionAmt", "ProductCD",
    *(f"card{n}" for n in range(1, 7)), "addr1", "addr2", "dist1", "dist2", "P_emaildomain", "R_emaildomain",
    *(f"C{n}" for n in range(1, 15)), *(f"D{n}" for n in range(1, 16)), *(f"M{n}" for n in range(1, 10)),
    *(f"V{n}" for n in range(1, 13)),
]  # fmt: skip
DOMAINS = ("gmail.com", "yahoo.com", "hotmail.com", "anonymous.com")


def kaggle() -> Layout:
    """Two days of cards: seconds since an unknown start, components of unknown meaning; nobody pays, and no id."""
    rng = np.random.default_rng(11)
    rows, payments = [], []
    for p in purchases(2_000, seed=11, days=2, growth=1.0):
        components = rng.normal(0, 1, 28)
        components[[2, 9, 13, 16]] -= 4 * p.is_fraud
        seconds = int((p.time - START).total_seconds())
        rows.append(
            [str(seconds), *(repr(float(v)) for v in components), f"{p.amount.normalize():f}", p.is_fraud]
        )
        payments.append(Payment(None, p.time, p.amount, {}, is_fraud=p.is_fraud))
    columns = ["Time", *COMPONENTS, "Amount", "Class"]
    head = csv_text(columns, [], quoting=csv.QUOTE_ALL)
    lines = [",".join(row[:-1]) + f',"{int(row[-1])}"' for row in rows]  # only Class is in quotes
    return Layout(
        "creditcard.csv",
        (head + "\n".join(lines) + "\n").encode(),
        tuple(columns),
        tuple(payments),
        {"event_time": "Time", "amount": "Amount", "is_fraud": "Class"},
        frozenset(),
        never_fields=frozenset({"Time", "Class"}),
        settings={"base_currency": "EUR", "time": "elapsed_seconds"},
        answers={
            "schema.base_currency": "EUR",
            "format.time": "elapsed_seconds",
            "format.time_start": START.isoformat(),
        },
    )


def ieee() -> Layout:
    """IEEE-CIS: seconds since an unknown start, a card in six parts, amounts with three decimals, much that is missing."""
    rng = np.random.default_rng(12)
    rows, payments = [], []
    for p in purchases(1_200, seed=12, people=80):
        n, amount = p.customer.number, p.amount + Decimal(p.number % 8 == 0) * Decimal(".007")
        seconds = 86_400 + int((p.time - START).total_seconds())
        values = {
            "TransactionID": str(2_987_000 + p.number),
            "isFraud": str(int(p.is_fraud)),
            "TransactionDT": str(seconds),
            "TransactionAmt": str(float(amount)),
            "ProductCD": "WCRHS"[p.merchant % 5],
            "card1": str(1_000 + n * 211),
            "card2": f"{100 + n * 7 % 500}.0",
            "card3": "150.0",
            "card4": p.customer.brand.split()[0].lower(),
            "card5": f"{(102.0, 117.0, 226.0)[n % 3]}",
            "card6": "credit" if n % 3 else "debit",
            "addr1": f"{100 + n * 13 % 400}.0" if n % 9 else "",
            "addr2": "87.0" if n % 9 else "",
            "dist1": f"{p.number * 7 % 300}.0" if p.number % 3 == 0 else "",
            "P_emaildomain": DOMAINS[(n + 3 * p.is_fraud) % 4] if n % 7 else "",
            "R_emaildomain": DOMAINS[n % 4] if p.merchant % 5 else "",
        }
        values |= {f"C{c}": f"{rng.poisson(1 + 5 * p.is_fraud)}.0" for c in range(1, 15)}
        values |= {f"D{d}": f"{rng.integers(0, 400)}.0" if rng.random() < 0.4 else "" for d in range(1, 16)}
        values |= {f"M{m}": "TF"[rng.integers(2)] if rng.random() < 0.5 else "" for m in range(1, 10)}
        values |= {"M4": ("", "M0", "M1", "M2")[rng.integers(4)]}
        values |= {f"V{v}": f"{rng.integers(0, 3)}.0" if n % 2 else "" for v in range(1, 13)}
        rows.append([values.get(name, "") for name in IEEE])
        moment = START + timedelta(seconds=seconds)
        payments.append(
            Payment(values["TransactionID"], moment, amount, {"card1": values["card1"]}, "USD", p.is_fraud)
        )
    return Layout(
        "train_transaction.csv",
        csv_text(IEEE, rows).encode(),
        tuple(IEEE),
        tuple(payments),
        {
            "transaction_id": "TransactionID",
            "event_time": "TransactionDT",
            "amount": "TransactionAmt",
            "is_fraud": "isFraud",
        },
        frozenset({"card1"}),
        never_fields=frozenset({"TransactionDT", "isFraud"}),
        settings={"base_currency": "USD", "time": "elapsed_seconds"},
        answers={
            "schema.base_currency": "USD",
            "format.time": "elapsed_seconds",
            "format.time_start": START.isoformat(),
        },
    )
