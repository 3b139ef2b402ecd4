"""Opens the configured database with the configured columns."""

from pipeline.config.config import Config
from storage.database.database import BUSY_TIMEOUT_MS, Store, open_store
from storage.database.tables import Fields, LossSettings


def open_configured(config: Config, lock_wait_ms: int = BUSY_TIMEOUT_MS) -> Store:
    """
    Open the database of this monitor; close it, or use it as a context manager.

    A write waits `lock_wait_ms` at most for the lock of an SQLite file.

    Raises
    ------
    Unreachable
        If the server, folder or file does not exist.
    """
    schema, costs = config.schema_, config.costs
    loss = LossSettings(costs.exposure, tuple(costs.liability_shifted.items()), costs.fee)
    fields = Fields(
        schema.entities,
        schema.categorical,
        schema.numeric,
        schema.refund_kinds,
        config.case_entity,
        loss,
    )
    return open_store(config.storage_url, config.storage.schema_, fields, lock_wait_ms)
