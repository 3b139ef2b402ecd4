"""What the arguments of `fraudwatch ingest` name: files, standard input, or a query in another database."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.ingest.formats import reader
from pipeline.ingest.formats.row_batch import ROWS
from storage.database.column_types import as_micros
from storage.ingest import external_query


class Cursor:
    """
    A column of a query's result that says when a row was last written: where reading goes on from.

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

    def follow(self, parts: Iterator[external_query.Part], shown: str) -> Iterator[external_query.Part]:
        """Hand the rows on and note the newest."""
        for names, rows in parts:
            if self.column not in names:
                raise InputError(
                    f'{shown}.cursor is "{self.column}", which the query does not return: add it there'
                )
            place = names.index(self.column)
            seen = [_micros(row[place], shown) for row in rows if row[place] is not None]
            self.newest = max([*seen, *([] if self.newest is None else [self.newest])], default=None)
            yield names, rows


def _micros(value: object, shown: str) -> int:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(
            f"{shown}.cursor holds {value!r}, which is not a time: name a column that says when a row was written"
        ) from None
    return as_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Source:
    """Where rows come from: a file, a stream, or a query of another database."""

    name: str  # for people
    path: Path | None = None
    form: str | None = None  # None: told by the name, or by the first bytes of a stream
    sql: str = ""  # NAME of [source.NAME]
    stream: BinaryIO | None = None
    cursor: Cursor | None = None  # of a query that is polled


def sources(
    config: Config, kind: str, paths: Sequence[str], sql: str | None, form: str | None
) -> list[Source]:
    """
    Name the sources of a command.

    Raises
    ------
    InputError
        If there is none, or one cannot be: a folder, a file that does not exist or whose name tells no format,
        standard input twice, a query of the other kind.
    """
    if sql is not None:
        if paths:
            raise InputError(f"ingest either files or --from-sql {sql}, not both at once")
        return [_query(config, kind, sql)]
    if not paths:
        raise InputError("name a file, - for standard input, or --from-sql NAME")
    if list(paths).count("-") > 1:
        raise InputError("standard input (-) can be read only once; name it once")
    return [_source(name, form) for name in paths]


@contextmanager
def opened(config: Config, source: Source) -> Iterator[reader.Reading]:
    """Open a source and close it at the end."""
    with closing(_open(config, source)) as reading:
        yield reading


def _open(config: Config, source: Source) -> reader.Reading:
    if source.path is not None:
        return reader.open_path(source.path, source.form, source.name)
    if source.stream is not None:
        return reader.open_stream(source.stream, source.form, source.name)
    section = config.source[source.sql]
    cursor = source.cursor
    since = None if cursor is None or cursor.since is None else (cursor.column, cursor.since)
    parts = external_query.read_query(
        config.source_url(source.sql), section.query, section.timeout, ROWS, source.name, since
    )
    if cursor is not None:
        parts = cursor.follow(parts, source.name)
    return reader.open_query(parts, source.name)


def _query(config: Config, kind: str, name: str) -> Source:
    config.source_url(name)  # refuses an unknown name and a missing secret
    configured = config.source[name].kind
    if configured != kind:
        raise InputError(f"source.{name} holds {configured} (its kind), so ingest it as those, not as {kind}")
    return Source(f"source.{name}", sql=name)


def _source(name: str, form: str | None) -> Source:
    if name == "-":
        return Source("standard input", form=form, stream=sys.stdin.buffer)
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name} is a folder; name its files, such as {name.rstrip('/')}/*.csv")
    if not path.exists():
        raise InputError(f"{name} does not exist; check the path")
    return Source(name, path, form or reader.format_of(path))
