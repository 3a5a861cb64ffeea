"""Answers over HTTP: work ends when its client leaves, whatever is being sent at that moment; an event is one line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from jaxchat.serve import events
from jaxchat.serve.events import Events


@pytest.mark.parametrize("turns", range(8))  # of the loop, between a chunk and the client's leaving
def test_a_client_that_leaves_while_a_chunk_is_sent_ends_the_answer(turns: int) -> None:
    async def leave() -> int:
        left = asyncio.Event()
        sent = 0

        async def rows() -> AsyncGenerator[dict[str, Any], None]:
            for i in range(1000):
                await asyncio.sleep(0)
                yield {"i": i}

        async def send(message: Any) -> None:
            nonlocal sent
            sent += 1
            if sent == 20:
                leaving.append(asyncio.ensure_future(soon()))

        async def soon() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            left.set()

        async def receive() -> dict[str, str]:
            await left.wait()
            return {"type": "http.disconnect"}

        leaving: list[Any] = []
        ended: list[bool] = []
        await Events(rows(), lambda: ended.append(True))({"type": "http"}, receive, send)
        assert ended == [True]
        return sent

    with ThreadPoolExecutor(1) as thread:  # playwright's loop runs in this one
        assert thread.submit(asyncio.run, leave()).result() < 60


def test_an_event_is_one_line_to_clients_that_read_by_any_end_of_line() -> None:
    text = "".join(map(chr, [*range(0x20), 0x85, 0x2028, 0x2029])) + "ü你😀"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def rows() -> AsyncGenerator[dict[str, Any], None]:
            yield {"text": text}

        await Events(rows(), lambda: None)(scope, receive, send)

    async def read() -> list[str]:
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as web,
            web.stream("GET", "/") as response,
        ):
            return [line async for line in response.aiter_lines() if line]

    with ThreadPoolExecutor(1) as thread:
        event, done = thread.submit(asyncio.run, read()).result()
    assert json.loads(event.removeprefix("data: ")) == {"text": text}
    assert done == "data: [DONE]"


def test_a_stream_on_which_nothing_comes_is_kept_open_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUIET_SECONDS", 0.02)
    written: list[bytes] = []

    async def stream() -> None:
        heard = asyncio.Event()

        async def rows() -> AsyncGenerator[dict[str, Any], None]:
            await heard.wait()
            yield {"a": 1}

        async def receive() -> dict[str, str]:
            await asyncio.Event().wait()
            return {}

        async def send(message: Any) -> None:
            written.append(message.get("body", b""))
            if len(written) == 4:
                heard.set()

        await Events(rows(), lambda: None)({"type": "http"}, receive, send)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, stream()).result()
    body = b"".join(written)
    comments, _, rest = body.partition(b"data: ")
    assert set(comments.split(b"\n\n")) == {b": one moment", b""}
    assert rest == b'{"a": 1}\n\ndata: [DONE]\n\n'
