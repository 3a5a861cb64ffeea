"""ShareGPT's and Vicuna's form: `{"id", "conversations": [{"from": "human"|"gpt"|"system"|..., "value"}, ...]}`.

One JSON array, JSON lines, or objects one behind the other. As fine-tuning tools write it there may be a `system` text,
`tools` as JSON text, calls (`function_call`) and their results (`observation`), and a turn's `weight` (0: not trained
on). Turns without text are left out and counted in `meta.empty_turns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.instructions import id_of
from jaxchat.corpora.records import LeftOut, rest_of, text_of
from jaxchat.corpora.rows import inner_json
from jaxchat.corpora.turn_list import TurnLists


@dataclass(frozen=True)
class Sharegpt(TurnLists):
    """Talks with a model that people shared; long ones come in pieces, which may begin with the model's turn."""

    leading: Literal["keep", "cut", "drop"] = "keep"
    """What becomes of the model's turns before the user's first: kept, cut off, or the conversation dropped."""

    def conversations(self, record: Any) -> Sequence[Conversation]:
        turns = (
            next((record[k] for k in ("conversations", "conversation", "items", "messages") if k in record), None)
            if isinstance(record, dict)
            else None
        )
        if not isinstance(turns, list):
            raise ValueError("no list of `conversations`")
        meta = rest_of(record, "conversations", "conversation", "items", "messages", "id", "system", "tools")
        made = self.conversation(turns, id=id_of(record, "id"), meta=meta, tools=_tools(record.get("tools")))
        messages = made.messages
        if (system := text_of(record, "system", optional=True)) and messages[0].role != "system":
            messages = (Message("system", system), *messages)
        return [replace(made, messages=self._led(messages))]

    def _led(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        first = next((i for i, message in enumerate(messages) if message.role == "user"), len(messages))
        early = [message for message in messages[:first] if message.role != "system"]
        if not early or self.leading == "keep":
            return messages
        rest = (*(message for message in messages[:first] if message.role == "system"), *messages[first:])
        if self.leading == "drop" or not any(message.role == "assistant" for message in rest):
            raise LeftOut("it begins with the model's turn")
        return rest


def _tools(value: Any) -> tuple[dict[str, Any], ...]:
    if isinstance(value, str) and value.strip():
        try:
            value = inner_json(value)
        except ValueError:
            raise ValueError("`tools` is no JSON") from None
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise ValueError("`tools` is not a list of objects")
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in value)
