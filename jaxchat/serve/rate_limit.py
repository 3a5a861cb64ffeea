"""How much one client may ask for: a token bucket each (requests a minute, with a minute's worth as its burst)."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from jaxchat.serve.errors import ApiError

CLIENTS = 10_000  # remembered at most; the one that was quiet longest is forgotten first, and by then is full again


class RateLimit:
    """Buckets by client. `now`: seconds on a clock that never goes back."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, per_minute: int) -> None:
        """Counts a request of `client`. ApiError 429, which says when to come back, for one too many."""
        now = self._now()
        left, since = self._buckets.pop(client, (float(per_minute), now))
        left = min(per_minute, left + (now - since) * per_minute / 60)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = math.ceil((1 - left) * 60 / per_minute)
            raise ApiError(
                429,
                f"more than {per_minute} requests a minute; try again in {wait} s",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(wait)},
            )
