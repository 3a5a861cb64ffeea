"""Formats in which a message names the one it replies to: trees, of which paths become conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora.ledger import Dropped, Found, Rejected
from jaxchat.corpora.threads import Choice, Node, Orphans, Paths, grow
from jaxchat.corpora.turns import Talk


@dataclass(frozen=True)
class Said:
    """A message in a tree, and the row it comes from. `side`: whether it is the assistant's, where the format says."""

    file: str
    position: int
    row: Any
    speaker: str
    text: str
    side: bool | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Threaded(Talk):
    """A format of replies, and the options that all such formats have."""

    paths: Paths = "best"
    """The conversations of a tree: its best path (at every step the reply with the highest score; of equals the one
    that leads deepest, then the earliest) or all paths, one to each message that nobody replied to."""
    min_score: float | None = None
    """Replies that score less are left out, with all below them."""
    max_depth: int = 32
    """Messages of a tree deeper than this are left out; 0: none are."""
    orphans: Orphans = "reject"
    """Replies to a message that is not in the input: rejected with all below them, or kept as the beginning of a
    conversation."""

    def spoken(self, path: Sequence[Said]) -> tuple[Message, ...]:
        """The messages of a path; ValueError where an option leaves them out."""
        return self.messages([(said.speaker, said.text) for said in path])

    def talks(self, nodes: Sequence[Node[Said]], source: str) -> Iterator[Found | Rejected]:
        """An item for every node: conversations of the trees they make, Rejected or Dropped. A message without text
        is rejected; its replies are not."""
        roots, rejected = grow(nodes, self.orphans)
        for node, reason in rejected:
            yield Rejected(node.value.file, node.value.position, reason, node.value.row)
        choice = Choice(self.paths, self.min_score, self.max_depth)
        for root in roots:
            paths, dropped = choice.of(root)
            used: set[int] = set()
            left = [(node, reason) for node, reason in dropped]
            for path in paths:
                with_text = [node for node in path if node.value.text.strip()]
                try:
                    messages = self.spoken([node.value for node in with_text])
                except ValueError as reason:
                    left += [(node, str(reason)) for node in path]
                    continue
                rows: dict[str, list[int]] = {}
                for node in with_text:
                    rows.setdefault(node.value.file, []).append(node.value.position)
                    used.add(id(node))
                name = f"{root.id}" if len(paths) == 1 else f"{root.id}:{path[-1].id}"
                meta = {
                    **root.value.meta,
                    **{key: value for node in with_text[:1] for key, value in node.value.meta.items()},
                }
                if len(paths) > 1:
                    meta["group"] = f"{source} {root.id}"
                yield Found(Conversation(name, messages, source=source, meta=meta), rows)
                left += [(node, "") for node in path if not node.value.text.strip()]
            for node, reason in left:
                if id(node) not in used:
                    used.add(id(node))
                    said = node.value
                    if said.text.strip():
                        yield Dropped(said.file, said.position, reason, said.row)
                    else:
                        yield Rejected(said.file, said.position, "no text", said.row)
