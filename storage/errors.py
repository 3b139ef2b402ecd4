"""
The errors of a database, and who can fix them.

::

    Exception
    └── StorageError
        ├── Unreachable       operator: no database answers at this address
        ├── SchemaOutOfDate   operator: tables or columns are missing; `fraudwatch init` adds them
        │   └── UnsupportedSchema  operator: the schema is too old to be upgraded, or newer than this program
        ├── WrongMonitor      operator: the database belongs to another monitor
        ├── Busy              nobody: another process is working; wait and repeat
        │   └── Locked        operator: another program holds the write lock of the file
        ├── Unknown           user: there is no such transaction, model or batch
        └── Damaged           operator: stored bytes are not those that were written

A message is one sentence that names the thing, the value and the remedy, and never contains a password.
"""


class StorageError(Exception):
    """The database cannot be used at all, not now, or not by this monitor."""

    exit_code = 1


class Unreachable(StorageError):  # noqa: N818 - reads as the state it reports
    """No database answers at this address."""


class SchemaOutOfDate(StorageError):  # noqa: N818
    """Tables or columns are missing, or the schema has another version than this program."""


class UnsupportedSchema(SchemaOutOfDate):
    """The schema is too old to be upgraded, or newer than this program."""


class WrongMonitor(StorageError):  # noqa: N818
    """The database belongs to another monitor, or to another program."""


class Busy(StorageError):  # noqa: N818
    """Another process holds a lease that is needed; repeat the command later."""


class Locked(Busy):
    """Another program held the database's write lock for longer than a short write takes."""


class Unknown(StorageError):  # noqa: N818
    """The database has no such row."""


class Damaged(StorageError):  # noqa: N818
    """Stored bytes are not those that were written."""
