"""How long work shows that it goes on, without knowing what a terminal is."""

from typing import Protocol


class Progress(Protocol):
    """What a long loop reports to; the doors decide what it looks like."""

    def start(self, description: str, total: float | None, unit: str) -> None:
        """Begin a piece of work of `total` units, or of unknown size."""

    def advance(self, amount: float = 1) -> None:
        """So many more units are done."""

    def note(self, text: str) -> None:
        """Say one thing beside the bar, such as what a training chose."""

    def stop(self) -> None:
        """The piece of work is over."""


class Silent:
    """Progress for tests, libraries and cron: says nothing."""

    def start(self, description: str, total: float | None, unit: str) -> None:
        """Nothing to show."""

    def advance(self, amount: float = 1) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to show."""

    def stop(self) -> None:
        """Nothing to show."""
