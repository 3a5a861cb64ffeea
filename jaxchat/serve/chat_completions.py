"""POST /v1/chat/completions: a conversation goes on, as text, as JSON or by calling tools."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxchat.chat.conversation import Message, ToolCall
from jaxchat.chat.template import ChatFormatError
from jaxchat.curation.step import inside
from jaxchat.sample.request import Delta, Request
from jaxchat.serve.answering import Answers
from jaxchat.serve.choices import heard
from jaxchat.serve.errors import unusable
from jaxchat.serve.grammar import Matcher
from jaxchat.serve.guard import BlockedError, Guard
from jaxchat.serve.sampled import Limits, engine_requests
from jaxchat.serve.served import Served
from jaxchat.serve.tool_calls import CallReader
from jaxchat.serve.usage import Usage
from jaxchat.serve.wire import ChatRequest, JsonBySchema, JsonObject, NamedTool


@dataclass(frozen=True)
class Prepared:
    """A chat request, ready for the engine. tools: those that may be called."""

    model: Served
    asked: ChatRequest
    requests: list[Request]
    tools: tuple[dict[str, Any], ...]
    guard: Guard


def prepare(asked: ChatRequest, model: Served, limits: Limits, guard: Guard, client: str) -> Prepared:
    """Renders, encodes and compiles: some milliseconds of work, for a thread of its own. Raises ApiError."""
    if model.chat is None:
        raise unusable(f"{model.name} has no chat template, so it completes text only: POST /v1/completions", "model")
    if asked.logprobs and guard.answered:
        raise unusable("logprobs would tell what the guard takes out; ask without them", "logprobs")
    messages = _questions([message.message() for message in asked.messages], guard)
    tools = _tools(asked)
    try:
        prompt = model.prompt(messages, tools)
    except ChatFormatError as error:
        raise unusable(str(error), "messages") from None
    constraint = _constraint(asked, model, tools)
    requests = engine_requests(
        asked,
        [prompt],
        model,
        limits,
        top_logprobs=asked.top_logprobs or 0,
        constraint=constraint,
        client=client,
    )
    return Prepared(model, asked, requests, tools if asked.tool_choice != "none" else (), guard)


def _questions(messages: list[Message], guard: Guard) -> list[Message]:
    """What the model is given of what was asked."""
    if not guard.asked:
        return messages
    try:
        return [
            replace(message, content=guard.question(message.content))
            if message.role in ("user", "tool") and message.content
            else message
            for message in messages
        ]
    except BlockedError as found:
        raise unusable(f"the guard does not let this through ({found})", "messages", "content_filter") from None


def _tools(asked: ChatRequest) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"type": "function", "function": tool.function.model_dump(exclude_none=True, exclude={"strict"})}
        for tool in asked.tools or ()
    )


def _constraint(asked: ChatRequest, model: Served, tools: Sequence[dict[str, Any]]) -> Matcher | None:
    choice = asked.tool_choice
    several = asked.parallel_tool_calls is not False
    if isinstance(choice, NamedTool):
        named = [tool for tool in tools if tool["function"]["name"] == choice.function.name]
        return model.grammars.calls(model.spelling, named, several=False)
    if choice == "required":
        return model.grammars.calls(model.spelling, tools, several=several)
    if isinstance(asked.response_format, JsonBySchema):
        return model.grammars.json_schema(asked.response_format.json_schema.schema_)
    if isinstance(asked.response_format, JsonObject):
        return model.grammars.json_object()
    return None


@dataclass
class _Choice:
    """One answer, as it grows: from what the engine says to what the client is told."""

    prepared: Prepared
    guarded: Callable[[str, bool], str]
    reader: CallReader | None
    finish_reason: str | None = None
    content: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def of(prepared: Prepared) -> _Choice:
        asked, reader = prepared.asked, None
        if prepared.tools:
            names = frozenset(tool["function"]["name"] for tool in prepared.tools)
            at_most = 1 if asked.parallel_tool_calls is False or isinstance(asked.tool_choice, NamedTool) else None
            reader = CallReader(prepared.model.spelling, names, at_most=at_most)
        return _Choice(prepared, prepared.guard.stream(), reader)

    def hear(self, delta: Delta) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """What is new in it, as a chunk's `delta`, and its log-probabilities where they were asked for. Raises
        BlockedError, after which nothing more is to be heard."""
        last = delta.finish_reason is not None
        new: dict[str, Any] = {}
        text, calls = delta.text, list[ToolCall]()
        if self.reader:
            pieces = list(self.reader.write(text, last=last))
            text = "".join(piece for piece in pieces if isinstance(piece, str))
            calls = [self._guarded(piece) for piece in pieces if isinstance(piece, ToolCall)]
        text = self.guarded(text, last)
        if text:
            new["content"] = text
            self.content += text
        if calls:
            new["tool_calls"] = [{"index": len(self.calls) + i, **_call(call)} for i, call in enumerate(calls)]
            self.calls += calls
        if last:
            self.finish_reason = "length"
            if delta.finish_reason == "stop":
                self.finish_reason = "tool_calls" if self.calls else "stop"
        logprobs = _logprobs(delta, self.prepared)
        self.logprobs += logprobs["content"] if logprobs else []
        return new, logprobs

    def _guarded(self, call: ToolCall) -> ToolCall:
        if not self.prepared.guard.answered:
            return call
        return replace(call, arguments=inside(call.arguments, self.prepared.guard.answer))

    def message(self) -> dict[str, Any]:
        row: dict[str, Any] = {"role": "assistant", "content": self.content or (None if self.calls else "")}
        row["refusal"] = None
        if self.calls:
            row["tool_calls"] = [_call(call) for call in self.calls]
        return row


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


async def events(prepared: Prepared, answers: Answers, usage: Usage) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a streamed answer."""
    asked, head = prepared.asked, _head(prepared, "chat.completion.chunk")
    with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    if with_usage:
        head["usage"] = None

    def chunk(i: int, new: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        choice = {"index": i, "delta": new, "logprobs": logprobs, "finish_reason": reason}
        return {**head, "choices": [choice]}

    choices = [_Choice.of(prepared) for _ in prepared.requests]
    for i in range(len(choices)):
        yield chunk(i, {"role": "assistant", "content": ""})
    async for i, new in heard(answers, choices, usage):
        said, logprobs = new or ({}, None)
        if said or (logprobs and logprobs["content"]):
            yield chunk(i, said, None, logprobs)
        if reason := choices[i].finish_reason:
            yield chunk(i, {}, reason)
    if with_usage:
        yield {**head, "choices": [], "usage": usage.row()}


async def whole(prepared: Prepared, answers: Answers, usage: Usage) -> dict[str, Any]:
    """The answer of a request that does not stream."""
    choices = [_Choice.of(prepared) for _ in prepared.requests]
    async for _ in heard(answers, choices, usage):
        pass
    rows = [
        {
            "index": i,
            "message": choice.message(),
            "logprobs": {"content": choice.logprobs, "refusal": None} if prepared.asked.logprobs else None,
            "finish_reason": choice.finish_reason,
        }
        for i, choice in enumerate(choices)
    ]
    return {**_head(prepared, "chat.completion"), "choices": rows, "usage": usage.row()}


def _head(prepared: Prepared, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": prepared.model.name,
        "system_fingerprint": None,
    }


def _logprobs(delta: Delta, prepared: Prepared) -> dict[str, Any] | None:
    """Of the tokens in a delta, but for one that ended the answer."""
    if not prepared.asked.logprobs:
        return None
    model, rows = prepared.model, []
    tops = delta.top_logprobs or ((),) * len(delta.token_ids)
    for token, logprob, top in zip(delta.token_ids, delta.logprobs, tops):
        if token not in model.ends or prepared.asked.ignore_eos:
            likely = [_token(model, other, value) for other, value in top]
            rows.append({**_token(model, token, logprob), "top_logprobs": likely})
    return {"content": rows, "refusal": None}


def _token(model: Served, token: int, logprob: float) -> dict[str, Any]:
    spelled = model.token_bytes(token)
    return {"token": spelled.decode(errors="replace"), "bytes": list(spelled), "logprob": max(logprob, -9999.0)}
