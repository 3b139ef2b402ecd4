"""How many payments a file has on each day."""

from dataclasses import dataclass

import numpy as np

from pipeline.ingest.formats.arrow_arrays import Bools
from storage.frames import Ints

DAMAGED = 0.001  # share of the dates at either end


@dataclass(frozen=True)
class Volume:
    """How many payments, and how many of them that the file calls fraud, each day has, from the first to the last."""

    first: int  # days since 1970
    counts: Ints
    frauds: Ints

    @classmethod
    def of(cls, days: Ints, is_fraud: Bools | None = None) -> "Volume | None":
        """The volume of payments on these days (since 1970); None without any."""
        if not len(days):
            return None
        first = int(days.min())
        counts = np.bincount(days - first)
        frauds = days[is_fraud] if is_fraud is not None else days[:0]
        return cls(first, counts, np.bincount(frauds - first, minlength=len(counts)))

    def plus(self, other: "Volume | None") -> "Volume":
        """The volume of both together."""
        if other is None:
            return self
        first = min(self.first, other.first)
        counts, frauds = np.zeros((2, max(self.end, other.end) - first), dtype=np.int64)
        for volume in (self, other):
            days = slice(volume.first - first, volume.end - first)
            counts[days] += volume.counts
            frauds[days] += volume.frauds
        return Volume(first, counts, frauds)

    def trimmed(self) -> "Volume":
        """The volume without days at its ends that only a few damaged dates make so distant."""
        rows = np.cumsum(self.counts)
        first, last = np.searchsorted(rows, [DAMAGED * self.rows, (1 - DAMAGED) * self.rows]).tolist()
        if last - first >= self.days / 2:
            return self
        days = slice(first, last + 1)
        return Volume(self.first + first, self.counts[days], self.frauds[days])

    @property
    def days(self) -> int:
        """How many days there are."""
        return len(self.counts)

    @property
    def end(self) -> int:
        """The day after the last."""
        return self.first + self.days

    @property
    def rows(self) -> int:
        """How many payments there are."""
        return int(self.counts.sum())

    def before(self, day: int) -> int:
        """How many payments there are before a day."""
        return int(self.counts[: max(0, day - self.first)].sum())
