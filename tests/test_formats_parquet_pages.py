"""Parquet files that unpack to far more than they are: read a few rows at a time, or refused before anything is unpacked."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.ingest.formats import parquet_pages
from pipeline.ingest.formats.reader import open_path
from pipeline.ingest.formats.row_batch import ExpectedColumns

MIB = 1 << 20
EXPECTED = ExpectedColumns(required={"id": "schema.transaction_id", "text": "schema.columns"})
# How a long value is written again and again, in a file of at most 2 MiB.
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"use_dictionary": False},
    "plain, version 2": {"use_dictionary": False, "data_page_version": "2.0"},
    "prefixes": {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
    "dictionary": {},
    "dictionary that was given up": {"dictionary_pagesize_limit": 1},
}
READ = """
import resource, sys
from pathlib import Path
from pipeline.ingest.formats.reader import open_path
from pipeline.ingest.formats.row_batch import ExpectedColumns
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
batches = open_path(Path(sys.argv[1]), None, "x").rows(ExpectedColumns(required={"id": "a", "text": "b"}))
print(sum(map(len, batches)), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def rows(path: Path) -> list[tuple[str, str]]:
    """All rows of a file."""
    found: list[tuple[str, str]] = []
    for batch in open_path(path, None, path.name).rows(EXPECTED):
        columns = (batch.columns[name].to_pylist() for name in ("id", "text"))
        found += zip(*columns, strict=True)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_what_unpacks_to_gigabytes_is_read_in_bounded_memory(tmp_path: Path, way: str) -> None:
    path, long = tmp_path / "bomb.parquet", "x" * MIB
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd", **WAYS[way]) as writer:
        for group in range(40):  # 2 GiB
            ids = [f"{group}_{place}" for place in range(50)]
            writer.write_table(pa.table({"id": ids, "text": [long] * 50}, schema=schema))
    assert path.stat().st_size < 2 * MIB
    read = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    n, mib = map(int, read.stdout.split())
    assert n == 2000
    assert mib < 600


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_are_read_a_few_at_a_time_are_the_same(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.parquet"
    written = [(f"id{place}", f"text {place % 7}" if place % 5 else None) for place in range(3000)]
    table = pa.table({"id": [row[0] for row in written], "text": [row[1] for row in written]})
    pq.write_table(table, path, row_group_size=700, write_statistics=True, **WAYS[way])
    at_once = rows(path)
    monkeypatch.setattr(parquet_pages, "ROWS_BYTES", 100)
    assert rows(path) == at_once == written


def test_a_page_that_is_too_large_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"id": ["a"], "text": ["x" * 3 * MIB]}), path, use_dictionary=False)
    monkeypatch.setattr(parquet_pages, "PAGE_BYTES_MAX", MIB)
    with pytest.raises(
        InputError, match="has 3 MiB in one page of the column text: write it with pages of 1 MiB"
    ):
        rows(path)


def test_headers_that_lie_or_are_none_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(
        pa.table({"id": ["a"] * 50, "text": ["b"] * 50}), path, use_dictionary=False, compression="none"
    )
    whole = path.read_bytes()
    for at in range(4, 60):  # the header of the first page, and the page
        for byte in (0x00, 0x15, 0x7F, 0xFF):
            path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            try:
                rows(path)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017 (most bytes change nothing)
