"""How many requests a token may send, counted in this process by the minute."""

import threading
import time
from collections.abc import Callable
from math import ceil

from pipeline.api.problems import ApiError

MINUTE_S = 60.0
TOKENS_MAX = 10_000  # that are counted; the oldest are forgotten


class RequestLimits:
    """A bucket for each token, which fills evenly and holds a minute's requests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[int, tuple[float, float]] = {}  # token → requests left, and when

    def check(self, token_id: int, per_minute: int) -> None:
        """
        Count a request.

        Raises
        ------
        ApiError
            The token has sent too many.
        """
        now = self._clock()
        with self._lock:
            left, at = self._left.pop(token_id, (float(per_minute), now))
            left = min(float(per_minute), left + (now - at) * per_minute / MINUTE_S)
            self._left[token_id] = (max(left - 1, left % 1), now) if left < 1 else (left - 1, now)
            if len(self._left) > TOKENS_MAX:
                del self._left[next(iter(self._left))]
        if left < 1:
            wait = ceil((1 - left) * MINUTE_S / per_minute)
            raise ApiError(
                "too_many_requests",
                f"the token allows {per_minute:,} requests a minute",
                headers={"Retry-After": str(wait)},
            )
