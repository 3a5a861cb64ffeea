"""Conversations to clean: made-up task dialogues, as many and as different as asked for."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import pytest

from jaxchat.chat.conversation import Conversation, Message
from tests.tool import tool

_LETTERS = random.Random(11)
SYLLABLES = [a + b + c for a in "bcdfghlmnprstvw" for b in "aeiou" for c in ("", "n", "r", "s", "l", "ck", "t")]
WORDS = ["".join(_LETTERS.choices(SYLLABLES, k=3)) for _ in range(4000)]
# Enough of a language for it to be told: half of what is said is said with these.
COMMON = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "they",
    "at",
    "be",
    "this",
    "from",
    "have",
    "or",
    "by",
    "one",
    "had",
    "not",
    "but",
    "what",
]


def sentence(rng: random.Random) -> str:
    words = [rng.choice(COMMON if rng.random() < 0.6 else WORDS) for _ in range(rng.randint(6, 18))]
    return " ".join(words).capitalize() + rng.choice(".?!")


def make_conversation(name: str, rng: random.Random, turns: int = 8) -> Conversation:
    messages = tuple(
        Message("assistant" if i % 2 else "user", " ".join(sentence(rng) for _ in range(rng.randint(1, 3))))
        for i in range(turns)
    )
    return Conversation(name, messages, source="made-up")


@pytest.fixture
def conversations() -> Callable[..., list[Conversation]]:
    def make(count: int, seed: int = 0) -> list[Conversation]:
        rng = random.Random(seed)
        return [make_conversation(f"c{n}", rng, turns=2 * rng.randint(2, 7)) for n in range(count)]

    return make


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes conversations, and lines that are none, as a folder of conversations."""

    def write(rows: Iterable[Conversation | str | bytes], name: str = "in") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with open(folder / "conversations.jsonl", "wb") as file:
            for row in rows:
                line = json.dumps(row.to_json(), ensure_ascii=False) if isinstance(row, Conversation) else row
                file.write((line if isinstance(line, bytes) else line.encode()) + b"\n")
        return folder

    return write


@pytest.fixture(scope="session")
def check_planted() -> ModuleType:
    """tools/check_planted.py, and as its `planted` what it plants."""
    return tool("check_planted")
