"""From an event loop to the engine's thread and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import numpy as np

from jaxchat.errors import InputError
from jaxchat.sample.request import ClosedError, Delta, OnDelta, PromptTooLongError, QueueFullError, Request
from jaxchat.serve.errors import ApiError, stopping, unusable


class Ticket(Protocol):
    """An answer that is being made. reused: tokens of its prompt that had been read before, once it has begun."""

    reused: int

    def cancel(self) -> None: ...


class Engine(Protocol):
    """What answers: sample.engine.Engine, or a fake."""

    def submit(self, request: Request, on_delta: OnDelta) -> Ticket: ...

    def embed(self, prompts: Sequence[Sequence[int]]) -> np.ndarray: ...

    def stats(self) -> Any: ...

    def close(self, drain_seconds: float = 0.0) -> None: ...


class Answers:
    """The answers to one client's requests, as they grow: `async for i, delta in answers` until each has ended.

    Made on an event loop, where it also ends. Who is done with it, for whatever reason, calls `cancel`. reused: tokens
    of each prompt that had been read before.
    """

    def __init__(self, engine: Engine, requests: Sequence[Request]) -> None:
        self._engine, self._requests = engine, requests
        self._queue: asyncio.Queue[tuple[int, Delta] | ApiError] = asyncio.Queue()
        self._tickets: dict[int, Ticket] = {}
        self.reused: dict[int, int] = {}

    def begin(self) -> None:
        """Asks the engine. Raises ApiError where it does not take every request; then none is left with it."""
        loop = asyncio.get_running_loop()
        for i, request in enumerate(self._requests):

            def hear(delta: Delta, i: int = i) -> None:
                try:
                    loop.call_soon_threadsafe(self._queue.put_nowait, (i, delta))
                except RuntimeError:
                    pass  # the loop is closed: nobody listens any more

            try:
                self._tickets[i] = self._engine.submit(request, hear)
            except InputError as error:
                self.cancel()
                raise refused(error) from None

    def cancel(self, i: int | None = None) -> None:
        """Ends answer i, or all."""
        for ticket in [self._tickets.pop(i, None)] if i is not None else list(self._tickets.values()):
            if ticket is not None:
                ticket.cancel()
        if i is None:
            self._tickets.clear()

    def give_up(self) -> None:
        """Ends all answers with an error for the client: the server stops."""
        self._queue.put_nowait(stopping())

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        while self._tickets:
            found = await self._queue.get()
            if isinstance(found, ApiError):
                raise found
            i, delta = found
            if i not in self._tickets:
                continue  # cancelled by us
            self.reused[i] = self._tickets[i].reused
            if delta.finish_reason is not None:
                del self._tickets[i]
            if delta.finish_reason == "failed":
                raise ApiError(500, "the engine failed on this request", code="engine_failed")
            if delta.finish_reason == "cancelled":
                raise stopping()
            yield i, delta


def refused(error: InputError) -> ApiError:
    """What the engine says no to, as a client is told."""
    if isinstance(error, QueueFullError):
        return ApiError(503, f"{error}", code="overloaded", headers={"Retry-After": "5"})
    if isinstance(error, ClosedError):
        return stopping()
    if isinstance(error, PromptTooLongError):
        return unusable(str(error), code="context_length_exceeded")
    return unusable(str(error))
