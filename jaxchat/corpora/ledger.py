"""What a reader yields, and the book that shows no row got lost between them.

A row is what a format counts: a line, an array's element, a CSV record, an XML element. Rows are named by file and
position, counted from 1. Each row a reader meets has exactly one fate: used by a conversation, rejected (it cannot be
read; the reason says why) or dropped (readable, and left out by an option).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxchat.chat.conversation import Conversation


@dataclass(frozen=True)
class Found:
    """A conversation and the rows it was made of: file name -> positions. One row may serve several conversations."""

    conversation: Conversation
    rows: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Rejected:
    """A row that could not be used. `row` is the row as it was read, whole: JSON values, or text where it was none."""

    file: str
    position: int
    reason: str
    row: Any = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Dropped(Rejected):
    """A row that was read well and that an option leaves out."""


_READ, _USED, _REJECTED, _DROPPED = 1, 2, 3, 4
_FATES = {_READ: "read", _USED: "used", _REJECTED: "rejected", _DROPPED: "dropped"}


class Ledger:
    """One byte a row: which were read, and what became of each. `on_bytes` hears of bytes read, for progress bars."""

    def __init__(self, on_bytes: Callable[[int], None] = lambda n: None):
        self.on_bytes = on_bytes
        self._fates: dict[str, bytearray] = {}

    def read(self, file: str, position: int) -> None:
        """Notes that the row exists. What reads the file calls it, before anyone looks into the row."""
        fates = self._fates.setdefault(file, bytearray())
        if position > len(fates):
            fates.extend(bytes(max(position, 2 * len(fates)) - len(fates)))
        if fates[position - 1]:
            raise AssertionError(f"{file}: row {position} was read twice")
        fates[position - 1] = _READ

    def enter(self, item: Found | Rejected) -> None:
        """Notes the fate that `item` gives its rows. A row may be used many times, and otherwise has one fate."""
        if isinstance(item, Found):
            for file, positions in item.rows.items():
                for position in positions:
                    self._set(file, position, _USED, allowed=(_READ, _USED))
        else:
            fate = _DROPPED if isinstance(item, Dropped) else _REJECTED
            self._set(item.file, item.position, fate, allowed=(_READ,))

    def counts(self) -> dict[str, int]:
        """`rows_in`, `rows_used`, `rows_rejected`, `rows_dropped`. AssertionError where the last three do not make up
        the first: a reader's fault, named by the first row that has no fate."""
        for file, fates in self._fates.items():
            lost = fates.find(_READ)
            if lost >= 0:
                raise AssertionError(f"{file}: row {lost + 1} was read and neither used, rejected nor dropped")
        total = {fate: sum(fates.count(fate) for fates in self._fates.values()) for fate in _FATES}
        used, rejected, dropped = total[_USED], total[_REJECTED], total[_DROPPED]
        return {
            "rows_in": used + rejected + dropped,
            "rows_used": used,
            "rows_rejected": rejected,
            "rows_dropped": dropped,
        }

    def _set(self, file: str, position: int, fate: int, allowed: tuple[int, ...]) -> None:
        fates = self._fates.get(file, b"")
        before = fates[position - 1] if 0 < position <= len(fates) else 0
        if before not in allowed:
            was = f"already {_FATES[before]}" if before else "never read"
            raise AssertionError(f"{file}: row {position} cannot be {_FATES[fate]}, it was {was}")
        self._fates[file][position - 1] = fate
