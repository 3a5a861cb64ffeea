"""LCCC, short talks from Chinese social media: lists of texts, in one JSON array, in an object by split
(`{"train": [...], "valid": [...]}`), or one list a line.

A row is one such list. Published texts have a space between every two characters (or words): by default it is taken out
again, but for that between two words in Latin letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxchat.chat.conversation import Conversation
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.records import LeftOut, found, json_form, json_records, json_tree
from jaxchat.corpora.rows import Row, Source
from jaxchat.corpora.turns import Talk

# Spaces between two words of Latin letters or digits, one of which at least is longer than a letter, stay.
_SPACE = re.compile(r"(?<![a-zA-Z0-9]) | (?![a-zA-Z0-9])|(?<=(?<![^ ])[a-zA-Z0-9]) (?=[a-zA-Z0-9](?![^ ]))")


@dataclass(frozen=True)
class Lccc(Talk):
    """Who speaks first is the user and who answers the assistant; the speakers alternate."""

    suffixes: ClassVar[tuple[str, ...]] = (".json", ".jsonl")

    spaces: Literal["remove", "keep"] = "remove"
    """The spaces that were put between characters or words."""

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            if json_form(source) == "lines":
                items: Any = (((), row) for row in json_records(source, ledger))
            else:
                items = json_tree(source, ledger, [(), ("*",)])
            for path, row in items:
                if isinstance(row, Row) and row.position:
                    yield from found(row, lambda texts, path=path: [self._conversation(texts, path)], "lccc")
                elif isinstance(row, Rejected):
                    yield row

    def _conversation(self, texts: Any, path: tuple[str | int, ...]) -> Conversation:
        if isinstance(texts, dict):
            texts = next((texts[key] for key in ("conversation", "dialog", "dialogue") if key in texts), texts)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError("not a list of texts")
        if not any(text.strip() for text in texts):
            raise ValueError("no text in it")
        if self.spaces == "remove":
            texts = [_SPACE.sub("", text) for text in texts]
        try:
            messages = self.messages([(str(i % 2), text) for i, text in enumerate(texts)])
        except ValueError as reason:
            raise LeftOut(str(reason)) from None
        return Conversation("", messages, meta={"split": str(path[0])} if path else {})
