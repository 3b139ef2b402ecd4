"""
What can go wrong, and who can put it right.

::

    Exception
    ├── FraudwatchError              this package; one line on stderr, never a traceback
    │   ├── ConfigError      exit 2  whoever writes config.toml or sets the environment
    │   ├── InputError       exit 2  whoever typed the command or made the file: a path, column or argument
    │   └── NotReady         exit 1  nobody is at fault: no data, no mature labels, no model yet
    ├── StorageError                 storage.errors: the database is unreachable, busy, too old, another's
    └── DetectorError                detectors.base: data that cannot be fitted, or a damaged model

`pipeline.cli` turns the three roots into one line and an exit code; everything else that escapes is a bug and
keeps its traceback. A message is one sentence that names the thing, the value and what would do.
"""


class FraudwatchError(Exception):
    """Anything the user, an operator or time can put right."""

    exit_code = 1


class ConfigError(FraudwatchError):
    """A key of the configuration is unknown, missing, of the wrong type or impossible."""

    exit_code = 2


class InputError(FraudwatchError):
    """A file, column or argument cannot be used as given; nothing was written."""

    exit_code = 2


class NotReady(FraudwatchError):  # noqa: N818 (a state, not a fault: more data or more time ends it)
    """There is nothing to work on yet: a cold start, no mature labels, no model."""

    exit_code = 1
