"""A model that is served, and all that a request to it needs to know."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxchat.chat.conversation import Message
from jaxchat.chat.template import ChatFormat
from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.serve.answering import Engine
from jaxchat.serve.grammar import Grammars
from jaxchat.serve.tool_calls import Spelling, spelling


@dataclass(frozen=True)
class Served:
    """name: what clients call it. context: tokens of a prompt and its answer at most. vocab_size: of its logits.
    defaults: the sampling that it came with. ends: tokens that end an answer. chat: None where it cannot chat."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    chat: ChatFormat | None
    context: int
    vocab_size: int
    ends: frozenset[int]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    created: int = field(default_factory=lambda: int(time.time()))

    @functools.cached_property
    def grammars(self) -> Grammars:
        return Grammars(self.tokenizer, self.vocab_size, sorted(self.ends))

    @functools.cached_property
    def spelling(self) -> Spelling:
        """How it writes calls of tools."""
        return spelling(self.chat) if self.chat else Spelling(in_words=True)

    @functools.cached_property
    def _markers(self) -> re.Pattern[str]:
        texts = sorted((text for text in self.tokenizer.added_tokens if not text.isspace()), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or "(?!)")

    def harmless(self, message: Message) -> Message:
        """The message without the tokens that structure a chat, where strangers wrote it: `<|im_end|>` typed by a user
        ends no turn. They are broken by a space behind their first character."""
        if message.role not in ("user", "tool") or not message.content or not self._markers.search(message.content):
            return message
        broken = self._markers.sub(lambda found: f"{found.group()[0]} {found.group()[1:]}", message.content)
        return replace(message, content=broken)

    def prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """Ids that ask for the next answer. Raises ChatFormatError where the template refuses the messages."""
        assert self.chat is not None
        safe = [self.harmless(message) for message in messages]
        known = () if self.spelling.in_words else tools
        return self.chat.prompt(self.spelling.messages(safe, tools), known)

    def token_bytes(self, token: int) -> bytes:
        """The text of one token, which may be part of a character."""
        return self.grammars.token_bytes(token)
