"""Small conversations, packed once for all tests of this room."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from jaxchat.chat.conversation import Conversation
from jaxchat.chat.template import ChatFormat
from jaxchat.data.dataset import PackedRows, pack
from jaxchat.testing import ByteTokenizer, small_conversations

SEQ_LEN = 128


def write(folder: Path, conversations: Sequence[Conversation]) -> Path:
    folder.mkdir(parents=True)
    lines = [json.dumps(conversation.to_json()) + "\n" for conversation in conversations]
    (folder / "conversations.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def chat() -> ChatFormat:
    return ChatFormat(ByteTokenizer())


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of conversations."""
    return lambda conversations, name="conversations": write(tmp_path / name, conversations)


@pytest.fixture(scope="session")
def two_packed(tmp_path_factory: pytest.TempPathFactory, chat: ChatFormat) -> list[PackedRows]:
    """Two packed datasets of different sizes, a fifth of each held out."""
    packed = []
    for seed, count in ((0, 60), (1, 25)):
        place = tmp_path_factory.mktemp("packed")
        source = write(place / "source", small_conversations(count, seed=seed))
        pack([source], chat, place / "out", seq_len=SEQ_LEN, heldout=0.2)
        packed.append(PackedRows(place / "out"))
    return packed
