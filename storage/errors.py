"""
What can go wrong with a database, and who can put it right.

::

    Exception
    └── StorageError
        ├── Unreachable       whoever runs the server, or typed the path: nothing answers there
        ├── SchemaOutOfDate   whoever upgraded: `fraudwatch init` brings tables and columns up to date
        ├── WrongMonitor      whoever configured: this database belongs to somebody else
        ├── Busy              nobody: another process is at it; wait and repeat
        │   └── Locked        whoever else opened the file: another program holds its write lock
        ├── Unknown           whoever asked: there is no such transaction, model or batch
        └── Damaged           whoever keeps the disks: stored bytes are not what was written

A message is one sentence that names the thing, the value and what would do, and never holds a password.
"""


class StorageError(Exception):
    """A database cannot be used, or not now, or not by this monitor."""

    exit_code = 1


class Unreachable(StorageError):  # noqa: N818 - reads as the state it reports
    """No database answers at this address."""


class SchemaOutOfDate(StorageError):  # noqa: N818
    """Tables or columns are missing, or newer than this program."""


class WrongMonitor(StorageError):  # noqa: N818
    """The database belongs to another monitor, or to another program."""


class Busy(StorageError):  # noqa: N818
    """Somebody else holds what is needed; the same again later will do."""


class Locked(Busy):
    """Another program held the database's write lock for longer than a short write takes."""


class Unknown(StorageError):  # noqa: N818
    """There is no such thing in the database."""


class Damaged(StorageError):  # noqa: N818
    """Stored bytes are not the ones that were written."""
