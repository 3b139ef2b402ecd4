"""Export tables and views to Parquet or CSV files."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.files import complete_file
from pipeline.progress import NoProgress, Progress
from pipeline.sanitize import for_csv
from pipeline.services.session import Session
from storage.database.column_types import Instant, Json
from storage.queries import export as exporting

FILE_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class ExportRequest:
    """A table or view, and the .parquet or .csv file to write it to."""

    table: str
    path: Path


@dataclass(frozen=True)
class ExportedTable:
    """A table or view that was written to a file."""

    table: str
    path: Path
    rows: int


def export_table(session: Session, request: ExportRequest, progress: Progress | None = None) -> ExportedTable:
    """
    Write a table or view to a file, which appears only when it is complete.

    Raises
    ------
    InputError
        The file name ends neither in .parquet nor in .csv, or its folder cannot be written to.
    Unknown
        There is no such table or view.
    """
    path, store = request.path, session.store
    if path.suffix not in FILE_SUFFIXES:
        raise InputError(
            f"{path} does not say how to write it",
            remedy=f"its name must end in {' or '.join(FILE_SUFFIXES)}",
            code="file_type",
        )
    columns = exporting.columns(store, request.table)
    write = _parquet if path.suffix == ".parquet" else _csv
    parts = _counted(exporting.rows(store, request.table), progress or NoProgress())
    with complete_file(path) as unfinished:
        written = write(columns, parts, unfinished)
    return ExportedTable(request.table, path, written)


def _counted(parts: Iterator[list[dict[str, Any]]], progress: Progress) -> Iterator[list[dict[str, Any]]]:
    for part in parts:
        yield part
        progress.advance(float(len(part)))


def _csv(columns: Mapping[str, Any], parts: Iterator[list[dict[str, Any]]], path: Path) -> int:
    names, written = [name for name in columns if name != "artifact"], 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for part in parts:
            writer.writerows([[_cell(row[name]) for name in names] for row in part])
            written += len(part)
    return written


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, dict)):
        return for_csv(json.dumps(value, ensure_ascii=False))
    return for_csv(value) if isinstance(value, str) else str(value)


def _parquet(columns: Mapping[str, Any], parts: Iterator[list[dict[str, Any]]], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, written = None, 0
    try:
        for part in _at_least_one_part(parts):
            schema = writer.schema if writer is not None else _schema(columns, part, pa)
            columnar = {
                name: pa.array([_json_if_nested(row[name]) for row in part], field.type)
                for name, field in zip(columns, schema, strict=True)
            }
            if writer is None:
                writer = pq.ParquetWriter(path, schema)
            writer.write_table(pa.table(columnar, schema=schema))
            written += len(part)
    finally:
        if writer is not None:
            writer.close()
    return written


def _at_least_one_part(parts: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    yield next(parts, [])
    yield from parts


def _schema(columns: Mapping[str, Any], part: Sequence[Mapping[str, Any]], pa: Any) -> Any:
    """Arrow types from the column types where they are known, otherwise inferred from the first rows."""

    def type_of(name: str, type_: Any) -> Any:
        if isinstance(type_, Instant):
            return pa.timestamp("us", tz="UTC")
        if isinstance(type_, Json):
            return pa.string()
        python = getattr(type_, "python_type", None) if type_ is not None else None
        by_python = {
            int: pa.int64(),
            float: pa.float64(),
            bool: pa.bool_(),
            str: pa.string(),
            bytes: pa.binary(),
        }
        if python in by_python:
            return by_python[python]
        inferred = pa.array([_json_if_nested(row[name]) for row in part]).type
        return pa.string() if pa.types.is_null(inferred) else inferred

    return pa.schema([(name, type_of(name, type_)) for name, type_ in columns.items()])


def _json_if_nested(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
