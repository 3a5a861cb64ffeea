"""What the tests of all readers share: an import of handwritten content, and how its outcome is looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jaxchat.chat.conversation import Conversation, read_conversations
from jaxchat.corpora.importing import import_corpus


@dataclass
class Imported:
    """What an import wrote."""

    conversations: list[Conversation]
    rejected: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    stats: dict[str, Any]

    @property
    def turns(self) -> list[list[tuple[str, str | None]]]:
        return [[(m.role, m.content) for m in conversation.messages] for conversation in self.conversations]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows used, rejected, dropped."""
        return self.stats["rows_used"], self.stats["rows_rejected"], self.stats["rows_dropped"]


@pytest.fixture
def import_files(tmp_path: Path) -> Callable[..., Imported]:
    """Imports files given as name -> content: text, bytes, or a value to be written as JSON (a list for a .jsonl file
    is one line an element)."""

    def run(format: str, files: dict[str, Any], **options: Any) -> Imported:
        number = len(list(tmp_path.iterdir()))
        folder, out = tmp_path / f"in{number}", tmp_path / f"out{number}"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".jsonl") and isinstance(content, list):
                content = "\n".join(json.dumps(row, ensure_ascii=False) for row in content)
            elif not isinstance(content, str | bytes):
                content = json.dumps(content, ensure_ascii=False, indent=1)
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        paths = [folder] if len(files) > 1 else [folder / name for name in files]
        stats = import_corpus(format, paths, out, options)
        aside = [
            [json.loads(line) for line in (out / name).read_text().splitlines()]
            for name in ("rejected.jsonl", "dropped.jsonl")
        ]
        return Imported(list(read_conversations(out)), *aside, stats)

    return run
