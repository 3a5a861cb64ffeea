"""Alpaca's form: `{"instruction", "input", "output"}`, and the seed tasks of self-instruct that it grew from.

A JSON array or JSON lines. Rows may carry a `system` message and a `history` of [question, answer] pairs before the
instruction, as fine-tuning tools write them. The `text` of the original rows, a rendering of the other columns, is not
taken over. A seed task with several instances is as many conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.instructions import Instructions, given_input, id_of
from jaxchat.corpora.records import rest_of, text_of


@dataclass(frozen=True)
class Alpaca(Instructions):
    """Single instructions, each with its answer. `<noinput>` and its like are no input."""

    def conversations(self, record: Any) -> Sequence[Conversation]:
        if isinstance(record, dict) and isinstance(record.get("instances"), list):
            return list(self.instances(record, rest_of(record, "id", "instruction", "instances")))
        instruction = text_of(record, "instruction")
        question = self.asked(instruction, given_input(record))
        messages = [Message("user", question), Message("assistant", text_of(record, "output"))]
        history = record.get("history") or []
        if not isinstance(history, list):
            raise ValueError("`history` is not a list")
        for i, pair in enumerate(reversed(history)):
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise ValueError(f"exchange {len(history) - i} of `history` is not a question and an answer")
            messages[:0] = [Message("user", pair[0]), Message("assistant", pair[1])]
        if system := text_of(record, "system", optional=True):
            messages.insert(0, Message("system", system))
        meta = rest_of(record, "id", "instruction", "input", "output", "text", "history", "system")
        return [Conversation(id_of(record, "id"), tuple(messages), meta=meta)]
