"""A judge that thinks what the test plants, behind OpenAI's API on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Think = Callable[[list[dict[str, str]]], str | int]


@dataclass
class FakeJudge:
    """think: the reply to the messages, or the HTTP status to fail with. asked: all messages it has replied to."""

    think: Think = lambda messages: "[[C]]"
    asked: list[list[dict[str, str]]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    url: str = ""


@pytest.fixture
def fake_judge() -> Iterator[FakeJudge]:
    fake = FakeJudge()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.keys.add(self.headers["Authorization"])
            reply = fake.think(body["messages"])
            status = reply if isinstance(reply, int) else 200
            told = {"error": {"message": "not now"}}
            if status == 200:
                fake.asked.append(body["messages"])
                message = {"role": "assistant", "content": reply}
                told = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
            said = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield fake
    server.shutdown()
    server.server_close()
