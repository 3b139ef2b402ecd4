"""Opens the sources of rows: files, standard input, or a query of another database."""

import glob
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pipeline.config.config import Config
from pipeline.errors import InputError, SourceUnavailable
from pipeline.files import display_name
from pipeline.ingest.formats import reader
from pipeline.ingest.formats.instants import parse_instant
from pipeline.ingest.formats.query_reader import open_query
from pipeline.ingest.formats.row_batch import BATCH_ROWS
from storage.database.column_types import as_micros
from storage.errors import Unreachable
from storage.ingest import external_query


class Cursor:
    """
    A column with the time a row was last written; polling goes on from its newest value.

    Parameters
    ----------
    column
        Holds times: `timestamptz`, `timestamp` read as UTC, or ISO 8601 text on SQLite.
    since
        Only rows from this instant on, µs; None for all.
    """

    def __init__(self, column: str, since: int | None) -> None:
        self.column = column
        self.since = since
        self.newest: int | None = None  # µs, of the rows that were read

    def track(self, parts: Iterator[external_query.Part], source_name: str) -> Iterator[external_query.Part]:
        """Yield the rows unchanged, and remember the newest time."""
        for names, rows in parts:
            if self.column not in names:
                raise InputError(
                    f'{source_name}.cursor is "{self.column}", which the query does not return',
                    remedy="add it to the query",
                    code="bad_cursor",
                )
            place = names.index(self.column)
            times = [_micros(row[place], source_name) for row in rows if row[place] is not None]
            self.newest = max([*times, *([] if self.newest is None else [self.newest])], default=None)
            yield names, rows


def _micros(value: object, source_name: str) -> int:
    if isinstance(value, datetime):
        return as_micros(value if value.tzinfo else value.replace(tzinfo=UTC))
    micros = parse_instant(str(value), "UTC")
    if micros is None:
        raise InputError(
            f"{source_name}.cursor holds {value!r}, which is not a time",
            remedy="name a column with the time a row was written",
            code="bad_cursor",
        )
    return micros


@dataclass(frozen=True)
class Source:
    """Where rows come from: a file, a stream, or a query of another database."""

    name: str  # for people
    path: Path | None = None
    file_format: str | None = None  # None: from the name, or the first bytes of a stream
    sql: str = ""  # NAME of [source.NAME]
    stream: BinaryIO | None = None
    cursor: Cursor | None = None  # of a query that is polled


def sources(
    config: Config, kind: str, paths: Sequence[str], sql: str | None, file_format: str | None
) -> list[Source]:
    """
    Return the sources of a command.

    Raises
    ------
    InputError
        If there is no source, or one is not usable: a folder, a missing file, a file without a known format,
        standard input twice, a pattern that matches nothing, a query of the other kind.
    """
    if sql is not None:
        if paths:
            raise InputError(f"files and the query {sql} are ingested one after the other, not both at once")
        return [_query(config, kind, sql)]
    if not paths:
        raise InputError(
            "there is nothing to ingest",
            remedy="name a file, - for standard input, or a query",
            code="no_input",
        )
    if list(paths).count("-") > 1:
        raise InputError("standard input (-) can be read only once", remedy="name it once")
    return [source for name in paths for source in _sources(name, file_format)]


def matching_paths(argument: str) -> list[Path]:
    """
    Return the files that an argument names, in the order of their names: one, or those that match a pattern.

    `*`, `?`, `[…]` and `**` (any folders) make a pattern, unless a file has that very name.

    Raises
    ------
    InputError
        If no file matches the pattern.
    """
    path = Path(argument)
    if path.exists() or not glob.has_magic(argument):
        return [path]
    matches = glob.iglob(argument, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    paths = sorted(path for path in map(Path, matches) if path.is_file())
    if not paths:
        raise InputError(f"no file matches {argument}", remedy="check the pattern", code="no_file")
    return paths


@contextmanager
def open_source(config: Config, source: Source) -> Iterator[reader.SourceReader]:
    """Open a source and close it on exit."""
    with closing(_open(config, source)) as reading:
        yield reading


def _open(config: Config, source: Source) -> reader.SourceReader:
    if source.path is not None:
        return reader.open_path(source.path, source.file_format, source.name, config.format)
    if source.stream is not None:
        return reader.open_stream(source.stream, source.file_format, source.name, config.format)
    section = config.source[source.sql]
    cursor = source.cursor
    since = None if cursor is None or cursor.since is None else (cursor.column, cursor.since)
    parts = external_query.read_query(
        config.source_url(source.sql), section.query, section.timeout, BATCH_ROWS, source.name, since
    )
    parts = _source_errors(parts)
    if cursor is not None:
        parts = cursor.track(parts, source.name)
    return open_query(parts, source.name)


def _source_errors(parts: Iterator[external_query.Part]) -> Iterator[external_query.Part]:
    """Tell an error of the query's database from one of the monitor's own."""
    try:
        yield from parts
    except Unreachable as error:
        raise SourceUnavailable(error.message, remedy=error.remedy, code=error.code) from error


def _query(config: Config, kind: str, name: str) -> Source:
    config.source_url(name)  # raises ConfigError for an unknown name or a missing secret
    configured = config.source[name].kind
    if configured != kind:
        raise InputError(
            f"source.{name} holds {configured}, not {kind}",
            remedy=f"ingest it as {configured}",
            code="other_kind",
        )
    return Source(f"source.{name}", sql=name)


def _sources(name: str, file_format: str | None) -> list[Source]:
    if name == "-":
        return [Source("standard input", file_format=file_format, stream=sys.stdin.buffer)]
    paths = matching_paths(name)
    for path in paths:
        reader.check_path(path, display_name(path))
    return [Source(display_name(path), path, file_format or reader.format_of(path)) for path in paths]
