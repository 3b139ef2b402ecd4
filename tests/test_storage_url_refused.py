"""URLs that cannot be used end in one sentence that does not tell the password."""

import pytest

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.services.session import open_session
from storage.database.urls import parse_url
from storage.errors import Unreachable
from storage.ingest.external_query import read_query

SECRET = "canary"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://u:{SECRET}@h:abc/d", "port that is no number: write"),
        (f"postgresql://u:{SECRET}@h:5432:33/d", "port that is no number"),
        (f"postgresql://u:{SECRET}@[::1/d", "port that is no number"),
        (f"postgresql://u:p:{SECRET}@rest@h/d", "an @ that is not escaped"),
        (f"postgresql://u:{SECRET}@h:99999/d", "port '99999': use a port from 1 to 65535"),
        (f"postgresql://u:{SECRET}@h:0/d", "port '0'"),
        (f"postgresql://h/d?host=a,b&port=5432,99999&password={SECRET}", "port '99999'"),
        (f"postgresql://h/d?port=abc&password={SECRET}", "port 'abc'"),
        (f"postgresql+nothing://u:{SECRET}@h/d", "the driver 'nothing', which is not used here: begin it with postgresql://"),
        (f"postgresql+psycopg2://u:{SECRET}@h/d", "the driver 'psycopg2'"),
        (f"sqlite://u:{SECRET}@/x.db", "names a host or user, but SQLite is a file"),
        (f"sqlite://{SECRET}/x.db", "names a host or user, but SQLite is a file"),
        ("sqlite+pysqlcipher:///x", "the driver 'pysqlcipher'"),
        (f"mysql://u:{SECRET}@h/d", "mysql"),
        (f"foo://{SECRET}", "foo"),
        (SECRET, "is not a database URL"),
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
        assert SECRET not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_usual_urls_are_parsed() -> None:
    for url in ("sqlite:///a.db", "postgresql://u@h:5432/d", "postgresql+psycopg://u@/d?host=%2Frun%2Fpg", "postgresql://[::1]:5432/d"):  # fmt: skip
        assert parse_url(url, "storage.url").render_as_string() == url
