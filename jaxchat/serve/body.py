"""Bodies of requests: read within limits, and looked at before anything parses them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxchat.serve.errors import ApiError, unusable
from jaxchat.serve.events import refuse

DEPTH = 64  # of objects and lists within each other: parsers and schemas recurse
QUIET_SECONDS = 30.0  # for which a client may send nothing of its body
# A body that is too large is read to here and thrown away: a client that is still sending would not hear the refusal.
_DISCARDED_BYTES, _DISCARDED_SECONDS = 256 * 1024**2, 15.0

_CLOSE = {"Connection": "close"}  # what is still to come of the body would be read as the next request

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Bodies:
    """Hands on requests with their body whole and known to be UTF-8, no deeper than DEPTH and free of half characters.
    Refuses others with status 400, 408 or 413."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
            if body is None:
                return
            check(body)
        except ApiError as error:
            await refuse(error, scope, receive, send)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """None where the client left."""
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.most and b"expect" in headers:
            raise self._too_large()
        parts: list[bytes] = []
        size, begun, too_large = 0, time.monotonic(), False
        while True:
            try:
                message = await asyncio.wait_for(receive(), QUIET_SECONDS)
            except TimeoutError:
                raise ApiError(408, f"nothing of the body came for {QUIET_SECONDS:.0f} s", headers=_CLOSE) from None
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            too_large = too_large or size > self.most
            if too_large:
                parts.clear()
                if size > _DISCARDED_BYTES or time.monotonic() - begun > _DISCARDED_SECONDS:
                    break
            else:
                parts.append(part)
            if not message.get("more_body"):
                break
        if too_large:
            raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"the request is larger than {self.most:,} bytes; send less",
            code="request_too_large",
            headers=_CLOSE,
        )


def check(body: bytes) -> None:
    """Raises ApiError for what JSON parsers, or what comes behind them, would stumble over."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise unusable(f"the body is not UTF-8 at byte {error.start}", code="invalid_encoding") from None
    depth = 0
    for bracket in re.findall(rb"[][{}]", _STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH:
            raise unusable(f"the body's objects and lists are nested more than {DEPTH} deep", code="too_deep")
    if _SURROGATE.search(body):
        try:
            _whole_characters(json.loads(body))
        except UnicodeEncodeError:
            raise unusable("the body has half of a surrogate pair, no character", code="invalid_encoding") from None
        except ValueError:
            return  # no JSON: whoever parses it says so


def _whole_characters(value: Any) -> None:
    json.dumps(value, ensure_ascii=False).encode()
