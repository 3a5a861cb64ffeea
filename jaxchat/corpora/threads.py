"""Replies that name what they reply to -> trees -> paths from what opened the talk to an answer.

A (score 3)                 best path: A, C, D      (the reply with the highest score at every step)
├── B (score 1)             all paths: A B; A C D
└── C (score 5)
    └── D (score 0)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Paths = Literal["best", "all"]
Orphans = Literal["reject", "keep"]


@dataclass
class Node(Generic[T]):
    """A message in a tree. `parent` is None for one that opens a talk; `score` None where none is known."""

    id: str | int
    parent: str | int | None
    score: float | None
    value: T
    replies: list[Node[T]] = field(default_factory=list, repr=False)


def grow(nodes: Sequence[Node[T]], orphans: Orphans = "reject") -> tuple[list[Node[T]], list[tuple[Node[T], str]]]:
    """The trees that `nodes` make, in their order: (roots, rejected), the latter nodes with the reason.

    Rejected are the second node of an id, nodes whose parent is not among `nodes` (with `keep` they open a talk of
    their own), nodes that reply to themselves by way of others, and all replies to rejected ones. A node's `replies`
    stay in the order of `nodes`.
    """
    by_id: dict[str | int, Node[T]] = {}
    roots: list[Node[T]] = []
    rejected: list[tuple[Node[T], str]] = []
    for node in nodes:
        if node.id in by_id:
            rejected.append((node, f"another has the same id ({node.id})"))
        else:
            by_id[node.id] = node
    cut: list[tuple[Node[T], str]] = []
    for node in by_id.values():
        if node.parent is None:
            roots.append(node)
        elif node.parent in by_id:
            by_id[node.parent].replies.append(node)
        elif orphans == "keep":
            roots.append(node)
        else:
            cut.append((node, f"replies to what is not in the input ({node.parent})"))
    reached = {id(node) for root in roots for node in _below(root)}
    for orphan, reason in cut:
        for node in _below(orphan):
            reached.add(id(node))
            rejected.append((node, reason if node is orphan else _under(node)))
    places: dict[str | int, tuple[list[str | int], int]] = {}  # of those on a cycle: the cycle and their place on it
    for node in by_id.values():  # what is left stands on a cycle or hangs on one
        if id(node) in reached:
            continue
        way: dict[str | int, None] = {}
        at = node
        while at.id not in way and id(at) not in reached:
            way[at.id] = None
            reached.add(id(at))
            assert at.parent is not None
            at = by_id[at.parent]
        if at.id in way:
            cycle = list(way)[list(way).index(at.id) :]
            places.update((name, (cycle, place)) for place, name in enumerate(cycle))
        rejected += [(by_id[name], _round(*places[name]) if name in places else _under(by_id[name])) for name in way]
    return roots, rejected


def _under(node: Node[T]) -> str:
    return f"replies to what was rejected ({node.parent})"


def _round(cycle: list[str | int], place: int) -> str:
    names = [str(cycle[(place + i) % len(cycle)]) for i in range(min(len(cycle), 8))]
    return f"replies to itself ({' -> '.join(names)}{' ...' if len(cycle) > 8 else ''} -> {cycle[place]})"


def _below(root: Node[T]) -> list[Node[T]]:
    """The node and all below it, parents before replies; no recursion, since threads can be very deep."""
    found = [root]
    for node in found:
        found.extend(node.replies)
    return found


@dataclass(frozen=True)
class Choice:
    """Which paths of a tree are conversations."""

    paths: Paths = "best"
    min_score: float | None = None
    max_depth: int = 0

    def of(self, root: Node[T]) -> tuple[list[list[Node[T]]], list[tuple[Node[T], str]]]:
        """(paths, dropped): every node of the tree is on a path or dropped with its reason.

        A reply that scores less than `min_score` is left out with all below it, and so is what is deeper than
        `max_depth` messages (0: no limit). Of equal scores (and where there are none) the reply that leads deepest is
        the best, then the earliest.
        """
        dropped: list[tuple[Node[T], str]] = []
        kept: defaultdict[int, list[Node[T]]] = defaultdict(list)
        order = [root]
        levels = {id(root): 1}
        for node in order:
            for reply in node.replies:
                if self.max_depth and levels[id(node)] >= self.max_depth:
                    dropped += [(below, f"deeper than {self.max_depth} messages") for below in _below(reply)]
                elif self.min_score is not None and reply.score is not None and reply.score < self.min_score:
                    dropped.append((reply, f"its score is below {self.min_score:g}"))
                    dropped += [(below, f"replies to what was dropped ({below.parent})") for below in _below(reply)[1:]]
                else:
                    kept[id(node)].append(reply)
                    levels[id(reply)] = levels[id(node)] + 1
                    order.append(reply)
        if self.paths == "all":
            return _all_paths(root, kept), dropped
        depth = {id(node): 0 for node in order}
        for node in reversed(order):
            depth[id(node)] = 1 + max((depth[id(reply)] for reply in kept[id(node)]), default=0)
        path, at = [root], root
        while replies := kept[id(at)]:
            at = max(replies, key=lambda reply: (_or_zero(reply.score), depth[id(reply)]))  # the first of equals
            path.append(at)
        on_path = {id(node) for node in path}
        dropped += [(node, "not on the best path") for node in order if id(node) not in on_path]
        return [path], dropped


def _or_zero(score: float | None) -> float:
    return 0.0 if score is None else score


def _all_paths(root: Node[T], kept: defaultdict[int, list[Node[T]]]) -> list[list[Node[T]]]:
    paths: list[list[Node[T]]] = []
    path: list[Node[T]] = []
    waiting = [(root, 0)]
    while waiting:
        node, level = waiting.pop()
        del path[level:]
        path.append(node)
        if replies := kept[id(node)]:
            waiting += [(reply, level + 1) for reply in reversed(replies)]
        else:
            paths.append(list(path))
    return paths
