"""Guesses of what an answer goes on with, read all at once where one token was to be read: a few more of the same
tokens for little more time.

A guess changes no token. Which token a place gets depends on its logits, the seed and its position alone
(`methods.choose`), so what is chosen after a guess is what would have been chosen without it, sampled or greedy, and a
guess only decides whether it is chosen sooner; but, where an engine is not `invariant`, for rounding, which differs
between reading one token and several, where two tokens are nearly as likely. For a guess that is certain this accepts
as often as can be: with the guess's own probability, as rejection sampling does (Leviathan et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from jax.sharding import Mesh

from jaxchat.models.decoder import Model, Params
from jaxchat.sample.rows import common
from jaxchat.sample.runner import DRAFT, Runner, Seat

HOPE = 0.02  # of tokens, by which a guess that was not made may be better than the last ones


@dataclass(frozen=True)
class Lookup:
    """Guesses that what followed the last tokens before, in the prompt or the answer, follows again (Saxena 2023,
    prompt lookup). match: tokens that must be the same."""

    match: int = 3


@dataclass(frozen=True)
class Draft:
    """Guesses what a smaller model of the same vocabulary says."""

    model: Model
    params: Params


Speculation = Lookup | Draft


class Guesses(Protocol):
    """What guesses for the rows of an engine."""

    def guess(self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """What may follow all the tokens of each row, as many as DRAFT; none where there is no guess."""
        ...


def guesses(by: Speculation, mesh: Mesh, rows: int, context: int) -> Guesses:
    """What guesses as `by` says for an engine of so many rows."""
    return Found(by.match) if isinstance(by, Lookup) else Drafted(Runner(by.model, by.params, mesh, (), rows, context))


class Found:
    """By lookup."""

    def __init__(self, match: int) -> None:
        self.match = match
        self._rows: dict[int, _Places] = {}

    def guess(self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        found: list[Sequence[int]] = []
        for seat, said in zip(seats, tokens, strict=True):
            places = self._rows.get(seat.row.number)
            if places is None or places.tokens != said[: len(places.tokens)]:
                places = self._rows[seat.row.number] = _Places(self.match)
            found.append(places.after(said))
        return found


class _Places:
    """Where in a row's tokens each few stand last."""

    def __init__(self, match: int) -> None:
        self.match = match
        self.tokens: Sequence[int] = ()
        self._ends: dict[tuple[int, ...], int] = {}

    def after(self, tokens: Sequence[int]) -> Sequence[int]:
        begin, self.tokens = max(len(self.tokens), self.match), tokens
        for end in range(begin, len(tokens)):  # the last ones are what is looked for: not among the places yet
            self._ends[tuple(tokens[end - self.match : end])] = end
        at = self._ends.get(tuple(tokens[len(tokens) - self.match :]))
        return () if at is None else tokens[at : at + DRAFT]


class Drafted:
    """By a model, whose rows follow those of the engine."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def guess(self, seats: Sequence[Seat], tokens: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        runner = self._runner
        rows = [runner.rows.all[seat.row.number] for seat in seats]
        for row, said in zip(rows, tokens, strict=True):
            row.held = row.held[: common(row.held, said[:-1])]
            while unread := said[len(row.held) : -1]:
                lengths = [T for size, T in runner.pieces if size == 1]
                T = next((T for T in lengths if len(unread) <= T), lengths[-1])
                runner.read({row: unread[:T]}, 1, T)
        asked = [_plain(replace(seat, row=row, left=DRAFT)) for seat, row in zip(seats, rows, strict=True)]
        found = [one.token_ids for one in runner.write(asked, DRAFT)]
        for row, seat, guessed in zip(rows, seats, found, strict=True):
            row.held += [seat.token, *guessed[:-1]]
        return list(found)


def _plain(seat: Seat) -> Seat:
    """Without what would need the row's history."""
    sampling = replace(
        seat.sampling,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        logit_bias=(),
        ignore_eos=True,
    )
    return replace(seat, sampling=sampling, named=False)
