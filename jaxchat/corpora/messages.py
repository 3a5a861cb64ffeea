"""The form that chat APIs and fine-tuning tools share: `{"messages": [{"role", "content"}, ...], "tools": [...]}`.

JSON lines, or one JSON array of such objects; a row is a line or an element. Read as they are found in the wild:
`content` null beside tool calls, a call's `arguments` as an object, as JSON text or as JSON text of JSON text, OpenAI's
`weight` of a message as its training weight. Other keys of the row are kept in the conversation's `meta`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxchat.chat.conversation import Conversation, Message, ToolCall
from jaxchat.corpora import Reader
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.rows import Row, Source, first_byte, json_elements, json_lines


@dataclass(frozen=True)
class Messages(Reader):
    """Conversations that are already in the form of messages."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json", ".ndjson")

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            read = json_elements if first_byte(source) == b"[" else json_lines
            for row in read(source, ledger):
                yield _conversation(row) if isinstance(row, Row) else row


def _conversation(row: Row) -> Found | Rejected:
    try:
        conversation = Conversation.from_json(row.value)
    except ValueError as error:
        keys = row.value if isinstance(row.value, dict) and "messages" not in row.value else ()
        return row.reject(f"{error}; its keys are {', '.join(keys)}" if keys else str(error))
    if not conversation.messages:
        return row.reject("`messages` is empty")
    conversation = dataclasses.replace(
        conversation,
        id=conversation.id or f"{row.file}:{row.position}",
        source=conversation.source or "messages",
        messages=tuple(map(_decoded, conversation.messages)),
    )
    return Found(conversation, {row.file: (row.position,)})


def _decoded(message: Message) -> Message:
    if not message.tool_calls:
        return message
    return dataclasses.replace(message, tool_calls=tuple(map(_call_decoded, message.tool_calls)))


def _call_decoded(call: ToolCall) -> ToolCall:
    """Arguments that are JSON text of JSON text, unwrapped once more; any other text is left as the model wrote it."""
    if not isinstance(call.arguments, str):
        return call
    try:
        inner = json.loads(call.arguments)
    except ValueError:
        return call
    return dataclasses.replace(call, arguments=inner) if isinstance(inner, str) else call
