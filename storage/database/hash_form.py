"""Whether a database stores hashed values with a display form, such as `•••• 4242`; decided when it is created."""

from sqlalchemy import select

from storage.database.database import Store
from storage.database.tables import monitor


def has_displays(store: Store) -> bool:
    """Whether hashed values are stored with their display form; otherwise as bare hashes."""
    with store.read() as connection:
        return bool(connection.scalar(select(monitor.c.hash_displays)))
