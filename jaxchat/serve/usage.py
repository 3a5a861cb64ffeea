"""What a request cost: tokens read and written, and when the first of them came."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxchat.sample.request import Delta, Request


@dataclass
class Usage:
    """prompt, cached, completion: tokens; those cached are of the prompt, read before for another request. first_token:
    seconds from the beginning of the request to the first token."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    begun: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    _answers: int = 1
    _begun: set[int] = field(default_factory=set)

    def ask(self, requests: Sequence[Request], answers: int) -> None:
        """Counts each prompt once, however many answers in a row it is to have."""
        self.prompt = sum(len(request.prompt) for request in requests[::answers])
        self._answers = answers

    def count(self, i: int, delta: Delta, reused: int) -> None:
        """What answer i grew by; `reused` tokens of its prompt needed no reading."""
        if i not in self._begun:
            self._begun.add(i)
            self.cached += reused if i % self._answers == 0 else 0
        self.completion += len(delta.token_ids)
        if self.first_token is None and delta.token_ids:
            self.first_token = time.monotonic() - self.begun

    def row(self) -> dict[str, Any]:
        total = self.prompt + self.completion
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": total,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }
