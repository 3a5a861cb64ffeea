"""The report: its numbers are the folder's, its page needs nothing else and shows data as text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jaxchat.__main__ import main

EVIL = "<script>alert('x')</script> & \"quoted\""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "talk"
    path.mkdir()

    def write(name: str, rows: list[dict]) -> None:
        (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def row(i: int, content: str, **meta: str) -> dict:
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "x" * i}]
        return {"id": f"c{i}", "source": EVIL if i == 3 else "forum", "messages": messages, "meta": meta}

    write("conversations.jsonl", [row(i, "Hello", language="en", license="MIT") for i in range(8)] + [row(9, "你好")])
    dropped = {"file": "a/b.jsonl", "position": 4, "step": "length", "reason": "too short", "detail": "3"}
    write("dropped.jsonl", [{**dropped, "row": row(2, EVIL)} for _ in range(5)])
    record = {"n": 7, "none": None, "text": "What was\nsaid", "tags": ["a"]}
    write("rejected.jsonl", [{"file": "f", "position": 1, "reason": "not JSON (at 3)", "row": EVIL},
                             {"file": "f", "position": 2, "reason": "not JSON (at 4)", "row": record}])  # fmt: skip
    step = {"name": "length", "conversations_in": 14, "changed": 0, "dropped": 5, "reasons": {"too short": 5}}
    names = {"name": "entities", "conversations_in": 9, "changed": 4, "dropped": 0, "found": {"PERSON": 12}}
    stats = {"rows_in": 15, "rows_used": 9, "rows_rejected": 1, "rows_dropped": 5}
    stats["steps"] = [{**step, "found": {}}, names]
    largest = [{"id": EVIL, "conversations": 2}]
    stats["duplicates"] = {"near-duplicates": {"clusters": 1, "sizes": {"2": 1}, "largest": largest}}
    (path / "stats.json").write_text(json.dumps({**stats, "personal_data": {"email": 3}, "sources": [EVIL]}))
    return path


class Page(HTMLParser):
    """The tags of a page, its text, and what its attributes would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_numbers_are_those_of_the_folder(folder: Path) -> None:
    assert main(["data", "report", str(folder)]) == 0
    made = json.loads((folder / "report.json").read_text())
    assert (made["rows_in"], made["conversations"], made["messages"]) == (15, 9, 18)
    assert made["characters"] == 8 * 5 + 2 + sum(range(8)) + 9
    assert made["languages"] == {"en": 8, "not told": 1}
    assert made["sources"]["forum"] == {"conversations": 8, "licences": {"MIT": 7, "not stated": 1}}
    assert made["turns"] == {"2": 9}
    # 0 | 1 | 2, 3 | 4 to 7 | 8 to 15
    assert made["message_characters"]["assistant"] == {"0": 1, "2": 1, "4": 2, "8": 4, "16": 1}
    (dropped,) = made["dropped"]
    assert (dropped["step"], dropped["reason"], dropped["count"], len(dropped["examples"])) == (
        "length",
        "too short",
        5,
        3,
    )
    assert made["rejected"][0]["reason"] == "not JSON" and made["rejected"][0]["examples"][0]["text"] == EVIL
    assert made["rejected"][0]["examples"][1]["text"] == 'text: What was said\ntags: ["a"]\nn: 7'
    assert made["names"] == {"PERSON": 12}
    assert made["tokens"] is None and made["annotations"] is None


def test_the_page_is_whole_fetches_nothing_and_shows_data_as_text(folder: Path) -> None:
    main(["data", "report", str(folder)])
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and page.fetched == []
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert not re.search(r"@import|url\(|https?://", text)
    assert page.words.count(EVIL) >= 4
    assert "prefers-color-scheme: dark" in text
    for heading in ("Steps of cleaning", "Dropped, by reason", "Rejected, by reason", "Duplicates", "Personal data"):
        assert heading in page.words


def test_tokens_and_annotations_are_shown_where_there_are_any(folder: Path, smollm2_gguf: Path) -> None:
    found = {"entities": {"PERSON": 2}, "pos": {"en": {"NOUN": 3}}, "names": {"PERSON": {EVIL: 2}}}
    words = {"en": {"distinct": 1, "at_least": False, "top": {"hello": 8}}}
    (folder / "annotations.json").write_text(json.dumps({**found, "vocabulary": words}))
    assert main(["data", "report", str(folder), "--tokenizer", str(smollm2_gguf)]) == 0
    made = json.loads((folder / "report.json").read_text())
    assert made["tokens"]["total"] == sum(made["tokens"]["by_role"].values()) > 9
    assert sum(made["tokens"]["conversation_tokens"].values()) == 9
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    for heading in ("Tokens in a conversation", "Named entities", "Parts of speech: en", "Most named: PERSON"):
        assert heading in page.words


def test_a_folder_of_conversations_alone_has_a_report_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("stats.json", "dropped.jsonl", "rejected.jsonl"):
        (folder / name).unlink()
    assert main(["data", "report", str(folder)]) == 0
    assert "Steps of cleaning" not in (folder / "report.html").read_text()
    (folder / "stats.json").write_text("[1")
    assert main(["data", "report", str(folder)]) == 2
    assert "stats.json is not JSON" in capsys.readouterr().err
    assert main(["data", "report", str(folder / "nowhere")]) == 2
