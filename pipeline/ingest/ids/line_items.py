"""
Orders with several rows, one for each item (`schema.line_items`).

The first good row of an order is its transaction. Rows that follow it with the same id, and have the same amount, none
or 0, are further items: they are counted and left out. A following row with another amount is set aside.
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

    def further_items(self, ids: Arrow, amounts: Numbers, good: Bools) -> tuple[Bools, Bools]:
        """
        Return masks of the next rows of the source that are further items, and of those with another amount.

        `good` is a mask of the rows that can be a transaction.
        """
        orders = as_objects(texts(ids))
        if not len(orders):
            return np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        before = np.concatenate([np.array([self._order], dtype=object), orders[:-1]])
        follows = np.asarray((orders == before) & (orders != None), dtype=bool)  # noqa: E711 (elementwise)
        run = np.cumsum(~follows)  # 0: the last order of the batch before goes on
        with_amount = np.flatnonzero(np.isfinite(amounts.values) & good)
        first_of_run = np.full(run[-1] + 1, len(orders))
        np.minimum.at(first_of_run, run[with_amount], with_amount)
        amount_of_run = np.append(amounts.values, np.nan)[first_of_run]
        if not np.isnan(self._amount):
            first_of_run[0], amount_of_run[0] = -1, self._amount
        later = np.arange(len(orders)) > first_of_run[run]
        items = later & (amounts.missing | (amounts.values == 0) | (amounts.values == amount_of_run[run]))
        others = later & ~items & np.isfinite(amounts.values)
        self.count += int(np.count_nonzero(items))
        self._order, self._amount = orders[-1], float(amount_of_run[run[-1]])
        return np.asarray(items), np.asarray(others)
