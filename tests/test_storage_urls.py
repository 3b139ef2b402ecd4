"""Database URLs: what is shown of them, and which are refused; no secret is in either."""

import pytest

from pipeline.config.database import open_configured
from storage.database.database import sqlite_file
from storage.database.urls import display_url, parse_url, without_secrets
from storage.errors import Unreachable
from tests.support.databases import with_url
from tests.support.worlds import SMALL

CANARY = "Kan4rie"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///fraudwatch.db", "sqlite:///fraudwatch.db"),
        (f"sqlite:////data/f.db?key={CANARY}", "sqlite:////data/f.db"),
        ("postgresql://ann@db.example.com:5433/shop", "postgresql://ann@db.example.com:5433/shop"),
        (f"postgresql+psycopg://ann:{CANARY}@db/shop", "postgresql://ann@db/shop"),
        (f"postgresql://ann:{CANARY}%40x@[::1]/shop", "postgresql://ann@::1/shop"),
        (f"postgresql://ann@db/shop?password={CANARY}&sslpassword={CANARY}", "postgresql://ann@db/shop"),
        (f"postgresql://db/shop?passfile=/run/{CANARY}&options=-c%20x={CANARY}", "postgresql://db/shop"),
        (f"postgresql:///?host=/run/pg&port=5433&user=ann&dbname=shop&{CANARY}={CANARY}",
         "postgresql://?host=/run/pg&port=5433&user=ann&dbname=shop"),
        (f"postgresql://ann%3A{CANARY}@db/shop", "postgresql://…@db/shop"),
        (f"postgresql://ann@db/shop%3Fpassword={CANARY}", "postgresql://ann@db/…"),
        (f"postgresql://ann@/shop?host=db%20password={CANARY}", "postgresql://ann@/shop?host=…"),
    ],
)  # fmt: skip
def test_engine_user_host_port_and_database_are_shown_and_nothing_else(url: str, shown: str) -> None:
    assert display_url(parse_url(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"{CANARY}",
        f"postgresql:/ann:{CANARY}@db/shop",
        f"postgresql//ann:{CANARY}@db/shop",
        f"postgresql://ann:{CANARY}/shop",  # read as a port
        f"postgresql://ann:x@{CANARY}@db/shop",  # read as a host
        f"postgresql://ann:x@y/{CANARY}@db/shop",  # read as a database
        f"postgresql://a/nn:{CANARY}@db/shop",
        f"postgresql://ann:x@y?{CANARY}@db/shop",  # read as a parameter
        f"postgresql://ann@db:{CANARY}/shop",
        f"oracle://ann:{CANARY}@db/shop",
        f"nothing+{CANARY}://db/shop",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Unreachable) as refusal:
        open_configured(with_url(SMALL, url))
    assert CANARY not in str(refusal.value)
    assert refusal.value.remedy
    assert sqlite_file(url) is None


@pytest.mark.parametrize(
    "parameter",
    [
        f"sslmode={CANARY}", f"{CANARY}x={CANARY}", f"connect_timeout={CANARY}", f"options=-c%20{CANARY}=1",
        f"passfile=/{CANARY}", f"password={CANARY}", f"sslkey=/{CANARY}&sslmode=require", f"client_encoding={CANARY}",
        f"gssencmode={CANARY}", f"keepalives={CANARY}", f"target_session_attrs={CANARY}", f"require_auth={CANARY}",
    ],
)  # fmt: skip
def test_a_driver_that_quotes_a_parameter_is_not_repeated(parameter: str) -> None:
    url = f"postgresql://ann:{CANARY}1@127.0.0.1:1/shop?{parameter}"
    with pytest.raises(Unreachable) as refusal:
        open_configured(with_url(SMALL, url))
    assert f"={CANARY}" not in str(refusal.value)
    assert CANARY not in str(refusal.value).replace(f"{CANARY}x", "")  # the name of a parameter is no secret
    assert "postgresql://ann@127.0.0.1:1/shop" in str(refusal.value)


def test_secrets_are_taken_out_of_a_message_however_they_are_written() -> None:
    url = parse_url("postgresql://ann:a%20b%26c@db/shop?sslpassword=ab&application_name=long")
    message = 'a b&c, a%20b%26c and a+b%26c; ab but not abc; "longer"'
    assert without_secrets(message, url) == '…, … and …; … but not abc; "…er"'
