"""The errors that users, operators or time can fix, of all three packages; any other exception is a bug."""

from detectors.base import DetectorError
from pipeline.errors import FraudwatchError
from storage.errors import StorageError

EXPECTED_ERRORS = (FraudwatchError, StorageError, DetectorError)
ExpectedError = FraudwatchError | StorageError | DetectorError


def bug_in(error: Exception | None) -> Exception | None:
    """The error if nobody expects it, else None."""
    return None if error is None or isinstance(error, (*EXPECTED_ERRORS, MemoryError)) else error


def error_code(error: Exception) -> str:
    """A stable name of an error, for programs."""
    if isinstance(error, EXPECTED_ERRORS):
        return str(error.code)
    return "out_of_memory" if isinstance(error, MemoryError) else "bug"


def storable_text(error: Exception) -> str:
    """
    An error as a sentence that every database stores.

    A bug is named by its kind only, because its text may hold values of rows; lone surrogates and null characters become
    escapes.
    """
    if isinstance(error, EXPECTED_ERRORS):
        return str(error).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if isinstance(error, MemoryError):
        return "there is not enough memory for it: split it, or give the process more"
    return f"{type(error).__name__}, a bug: the log has its traceback, please report it"
