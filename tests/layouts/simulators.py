"""What simulators write: PaySim, BankSim, and Sparkov as its data set has it and as the program itself does."""

from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from tests.layouts.layout import Layout, Payment
from tests.layouts.world import START, Customer, Purchase, csv_text, purchases

PAYSIM_HEADER = (
    "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,"
    "isFraud,isFlaggedFraud"
)
PAYSIM = PAYSIM_HEADER.split(",")
BANKSIM_HEADER = "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud"
BANKSIM = BANKSIM_HEADER.split(",")
SPARKOV_HEADER = (
    ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,lat,"
    "long,city_pop,job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud"
)
SPARKOV = SPARKOV_HEADER.split(",")
SPARKOV_RAW_HEADER = (
    "ssn|cc_num|first|last|gender|street|city|state|zip|lat|long|city_pop|job|dob|acct_num|profile|"
    "trans_num|trans_date|trans_time|unix_time|category|amt|is_fraud|merchant|merch_lat|merch_long"
)
SPARKOV_RAW = SPARKOV_RAW_HEADER.split("|")
CHICAGO = ZoneInfo("America/Chicago")
SEVEN_YEARS = timedelta(days=7 * 365 + 2)  # by which the data set's unix_time is early
ONE_PERSON = frozenset({"first", "last", "street", "dob", "lat", "long", "zip"})


def paysim() -> Layout:
    """Mobile money: hours since an unknown start, no id, payers who hardly ever return, balances before and after."""
    rows, payments = [], []
    for p in purchases(2_000, seed=7, days=30):
        step = 1 + (p.time - START) // timedelta(hours=1)
        kind = ("PAYMENT", "CASH_IN", "CASH_OUT", "TRANSFER", "DEBIT")[p.number % 5]
        kind = ("TRANSFER", "CASH_OUT")[p.number % 2] if p.is_fraud else kind
        amount = p.amount * (100 if p.is_fraud else 10)
        before = amount if p.is_fraud else p.amount * 35
        after = before + amount if kind == "CASH_IN" else max(before - amount, Decimal(0))
        payer = f"C{1_231_006_815 + p.number * 7_919}"
        payee = f"M{1_979_787_155 + p.merchant}" if kind == "PAYMENT" else f"C{553_264_065 + p.merchant}"
        flagged = int(p.is_fraud and p.number % 4 == 0)
        balances = ("0.0", "0.0") if kind == "PAYMENT" else (_float(before * 3), _float(before * 3 + amount))
        rows.append(
            [
                step, kind, _float(amount), payer, _float(before), _float(after), payee, *balances, int(p.is_fraud),
                flagged,
            ]
        )  # fmt: skip
        payments.append(
            Payment(None, START + timedelta(hours=step), amount, {"nameDest": payee}, is_fraud=p.is_fraud)
        )
    return Layout(
        "PS_20174392719_1491204439457_log.csv",
        csv_text(PAYSIM, rows).encode(),
        tuple(PAYSIM),
        tuple(payments),
        {"event_time": "step", "amount": "amount", "is_fraud": "isFraud"},
        frozenset({"nameDest"}),
        never_fields=frozenset({"step", "isFlaggedFraud", "isFraud"}),
        settings={"base_currency": "EUR", "time": "elapsed_hours"},
        answers={
            "schema.base_currency": "EUR",
            "format.time": "elapsed_hours",
            "format.time_start": START.isoformat(),
            "format.amount_unit": "major",
        },
    )


def _float(amount: Decimal) -> str:
    """An amount as PaySim's Java writes it: 12.0, 12.5, 12.34."""
    return str(float(amount))


def banksim() -> Layout:
    """A bank's payments: days since an unknown start, texts in single quotes, no id."""
    rows, payments = [], []
    for p in purchases(1_800, seed=8, days=49, merchants=50):
        step = (p.time - START).days
        customer, merchant = (
            f"C{1_093_826_151 + p.customer.number * 7_919}",
            f"M{348_934_600 + p.merchant * 31_337}",
        )
        texts = (
            f"'{customer}'", f"'{p.customer.number % 7}'", f"'{'FM'[p.customer.number % 2]}'", "'28007'", f"'{merchant}'",
            "'28007'", f"'es_{p.category}'",
        )  # fmt: skip
        rows.append([step, *texts, f"{p.amount}", int(p.is_fraud)])
        entities = {"customer": customer, "merchant": merchant}
        payments.append(Payment(None, START + timedelta(days=step), p.amount, entities, is_fraud=p.is_fraud))
    return Layout(
        "bs140513_032310.csv",
        csv_text(BANKSIM, rows).encode(),
        tuple(BANKSIM),
        tuple(payments),
        {"event_time": "step", "amount": "amount", "is_fraud": "fraud"},
        frozenset({"customer", "merchant"}),
        never_fields=frozenset({"step", "fraud"}),
        settings={"base_currency": "EUR", "time": "elapsed_days", "quote": "single"},
        answers={
            "schema.base_currency": "EUR",
            "format.time": "elapsed_days",
            "format.time_start": START.isoformat(),
        },
    )


def sparkov() -> Layout:
    """Kaggle's file of Sparkov: a first column without a name, local times, and a clock that is seven years early."""
    start = datetime.fromisoformat("2019-01-07T00:00:00+00:00")
    rows, payments = [], []
    for p in purchases(1_500, seed=9, start=start):
        person, trans_num = _person(p.customer), f"{p.number * 0x9E3779B97F4A7C15 % 2**128 + 2**124:032x}"
        local = p.time.astimezone(CHICAGO)
        values = person | {
            "": str(p.number),
            "trans_date_trans_time": f"{local:%Y-%m-%d %H:%M:%S}",
            "merchant": f"fraud_{p.shop}",
            "category": p.category,
            "amt": f"{float(p.amount)}",
            "trans_num": trans_num,
            "unix_time": str(int((p.time - SEVEN_YEARS).timestamp())),
            "merch_lat": f"{41.5 + p.merchant % 9 / 7:.6f}",
            "merch_long": f"{-88.5 + p.merchant % 8 / 7:.6f}",
            "is_fraud": str(int(p.is_fraud)),
        }
        rows.append([values[name] for name in SPARKOV])
        entities = {name: values[name] for name in ("cc_num", "merchant")}
        payments.append(Payment(trans_num, p.time, p.amount, entities, "USD", p.is_fraud))
    return Layout(
        "fraudTrain.csv",
        csv_text(SPARKOV, rows).encode(),
        tuple(SPARKOV),
        tuple(payments),
        {
            "transaction_id": "trans_num",
            "event_time": "trans_date_trans_time",
            "amount": "amt",
            "is_fraud": "is_fraud",
        },
        frozenset({"cc_num", "merchant"}),
        frozenset({"cc_num"}),
        not_entities=ONE_PERSON,
        never_fields=frozenset({"unix_time", "", "is_fraud"}),
        settings={"base_currency": "USD", "timezone": "America/Chicago"},
        answers={"schema.base_currency": "USD", "schema.timezone": "America/Chicago"},
    )


def sparkov_raw() -> Layout:
    """What Sparkov's program prints: columns separated by |, and the date apart from the time of day."""
    rows, payments = [], []
    for p in purchases(1_300, seed=10):
        trans_num = f"{p.number * 0x9E3779B97F4A7C15 % 2**128 + 2**124:032x}"
        values = _person(p.customer) | _raw(p) | {"trans_num": trans_num}
        rows.append([values[name] for name in SPARKOV_RAW])
        entities = {name: values[name] for name in ("ssn", "cc_num", "acct_num", "merchant")}
        payments.append(Payment(trans_num, p.time, p.amount, entities, "USD", p.is_fraud))
    return Layout(
        "adults_2550_male_urban_000-059.csv",
        csv_text(SPARKOV_RAW, rows, "|").encode(),
        tuple(SPARKOV_RAW),
        tuple(payments),
        {
            "transaction_id": "trans_num",
            "event_time": "trans_date",
            "time_of_day": "trans_time",
            "amount": "amt",
            "is_fraud": "is_fraud",
        },
        frozenset({"merchant"}),
        frozenset({"cc_num"}),
        payers=frozenset({"ssn", "cc_num", "acct_num"}),
        not_entities=ONE_PERSON,
        never_fields=frozenset({"unix_time", "trans_time", "is_fraud"}),
        settings={"base_currency": "USD", "timezone": "UTC"},
        answers={"schema.base_currency": "USD", "schema.timezone": "UTC"},
    )


def _raw(p: Purchase) -> dict[str, str]:
    return {
        "ssn": f"{900 + p.customer.number % 90}-{p.customer.number % 80 + 10}-{p.customer.number * 131 % 10_000:04d}",
        "acct_num": f"{p.customer.number * 15_485_863 + 10**11:012d}",
        "profile": "adults_2550_male_urban.json"
        if p.customer.number % 2
        else "young_adults_female_rural.json",
        "trans_date": f"{p.time:%Y-%m-%d}",
        "trans_time": f"{p.time:%H:%M:%S}",
        "unix_time": str(int(p.time.timestamp())),
        "category": p.category,
        "amt": f"{p.amount}",
        "is_fraud": str(int(p.is_fraud)),
        "merchant": f"fraud_{p.shop}",
        "merch_lat": f"{41.5 + p.merchant % 9 / 7:.6f}",
        "merch_long": f"{-88.5 + p.merchant % 8 / 7:.6f}",
    }


def _person(customer: Customer) -> dict[str, str]:
    n = customer.number
    return {
        "cc_num": customer.card,
        "first": customer.first,
        "last": customer.last,
        "gender": "FM"[n % 2],
        "street": f"{100 + n * 37} Jones Street Apt. {n}",
        "city": f"{customer.city} Falls",
        "state": ("NC", "WA", "ID", "MT", "VA")[n % 5],
        "zip": f"{20_000 + n * 613}",
        "lat": f"{36.0 + n % 40 / 7:.4f}",
        "long": f"{-120.0 + n % 40 / 7:.4f}",
        "city_pop": str(300 + n * 1_117),
        "job": ("Psychologist, counselling", "Nurse", "Patent attorney", "Engineer")[n % 4],
        "dob": f"{1950 + n % 50}-{1 + n % 12:02d}-{1 + n % 28:02d}",
    }
