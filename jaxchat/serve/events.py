"""Answers over HTTP: events as they come, work that ends when its client leaves, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from jaxchat.serve.errors import ApiError

T = TypeVar("T")

SEND_SECONDS = 60.0  # for which a client may take nothing of what it is sent
QUIET_SECONDS = 15.0  # after which a comment tells proxies that a connection is no idle one: they close those
# The ends of lines that JSON leaves as they are: clients are about that read by Unicode's lines (httpx's aiter_lines).
LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
LEFT = 499  # nginx's status of a client that closed its connection; it is only ever logged


class ClientLeftError(Exception):
    """The client closed the connection."""


class Events(Response):
    """Server-sent events, `data: {...}` each, `data: [DONE]` in the end. An ApiError on the way is the last but one.

    Ends with its client, when that leaves or takes nothing for SEND_SECONDS. `ended` is called in any case.
    """

    def __init__(self, rows: AsyncGenerator[Mapping[str, Any]], ended: Callable[[], None]) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        )
        del self.headers["content-length"]
        self._rows, self._ended = rows, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await unless_left(receive, self._write(send))
        except (ClientLeftError, TimeoutError):
            return
        finally:
            self._ended()

    async def _write(self, send: Send) -> None:
        async def write(event: bytes, *, more: bool = True) -> None:
            message = {"type": "http.response.body", "body": event, "more_body": more}
            async with asyncio.timeout(SEND_SECONDS):  # wait_for can swallow that the client left, before Python 3.12
                await send(message)

        try:
            async with aclosing(self._rows) as rows:
                while (row := await _next(rows, write)) is not None:
                    await write(_event(row))
        except ApiError as error:
            await write(_event(error.body()))
        await write(b"data: [DONE]\n\n", more=False)


async def _next(
    rows: AsyncGenerator[Mapping[str, Any]], write: Callable[[bytes], Awaitable[None]]
) -> Mapping[str, Any] | None:
    """The next row; None after the last. While it lets itself be waited for, comments are written."""
    coming = asyncio.ensure_future(anext(rows, None))
    try:
        while not (await asyncio.wait({coming}, timeout=QUIET_SECONDS))[0]:
            await write(b": one moment\n\n")
        return coming.result()
    finally:
        if not coming.done():  # else `rows` could not be closed
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def _event(row: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(row, ensure_ascii=False).translate(LINE_ENDS).encode() + b"\n\n"


async def unless_left(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`. When the client leaves it is cancelled, and ClientLeftError raised. The body must be read
    before."""

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(leave())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeftError
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    await refusal(error)(scope, receive, send)


def refusal(error: ApiError) -> Response:
    return JSONResponse(error.body(), error.status, headers=error.headers)


def client_left(request: Request, error: Exception) -> Response:
    return Response(status_code=LEFT)
