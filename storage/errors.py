"""
The errors of a database, and who can fix them.

::

    Exception
    └── StorageError
        ├── Unreachable       operator: no database answers at this address
        ├── SchemaOutOfDate   operator: tables or columns are missing; an upgrade adds them
        │   ├── UnsupportedSchema  operator: the schema is too old to be upgraded, or newer than this program
        │   └── NewerSchema        operator: the schema is newer, so that this program may only read
        ├── WrongMonitor      operator: the database belongs to another monitor
        ├── Busy              nobody: another process is working; wait and repeat
        │   ├── Locked        operator: another program holds the write lock of the file
        │   ├── StepRunning   nobody: another worker has claimed the step
        │   └── StepTaken     nobody: another worker has taken the step over
        ├── BadPosition       user: a list cannot be continued from there
        ├── Unknown           user: there is no such transaction, model or batch
        ├── Refused           user: what is to be stored contradicts what is stored
        └── Damaged           operator: stored bytes are not those that were written

Every error has a stable `code` for programs, a `message` that names the thing and the value, and a `remedy`, which names no
command; none of them ever contains a password.
"""


class StorageError(Exception):
    """
    The database cannot be used at all, not now, or not by this monitor.

    Parameters
    ----------
    message
        What is wrong: one sentence without its full stop.
    remedy
        What to do about it; empty if the message says it all.
    code
        A stable name of this case, in snake_case; by default that of the class.
    """

    exit_code = 1
    code = "storage"

    def __init__(self, message: str = "", *, remedy: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code or type(self).code

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class Unreachable(StorageError):  # noqa: N818 - reads as the state it reports
    """No database answers at this address."""

    code = "unreachable"


class SchemaOutOfDate(StorageError):  # noqa: N818
    """Tables or columns are missing, or the schema has another version than this program."""

    code = "schema_out_of_date"


class UnsupportedSchema(SchemaOutOfDate):
    """The schema is too old to be upgraded, or newer than this program."""

    code = "unsupported_schema"


class NewerSchema(SchemaOutOfDate):
    """The schema is newer than this program, which can read the database and must not write to it."""

    code = "newer_schema"


class WrongMonitor(StorageError):  # noqa: N818
    """The database belongs to another monitor, or to another program."""

    code = "wrong_monitor"


class Busy(StorageError):  # noqa: N818
    """Another process holds a lease that is needed; repeat the command later."""

    code = "busy"


class Locked(Busy):
    """Another program held the database's write lock for longer than a short write takes."""

    code = "locked"


class StepRunning(Busy):
    """Another worker has claimed the step, or one that must come first, and is at work on it."""

    code = "step_running"


class StepTaken(Busy):
    """Another worker has taken the step over: this one was suspended for longer than its lease, or the step was undone."""

    code = "step_taken"


# The database itself is away, locked, not ours, or another process has taken over: whatever is being done ends.
DATABASE_ERRORS = (Unreachable, SchemaOutOfDate, WrongMonitor, Busy)


class Unknown(StorageError):  # noqa: N818
    """The database has no such row."""

    code = "unknown"


class Refused(StorageError):  # noqa: N818
    """What is to be stored contradicts what is stored; nothing was written."""

    exit_code = 2
    code = "refused"


class BadPosition(StorageError):  # noqa: N818
    """A list cannot be continued from this position: it is not one that the list gave out."""

    exit_code = 2
    code = "bad_cursor"


class Damaged(StorageError):  # noqa: N818
    """Stored bytes are not those that were written."""

    code = "damaged"
