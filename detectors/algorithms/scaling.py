"""Columns on one scale, heavy tails softened but never cut: for detectors that measure distances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from detectors.base import Floats

FURTHEST = 1e12  # spreads from the centre; beyond lies only what would overflow
PARTS = ("centre", "spread", "mean", "deviation")


@dataclass(frozen=True)
class SoftScale:
    """
    Columns centred at their median and divided by their mean distance from it, then softened.

    Distances grow like their square root, sign(z)(√(1 + 2|z|) − 1), so that heavy tails count without ruling, and no
    two values tie as they would if clipped; the result has mean 0 and deviation 1 on the training rows. Only exactly
    rounded operations are used: any machine gives the same bits.
    """

    centre: Floats
    spread: Floats
    mean: Floats
    deviation: Floats

    @classmethod
    def fit(cls, rows: Floats) -> "SoftScale":
        """Learn from training rows (n_samples, n_features)."""
        centre = np.median(rows, axis=0)
        spread = _or_one(np.abs(rows - centre).mean(axis=0))
        soft = _soft(rows, centre, spread)
        return cls(centre, spread, soft.mean(axis=0), _or_one(soft.std(axis=0)))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats]) -> "SoftScale":
        """The scale whose `arrays` these are."""
        return cls(*(arrays[name] for name in PARTS))

    def transform(self, rows: Floats) -> Floats:
        """Scaled rows, (n_samples, n_features)."""
        return (_soft(rows, self.centre, self.spread) - self.mean) / self.deviation

    def arrays(self) -> dict[str, Floats]:
        """What was learned, by name."""
        return {name: getattr(self, name) for name in PARTS}


def _or_one(scale: Floats) -> Floats:
    """A constant column has no scale; a tiny one would blow up rounding errors."""
    return np.where(np.isfinite(scale) & (scale > 1e-9), scale, 1.0)


def _soft(rows: Floats, centre: Floats, spread: Floats) -> Floats:
    with np.errstate(over="ignore"):  # the clip catches it
        z = np.clip((rows - centre) / spread, -FURTHEST, FURTHEST)
    return np.sign(z) * (np.sqrt(1.0 + 2.0 * np.abs(z)) - 1.0)
