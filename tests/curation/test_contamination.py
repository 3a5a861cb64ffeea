"""Contamination: planted references are found, whole or in part, and what is like them is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.curation.contamination import Contamination, read_references
from jaxchat.curation.step import Dropped, Kept
from jaxchat.errors import InputError

QUESTIONS = [
    {"question_id": 1, "turns": [
        "Imagine a lighthouse keeper who has not spoken for a year. Write the first letter she sends to her brother.",
        "Now write his answer in no more than forty words."]},
    {"prompt": "How many eggs are left when a third of two dozen are broken?"},
    {"question": "请用三句话解释为什么海水是咸的，并且举出两个日常生活里可以观察到同样道理的例子。"},
    {"messages": [{"role": "system", "content": "You are an assistant who answers briefly and never guesses it."},
                  {"role": "user", "content": "Name the four inner planets."}]},
]  # fmt: skip


@pytest.fixture
def references(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in QUESTIONS) + "\n", encoding="utf-8")
    return path


def outcome(references: Path, *texts: str) -> Kept | Dropped:
    step = Contamination((str(references),)).prepared()
    assert step is not None
    return step.apply(
        Conversation("a", tuple(Message("assistant" if i % 2 else "user", t) for i, t in enumerate(texts)))
    )


@pytest.mark.parametrize(
    "text",
    [
        QUESTIONS[0]["turns"][0],
        QUESTIONS[0]["turns"][1].upper(),
        "Good evening!  " + QUESTIONS[0]["turns"][0].replace(" ", "\n") + " Thanks",
        "imagine a lighthouse keeper who has not spoken for a year; write the first poem",
        "So: now write his answer in no more than forty words, please",
        "my son asks how many eggs are left when a third of two dozen are broken",
        "你好！请用三句话解释为什么海水是咸的，并且举出两个日常生活里可以观察到同样道理的例子。谢谢",
        "name the four inner planets",
    ],
)
def test_planted_references_are_found(text: str, references: Path) -> None:
    assert isinstance(outcome(references, text, "Certainly."), Dropped)
    assert isinstance(outcome(references, "Hello", "Hello, ask me", text), Dropped)


@pytest.mark.parametrize(
    "text",
    [
        "Imagine a lighthouse keeper who has not slept for a year. Write the first letter that she sends to him.",
        "How many eggs are left when a half of two dozen are broken?",
        "Please name the four inner planets and the outer ones",
        "请用三句话解释为什么天空是蓝的",
        "You are an assistant who answers briefly and never guesses it.",
        "",
    ],
)
def test_what_is_only_like_them_stays(text: str, references: Path) -> None:
    assert isinstance(outcome(references, text, "Certainly."), Kept)


def test_a_whole_conversation_of_short_turns_is_known_again(tmp_path: Path) -> None:
    held = [
        {"id": "h", "messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello there"}]}
    ]
    folder = tmp_path / "heldout"
    folder.mkdir()
    (folder / "conversations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    (folder / "stats.json").write_text("{}")
    assert isinstance(outcome(folder, "hi", "hello there"), Dropped)
    assert isinstance(outcome(folder, "hi", "hello you"), Kept)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"answer": "x"}\n', "row 1"),
        ("a.jsonl", "{", "not JSON"),
        ("a.jsonl", "", "empty"),
        ("missing.jsonl", None, "missing.jsonl"),
    ],
)
def test_references_that_cannot_be_read_are_refused(name: str, content: str | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        list(read_references(tmp_path / name))


def test_every_question_of_mt_bench_is_found(conversations, check_planted, real_data: Path, tmp_path: Path) -> None:
    found = check_planted.contamination(conversations(400, seed=8), real_data / "formats" / "mtbench", tmp_path)
    assert found["planted"] >= 160
    assert found == {"planted": found["planted"], "found": found["planted"], "others_dropped": 0}
