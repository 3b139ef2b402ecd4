"""Database URLs: what is shown of them, and which are refused; no secret is in either."""

import pytest

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.services.session import open_session
from storage.database.database import sqlite_file
from storage.database.urls import display_url, parse_url, without_secrets
from storage.errors import Unreachable
from storage.ingest.external_query import read_query
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


# ── refused with one sentence, by whoever opens them ──


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://u:{CANARY}@h:abc/d", "port that is no number: write"),
        (f"postgresql://u:{CANARY}@h:5432:33/d", "port that is no number"),
        (f"postgresql://u:{CANARY}@[::1/d", "port that is no number"),
        (f"postgresql://u:p:{CANARY}@rest@h/d", "an @ that is not escaped"),
        (f"postgresql://u:{CANARY}@h:99999/d", "port '99999': use a port from 1 to 65535"),
        (f"postgresql://u:{CANARY}@h:0/d", "port '0'"),
        (f"postgresql://h/d?host=a,b&port=5432,99999&password={CANARY}", "port '99999'"),
        (f"postgresql://h/d?port=abc&password={CANARY}", "port 'abc'"),
        (f"postgresql+nothing://u:{CANARY}@h/d", "the driver 'nothing', which is not used here: begin it with postgresql://"),
        (f"postgresql+psycopg2://u:{CANARY}@h/d", "the driver 'psycopg2'"),
        (f"sqlite://u:{CANARY}@/x.db", "names a host or user, but SQLite is a file"),
        (f"sqlite://{CANARY}/x.db", "names a host or user, but SQLite is a file"),
        ("sqlite+pysqlcipher:///x", "the driver 'pysqlcipher'"),
        (f"mysql://u:{CANARY}@h/d", "mysql"),
        (f"foo://{CANARY}", "foo"),
        (CANARY, "is not a database URL"),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_with_one_sentence(url: str, message: str) -> None:
    config = Config.model_validate({"storage": {"url": url}})

    def open_and_verify() -> None:
        with open_session(config, "ann"):
            pass

    for use in (
        lambda: open_configured(config),
        open_and_verify,
        lambda: list(read_query(url, "select 1", 1_000_000, 10, "source.pay")),
    ):
        with pytest.raises(Unreachable, match=message) as refused:
            use()
        assert CANARY not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_usual_urls_are_parsed() -> None:
    for url in ("sqlite:///a.db", "postgresql://u@h:5432/d", "postgresql+psycopg://u@/d?host=%2Frun%2Fpg", "postgresql://[::1]:5432/d"):  # fmt: skip
        assert parse_url(url, "storage.url").render_as_string() == url
