"""Output of the command line: progress bars, and rows as a table, CSV, JSON or Parquet."""

import csv
import json
import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import click

from pipeline.errors import InputError
from pipeline.number_text import score_text, table_amount
from pipeline.sanitize import for_csv, for_terminal
from pipeline.services.records import Amount

NO_VALUE = "–"
DIGITS = 4  # significant digits of a number below 1 in a table, and decimals of a larger one
DECIMALS_MAX = 10
BAR_WIDTH = 12  # a bar with its numbers fits into 80 columns; a long description is cut
TABLE_WIDTH = 1_000_000  # characters of a line: a table is never wrapped or cut
GAP = 2  # characters between columns
LONG_CELL = 24  # characters; on a narrow terminal columns of longer text go beneath their row


class ProgressBar:
    """A progress bar on standard error with rate and remaining time; silent if that is not a terminal."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def start(self, description: str, total: float | None, unit: str) -> None:
        """Show a bar of `total` units, or only a count if it is None."""
        self.stop()
        if sys.stderr.isatty():
            self._progress = _rich_progress(unit)
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


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """A progress bar that ends with the block."""
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.stop()


def _rich_progress(unit: str) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Rate(ProgressColumn):
        """Units per second, or per minute if that is less than one."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            if not speed:
                return Text("")
            return Text(f"{speed:,.0f}/s" if speed >= 1 else f"{speed * 60:,.1f}/min")

    cut = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=cut),
        BarColumn(bar_width=BAR_WIDTH),
        MofNCompleteColumn(),
        TextColumn(unit),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        expand=True,
    )


def write_rows(
    rows: Iterable[Any], columns: Sequence[str], output_format: str, output: Path | None, empty_message: str
) -> None:
    """
    Write rows as a table, CSV, a JSON array or Parquet, to a file or to standard output.

    Parameters
    ----------
    rows
        Mappings, or typed records (dataclasses).
    columns
        Names of keys or attributes; one that a row lacks is empty.

    Raises
    ------
    InputError
        Parquet needs an output file.
    """
    if output_format == "parquet":
        _parquet(rows, columns, output)
    elif output is None:
        _write_text(rows, columns, output_format, sys.stdout, empty_message)
    else:
        with output.open("w", encoding="utf-8", newline="") as file:
            _write_text(rows, columns, output_format, file, empty_message)
        click.echo(f"written to {output}", err=True)


def score_cell(score: float | None, output_format: str) -> str | float | None:
    """A score for people in a table, as it is stored in every other format."""
    return score if score is None or output_format != "table" else score_text(score)


def _write_text(
    rows: Iterable[Any], columns: Sequence[str], output_format: str, file: TextIO, empty_message: str
) -> None:
    {"csv": _csv, "json": _json, "table": _table}[output_format](rows, columns, file, empty_message)


def _values(row: Any, columns: Sequence[str]) -> list[Any]:
    if isinstance(row, Mapping):
        return [row.get(name) for name in columns]
    return [getattr(row, name, None) for name in columns]


def _csv(rows: Iterable[Any], columns: Sequence[str], file: TextIO, _empty_message: str) -> None:
    writer = csv.writer(file)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([for_csv(_plain_text(value)) for value in _values(row, columns)])


def _json(rows: Iterable[Any], columns: Sequence[str], file: TextIO, _empty_message: str) -> None:
    separator = "["
    for row in rows:
        item = dict(zip(columns, _values(row, columns), strict=True))
        file.write(separator + "\n" + json.dumps(item, default=_json_value))
        separator = ","
    file.write("[]\n" if separator == "[" else "\n]\n")


def _parquet(rows: Iterable[Any], columns: Sequence[str], output: Path | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if output is None:
        raise InputError(
            "the format parquet needs an output file", remedy="add --output FILE.parquet", code="no_output"
        )
    flat_rows = [dict(zip(columns, map(_flat, _values(row, columns)), strict=True)) for row in rows]
    pq.write_table(
        pa.Table.from_pylist(flat_rows) if flat_rows else pa.table({c: [] for c in columns}), output
    )
    click.echo(f"written to {output}", err=True)


def _table(rows: Iterable[Any], columns: Sequence[str], file: TextIO, empty_message: str) -> None:
    listed = [_values(row, columns) for row in rows]
    if not listed:
        click.echo(empty_message, err=True)
        return
    numeric = [all(_is_number(values[place]) for values in listed) for place in range(len(columns))]
    cells = [[_cell(value) for value in values] for values in listed]
    lines = _table_lines(columns, cells, numeric)
    if file.isatty():
        width = shutil.get_terminal_size().columns
        if max(map(len, lines)) > width:
            lines = _narrow_lines(columns, cells, numeric, width)
    file.write("".join(f"{line}\n" for line in lines))


def _table_lines(
    columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> list[str]:
    """Two lines of header and one for each row, as wide as they need."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="", padding=(0, 1, 0, 0))
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console(width=TABLE_WIDTH, highlight=False, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _narrow_lines(
    columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], width: int
) -> list[str]:
    """A table too wide for the terminal: what has no place beside the first columns goes beneath its row."""
    widths = [max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(columns)]
    beside, left = [0], width - widths[0]
    for place in range(1, len(columns)):
        if widths[place] <= LONG_CELL and widths[place] + GAP <= left:
            beside.append(place)
            left -= widths[place] + GAP
    header, rule, *rows = _table_lines(
        [columns[place] for place in beside],
        [[row[place] for place in beside] for row in cells],
        [numeric[place] for place in beside],
    )
    lines = [header[:width], rule[:width]]
    for line, row in zip(rows, cells, strict=True):
        named = [
            f"{columns[place]}: {row[place]}"
            for place in range(len(columns))
            if place not in beside and row[place] != NO_VALUE
        ]
        lines += [line] if len(line) <= width else textwrap.wrap(line, width)
        lines += textwrap.wrap("; ".join(named), width, initial_indent="    ", subsequent_indent="    ")
    return lines


def _cell(value: Any) -> str:
    """A value in a table, readable on one line."""
    if value is None:
        return NO_VALUE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Decimal):
        return table_amount(value)
    if isinstance(value, Amount):
        return f"{table_amount(value.value)} {value.currency}"
    return for_terminal(_plain_text(value))


def _float_text(value: float) -> str:
    """A number without an exponent: 4 significant digits below 1, up to 4 decimals above."""
    if not math.isfinite(value):
        return str(value)
    decimals = DIGITS
    if 0 < abs(value) < 1:
        decimals = min(DIGITS - 1 - math.floor(math.log10(abs(value))), DECIMALS_MAX)
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain_text(value: Any) -> str:
    """A value for a program that reads text: exact, with the zone of a time."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return _time_text(value)
    if isinstance(value, float):
        return _float_literal(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Amount):
        return f"{value.value:f}"
    return json.dumps(value, default=_json_value) if _is_nested(value) else str(value)


def _float_literal(value: float) -> str:
    """All digits of a number, without an exponent."""
    return f"{Decimal(repr(value)):f}" if math.isfinite(value) else str(value)


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return _time_text(value)
    if isinstance(value, Decimal):
        return float(value)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _flat(value: Any) -> Any:
    """A value that a column of Parquet holds."""
    if isinstance(value, Amount):
        return value.value
    return json.dumps(value, default=_json_value) if _is_nested(value) else value


def _time_text(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(sep=" ").replace("+00:00", "Z")


def _is_nested(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) or is_dataclass(value)


def _is_number(value: Any) -> bool:
    numbers = (int, float, Decimal, Amount)
    return value is None or (isinstance(value, numbers) and not isinstance(value, bool))
