"""DiscordChatExporter's JSON: one channel a file (or a part of one), `{"guild", "channel", "messages": [...]}`.

A row is an element of `messages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxchat.corpora.exports import NOTICE, Chat, Export, Said, seconds_of
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.records import json_tree
from jaxchat.corpora.rows import Row, Source

# The types that people write, as names and as Discord's numbers.
_WRITTEN = {"Default", "Reply", "0", "19", "None", "ThreadStarterMessage", "21"}


@dataclass(frozen=True)
class Discord(Export):
    """A server's channels or direct messages; people go by the names that the server shows."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    bots: Literal["drop", "keep"] = "drop"
    """What programs wrote."""

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            # The channel stands before the messages, and is filled in once it is read.
            chat = Chat("discord")
            yield from self.conversations(chat, self._messages(source, ledger, chat))

    def _messages(self, source: Source, ledger: Ledger, chat: Chat) -> Iterator[Said | Rejected]:
        for path, item in json_tree(source, ledger, [("messages",)]):
            if isinstance(item, Rejected):
                yield item
            elif item is not None and item.position:
                yield self._message(item)
            elif item is not None and isinstance(item.value, dict) and path in (("guild",), ("channel",)):
                name = item.value.get("name")
                if isinstance(name, str) and path == ("channel",):
                    chat.name = name
                elif isinstance(name, str):
                    chat.meta["guild"] = name

    def _message(self, row: Row) -> Said | Rejected:
        value = row.value
        author = value.get("author") if isinstance(value, dict) else None
        if not isinstance(author, dict):
            return row.reject("no `author`")
        if not isinstance(value.get("content"), str):
            return row.reject("no `content`")
        speaker = author.get("nickname") or author.get("name") or author.get("id")
        if str(value.get("type")) not in _WRITTEN:
            return Said(row.file, row.position, value, "", "", media=NOTICE)
        if author.get("isBot") is True and self.bots == "drop":
            return Dropped(row.file, row.position, "written by a bot", value)
        media = next((key for key in ("attachments", "stickers", "embeds") if value.get(key)), "")
        time = seconds_of(value.get("timestamp"))
        return Said(row.file, row.position, value, str(speaker), value["content"], time, media.removesuffix("s"))
