"""POST /v1/completions: text goes on, as the model reads plain text."""

from __future__ import annotations

import codecs
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from jaxchat.sample.request import Delta, Request
from jaxchat.serve.answering import Answers
from jaxchat.serve.choices import heard
from jaxchat.serve.errors import unusable
from jaxchat.serve.guard import BlockedError, Guard
from jaxchat.serve.sampled import Limits, engine_requests
from jaxchat.serve.served import Served
from jaxchat.serve.usage import Usage
from jaxchat.serve.wire import CompletionRequest

MAX_TOKENS = 16  # OpenAI's, where none is asked for


@dataclass(frozen=True)
class Prepared:
    """A request for completions, ready for the engine."""

    model: Served
    asked: CompletionRequest
    requests: list[Request]
    guard: Guard


def prepare(asked: CompletionRequest, model: Served, limits: Limits, guard: Guard, client: str) -> Prepared:
    """Raises ApiError."""
    if asked.logprobs is not None and guard.answered:
        raise unusable("logprobs would tell what the guard takes out; ask without them", "logprobs")
    prompts = [ids(prompt, model, guard) for prompt in asked.prompts()]
    requests = engine_requests(
        asked, prompts, model, limits, top_logprobs=asked.logprobs or 0, client=client, max_tokens=MAX_TOKENS
    )
    return Prepared(model, asked, requests, guard)


def ids(prompt: str | list[int], model: Served, guard: Guard) -> list[int]:
    """Ids of a prompt as the model reads plain text. Raises ApiError."""
    if isinstance(prompt, str):
        try:
            found = model.tokenizer.encode(guard.question(prompt), add_special_tokens=True)
        except BlockedError as what:
            raise unusable(f"the guard does not let this through ({what})", "prompt", "content_filter") from None
    elif guard.asked:
        raise unusable("the guard reads text; send the prompt as text", "prompt")
    else:
        found = prompt
    if not found:
        raise unusable("the prompt is empty; there is nothing to go on from", "prompt")
    if not all(0 <= token < model.vocab_size for token in found):
        raise unusable(f"the prompt has ids that are none: the model has 0 to {model.vocab_size - 1:,}", "prompt")
    return found


class _Choice:
    def __init__(self, prepared: Prepared) -> None:
        self.prepared, self.guarded = prepared, prepared.guard.stream()
        self.text = ""
        self.finish_reason: str | None = None
        self._heard = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0  # of the next token in the text
        self.logprobs: dict[str, list[Any]] = _no_logprobs()

    def hear(self, delta: Delta) -> tuple[str, dict[str, list[Any]] | None]:
        """The new text, and its log-probabilities where they were asked for. Raises BlockedError."""
        text = self.guarded(delta.text, delta.finish_reason is not None)
        self.text += text
        if delta.finish_reason is not None:
            self.finish_reason = "stop" if delta.finish_reason == "stop" else "length"
        return text, self._logprobs(delta) if self.prepared.asked.logprobs is not None else None

    def _logprobs(self, delta: Delta) -> dict[str, list[Any]]:
        model, new = self.prepared.model, _no_logprobs()
        tops = delta.top_logprobs or ((),) * len(delta.token_ids)
        for token, logprob, top in zip(delta.token_ids, delta.logprobs, tops):
            if token in model.ends and not self.prepared.asked.ignore_eos:
                continue
            spelled = _spelled(model.token_bytes(token))
            new["tokens"].append(spelled)
            new["token_logprobs"].append(logprob)
            named = {_spelled(model.token_bytes(other)): value for other, value in top}
            new["top_logprobs"].append({**named, spelled: logprob})
            new["text_offset"].append(self._offset)
            self._offset += len(self._heard.decode(model.token_bytes(token)))
        for key, values in new.items():
            self.logprobs[key] += values
        return new


def _spelled(token: bytes) -> str:
    """A token as OpenAI names it: of several parts of characters, each keeps a name of its own."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _no_logprobs() -> dict[str, list[Any]]:
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


async def events(prepared: Prepared, answers: Answers, usage: Usage) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a streamed answer."""
    head, options = _head(prepared), prepared.asked.stream_options
    choices = [_Choice(prepared) for _ in prepared.requests]

    def chunk(i: int, text: str, reason: str | None, logprobs: Any = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": i, "text": text, "logprobs": logprobs, "finish_reason": reason}]}

    async for i, new in heard(answers, choices, usage):
        text, logprobs = new or ("", None)
        reason = choices[i].finish_reason
        if text or logprobs or reason:
            yield chunk(i, text, reason, logprobs)
    if options and options.include_usage:
        yield {**head, "choices": [], "usage": usage.row()}


async def whole(prepared: Prepared, answers: Answers, usage: Usage) -> dict[str, Any]:
    """The answer of a request that does not stream."""
    choices = [_Choice(prepared) for _ in prepared.requests]
    async for _ in heard(answers, choices, usage):
        pass
    rows = [
        {
            "index": i,
            "text": choice.text,
            "logprobs": choice.logprobs if prepared.asked.logprobs is not None else None,
            "finish_reason": choice.finish_reason,
        }
        for i, choice in enumerate(choices)
    ]
    return {**_head(prepared), "choices": rows, "usage": usage.row()}


def _head(prepared: Prepared) -> dict[str, Any]:
    return {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": prepared.model.name,
        "system_fingerprint": None,
    }
