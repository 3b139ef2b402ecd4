"""Robust scaling of columns that compresses heavy tails without clipping, for detectors that measure distances."""

from dataclasses import dataclass

import numpy as np

from detectors.base import LEARNED_MAX, DetectorError, Floats, require_arrays

CONSTANT = 1e-9  # the scale of a column that does not vary; a tiny scale would amplify rounding errors
FURTHEST = 1e12  # spreads from the centre; larger distances would overflow


@dataclass(frozen=True)
class SoftScale:
    """
    Columns centred at their median, divided by their mean absolute deviation, and compressed.

    The compression sign(z)(√(1 + 2|z|) − 1) grows like a square root, so that heavy tails do not dominate, and values do not
    tie as they would if clipped; the result has mean 0 and standard deviation 1 on the training rows. Only exactly
    rounded operations are used, so that the result is the same to the bit on any machine.
    """

    centre: Floats
    spread: Floats
    mean: Floats
    deviation: Floats

    def __post_init__(self) -> None:
        shape = (len(self.mean),)
        require_arrays("a scale", shape, self.centre, self.spread)
        require_arrays("a scale", shape, self.mean, self.deviation, at_most=LEARNED_MAX)
        if min(self.spread.min(initial=1), self.deviation.min(initial=1)) <= CONSTANT:
            raise DetectorError(f"the spreads and deviations of a scale must be above {CONSTANT}")

    @classmethod
    def fit(cls, rows: Floats) -> "SoftScale":
        """Fit to training rows (n_samples, n_features)."""
        centre = np.median(rows, axis=0)
        spread = _or_one(np.abs(rows - centre).mean(axis=0))
        soft = _soft(rows, centre, spread)
        return cls(centre, spread, soft.mean(axis=0), _or_one(soft.std(axis=0)))

    def transform(self, rows: Floats) -> Floats:
        """Scaled rows, (n_samples, n_features)."""
        return (_soft(rows, self.centre, self.spread) - self.mean) / self.deviation


def _or_one(scale: Floats) -> Floats:
    """Replace the scale of a constant column by 1."""
    return np.where(np.isfinite(scale) & (scale > CONSTANT), scale, 1.0)


def _soft(rows: Floats, centre: Floats, spread: Floats) -> Floats:
    with np.errstate(over="ignore"):  # clipped below
        z = np.clip((rows - centre) / spread, -FURTHEST, FURTHEST)
    return np.sign(z) * (np.sqrt(1.0 + 2.0 * np.abs(z)) - 1.0)
