"""
The scales on which deviations of drift metrics are measured, so that those of all metrics can be compared.

They are variance-stabilising: the square root of what grows with the square of a change; arcsines of shares; logarithms of
volumes, and of distances beyond a twentieth of a standard deviation, which are heavy-tailed; others are not transformed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Floats

NEAR = 0.05  # standard deviations: shorter distances are linear, longer ones logarithmic


@dataclass(frozen=True)
class MetricScale:
    """
    A transform of the values of a metric, and which deviations raise an alarm.

    Attributes
    ----------
    alarms
        "distance": a value far from 0. "both": one far above or below its usual value. "above": one far above it, however
        few rows it rests on.
    floor, floor_per_error
        The spread of a metric without drift is at least `floor`, and at least so many times the sampling error.
    """

    to_scale: Callable[[Floats], Floats]
    from_scale: Callable[[Floats], Floats]
    alarms: Literal["distance", "both", "above"] = "distance"
    floor: float = 0.0
    floor_per_error: float = 0.0

    def to(self, values: ArrayLike) -> Floats:
        """Values of the metric on this scale."""
        return np.asarray(self.to_scale(np.asarray(values, dtype=np.float64)))

    def back(self, scaled: ArrayLike) -> Floats:
        """Inverse of `to`."""
        return np.asarray(self.from_scale(np.asarray(scaled, dtype=np.float64)))

    def change(self, before: ArrayLike, after: ArrayLike) -> Floats:
        """Size of the change of a value on this scale."""
        return np.abs(self.to(after) - self.to(before))


def to_angle(share: ArrayLike) -> Floats:
    """asin √p, the variance-stabilising transform: the standard error of a share of n rows is 1 / (2 √n) for any share."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0))))


def to_share(angle: ArrayLike) -> Floats:
    """Inverse of `to_angle`."""
    return np.asarray(np.sin(np.clip(angle, 0.0, np.pi / 2)) ** 2)


DISTANCE = MetricScale(lambda values: values, lambda scaled: scaled, floor_per_error=0.25)
SQUARE = MetricScale(
    lambda values: np.sqrt(np.maximum(values, 0.0)),
    lambda scaled: np.square(np.maximum(scaled, 0.0)),
    floor_per_error=0.25,
)
LONG_DISTANCE = MetricScale(
    lambda values: np.log1p(np.maximum(values, 0.0) / NEAR),
    lambda scaled: np.expm1(np.maximum(scaled, 0.0)) * NEAR,
    floor_per_error=0.25,
)
# The change of a share is half of Cohen's h (1988, Statistical power analysis): the difference itself around one half, and
# larger near 0 and 1.
SHARE = MetricScale(to_angle, to_share, "both", floor_per_error=0.5)
RATIO = MetricScale(lambda values: np.log(np.maximum(values, 1e-9)), np.exp, "both", floor=0.02)
LAG = MetricScale(
    lambda values: values, lambda scaled: scaled, "above", floor=3.0
)  # days: label files come weekly where they come regularly
