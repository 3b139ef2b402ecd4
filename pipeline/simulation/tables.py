"""Arrow columns of simulated rows, and the files they are written to."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.errors import InputError
from pipeline.simulation.economy import CHANNELS, COUNTRIES, Payments
from storage.frames import Ints

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["parquet", "csv"]


def ids(prefix: str, numbers: Ints, digits: int) -> "pa.Array":
    """Format numbers as ids such as T000000042; −1 is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_lpad(pa.array(numbers, mask=numbers < 0).cast(pa.string()), digits, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix), text, "")


def names(values: tuple[str, ...], codes: Ints) -> "pa.Array":
    """The values at these positions; −1 is missing."""
    import pyarrow as pa

    return pa.array(values).take(pa.array(codes, mask=codes < 0))


def instants(micros: Ints) -> "pa.Array":
    """Instants (µs) as timestamps in UTC."""
    import pyarrow as pa

    return pa.array(micros).cast(pa.timestamp("us", tz="UTC"))


def transaction_table(
    payments: Payments, transaction_id: "pa.Array", original: Ints, status: "pa.Array"
) -> "pa.Table":
    """
    Rows in the columns of the shipped [schema].

    Parameters
    ----------
    original
        (n,) number of the payment that a row refunds, −1 for payments.
    """
    import pyarrow as pa

    columns = {
        "transaction_id": transaction_id,
        "event_time": instants(payments.time),
        "customer_id": ids("C", payments.customer, 6),
        "card_id": ids("K", payments.card, 6),
        "merchant_id": ids("M", payments.merchant, 5),
        "device_id": ids("D", payments.device, 8),
        "amount": pa.array(payments.cents / 100.0),
        "kind": names(("payment", "refund"), (original >= 0).astype(np.int64)),
        "original_id": ids("T", original, 9),
        "channel": names(CHANNELS, payments.channel),
        "country": names(COUNTRIES, payments.country),
        "status": status,
    }
    return pa.table(columns)


def write(tables: "dict[str, pa.Table]", output: Path, format_: Format) -> dict[str, Path]:
    """
    Write a file a table into a directory, which is created if necessary.

    Raises
    ------
    InputError
        The directory cannot be created.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'simulate: cannot create the directory "{output}": {error.strerror}') from error
    paths = {name: output / f"{name}.{format_}" for name in tables}
    for name, table in tables.items():
        _write_parquet(table, paths[name]) if format_ == "parquet" else _write_csv(table, paths[name])
    return paths


def _write_parquet(table: "pa.Table", path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")


def _write_csv(table: "pa.Table", path: Path) -> None:
    """Write CSV with instants as 2025-01-31T23:59:59+00:00; missing values are empty."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    for n, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            seconds = table[n].cast(pa.timestamp("s", tz="UTC"))
            table = table.set_column(n, column.name, pc.strftime(seconds, "%Y-%m-%dT%H:%M:%S+00:00"))
    pyarrow.csv.write_csv(table, path)
