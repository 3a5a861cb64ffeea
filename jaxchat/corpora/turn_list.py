"""A list of turns, in the shapes that datasets write them, -> messages.

A turn is an object of a role and a text ({"from", "value"}, {"role", "content"}, {"speaker", "text"} ...), a pair
[speaker, text], an exchange ({"human", "assistant"}, {"question", "answer"} ...), or a text alone: then the user's and
the assistant's alternate.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, cast

from jaxchat.chat.conversation import Conversation, Message, Role, ToolCall
from jaxchat.corpora.records import JsonReader
from jaxchat.corpora.rows import inner_json
from jaxchat.corpora.turns import JOINTS, Consecutive, Joint

# What datasets call the roles, in lower case.
ROLE_NAMES: dict[str, Role] = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "client", "question", "instruction", "usr"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai", "bing", "bard", "claude"), "assistant"),
    **dict.fromkeys(("chatbot", "agent", "wizard", "answer", "output", "response", "gpt-4", "llm"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "ipython"), "tool"),
}
ROLE_KEYS = ("role", "from", "speaker", "sender", "author", "user", "name")
TEXT_KEYS = ("content", "value", "text", "utterance", "message", "body")
EXCHANGES = (
    ("human", "assistant"),
    ("user", "assistant"),
    ("instruction", "output"),
    ("prompt", "response"),
    ("question", "answer"),
    ("q", "a"),
    ("input", "output"),
)
CALLS = ("function_call", "tool_call")


@dataclass(frozen=True)
class TurnLists(JsonReader):
    """Formats whose records hold a list of turns with roles, and the options that all such formats have."""

    consecutive: Consecutive = "merge"
    """What becomes of several turns of one side in a row: one message, or a message each."""
    join: Joint = "blank-line"
    """What stands between the turns that are merged."""

    # What an empty list or a list without an assistant is called, and how many turns without text were left out.
    EMPTY: ClassVar[str] = "empty_turns"

    def conversation(self, turns: Any, **rest: Any) -> Conversation:
        """The conversation that the list of `turns` is; turns without text are left out, and counted in its `meta`.
        ValueError with the reason where it is none."""
        messages = list(turn_messages(turns))
        spoken = tuple(message for message in messages if says(message))
        if not any(message.role == "assistant" for message in spoken):
            raise ValueError("the assistant says nothing in it" if messages else "no turns in it")
        if empty := len(messages) - len(spoken):
            rest["meta"] = {**rest.get("meta", {}), self.EMPTY: empty}
        return Conversation(messages=merged(spoken, self.consecutive, self.join), **{"id": "", **rest})


def says(message: Message) -> bool:
    return bool(message.tool_calls) or message.role == "tool" or bool(message.content and message.content.strip())


def merged(messages: Sequence[Message], consecutive: Consecutive, join: Joint) -> tuple[Message, ...]:
    """With `consecutive` "merge", messages of one role in a row as one, where nothing but text tells them apart."""
    if consecutive == "keep":
        return tuple(messages)
    done: list[Message] = []
    for plain, run in groupby(messages, key=lambda m: dataclasses.replace(m, content="") if _mergeable(m) else id(m)):
        several = list(run)
        if isinstance(plain, Message) and len(several) > 1:
            joined = JOINTS[join].join(message.content or "" for message in several)
            several = [dataclasses.replace(several[0], content=joined)]
        done += several
    return tuple(done)


def _mergeable(message: Message) -> bool:
    return message.role in ("user", "assistant") and not message.tool_calls and message.content is not None


def turn_messages(turns: Any) -> Iterator[Message]:
    """The messages of a list of turns, those without text included. ValueError naming the turn that cannot be read."""
    if isinstance(turns, str):
        turns = _parsed(turns)
    if not isinstance(turns, list):
        raise ValueError("its turns are no list")
    texts = 0
    for i, turn in enumerate(turns, 1):
        if isinstance(turn, str):
            yield Message("assistant" if texts % 2 else "user", turn)
            texts += 1
        elif isinstance(turn, list) and len(turn) == 2 and isinstance(turn[0], str):
            yield _message(turn[0], turn[1], f"turn {i}")
        elif isinstance(turn, dict):
            yield from _of_object(turn, f"turn {i}")
        else:
            raise ValueError(f"turn {i} is neither a text nor an object")


def _parsed(text: str) -> Any:
    """Some datasets keep the list as JSON text in a column."""
    try:
        return inner_json(text)
    except ValueError:
        raise ValueError("its turns are text that is no JSON") from None


def _of_object(turn: dict[str, Any], where: str) -> Iterator[Message]:
    role_key = next((key for key in ROLE_KEYS if isinstance(turn.get(key), str)), None)
    text_key = next((key for key in TEXT_KEYS if key in turn), None)
    if role_key is not None and (text_key is not None or "tool_calls" in turn):
        yield _message(turn[role_key], turn.get(text_key or ""), where, turn)
        return
    for asked, answered in EXCHANGES:
        if asked in turn and answered in turn:
            yield _message("user", turn[asked], where)
            yield _message("assistant", turn[answered], where)
            return
    raise ValueError(f"{where} has no role and text; its keys are {', '.join(turn)}")


def _message(speaker: str, text: Any, where: str, turn: dict[str, Any] | None = None) -> Message:
    name = speaker.strip().lower()
    if name in CALLS:
        return Message("assistant", None, tool_calls=tuple(calls_of(text)))
    if name not in ROLE_NAMES:
        raise ValueError(f"{where}: {speaker!r} is no role's name")
    calls = tuple(calls_of(turn["tool_calls"])) if turn and turn.get("tool_calls") else ()
    content = content_text(text, where)
    weight = (turn or {}).get("weight")
    train = float(weight) if isinstance(weight, int | float) and 0 <= weight < float("inf") else 1.0
    return Message(ROLE_NAMES[name], content, tool_calls=calls, train=train)


def content_text(content: Any, where: str) -> str | None:
    """The text of a message's content: text, null, or a list of parts, whose texts are joined. ValueError for others,
    images, say."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            raise ValueError(f"{where} has a part that is no text")
        return "".join(texts)
    if isinstance(content, dict | int | float):
        # What a tool gives back is often an object.
        return json.dumps(content, ensure_ascii=False)
    raise ValueError(f"{where} has no text")


def tools_of(record: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The record's `tools`; none where they are no list of objects."""
    tools = record.get("tools")
    return tuple(tools) if isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools) else ()


def calls_of(value: Any) -> Iterator[ToolCall]:
    """Tool calls from JSON text or objects, one or a list of them. ValueError where there are none."""
    if isinstance(value, str):
        try:
            value = inner_json(value)
        except ValueError:
            raise ValueError("a tool call that is no JSON") from None
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("a tool call that names no function")
        arguments = function.get("arguments", function.get("parameters"))
        name = cast(dict[str, Any], call).get("id")
        yield tool_call(function["name"], arguments, name if isinstance(name, str) else None)


def tool_call(name: str, arguments: Any, id: str | None = None) -> ToolCall:
    """The call, with arguments that are JSON text of JSON text unwrapped; other text is left as the model wrote it."""
    if arguments is None:
        arguments = {}
    call = ToolCall(name, arguments if isinstance(arguments, dict | str) else json.dumps(arguments), id)
    if isinstance(call.arguments, str):
        try:
            inner = inner_json(call.arguments)
        except ValueError:
            return call
        if isinstance(inner, str):
            return dataclasses.replace(call, arguments=inner)
    return call
