"""Every piece is laid into one row of one batch, and few shapes are ever compiled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxchat.data.packing import Piece
from jaxchat.evals.rows import CONTEXT, batches, row_lengths, windows


@pytest.mark.parametrize(("context", "lengths"), [(256, [256]), (1024, [1024]), (4096, [1024, 1536, 2048, 3072, 4096])])
def test_lengths_end_at_the_context(context: int, lengths: list[int]):
    assert row_lengths(context) == lengths


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 100), st.integers(1, 3))
def test_every_piece_stands_in_one_row_whole(sizes: list[int], tokens: int, multiple: int):
    ends = np.cumsum(sizes)
    pieces = [Piece(np.arange(end - n, end, dtype=np.int32), np.ones(n, np.float32)) for n, end in zip(sizes, ends)]
    found, shapes = [], set()
    for batch in batches(pieces, [16, 24, 40], -1, tokens, multiple):
        shapes.add(batch["tokens"].shape)
        assert len(batch["tokens"]) % multiple == 0
        for row, segments, weights in zip(batch["tokens"], batch["segments"], batch["weights"]):
            assert not weights[segments == 0].any()
            found += [tuple(row[segments == i].tolist()) for i in range(1, segments.max() + 1)]
    assert sorted(found) == [tuple(piece.ids.tolist()) for piece in pieces]
    assert len(shapes) == len({length for _, length in shapes})


@given(st.integers(1, 60), st.integers(2, 20), st.data())
def test_windows_score_every_token_but_the_first_once(n: int, context: int, data: st.DataObject):
    stride = data.draw(st.integers(1, context - 1))
    ids, part = np.arange(n, dtype=np.int32), 1 + np.arange(n) % 3
    scored = []
    for i, piece in enumerate(windows(ids, part, context, stride)):
        assert len(piece.ids) <= context and piece.weights[0] == CONTEXT
        targets = piece.weights > CONTEXT
        scored += piece.ids[targets].tolist()
        assert (piece.weights == targets * part[piece.ids]).all()
        assert i == 0 or np.argmax(targets) >= context - stride
    assert scored == list(range(1, n))
