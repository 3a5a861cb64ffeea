"""The Chit Chat Challenge: real small talk between people, as the `chitchat-dataset` package carries it (MIT).

One JSON object, conversation by id: `{"messages": [[{"text", "sender", "timestamp"}, ...], ...], "prompt", "ratings",
"start"}`. A row is one of those conversations.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora import Reader
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.rows import Row, Source, json_elements
from jaxchat.errors import InputError


@dataclass(frozen=True)
class Chitchat(Reader):
    """Without paths, the installed package's data is read. Who speaks first is the user, who answers the assistant.

    A turn is all that one side sends before the other does; its texts are joined by `join`, empty ones left out.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    join: Literal["newline", "space"] = "newline"
    min_turns: int = 1
    """Conversations with fewer turns are dropped. 3,150 of the package's 7,168 have one turn: nobody answered."""
    max_turns: int = 0
    """So many turns of a chat begin a new conversation, which a short row can hold whole; 0: none do. Even, since the
    user speaks first."""

    def files(self, paths: Sequence[Path]) -> list[Source]:
        if paths:
            return super().files(paths)
        spec = importlib.util.find_spec("chitchat_dataset")
        if spec is None or spec.origin is None:
            raise InputError("the package chitchat-dataset is not installed; pip install chitchat-dataset")
        return [Source(Path(spec.origin).with_name("dataset.json"), "dataset.json")]

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        if self.max_turns < 0 or self.max_turns % 2:
            raise InputError(f"--max-turns {self.max_turns}: take an even number of turns, so that the user begins")
        for source in files:
            for row in json_elements(source, ledger):
                if isinstance(row, Row):
                    yield from self._conversations(row)
                else:
                    yield row

    def _conversations(self, row: Row) -> Iterator[Found | Rejected]:
        chat = self._conversation(row)
        if not isinstance(chat, Found) or not 0 < self.max_turns < len(chat.conversation.messages):
            yield chat
            return
        whole = chat.conversation
        for number, first in enumerate(range(0, len(whole.messages), self.max_turns), 1):
            turns = whole.messages[first : first + self.max_turns]
            meta = {**whole.meta, "group": whole.id}
            yield Found(replace(whole, id=f"{whole.id}-{number}", messages=turns, meta=meta), chat.rows)

    def _conversation(self, row: Row) -> Found | Rejected:
        value = row.value
        turns = value.get("messages") if isinstance(value, dict) else None
        if not isinstance(turns, list) or not turns:
            return row.reject("no list of `messages`")
        texts = [text for turn in turns if isinstance(turn, list) for text in turn]
        if not all(isinstance(turn, list) and turn for turn in turns) or not all(map(_is_text, texts)):
            return row.reject("`messages` is not turns of texts, each with its `sender`")
        first, joint = texts[0]["sender"], "\n" if self.join == "newline" else " "
        if len({text["sender"] for text in texts}) > 2:
            return row.reject("more than two speakers")
        messages = tuple(
            Message(
                "user" if sender == first else "assistant",
                joint.join(text["text"] for text in turn if text["text"]),
            )
            for sender, turn in groupby(texts, key=lambda text: text["sender"])
        )
        if len(messages) < self.min_turns:
            return Dropped(row.file, row.position, f"fewer than {self.min_turns} turns", {row.key: value})
        meta = {name: value[name] for name in ("prompt", "ratings", "start") if value.get(name) is not None}
        conversation = Conversation(row.key or str(row.position), messages, source="chitchat", meta=meta)
        return Found(conversation, {row.file: (row.position,)})


def _is_text(text: Any) -> bool:
    return isinstance(text, dict) and isinstance(text.get("text"), str) and isinstance(text.get("sender"), str)
