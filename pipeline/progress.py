"""The interface by which long computations report progress, independent of the terminal."""

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a computation; the command line and the daemon implement it."""

    def start(self, description: str, total: float | None, unit: str) -> None:
        """Begin a task of `total` units; None if the size is unknown."""

    def advance(self, amount: float = 1) -> None:
        """Report that `amount` more units are done."""

    def note(self, text: str) -> None:
        """Print a line beside the progress bar, such as the strategy that a training chose."""

    def stop(self) -> None:
        """End the task."""


class NoProgress:
    """Ignores all progress: for tests, libraries and cron."""

    def start(self, description: str, total: float | None, unit: str) -> None:
        """Do nothing."""

    def advance(self, amount: float = 1) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""
