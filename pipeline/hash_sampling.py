"""
Reproducible sampling of transactions by a hash of their id, for trainings with more than `training.max_rows` rows.

The sample does not depend on span, machine or row order, and a row that is in a sample is in every larger one.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SPREAD = 2654435761  # Knuth's multiplicative constant: spreads neighbouring checksums
HASHES = 2**32


def uniform(transaction_ids: NDArray[np.object_]) -> Floats:
    """Return a uniform number in [0, 1) for each id, always the same for the same id."""
    sums = np.fromiter(
        (crc32(name.encode()) for name in transaction_ids), dtype=np.uint64, count=len(transaction_ids)
    )
    return ((sums * np.uint64(SPREAD)) % np.uint64(HASHES)).astype(np.float64) / HASHES


def sample_rows(uniforms: Floats, limit: int, always: NDArray[np.bool_] | None = None) -> tuple[Ints, Floats]:
    """
    Sample about `limit` rows; return their positions and weights.

    Parameters
    ----------
    uniforms
        (n,) the result of `uniform` for the rows.
    always
        (n,) rows that are always included, with weight 1.

    Returns
    -------
    Positions in ascending order, and how many rows each stands for.
    """
    included = np.zeros(len(uniforms), dtype=bool) if always is None else always
    others = len(uniforms) - int(included.sum())
    share = min(1.0, max(limit - int(included.sum()), 1) / max(others, 1))
    rows = np.flatnonzero(included | (uniforms < share))
    return rows, np.where(included[rows], 1.0, 1.0 / share)
