"""Output of the command line: progress bars, and rows as a table, CSV, JSON or Parquet."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import click

from pipeline.errors import InputError
from pipeline.sanitize import for_csv, for_terminal

Row = Mapping[str, Any]
WIDTH_MAX = 60  # characters of a cell in a table; other formats are not cut


class ProgressBar:
    """A progress bar on standard error with rate and remaining time; silent if that is not a terminal."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, description: str, total: float | None, unit: str) -> None:
        """Show a bar of `total` units, or only a count if it is None."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.stop()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn(unit),
            _rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._progress.start()
        self._task = self._progress.add_task(for_terminal(description), total=total)

    def advance(self, amount: float = 1) -> None:
        """Advance the bar by `amount` units."""
        if self._progress is not None:
            self._progress.advance(self._task, amount)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        if self._progress is not None:
            self._progress.console.print(for_terminal(text), markup=False, highlight=False)
        else:
            click.echo(for_terminal(text), err=True)

    def stop(self) -> None:
        """Stop the bar where it is."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _rate() -> Any:
    """A column with units per second, or per minute if that is less than one."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            if not speed:
                return Text("")
            return Text(f"{speed:,.0f}/s" if speed >= 1 else f"{speed * 60:,.1f}/min")

    return Rate()


def write_rows(
    rows: Iterable[Row], columns: Sequence[str], output_format: str, output: Path | None, empty_message: str
) -> None:
    """
    Write rows as a table, CSV, a JSON array or Parquet, to a file or to standard output.

    Raises
    ------
    InputError
        Parquet needs an output file.
    """
    if output_format == "parquet":
        _parquet(rows, columns, output)
    elif output is None:
        _text(rows, columns, output_format, sys.stdout, empty_message)
    else:
        with output.open("w", encoding="utf-8", newline="") as file:
            _text(rows, columns, output_format, file, empty_message)
        click.echo(f"written to {output}", err=True)


def _text(
    rows: Iterable[Row], columns: Sequence[str], output_format: str, file: TextIO, empty_message: str
) -> None:
    {"csv": _csv, "json": _json, "table": _table}[output_format](rows, columns, file, empty_message)


def _csv(rows: Iterable[Row], columns: Sequence[str], file: TextIO, _empty_message: str) -> None:
    writer = csv.writer(file)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([for_csv(_plain(row.get(name))) for name in columns])


def _json(rows: Iterable[Row], columns: Sequence[str], file: TextIO, _empty_message: str) -> None:
    separator = "["
    for row in rows:
        file.write(separator + "\n" + json.dumps({name: row.get(name) for name in columns}, default=str))
        separator = ","
    file.write("[]\n" if separator == "[" else "\n]\n")


def _table(rows: Iterable[Row], columns: Sequence[str], file: TextIO, empty_message: str) -> None:
    cell_rows = [[_cell(row.get(name)) for name in columns] for row in rows]
    if not cell_rows:
        click.echo(empty_message, err=True)
        return
    numeric = [all(_is_number(row[position]) for row in cell_rows) for position in range(len(columns))]
    widths = [
        max(len(name), *(len(row[position]) for row in cell_rows)) for position, name in enumerate(columns)
    ]
    for row in [list(columns), ["─" * width for width in widths], *cell_rows]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        file.write("  ".join(cells).rstrip() + "\n")


def _parquet(rows: Iterable[Row], columns: Sequence[str], output: Path | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if output is None:
        raise InputError("--format parquet needs an output file: add --output FILE.parquet")
    flat_rows = [{name: _flat(row.get(name)) for name in columns} for row in rows]
    pq.write_table(
        pa.Table.from_pylist(flat_rows) if flat_rows else pa.table({c: [] for c in columns}), output
    )
    click.echo(f"written to {output}", err=True)


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    text = for_terminal(_plain(value))
    return text if len(text) <= WIDTH_MAX else text[: WIDTH_MAX - 1] + "…"


def _is_number(cell: str) -> bool:
    return cell == "–" or cell.replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit()
