"""Helpers of fits: weighted systematic sampling of rows, and the lazy import of PyOD."""

import warnings
from importlib import import_module
from typing import Any

import numpy as np

from detectors.base import Floats, Ints


def systematic_sample(weights: Floats, at_most: int, seed: int) -> Ints:
    """
    Systematic sample of rows with inclusion probabilities proportional to `weights`; returns ascending indices.

    The probabilities min(1, w · n / Σw) are cumulated, and a row is sampled when the cumulative sum passes one of a
    series of marks 1 apart, with a random start. Equal weights and n ≤ `at_most` keep all rows.
    """
    n_rows = min(at_most, len(weights))
    ends = np.cumsum(np.minimum(weights * n_rows / weights.sum(), 1.0))
    marks = np.floor(ends + np.random.default_rng(seed).random())
    rows = np.flatnonzero(np.diff(marks, prepend=0.0) > 0)
    return rows if len(rows) > 1 else np.sort(np.argsort(-weights, kind="stable")[:2])


def thin_genuine(labels: Floats, weights: Floats, at_most: int, seed: int) -> tuple[Ints, Floats]:
    """
    All frauds and at most so many genuine rows, weighted to represent all of them: ascending indices and their weights.

    Rows of weight 0 are left out.
    """
    frauds = np.flatnonzero((labels == 1) & (weights > 0))
    genuine = np.flatnonzero((labels != 1) & (weights > 0))
    if len(genuine) <= at_most:
        kept = np.sort(np.concatenate([frauds, genuine]))
        return kept, weights[kept]
    sampled = genuine[systematic_sample(weights[genuine], at_most, seed)]
    kept = np.sort(np.concatenate([frauds, sampled]))
    return kept, np.where(labels[kept] == 1, weights[kept], weights[genuine].sum() / len(sampled))


def pyod_class(module: str, name: str) -> Any:
    """A detector class of PyOD, imported on first use: the import takes a second or two and emits deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(import_module(f"pyod.models.{module}"), name)
