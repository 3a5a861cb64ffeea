"""What steps take: measured while they run, and in proportion to what they read where they have not run yet."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import Literal

KEPT = 5  # of the latest times of a step: few enough to follow a machine, enough that a slow moment counts little
BALANCE = 64  # tokens whose arithmetic takes as long as reading what they are multiplied with


@dataclass(frozen=True)
class Shape:
    """What a compiled step is for: rows of each device, tokens of each of them, slots of the cache that are looked
    at."""

    kind: Literal["read", "write", "verify"]
    rows: int
    tokens: int
    span: int


class Times:
    """weights, slot: bytes of all parameters, and of what the cache keeps of one token."""

    def __init__(self, weights: int, slot: int) -> None:
        self._weights, self._slot = weights, slot
        self._latest: dict[Shape, deque[float]] = {}

    def took(self, shape: Shape, seconds: float) -> None:
        """Notes what a step took, or each of its tokens where it writes; not the first of its shape, which is compiled
        then."""
        if shape in self._latest:
            self._latest[shape].append(seconds)
        else:
            self._latest[shape] = deque(maxlen=KEPT)

    def seconds(self, shape: Shape) -> float:
        """What such a step takes; 0 where none of any shape has been measured."""
        return self.cost(shape) if any(self._latest.values()) else 0.0

    def cost(self, shape: Shape) -> float:
        """The same, in a unit of its own where none has been measured: good to compare shapes by."""
        if latest := self._latest.get(shape):
            return statistics.median_low(latest)
        pace = [statistics.median_low(latest) / self._bytes(known) for known, latest in self._latest.items() if latest]
        return self._bytes(shape) * (statistics.median(pace) if pace else 1.0)

    def _bytes(self, shape: Shape) -> float:
        """That are read, and those that could be in the time that arithmetic takes."""
        rows, tokens = shape.rows, shape.tokens
        weights = self._weights * (1 + rows * tokens / BALANCE)
        return weights + rows * shape.span * self._slot * (1 + tokens / BALANCE)
