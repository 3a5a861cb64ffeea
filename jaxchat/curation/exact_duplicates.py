"""Exact duplicates: conversations that say the same, word for word. The first stays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar

from jaxchat.chat.conversation import Conversation


@dataclass(frozen=True)
class ExactDuplicates:
    """Drops conversations whose turns and tools are those of an earlier one; case and white space make no
    difference."""

    name: ClassVar[str] = "exact-duplicates"
    reason: ClassVar[str] = "the same as an earlier conversation"

    system: bool = True
    """System messages count: the same talk under another one is another conversation."""

    def key(self, conversation: Conversation) -> bytes:
        """16 bytes that two conversations share when they are duplicates."""
        digest = hashlib.blake2b(digest_size=16)
        for message in (*conversation.messages, None, *conversation.rejected):
            if message is None:
                digest.update(b"\0")
            elif self.system or message.role != "system":
                text = " ".join((message.content or "").casefold().split())
                calls = [(call.name, call.arguments) for call in message.tool_calls]
                more = json.dumps(calls, ensure_ascii=False, sort_keys=True) if calls else ""
                digest.update(f"{message.role} {len(text)} {len(more)} {text}{more}".encode(errors="replace"))
        return digest.digest()
