"""A line for every request: when, who, what, how it went. What was said stays out unless it is asked for."""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxchat.serve.events import LEFT
from jaxchat.serve.metrics import Metrics

log = logging.getLogger("jaxchat.serve")
_MOST = 20_000  # characters of content in a line


class RequestLog:
    """Logs and counts requests, and gives each an id, which its client finds in X-Request-Id and we in the log. Routes
    leave in the scope's state what they know: `model`, `usage`, `content`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, ended = time.monotonic(), 500, False
        scope["state"] = state = dict(scope.get("state") or {})
        state["id"] = f"req_{secrets.token_hex(12)}"

        async def watch(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", state["id"].encode())]}
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                ended = True
            await send(message)

        self.metrics.open.inc()
        try:
            await self.app(scope, receive, watch)
        finally:
            self.metrics.open.dec()
            self._write(scope, state, status if ended else LEFT, time.monotonic() - begun)

    def _write(self, scope: Scope, state: dict[str, Any], status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.requests.labels(route, status).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        line: dict[str, Any] = {
            "id": state["id"],
            "client": state.get("client") or (scope.get("client") or ("unknown",))[0],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 3),
        }
        model, usage = state.get("model"), state.get("usage")
        if model and usage:
            line |= {"model": model, "prompt_tokens": usage.prompt, "completion_tokens": usage.completion}
            self.metrics.tokens.labels(model, "prompt").inc(usage.prompt)
            self.metrics.tokens.labels(model, "completion").inc(usage.completion)
            if usage.first_token is not None:
                line["first_token_seconds"] = round(usage.first_token, 3)
                self.metrics.first_token.labels(model).observe(usage.first_token)
        if content := state.get("content"):
            line["content"] = json.dumps(content, ensure_ascii=False)[:_MOST]
        log.info(json.dumps(line, ensure_ascii=False))
