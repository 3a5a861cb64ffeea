"""Conversations, as tokens, into rows of one length, with as little padding as can be.

An example longer than a row is split first (`split`), at the turns: never inside one that fits. The pieces are then
laid into rows by best fit, longest first (`pack`): each goes to the row with the least room that still holds it.
Best-fit decreasing is a classic of bin packing (Johnson 1973); for training on documents see Ding et al., "Fewer
Truncations Improve Language Modeling", 2024. Packing cuts no piece, and the pieces of a row never see each other.

Shapes: T tokens in a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from jaxchat.chat.template import Example

# Raised when the same conversations would come to make other rows: what was packed before is then packed anew.
VERSION = 1

# What `split` counts; `conversations` and those `rejected` by the template are its caller's to count.
COUNTS = (
    "conversations",
    "conversations_rejected",
    "conversations_split",
    "conversations_untrained",
    "pieces",
    "pieces_of_split",
    "turns_broken",
    "turns_cut",
    "tokens",
    "tokens_in",
    "tokens_repeated",
    "tokens_cut",
    "tokens_untrained",
    "targets",
    "targets_lost",
)

# Tokens that are packed together. Held in memory, at 8 bytes each.
WINDOW = 1 << 25


@dataclass(frozen=True)
class SplitTurns:
    """How a conversation longer than a row is split. A new piece begins with a user's turn wherever it can, at another
    turn where one exchange alone fills more than a row."""

    carry: Literal["system", "none"] = "system"
    """What later pieces begin with: the system message, the template's default one included (all up to the first other
    turn, where that leaves half a row at least), or nothing. It is read again, never trained on again."""
    overlap: int = 0
    """Up to so many tokens of the turns before it that a later piece reads again, untrained. Whole turns only."""
    long_turn: Literal["break", "cut"] = "break"
    """A turn longer than a row is broken into rows, or cut at the end of its row and the rest counted as cut."""

    def __post_init__(self) -> None:
        if self.overlap < 0:
            raise ValueError(f"overlap {self.overlap} is negative")


@dataclass(frozen=True)
class Piece:
    """Tokens that stand together in a row, and the weight of each as a target; the first has none, for it has no
    context to be predicted from."""

    ids: np.ndarray
    weights: np.ndarray


def split(
    example: Example,
    roles: Sequence[str],
    seq_len: int,
    rule: SplitTurns,
    counts: Counter[str],
    opening: np.ndarray | None = None,
) -> Iterator[Piece]:
    """The pieces of `example`, whose message j has role `roles[j]`, none longer than `seq_len`. `opening`: the tokens
    with which the template opens a conversation that has no system message (rendering.opening).

    Adds to `counts` (see COUNTS) `tokens` yielded, of them `tokens_repeated` as context, and those that were `cut` or
    lie in pieces `untrained`, with no target, which are left out; `targets` and the `targets_lost`, for being cut or a
    piece's first. tokens_in + tokens_repeated = tokens + tokens_cut + tokens_untrained, always.
    """
    counts["tokens_in"] += len(example.ids)
    if not example.weights.any():
        counts["conversations_untrained"] += 1
        counts["tokens_untrained"] += len(example.ids)
        return
    if len(example.ids) <= seq_len:
        spans = [_Span(0, 0, 0, len(example.ids))]
    else:
        counts["conversations_split"] += 1
        spans = _Splitter(example, roles, seq_len, rule, counts, opening).spans()
    trained = 0
    for span in spans:
        ids = np.concatenate([example.ids[: span.head], example.ids[span.context : span.end]])
        weights = np.concatenate(
            [np.zeros(span.head + span.start - span.context, np.float32), example.weights[span.start : span.end]]
        )
        weights[0] = 0
        counts["tokens_repeated"] += span.head + span.start - span.context
        if not weights.any():
            counts["tokens_untrained"] += len(ids)
            continue
        counts["pieces"] += 1
        counts["pieces_of_split"] += len(spans) > 1
        counts["tokens"] += len(ids)
        trained += int(np.count_nonzero(weights))
        yield Piece(ids.astype(np.int32), weights.astype(np.float32))
    counts["targets"] += trained
    counts["targets_lost"] += int(np.count_nonzero(example.weights)) - trained


@dataclass(frozen=True)
class _Span:
    """A piece as parts of its example: tokens [0, head) and [context, start) read again, [start, end) its own."""

    head: int
    context: int
    start: int
    end: int


class _Splitter:
    """Walks over the turns of one long example and closes a span whenever the next turns do not fit."""

    def __init__(
        self,
        example: Example,
        roles: Sequence[str],
        seq_len: int,
        rule: SplitTurns,
        counts: Counter[str],
        opening: np.ndarray | None,
    ):
        self.seq_len, self.rule, self.counts = seq_len, rule, counts
        self.length = len(example.ids)
        turns = list(example.turns)
        head = next((turn for turn, role in zip(turns, roles) if role != "system"), 0)
        if head == 0 and opening is not None and np.array_equal(example.ids[: len(opening)], opening):
            head = len(opening)
        self.turns = sorted({0, head, *turns, self.length})
        asks = {turn for turn, role, before in zip(turns, roles, ["", *roles]) if role == "user" and before != "user"}
        self.exchanges = sorted({0, head, *asks, self.length})
        self.head = head if rule.carry == "system" and 2 * head <= seq_len else 0
        self.done: list[_Span] = []
        # The open span: what it begins with, and its own tokens [start, end).
        self.open = _Span(0, 0, 0, 0)

    def spans(self) -> list[_Span]:
        for start, end in pairwise(self.exchanges):
            if self._add(end):
                continue
            self._begin(end - start)
            if not self._add(end):
                self._add_turns(start, end)
        self._close()
        return self.done

    def _add_turns(self, start: int, end: int) -> None:
        """An exchange that no row holds: turn by turn."""
        turns = [turn for turn in self.turns if start <= turn <= end]
        for start, end in pairwise(turns):
            if self._add(end):
                continue
            if end - start <= self.seq_len or self._room() < self.seq_len // 2:
                self._begin(end - start, whole=True)
            if not self._add(end):
                self._add_long(end)

    def _add_long(self, end: int) -> None:
        """A turn that no row holds: from here to the end of the row, and the rest by the rule."""
        self.counts["turns_broken" if self.rule.long_turn == "break" else "turns_cut"] += 1
        while not self._add(end):
            stop = self.open.end + self._room()
            self._add(stop)
            if self.rule.long_turn == "cut":
                self.counts["tokens_cut"] += end - stop
                self._close()
                self.open = _Span(self.head, end, end, end)
                return
            self._begin(end - stop, overlap=False)

    def _room(self) -> int:
        return self.seq_len - self.open.head - (self.open.end - self.open.context)

    def _add(self, end: int) -> bool:
        if end - self.open.end > self._room():
            return False
        self.open = _Span(self.open.head, self.open.context, self.open.start, end)
        return True

    def _begin(self, needed: int, overlap: bool = True, whole: bool = False) -> None:
        """Closes the open span and begins one, with as much overlap as leaves room for the `needed` tokens; and without
        the system message where they are to stay `whole` and would not fit behind it."""
        head = 0 if whole and self.head + needed > self.seq_len >= needed else self.head
        start = self.open.end
        if not self.done and start <= self.head == head:  # nothing but the system message is open
            return
        self._close()
        context = start
        if overlap:
            room = min(self.rule.overlap, self.seq_len - head - needed)
            context = next((turn for turn in self.turns if max(self.head, start - room) <= turn <= start), start)
        self.open = _Span(head, context, start, start)

    def _close(self) -> None:
        if self.open.end > self.open.start:
            self.done.append(self.open)


def pack(pieces: Iterable[Piece], seq_len: int, window: int = WINDOW) -> Iterator[list[Piece]]:
    """The pieces in rows of at most `seq_len` tokens, by best fit, longest first, among `window` tokens at a time.

    The same pieces in the same order give the same rows. ValueError for a piece longer than a row.
    """
    held: list[Piece] = []
    tokens = 0
    for piece in pieces:
        if len(piece.ids) > seq_len:
            raise ValueError(f"a piece of {len(piece.ids)} tokens does not fit a row of {seq_len}")
        held.append(piece)
        tokens += len(piece.ids)
        if tokens >= window:
            yield from _best_fit(held, seq_len)
            held, tokens = [], 0
    yield from _best_fit(held, seq_len)


def _best_fit(pieces: list[Piece], seq_len: int) -> list[list[Piece]]:
    """Bit r of `rooms` says that some row has room for exactly r more tokens: the tightest row that holds a piece is
    one shift and one lowest set bit away, whatever the number of rows."""
    rows: list[list[Piece]] = []
    by_room: dict[int, list[int]] = {}
    rooms = 0
    for piece in sorted(pieces, key=lambda piece: -len(piece.ids)):
        length = len(piece.ids)
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms &= ~(1 << room)
        else:
            room, row = seq_len, len(rows)
            rows.append([])
        rows[row].append(piece)
        if room > length:
            by_room.setdefault(room - length, []).append(row)
            rooms |= 1 << (room - length)
    return rows


def row_arrays(pieces: Sequence[Piece], seq_len: int, pad_id: int) -> dict[str, np.ndarray]:
    """One row: `tokens`, `segments` (1, 2, ... piece by piece, 0 in the padding) and `positions` (0, 1, ... anew in
    every piece, 0 in the padding), int32[T]; `weights` float32[T], of each token as a target (0: a piece's first)."""
    row = {
        "tokens": np.full(seq_len, pad_id, np.int32),
        "weights": np.zeros(seq_len, np.float32),
        "segments": np.zeros(seq_len, np.int32),
        "positions": np.zeros(seq_len, np.int32),
    }
    at = 0
    for segment, piece in enumerate(pieces, 1):
        here = slice(at, at + len(piece.ids))
        row["tokens"][here] = piece.ids
        row["weights"][here] = piece.weights
        row["segments"][here] = segment
        row["positions"][here] = np.arange(len(piece.ids))
        at = here.stop
    return row
