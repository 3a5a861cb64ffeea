"""Who is next: clients take turns, and each client's requests come in their order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """A queue that one client with many requests cannot keep from the others. Not thread-safe."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[T]:
        return (item for line in self._lines.values() for item in line)

    def push(self, client: str, item: T) -> None:
        """Puts an item at the end of its client's line; a client without one goes behind the others."""
        self._lines.setdefault(client, deque()).append(item)

    def pop(self) -> T:
        """The first of the client whose turn it is."""
        client, line = next(iter(self._lines.items()))
        item = line.popleft()
        if line:
            self._lines.move_to_end(client)
        else:
            del self._lines[client]
        return item

    def remove(self, item: T) -> bool:
        """Takes an item out of its line, and says whether it was there."""
        for client, line in self._lines.items():
            if item in line:
                line.remove(item)
                if not line:
                    del self._lines[client]
                return True
        return False
