"""A conversation and its JSON-lines form: one object a line, in the `messages` form that every chat tool reads.

    {"id": "a1", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}

`source`, `tools`, `rejected` and `meta` are written only when there is something to say; a message's `train` weight
only when it is not 1.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from jaxchat.errors import InputError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True)
class ToolCall:
    """A call of a function by the assistant.

    `arguments` is the JSON object itself; a str only where the model wrote something that is not a JSON object.
    A str that is one is parsed here, so that both ways of writing a call are the same call.
    """

    name: str
    arguments: dict[str, Any] | str
    id: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.arguments, str):
            try:
                parsed = json.loads(self.arguments)
                # What escapes half of a character could not be written: it stays the text that it is.
                json.dumps(parsed, ensure_ascii=False).encode()
            except (ValueError, RecursionError):
                return
            if isinstance(parsed, dict):
                object.__setattr__(self, "arguments", parsed)


@dataclass(frozen=True)
class Message:
    """One turn.

    `content` is None only where a message has none (an assistant that only calls tools). `train` weighs the loss of an
    assistant's message (0: read, never trained on); on other roles it means nothing. `extra` holds the message's other
    keys as they were found; templates see them (`reasoning_content`, say).
    """

    role: Role
    content: str | None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    train: float = 1.0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the tools on offer (JSON schemas in OpenAI's form), and where it all came from.

    `rejected`, where a preference is known, is the whole of the worse conversation: it begins as `messages` does and
    ends in another way.
    """

    id: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    source: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    rejected: tuple[Message, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """This conversation as a JSON object; `from_json` gives it back equal."""
        row: dict[str, Any] = {"id": self.id}
        if self.source:
            row["source"] = self.source
        row["messages"] = [_message_to_json(message) for message in self.messages]
        if self.rejected:
            row["rejected"] = [_message_to_json(message) for message in self.rejected]
        if self.tools:
            row["tools"] = list(self.tools)
        if self.meta:
            row["meta"] = self.meta
        return row

    @staticmethod
    def from_json(row: Any) -> Conversation:
        """The conversation in `row`. Raises ValueError with the reason. Keys it does not know are kept in `meta`.

        `weight`, OpenAI's name for a message's training weight, is read as `train`.
        """
        if not isinstance(row, dict):
            raise ValueError(f"a conversation is a JSON object, not {_kind(row)}")
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            before = error.object[max(0, error.start - 20) : error.start]
            raise ValueError(f"half of a surrogate pair, no character, after {before!r}") from None
        rest = dict(row)
        messages = rest.pop("messages", None)
        if not isinstance(messages, list):
            raise ValueError("no list of `messages`")
        tools = rest.pop("tools", None) or []
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise ValueError("`tools` is not a list of objects")
        meta = rest.pop("meta", None) or {}
        if not isinstance(meta, dict):
            raise ValueError(f"`meta` is {_kind(meta)}, not an object")
        name, source = rest.pop("id", None), rest.pop("source", None)
        # Preference sets have a `rejected` of other forms as well, a text or one message: those stay in `meta`.
        worse = rest.pop("rejected") if isinstance(rest.get("rejected"), list) else []
        return Conversation(
            id="" if name is None else str(name),
            messages=tuple(_message_from_json(message, f"message {i}") for i, message in enumerate(messages)),
            rejected=tuple(_message_from_json(message, f"rejected message {i}") for i, message in enumerate(worse)),
            tools=tuple(tools),
            source="" if source is None else str(source),
            meta={**rest, **meta},
        )


def _message_to_json(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        row["name"] = message.name
    if message.tool_calls:
        row["tool_calls"] = [_call_to_json(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    if message.train != 1.0:
        row["train"] = message.train
    return {**message.extra, **row}


def _call_to_json(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    row: dict[str, Any] = {} if call.id is None else {"id": call.id}
    return {**row, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _message_from_json(row: Any, where: str) -> Message:
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {_kind(row)}, not an object")
    rest = dict(row)
    role = rest.pop("role", None)
    if role not in ROLES:
        raise ValueError(f"{where}: role {role!r} is none of {', '.join(ROLES)}")
    calls = rest.pop("tool_calls", None) or []
    if not isinstance(calls, list):
        raise ValueError(f"{where}: `tool_calls` is {_kind(calls)}, not a list")
    weight = rest.pop("weight", None)
    train = rest.pop("train", weight)
    train = 1.0 if train is None else train
    if isinstance(train, bool) or not isinstance(train, int | float) or not math.isfinite(train) or train < 0:
        raise ValueError(f"{where}: `train` is {train!r}, not a finite number of at least 0")
    return Message(
        role=cast(Role, role),
        content=_text(rest.pop("content", None), f"{where}: `content`"),
        name=_text(rest.pop("name", None), f"{where}: `name`"),
        tool_calls=tuple(_call_from_json(call, f"{where}: tool call {i}") for i, call in enumerate(calls)),
        tool_call_id=_text(rest.pop("tool_call_id", None), f"{where}: `tool_call_id`"),
        train=float(train),
        extra=rest,
    )


def _call_from_json(row: Any, where: str) -> ToolCall:
    function = row.get("function", row) if isinstance(row, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError(f"{where} names no function")
    arguments = function.get("arguments")
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict | str):
        raise ValueError(f"{where}: `arguments` is {_kind(arguments)}, not an object or its JSON text")
    return ToolCall(function["name"], arguments, _text(row.get("id"), f"{where}: `id`"))


def _text(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{where} is {_kind(value)}, not text")
    return value


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a folder (`conversations.jsonl`, or its numbered zstd shards) or of one .jsonl[.zst] file.

    A conversation without an id is named for its file and line. Raises InputError naming the file and the line that
    cannot be read.
    """
    for file in conversation_files(Path(path)):
        for number, line in enumerate(_lines(file), 1):
            if not line.strip():
                continue
            try:
                conversation = Conversation.from_json(json.loads(line.decode()))
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{file}, line {number}: not UTF-8 at byte {error.start}; re-encode the file"
                ) from None
            except ValueError as error:
                raise InputError(f"{file}, line {number}: {error}; correct or remove the line") from None
            if not conversation.id:
                conversation = dataclasses.replace(conversation, id=f"{file.name}:{number}")
            yield conversation


def conversation_files(path: Path) -> list[Path]:
    """The files that hold the conversations of `path`: see read_conversations. InputError where there are none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder of conversations")
    if (path / "conversations.jsonl").is_file():
        return [path / "conversations.jsonl"]
    shards = sorted(path.glob("conversations-*-of-*.jsonl.zst"))
    if not shards:
        raise InputError(f"{path} holds no conversations.jsonl; make it with `jaxchat data import`")
    count = re.search(r"-of-(\d+)\.", shards[0].name)
    if count is None or len(shards) != int(count.group(1)):
        raise InputError(f"{path}: {len(shards)} shards found, and {shards[0].name} speaks of another number of them")
    return shards


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as raw:
        if file.suffix != ".zst":
            yield from raw
            return
        import zstandard

        try:
            stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
            yield from io.BufferedReader(cast(Any, stream))
        except zstandard.ZstdError as error:
            raise InputError(f"{file}: not readable as zstd ({error})") from None


def split_hash(conversation: Conversation) -> float:
    """A number in [0, 1) from roles and contents alone, so that duplicates land on the same side of a split.

    Conversations with the same `meta["group"]`, a text, share theirs instead: the talks that one chat was cut into, the
    paths through one tree of replies, the answers to one question.
    """
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(group := conversation.meta.get("group"), str):
        digest.update(f"group\n{group}".encode())
        return _share(digest)
    for message in conversation.messages:
        text = (message.content or "").encode()
        digest.update(f"{message.role}\n{len(text)}\n".encode() + text)
    return _share(digest)


def _share(digest: hashlib.blake2b) -> float:
    return (int.from_bytes(digest.digest(), "big") >> 11) / 2**53
