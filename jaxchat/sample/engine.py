"""Answers to many requests at once: prompts read in pieces between the tokens of answers that are being written.

One thread owns the device. It gives rows of the cache to those whose turn it is, reads prompts, chooses tokens, and
tells every request what its answer grew by.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh

from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.errors import InputError
from jaxchat.models.decoder import Model, Params
from jaxchat.models.decoding import Weights
from jaxchat.sample.groups import groups
from jaxchat.sample.pieces import next_piece
from jaxchat.sample.request import ClosedError, FinishReason, OnDelta, PromptTooLongError, QueueFullError, Request
from jaxchat.sample.rows import Row
from jaxchat.sample.runner import FEW, Runner, Said, Seat
from jaxchat.sample.speculation import HOPE, Speculation, guesses
from jaxchat.sample.steps import DISPATCH, TOP
from jaxchat.sample.text import Writer
from jaxchat.sample.times import Shape
from jaxchat.sample.waiting import Waiting

log = logging.getLogger(__name__)

DISPATCH_SECONDS = 0.1  # what is chosen between two looks by the host takes about so long
PATIENCE = 1.5  # tokens of everyone who writes, in whose time a piece of one prompt is read


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
    prompts, and those of them that needed no reading. answer_tokens: chosen. guessed_tokens: ahead, rightly or not.
    finished: answers by their finish_reason. refused: requests. first_token_seconds: from submission to the first
    token, of the latest thousand answers.
    """

    slots: int
    busy: int
    waiting: int
    prompt_tokens: int
    reused_tokens: int
    answer_tokens: int
    guessed_tokens: int
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
    taken: Row | None = None
    rightly: float = 2.0  # how many guessed tokens were right, lately

    @property
    def request(self) -> Request:
        return self.ticket.request

    @property
    def row(self) -> Row:
        """Of the cache, once it has one."""
        assert self.taken is not None
        return self.taken

    @property
    def unread(self) -> Sequence[int]:
        """What of the prompt is still to be read before its last token, which the first step of the answer reads."""
        return self.request.prompt[len(self.row.held) : -1] if not self.writer.token_ids else ()

    def seat(self) -> Seat:
        """What its next step begins from."""
        request, said = self.request, self.writer.token_ids
        mask = None if request.constraint is None else np.asarray(request.constraint.mask()).view(np.int32).reshape(-1)
        token = said[-1] if said else request.prompt[-1]
        position = len(request.prompt) + len(said) - 1
        return Seat(self.row, token, position, self.writer.wants, request.sampling, request.top_logprobs > 0, mask)


class Engine:
    """A model that answers many requests at once.

    stop_ids: tokens that end an answer. slots: answers written at the same time. context: tokens of a prompt and its
    answer at most, by default the model's. queue: requests that may wait. seconds: of any answer at most, its wait
    included. weights: how they are kept; invariant: whether an answer is the same, to the bit, whatever else is
    answered beside it; see models/decoding.py for both. speculation: how tokens are guessed ahead, if they are. Close
    it, or use it as a context manager. To be used from any thread.
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
        weights: Weights = "whole",
        invariant: bool = True,
        speculation: Speculation | None = None,
    ) -> None:
        self.tokenizer, self.queue, self.seconds = tokenizer, queue, seconds
        self.context = min(context or model.config.context_length, model.config.context_length)
        self._ends = frozenset(stop_ids)
        self._runner = Runner(model, params, mesh, stop_ids, slots, self.context, weights, invariant)
        self._rows = self._runner.rows
        self._guesses = guesses(speculation, mesh, slots, self.context) if speculation else None
        self._vocab_size = model.config.vocab_size
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

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is submitted within is looked at when all of it is there: read side by side, and, where several
        processes share the work, begun by all of them alike."""
        with self._changed:
            yield

    def compile(self) -> None:
        """Compiles all that any request may need, with a progress bar; otherwise each is compiled when it first is. To
        be called before the first request."""
        self._call(partial(self._runner.compile, verifies=self._guesses is not None))

    def embed(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """The mean of each prompt's final hidden states, float32 (prompts, width). Waits for it.

        Raises PromptTooLongError, ClosedError, and InputError for an empty prompt.
        """
        for prompt in prompts:
            self._check(Request(tuple(prompt)), answer=0)
        return np.stack([self._call(partial(self._runner.embed, prompt)) for prompt in prompts])

    def stats(self) -> Stats:
        with self._changed:
            return Stats(
                len(self._rows.all),
                len(self._running),
                len(self._waiting),
                self._counts["prompt_tokens"],
                self._counts["reused_tokens"],
                self._counts["answer_tokens"],
                self._counts["guessed_tokens"],
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
        length, V = len(request.prompt), self._vocab_size
        if not length:
            raise InputError("the prompt is empty; there is nothing to go on from")
        if length + answer > self.context:
            raise PromptTooLongError(f"the prompt has {length} tokens and the model reads {self.context}; shorten it")
        if not all(0 <= token < V for token in request.prompt):
            raise InputError(f"the prompt has tokens that are not among the model's {V:,}")
        if not 0 <= request.top_logprobs <= TOP:
            raise InputError(f"top_logprobs is {request.top_logprobs}; it must be from 0 to {TOP}")
        if any(token >= V for token, _ in request.sampling.logit_bias):
            raise InputError(f"logit_bias names tokens that are not among the model's {V:,}")

    def _work(self) -> None:
        try:
            with jax.set_mesh(self._runner.mesh):
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
        reading = [job for job in self._running if job.unread]
        if reading:
            self._read(reading)
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
                taken = self._rows.take(() if self._runner.reads_whole else prompt)
                job.taken, job.ticket.reused = taken.row, taken.reused
                self._running.append(job)
                self._counts["prompt_tokens"] += len(prompt)
                self._counts["reused_tokens"] += taken.reused
            if taken.source is not None:
                self._runner.copy(taken.source, taken.row, taken.reused)
            self._runner.begin(taken.row, prompt, job.request.sampling)

    def _read(self, reading: list[_Job]) -> None:
        """Reads a piece of the prompts that have waited longest, which keeps who writes waiting no longer than PATIENCE
        for each prompt that is to be read."""
        runner, first = self._runner, reading[0]
        if runner.reads_whole:
            runner.read({first.row: first.unread}, 1, next(T for _, T in runner.pieces if len(first.unread) <= T))
            return
        token = sum(map(self._cost, self._groups([job for job in self._running if not job.unread])))
        most = PATIENCE * len(reading) * token or math.inf
        piece = next_piece(runner, {job.row: job.unread for job in reading}, most, between=token)
        runner.read(piece.tokens, piece.size, piece.T)

    def _write(self, writing: list[_Job]) -> None:
        """A few tokens more for every one of these."""
        parts = self._groups(writing)
        hurried = len(writing) < len(self._running) or any(job.request.constraint is not None for job in writing)
        known = sum(self._runner.times.seconds(self._shape(part)) for part in parts)
        affordable = int(DISPATCH_SECONDS / known) if known and not hurried else 1
        for part in parts:
            self._write_together(part, max(1, min(affordable, DISPATCH)))

    def _groups(self, writing: list[_Job]) -> list[list[_Job]]:
        """Whose steps are taken together."""
        runner = self._runner
        return groups(writing, lambda job: runner.next_span(job.row), self._cost)

    def _cost(self, writing: list[_Job]) -> float:
        """Of a step that takes a token for each of these."""
        return self._runner.times.cost(self._shape(writing))

    def _shape(self, writing: list[_Job]) -> Shape:
        return self._runner.writing([job.row for job in writing])

    def _write_together(self, writing: list[_Job], count: int) -> None:
        """Up to `count` tokens more for each of these, in one step or as many at once as are guessed rightly."""
        seats = []
        for job in list(writing):
            try:
                seats.append(job.seat())
            except Exception:
                log.exception("a constraint failed; its answer is ended")
                writing.remove(job)
                self._end(job, "failed")
        if not writing:
            return
        found = self._guessed(writing, seats)
        if found is None:
            found = self._runner.write(seats, min(count, max(seat.left for seat in seats)))
        for job, said in zip(writing, found, strict=True):
            self._hear(job, said)

    def _guessed(self, writing: list[_Job], seats: list[Seat]) -> list[Said] | None:
        """What a guess for each brings, where it can be expected to bring more than the same time without."""
        runner = self._runner
        shape = runner.verifying([seat.row for seat in seats])
        if self._guesses is None or shape.rows > FEW or any(seat.mask is not None for seat in seats):
            return None
        before, after = self._cost(writing), runner.times.cost(shape)
        if len(writing) * after > before * sum(1 + job.rightly for job in writing):
            for job in writing:
                job.rightly += HOPE
            return None
        tokens = [[*job.request.prompt, *job.writer.token_ids] for job in writing]
        drafts = self._guesses.guess(seats, tokens)
        if not any(drafts):
            return None
        found = runner.verify(seats, drafts)
        for job, draft, said in zip(writing, drafts, found, strict=True):
            if draft:
                job.rightly = 0.7 * job.rightly + 0.3 * (len(said.token_ids) - 1)
        self._counts["guessed_tokens"] += sum(map(len, drafts))
        return found

    def _hear(self, job: _Job, said: Said) -> None:
        """Takes what was chosen for one request, and tells it."""
        row, writer, request = job.row, job.writer, job.request
        tops = [tuple(zip(*top))[: request.top_logprobs] for top in said.tops]
        begin = len(writer.token_ids)
        last = writer.token_ids[-1] if begin else request.prompt[-1]
        taken = writer.write(said.token_ids, said.logprobs, tops)
        new = writer.token_ids[begin:]
        row.held += [last, *new[:-1]]
        with self._changed:
            self._counts["answer_tokens"] += taken
            if not begin:
                self._first_seconds.append(time.monotonic() - job.begun)
        try:
            if request.constraint is not None:
                for token in new:
                    request.constraint.accept(token)
        except Exception:
            log.exception("a constraint failed; its answer is ended")
            writer.end("failed")
        if writer.open:
            self._tell(job)
        else:
            self._end(job, "stop")

    def _tell(self, job: _Job) -> None:
        delta = job.writer.delta()
        try:
            job.on_delta(delta)
        except Exception:
            log.exception("what hears an answer failed; the answer is ended")
            self._cancel(job.ticket)

    def _end(self, job: _Job, reason: FinishReason) -> None:
        """Ends an answer, for this reason where it has not ended by itself, and frees its row."""
        job.writer.end(reason)
        with self._changed:
            if job.taken is not None:
                self._rows.release(job.taken)
            if job in self._running:
                self._running.remove(job)
            self._finished[str(job.writer.finish_reason)] += 1
        self._tell(job)
