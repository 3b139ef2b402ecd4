"""
The exceptions of this package, their exit codes, and who can fix the cause.

::

    Exception
    ├── FraudwatchError              this package; one line on stderr, never a traceback
    │   ├── ConfigError      exit 2  fix config.toml or the environment
    │   ├── InputError       exit 2  fix the command or the file: a path, column or argument
    │   ├── SourceUnavailable exit 1  fix the query or its database; nothing was written
    │   ├── NotReady         exit 1  wait or load more data: no data, no mature labels, no model yet
    │   ├── NotAuthenticated exit 1  log in, or send a token that is in force
    │   └── Forbidden        exit 1  ask somebody whose role may do it
    ├── StorageError                 storage.errors: the database is unreachable, busy, too old, another's
    └── DetectorError                detectors.base: data that cannot be fitted, or a damaged model

A door (command line, daemon) renders the three roots (`pipeline.expected_errors`) in its own way, from what all of them have: `code`, which is stable and
made for programs, `message`, which names the thing and the value, and `remedy`, what to do, without the name of a command.
Any other exception is a bug and keeps its traceback.
"""


class FraudwatchError(Exception):
    """
    Base of the errors that a user or an operator can fix, or that time fixes.

    Parameters
    ----------
    message
        What is wrong: one sentence without its full stop, which names the thing and the value.
    remedy
        What to do about it, in words that fit any door; empty if the message says it all.
    code
        A stable name of this case, in snake_case; by default that of the class.
    """

    exit_code = 1
    code = "error"

    def __init__(self, message: str = "", *, remedy: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code or type(self).code

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class ConfigError(FraudwatchError):
    """A key of the configuration is unknown, missing, of the wrong type or impossible."""

    exit_code = 2
    code = "config"


class InputError(FraudwatchError):
    """A file, column or argument is not usable; nothing was written."""

    exit_code = 2
    code = "input"


class SourceUnavailable(FraudwatchError):  # noqa: N818 (reads as the state it reports)
    """The database of a query gives no rows."""

    exit_code = 1
    code = "unreachable"


class NotReady(FraudwatchError):  # noqa: N818 (a state, not an error: more data or time ends it)
    """There is not enough data yet: a cold start, no mature labels, no model."""

    exit_code = 1
    code = "not_ready"


class NotAuthenticated(FraudwatchError):  # noqa: N818
    """It is not known who asks: a wrong password, an ended session, a token that is not in force."""

    exit_code = 1
    code = "not_authenticated"


class Forbidden(FraudwatchError):  # noqa: N818
    """Who asks is known, and may not do this."""

    exit_code = 1
    code = "not_allowed"
