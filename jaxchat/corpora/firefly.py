"""Firefly's Chinese data; JSON lines.

`{"kind", "input", "target"}` (firefly-train-1.1M) and `{"conversation": [{"human", "assistant"}, ...], "category",
"dataset"}` (its multi-turn sets, moss among them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.instructions import id_of
from jaxchat.corpora.records import rest_of, text_of
from jaxchat.corpora.turn_list import TurnLists


@dataclass(frozen=True)
class Firefly(TurnLists):
    """Chinese tasks and talks with a model."""

    def conversations(self, record: Any) -> Sequence[Conversation]:
        if isinstance(record, dict) and "conversation" in record:
            meta = rest_of(record, "conversation", "conversation_id", "id")
            return [self.conversation(record["conversation"], id=id_of(record, "conversation_id", "id"), meta=meta)]
        messages = (Message("user", text_of(record, "input")), Message("assistant", text_of(record, "target")))
        return [Conversation(id_of(record, "id"), messages, meta=rest_of(record, "input", "target", "id"))]
