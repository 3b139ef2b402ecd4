"""The database of a monitor: create or upgrade it, or say how."""

from pipeline.services.session import Session, hash_key_check
from storage.database import setup, setup_sql
from storage.database.setup import Upgrade


def upgrade(session: Session) -> Upgrade:
    """
    Create or upgrade the tables and add the configured columns; it is idempotent. The session is not verified.

    Raises
    ------
    UnsupportedSchema
        The schema is older than the first migration, or newer than this program.
    WrongMonitor
        The database belongs to another monitor, or its values were hashed by another key.
    """
    config = session.config
    labels = config.labels
    return setup.upgrade(
        session.store,
        config.monitor.name,
        session.now,
        labels.precedence,
        labels.never_by_silence,
        hash_key_check(config),
    )


def upgrade_sql(session: Session) -> str:
    """
    The statements that `upgrade` would execute on Postgres, for an administrator; nothing is changed.

    Raises
    ------
    Refused
        The database is an SQLite file.
    UnsupportedSchema, WrongMonitor
        As for `upgrade`.
    """
    config, labels = session.config, session.config.labels
    return setup_sql.upgrade_sql(
        session.store, config.monitor.name, session.now, labels.precedence, labels.never_by_silence
    )
