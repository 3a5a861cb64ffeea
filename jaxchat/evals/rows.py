"""Conversations into rows to be scored: every token but a conversation's first is a target exactly once.

Short conversations share rows, several to one, where none sees another. One that is longer than the model's context is
read through a window that slides over it by a stride: the first window scores all of its tokens, every later one only
those that the window before it did not reach, each of which therefore has at least context - stride tokens before it.

Shapes: n tokens of a conversation, T of a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jaxchat.data.packing import Piece, pack, row_arrays

# What a piece's weights say of a token that is context only; of one that is scored they say which part it belongs to.
CONTEXT = 0.0
# Tokens of the shortest rows: a few conversations fit, and attention still costs little of the whole.
SHORTEST = 1024


def windows(ids: np.ndarray, part: np.ndarray, context: int, stride: int) -> Iterator[Piece]:
    """The pieces, of at most `context` tokens, in which the conversation `ids`, int32[n], is scored. part: which part
    each token is of, counted from 1, int[n]."""
    scored, end = 1, min(context, len(ids))
    while scored < len(ids):
        start = max(0, end - context)
        weights = part[start:end].astype(np.float32)
        weights[: scored - start] = CONTEXT
        yield Piece(ids[start:end], weights)
        scored, end = end, min(end + stride, len(ids))


def row_lengths(context: int) -> list[int]:
    """The lengths that rows may have, ascending, few of them since each is compiled: by halves and then thirds (1,024,
    1,536, 2,048, 3,072, ...) up to the context."""
    doubling = (SHORTEST << i for i in itertools.count())
    steps = itertools.chain.from_iterable((length, length * 3 // 2) for length in doubling)
    return [*itertools.takewhile(lambda length: length < context, steps), context]


def batches(
    pieces: Iterable[Piece], lengths: Sequence[int], pad_id: int, tokens: int, multiple: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Rows of the pieces in batches of one shape for each of `lengths`: about `tokens` tokens, and a multiple of
    `multiple` rows. See packing.row_arrays.

    A piece goes to the shortest rows that hold it; rows that would not fill a batch give theirs to the next longer ones
    in use, and the last are filled up with rows that score nothing.
    """
    by_length: dict[int, list[Piece]] = {}
    for piece in pieces:
        by_length.setdefault(next(length for length in lengths if len(piece.ids) <= length), []).append(piece)
    rest: list[Piece] = []
    longest = max(by_length, default=0)
    for length in sorted(by_length):
        count = -(-max(1, tokens // length) // multiple) * multiple
        rows = list(pack([*by_length[length], *rest], length))
        whole = len(rows) if length == longest else len(rows) // count * count
        rest = [piece for row in rows[whole:] for piece in row]
        for first in range(0, whole, count):
            batch = rows[first : first + count]
            arrays = [row_arrays(row, length, pad_id) for row in [*batch, *[[]] * (count - len(batch))]]
            yield {name: np.stack([row[name] for row in arrays]) for name in arrays[0]}
