"""Small data for tests: a world of payments in arrays and files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import text

from pipeline.config.config import Config
from pipeline.ingest import ingest
from pipeline.ingest.ingest import IngestReport, Options
from storage.database.database import Store
from storage.frames import DAY, SECOND

START = 1_735_689_600 * SECOND  # 2025-01-01
NOW = START + 400 * DAY

SMALL = Config.model_validate(
    {
        "schema": {
            "entities": ["customer_id", "terminal_id"],
            "categorical": [],
            "kind": "",
            "original_id": "",
        },
        "labels": {"maturity": "5d"},
        "features": {"windows": ["1d", "7d"]},
        "training": {"min_rows": 200, "trees": 20, "holdout": "2d", "every": "7d"},
        "choose": {"few": 6, "enough": 40},
        "alerts": {"per_day": 5},
    }
)


def write_csv(path: Path, header: str, rows: Sequence[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def payments(days: int, per_day: int = 60, seed: int = 1) -> tuple[list[str], list[str]]:
    """CSV rows of payments, and of labels: large amounts at two terminals are fraud, known two days later."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    time = np.sort(rng.integers(0, days * DAY // SECOND, n)) * SECOND + START
    customer, terminal = rng.integers(0, 40, n), rng.integers(0, 20, n)
    amount = np.round(np.exp(rng.normal(3.0, 0.6, n)), 2)
    fraud = (terminal < 2) & (rng.random(n) < 0.25)
    amount[fraud] *= 12
    text = np.datetime_as_string(time.astype("datetime64[us]"), unit="s")
    known = np.datetime_as_string((time + 2 * DAY).astype("datetime64[us]"), unit="s")
    rows = [f"t{k:06d},{text[k]}Z,c{customer[k]},m{terminal[k]},{amount[k]:.2f}" for k in range(n)]
    labels = [f"t{k:06d},1,{known[k]}Z,chargeback" for k in np.flatnonzero(fraud)]
    return rows, labels


PAYMENT_HEADER = "transaction_id,event_time,customer_id,terminal_id,amount"
LABEL_HEADER = "transaction_id,is_fraud,known_at,source"


def load(
    store: Store, config: Config, kind: str, path: Path, *, now: int = NOW, **options: object
) -> list[IngestReport]:
    """Ingest a file at a given moment."""
    work = ingest.ingest_transactions if kind == "transactions" else ingest.ingest_labels
    given = ingest.sources(config, kind, [str(path)], None, None)
    return list(work(store, config, given, clock=lambda: now, options=Options(**options)))  # type: ignore[arg-type]


def load_both(
    store: Store, config: Config, folder: Path, rows: Sequence[str], labels: Sequence[str], now: int
) -> None:
    """Payments and what is known of them, as files that arrive at `now`."""
    load(store, config, "transactions", write_csv(folder / "payments.csv", PAYMENT_HEADER, rows), now=now)
    load(store, config, "labels", write_csv(folder / "labels.csv", LABEL_HEADER, labels), now=now)


LIVED = (
    "scores",
    "flags",
    "ledger",
    "promotions",
    "promotion_checks",
    "models",
    "choices",
)  # what runs write


def forget(store: Store, *tables: str) -> None:
    """Take everything out of these tables."""
    with store.write() as connection:
        for table in tables:
            connection.execute(text(f"DELETE FROM {table}"))
