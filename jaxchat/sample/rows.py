"""Which row of the cache is whose, what each has read, and where a prompt's beginning has been read already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

WORTH = 16  # tokens from which on copying what was read is cheaper than reading it again, and worth keeping


@dataclass(eq=False)
class Row:
    """One row of the cache. held: the tokens whose keys and values it has. used: when it was last needed."""

    number: int
    held: list[int] = field(default_factory=list)
    used: int = 0
    busy: bool = False


@dataclass(frozen=True)
class Taken:
    """A row for a prompt. reused: its first tokens, which need not be read. source: the row that they are to be copied
    from; None where they are in this one."""

    row: Row
    reused: int
    source: Row | None


class Rows:
    """All rows, `shards` equal parts of them on devices of their own."""

    def __init__(self, count: int, shards: int = 1) -> None:
        self.each = -(-count // shards)  # rows of one shard
        self.shards = shards
        self.all = [Row(number) for number in range(self.each * shards)]
        self._clock = 0

    def free(self) -> int:
        return sum(not row.busy for row in self.all)

    def take(self, prompt: Sequence[int]) -> Taken:
        """A free row for a prompt: one that most of its beginning, or what it holds, is lost to least.

        The last token of a prompt is never reused: it is read again, for what follows it.
        """
        free = [row for row in self.all if not row.busy]
        same = {row: common(row.held, prompt[:-1]) for row in self.all}
        here = max(free, key=lambda row: same[row])
        if not same[here] or len(here.held) - same[here] > WORTH:  # what it holds may be gone on from: keep that
            here = min(free, key=lambda row: (self._busy(row), len(row.held) > 0, row.used))
        best = max((row for row in self.all if self._shard(row) == self._shard(here)), key=lambda row: same[row])
        source = best if same[best] - same[here] >= WORTH else None
        reused = same[here if source is None else best]
        here.busy, here.held = True, list(prompt[:reused])
        self.touch(here)
        return Taken(here, reused, source)

    def touch(self, row: Row) -> None:
        """Notes that a row is needed now."""
        self._clock += 1
        row.used = self._clock

    def release(self, row: Row) -> None:
        """Frees a row; what it holds stays, for a prompt that goes on from it."""
        self.touch(row)
        row.busy = False

    def first(self, rows: Iterable[Row], size: int) -> list[Row]:
        """The first of these, so many on each shard at most."""
        some: dict[int, list[Row]] = {}
        for row in rows:
            some.setdefault(self._shard(row), []).append(row)
        return [row for each in some.values() for row in each[:size]]

    def size(self, rows: Iterable[Row], sizes: Sequence[int]) -> int:
        """The smallest of `sizes` that holds these rows, in seats on each shard."""
        most = max(Counter(map(self._shard, rows)).values())
        return next(size for size in sizes if size >= most)

    def seats(self, rows: Iterable[Row], size: int) -> tuple[np.ndarray | None, list[Row | None]]:
        """Where these rows sit in a step with `size` seats on each shard.

        Returns each seat's number within its shard (None: every row sits in its own seat), and who sits there.
        """
        here = set(rows)
        if size == self.each:
            return None, [row if row in here else None for row in self.all]
        seated: list[Row | None] = []
        for shard in range(self.shards):
            some = [row for row in self.all[shard * self.each : (shard + 1) * self.each] if row in here]
            seated += [*some, *[None] * (size - len(some))]
        return np.array([0 if row is None else row.number % self.each for row in seated], np.int32), seated

    def _busy(self, row: Row) -> int:
        """How many rows on a row's device are: steps are shortest where all devices have equally many."""
        return sum(other.busy for other in self.all if self._shard(other) == self._shard(row))

    def _shard(self, row: Row) -> int:
        return row.number // self.each


def common(held: Sequence[int], prompt: Sequence[int]) -> int:
    """How many first tokens two sequences share."""
    end = min(len(held), len(prompt))
    if held[:end] == list(prompt[:end]):
        return end
    return next(i for i in range(end) if held[i] != prompt[i])
