"""Answers to many requests at once: prompts read in pieces between the tokens of answers that are being written.

One thread owns the device. It admits who waits to rows of the cache, reads prompts, chooses tokens, and tells every
request what its answer grew by. R rows of a step, T tokens of a piece, V vocabulary.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.errors import InputError
from jaxchat.models.decoder import Model, Params
from jaxchat.models.decoding import for_decoding
from jaxchat.sample import steps
from jaxchat.sample.methods import Sampling, methods
from jaxchat.sample.request import ClosedError, FinishReason, OnDelta, PromptTooLongError, QueueFullError, Request
from jaxchat.sample.rows import Row, Rows
from jaxchat.sample.text import Writer
from jaxchat.sample.waiting import Waiting

log = logging.getLogger(__name__)

PIECES = (32, 128, 512)  # tokens of a prompt read at once
SPANS = 4  # from one length of what is looked at to the next
FIRST_SPAN = 128
DISPATCH_SECONDS = 0.06  # what is chosen between two looks by the host takes about so long


@dataclass(eq=False)
class Ticket:
    """A request that was taken. reused: tokens of its prompt that had been read before, for another."""

    request: Request
    cancel_: Callable[[Ticket], None] = field(repr=False)
    reused: int = 0

    def cancel(self) -> None:
        """Ends the answer; its last delta says "cancelled". Of no effect once it has ended. Thread-safe."""
        self.cancel_(self)


@dataclass(frozen=True)
class Stats:
    """How an engine stands, and sums since it began.

    slots, busy, waiting: answers at once, those being written, requests in the queue. prompt_tokens, reused_tokens: of
    prompts, and those of them that needed no reading. answer_tokens: chosen. finished: answers by their finish_reason.
    refused: requests. first_token_seconds: from submission to the first token, of the latest thousand answers.
    """

    slots: int
    busy: int
    waiting: int
    prompt_tokens: int
    reused_tokens: int
    answer_tokens: int
    finished: dict[str, int]
    refused: int
    first_token_seconds: tuple[float, ...]


@dataclass(eq=False)
class _Job:
    """A request on its way. read: tokens of the prompt that its row holds."""

    ticket: Ticket
    on_delta: OnDelta
    writer: Writer
    begun: float
    row: Row | None = None
    told: bool = False

    @property
    def request(self) -> Request:
        return self.ticket.request

    @property
    def unread(self) -> int:
        """Tokens of the prompt still to be read before the last, which the first step of the answer reads."""
        assert self.row is not None
        return max(0, len(self.request.prompt) - 1 - len(self.row.held))

    @property
    def position(self) -> int:
        """Where the token that was chosen last, or is the prompt's last, will be read."""
        return len(self.request.prompt) + len(self.writer.token_ids) - 1

    @property
    def token(self) -> int:
        return self.writer.token_ids[-1] if self.writer.token_ids else self.request.prompt[-1]


class Engine:
    """A model that answers many requests at once.

    stop_ids: tokens that end an answer. slots: answers written at the same time. context: tokens of a prompt and its
    answer at most, by default the model's. queue: requests that may wait. seconds: of any answer at most, its wait
    included. Close it, or use it as a context manager. To be used from any thread.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        tokenizer: Tokenizer,
        mesh: Mesh,
        stop_ids: Sequence[int] = (),
        *,
        slots: int = 8,
        context: int | None = None,
        queue: int = 64,
        seconds: float | None = None,
    ) -> None:
        self.mesh, self.tokenizer, self.queue, self.seconds = mesh, tokenizer, queue, seconds
        self.context = min(context or model.config.context_length, model.config.context_length)
        with jax.set_mesh(mesh):
            self.model, self.params = for_decoding(replace(model, rules=model.rules.by_rows()), params)
        self._ends = frozenset(stop_ids)
        self._stops = np.array(sorted(stop_ids) or [-1], np.int32)
        self._rows = Rows(slots, self._shards())
        self._sizes = _sizes(self._rows.each, 4)
        self._spans = [*_powers(FIRST_SPAN, SPANS, self.context), self.context]
        self._state: steps.State | None = None
        self._token_seconds = 0.0
        self._waiting: Waiting[_Job] = Waiting()
        self._running: list[_Job] = []
        self._cancelled: set[Ticket] = set()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._counts: Counter[str] = Counter()
        self._finished: Counter[str] = Counter()
        self._first_seconds: deque[float] = deque(maxlen=1000)
        self._closing: float | None = None  # when what is not done by then is cut short
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, request: Request, on_delta: OnDelta) -> Ticket:
        """Takes a request, without waiting. `on_delta` is called from the engine's thread, which waits for it: it must
        not block. The last delta, and only it, has a finish_reason.

        Raises PromptTooLongError, QueueFullError, ClosedError, and InputError for a prompt that the model cannot read.
        """
        try:
            self._check(request)
            ends = frozenset() if request.sampling.ignore_eos else self._ends
            room = min(request.sampling.max_tokens, self.context - len(request.prompt))
            writer = Writer(self.tokenizer, replace(request.sampling, max_tokens=room), ends)
            ticket = Ticket(request, self._cancel)
            with self._changed:
                if self._closing is not None:
                    raise ClosedError(
                        f"the engine is closed: {self._failure}" if self._failure else "the engine is closed"
                    )
                if len(self._waiting) >= self.queue + self._rows.free():
                    raise QueueFullError(f"{len(self._waiting)} requests wait already; try again later")
                self._waiting.push(request.client, _Job(ticket, on_delta, writer, time.monotonic()))
                self._changed.notify_all()
        except InputError:
            self._counts["refused"] += 1
            raise
        return ticket

    def embed(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """The mean of each prompt's final hidden states, float32 (prompts, width). Waits for it.

        Raises PromptTooLongError, ClosedError, and InputError for an empty prompt.
        """
        for prompt in prompts:
            self._check(Request(tuple(prompt)), answer=0)
        return np.stack([self._call(partial(self._embed, prompt)) for prompt in prompts])

    def stats(self) -> Stats:
        with self._changed:
            return Stats(
                len(self._rows.all),
                len(self._running),
                len(self._waiting),
                self._counts["prompt_tokens"],
                self._counts["reused_tokens"],
                self._counts["answer_tokens"],
                dict(self._finished),
                self._counts["refused"],
                tuple(self._first_seconds),
            )

    def close(self, drain_seconds: float = 0.0) -> None:
        """Takes nothing more, lets what was taken go on for so long, cuts the rest short and returns when all is
        told."""
        with self._changed:
            until = time.monotonic() + drain_seconds
            self._closing = until if self._closing is None else min(until, self._closing)
            self._changed.notify_all()
        self._thread.join()

    # What follows, but for `_cancel` and `_call`, runs in the engine's thread.

    def _cancel(self, ticket: Ticket) -> None:
        with self._changed:
            self._cancelled.add(ticket)
            self._changed.notify_all()

    def _call(self, function: Callable[[], Any]) -> Any:
        """What a function returns that is to run in the engine's thread."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closing is not None:
                raise ClosedError("the engine is closed")
            self._calls.append((function, future))
            self._changed.notify_all()
        return future.result()

    def _check(self, request: Request, answer: int = 1) -> None:
        length, V = len(request.prompt), self.model.config.vocab_size
        if not length:
            raise InputError("the prompt is empty; there is nothing to go on from")
        if length + answer > self.context:
            raise PromptTooLongError(f"the prompt has {length} tokens and the model reads {self.context}; shorten it")
        if not all(0 <= token < V for token in request.prompt):
            raise InputError(f"the prompt has tokens that are not among the model's {V:,}")
        if not 0 <= request.top_logprobs <= steps.TOP:
            raise InputError(f"top_logprobs is {request.top_logprobs}; it must be from 0 to {steps.TOP}")
        if any(token >= V for token, _ in request.sampling.logit_bias):
            raise InputError(f"logit_bias names tokens that are not among the model's {V:,}")

    def _work(self) -> None:
        try:
            with jax.set_mesh(self.mesh):
                while self._wait():
                    self._turn()
        except BaseException as error:
            log.exception("the engine failed")
            self._failure = error
        with self._changed:
            self._closing = time.monotonic()
            jobs = [*self._running, *self._waiting]
            self._running, self._waiting = [], Waiting()
            calls = list(self._calls)
        for job in jobs:
            self._end(job, "cancelled" if self._failure is None else "failed")
        for _, future in calls:
            future.set_exception(ClosedError("the engine is closed"))

    def _wait(self) -> bool:
        """Sleeps until there is work; whether to go on."""
        with self._changed:
            while not (self._running or len(self._waiting) or self._calls):
                if self._closing is not None:
                    return False
                self._changed.wait()
            return self._closing is None or time.monotonic() < self._closing

    def _turn(self) -> None:
        """One look around, a piece of a prompt, and a few tokens more for everyone who writes."""
        self._answer_calls()
        self._end_overdue()
        self._admit()
        if any(job.unread for job in self._running):
            self._read_piece()
        writing = [job for job in self._running if not job.unread]
        if writing:
            self._write(writing)

    def _answer_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

    def _end_overdue(self) -> None:
        """Ends what was cancelled and what took too long, waiting or running."""
        now = time.monotonic()
        with self._changed:
            cancelled, self._cancelled = self._cancelled, set()
            over: list[tuple[_Job, FinishReason]] = []
            for job in [*self._running, *self._waiting]:
                limits = [s for s in (job.request.seconds, self.seconds) if s is not None]
                if job.ticket in cancelled:
                    over.append((job, "cancelled"))
                elif limits and now - job.begun > min(limits):
                    over.append((job, "timeout"))
            for job, _ in over:
                self._waiting.remove(job)
        for job, reason in over:
            self._end(job, reason)

    def _admit(self) -> None:
        """Gives free rows to those whose turn it is."""
        while True:
            with self._changed:
                if not (len(self._waiting) and self._rows.free()):
                    return
                job = self._waiting.pop()
                prompt = job.request.prompt
                taken = self._rows.take(prompt)
                job.row, job.ticket.reused = taken.row, taken.reused
                self._running.append(job)
                self._counts["prompt_tokens"] += len(prompt)
                self._counts["reused_tokens"] += taken.reused
            if taken.source is not None:
                self._copy_row(taken.source, taken.row, taken.reused)
            if _adjusts(job.request.sampling):
                self._begin_history(job)

    def _copy_row(self, source: Row, row: Row, count: int) -> None:
        state, each = self._made(), self._rows.each
        shard = row.number // each
        from_D, to_D = np.zeros(self._rows.shards, np.int32), np.full(self._rows.shards, each, np.int32)
        from_D[shard], to_D[shard] = source.number % each, row.number % each
        cache = steps.copy(
            self.model, self._span(count), state.cache, *(self._place(x, "batch") for x in (from_D, to_D))
        )
        self._state = replace(state, cache=cache)

    def _begin_history(self, job: _Job) -> None:
        assert job.row is not None
        state, V = self._made(), self.model.config.vocab_size
        asked_V, bias_V = np.zeros(V, bool), np.zeros(V, np.float32)
        asked_V[list(job.request.prompt)] = True
        for token, bias in job.request.sampling.logit_bias:
            bias_V[token] = bias
        self._state = replace(state, history=steps.remember(self.model, state.history, job.row.number, asked_V, bias_V))

    def _read_piece(self) -> None:
        """Reads a piece of the prompt that has waited longest."""
        job = next(job for job in self._running if job.unread)
        assert job.row is not None
        state, row = self._made(), job.row
        begin, unread = len(row.held), job.unread
        T = next((size for size in PIECES if size >= unread), PIECES[-1])
        piece = job.request.prompt[begin : begin + min(T, unread)]
        rows_R, seated = self._rows.seats([row], self._sizes)
        tokens_RT, positions_RT = np.zeros((len(seated), T), np.int32), np.full((len(seated), T), -1, np.int32)
        seat = seated.index(row)
        tokens_RT[seat, : len(piece)] = piece
        positions_RT[seat, : len(piece)] = np.arange(begin, begin + len(piece))
        cache = steps.read(
            self.model,
            self._span(begin + len(piece)),
            self.params,
            state.cache,
            None if rows_R is None else self._place(rows_R, "batch"),
            *(self._place(x, "batch", "sequence") for x in (tokens_RT, positions_RT)),
        )
        self._state = replace(state, cache=cache)
        row.held += piece

    def _write(self, writing: list[_Job]) -> None:
        """A few tokens more for every one of these."""
        wanted = max(job.writer.wants for job in writing)
        hurried = any(job.request.constraint is not None for job in writing) or any(job.unread for job in self._running)
        affordable = int(DISPATCH_SECONDS / self._token_seconds) if self._token_seconds else 1
        count = 1 if hurried else max(1, min(wanted, affordable, steps.DISPATCH))
        batch, seated = self._batch(writing)
        span = self._span(max(job.position for job in writing) + count)
        begun = time.monotonic()
        self._state, chosen, made = steps.advance(
            self.model, span, self.params, self._made(), batch, np.int32(count), self._stops
        )
        chosen = jax.tree.map(np.asarray, chosen)
        steps_made = int(made)
        self._token_seconds = (time.monotonic() - begun) / max(steps_made, 1)
        for seat, job in enumerate(seated):
            if job is not None:
                self._hear(job, seat, chosen, steps_made)

    def _hear(self, job: _Job, seat: int, chosen: steps.Chosen, made: int) -> None:
        """Tells one request what was chosen for it."""
        row, writer, request = job.row, job.writer, job.request
        assert row is not None
        tokens = np.asarray(chosen.token_CR)[:made, seat].tolist()
        tops = None
        if request.top_logprobs:
            pairs = (np.asarray(x)[:made, seat, : request.top_logprobs].tolist()
                     for x in (chosen.top_CRK, chosen.top_logprob_CRK))  # fmt: skip
            tops = [tuple(zip(ids, logprobs)) for ids, logprobs in zip(*pairs)]
        last = job.token
        taken = writer.write(tokens, np.asarray(chosen.logprob_CR)[:made, seat].tolist(), tops)
        row.held += [last, *writer.token_ids[len(writer.token_ids) - taken : -1]] if taken else []
        now = time.monotonic()
        with self._changed:
            self._counts["answer_tokens"] += taken
            if taken == len(writer.token_ids):
                self._first_seconds.append(now - job.begun)
        try:
            if request.constraint is not None:
                for token in writer.token_ids[len(writer.token_ids) - taken :]:
                    request.constraint.accept(token)
        except Exception:
            log.exception("a constraint failed")
            writer.end("failed")
        if writer.open:
            self._tell(job)
        else:
            self._end(job, "stop")

    def _tell(self, job: _Job) -> None:
        delta = job.writer.delta()
        if not (delta.text or delta.token_ids or delta.finish_reason):
            return
        try:
            job.on_delta(delta)
        except Exception:
            log.exception("what hears an answer failed; the answer is ended")
            self._cancel(job.ticket)

    def _end(self, job: _Job, reason: FinishReason) -> None:
        """Ends an answer, for this reason where it has not ended by itself, and frees its row."""
        job.writer.end(reason)
        with self._changed:
            if job.row is not None:
                self._rows.release(job.row)
            if job in self._running:
                self._running.remove(job)
            self._finished[str(job.writer.finish_reason)] += 1
        self._tell(job)

    def _batch(self, writing: list[_Job]) -> tuple[Any, list[_Job | None]]:
        """The step's rows on the device, and who sits where."""
        by_row = {job.row: job for job in writing}
        rows_R: Any
        rows_R, seated_rows = self._rows.seats([row for row in by_row if row is not None], self._sizes)
        seated = [by_row[row] if row is not None else None for row in seated_rows]
        each = [job.request if job else _NOBODY for job in seated]
        words = -(-self.model.config.vocab_size // 32)
        allowed_RW: Any = np.full((len(seated), words), -1, np.int32)
        for seat, request in enumerate(each):
            if request.constraint is not None:
                bits = np.asarray(request.constraint.mask()).view(np.int32).reshape(-1)
                allowed_RW[seat] = 0
                allowed_RW[seat, : len(bits)] = bits[:words]

        def column(values: Iterable[Any], kind: Any) -> Any:
            return np.array(list(values), kind)

        batch = steps.Batch(
            rows_R,
            column((job.token if job else 0 for job in seated), np.int32),
            column((job.position if job else -1 for job in seated), np.int32),
            column((job.writer.wants if job else 0 for job in seated), np.int32),
            column((_adjusts(request.sampling) for request in each), bool),
            column((request.constraint is not None for request in each), bool),
            column((request.top_logprobs > 0 for request in each), bool),
            allowed_RW,
            methods([request.sampling for request in each]),
        )
        place = {1: ("batch",), 2: ("batch", None)}
        return jax.tree.map(lambda x: self._place(x, *place[x.ndim]), batch), seated

    def _embed(self, prompt: Sequence[int]) -> np.ndarray:
        length = next(size for size in self._spans if size >= len(prompt))
        tokens_1T = np.zeros((1, length), np.int32)
        tokens_1T[0, : len(prompt)] = prompt
        return np.asarray(steps.pooled(self.model, self.params, tokens_1T, np.int32(len(prompt))))

    def _made(self) -> steps.State:
        if self._state is None:
            self._state = steps.empty_state(self.model, len(self._rows.all), self.context)
        return self._state

    def _span(self, slots: int) -> int:
        """How many slots are to be looked at where these are used: one of few numbers, since each is compiled."""
        return next(span for span in self._spans if span >= min(slots, self.context))

    def _shards(self) -> int:
        entry = self.model.rules.activation("batch")[0]
        names = (entry,) if isinstance(entry, str) else entry or ()
        return int(np.prod([self.mesh.shape[name] for name in names], dtype=int))

    def _place(self, x: np.ndarray, *axes: str | None) -> jax.Array:
        return jax.device_put(x, NamedSharding(self.mesh, self.model.rules.activation(*axes)))


_NOBODY = Request((0,), Sampling(temperature=0))


def _adjusts(sampling: Sampling) -> bool:
    """Whether what was said before, or a bias, changes what is chosen next."""
    plain = (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1, 0, 0)
    return not plain or bool(sampling.logit_bias)


def _powers(first: int, factor: int, below: int) -> list[int]:
    found = []
    while first < below:
        found.append(first)
        first *= factor
    return found


def _sizes(most: int, factor: int) -> list[int]:
    """How many rows of a shard a step may have: few numbers, since each is compiled."""
    return [*_powers(1, factor, most), most]
