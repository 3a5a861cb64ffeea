"""A model on its devices with the rows that it answers in: every step the engine can take, in few compiled shapes.

R rows of a step, T tokens of a piece, C tokens of a dispatch, D devices that hold rows, V vocabulary, W = V / 32.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxchat.models.config import LongRope
from jaxchat.models.decoder import Model, Params
from jaxchat.models.decoding import Weights, for_decoding
from jaxchat.progress import Bar
from jaxchat.sample import steps
from jaxchat.sample.methods import Sampling, methods
from jaxchat.sample.room import cache_bytes
from jaxchat.sample.rows import Row, Rows
from jaxchat.sample.times import Shape, Times

# Rows of each device and tokens of each that are read at once: pieces of a prompt between the tokens of others, the
# smallest where what was read before is long; several short prompts; and a large piece where nobody waits.
PIECES = ((1, 16), (1, 32), (4, 32), (4, 64), (1, 256))
FIRST_PIECE = 32  # tokens of a whole prompt that is read at once
FACTOR = 4  # from one number of rows, or one length of what is looked at, to the next
FIRST_SPAN = 128
DRAFT = 7  # tokens that are guessed and then read at once
FEW = 4  # rows of each device up to which guessing can pay: with more, arithmetic takes the time, not reading weights


@dataclass(frozen=True)
class Seat:
    """A row in a step. token: chosen last and not yet read. position: where it will be read. left: tokens it may still
    say. mask: bits of the tokens that may be chosen, int32 (W,) at most; None: all."""

    row: Row
    token: int
    position: int
    left: int
    sampling: Sampling
    named: bool = False
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Said:
    """What a row said in a step. tops: for each token, the likeliest and their log-probabilities, where asked for."""

    token_ids: list[int]
    logprobs: list[float]
    tops: list[tuple[list[int], list[float]]]


class Runner:
    """rows: answers at once. context: tokens of each at most."""

    def __init__(
        self,
        model: Model,
        params: Params,
        mesh: Mesh,
        stop_ids: Sequence[int],
        rows: int,
        context: int,
        weights: Weights = "whole",
        invariant: bool = True,
    ) -> None:
        self.mesh, self.context = mesh, context
        with jax.set_mesh(mesh):
            self.model, self.params = for_decoding(
                replace(model, rules=model.rules.by_rows()), params, weights, invariant=invariant
            )
        self.rows = Rows(rows, self._shards())
        each = self.rows.each
        self.sizes = [*_powers(1, FACTOR, each), each]
        # LongRope turns all of a prompt by how long it is, so that a prompt cannot be read before its length is known.
        self.reads_whole = any(kind.rotary and isinstance(kind.rotary.scaling, LongRope) for kind in model.config.kinds)
        shapes = [(1, T) for T in (*_powers(FIRST_PIECE, FACTOR, context), context)] if self.reads_whole else PIECES
        self.pieces = sorted(
            {(min(size, each), min(T, context)) for size, T in shapes}, key=lambda one: one[0] * one[1]
        )
        self._spans = [*_powers(FIRST_SPAN, FACTOR, context), context]
        self._stops = np.array(sorted(stop_ids) or [-1], np.int32)
        self._state: steps.State | None = None
        weights = sum(leaf.nbytes for leaf in jax.tree.leaves(self.params))
        self.times = Times(weights, cache_bytes(self.model, 1, 1))

    def compile(self, *, verifies: bool = False) -> None:
        """Compiles all that will run, with a bar, and measures it; before anything was read. verifies: drafts as
        well."""
        shapes = [Shape("read", size, T, span) for size, T in self.pieces for span in self._spans if span >= T]
        shapes += [Shape("write", size, 1, span) for size in self.sizes for span in self._spans]
        if verifies:
            few = [size for size in self.sizes if size <= FEW]
            shapes += [Shape("verify", size, 1 + DRAFT, span) for size in few for span in self._spans]
        with jax.set_mesh(self.mesh), Bar("compiling", len(shapes) + len(self._spans) + 1, "steps") as bar:
            for shape in shapes:
                for _ in range(3):  # once to compile, twice to measure
                    self._idle(shape)
                bar.advance()
            for span in self._spans:
                self._copy(span, *np.zeros((2, self.rows.shards), np.int32))
                bar.advance()
            self._remember(0, (), ())
            bar.advance()

    def reading(self, pieces: Mapping[Row, Sequence[int]], size: int, T: int) -> Shape:
        """Of the step that reads these: of `size` rows of each device at most, T tokens of each at most."""
        most = max(T, *(len(row.held) + len(piece) for row, piece in pieces.items()))
        return Shape("read", size, T, self._span(most))

    def writing(self, rows: Collection[Row]) -> Shape:
        """Of the step that writes the next token of each of these."""
        return Shape("write", self.rows.size(rows, self.sizes), 1, max(map(self.next_span, rows)))

    def verifying(self, rows: Collection[Row]) -> Shape:
        """Of the step that verifies a draft for each of these."""
        most = max(len(row.held) for row in rows) + 1 + DRAFT
        return Shape("verify", self.rows.size(rows, self.sizes), 1 + DRAFT, self._span(most))

    def next_span(self, row: Row) -> int:
        """How many slots are looked at for a row's next token."""
        return self._span(len(row.held) + 1)

    def read(self, pieces: dict[Row, Sequence[int]], size: int, T: int) -> None:
        """Reads more tokens of some rows; size and T as `reading` has them."""
        self._read(self.reading(pieces, size, T), pieces)
        for row, piece in pieces.items():
            row.held += piece

    def write(self, seats: list[Seat], count: int) -> list[Said]:
        """Up to `count` tokens more for each of some rows, none after one that ends it, and as many as can be written
        without looking over more slots than the first needs."""
        shape = self.writing([seat.row for seat in seats])
        return self._write(shape, seats, min(count, shape.span - max(seat.position for seat in seats)))

    def verify(self, seats: list[Seat], drafts: Sequence[Sequence[int]]) -> list[Said]:
        """One token more for each of some rows, and one for each that was drafted rightly."""
        return self._verify(self.verifying([seat.row for seat in seats]), seats, drafts)

    def copy(self, source: Row, row: Row, count: int) -> None:
        """Puts what one row has read, its first `count` tokens, into another on the same device."""
        each, shards = self.rows.each, self.rows.shards
        shard = row.number // each
        from_D, to_D = np.zeros(shards, np.int32), np.full(shards, each, np.int32)
        from_D[shard], to_D[shard] = source.number % each, row.number % each
        self._copy(self._span(count), from_D, to_D)

    def begin(self, row: Row, prompt: Sequence[int], sampling: Sampling) -> None:
        """Begins a row's history, if its sampling looks at it."""
        if adjusts(sampling):
            self._remember(row.number, prompt, sampling.logit_bias)

    def embed(self, prompt: Sequence[int]) -> np.ndarray:
        """The mean of a prompt's final hidden states, float32 (width,)."""
        length = self._span(len(prompt))
        tokens_1T = np.zeros((1, length), np.int32)
        tokens_1T[0, : len(prompt)] = prompt
        return np.asarray(steps.pooled(self.model, self.params, tokens_1T, np.int32(len(prompt))))

    def _idle(self, shape: Shape) -> None:
        """A step of this shape that leaves nothing behind: what it writes is written over."""
        nobody = Seat(self.rows.all[0], 0, 0, 1, _NOBODY)
        if shape.kind == "read":
            self._read(shape, {})
        elif shape.kind == "write":
            self._write(shape, [nobody], 1)
        else:
            self._verify(shape, [], [])

    def _copy(self, span: int, from_D: np.ndarray, to_D: np.ndarray) -> None:
        state = self._made()
        places = (self._place(x, "batch") for x in (from_D, to_D))
        self._state = replace(state, cache=steps.copy(self.model, span, state.cache, *places))

    def _remember(self, number: int, prompt: Sequence[int], biases: Sequence[tuple[int, float]]) -> None:
        state, V = self._made(), self.model.config.vocab_size
        asked_V, bias_V = np.zeros(V, bool), np.zeros(V, np.float32)
        asked_V[list(prompt)] = True
        for token, bias in biases:
            bias_V[token] = bias
        history = steps.remember(self.model, state.history, number, asked_V, bias_V)
        self._state = replace(state, history=history)

    def _read(self, shape: Shape, pieces: dict[Row, Sequence[int]]) -> None:
        rows_R, seated = self.rows.seats(pieces, shape.rows)
        tokens_RT = np.zeros((len(seated), shape.tokens), np.int32)
        positions_RT = np.full_like(tokens_RT, -1)
        for seat, row in enumerate(seated):
            if row is not None:
                piece = pieces[row]
                tokens_RT[seat, : len(piece)] = piece
                positions_RT[seat, : len(piece)] = len(row.held) + np.arange(len(piece))
        state, begun = self._made(), time.monotonic()
        cache = steps.read(
            self.model,
            shape.span,
            self.params,
            state.cache,
            None if rows_R is None else self._place(rows_R, "batch"),
            *(self._place(x, "batch", "sequence") for x in (tokens_RT, positions_RT)),
        )
        self._state = jax.block_until_ready(replace(state, cache=cache))
        self._took(shape, time.monotonic() - begun)

    def _write(self, shape: Shape, seats: list[Seat], count: int) -> list[Said]:
        batch, at = self._batch(seats, shape.rows)
        begun = time.monotonic()
        self._state, chosen, made = steps.advance(
            self.model, shape.span, self.params, self._made(), batch, np.int32(count), self._stops
        )
        chosen, made = jax.tree.map(np.asarray, chosen), int(made)
        self._took(shape, (time.monotonic() - begun) / made)
        return [_said(seat, chosen, place, made) for seat, place in zip(seats, at, strict=True)]

    def _verify(self, shape: Shape, seats: list[Seat], drafts: Sequence[Sequence[int]]) -> list[Said]:
        batch, at = self._batch(seats, shape.rows)
        draft_RG = np.full((shape.rows * self.rows.shards, DRAFT), -1, np.int32)
        for place, draft in zip(at, drafts, strict=True):
            draft_RG[place, : len(draft)] = draft
        begun = time.monotonic()
        self._state, chosen, made_R = steps.verify(
            self.model, shape.span, self.params, self._made(), batch, self._place(draft_RG, "batch", "sequence")
        )
        chosen, made_R = jax.tree.map(np.asarray, chosen), np.asarray(made_R)
        self._took(shape, time.monotonic() - begun)
        return [_said(seat, chosen, place, int(made_R[place])) for seat, place in zip(seats, at, strict=True)]

    def _batch(self, seats: list[Seat], size: int) -> tuple[steps.Batch, list[int]]:
        """The rows of a step, on the devices, and where each of `seats` sits there."""
        rows_R: Any
        rows_R, rows = self.rows.seats([seat.row for seat in seats], size)
        by_row = {seat.row: seat for seat in seats}
        seated = [None if row is None else by_row[row] for row in rows]
        words = -(-self.model.config.vocab_size // 32)
        allowed_RW: Any = np.full((len(seated), words), -1, np.int32)
        for place, seat in enumerate(seated):
            if seat is not None and seat.mask is not None:
                allowed_RW[place] = 0
                allowed_RW[place, : len(seat.mask)] = seat.mask[:words]

        def column(values: Iterable[Any], kind: Any) -> Any:
            return np.array(list(values), kind)

        batch = steps.Batch(
            rows_R,
            column((seat.token if seat else 0 for seat in seated), np.int32),
            column((seat.position if seat else -1 for seat in seated), np.int32),
            column((seat.left if seat else 0 for seat in seated), np.int32),
            column((seat is not None and adjusts(seat.sampling) for seat in seated), bool),
            column((seat is not None and seat.mask is not None for seat in seated), bool),
            column((seat is not None and seat.named for seat in seated), bool),
            allowed_RW,
            methods([seat.sampling if seat else _NOBODY for seat in seated]),
        )
        axes = {1: ("batch",), 2: ("batch", None)}
        places = {row: place for place, row in enumerate(rows)}
        return jax.tree.map(lambda x: self._place(x, *axes[x.ndim]), batch), [places[seat.row] for seat in seats]

    def _took(self, shape: Shape, seconds: float) -> None:
        """Where several processes share the work no times are kept: what they decide by them must be the same."""
        if jax.process_count() == 1:
            self.times.took(shape, seconds)

    def _made(self) -> steps.State:
        if self._state is None:
            self._state = steps.empty_state(self.model, len(self.rows.all), self.context)
        return self._state

    def _span(self, slots: int) -> int:
        """How many slots are to be looked at where these are used: one of few numbers, since each is compiled."""
        return next(span for span in self._spans if span >= min(slots, self.context))

    def _shards(self) -> int:
        entry = self.model.rules.activation("batch")[0]
        names = (entry,) if isinstance(entry, str) else entry or ()
        return int(np.prod([self.mesh.shape[name] for name in names], dtype=int))

    def _place(self, x: Any, *axes: str | None) -> Any:
        if self.model.layout != "training":  # one device: the compiled step takes it from the host sooner
            return x
        return jax.device_put(x, NamedSharding(self.mesh, self.model.rules.activation(*axes)))


_NOBODY = Sampling(temperature=0)


def adjusts(sampling: Sampling) -> bool:
    """Whether what was said before, or a bias, changes what is chosen next."""
    plain = (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1, 0, 0)
    return not plain or bool(sampling.logit_bias)


def _said(seat: Seat, chosen: Any, place: int, made: int) -> Said:
    tokens, logprobs = (x[:made, place].tolist() for x in (chosen.token_CR, chosen.logprob_CR))
    tops = []
    if seat.named:
        tops = list(zip(chosen.top_CRK[:made, place].tolist(), chosen.top_logprob_CRK[:made, place].tolist()))
    return Said(tokens, logprobs, tops)


def _powers(first: int, factor: int, below: int) -> list[int]:
    found = []
    while first < below:
        found.append(first)
        first *= factor
    return found
