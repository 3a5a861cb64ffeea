"""A judge behind an endpoint that speaks OpenAI's API: theirs, another's, or `jaxchat serve`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from jaxchat.errors import InputError
from jaxchat.evals.judge.verdicts import Ask

KEY = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Endpoint:
    """url: such as http://127.0.0.1:8000/v1. model: who judges there. The key is $OPENAI_API_KEY. tokens: of a reply at
    most. retries: with growing pauses, where the endpoint is busy, broken or away. seconds: for a reply."""

    url: str
    model: str
    tokens: int = 1024
    retries: int = 8
    seconds: float = 300.0

    def __post_init__(self) -> None:
        if find_spec("openai") is None:
            raise InputError(
                "a judge is asked through the openai package; install it with pip install 'jaxchat[bench]'"
            )
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"--judge-url {self.url} is no address; give one such as http://127.0.0.1:8000/v1")

    @cached_property
    def _client(self) -> Any:
        from openai import OpenAI

        key = os.environ.get(KEY) or "none"
        return OpenAI(base_url=self.url, api_key=key, max_retries=self.retries, timeout=self.seconds)

    def ask(self, messages: Ask) -> str:
        """The judge's reply, greedily. Thread-safe.

        Raises InputError where it cannot be had: a wrong key or name, or retries that were of no use.
        """
        from openai import OpenAIError

        try:
            told = self._client.chat.completions.create(
                model=self.model, messages=messages, temperature=0, max_tokens=self.tokens
            )
        except OpenAIError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise InputError(f"the judge {self.model} at {self.url} does not reply ({reason})") from error
        return (told.choices[0].message.content if told.choices else None) or ""
