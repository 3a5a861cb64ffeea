"""Telegram Desktop's JSON export (`result.json`): of one chat, or of the whole account with all its chats.

A row is an element of a `messages` array. Formatted text, which is a list of texts and objects, is joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxchat.corpora.exports import NOTICE, Chat, Export, Said, seconds_of
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.records import json_tree
from jaxchat.corpora.rows import Row, Source

_MESSAGES = [("messages",), ("chats", "list", "*", "messages"), ("left_chats", "list", "*", "messages")]
_MEDIA = ("media_type", "photo", "file", "location_information", "contact_information", "poll", "game_title")


@dataclass(frozen=True)
class Telegram(Export):
    """Chats with people and groups; each chat has an assistant of its own unless one is named."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            tree = json_tree(source, ledger, _MESSAGES)
            known: dict[Any, dict[Any, Any]] = {}
            step = next(tree, None)
            while step is not None:
                path, item = step
                if isinstance(item, Rejected) and path[-1:] != ("messages",):
                    yield item
                elif path[-1:] == ("messages",) and item is not None and (item := _row(item)):
                    about = known.get(path[:-1], {})
                    chat = Chat("telegram", str(about.get("name") or ""))
                    if about.get("type"):
                        chat.meta["type"] = str(about["type"])
                    rest = _Run(tree, path, item)
                    yield from self.conversations(chat, rest)
                    step = rest.behind
                    continue
                elif isinstance(item, Row) and path:
                    known.setdefault(path[:-1], {})[path[-1]] = item.value
                step = next(tree, None)


def _row(item: Row | Rejected) -> Row | Rejected | None:
    return item if isinstance(item, Rejected) or item.position else None


class _Run:
    """The messages of one array, from the first on; `behind` is what comes after them in the tree."""

    def __init__(self, tree: Iterator[tuple[Any, Any]], path: Any, first: Row | Rejected):
        self.tree, self.path, self.first = tree, path, first
        self.behind: tuple[Any, Any] | None = None

    def __iter__(self) -> Iterator[Said | Rejected]:
        item: Row | Rejected = self.first
        while True:
            yield item if isinstance(item, Rejected) else _message(item)
            self.behind = next(self.tree, None)
            if self.behind is None or self.behind[0] != self.path or self.behind[1] is None:
                return
            item = self.behind[1]


def _message(row: Row) -> Said | Rejected:
    value = row.value
    if not isinstance(value, dict):
        return row.reject("not an object")
    if value.get("type") not in (None, "message"):
        return Said(row.file, row.position, value, "", "", media=NOTICE)
    try:
        text = _text(value.get("text", ""))
    except ValueError as error:
        return row.reject(str(error))
    speaker = value.get("from") or value.get("from_id") or "somebody"
    time = value.get("date_unixtime") or value.get("date")
    media = next((key for key in _MEDIA if value.get(key)), "")
    media = str(value[media]) if media == "media_type" else media.removesuffix("_information")
    return Said(row.file, row.position, value, str(speaker), text, seconds_of(time), media.replace("_", " "))


def _text(text: Any) -> str:
    parts = text if isinstance(text, list) else [text]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    whole = [part for part in texts if isinstance(part, str)]
    if len(whole) < len(texts):
        raise ValueError("`text` is neither text nor pieces of it")
    return "".join(whole)
