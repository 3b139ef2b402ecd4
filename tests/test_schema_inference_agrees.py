"""What `init --from` proposes for a file, ingest accepts: generated files of every format, with odd columns."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.ingest.checks.transaction_check import TransactionCheck
from pipeline.ingest.formats.reader import open_path
from pipeline.schema_inference.propose import propose
from tests.support.ingest import NOW

ROWS = 40
START = datetime(2026, 3, 12, 6, tzinfo=UTC)  # a day that is no month
TIMES: dict[str, Callable[[datetime], str]] = {
    # forms that ingest accepts, and forms that it does not
    "offset": lambda moment: moment.isoformat(),
    "local": lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S"),
    "hours": lambda moment: moment.strftime("%Y-%m-%dT%H"),
    "dates": lambda moment: moment.strftime("%Y-%m-%d"),
    "us": lambda moment: moment.strftime("%m/%d/%Y %I:%M %p"),
    "names": lambda moment: moment.strftime("%d %b %Y %H:%M"),
    "milliseconds": lambda moment: str(int(moment.timestamp() * 1000)),
    "comma": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S,123456789Z"),
    "week dates": lambda moment: moment.strftime("%G-W%V-%u"),
    "basic": lambda moment: moment.strftime("%Y%m%dT%H%M%S"),
    "epoch": lambda moment: str(int(moment.timestamp())),
    "day first": lambda moment: moment.strftime("%d/%m/%Y %H:%M"),
    "years ahead": lambda moment: moment.replace(year=2030).isoformat(),
}
ODD = {
    # a further column: the value of row n
    "quotes": lambda n: f'say "{n % 3}", twice\nor not',
    "leading zeros": lambda n: f"0{n % 5}",
    "mixed": lambda n: ["1", "x", "2026-03-01", "", "1.5"][n % 5],
    "nan": lambda n: ["NaN", "1.5", "2", "-inf"][n % 3],
    "infinite": lambda n: ["inf", "1.5"][n % 2],
    "nul": lambda n: f"a\0{n % 2}",
    "long": lambda n: "x" * (600 + n % 2),
    "yes": lambda n: ["yes", "no", "Fraud", "0"][n % 4],
    "other digits": lambda n: ["١", "٢"][n % 2],
    "exponent": lambda n: f"{n}e0003",
    "cards": lambda n: ["4539578763621486", "4929123456781234"][n % 2],
    "empty": lambda _: "",
    "some empty": lambda n: "" if n % 2 else f"v{n % 4}",
}


def rows_with(time: str, odd: list[str]) -> list[dict[str, str]]:
    write = TIMES[time]
    return [
        {
            "payment_id": f"p{n}",
            "created": write(START + timedelta(hours=n)),
            "amount": f"{n}.50",
            "owner": f"o{n % 7}",
            **{f"Spalte {place}": ODD[name](n) for place, name in enumerate(odd)},
        }
        for n in range(ROWS)
    ]


def csv_bytes(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def jsonl_bytes(rows: list[dict[str, str]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def parquet_bytes(rows: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in rows[0]}), buffer)
    return buffer.getvalue()


def german_bytes(rows: list[dict[str, str]]) -> bytes:
    """As a German bank writes it: lines before the header, semicolons, decimal commas, Latin-1."""
    text = io.StringIO(newline="")
    text.write("Umsätze;\r\nvom;heute\r\n")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=";", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {"amount": row["amount"].replace(".", ","), "owner": "Müller"})
    return text.getvalue().encode("cp1252", "replace")


def single_quoted_bytes(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter="\t", quotechar="'", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-16")


def zip_bytes(rows: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("rows.csv", csv_bytes(rows))
    return buffer.getvalue()


FILES: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "german.csv": german_bytes,
    "quotes.csv": single_quoted_bytes,
    "rows.zip": zip_bytes,
    "rows.csv": csv_bytes,
    "bom.csv": lambda rows: b"\xef\xbb\xbf" + csv_bytes(rows),
    "torn.csv": lambda rows: csv_bytes(rows) + b"one value\r\n\xff,\xff\r\n",
    "rows.csv.gz": lambda rows: gzip.compress(csv_bytes(rows)),
    "rows.jsonl": jsonl_bytes,
    "rows.jsonl.gz": lambda rows: gzip.compress(b"\xef\xbb\xbf" + jsonl_bytes(rows)),
    "rows.parquet": parquet_bytes,
}


def proposed(path: Path) -> Config:
    config = path.parent / "proposed.toml"
    config.write_text(propose(path, NOW).toml, encoding="utf-8")
    return load_config(config, {"FRAUDWATCH_HASH_KEY": "0123456789abcdef"})


def rejections(config: Config, path: Path) -> list[str]:
    """Ingest's reasons for rejecting rows that could be split into columns."""
    check = TransactionCheck(config)
    with closing(open_path(path, None, path.name, config.format)) as reader:
        checked = [check.check(rows, NOW)[2] for rows in reader.rows(check.expected_columns())]
    return [
        reasons.of(place)
        for reasons in checked
        for place in range(len(reasons.good))
        if not reasons.good[place]
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.sampled_from(sorted(TIMES)),
    st.lists(st.sampled_from(sorted(ODD)), max_size=4),
)
def test_ingest_accepts_what_is_proposed(tmp_path: Path, name: str, time: str, odd: list[str]) -> None:
    assume(not (name == "torn.csv" and "nul" in odd))  # a NUL a row in what is not UTF-8: that is no text
    path = tmp_path / name
    path.write_bytes(FILES[name](rows_with(time, odd)))
    config = proposed(path)
    assert (config.schema_.transaction_id, config.schema_.amount) == ("payment_id", "amount")
    if time in ("week dates", "years ahead"):
        assert (
            config.schema_.event_time == "event_time"
        )  # a name to be replaced: ingest would refuse every row
    else:
        assert config.schema_.event_time == "created"
        assert rejections(config, path) == []


MOMENTS = [START + timedelta(hours=n) for n in range(ROWS)]
COLUMNS = [
    # a column of Parquet, and the key that it is proposed under
    ("created", pa.array(MOMENTS, pa.timestamp("ns", "UTC")), "event_time"),
    ("created", pa.array([moment.replace(tzinfo=None) for moment in MOMENTS], pa.timestamp("ms")), "event_time"),
    ("created", pa.array([moment.date() for moment in MOMENTS]), "event_time"),
    ("created", pa.array([moment.isoformat() for moment in MOMENTS]).dictionary_encode(), "event_time"),
    ("created", pa.array([int(moment.timestamp()) for moment in MOMENTS]), None),  # a clock
    ("took", pa.array([timedelta(seconds=n) for n in range(ROWS)]), None),
    ("tags", pa.array([["a", "b"][: n % 3] for n in range(ROWS)]), None),
    ("blob", pa.array([b"a", b"b"] * (ROWS // 2)), "categorical"),
    ("price", pa.array([Decimal("1.10")] * 9 + [Decimal("22.00")] * (ROWS - 9)), "numeric"),
    ("score", pa.array([n * 11 % ROWS / 7 for n in range(ROWS)], pa.float32()), "numeric"),
    ("ok", pa.array([True, False] * (ROWS // 2)), "categorical"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "column", "key"), COLUMNS)
def test_ingest_accepts_columns_of_any_type_where_they_are_proposed(tmp_path, name, column, key) -> None:
    path = tmp_path / "rows.parquet"
    at = pa.array(range(ROWS) if key == "event_time" else MOMENTS)
    good = {"payment_id": [f"p{n}" for n in range(ROWS)], "at": at, "amount": [1.5 + n for n in range(ROWS)]}
    pq.write_table(pa.table({**good, name: column}), path)
    config = proposed(path)
    schema = config.schema_
    used = {"event_time": (schema.event_time,), "numeric": schema.numeric, "categorical": schema.categorical}
    assert [place for place, names in used.items() if name in names] == ([key] if key else []), propose(
        path, NOW
    ).toml
    assert rejections(config, path) == []
