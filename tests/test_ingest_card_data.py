"""Card data: verification codes, PINs and tracks are never stored, and card numbers in plain text only where allowed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.card_numbers import has_check_digit, mask_numbers
from pipeline.config.config import Config
from pipeline.config.consistency import find_violations
from pipeline.config.loader import load_config
from pipeline.config.sections import Sections
from pipeline.errors import ConfigError, InputError
from pipeline.ingest.checks.card_data import mask_line
from pipeline.ingest.ingest import ingest_labels
from pipeline.ingest.sources import Source
from storage.database.database import Store
from tests.support.databases import Opener
from tests.support.ingest import configured, file, rejected, run
from tests.support.sql import query

KEY = "a key of sixteen characters and more"
CARD = "4111111111111111"
SEPARATORS = (" ", "-", ".", "\u00a0", "\u2009", "\u202f", "\u2010", "\u2011", "\u2012", "\u2013")
TRACK1, TRACK2 = "%B4111111111111111^LEE/ANN^2512101000?", ";4111111111111111=25121010000?"


# Names


NEVER_STORED = (
    "cvv CVV2 cvc card_cvv cardCVV enteredCVV cvc2_code card_verification_value CardSecurityCode amex_cid pin card_pin "
    "pin_block PinBlock pin_hash track1 Track2Data track_2_equivalent_data magstripe mag_stripe_data cv2 CV2Code csc "
    "card_csc security_code SecurityCode cc_security_code credit_card_security_code verification_value cvn cav2 "
    "cryptogramme cryptogramme_visuel sicherheitscode kartenpruefnummer"
)
STORED = (
    "cid client_id pin_code pincode used_pin_number has_pin has_cvv cvv_result cvv_match spin shipping tracking_number "
    "track_id card_verification_result csc_result cv cv_id security_deposit code verification_method pruefziffer"
)


def never_stored(**schema: Any) -> list[tuple[str, object]]:
    """Key and value of the violations about card data."""
    config = Sections.model_validate({"schema": {"entities": ["customer_id"]} | schema})
    violations = find_violations(config)
    return [(key, value) for key, value, requirement in violations if "even hashed" in requirement]


@pytest.mark.parametrize("key", ["entities", "numeric", "categorical"])
@pytest.mark.parametrize("name", NEVER_STORED.split())
def test_a_field_for_codes_pins_or_tracks_is_refused(name: str, key: str) -> None:
    assert never_stored(**{key: [name]}) == [(f"schema.{key}", name)]


def test_such_a_field_is_refused_hashed_renamed_and_in_other_roles() -> None:
    hashed = [("schema.entities", "pin"), ("schema.hash", "pin")]
    assert never_stored(entities=["pin"], hash=["pin"]) == hashed
    assert never_stored(columns={"Card CVV": "x"}, categorical=["x"]) == [('schema.columns."Card CVV"', "x")]
    assert never_stored(columns={"Card CVV": "x"}) == []  # not read
    assert never_stored(transaction_id="track2") == [("schema.transaction_id", "track2")]


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("Security Code", True), ("Kartenprüfnummer", True), ("Kartenpru\u0308fnummer", True), ("PIN", True),
        ("código de seguridad", True), ("Código de segurança", True), ("codice di sicurezza", True),
        ("Code de sécurité", True), ("Cryptogramme", True), ("Prüfziffer", False), ("Código postal", False),
    ],
)  # fmt: skip
def test_the_name_of_a_column_in_the_file_counts_in_any_language(name: str, refused: bool) -> None:
    expected = [(f'schema.columns."{name}"', "x")] if refused else []
    assert never_stored(columns={name: "x"}, categorical=["x"]) == expected


@pytest.mark.parametrize("name", STORED.split())
def test_a_field_with_a_similar_name_is_accepted(name: str) -> None:
    assert never_stored(categorical=[name]) == []


# Track data


def fields(**more: Any) -> Config:
    return configured(
        **({"key": KEY, "entities": ("card",), "categorical": ("note",), "hash": ("card",)} | more)
    )


def row(n: int = 1, card: str = "k1", note: str = "", amount: str = "5", name: str = "") -> str:
    return f"{name or f't{n}'},2026-03-01T06:00:00Z,{amount},{card},{note}"


HEADER = "transaction_id,event_time,amount,card,note"


def everything(store: Store) -> str:
    tables = ("transactions", "revisions", "rejected_rows", "batches", "labels")
    return str([query(store, f"SELECT * FROM {table}") for table in tables])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("card", TRACK1),
        ("card", TRACK2),
        ("card", "4111111111111111=25121010000"),  # without its sentinels
        ("card", "4111111111111111D25121010000F"),  # as terminals send it
        ("note", f"swiped {TRACK1}{TRACK2}"),
        ("note", "B4111 1111 1111 1111^LEE/ANN^2512"),
        ("name", TRACK2),
        ("note", "4111 1111\u00a01111 1111=25121010000"),
        ("note", "B4111\u20091111\u20091111\u20091111^LEE/ANN^2512"),
    ],
)
@pytest.mark.parametrize("hashed", [True, False])
def test_a_row_with_track_data_is_set_aside_without_it(
    opener: Opener, tmp_path: Path, column: str, value: str, hashed: bool
) -> None:
    config = fields() if hashed else fields(key="", hash=())
    store = opener(config)
    lines = [row(1), row(2, **{column: value}), row(3, note="https://shop.example/?order=4111")]
    (report,) = run(store, config, file(tmp_path, lines, HEADER))
    assert (report.counts.accepted, report.counts.rejected) == (2, 1)
    stored, reason = rejected(store, report.batch_id)[2]
    assert "track data of a card, which must never be stored" in reason
    name = "transaction_id" if column == "name" else column
    assert "(track data removed)" in json.loads(stored)[name]
    assert "4111111111111111" not in everything(store)
    assert "LEE" not in everything(store)
    assert "2512" not in json.loads(stored)[name]


def test_labels_with_track_data_are_set_aside_too(opener: Opener, tmp_path: Path) -> None:
    config = fields()
    store = opener(config)
    source = file(
        tmp_path,
        [f"{TRACK2},1,2026-03-02T00:00Z", "t1,0,2026-03-02T00:00Z"],
        "transaction_id,is_fraud,known_at",
    )
    (report,) = run(store, config, source, ingest_labels)
    assert (report.counts.accepted, report.counts.rejected) == (1, 1)
    assert "4111" not in everything(store)


def test_labels_with_card_numbers_as_ids_are_refused_unless_they_may_be_stored(
    opener: Opener, tmp_path: Path
) -> None:
    given = [f"{card},1,2026-03-02T00:00Z" for card in cards(30)]
    named = {"transaction_id": "payment"}
    source = file(tmp_path, given, "payment,is_fraud,known_at")
    store = opener(fields(labels=named))
    with pytest.raises(InputError, match=r'add "payment" to schema\.plain_card_numbers'):
        run(store, fields(labels=named), source, ingest_labels)
    (report,) = run(store, fields(labels=named, plain_card_numbers=("payment",)), source, ingest_labels)
    assert report.counts.accepted == 30


# Card numbers in plain text


def card_number(n: int) -> str:
    """A Visa number with a right check digit."""
    begin = f"4{n:014d}"
    return next(begin + str(digit) for digit in range(10) if has_check_digit(begin + str(digit)))


def random_ids(n: int) -> list[str]:
    """Numbers of 16 digits that all begin like Visa's; about one in ten has the check digit by chance."""
    return [f"4{number:015d}" for number in np.random.default_rng(1).integers(0, 10**15, n)]


def cards(n: int) -> list[str]:
    return [card_number(1000 + number) for number in range(n)]


def in_groups(separator: str, number: str = CARD) -> str:
    return separator.join(number[place : place + 4] for place in range(0, 16, 4))


REFUSED = [
    # the column, its different values
    ("card", cards(60)),
    ("card", [f"{card[:4]} {card[4:8]} {card[8:12]} {card[12:]}" for card in cards(60)]),
    *(("card", [in_groups(sign, card) for card in cards(30)]) for sign in SEPARATORS),
    ("card", [*cards(40), *random_ids(20)]),  # most of them
    ("card", cards(5)),
    ("note", cards(30)),
    ("name", cards(30)),
]
ACCEPTED = [
    ("card", random_ids(2000)),
    ("name", random_ids(2000)),
    ("card", cards(4)),  # too few to tell
    ("card", [*cards(18), "wallet"]),  # of fewer than 20 all must be
    ("card", [f"C{n:06d}" for n in range(100)]),
    ("card", [card_number(n).replace("4", "9", 1) for n in range(100)]),  # no issuer's
]


def lines_of(column: str, values: list[str]) -> list[str]:
    return [row(n, **{column: value}) for n, value in enumerate(values)]


@pytest.mark.parametrize(("column", "values"), REFUSED)
def test_a_source_with_plain_card_numbers_is_refused_and_leaves_nothing(
    opener: Opener, tmp_path: Path, column: str, values: list[str]
) -> None:
    config = fields(key="", hash=())
    store = opener(config)
    bad = row(5000, **{column: values[0], "amount": "x"})
    with pytest.raises(InputError) as caught:
        run(store, config, file(tmp_path, [*lines_of(column, values), bad], HEADER))
    name = "transaction_id" if column == "name" else column
    assert f"t.csv holds card numbers in {name}, such as •••• {values[0][-4:]}" in str(caught.value)
    assert "schema.plain_card_numbers" in str(caught.value)
    assert ("schema.hash" in str(caught.value)) == (column != "name")
    assert query(store, "SELECT COUNT(*) FROM transactions") == [(0,)]
    assert query(store, "SELECT COUNT(*) FROM rejected_rows") == [(0,)]
    for allowed in ({"plain_card_numbers": (name,)}, {"hash": (column,), "key": KEY}):
        if column != "name" or "hash" not in allowed:
            (report,) = run(
                store,
                fields(**({"key": "", "hash": ()} | allowed)),
                file(tmp_path, lines_of(column, values), HEADER),
            )
            assert not report.counts.rejected
            with store.write() as connection:
                connection.execute(store.transactions.delete())


@pytest.mark.parametrize(("column", "values"), ACCEPTED)
def test_numbers_that_only_look_like_cards_are_accepted(
    opener: Opener, tmp_path: Path, column: str, values: list[str]
) -> None:
    config = fields(key="", hash=())
    (report,) = run(opener(config), config, file(tmp_path, lines_of(column, values), HEADER))
    assert (report.counts.accepted, report.counts.rejected) == (len(values), 0)


def test_card_numbers_that_are_numbers_in_the_file_are_refused_too(opener: Opener, tmp_path: Path) -> None:
    config = configured(entities=("card",))
    path = tmp_path / "t.parquet"
    table = {"transaction_id": [f"t{n}" for n in range(30)], "event_time": ["2026-03-01T06:00:00Z"] * 30}
    table |= {"amount": [1.0] * 30, "card": [int(card) for card in cards(30)]}
    pq.write_table(pa.table(table), path)
    with pytest.raises(InputError, match="holds card numbers in card"):
        run(opener(config), config, Source(path.name, path))


# Rejected rows


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"t1,{CARD},123,12/27,5,6,7", "t1,•••• 1111,•••,12/27,5,6,7"),  # the code beside it, too
        ("t1,4111 1111 1111 1111 123", "t1,•••• 1111 •••"),
        (f"t1,123 {CARD}", "t1,••• •••• 1111"),
        ("t1,3782-822463-10005;4321", "t1,•••• 0005;••••"[:-1]),
        *((f"t1,{in_groups(sign)},x,321", "t1,•••• 1111,x,•••") for sign in SEPARATORS),
        ("t1,1234567890123", "t1,•••• 0123"),  # nobody knows what it is
        (f"t1,{TRACK1},9", "t1,(track data removed),9"),
        (f"t1,{TRACK2},9", "t1,(track data removed),9"),
        ("t1,2026-03-01T06:00:00Z,123,5", "t1,2026-03-01T06:00:00Z,123,5"),  # no card: as it came
    ],
)
def test_a_line_that_cannot_be_split_is_kept_without_card_data(line: str, expected: str) -> None:
    assert mask_line(line) == expected


def test_a_card_number_in_the_wrong_column_of_a_bad_row_is_masked(opener: Opener, tmp_path: Path) -> None:
    config = fields(plain_card_numbers=("note",))
    store = opener(config)
    shifted = [
        row(1, amount=CARD, card="x"),
        row(2, amount="x", note=CARD),
        f"t3,{CARD}",
        row(4, amount="x", name=CARD),
    ]
    (report,) = run(store, config, file(tmp_path, shifted, HEADER))
    stored = {number: json.loads(text) for number, (text, _) in rejected(store, report.batch_id).items()}
    assert stored[1]["amount"] == "•••• 1111"
    assert stored[2]["note"] == CARD  # allowed
    assert stored[3].keys() == {"line_hash", "length"}
    assert stored[4]["transaction_id"] == CARD  # an id may look like a card, and finds the row


def test_only_numbers_with_a_check_digit_and_an_issuer_are_masked_inside_text() -> None:
    text = f"{CARD} 4111-1111-1111-1111 4111111111111112 1234567812345670 order 41111"
    assert mask_numbers(text) == "•••• 1111 •••• 1111 4111111111111112 1234567812345670 order 41111"


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_card_number_is_masked_and_hashed_however_it_is_separated(
    opener: Opener, tmp_path: Path, separator: str
) -> None:
    config = fields()
    store = opener(config)
    written = in_groups(separator)
    run(
        store, config, file(tmp_path, [row(1, card=CARD), row(2, card=written, note=f"of {written}")], HEADER)
    )
    (first, _), (second, note) = query(store, "SELECT card, note FROM transactions ORDER BY transaction_id")
    assert first == second
    assert first.startswith("•••• 1111 · ")
    assert note == "of •••• 1111"


def test_fractions_and_dates_are_no_card_numbers() -> None:
    text = "4.111111111111111 192.168.100.101 2026.03.01 10.50.30"
    assert mask_numbers(text) == text


def test_the_sentence_of_a_refused_config_names_field_and_rule(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[schema]\ncategorical = ["cvv"]\n[labels.never_by_silence]\n')
    with pytest.raises(
        ConfigError, match=r'schema\.categorical must not name a verification code.* got "cvv"'
    ):
        load_config(tmp_path / "config.toml", {})


def test_a_card_number_inside_a_text_is_stored_by_its_last_digits(opener: Opener, tmp_path: Path) -> None:
    config = fields(hash=(), key="")
    store = opener(config)
    notes = ["ok", "paid w/ 4539000000000796", "4539 0000 0000 0796", "order 1234567890123456", ""]
    rows = [row(n, note=note) for n, note in enumerate(notes)]
    rows.append(row(9, card="4539000000000796"))  # an id that looks like one
    run(store, config, file(tmp_path, rows, HEADER))
    assert query(store, "SELECT note FROM transactions ORDER BY transaction_id")[:5] == [
        ("ok",), ("paid w/ •••• 0796",), ("•••• 0796",), ("order 1234567890123456",), (None,)
    ]  # fmt: skip
    assert query(store, "SELECT count(*) FROM transactions WHERE card = '4539000000000796'") == [(1,)]
