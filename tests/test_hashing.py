"""Hashed values: their display form, one card however it is written, and every door that finds them again."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text, update

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.hashing import STORED, Hasher, display_form, key_check
from pipeline.sanitize import for_csv, for_page, for_terminal
from pipeline.services.data.database import upgrade as prepare
from pipeline.services.person import EntityValue, erase
from pipeline.services.review.flags import FlagRequest, list_flags
from pipeline.services.review.mutes import EntityTarget, NewMute, add_mute
from pipeline.services.review.rules import NewRule, add_rule
from pipeline.services.review.verdicts import NewVerdict, record
from pipeline.services.session import Session, hash_key_check
from storage.admin.erase import Erasure
from storage.database import tables
from storage.database.database import Store
from storage.database.hash_form import has_displays
from storage.database.setup import upgrade, verify
from storage.errors import WrongMonitor
from tests.support.commands import fraudwatch
from tests.support.databases import Opener
from tests.support.payments import PAYMENT_HEADER, write_csv
from tests.support.sql import query
from tests.support.worlds import LATER, NOW, SMALL, load

KEY = b"0123456789abcdef"
CARD, HASH = "4242424242424242", Hasher(KEY).hash("4242424242424242")
IBAN = "DE89370400440532013000"

# what is written, its display form, what is hashed
FORMS = [
    (CARD, "•••• 4242", CARD),
    ("4242 4242 4242 4242", "•••• 4242", CARD),
    ("4242-4242-4242-4242", "•••• 4242", CARD),
    ("378282246310005", "•••• 0005", "378282246310005"),  # American Express, 15 digits
    ("3782 822463 10005", "•••• 0005", "378282246310005"),
    ("4222222222222", "•••• 2222", "4222222222222"),  # 13 digits
    ("6304000000000000000", "•••• 0000", "6304000000000000000"),  # Maestro, 19 digits
    ("4242424242424241", "", "4242424242424241"),  # a wrong check digit
    ("1234567812345670", "", "1234567812345670"),  # a right one, and no issuer
    ("42424242", "", "42424242"),
    ("Ann.Lee@Example.COM", "a…@example.com", "ann.lee@example.com"),
    ("ann@mail.example.org", "a…@mail.example.org", "ann@mail.example.org"),
    ("ann@example", "", "ann@example"),
    (IBAN, "DE… 3000", IBAN),
    ("de89 3704 0044 0532 0130 00", "DE… 3000", IBAN),
    ("DE89\u00a03704\u20090044\u202f0532 0130 00", "DE… 3000", IBAN),
    ("DE89-3704-0044-0532-0130-00", "DE… 3000", IBAN),
    ("DE89.3704.0044.0532.0130.00", "DE… 3000", IBAN),
    ("4242.4242.4242.4242", "•••• 4242", CARD),
    ("4242\u202f4242\u202f4242\u202f4242", "•••• 4242", CARD),
    ("+49\u00a030\u20111234\u20115678", "… 5678", "+493012345678"),
    ("DE89370400440532013001", "", "DE89370400440532013001"),
    ("+49 (0)30 1234-5678", "… 5678", "+4903012345678"),
    ("+4915112345678", "… 5678", "+4915112345678"),
    ("015112345678", "", "015112345678"),
    ("C001234", "", "C001234"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "display", "hashed"), FORMS)
def test_a_value_has_the_display_form_of_its_shape_and_one_hash(
    written: str, display: str, hashed: str
) -> None:
    assert display_form(written) == (display, hashed)
    stored = Hasher(KEY).stored(f" {written} ")
    assert stored == (f"{display} · " if display else "") + Hasher(KEY).hash(hashed)
    assert bool(STORED.fullmatch(stored)) == bool(display)
    assert Hasher(KEY, displays=False).stored(written) == Hasher(KEY).hash(written)  # as it always was


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (for_terminal, 'card_id = "•••• 4242" and amount > 5'),
        (for_page, 'card_id = "•••• 4242" and amount > 5'),
        (for_csv, f'card_id = "•••• 4242 · {HASH}" and amount > 5'),  # for programs: as it is stored
    ],
)
def test_people_see_the_display_form_and_programs_the_stored_value(
    output: Callable[[str], str], expected: str
) -> None:
    assert output(f'card_id = "•••• 4242 · {HASH}" and amount > 5') == expected
    for other in (HASH, f"· {HASH}", f"a · {HASH}0", "a · b"):  # a bare hash, and what is none
        assert output(other) == other


def settings(folder: Path) -> Config:
    key = folder / "key"
    key.write_bytes(KEY)
    schema = SMALL.schema_.model_dump() | {"hash": ["customer_id"], "hash_key_file": str(key)}
    return Config.model_validate({"schema": schema, "labels": {"never_by_silence": {}}})


def with_flags(store: Store, config: Config, folder: Path) -> Session:
    """Three flagged payments: two of a card that is written in two ways, one of another customer."""
    cards = (CARD, "4242 4242 4242 4242", "c2")
    rows = [f"p{n},2025-01-0{n}T00:00:00Z,{card},m1,5" for n, card in enumerate(cards, start=1)]
    rows.append(f"p4,never,{CARD},m1,5")
    load(store, config, "transactions", write_csv(folder / "payments.csv", PAYMENT_HEADER, rows))
    both = {"policy": "live", "run_id": 1, "model_id": 1, "channel": "outlier"}
    with store.write() as connection:
        for name in ("p1", "p2", "p3"):
            score = {"transaction_id": name, "score": 0.9, "flagged": True, "strategy": "outlier"}
            flag = {"transaction_id": name, "reasons": [], "status": "open"}
            connection.execute(insert(tables.scores), both | score)
            connection.execute(insert(tables.flags), both | flag)
    return Session(store, config, "ann", clock=lambda: NOW)


def flagged(session: Session, typed: str) -> list[str]:
    request = FlagRequest("live", entity=("customer_id", typed))
    return sorted(flag.transaction_id for flag in list_flags(session, request).items)


def rule_of(typed: str) -> str:
    return f'customer_id in ("{typed}", "c9")'


UNTIL = datetime(2027, 1, 1, tzinfo=UTC)
# door → what it has stored of the value that was typed
DOORS: dict[str, Callable[[Session, str], Any]] = {
    "mutes add": lambda session, typed: (
        add_mute(session, NewMute(UNTIL, "why", EntityTarget("customer_id", typed))).value
    ),
    "rules add": lambda session, typed: add_rule(session, NewRule(UNTIL, "why", rule_of(typed))).text,
}


@pytest.mark.parametrize("typed", [CARD, " 4242-4242-4242-4242 ", f"•••• 4242 · {HASH}"])
def test_every_door_finds_a_hashed_card_however_it_is_typed(
    opener: Opener, tmp_path: Path, typed: str
) -> None:
    config = settings(tmp_path)
    session = with_flags(opener(config), config, tmp_path)
    stored = f"•••• 4242 · {HASH}"
    assert flagged(session, typed) == ["p1", "p2"]
    assert DOORS["mutes add"](session, typed) == stored
    assert f'"{stored}"' in DOORS["rules add"](session, typed)
    erased = erase(session, [EntityValue("customer_id", typed)])
    assert erased.counts["transactions"] == 2
    assert (erased.counts["rejected_rows"], erased.counts["mutes"], erased.counts["rules"]) == (1, 1, 1)
    for table in ("transactions", "rejected_rows", "mutes", "rules", "audit"):
        rows = str(query(session.store, f"SELECT * FROM {table}"))
        # the digits alone may stand in a digest of the audit trail, by chance
        assert not [text for text in (typed.strip(), "•••• 4242", "4242424", HASH) if text in rows], table
    assert flagged(session, typed) == []


@pytest.mark.parametrize("typed", [" •••• 4242 ", "a…@example.com", "DE… 3000", "… 5678"])
def test_a_display_form_finds_nothing_and_says_so(opener: Opener, tmp_path: Path, typed: str) -> None:
    config = settings(tmp_path)
    session = with_flags(opener(config), config, tmp_path)
    for door in (flagged, erase_customer, *DOORS.values()):
        with pytest.raises(InputError, match="stands for many values: type the value itself"):
            door(session, typed)


def erase_customer(session: Session, typed: str) -> Erasure:
    return erase(session, [EntityValue("customer_id", typed)])


@pytest.mark.parametrize(
    ("typed", "sentence", "left"),
    [
        # with a wrong check digit, so that it is no card number that is masked when it is stored
        (CARD, "of 4242 4242 4242 4242, not 4242424242424241", "of •••• 4242, not 4242424242424241"),
        ("Ann@Example.com", "ann@example.com and jo.ann@example.com", "{} and jo.ann@example.com"),
        (IBAN, "de89 3704 0044 0532 0130 00, DE89-3704-0044-0532-0130-00", "{}, {}"),
        ("+4915112345679", "call +49 151 1234-5679!", "call {}!"),
        ("C001234", "C001234 called, C0012345 did not", "{} called, C0012345 did not"),
    ],
)
def test_what_people_wrote_of_an_erased_value_goes_however_they_wrote_it(
    opener: Opener, tmp_path: Path, typed: str, sentence: str, left: str
) -> None:
    config = settings(tmp_path)
    session = with_flags(opener(config), config, tmp_path)
    add_mute(session, NewMute(UNTIL, sentence, EntityTarget("customer_id", typed)))
    record(session, NewVerdict(("p1",), "fraud", note=sentence))
    expected = left.format(*[erase(session, [EntityValue("customer_id", typed)]).values[0].pseudonym] * 2)
    assert query(session.store, "SELECT reason FROM mutes") == [(expected,)]
    assert expected in str(query(session.store, "SELECT after FROM audit"))
    assert sentence not in str(query(session.store, "SELECT before, after FROM audit"))


@pytest.mark.parametrize(
    "written", ["4242 4242\u00a04242 4242", "4242.4242.4242.4242", "4242-4242-4242-4242"]
)
def test_a_card_number_stored_in_a_sentence_before_is_erased_too(
    opener: Opener, tmp_path: Path, written: str
) -> None:
    config = settings(tmp_path)
    session = with_flags(opener(config), config, tmp_path)
    add_mute(session, NewMute(UNTIL, "why", EntityTarget("customer_id", CARD)))
    with session.store.write() as connection:
        connection.execute(update(tables.mutes).values(reason=f"of {written}"))
    pseudonym = erase(session, [EntityValue("customer_id", CARD)]).values[0].pseudonym
    assert query(session.store, "SELECT reason FROM mutes") == [(f"of {pseudonym}",)]


def test_another_key_is_noticed_before_it_makes_new_pseudonyms(opener: Opener, tmp_path: Path) -> None:
    config = settings(tmp_path)
    store = opener(config)
    session = Session(store, config, "ann", clock=lambda: NOW)

    def kept() -> object:
        return query(store, "SELECT hash_key_check FROM monitor")[0][0]

    def verified() -> None:
        verify(store, config.monitor.name, hash_key_check(config))

    assert kept() is None  # a DBA may create the tables, who has no key
    verified()
    row = f"p1,2025-01-01T00:00:00Z,{CARD},m1,5"
    file = write_csv(tmp_path / "payments.csv", PAYMENT_HEADER, [row])
    load(store, config, "transactions", file)
    assert kept() == key_check(KEY)
    assert KEY.decode() not in str(kept())
    prepare(session)
    (tmp_path / "key").write_bytes(b"another key of 27 characters")
    for door in (verified, lambda: prepare(session), lambda: load(store, config, "transactions", file)):
        with pytest.raises(
            WrongMonitor, match=r"hashed with another key than the one that is set: set FRAUDWATCH_HASH_KEY"
        ):
            door()
    (tmp_path / "key").write_bytes(b"")
    verified()  # lists need no key
    (tmp_path / "key").write_bytes(KEY + b"\n")
    verified()


def test_a_database_with_bare_hashes_keeps_them_and_a_new_one_has_displays(
    opener: Opener, tmp_path: Path
) -> None:
    config = settings(tmp_path)
    store = opener(config)
    assert has_displays(store)
    with store.write() as connection:
        connection.execute(update(tables.monitor).values(hash_displays=False))
    session = with_flags(store, config, tmp_path)
    stored = query(store, "SELECT customer_id FROM transactions ORDER BY transaction_id")
    assert stored[0] == (HASH,)  # its history goes on
    assert flagged(session, CARD) == ["p1"]
    assert flagged(session, "4242 4242 4242 4242") == ["p2"]  # written otherwise it always was another one
    assert DOORS["mutes add"](session, CARD) == HASH


@pytest.mark.parametrize(("held_rows", "displays"), [(True, False), (False, True)])
def test_an_older_database_is_upgraded_with_the_form_that_its_rows_have(
    opener: Opener, tmp_path: Path, held_rows: bool, displays: bool
) -> None:
    config = settings(tmp_path)
    store = opener(config)
    if held_rows:
        row = f"p1,2025-01-01T00:00:00Z,{CARD},m1,5"
        load(store, config, "transactions", write_csv(tmp_path / "payments.csv", PAYMENT_HEADER, [row]))
    with store.write() as connection:
        connection.execute(text("ALTER TABLE monitor DROP COLUMN hash_displays"))
        connection.execute(text("UPDATE schema_version SET version_num = '0200'"))
    assert upgrade(store, config.monitor.name, LATER).version == tables.VERSION
    assert has_displays(store) == displays


def test_lists_show_the_display_form_and_exports_the_stored_value(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[schema]\nentities = ["customer_id", "terminal_id"]\ncategorical = []\nkind = ""\noriginal_id = ""\n'
        'hash = ["customer_id"]\nhash_key_file = "key"\n[labels.never_by_silence]\n'
    )
    (tmp_path / "key").write_bytes(KEY)
    add = ("mutes", "add", "--entity", f"customer_id={CARD}", "--for", "7d", "--reason", "travels")
    fraudwatch(tmp_path, "init")
    shown = [fraudwatch(tmp_path, *add), fraudwatch(tmp_path, "mutes", "list")]
    for output in shown:
        assert "customer_id=•••• 4242" in output
        assert HASH not in output
    (mute,) = json.loads(fraudwatch(tmp_path, "mutes", "list", "--format", "json"))
    assert HASH in mute["target"]
