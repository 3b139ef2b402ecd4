"""The errors that users, operators or time can fix, of all three packages; any other exception is a bug."""

from detectors.base import DetectorError
from pipeline.errors import FraudwatchError
from storage.errors import StorageError

EXPECTED_ERRORS = (FraudwatchError, StorageError, DetectorError)
ExpectedError = FraudwatchError | StorageError | DetectorError
