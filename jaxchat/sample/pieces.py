"""Which piece of the prompts is read next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxchat.sample.rows import Row
from jaxchat.sample.runner import Runner


@dataclass(frozen=True)
class Piece:
    """Tokens of some rows; size, T: as `Runner.reading` has them. cost: as `Times.cost` has it."""

    tokens: dict[Row, Sequence[int]]
    size: int
    T: int
    cost: float


def next_piece(runner: Runner, unread: Mapping[Row, Sequence[int]], most: float, between: float) -> Piece:
    """Of what the rows that come first have not read: a piece of the shape with which all of theirs is read soonest,
    among those that cost no more than `most`; the smallest where none does. between: what is done after every piece
    costs."""
    found = []
    for size, T in runner.pieces:
        tokens = {row: unread[row][:T] for row in runner.rows.first(unread, size)}
        found.append(Piece(tokens, size, T, runner.times.cost(runner.reading(tokens, size, T))))

    def speed(piece: Piece) -> float:
        left = [len(unread[row]) for row in piece.tokens]
        return sum(left) / (-(-max(left) // piece.T) * (piece.cost + between))

    return max([piece for piece in found if piece.cost <= most] or found[:1], key=speed)
