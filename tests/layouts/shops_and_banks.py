"""A shop's orders, a bank's statement and a register of wires."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from tests.layouts.layout import Layout, Payment
from tests.layouts.world import Purchase, csv_text, grouped, purchases

SHOPIFY_HEADER = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,Accepts Marketing,Currency,"
    "Subtotal,Shipping,Taxes,Total,Discount Code,Discount Amount,Shipping Method,Created at,"
    "Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Billing Name,Billing Street,"
    "Billing City,Billing Zip,Billing Country,Notes,Cancelled at,Payment Method,Refunded Amount,Vendor,"
    "Id,Tags,Risk Level,Source,Phone"
)
SHOPIFY = SHOPIFY_HEADER.split(",")
BANK = [
    "Buchungstag",
    "Valuta",
    "Auftraggeber/Empfänger",
    "IBAN",
    "BIC",
    "Verwendungszweck",
    "Betrag",
    "Währung",
]
WIRES_HEADER = (
    "Reference Number,Entry Date,Originator Name,Originator Account,Originator Bank SWIFT,"
    "Beneficiary Name,Beneficiary Account,Beneficiary Bank SWIFT/BIC,Beneficiary Country,Amount,Purpose,"
    "Status,Recall Date,Investigation Result"
)
WIRES = WIRES_HEADER.split(",")
SPRING = datetime(2025, 3, 3, tzinfo=UTC)  # summer time begins meanwhile
BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def shopify() -> Layout:
    """The export of a shop's orders: a row for each item, the order's values only in the first one of each order."""
    rows, payments, items = [], [], 0
    for p in purchases(1_100, seed=4, start=SPRING):
        first, further = _order(p)
        rows += [[values.get(name, "") for name in SHOPIFY] for values in (first, *further)]
        items += len(further)
        payments.append(Payment(first["Name"], p.time, Decimal(first["Total"]), {"Email": first["Email"]}))
    return Layout(
        "orders_export_1.csv",
        csv_text(SHOPIFY, rows).encode(),
        tuple(SHOPIFY),
        tuple(payments),
        {"transaction_id": "Name", "event_time": "Created at", "amount": "Total", "currency": "Currency"},
        frozenset({"Email"}),
        frozenset({"Email"}),
        not_entities=frozenset({"Billing Name", "Billing Street", "Phone"}),
        never_fields=frozenset({"Refunded Amount", "Cancelled at", "Fulfilled at", "Fulfillment Status", "Paid at"}),
        settings={"base_currency": "EUR", "line_items": True, "timezone": ""},
        line_items=items,
    )  # fmt: skip


def _order(p: Purchase) -> tuple[dict[str, str], list[dict[str, str]]]:
    local = p.time.astimezone(BERLIN)
    created = f"{local:%Y-%m-%d %H:%M:%S %z}"
    shipping, total = Decimal("4.90"), p.amount + Decimal("4.90")
    refunded = p.number % 30 == 5
    items = [
        {
            "Name": f"#{1001 + p.number}",
            "Email": p.customer.email,
            "Created at": created,
            "Lineitem quantity": str(1 + item),
            "Lineitem name": f"{p.shop}, no. {item}",
            "Lineitem price": f"{p.amount / (1 + p.number % 3) / (1 + item):.2f}",
            "Vendor": p.shop,
        }
        for item in range(1 + p.number % 3)
    ]
    first = items[0] | {
        "Financial Status": "refunded" if refunded else "paid",
        "Paid at": created,
        "Fulfillment Status": "unfulfilled" if p.is_fraud else "fulfilled",
        "Fulfilled at": "" if p.is_fraud else created,
        "Accepts Marketing": "yes" if p.customer.number % 2 else "no",
        "Currency": "EUR",
        "Subtotal": f"{p.amount:.2f}",
        "Shipping": f"{shipping:.2f}",
        "Taxes": f"{total * Decimal('.19') / Decimal('1.19'):.2f}",
        "Total": f"{total:.2f}",
        "Discount Amount": "0.00",
        "Shipping Method": "Standard",
        "Billing Name": p.customer.name,
        "Billing Street": f"Hauptstraße {p.customer.number}",
        "Billing City": p.customer.city,
        "Billing Zip": f"'{10_000 + p.customer.number * 97}",  # so that spreadsheets keep zeros
        "Billing Country": p.country,
        "Payment Method": "Shopify Payments" if p.number % 4 else "PayPal Express Checkout",
        "Refunded Amount": f"{total:.2f}" if refunded else "0.00",
        "Cancelled at": created if p.number % 97 == 0 else "",
        "Id": str(5_500_000_000_000 + p.number * 32_768),
        "Risk Level": "High" if p.is_fraud and p.number % 2 else "Low",
        "Source": "web",
        "Phone": f"+49 30 {p.customer.number:06d}",
    }
    return first, items[1:]


def german_bank() -> Layout:
    """A statement in cp1252: eight lines before the header, dates only, no id, the balance as the last line."""
    rows, payments, balance = [], [], Decimal(25_000)
    for p in purchases(900, seed=5, people=50):
        sign = 1 if p.customer.number % 6 == 0 else -1
        amount = sign * p.amount * (20 if p.is_fraud else 1)
        day = p.time.astimezone(BERLIN)
        balance += amount
        rows.append(
            [
                f"{day:%d.%m.%Y}",
                f"{day:%d.%m.%Y}",
                p.customer.name,
                p.customer.iban,
                "INGDDEFFXXX",
                f"Rechnung {4_000 + p.number} über Büromöbel; Kd.-Nr. {p.customer.number}",
                grouped(amount, ",", "."),
                "EUR",
            ]
        )
        midnight = day.replace(hour=0, minute=0, second=0)
        payments.append(Payment(None, midnight, amount, {"IBAN": p.customer.iban}))
    head = (
        "Umsatzanzeige;Datei erstellt am: 31.03.2025 09:30\n\nIBAN;DE12 5001 0517 0648 4898 90\nKontoname;Girokonto\n"
        "Bank;Beispielbank München\nKunde;Grün & Söhne GmbH\nZeitraum;01.01.2025 - 31.03.2025\n\n"
    )
    foot = f"Kontostand;31.03.2025;;;{grouped(balance, ',', '.')};EUR\n"
    text = head + csv_text(BANK, rows, ";") + foot
    return Layout(
        "Umsatzanzeige.csv",
        text.replace("\n", "\r\n").encode("cp1252"),
        tuple(BANK),
        tuple(payments),
        {"event_time": "Buchungstag", "amount": "Betrag", "currency": "Währung"},
        frozenset({"IBAN"}),
        frozenset({"IBAN"}),
        not_entities=frozenset({"Auftraggeber/Empfänger"}),
        never_fields=frozenset({"Valuta"}),
        settings={
            "base_currency": "EUR",
            "timezone": "Europe/Berlin",
            "encoding": "cp1252",
            "decimal": ",",
            "thousands": ".",
            "time": "day_first",
        },
        answers={
            "schema.timezone": "Europe/Berlin",
            "format.encoding": "cp1252",
            "format.time": "day_first",
        },
        rejected=1,
    )


def wires() -> Layout:
    """A register of wires from the United States: month first, a.m. and p.m., dollar signs, brackets for returns."""
    rows, payments = [], []
    for p in purchases(1_000, seed=6):
        returned = p.number % 45 == 8
        amount = p.amount * 40 * (-1 if returned else 1)
        text = f"${grouped(abs(amount))}"
        local = p.time.replace(second=0).astimezone(NEW_YORK)
        reference = f"2025{p.number * 997 % 10**8:08d}F{p.number:05d}"
        originator = f"{80_000_000_000 + p.customer.number * 7_919}"
        beneficiary = f"{p.merchant * 104_729 + 300_000_000:012d}"
        rows.append(
            [
                reference,
                f"{local:%m/%d/%Y} {local.hour % 12 or 12}:{local:%M %p}",
                p.customer.name,
                originator,
                "CHASUS33",
                f"{p.shop} Inc.",
                beneficiary,
                ("BOFAUS3N", "DEUTDEFF", "BNPAFRPP")[p.merchant % 3],
                p.country,
                f"({text})" if returned and p.number % 2 else f"({text[1:]})" if returned else text,
                ("Invoice", "Payroll", "Rent, 2nd floor", "Loan")[p.number % 4],
                "Rejected" if p.number % 50 == 9 else "Returned" if returned else "Completed",
                f"{local:%m/%d/%Y}" if p.is_fraud and p.number % 2 else "",
                "confirmed fraud" if p.is_fraud and p.number % 3 == 0 else "",
            ]
        )
        entities = {"Originator Account": originator, "Beneficiary Account": beneficiary}
        payments.append(Payment(reference, p.time.replace(second=0), amount, entities, "USD"))
    return Layout(
        "wires 2025.csv",
        csv_text(WIRES, rows, line_end="\r\n").encode(),
        tuple(WIRES),
        tuple(payments),
        {"transaction_id": "Reference Number", "event_time": "Entry Date", "amount": "Amount"},
        frozenset({"Originator Account", "Beneficiary Account"}),
        not_entities=frozenset({"Originator Name", "Beneficiary Name"}),
        never_fields=frozenset({"Recall Date", "Investigation Result"}),
        unsettled={"Status": frozenset({"Rejected"})},
        settings={
            "base_currency": "USD",
            "timezone": "America/New_York",
            "thousands": ",",
            "time": "month_first",
        },
        answers={
            "schema.timezone": "America/New_York",
            "schema.base_currency": "USD",
            "format.time": "month_first",
        },
    )
