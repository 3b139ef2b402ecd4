"""
The exceptions of this package, their exit codes, and who can fix the cause.

::

    Exception
    ├── FraudwatchError              this package; one line on stderr, never a traceback
    │   ├── ConfigError      exit 2  fix config.toml or the environment
    │   ├── InputError       exit 2  fix the command or the file: a path, column or argument
    │   └── NotReady         exit 1  wait or load more data: no data, no mature labels, no model yet
    ├── StorageError                 storage.errors: the database is unreachable, busy, too old, another's
    └── DetectorError                detectors.base: data that cannot be fitted, or a damaged model

`pipeline.cli` turns the three roots into one line and an exit code; any other exception is a bug and keeps its
traceback. A message is one sentence that names the thing, the value and the remedy.
"""


class FraudwatchError(Exception):
    """Base of the errors that a user or an operator can fix, or that time fixes."""

    exit_code = 1


class ConfigError(FraudwatchError):
    """A key of the configuration is unknown, missing, of the wrong type or impossible."""

    exit_code = 2


class InputError(FraudwatchError):
    """A file, column or argument is not usable; nothing was written."""

    exit_code = 2


class NotReady(FraudwatchError):  # noqa: N818 (a state, not an error: more data or time ends it)
    """There is not enough data yet: a cold start, no mature labels, no model."""

    exit_code = 1
