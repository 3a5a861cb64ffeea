"""The report's page in a browser: all of it can be seen, in a wide window and on a telephone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import Conversation, Message
from tests.looked_at import WIDTHS, measured


def test_all_parts_of_a_cleaned_folder_can_be_seen(
    conversations: Callable[..., list[Conversation]], written: Callable[..., Path], browser: Any, tmp_path: Path
) -> None:
    pytest.importorskip("spacy")
    pytest.importorskip("jieba")
    rng = random.Random(3)
    talks = conversations(40)
    told = [*talks[0].messages, Message("user", "Write to ann@example.com or call (415) 555-2671, says Barack Obama.")]
    copies = [Conversation(f"copy of {c.id}", (*c.messages[:-1], Message("assistant", c.messages[-1].content + " yes")))
              for c in rng.sample(talks, 6)]  # fmt: skip
    long = Conversation("long", (Message("user", "w" * 400), Message("assistant", "No.")))
    source = written([*talks, Conversation("told", tuple(told)), *copies, talks[5], long, "{not JSON"])
    out = tmp_path / "clean"
    assert main(["data", "clean", str(source), "--out", str(out), "--workers", "1"]) == 0
    assert main(["data", "annotate", str(out)]) == 0
    assert main(["data", "report", str(out)]) == 0
    wanted = ["Steps of cleaning", "Dropped, by reason", "Rejected, by reason", "Texts", "Sources and licences",
              "Duplicates", "Personal data replaced", "Annotations"]  # fmt: skip
    for width in WIDTHS:
        found = measured(browser, out / "report.html", width)
        assert found["headings"] == wanted
        assert not found["unseen"] and not found["outside"]
        assert found["scrolled"] <= found["width"] <= width  # nothing is to be pushed sideways
        assert found["bars"] > 30 and found["columns"] > 10 and found["font"] >= 14
