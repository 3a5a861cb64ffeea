"""Databricks' Dolly: JSON lines of `{"instruction", "context", "response", "category"}`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.corpora.instructions import Instructions, id_of
from jaxchat.corpora.records import LeftOut, rest_of, text_of


@dataclass(frozen=True)
class Dolly(Instructions):
    """Questions that people wrote, some about a passage, and the answers."""

    context: Literal["after", "before", "drop"] = "after"
    """Where the passage stands that a question is about, as seen from the question; drop leaves such rows out."""

    def conversations(self, record: Any) -> Sequence[Conversation]:
        instruction, context = text_of(record, "instruction"), text_of(record, "context", optional=True)
        answer = text_of(record, "response")
        if context and self.context == "drop":
            raise LeftOut("it is about a passage")
        if self.context == "before":
            instruction, context = context, instruction
        meta = rest_of(record, "id", "instruction", "context", "response")
        return [self.answered(instruction, context, answer, id=id_of(record, "id"), meta=meta)]
