"""A server on a fake engine, which answers each prompt with what the test decides, at once or when it is let."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxchat.chat.template import ChatFormat, built_in_template
from jaxchat.sample.request import Delta, OnDelta, PromptTooLongError, QueueFullError, Request
from jaxchat.serve.app import Service, make_app
from jaxchat.serve.served import Served
from jaxchat.testing import ByteTokenizer
from tests.on_a_port import on_a_port

END = 259  # <|im_end|>


@dataclass(eq=False)
class FakeTicket:
    cancelled: bool = False
    reused: int = 0

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeEngine:
    """Answers in a thread of its own, `size` tokens a delta; waits for `go` before each."""

    answer: Callable[[str], str] = lambda prompt: "Hello!"
    size: int = 3
    slots: int = 4
    asked: list[Request] = field(default_factory=list)
    tickets: list[FakeTicket] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    full: bool = False

    def __post_init__(self) -> None:
        self.go.set()
        self.threads: list[threading.Thread] = []

    def submit(self, request: Request, on_delta: OnDelta) -> FakeTicket:
        if self.full:
            raise QueueFullError("64 requests wait already; try again later")
        if len(request.prompt) > 4000:
            raise PromptTooLongError("too long")
        ticket = FakeTicket()
        self.asked.append(request)
        self.tickets.append(ticket)
        thread = threading.Thread(target=self._run, args=(request, on_delta, ticket), daemon=True)
        self.threads.append(thread)
        thread.start()
        return ticket

    def _run(self, request: Request, on_delta: OnDelta, ticket: FakeTicket) -> None:
        ids = [*self.answer(ByteTokenizer().decode(request.prompt)).encode(), END][: request.sampling.max_tokens]
        told = 0
        for at in range(0, len(ids), self.size):
            self.go.wait()
            if ticket.cancelled:
                on_delta(Delta("", (), (), (), "cancelled"))
                return
            part = ids[at : at + self.size]
            whole = (
                ByteTokenizer()
                .decode([i for i in ids[: at + self.size] if i < 256])
                .rstrip("\N{REPLACEMENT CHARACTER}")
            )
            last = at + self.size >= len(ids)
            reason = None if not last else "stop" if ids[-1] == END else "length"
            tops = tuple(tuple((t, -0.5) for t in (i, 65)[: request.top_logprobs]) for i in part)
            on_delta(Delta(whole[told:], tuple(part), (-0.5,) * len(part), tops, reason))
            told = len(whole)

    def embed(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        return np.array([[sum(prompt), 1.0, 2.0] for prompt in prompts], np.float32)

    def stats(self) -> Any:
        return SimpleNamespace(slots=self.slots, busy=0, waiting=0, reused_tokens=0, finished=Counter(stop=1))

    def close(self, drain_seconds: float = 0.0) -> None:
        pass


def served(engine: FakeEngine, name: str = "fake", template: str | None = "chatml") -> Served:
    tokenizer = ByteTokenizer()
    chat = None if template is None else ChatFormat(tokenizer, built_in_template(template))
    return Served(name, engine, tokenizer, chat, 4096, tokenizer.vocab_size, frozenset({257, END}))


def thumbs(service: Service) -> list[dict[str, Any]]:
    """What the service keeps of them, a row a vote."""
    assert service.feedback is not None
    return [json.loads(line) for line in service.feedback.path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def service(engine: FakeEngine) -> Service:
    return Service({"fake": served(engine)})


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    from starlette.testclient import TestClient

    with TestClient(make_app(service), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def live(service: Service) -> Iterator[str]:
    """The service on a port of its own; its URL."""
    with on_a_port(make_app(service)) as url:
        yield url
