"""Where the wall time of a run goes: every second is booked to one cause."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What a step's record always has, zero or not.
EVERY_STEP = ("input", "compute", "checkpoint", "eval")


class Clock:
    """Books seconds to the cause that it is turned to; one at a time, the inner of two.

    turned: told of every turn, in which a watchdog sees that the run moves.
    """

    def __init__(
        self, cause: str, turned: Callable[[str], None] = lambda cause: None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._cause, self._turned, self._now = cause, turned, now
        self._since = now()
        self._booked: dict[str, float] = {}

    @contextmanager
    def on(self, cause: str) -> Iterator[None]:
        """Books what the block takes to `cause`, and what comes after it to the cause before."""
        before = self._cause
        self._turn(cause)
        try:
            yield
        finally:
            self._turn(before)

    def take(self) -> dict[str, float]:
        """Seconds by cause since the last call."""
        self._book()
        taken, self._booked = self._booked, {}
        return taken

    def _turn(self, cause: str) -> None:
        self._book()
        self._cause = cause
        self._turned(cause)

    def _book(self) -> None:
        now = self._now()
        self._booked[self._cause] = self._booked.get(self._cause, 0.0) + now - self._since
        self._since = now
