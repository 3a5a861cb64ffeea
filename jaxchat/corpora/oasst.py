"""OpenAssistant's trees: a prompt, its replies, their replies.

Read in all three forms they were published in, JSON lines: trees (`{"message_tree_id", "prompt": {"text", "role",
"replies": [...]}}`) and messages with their replies inside, where a row is a tree; and flat messages that name their
`parent_id` and `message_tree_id`, where a row is a message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora import Reader
from jaxchat.corpora.grouping import grouped
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.records import LeftOut, found, json_records
from jaxchat.corpora.rows import Row, Source
from jaxchat.corpora.threaded import Said, Threaded
from jaxchat.corpora.threads import Choice, Node, Paths, grow

_SIDES = {"prompter": False, "user": False, "assistant": True}
# Scores are the ranks, turned round; a reply that was not ranked comes behind those that were.
_UNRANKED = -1e6
_META = ("lang", "synthetic", "model_name")


@dataclass(frozen=True)
class Oasst(Reader):
    """Prompters are users, assistants assistants; of replies, rank 0 is the best and those without a rank come last."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json")

    paths: Paths = "best"
    """The conversations of a tree: its best path (at every step the reply of the best rank; of equals the one that
    leads deepest, then the earliest) or all paths, one to each message that nobody replied to."""
    language: str = ""
    """Trees that begin in another language than this one (en, zh, pt-BR ...) are dropped."""
    deleted: Literal["drop", "keep"] = "drop"
    """Messages marked as deleted, and all replies to them."""
    min_turns: int = 2
    """Conversations with fewer messages are dropped."""

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        flat: list[Source] = []
        for source in files:
            for row in json_records(source, ledger):
                if isinstance(row, Rejected):
                    yield row
                elif not _is_flat(row):
                    yield from found(row, self._tree, "oasst")
                elif reason := _unusable(row.value) or ("" if _tree_of(row) else "no `message_tree_id`"):
                    yield row.reject(reason)
                elif source not in flat:
                    flat.append(source)
        # Flat messages are read a second time, and brought together on the disk.
        for _, rows in grouped(_flat_messages(flat)):
            yield from self._flat([Row(*row) for row in rows])

    def _tree(self, record: Any) -> Sequence[Conversation]:
        """A tree that is one row."""
        if not isinstance(record, dict):
            raise ValueError("not an object")
        root = record.get("prompt", record)
        nodes, waiting = [], [(root, None)]
        while waiting:
            message, parent = waiting.pop()
            if reason := _unusable(message):
                raise ValueError(reason)
            if message.get("deleted") is True and self.deleted == "drop":
                if parent is None:
                    raise LeftOut("deleted")
                continue
            nodes.append(_node(message, parent, message))
            replies = message.get("replies") or []
            if not isinstance(replies, list):
                raise ValueError("`replies` is not a list")
            waiting += [(reply, message["message_id"]) for reply in reversed(replies)]
        if reason := self._other_language(root):
            raise LeftOut(reason)
        roots, wrong = grow(nodes)
        if wrong:
            raise ValueError(wrong[0][1])
        paths, _ = Choice(self.paths).of(roots[0])
        made = []
        for path in paths:
            path = [node for node in path if node.value["text"].strip()]
            if len(path) >= self.min_turns:
                name = str(record.get("message_tree_id") or roots[0].id)
                messages = tuple(Message(_role(node.value), node.value["text"]) for node in path)
                meta = {key: root[key] for key in _META if root.get(key)}
                if len(paths) > 1:
                    meta["group"] = name
                    name += f":{path[-1].id}"
                made.append(Conversation(name, messages, meta=meta))
        if not made:
            raise LeftOut(f"fewer than {self.min_turns} turns")
        return made

    def _flat(self, rows: Sequence[Row]) -> Iterator[Found | Rejected]:
        """A tree whose messages are rows."""
        said = {row.value["message_id"]: row.value for row in rows}
        root = next((row.value for row in rows if not row.value.get("parent_id")), None)
        language = self._other_language(root) if root else ""
        kept = []
        for row in rows:
            reason = language or self._deleted(row.value, said)
            if reason:
                yield Dropped(row.file, row.position, reason, row.value)
                continue
            meta = {key: row.value[key] for key in _META if row.value.get(key)}
            value = Said(row.file, row.position, row.value, "", row.value["text"], _SIDES[row.value["role"]], meta)
            kept.append(_node(row.value, row.value.get("parent_id") or None, value))
        for item in _Sides(paths=self.paths, max_depth=0, min_turns=self.min_turns).talks(kept, "oasst"):
            if isinstance(item, Found) and item.conversation.meta:
                meta = {key: value for key, value in item.conversation.meta.items() if key in _META}
                item = dataclasses.replace(item, conversation=dataclasses.replace(item.conversation, meta=meta))
            yield item

    def _deleted(self, message: dict[str, Any], said: dict[str, dict[str, Any]]) -> str:
        if self.deleted == "keep":
            return ""
        seen: set[str] = set()
        at: dict[str, Any] | None = message
        while at is not None and at["message_id"] not in seen:
            if at.get("deleted") is True:
                return "deleted" if at is message else "below a deleted message"
            seen.add(at["message_id"])
            at = said.get(at.get("parent_id") or "")
        return ""

    def _other_language(self, root: dict[str, Any]) -> str:
        language = root.get("lang")
        if not self.language or str(language).lower() == self.language.lower():
            return ""
        return f"begins in {language}, not {self.language}"


@dataclass(frozen=True)
class _Sides(Threaded):
    consecutive: Literal["merge", "keep"] = "keep"

    def spoken(self, path: Sequence[Said]) -> tuple[Message, ...]:
        return self.of_sides((bool(said.side), said.text) for said in path)


def _flat_messages(files: Sequence[Source]) -> Iterator[tuple[str, Any]]:
    for source in files:
        for row in json_records(source, Ledger()):
            if isinstance(row, Row) and _is_flat(row) and not _unusable(row.value) and (tree := _tree_of(row)):
                yield tree, (row.file, row.position, row.value)


def _is_flat(row: Row) -> bool:
    return isinstance(row.value, dict) and "prompt" not in row.value and "replies" not in row.value


def _tree_of(row: Row) -> str:
    """The name of the tree that a flat message belongs to, "" where it does not say."""
    value = row.value
    tree = value.get("message_tree_id") or ("" if value.get("parent_id") else value["message_id"])
    return tree if isinstance(tree, str) else ""


def _unusable(message: Any) -> str:
    if not isinstance(message, dict):
        return "a message that is not an object"
    if not isinstance(message.get("message_id"), str) or not message["message_id"]:
        return "a message without `message_id`"
    if not isinstance(message.get("text"), str):
        return "a message without `text`"
    if not isinstance(message.get("role"), str) or message["role"] not in _SIDES:
        return f"role {message.get('role')!r} is neither prompter nor assistant"
    if not isinstance(message.get("parent_id"), str | None):
        return "`parent_id` is not text"
    return ""


def _node(message: dict[str, Any], parent: str | None, value: Any) -> Node[Any]:
    rank = message.get("rank")
    score = -float(rank) if isinstance(rank, int | float) and not isinstance(rank, bool) else _UNRANKED
    return Node(message["message_id"], parent, score, value)


def _role(message: dict[str, Any]) -> Literal["user", "assistant"]:
    return "assistant" if _SIDES[message["role"]] else "user"
