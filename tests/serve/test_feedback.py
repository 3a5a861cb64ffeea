"""Thumbs become preferences that `jaxchat data import preference` reads."""

from __future__ import annotations

import json
import threading

import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import read_conversations
from jaxchat.errors import InputError
from jaxchat.serve.feedback import Feedback, export_preferences, read_feedback


def row(id: str, rating: str, answer: str, question: str = "Hi", **more) -> dict:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": id, "rating": rating, "messages": messages, "model": "m", **more}


def test_a_liked_and_a_disliked_answer_to_one_question_are_a_pair(tmp_path):
    feedback = Feedback(tmp_path / "feedback.jsonl")
    for one in (row("1", "up", "Hello\u2028!"), row("2", "down", "What?"), row("3", "down", "Go away"),
                row("4", "up", "Bye", "Ciao"), row("5", "down", "Hello\u2028!")):  # fmt: skip
        feedback.add(one)
    assert export_preferences(feedback.path, tmp_path / "pairs.jsonl") == (5, 2)
    assert main(["data", "import", "preference", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "data")]) == 0
    pairs = list(read_conversations(tmp_path / "data"))
    assert [(pair.messages[-1].content, pair.rejected[-1].content) for pair in pairs] == [
        ("Hello\u2028!", "What?"),
        ("Hello\u2028!", "Go away"),
    ]
    assert all(pair.messages[:-1] == pair.rejected[:-1] for pair in pairs)


def test_the_last_word_counts(tmp_path):
    feedback = Feedback(tmp_path / "feedback.jsonl")
    for rating in ("up", "down", "none"):
        feedback.add(row("1", rating, "Hello"))
    assert [found["rating"] for found in read_feedback(feedback.path)] == ["none"]
    feedback.add(row("2", "down", "What?"))
    assert export_preferences(feedback.path, tmp_path / "pairs.jsonl") == (2, 0)


def test_many_at_once_lose_nothing(tmp_path):
    files = [Feedback(tmp_path / "feedback.jsonl") for _ in range(4)]
    threads = [
        threading.Thread(target=lambda k=k: [files[k].add(row(f"{k}-{i}", "up", "x" * 9000)) for i in range(25)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_feedback(files[0].path)) == 100


def test_a_line_that_is_none_is_named(tmp_path):
    file = tmp_path / "feedback.jsonl"
    file.write_text(json.dumps(row("1", "up", "x")) + "\n{}\n")
    with pytest.raises(InputError, match="line 2"):
        read_feedback(file)
    with pytest.raises(InputError):
        Feedback(file / "inside")
