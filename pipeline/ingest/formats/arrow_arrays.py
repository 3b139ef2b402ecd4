"""Arrow arrays as NumPy arrays."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.frames import Ints

Bools = NDArray[np.bool_]
Arrow = Any  # a pyarrow Array


def characters(column: Arrow) -> bytes:
    """All characters of a column of text in UTF-8, maybe more: what is not in them need not be looked for row by row."""
    data = column.buffers()[2]
    return data.to_pybytes() if data else b""


def as_bools(column: Arrow) -> Bools:
    """Return a column of booleans; missing is false."""
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)


def as_ints(column: Arrow) -> Ints:
    """Return a column of integers; missing is 0."""
    return np.asarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def as_objects(column: Arrow) -> NDArray[np.object_]:
    """Return a column of text as Python strings, None for missing."""
    strings: NDArray[np.object_] = column.to_numpy(zero_copy_only=False)
    return strings if strings.dtype == object else np.full(len(strings), None, dtype=object)
