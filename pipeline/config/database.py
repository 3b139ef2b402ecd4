"""Open the database that the configuration names, with the columns that it configures."""

from pipeline.config.config import Config
from storage.database.database import Store, open_store
from storage.database.tables import Fields


def open_configured(config: Config) -> Store:
    """
    The store of this monitor; close it, or use it as a context manager.

    Raises
    ------
    Unreachable
        When there is no such server, folder or file.
    """
    schema = config.schema_
    fields = Fields(schema.entities, schema.categorical, schema.numeric, schema.refund_kinds)
    return open_store(config.storage_url, config.storage.schema_, fields)
