"""
Ids for transactions whose source has none.

An id is the hash of what is stored of a payment: time, amount, currency, kind, original_id and entities (hashed fields as
their keyed hashes, so no card number can be guessed from an id). Rows of one source that are equal in all of these are
different payments, and get a number: the second one ends in -2. So the same source gives the same ids at every load, in
any order of its rows; an equal row in another source is the same payment.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage.frames import Ints, Strings
from storage.ingest.chunks import TransactionChunk

ID_BYTES = 16

Hashes = NDArray[np.uint64]


class ContentIds:
    """
    Makes the ids of one source, batch by batch.

    Memory: 8 bytes a row.

    Attributes
    ----------
    repeated
        How many rows so far were equal to an earlier one.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self._earlier: list[Hashes] = []  # sorted runs, each at least twice as long as the next one

    def make(self, chunk: TransactionChunk, entities: Sequence[str]) -> Strings:
        """Return ids for the next rows of the source."""
        digests = [
            hashlib.blake2b(text, digest_size=ID_BYTES).digest() for text in _contents(chunk, entities)
        ]
        hashes = np.frombuffer(b"".join(digests), dtype=np.uint64)[::2].copy()
        occurrence = self._occurrences(hashes)
        self.repeated += int(np.count_nonzero(occurrence > 1))
        names = [digest.hex() for digest in digests]
        for place in np.flatnonzero(occurrence > 1).tolist():
            names[place] += f"-{occurrence[place]}"
        return np.array(names, dtype=object)

    def _occurrences(self, hashes: Hashes) -> Ints:
        """The how-manieth of its kind each row is, from 1."""
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        first = np.searchsorted(ordered, ordered, side="left")
        occurrence = np.empty(len(hashes), dtype=np.int64)
        occurrence[order] = np.arange(len(hashes)) - first + 1
        for run in self._earlier:
            occurrence += np.searchsorted(run, hashes, side="right") - np.searchsorted(
                run, hashes, side="left"
            )
        self._remember(ordered)
        return occurrence

    def _remember(self, ordered: Hashes) -> None:
        while self._earlier and len(self._earlier[-1]) < 2 * len(ordered):
            ordered = np.sort(np.concatenate([self._earlier.pop(), ordered]), kind="stable")
        self._earlier.append(ordered)


def _contents(chunk: TransactionChunk, entities: Sequence[str]) -> list[bytes]:
    """What identifies each row; no text holds a NUL, and a missing value is the empty text."""
    optional = [column for column in (chunk.currency, chunk.kind, chunk.original_id) if column is not None]
    texts = [*optional, *(chunk.text[name] for name in entities)]
    columns = [
        map(str, chunk.event_time.tolist()),
        map(repr, chunk.amount.tolist()),
        *(["" if value is None else value for value in column.tolist()] for column in texts),
    ]
    return ["\0".join(values).encode() for values in zip(*columns, strict=True)]
