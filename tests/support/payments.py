"""Files of small payments with planted fraud, and of what becomes known of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storage.frames import DAY, SECOND

START = 1_735_689_600 * SECOND  # 2025-01-01
PAYMENT_HEADER = "transaction_id,event_time,customer_id,terminal_id,amount"
LABEL_HEADER = "transaction_id,is_fraud,known_at,source"


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


def instant(text: str) -> int:
    """A time of a CSV file as µs since 1970-01-01 UTC."""
    return int(np.datetime64(text.rstrip("Z"), "us").astype(np.int64))


def time_text(instant: int) -> str:
    """µs since 1970-01-01 UTC as a time of a CSV file."""
    return f"{np.datetime64(instant, 'us').astype('datetime64[s]')}Z"


def event_time(row: str) -> int:
    """When the payment of a CSV row happened."""
    return instant(row.split(",")[1])


def known_at(row: str) -> int:
    """When the label of a CSV row became known."""
    return instant(row.split(",")[2])


def arrival_times(rows: list[str]) -> np.ndarray:
    """When each payment arrives: at once, or for a seventh of them one to five days later."""
    rng = np.random.default_rng(5)
    times = np.array([event_time(row) for row in rows])
    late = rng.random(len(rows)) < 1 / 7
    return np.where(late, times + rng.integers(DAY, 5 * DAY, len(rows)), times)
