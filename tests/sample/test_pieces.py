"""The piece of prompts that is read next."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxchat.sample.pieces import next_piece


@pytest.fixture
def runner(engine, monkeypatch):
    """Of which a step costs what it reads, padding included."""
    monkeypatch.setattr(engine._runner.times, "cost", lambda shape: shape.rows * shape.tokens)
    return engine._runner


def test_short_prompts_are_read_with_fewest_tokens_of_others_between(runner):
    unread = {row: range(49) for row in runner.rows.all}
    piece = next_piece(runner, unread, math.inf, between=10)
    assert (piece.size, piece.T) == (4, 64)
    assert [len(tokens) for tokens in piece.tokens.values()] == [49] * 4
    assert next_piece(runner, unread, 200, between=10).T == 32  # since that was longer than may be
    one = dict.fromkeys(runner.rows.all[:1], range(20))
    piece = next_piece(runner, one, math.inf, between=10)
    assert (piece.size, piece.T) == (1, 32)


@pytest.mark.parametrize("seed", range(10))
def test_a_piece_costs_no_more_than_it_may(runner, seed):
    """But for the smallest there is; and it reads on where a prompt was left."""
    draw = np.random.default_rng(seed)
    unread = {row: range(draw.integers(1, 400)) for row in runner.rows.all[: draw.integers(1, 6)]}
    most = draw.integers(1, 300)
    piece = next_piece(runner, unread, most, between=draw.integers(0, 100))
    assert piece.cost <= max(most, 16)
    assert (piece.size, piece.T) in runner.pieces
    assert len(piece.tokens) <= piece.size
    for row, tokens in piece.tokens.items():
        assert tokens == unread[row][: piece.T]
