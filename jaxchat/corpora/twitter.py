"""Customer Support on Twitter, as Kaggle has it (`twcs.csv`): tweets of customers and companies that name what they
reply to.

A row is a CSV record, by the line it begins on. Threads are rebuilt from `in_response_to_tweet_id`: the ids alone are
held in memory, some 60 bytes a tweet while threads are found; the rows are brought together by a sort on the disk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jaxchat.chat.conversation import Message
from jaxchat.corpora.csv_rows import csv_records
from jaxchat.corpora.grouping import grouped, read_twice
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.rows import Row, Source
from jaxchat.corpora.threaded import Said, Threaded
from jaxchat.corpora.threads import Node

COLUMNS = ("tweet_id", "author_id", "inbound", "text", "in_response_to_tweet_id")
NONE = -1  # no parent, and the thread of what is no tweet


@dataclass(frozen=True)
class Twitter(Threaded):
    """Support threads. No tweet has a score, so the best path of a thread is its longest."""

    version: ClassVar[int] = 2
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    assistant: str = "company"
    """Who becomes the assistant: the company (tweets that are not `inbound`); the first, second or last to speak;
    alternate; or an author by the id in the file. All others are the user."""

    def spoken(self, path: Sequence[Said]) -> tuple[Message, ...]:
        if self.assistant != "company":
            return super().spoken(path)
        return self.of_sides((bool(said.side), said.text) for said in path)

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        ids, parents = array("q"), array("q")
        tweets = read_twice(_tweets(files, ledger, ids, parents))
        for thread, group in grouped(_placed(tweets, ids, parents)):
            if thread == NONE:
                yield from (Rejected(*rejected) for rejected in group)
            else:
                nodes = [_node(*tweet) for tweet in group]
                companies = sorted({node.value.speaker for node in nodes if node.value.side})
                for node in nodes:
                    if companies:
                        node.value.meta["company"] = ", ".join(companies)
                yield from self.talks(nodes, "twitter")


def _tweets(files: Sequence[Source], ledger: Ledger, ids: array[int], parents: array[int]) -> Iterator[tuple[Any, ...]]:
    """(id, parent, file, position, record) of tweets, whose ids are noted; of others what makes a Rejected."""
    for source in files:
        for row in csv_records(source, ledger, COLUMNS):
            if isinstance(row, Row):
                try:
                    name, parent = _whole(row.value, "tweet_id"), _whole(row.value, "in_response_to_tweet_id")
                    if name is None:
                        raise ValueError("no tweet_id")
                    if _inbound(row.value) is None:
                        raise ValueError(f"inbound is {row.value['inbound'][:40]!r}, neither True nor False")
                except ValueError as reason:
                    row = row.reject(str(reason))
                else:
                    ids.append(name)
                    parents.append(NONE if parent is None else parent)
                    yield name, parent, row.file, row.position, row.value
                    continue
            yield row.file, row.position, row.reason, row.row


def _placed(tweets: Iterable[tuple[Any, ...]], ids: array[int], parents: array[int]) -> Iterator[tuple[int, Any]]:
    threads, number = None, 0
    for tweet in tweets:
        if threads is None:  # the first tweet comes when all are noted
            threads = threads_of(np.array(ids, np.int64), np.array(parents, np.int64))
        if len(tweet) == 4:
            yield NONE, tweet
        else:
            yield int(threads[number]), tweet
            number += 1


def _node(name: int, parent: int | None, file: str, position: int, record: dict[str, str]) -> Node[Said]:
    meta = {"begins": when} if (when := (record.get("created_at") or "").strip()) else {}
    said = Said(file, position, record, record["author_id"], record["text"], not _inbound(record), meta)
    return Node(name, parent, None, said)


def _whole(record: dict[str, str], column: str) -> int | None:
    """An id, which pandas writes as a float (`3.0`) where some are missing; None where it is."""
    text = record[column].strip()
    if not text or text.lower() == "nan":
        return None
    digits = text.removesuffix(".0")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise ValueError(f"{column} is {text[:40]!r}, not a number")
    return int(digits)


def _inbound(record: dict[str, str]) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(record["inbound"].strip().lower())


def threads_of(ids_N: np.ndarray, parents_N: np.ndarray) -> np.ndarray:
    """For each of N messages a number, the same for all that hang together: int64[N], the place of the message at the
    top of its thread (of a cycle, the first on it).

    A parent of NONE, or one that is not among the ids, makes a top. Of several messages with one id, the first counts.
    """
    order_N = np.argsort(ids_N, kind="stable")
    sorted_N = ids_N[order_N]
    first_N = order_N[np.searchsorted(sorted_N, ids_N)]  # the first message with this one's id
    found_N = np.minimum(np.searchsorted(sorted_N, parents_N), len(ids_N) - 1)
    known_N = sorted_N[found_N] == parents_N
    parent_N = np.where(known_N, order_N[found_N], np.arange(len(ids_N)))[first_N]
    up_N = parent_N
    for _ in range(len(ids_N).bit_length()):  # every jump is twice as long as the last
        up_N = up_N[up_N]
    tops, top_of_N = np.unique(up_N, return_inverse=True)  # of a cycle, jumping may end on several places
    names: dict[int, int] = {}
    for top in tops.tolist():
        way, at = [top], int(parent_N[top])
        while at != top and top not in names:
            way.append(at)
            at = int(parent_N[at])
        names.update((place, names.get(place, min(way))) for place in way)
    return np.array([names[top] for top in tops.tolist()], np.int64)[top_of_N]
