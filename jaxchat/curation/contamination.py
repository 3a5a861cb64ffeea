"""Contamination: conversations that hold what a model is to be tested on."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from jaxchat.chat.conversation import Conversation
from jaxchat.curation.step import Dropped, Kept, Step
from jaxchat.curation.words import has_unspaced, said, words
from jaxchat.errors import InputError

# Words in a row that two texts do not share by chance (Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix
# C). Of characters that are words or less of them, as in Chinese, twice as many.
GRAM, UNSPACED_GRAM = 13, 26
# A reference shorter than a gram is found whole, inside a message; of fewer words than INSIDE, where it is all of a
# sentence or two; of fewer than WHOLE, nowhere.
INSIDE, WHOLE = 8, 4
_SENTENCE_ENDS = re.compile(r"[.!?:;\n。！？：；]+")
_KEYS = ("messages", "turns", "question", "prompt", "instruction", "query", "text", "conversations")


@dataclass(frozen=True)
class Contamination(Step):
    """Drops conversations with a message that shares 13 words in a row with a reference, or that is one.

    Case, punctuation and white space make no difference. References of fewer than 4 words are looked for only as part
    of their whole conversation.
    """

    name: ClassVar[str] = "contamination"

    references: tuple[str, ...] = ()
    """What to look for: JSON-lines files of conversations or benchmark questions, or folders of such
    (--decontaminate)."""

    def prepared(self) -> Step | None:
        if not self.references:
            return None
        index = Index.of(text for reference in self.references for text in read_references(Path(reference)))
        return _Known(self.references, index)


@dataclass(frozen=True)
class Index:
    """Grams of all references, each as 8 bytes of a hash."""

    grams: frozenset[int]
    unspaced: frozenset[int]
    wholes: frozenset[int]
    """Hashes of messages, and of whole conversations."""
    lengths: tuple[int, ...]
    """Numbers of words for which `grams` also holds short references."""

    @staticmethod
    def of(references: Iterable[Sequence[str]]) -> Index:
        grams: set[int] = set()
        unspaced: set[int] = set()
        wholes: set[int] = set()
        lengths: set[int] = set()
        for texts in references:
            for text in texts:
                found = words(text.casefold())
                if len(found) >= WHOLE:
                    wholes.add(_hash(found))
                wide = has_unspaced(text)
                size = UNSPACED_GRAM if wide else GRAM
                if len(found) >= size:
                    (unspaced if wide else grams).update(_grams(found, size))
                elif len(found) >= (2 * INSIDE if wide else INSIDE):
                    lengths.add(len(found))
                    grams.update(_grams(found, len(found)))
            if len(texts) > 1:
                wholes.add(_hash(_joined(texts)))
        return Index(frozenset(grams), frozenset(unspaced), frozenset(wholes), tuple(sorted(lengths)))

    def match(self, text: str) -> str | None:
        """How `text` is contaminated, if it is."""
        found = words(text.casefold())
        if len(found) >= WHOLE and _hash(found) in self.wholes:
            return "a message that is a reference"
        if len(found) >= GRAM and not self.grams.isdisjoint(_grams(found, GRAM)):
            return "13 words in a row of a reference"
        if self.unspaced and len(found) >= UNSPACED_GRAM and not self.unspaced.isdisjoint(_grams(found, UNSPACED_GRAM)):
            return "26 characters in a row of a reference"
        if self.wholes and any(_hash(run) in self.wholes for run in _sentences(text.casefold())):
            return "a message that holds a reference"
        for size in self.lengths:
            if len(found) >= size and not self.grams.isdisjoint(_grams(found, size)):
                return "a message that holds a reference"
        return None


@dataclass(frozen=True)
class _Known(Contamination):
    index: Index = field(default=Index(frozenset(), frozenset(), frozenset(), ()), repr=False)

    def apply(self, conversation: Conversation) -> Kept | Dropped:
        texts = [said(message) for message in conversation.messages if message.role != "system"]
        if len(texts) > 1 and _hash(_joined(texts)) in self.index.wholes:
            return Dropped("a conversation that is a reference")
        for messages, name in ((conversation.messages, "message"), (conversation.rejected, "rejected message")):
            for i, message in enumerate(messages):
                why = self.index.match(said(message)) if message.role != "system" else None
                if why:
                    return Dropped(why, f"{name} {i}")
        return Kept(conversation)


def _sentences(text: str) -> Iterator[list[str]]:
    """The words of each sentence, and of each two in a row, that are too few to be looked for anywhere."""
    before: list[str] = []
    for part in _SENTENCE_ENDS.split(text):
        found = words(part)
        if found:
            yield from (run for run in (found, before + found) if WHOLE <= len(run) < 2 * INSIDE)
            before = found


def _joined(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in (*words(text.casefold()), "\n")]


def _hash(found: Sequence[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(found).encode(errors="replace"), digest_size=8).digest(), "big")


def _grams(found: Sequence[str], size: int) -> Iterator[int]:
    """A hash of every `size` words in a row, rolled on from one to the next."""
    hashes = [zlib.crc32(word.encode(errors="replace")) for word in found]
    factor = pow(_BASE, size, _PRIME)
    rolled = 0
    for i, value in enumerate(hashes):
        rolled = (rolled * _BASE + value) % _PRIME
        if i >= size:
            rolled = (rolled - hashes[i - size] * factor) % _PRIME
        if i >= size - 1:
            yield rolled


def read_references(path: Path) -> Iterator[list[str]]:
    """The texts of every conversation or question in a file (.jsonl, .json, .txt with a question a line, also .zst) or
    a folder of such; of a folder that holds conversations.jsonl, its conversations alone. InputError where there are
    none.
    """
    if path.is_dir():
        known = (".jsonl", ".json", ".jsonl.zst", ".txt")
        whole = path / "conversations.jsonl"
        files = [whole] if whole.exists() else sorted(file for file in path.rglob("*") if file.name.endswith(known))
        files = [file for file in files if file.name not in ("rejected.jsonl", "dropped.jsonl", "stats.json")]
    else:
        files = [path]
    if not files:
        raise InputError(f"{path}: no .jsonl, .json or .txt file of references in this folder")
    count = 0
    for file in files:
        for number, row in _rows(file):
            texts = [text for text in _texts(row) if text.strip()]
            if not texts:
                raise InputError(f"{file}, row {number}: no text under any of {', '.join(_KEYS)}; rename its key")
            count += 1
            yield texts
    if not count:
        raise InputError(f"{path}: empty, no reference to look for")


def _rows(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        raw = file.read_bytes()
        if file.suffix == ".zst":
            import zstandard

            raw = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; name a file of references that can be read") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 at byte {error.start}; re-encode it") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if file.name.endswith(".txt"):
        yield from lines
        return
    try:
        if text.lstrip().startswith("["):
            yield from enumerate(json.loads(text), 1)
            return
        for number, line in lines:
            yield number, json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({error}); correct or remove the row") from None


def _texts(row: Any) -> list[str]:
    """The texts of one reference, whatever of the usual forms it has; a system's turns are nobody's question."""
    if isinstance(row, str):
        return [row]
    if isinstance(row, list):  # turns: texts, [speaker, text], or messages
        if len(row) == 2 and all(isinstance(part, str) for part in row) and len(row[0].split()) == 1:
            return [row[1]]
        return [text for part in row for text in _texts(part)]
    if not isinstance(row, dict):
        return []
    if row.get("role", row.get("from")) == "system":
        return []
    return [text for key in (*_KEYS, "content", "value", "input") if key in row for text in _texts(row[key])]


_PRIME, _BASE = (1 << 61) - 1, 1_000_003
