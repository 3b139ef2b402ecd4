"""
The registry of detectors by name: where each is, and what it can be used for.

The properties are listed here, not in the classes, so that a setting is checked without importing a detector's module: PyOD,
scikit-learn, numba and LightGBM load slowly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from detectors.base import Detector, DetectorError


@dataclass(frozen=True)
class Registration:
    """A detector of the registry."""

    location: str  # module:class in detectors.algorithms
    title: str  # its name in tables
    supervised: bool = False  # whether `fit` needs `y`
    of_many: Mapping[str, Any] = field(default_factory=dict)  # parameters of one of several outlier detectors
    additive: bool = True  # whether `base_score` plus a row's contributions is its score (to rounding)


DETECTORS = {
    "isolation_forest": Registration(
        "isolation_forest:IsolationForest",
        "isolation forest",
        of_many={"n_trees": 50},  # the noise of ten such forests averages out
    ),
    "hbos": Registration("hbos:HBOS", "HBOS"),
    "loda": Registration("loda:LODA", "LODA"),
    "inne": Registration("inne:INNE", "INNE", additive=False),
    "logistic": Registration("logistic:Logistic", "logistic regression", supervised=True),
    "random_forest": Registration("random_forest:RandomForest", "random forest", supervised=True),
    "boosting": Registration("boosting:Boosting", "boosted trees", supervised=True),
    "focal": Registration("focal_boosting:FocalBoosting", "focal loss", supervised=True),
}
DEFAULT_OUTLIER = "isolation_forest"
NOT_ADDITIVE = "gives no contributions that add up to its score"


def detector_class(name: str) -> type[Detector]:
    """
    The class registered under `name`.

    Raises
    ------
    DetectorError
        No detector has that name.
    """
    if name not in DETECTORS:
        raise DetectorError(f"no detector is called {name!r}", remedy=f"choose one of {', '.join(DETECTORS)}")
    module, _, attribute = DETECTORS[name].location.partition(":")
    detector: type[Detector] = getattr(import_module(f"detectors.algorithms.{module}"), attribute)
    return detector


def outlier_detector(name: str, seed: int, *, of_many: bool = False) -> Detector:
    """A new outlier detector with its default parameters, or with those of one among several."""
    make: Any = detector_class(name)
    detector: Detector = make(seed=seed, **(DETECTORS[name].of_many if of_many else {}))
    return detector


def check_outlier_detector(name: str) -> str:
    """
    The name of a detector that can rank payments without labels and explain its scores.

    Raises
    ------
    DetectorError
        The detector is unknown or supervised, or its contributions do not add up to its score, as reasons must.
    """
    able = [other for other, known in DETECTORS.items() if known.additive and not known.supervised]
    if name not in able:
        known = DETECTORS.get(name)
        lack = "is no detector" if known is None else "needs labels" if known.supervised else NOT_ADDITIVE
        raise DetectorError(f"{name!r} {lack}", remedy=f"choose one of {', '.join(able)}")
    return name
