"""The date of a training that nobody has scheduled, and the history that it learns from."""

from datetime import datetime

from pipeline.config.config import Config
from pipeline.features import history as feature_history
from pipeline.features.history import History
from storage.database.column_types import as_micros
from storage.database.database import Store
from storage.ingest import history as stored_history


def training_date(store: Store, config: Config, now: int, as_of: datetime | None) -> int:
    """The date in µs: `as_of`, or by default now, or just after the newest transaction has become visible if that is earlier."""
    if as_of is not None:
        return as_micros(as_of)
    span = stored_history.span(store)
    return now if span is None else min(now, span[1] + config.schedule.allowed_lateness + 1)


def load_training_history(store: Store, config: Config, date: int) -> History:
    """The history of a training at `date`: its span, and before it what features look back to."""
    return feature_history.load(store, config, date - config.training.span - config.lookback, date)
