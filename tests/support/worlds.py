"""The worlds that tests of several packages begin with: payments of some weeks, and what runs made of them."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.config import Config
from pipeline.ingest import ingest
from pipeline.ingest.ingest_report import IngestReport, Options
from pipeline.ingest.sources import sources
from pipeline.runs.backfill import backfill
from storage.database.database import Store
from storage.frames import DAY, HOUR
from storage.runs import scoring_queue
from tests.support.databases import World
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, START, payments, write_csv

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
        "training": {"min_rows": 200, "holdout": "2d", "every": "7d"},
        "strategy": {"min_positives_blend": 6, "min_positives_classifier": 40},
        "alerts": {"per_day": 5},
    }
)
LATER = START + 400 * DAY  # when nothing of the small payments is young any more

DAYS = 40
FROM, TO = START + 19 * DAY, START + DAYS * DAY  # 2025-01-20 is a Monday
NOW = TO + 2 * HOUR


def small_at(url: str) -> Config:
    """The small config for the database at a URL, without a key, as the worlds' models were stored."""
    storage = type(SMALL.storage).model_validate({"url": url})
    return SMALL.model_copy(update={"storage": storage}, deep=True)


def load(
    store: Store, config: Config, kind: str, path: Path, *, now: int = LATER, **options: object
) -> list[IngestReport]:
    """Ingest a file at a given moment."""
    ingest_kind = ingest.ingest_transactions if kind == "transactions" else ingest.ingest_labels
    inputs = sources(config, kind, [str(path)], None, None)
    return list(ingest_kind(store, config, inputs, clock=lambda: now, options=Options(**options)))  # type: ignore[arg-type]


def load_both(
    store: Store, config: Config, folder: Path, rows: Sequence[str], labels: Sequence[str], now: int
) -> None:
    """Payments and what is known of them, as files that arrive at `now`."""
    load(store, config, "transactions", write_csv(folder / "payments.csv", PAYMENT_HEADER, rows), now=now)
    load(store, config, "labels", write_csv(folder / "labels.csv", LABEL_HEADER, labels), now=now)


def load_arrivals(store: Store, folder: Path, kind: str, header: str, rows: list[str], now: int) -> None:
    """Rows that arrive while the monitor is running."""
    path = write_csv(folder / f"{kind}{now}.csv", header, rows)
    load(store, SMALL, kind, path, now=now, history=False)


def backfill_live(store: Store, start: int, end: int) -> None:
    """Score a span under the live policy."""
    backfill(store, SMALL, start=start, end=end, as_of=NOW, policy="live", by="test")


def _load_payments(store: Store, folder: Path) -> None:
    load_both(store, SMALL, folder, *payments(DAYS), now=TO)


def _load_four_weeks(store: Store, folder: Path) -> None:
    load_both(store, SMALL, folder, *payments(28), now=START + 28 * DAY)
    scoring_queue.set_starts_at(store, "live", FROM)


def _backfill_week(store: Store, _folder: Path) -> None:
    backfill_live(store, FROM, FROM + 7 * DAY)


def _backfill_all(store: Store, _folder: Path) -> None:
    backfill_live(store, FROM, TO)


LOADED = World("loaded", SMALL, _load_payments)  # 40 days of payments and their labels
FIRST_WEEK = World("first_week", SMALL, _backfill_week, base=LOADED)  # the week from FROM on is scored
BACKFILLED = World("backfilled", SMALL, _backfill_all, base=LOADED)  # everything from FROM on is scored
FOUR_WEEKS = World(
    "four_weeks", SMALL, _load_four_weeks
)  # 28 days of payments, scored from FROM on by a daemon
