"""
Whether two databases hold the same results, bit for bit: before and after a change that must not change any.

    python -m benchmarks.equal OLD NEW [--policy live]

OLD and NEW are SQLite files or URLs (sqlite:///file.db, postgresql://user@host/db). Compared are, by transaction, the
scores (score, outlier_score, fraud_probability, decision_value and threshold as 64-bit patterns; channel, strategy,
flagged), the reasons of flags (code, feature, value, usual and share in their order, not their text), and, by training
date, the choices (strategy, counts, prevalence). A name that was changed once is read as its newer one: `RENAMED`.
Exit code 1 when anything differs, with the first rows that do.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine, create_engine, text

RENAMED = {"bridge": "blend", "BRIDGE": "BLEND"}  # before 0.2.0
SCHEMA = "fraudwatch"  # where tables are on Postgres, unless --schema says otherwise
EXAMPLES_MAX = 5  # differing rows that are printed of each comparison
REASON_KEYS = ("code", "feature", "value", "usual", "share")

SCORES = """
    SELECT transaction_id, score, outlier_score, fraud_probability, decision_value, threshold, channel, strategy, flagged
    FROM {prefix}scores WHERE policy = :policy ORDER BY transaction_id"""
FLAGS = """
    SELECT transaction_id, channel, status, reasons FROM {prefix}flags WHERE policy = :policy ORDER BY transaction_id"""
CHOICES = """
    SELECT training_date, strategy, proposed, rule, mature, positives, effective_positives, prevalence,
           prevalence_lower, prevalence_upper, outlier_share
    FROM {prefix}choices WHERE policy = :policy ORDER BY training_date, choice_id"""


def main(arguments: list[str] | None = None) -> int:
    """Compare two databases and print what was compared; 1 when anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", help="SQLite file or URL")
    parser.add_argument("new", help="SQLite file or URL")
    parser.add_argument("--policy", default="live")
    parser.add_argument("--schema", default=SCHEMA, help="schema of the tables on Postgres")
    options = parser.parse_args(arguments)
    databases = engine(options.old), engine(options.new)
    differing = 0
    for name, sql in (("scores", SCORES), ("reasons", FLAGS), ("choices", CHOICES)):
        old, new = (read(database, sql, options.policy, options.schema) for database in databases)
        differing += report(name, old, new)
    print("equal" if not differing else f"{differing:,} rows differ")
    return int(differing > 0)


def engine(address: str) -> Engine:
    """A database by its URL, or by the path of a SQLite file that exists."""
    if "://" not in address:
        if not Path(address).is_file():
            sys.exit(
                f"{address} is not a file: give a SQLite file, or a URL such as postgresql://user@host/db"
            )
        address = f"sqlite:///{address}"
    return create_engine(address.replace("postgresql://", "postgresql+psycopg://"))


def read(database: Engine, sql: str, policy: str, schema: str) -> pd.DataFrame:
    """Rows of one query with the key first, values made comparable: bit patterns for floats, newer names for words."""
    prefix = f'"{schema}".' if database.dialect.name == "postgresql" else ""
    with database.connect() as connection:
        rows = pd.read_sql_query(text(sql.format(prefix=prefix)), connection, params={"policy": policy})
    return pd.DataFrame({str(name): comparable(str(name), column) for name, column in rows.items()})


def comparable(name: str, column: "pd.Series[Any]") -> "pd.Series[Any]":
    """
    A column in a form in which equal means the same bits.

    Floats become their hexadecimal notation, which is exact; instants text in UTC; reasons their values without text.
    """
    if name == "reasons":
        return column.map(lambda value: json.dumps(list(reasons(value))))
    if name == "training_date":
        return pd.to_datetime(column, utc=True, format="ISO8601").astype(str)
    if name == "flagged":
        return column.astype(bool)
    if pd.api.types.is_float_dtype(column):
        return column.map(lambda value: None if np.isnan(value) else float(value).hex())
    return column.map(lambda value: RENAMED.get(value, value))


def reasons(value: Any) -> Iterator[list[Any]]:
    """The reasons of a flag, without the sentences made of them."""
    for reason in json.loads(value) if isinstance(value, str) else value:
        numbers = [reason.get(key) for key in REASON_KEYS]
        yield [number.hex() if isinstance(number, float) else number for number in numbers]


def report(name: str, old: pd.DataFrame, new: pd.DataFrame) -> int:
    """Print how many rows of each were compared and which differ; returns how many."""
    key = old.columns[0]
    both = old.assign(n=old.groupby(key).cumcount()).merge(
        new.assign(n=new.groupby(key).cumcount()),
        on=[key, "n"],
        how="outer",
        suffixes=("", "_new"),
        indicator=True,
    )
    unequal = both["_merge"] != "both"
    columns = [column for column in old.columns if column != key]
    by_column = {}
    for column in columns:
        a, b = both[column], both[f"{column}_new"]
        differs = ~((a == b) | (a.isna() & b.isna())) & (both["_merge"] == "both")
        by_column[column] = int(differs.sum())
        unequal |= differs
    lacking = f"{int((both['_merge'] == 'left_only').sum()):,} only in OLD, {int((both['_merge'] == 'right_only').sum()):,} only in NEW"
    wrong = ", ".join(f"{column} {count:,}" for column, count in by_column.items() if count)
    print(f"{name}: {len(old):,} rows in OLD, {len(new):,} in NEW; {lacking}; differing: {wrong or 'none'}")
    for row in both[unequal].head(EXAMPLES_MAX).itertuples():
        print(f"  {row}")
    return int(unequal.sum())


if __name__ == "__main__":
    sys.exit(main())
