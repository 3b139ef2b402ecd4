"""The detectors by name, imported when asked for: PyOD, scikit-learn and LightGBM are slow to load."""

from importlib import import_module

from detectors.base import Detector, DetectorError

DETECTORS = {
    "isolation_forest": "detectors.isolation_forest:IsolationForest",
    "hbos": "detectors.hbos:HBOS",
    "loda": "detectors.loda:LODA",
    "inne": "detectors.inne:INNE",
    "logistic": "detectors.logistic:Logistic",
    "random_forest": "detectors.random_forest:RandomForest",
    "boosting": "detectors.boosting:Boosting",
    "focal": "detectors.focal:Focal",
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
    found: type[Detector] = getattr(import_module(module), attribute)
    return found
