"""
Which transactions a training looks at when there are more than `training.max_rows`.

The draw is a hash of the transaction's id: the same transactions are drawn whatever span, machine or order
they come in, and a row that is drawn for one budget is drawn for every larger one.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SPREAD = 2654435761  # Knuth's multiplicative constant: neighbouring checksums part ways
HASHES = 2**32


def uniform(transaction_ids: NDArray[np.object_]) -> Floats:
    """A number in [0, 1) that belongs to each id."""
    sums = np.fromiter(
        (crc32(name.encode()) for name in transaction_ids), dtype=np.uint64, count=len(transaction_ids)
    )
    return ((sums * np.uint64(SPREAD)) % np.uint64(HASHES)).astype(np.float64) / HASHES


def draw(draws: Floats, limit: int, always: NDArray[np.bool_] | None = None) -> tuple[Ints, Floats]:
    """
    At most about `limit` rows, and how many rows each stands for.

    Parameters
    ----------
    draws
        (n,) what `uniform` gave the rows.
    always
        Rows that are taken in any case, each standing for itself.

    Returns
    -------
    Positions in ascending order and their weights.
    """
    kept = np.zeros(len(draws), dtype=bool) if always is None else always
    others = len(draws) - int(kept.sum())
    share = min(1.0, max(limit - int(kept.sum()), 1) / max(others, 1))
    rows = np.flatnonzero(kept | (draws < share))
    return rows, np.where(kept[rows], 1.0, 1.0 / share)
