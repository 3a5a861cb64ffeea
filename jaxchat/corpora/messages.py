"""The form that chat APIs and fine-tuning tools share: `{"messages": [{"role", "content"}, ...], "tools": [...]}`.

JSON lines, one JSON array, or objects one behind the other; a row is one such object. Read as they are found in the
wild: `content` null beside tool calls, or a list of parts; a call's `arguments` as an object, as JSON text or as JSON
text of JSON text; `function_call` and `functions`, as calls were once written; the roles `developer` and `function`;
OpenAI's `weight` of a message as its training weight; a preference as OpenAI's fine-tuning takes it (`input`,
`preferred_output`, `non_preferred_output`); `prompt` and `completion` as lists of messages; and a talk as text, a line
a turn (`messages_display`). Other keys of the row are kept in the conversation's `meta`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxchat.chat.conversation import ROLES, Conversation, Message
from jaxchat.corpora.records import JsonReader
from jaxchat.corpora.turn_list import content_text, tool_call

_DISPLAYED = re.compile(rf"^({'|'.join(ROLES)}|developer|function): ?", re.MULTILINE)


@dataclass(frozen=True)
class Messages(JsonReader):
    """Conversations that are already in the form of messages."""

    version: ClassVar[int] = 2

    def conversations(self, record: Any) -> Sequence[Conversation]:
        if not isinstance(record, dict):
            return [Conversation.from_json(record)]
        record = dict(record)
        if isinstance(record.get("input"), dict) and "preferred_output" in record:
            _preference(record)
        elif "messages" not in record and isinstance(record.get("messages_display"), str):
            record["messages"] = list(_displayed(record.pop("messages_display")))
        elif "messages" not in record and isinstance(record.get("prompt"), list):
            record["messages"] = [*record.pop("prompt"), *_list(record, "completion")]
        for key in ("messages", "rejected"):
            if isinstance(record.get(key), list):
                record[key] = [_usual(message, f"message {i}") for i, message in enumerate(record[key])]
        if isinstance(record.get("functions"), list) and not record.get("tools"):
            record["tools"] = [{"type": "function", "function": tool} for tool in record.pop("functions")]
        try:
            conversation = Conversation.from_json(record)
        except ValueError as error:
            if "messages" in record:
                raise
            raise ValueError(f"{error}; its keys are {', '.join(record)}") from None
        if not conversation.messages:
            raise ValueError("`messages` is empty")
        return [
            dataclasses.replace(
                conversation,
                messages=tuple(map(_decoded, conversation.messages)),
                rejected=tuple(map(_decoded, conversation.rejected)),
            )
        ]


def _list(record: dict[str, Any], key: str) -> list[Any]:
    value = record.pop(key, None)
    if not isinstance(value, list):
        raise ValueError(f"`{key}` is not a list of messages")
    return value


def _preference(record: dict[str, Any]) -> None:
    given = record.pop("input")
    prompt = _list(dict(given), "messages")
    better, worse = _list(record, "preferred_output"), _list(record, "non_preferred_output")
    record["messages"], record["rejected"] = [*prompt, *better], [*prompt, *worse]
    record.setdefault("tools", given.get("tools"))


def _displayed(text: str) -> list[dict[str, Any]]:
    """The messages of a talk as text. What an assistant said by a call alone stands there as `None`: the call is not
    known, so such a turn is empty and never trained on."""
    before, *parts = _DISPLAYED.split(text)
    if before.strip() or not parts:
        raise ValueError("`messages_display` does not begin with a role and a colon")
    messages: list[dict[str, Any]] = []
    for role, said in zip(parts[::2], parts[1::2]):
        said = said.removesuffix("\n")
        unknown = role == "assistant" and said == "None"
        messages.append({"role": role, "content": "", "train": 0} if unknown else {"role": role, "content": said})
    return messages


def _usual(message: Any, where: str) -> Any:
    """The message with its older and looser forms written as `from_json` takes them."""
    if not isinstance(message, dict):
        return message
    message = dict(message)
    role = message.get("role")
    if role in ("developer", "function"):
        message["role"] = "system" if role == "developer" else "tool"
    if isinstance(message.get("content"), list):
        message["content"] = content_text(message["content"], where)
    call = message.get("function_call")
    if isinstance(call, dict) and not message.get("tool_calls"):
        message["tool_calls"] = [{"function": message.pop("function_call")}]
    return message


def _decoded(message: Message) -> Message:
    """With arguments that are JSON text of JSON text unwrapped once more."""
    calls = tuple(tool_call(call.name, call.arguments, call.id) for call in message.tool_calls)
    return dataclasses.replace(message, tool_calls=calls) if calls else message
