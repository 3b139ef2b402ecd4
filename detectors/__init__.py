"""
Machine learning on arrays: detectors, their evaluation, drift. No SQL, no clock, no log. A higher score is more suspicious.

    from detectors import AutoDetector, compare

docs/python.md has an example. Each name below is imported when it is first used, because scikit-learn, LightGBM, numba and PyOD
load slowly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectors.algorithms.boosting import Boosting
    from detectors.algorithms.focal_boosting import FocalBoosting
    from detectors.algorithms.hbos import HBOS
    from detectors.algorithms.inne import INNE
    from detectors.algorithms.isolation_forest import IsolationForest
    from detectors.algorithms.loda import LODA
    from detectors.algorithms.logistic import Logistic
    from detectors.algorithms.random_forest import RandomForest
    from detectors.base import DetectorError, NotFitted
    from detectors.imbalance.compare import compare
    from detectors.imbalance.results import Comparison
    from detectors.model.auto_detector import AutoDetector

__all__ = [
    "HBOS",
    "INNE",
    "LODA",
    "AutoDetector",
    "Boosting",
    "Comparison",
    "DetectorError",
    "FocalBoosting",
    "IsolationForest",
    "Logistic",
    "NotFitted",
    "RandomForest",
    "compare",
]

_MODULES = {  # beside the detectors, which the registry has
    "AutoDetector": "model.auto_detector",
    "Comparison": "imbalance.results",
    "DetectorError": "base",
    "NotFitted": "base",
    "compare": "imbalance.compare",
}


def __getattr__(name: str) -> Any:
    from detectors.registry import DETECTORS

    locations = (known.location.split(":") for known in DETECTORS.values())
    modules = _MODULES | {detector: f"algorithms.{module}" for module, detector in locations}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{modules[name]}"), name)
    globals()[name] = value  # the next time it is found without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
