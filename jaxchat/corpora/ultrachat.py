"""UltraChat: `{"id", "data": [text, text, ...]}`, where user and assistant alternate, and the filtered set's
`{"prompt", "prompt_id", "messages": [{"role", "content"}, ...]}`. JSON lines, or one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxchat.chat.conversation import Conversation
from jaxchat.corpora.instructions import id_of
from jaxchat.corpora.records import rest_of
from jaxchat.corpora.turn_list import TurnLists


@dataclass(frozen=True)
class Ultrachat(TurnLists):
    """Talks between two models, one of which plays the user. The first text is the user's."""

    def conversations(self, record: Any) -> Sequence[Conversation]:
        key = next((key for key in ("data", "messages") if isinstance(record, dict) and key in record), None)
        if key is None:
            raise ValueError("no `data` and no `messages`")
        meta = rest_of(record, key, "id", "prompt_id", "prompt")
        return [self.conversation(record[key], id=id_of(record, "id", "prompt_id"), meta=meta)]
