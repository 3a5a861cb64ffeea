"""Near duplicates: conversations, or single answers, that an earlier one is all but equal to.

Candidates come from MinHash with banding (Broder 1997, On the resemblance and containment of documents; Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, chapter 3) over the sets of five characters in a row: 64 bands of 4
values. Task dialogues share many such fives, so a candidate is a duplicate only when the texts themselves agree: 1 -
(insertions and deletions that make one of the other) / (characters of both), the ratio of rapidfuzz. Copies edited at a
rate of ten in a hundred have 0.89 and more; the nearest two of 10,000 dialogues of one task have 0.85.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.words import plain, said
from jaxchat.errors import InputError

SHINGLE = 5
BANDS, ROWS = 64, 4
SEED = 42
# A sketch is the low bytes of so many of the values: the share that two have in common estimates their resemblance.
SKETCH = 128
# Below this the texts cannot agree; above that, comparing with the earlier of two is comparing with both.
ALIKE, SAME = 0.25, 0.85
# Conversations of one bucket that all others in it are compared with; beyond, a bucket says no more than "common".
HEADS = 300
# The part of a conversation that is all of it; parts from 0 on are messages.
WHOLE = -1


class Item(NamedTuple):
    """What is compared: a conversation, or one answer in it."""

    part: int
    bands: np.ndarray
    """uint64[BANDS]"""
    sketch: np.ndarray
    """uint8[SKETCH]"""
    text: str


@dataclass(frozen=True)
class NearDuplicates:
    """Drops conversations that are nearly the same as an earlier one, system messages left aside."""

    name: ClassVar[str] = "near-duplicates"
    reason: ClassVar[str] = "nearly the same as an earlier conversation"
    answer_reason: ClassVar[str] = "an answer nearly the same as an earlier one"

    similarity: float = 0.87
    """Share of the text that has to agree, from 0 to 1."""
    least: int = 60
    """Characters from which on conversations are compared: shorter ones differ by the word that matters."""
    answers: Literal["keep", "untrain", "drop"] = "keep"
    """What becomes of an answer given before, whatever was asked: nothing, it is kept and not trained on, or the
    conversation is dropped."""
    answers_least: int = 200
    """Characters from which on answers are compared."""

    def prepared(self) -> NearDuplicates:
        if not 0.5 <= self.similarity <= 1:
            raise InputError(f"--near-duplicates.similarity {self.similarity}: must be from 0.5 to 1")
        return self

    def items(self, conversation: Conversation) -> list[Item]:
        """The conversation, and its answers where they are compared; none too short."""
        messages = [message for message in conversation.messages if message.role != "system"]
        whole = " ".join(filter(None, (plain(said(message)) for message in messages)))
        texts = [(WHOLE, whole)] if len(whole) >= self.least else []
        if self.answers != "keep":
            for i, message in enumerate(conversation.messages):
                if message.role == "assistant" and len(text := plain(said(message))) >= self.answers_least:
                    texts.append((i, text))
        return [_item(part, text) for part, text in texts]

    def same(self, a: str, b: str) -> bool:
        from rapidfuzz import fuzz

        return fuzz.ratio(a, b, score_cutoff=100 * self.similarity) > 0


def comparable(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Of two items' (position, part): whole with whole, answer with answer, of different conversations."""
    return a[0] != b[0] and (a[1] == WHOLE) == (b[1] == WHOLE)


def _item(part: int, text: str) -> Item:
    bands, sketch = _signature(text)
    return Item(part, bands if part == WHOLE else ~bands, sketch, text)  # an answer is in no bucket of conversations


def _signature(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of the bands, and the sketch."""
    from rensa import RMinHash

    minhash = RMinHash(num_perm=BANDS * ROWS, seed=SEED)
    minhash.update(list({text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}))
    values = np.array(minhash.digest(), np.uint32)
    return _mixed(values.reshape(BANDS, ROWS)), values[:SKETCH].astype(np.uint8)


def _mixed(rows_BR: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row (a multiplicative one, the factor that of Fibonacci hashing)."""
    hashed = np.zeros(len(rows_BR), np.uint64)
    for column in rows_BR.T.astype(np.uint64):
        hashed = (hashed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    return hashed


def alike(sketches_NS: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of a bucket's members, in the order they come in, that may be near duplicates: the earlier first.

    A member all but equal to an earlier one stands for nobody else, so a bucket of n copies has n - 1 pairs.
    """
    heads = np.zeros(min(len(sketches_NS), HEADS), np.intp)
    count = 0
    for j, sketch in enumerate(sketches_NS):
        share = (sketches_NS[heads[:count]] == sketch).mean(axis=1)
        for i in np.flatnonzero(share >= ALIKE):
            yield int(heads[i]), j
        if count < HEADS and not (share >= SAME).any():
            heads[count] = j
            count += 1


def pairs_of_band(hashes_N: np.ndarray, sketches_MS: np.ndarray, rows_N: np.ndarray | None = None) -> np.ndarray:
    """The pairs (int64[n, 2], the earlier first) of all buckets of one band, as rows of `sketches_MS`; `rows_N`,
    ascending, are those that have a hash, all by default."""
    order = np.argsort(hashes_N, kind="stable")
    ordered = hashes_N[order]
    order = order if rows_N is None else rows_N[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    # Most buckets of more than one are of two, which are compared all at once.
    twos = starts[sizes == 2]
    found: list[np.ndarray] = []
    for some in np.array_split(twos, max(1, len(twos) // 100_000)):
        pairs = np.stack([order[some], order[some + 1]], axis=1)
        share = (sketches_MS[pairs[:, 0]] == sketches_MS[pairs[:, 1]]).mean(axis=1) if len(some) else np.zeros(0)
        found.append(pairs[share >= ALIKE])
    for start, size in zip(starts[sizes > 2], sizes[sizes > 2]):
        members = order[start : start + size]
        pairs = members[np.array(list(alike(sketches_MS[members])), np.intp).reshape(-1, 2)]
        found.append(pairs)
    return np.concatenate(found).astype(np.int64)


def clusters(earlier: Mapping[int, int]) -> dict[int, int]:
    """From {dropped: the earlier one}: how many were dropped for each that stays, some through others dropped."""
    root: dict[int, int] = {}
    for dropped in sorted(earlier):
        root[dropped] = root.get(earlier[dropped], earlier[dropped])
    return dict(Counter(root.values()))
