"""What fits share: which rows to learn from, and PyOD when it is needed."""

import warnings
from importlib import import_module
from typing import Any

import numpy as np

from detectors.base import Floats, Ints


def thin(weights: Floats, at_most: int, seed: int) -> Ints:
    """
    Choose rows, evenly in their order, with chances in proportion to `weights`.

    Systematic sampling: chances min(1, w · n / Σw) are laid end to end, and a row is kept when its stretch
    holds one of the marks that lie 1 apart. Equal weights and n ≤ `at_most` keep all rows.
    """
    wanted = min(at_most, len(weights))
    ends = np.cumsum(np.minimum(weights * wanted / weights.sum(), 1.0))
    marks = np.floor(ends + np.random.default_rng(seed).random())
    kept = np.flatnonzero(np.diff(marks, prepend=0.0) > 0)
    return kept if len(kept) > 1 else np.sort(np.argsort(-weights, kind="stable")[:2])


def pyod_class(module: str, name: str) -> Any:
    """A detector of PyOD's, whose import takes a second or two and warns of its own imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(import_module(f"pyod.models.{module}"), name)
