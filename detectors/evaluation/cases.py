"""
Cases: the flags of one entity within 24 hours, which a reviewer looks at together.

A flag opens a case unless the current case of its entity was opened less than 24 hours before. So a case lasts 24 hours from
its first flag, however many flags follow, and flags every few hours for three days are three cases.

More flags never make fewer cases: their number is the smallest number of spans of 24 hours that hold all flags, as the
earliest flag that no span holds yet has to begin one.
"""

import numpy as np

from detectors.base import Bools, Ints

CASE = 86_400_000_000  # µs: how long a case lasts from its first flag


class CaseRows:
    """
    Rows that may be flagged, sorted for counting the cases of any part of them.

    Parameters
    ----------
    entity
        (n,) code of the entity of each row; a row without one has a code of its own.
    time
        (n,) event time, µs. Of rows of one entity at the same time the first one opens the case.
    """

    def __init__(self, entity: Ints, time: Ints) -> None:
        self._order = np.lexsort((time, entity))
        self._entity = np.unique(entity, return_inverse=True)[1][self._order]
        self._key = self._keys(time, time)
        self._end = self._keys(time, time + CASE)

    def openers(self, flagged: Bools) -> Bools:
        """Which rows open a case if these rows are flagged, (n,)."""
        places = np.flatnonzero(flagged[self._order])
        entity, key = self._entity[places], self._key[places]
        after = np.searchsorted(key, self._end[places])  # the first flag that is not in a case opened here
        opener = np.zeros(len(places), dtype=bool)
        at = np.flatnonzero(np.append(True, entity[1:] != entity[:-1])) if len(places) else places
        while len(at):  # once for each case of the entity that has most of them
            opener[at] = True
            following = np.minimum(after[at], len(places) - 1)
            at = following[(after[at] < len(places)) & (entity[following] == entity[at])]
        opens = np.zeros(len(flagged), dtype=bool)
        opens[self._order[places[opener]]] = True
        return opens

    def _keys(self, time: Ints, instant: Ints) -> Ints:
        """One number for each row by which rows sort by entity, then by the rank of an instant among all times."""
        rank = np.searchsorted(np.sort(time), instant)
        return self._entity * (len(time) + 1) + rank[self._order]
