"""Reddit's comments and submissions as Pushshift's dumps have them: JSON lines, often `.zst`.

A row is a line. A thread is all that names one submission (`link_id`); with the submission it opens with its title and
text, without it with each comment that replied to it directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar

from jaxchat.corpora.convokit import number
from jaxchat.corpora.grouping import grouped
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.rows import COMPRESSED, Row, Source, first_byte, json_elements, json_lines
from jaxchat.corpora.threaded import Said, Threaded
from jaxchat.corpora.threads import Node

COMMENT, SUBMISSION = "t1_", "t3_"


@dataclass(frozen=True)
class Reddit(Threaded):
    """Threads of comments, with or without the submissions they are about. Of the many who speak, one is the assistant:
    by default the first to reply."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json", ".ndjson")

    def fits(self, file: PurePath) -> bool:
        """The dumps themselves are called RC_2015-01.zst, RS_2015-01.zst."""
        name = Source(Path(file), "").file_name
        return super().fits(file) or (file.suffix.lower() in COMPRESSED and name.startswith(("rc_", "rs_")))

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for _, group in grouped(_posts(files, ledger)):
            nodes = []
            for kind, *rest in group:
                if kind == "rejected":
                    yield Rejected(*rest)
                else:
                    nodes.append(_node(kind, *rest))
            nodes.sort(key=lambda node: node.value.meta["created"])
            for node in nodes:
                del node.value.meta["created"]
            known = {node.id for node in nodes}
            for node in nodes:
                if str(node.parent).startswith(SUBMISSION) and node.parent not in known:
                    node.parent = None
            yield from self.talks(nodes, "reddit")


def _posts(files: Sequence[Source], ledger: Ledger) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for source in files:
        read = json_elements if first_byte(source) == b"[" else json_lines
        for row in read(source, ledger):
            if isinstance(row, Row):
                try:
                    yield _post(row)
                    continue
                except ValueError as reason:
                    row = row.reject(str(reason))
            yield "", ("rejected", row.file, row.position, row.reason, row.row)


def _post(row: Row) -> tuple[str, tuple[Any, ...]]:
    """The thread and what a comment or submission says; ids with their kind in front, as Reddit's `name` has them."""
    value = row.value
    if not isinstance(value, dict):
        raise ValueError("not an object")
    name = value.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError("no `id`")
    if isinstance(value.get("body"), str):
        parent, thread = value.get("parent_id"), value.get("link_id")
        if not isinstance(parent, str) or not parent.startswith((COMMENT, SUBMISSION)):
            raise ValueError("no `parent_id` of a comment or submission")
        if not isinstance(thread, str):
            if not parent.startswith(SUBMISSION):
                raise ValueError("no `link_id`, so that its thread is unknown")
            thread = parent
        return thread, ("comment", COMMENT + name.removeprefix(COMMENT), parent, row.file, row.position, value)
    if isinstance(value.get("title"), str):
        own = SUBMISSION + name.removeprefix(SUBMISSION)
        return own, ("submission", own, None, row.file, row.position, value)
    raise ValueError("neither a comment with a `body` nor a submission with a `title`")


def _node(kind: str, name: str, parent: str | None, file: str, position: int, value: dict[str, Any]) -> Node[Said]:
    text = value.get("body")
    if kind == "submission":
        title, body = value["title"], value.get("selftext")
        body = body if isinstance(body, str) and body.strip() else ""
        text = f"{title}\n\n{body}" if body and title.strip() else title + body
    # Whoever deleted the account is nobody in particular: each such message has an author of its own.
    author = value.get("author")
    known = isinstance(author, str) and author not in ("", "[deleted]", "[removed]")
    subreddit = value.get("subreddit")
    meta = {"subreddit": subreddit} if isinstance(subreddit, str) and subreddit else {}
    created = number(value.get("created_utc"))
    said = Said(
        file, position, value, str(author) if known else f"[deleted] {name}", str(text),
        meta={**meta, "created": float("inf") if created is None else created},
    )  # fmt: skip
    return Node(name, parent, number(value.get("score")), said)
