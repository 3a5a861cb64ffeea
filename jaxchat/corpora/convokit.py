"""ConvoKit's corpora: `utterances.jsonl`, each naming its conversation and what it replies to, and beside it
`conversations.json`, whose `title` (of Reddit's threads, say) opens a conversation.

A row is a line of `utterances.jsonl`. Older corpora say `user` for `speaker`, `root` for `conversation_id` and
`reply_to` for `reply-to`; where they have one array, `utterances.json`, a row is an element.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, ClassVar

from jaxchat.corpora.grouping import grouped
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.rows import Row, Source, first_byte, json_elements, json_lines
from jaxchat.corpora.threaded import Said, Threaded
from jaxchat.corpora.threads import Node

UTTERANCES, CONVERSATIONS = ("utterances.jsonl", "utterances.json"), "conversations.json"
BESIDE = ("corpus.json", "index.json", "speakers.json", "users.json", CONVERSATIONS, *UTTERANCES)


def is_convokit(file: PurePath) -> bool:
    return Source(Path(file), "").file_name in (*UTTERANCES, CONVERSATIONS)


def beside(paths: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """The paths, but of files by one of `names` the folder they stand in: alone they say little."""
    return [path.parent if Source(path, "").file_name in names and path.is_file() else path for path in paths]


@dataclass(frozen=True)
class Convokit(Threaded):
    """Conversations of two or many. An utterance's score is `meta.score`, where it has one."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json")

    title: bool = True
    """The conversation's title, where there is one, stands before what opens it, with a blank line between."""

    @property
    def wanted(self) -> str:
        return "utterances.jsonl"

    def fits(self, file: PurePath) -> bool:
        return is_convokit(file)

    def files(self, paths: Sequence[Path]) -> list[Source]:
        return super().files(beside(paths, BESIDE))

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        yield from read_convokit(self, files, ledger, "convokit", self.title)


def read_convokit(
    reader: Threaded, files: Sequence[Source], ledger: Ledger, source: str, title: bool
) -> Iterator[Found | Rejected]:
    """The items of ConvoKit's files; those of a folder or archive belong together."""
    corpora: dict[str, list[Source]] = {}
    for file in files:
        corpora.setdefault(
            f"{file.path.parent}/{PurePosixPath(file.member).parent}" if file.member else str(file.path.parent), []
        ).append(file)
    for corpus in corpora.values():
        metas = [file for file in corpus if file.file_name == CONVERSATIONS]
        told = [file for file in corpus if file.file_name != CONVERSATIONS]
        for conversation, group in grouped(_utterances(told, metas, ledger)):
            members = list(group)
            about: dict[str, Any] = {}
            nodes = []
            for kind, *rest in members:
                if kind == "rejected":
                    yield Rejected(*rest)
                elif kind == "about":
                    about = rest[0]
                else:
                    nodes.append(_node(*rest))
            if nodes:
                nodes.sort(key=lambda node: node.value.meta.pop("when"))
                yield from reader.talks(_opened_by(nodes, conversation, about, title), source)


def _opened_by(nodes: list[Node[Said]], conversation: str, about: dict[str, Any], title: bool) -> list[Node[Said]]:
    meta = {key: value for key, value in about.items() if value not in (None, "", [], {})}
    for node in nodes:
        if node.parent is None:
            said = node.value
            if title and isinstance(heading := about.get("title"), str) and heading.strip():
                said = replace(said, text=f"{heading}\n\n{said.text}" if said.text.strip() else heading)
            node.value = replace(said, meta={"conversation": conversation, **meta})
    return nodes


def _utterances(
    told: Sequence[Source], metas: Sequence[Source], ledger: Ledger
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for file in metas:  # not rows: what they say of a conversation, where there is such a one
        for row in json_elements(file, Ledger()):
            if isinstance(row, Row) and row.key is not None and isinstance(row.value, dict):
                about = row.value.get("meta", row.value)
                if isinstance(about, dict):
                    yield row.key, ("about", about)
    for file in told:
        read = json_elements if first_byte(file) == b"[" else json_lines
        for row in read(file, ledger):
            if isinstance(row, Row):
                try:
                    yield _utterance(row)
                    continue
                except ValueError as reason:
                    row = row.reject(str(reason))
            yield "", ("rejected", row.file, row.position, row.reason, row.row)


def _utterance(row: Row) -> tuple[str, tuple[Any, ...]]:
    value = row.value
    if not isinstance(value, dict):
        raise ValueError("not an object")
    name, conversation = value.get("id"), value.get("conversation_id", value.get("root"))
    parent = value.get("reply-to", value.get("reply_to"))
    if not isinstance(name, str | int):
        raise ValueError("no `id`")
    if not isinstance(value.get("text"), str):
        raise ValueError("`text` is not text")
    if not isinstance(parent, str | int | None):
        raise ValueError("`reply-to` is no id")
    if not isinstance(conversation, str | int):
        if conversation is not None or parent is not None:
            raise ValueError("no `conversation_id`")
        conversation = name
    return str(conversation), (
        "utterance",
        str(name),
        None if parent is None else str(parent),
        row.file,
        row.position,
        value,
    )


def _node(name: str, parent: str | None, file: str, position: int, value: dict[str, Any]) -> Node[Said]:
    meta = value.get("meta")
    score = meta.get("score") if isinstance(meta, dict) else None
    when = value.get("timestamp")
    speaker = value.get("speaker", value.get("user"))
    said = Said(
        file, position, value, speaker.get("id", "") if isinstance(speaker, dict) else str(speaker), value["text"],
        meta={"when": math.inf if number(when) is None else number(when)},
    )  # fmt: skip
    return Node(name, parent, number(score), said)


def number(value: Any) -> float | None:
    """A number that was written as one or as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if abs(result) < float("inf") else None
