"""
Orders with several rows, one for each item (`schema.line_items`).

Rows that follow a row with the same id, and have the same amount or none, are further items of its order: they are
counted and left out. The first row of an order with an amount is its transaction. A row with another amount is handled
like any row with a known id.
"""

import numpy as np

from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_objects
from pipeline.ingest.formats.columns import Numbers, texts


class LineItems:
    """
    Finds the further items of orders in one source, batch by batch; it remembers only the last order.

    Attributes
    ----------
    count
        How many there were so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._order: str | None = None
        self._amount = np.nan  # the first one of that order

    def further_items(self, ids: Arrow, amounts: Numbers) -> Bools:
        """Return a mask of the next rows of the source that are further items."""
        orders = as_objects(texts(ids))
        if not len(orders):
            return np.zeros(0, dtype=bool)
        before = np.concatenate([np.array([self._order], dtype=object), orders[:-1]])
        follows = np.asarray((orders == before) & (orders != None), dtype=bool)  # noqa: E711 (elementwise)
        run = np.cumsum(~follows)  # 0: the last order of the batch before goes on
        with_amount = np.flatnonzero(np.isfinite(amounts.values))
        first_of_run = np.full(run[-1] + 1, len(orders))
        np.minimum.at(first_of_run, run[with_amount], with_amount)
        amount_of_run = np.append(amounts.values, np.nan)[first_of_run]
        if not np.isnan(self._amount):
            first_of_run[0], amount_of_run[0] = -1, self._amount
        later = np.arange(len(orders)) > first_of_run[run]
        items = later & (amounts.missing | (amounts.values == amount_of_run[run]))
        self.count += int(np.count_nonzero(items))
        self._order, self._amount = orders[-1], float(amount_of_run[run[-1]])
        return np.asarray(items)
