"""The registry of detectors by name. A module is imported on first use, because PyOD, scikit-learn and LightGBM load slowly."""

from importlib import import_module

from detectors.base import Detector, DetectorError

DETECTORS = {
    "isolation_forest": "detectors.algorithms.isolation_forest:IsolationForest",
    "hbos": "detectors.algorithms.hbos:HBOS",
    "loda": "detectors.algorithms.loda:LODA",
    "inne": "detectors.algorithms.inne:INNE",
    "logistic": "detectors.algorithms.logistic:Logistic",
    "random_forest": "detectors.algorithms.random_forest:RandomForest",
    "boosting": "detectors.algorithms.boosting:Boosting",
    "focal": "detectors.algorithms.focal_boosting:FocalBoosting",
}


def detector_class(name: str) -> type[Detector]:
    """
    The class registered under `name`.

    Raises
    ------
    DetectorError
        No detector has that name.
    """
    if name not in DETECTORS:
        raise DetectorError(f"no detector is called {name!r}: choose one of {', '.join(DETECTORS)}")
    module, _, attribute = DETECTORS[name].partition(":")
    detector: type[Detector] = getattr(import_module(module), attribute)
    return detector
