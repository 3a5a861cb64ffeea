"""Conversations of the real pieces that a person read beside the files they come from, by their fingerprints: the texts
are not ours to copy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from jaxchat.chat.conversation import Conversation, read_conversations
from jaxchat.corpora.importing import import_corpus


def fingerprint(conversation: Conversation) -> str:
    content = json.dumps([[message.role, message.content] for message in conversation.messages], ensure_ascii=False)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


CORNELL = {"movie_conversations.txt": [2], "movie_lines.txt": [65, 64], "movie_titles_metadata.txt": [1]}
GOLDEN: list[tuple[str, str, str, dict[str, list[int]], str]] = [
    ("cornell", "L198", "ua", CORNELL, "99c8f1505160168f"),
    ("twitter", "8", "uauauau", {"twcs.csv": [8, 7, 6, 5, 4, 2, 3]}, "47625748ba366952"),
    ("stackexchange", "2336", "ua", {"Posts.xml": [1239, 1240]}, "5383c043a647d0f1"),
    ("convokit", "8osf0o", "uau", {"utterances.jsonl": [41, 1225, 1229]}, "d52442c0f479dabb"),
    ("dailydialog", "dialogues_text_En.txt:2", "uaua", {"dialogues_text_En.txt": [2]}, "3063fec23bd276c8"),
]


@pytest.mark.parametrize(("format", "id", "roles", "rows", "expected"), GOLDEN)
def test_conversations_read_by_hand(
    real_data: Path, tmp_path: Path, format: str, id: str, roles: str, rows: dict[str, Any], expected: str
):
    import_corpus(format, [real_data / "formats" / format], tmp_path / "out")
    (found,) = [conversation for conversation in read_conversations(tmp_path / "out") if conversation.id == id]
    assert "".join(message.role[0] for message in found.messages) == roles
    assert found.meta["rows"] == rows
    assert fingerprint(found) == expected
