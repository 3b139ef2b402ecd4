"""
Reads the first rows of a file, or of the first and the last of several.

Files are read by the code of ingest, so what is recognised here is accepted there.
"""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa

from pipeline.config.sections import FormatSection
from pipeline.errors import InputError
from pipeline.ingest.decoding.compression import unpacked
from pipeline.ingest.decoding.encodings import UTF8, as_utf8
from pipeline.ingest.formats import columns
from pipeline.ingest.formats.arrow_arrays import Arrow
from pipeline.ingest.formats.csv_dialect import QUOTES, SEPARATORS, recognise
from pipeline.ingest.formats.csv_reader import START
from pipeline.ingest.formats.reader import check_path, detect_encoding, format_of, open_path
from pipeline.ingest.formats.row_batch import EVERY_COLUMN, RowBatch
from pipeline.schema_inference.column_profile import ColumnProfile

LISTED = 5  # columns that a message names
ROWS_MAX = 50_000  # enough for customers to recur; read in a second or two


@dataclass(frozen=True)
class FileSample:
    """The columns of the first rows of one or several files, and how their text was read."""

    columns: list[ColumnProfile]
    whole: bool  # whether these are all rows
    form: FormatSection
    layout: str = ""  # of the first file, for people: its encoding and separator


def read_sample(paths: Sequence[Path], now: int, encoding: str = UTF8) -> FileSample:
    """
    Read the first rows of a file, or of the first and the last one; rows that cannot be split into columns are left out.

    Parameters
    ----------
    encoding
        That is configured; if it is UTF-8, the first bytes decide.

    Raises
    ------
    InputError
        If a file is missing, of another format, damaged or empty, two columns share a name, or the files have other columns.
    """
    for path in paths:
        check_path(path, str(path))
    form = FormatSection(encoding=detect_encoding(paths[0]) if encoding == UTF8 else encoding)
    ends = [paths[0], paths[-1]] if len(paths) > 1 else [paths[0]]
    sample = _read(ends, form, now)
    for path in paths[1:-1]:
        if format_of(path) != "jsonl":  # of which each line has its own keys
            with closing(open_path(path, None, str(path), form)) as reader:
                batch = next(iter(reader.rows(EVERY_COLUMN)))
            _require_same(paths[0], [c.name for c in sample.columns], path, list(batch.columns))
    if len(paths) > 2:
        sample = replace(sample, whole=False)
    if _in_single_quotes(sample.columns):
        sample = replace(_read(ends, form.model_copy(update={"quote": "single"}), now), whole=sample.whole)
    return replace(sample, layout=_layout(paths[0], sample.form))


def _layout(path: Path, form: FormatSection) -> str:
    """What encoding, separator and quotes a file has."""
    if format_of(path) not in ("csv", "jsonl"):
        return format_of(path)
    if format_of(path) == "jsonl":
        return f"JSON Lines in {form.encoding}"
    with path.open("rb") as file:
        start = as_utf8(unpacked(file, str(path)), form.encoding)[0].read(START)
    dialect, before = recognise(start, EVERY_COLUMN, QUOTES[form.quote], final=len(start) < START)
    lines = f", {before} line{'s' if before > 1 else ''} before the header" if before else ""
    quotes = ", values in single quotes" if form.quote == "single" else ""
    return f"CSV in {form.encoding}, separated by {SEPARATORS[dialect.separator]}{quotes}{lines}"


def _read(paths: Sequence[Path], form: FormatSection, now: int) -> FileSample:
    parts = [_read_start(path, form, ROWS_MAX // len(paths)) for path in paths]
    header = list(parts[0][0])
    for path, (columns_of_path, _) in zip(paths, parts, strict=True):
        _require_same(paths[0], header, path, list(columns_of_path))
    together = {
        name: [chunk for columns_of_path, _ in parts for chunk in columns_of_path[name]] for name in header
    }
    profiles = [ColumnProfile(name, _combined(chunks), now, form) for name, chunks in together.items()]
    return FileSample(profiles, all(whole for _, whole in parts), form)


def _require_same(first: Path, header: Sequence[str], path: Path, others: Sequence[str]) -> None:
    """Raise InputError if a file has other columns than the first one."""
    lacking = [name for name in header if name not in others]
    added = [name for name in others if name not in header]
    if not lacking and not added:
        return
    near = [get_close_matches(name, added, n=1) for name in lacking]
    lacks = [
        f'"{name}"' + (f' (did you mean "{match[0]}"?)' if match else "")
        for name, match in zip(lacking, near, strict=True)
    ]
    differences = [f"has no column {', '.join(lacks[:LISTED])}"] if lacks else []
    if added:
        listed = ", ".join(f'"{name}"' for name in added[:LISTED])
        differences.append(f"has {listed}, which {first} has not")
    raise InputError(
        f"{path} {', and '.join(differences)}",
        remedy="give files with the same columns",
        code="other_columns",
    )


def _read_start(path: Path, form: FormatSection, rows: int) -> tuple[dict[str, list[Arrow]], bool]:
    """The first rows of a file by column, and whether these are all."""
    batches = list[RowBatch]()
    unreadable, size = "", 0
    with closing(open_path(path, None, str(path), form)) as reader:
        for batch in reader.rows(EVERY_COLUMN):
            unreadable = unreadable or next((row.reason for row in batch.unreadable), "")
            batches += [batch] if len(batch) else []
            size += len(batch)
            if size > rows:
                break
    if not batches:
        cause = f"holds no row that can be read ({unreadable})" if unreadable else "holds no rows"
        raise InputError(
            f"{path} {cause}", remedy="give a sample with a header and some rows", code="empty_file"
        )
    left = rows
    columns_of_path: dict[str, list[Arrow]] = {name: [] for name in batches[0].columns}
    for batch in batches:
        for name, column in batch.columns.items():
            columns_of_path[name].append(column.slice(0, left))
        left -= min(left, len(batch))
    return columns_of_path, size <= rows


def _combined(chunks: list[Arrow]) -> Arrow:
    """One array of several; as text if their types differ."""
    if len({chunk.type for chunk in chunks}) > 1:
        chunks = [columns.texts(chunk) for chunk in chunks]
    return pa.chunked_array(chunks).combine_chunks()


def _in_single_quotes(profiles: Sequence[ColumnProfile]) -> bool:
    """Whether the first name, or all values of a column, are in single quotes, which the reader took for a part of them."""
    if re.match(r"'[^']*'([,;\t|]|$)", profiles[0].name):
        return True
    return any(columns.is_text(profile.column.type) and profile.matches("^'.*'$") for profile in profiles)
