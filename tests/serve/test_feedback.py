"""Thumbs that a server keeps become preferences by `jaxchat data import preference`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import Conversation, read_conversations
from jaxchat.errors import InputError
from jaxchat.serve.app import Service
from jaxchat.serve.feedback import Feedback
from tests.serve.conftest import thumbs


@pytest.fixture
def service(service: Service, tmp_path: Path) -> Service:
    service.feedback = Feedback(tmp_path / "thumbs.jsonl")
    return service


def row(id: str, rating: str, answer: str, question: str = "Hi") -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": id, "rating": rating, "messages": messages, "model": f"model of {id}"}


def preferences(service: Service, out: Path) -> list[Conversation]:
    assert service.feedback is not None
    assert main(["data", "import", "preference", str(service.feedback.path), "--out", str(out)]) == 0
    return list(read_conversations(out))


def test_a_liked_and_a_disliked_answer_to_one_question_are_a_pair(client: Any, service: Service, tmp_path: Path):
    for one in (row("1", "up", "Hello\u2028!"), row("2", "down", "What?"), row("3", "down", "Go away"),
                row("4", "up", "Bye", "Ciao"), row("5", "down", "Hello\u2028!")):  # fmt: skip
        assert client.post("/v1/feedback", json=one).status_code == 200
    pairs = preferences(service, tmp_path / "data")
    assert [(pair.messages[-1].content, pair.rejected[-1].content) for pair in pairs] == [
        ("Hello\u2028!", "What?"),
        ("Hello\u2028!", "Go away"),
    ]
    assert all([message.content for message in pair.messages[:-1]] == ["Hi"] for pair in pairs)
    assert all(pair.messages[:-1] == pair.rejected[:-1] for pair in pairs)
    assert [(pair.meta["chosen_model"], pair.meta["rejected_model"]) for pair in pairs] == [
        ("model of 1", "model of 2"),
        ("model of 1", "model of 3"),
    ]


def test_the_last_word_on_an_answer_counts(client: Any, service: Service, tmp_path: Path):
    for one in (row("1", "down", "Good"), row("2", "up", "Bad"), row("3", "up", "Unsure"), row("1", "up", "Good"),
                row("2", "down", "Bad"), row("3", "none", "Unsure")):  # fmt: skip
        assert client.post("/v1/feedback", json=one).status_code == 200
    (pair,) = preferences(service, tmp_path / "data")
    assert (pair.messages[-1].content, pair.rejected[-1].content) == ("Good", "Bad")


def test_many_at_once_lose_nothing(service: Service):
    assert service.feedback is not None
    files = [Feedback(service.feedback.path) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda k=k: [files[k].add(row(f"{k}-{i}", "up", "x" * 9000)) for i in range(25)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {kept["id"] for kept in thumbs(service)} == {f"{k}-{i}" for k in range(4) for i in range(25)}


def test_a_file_that_cannot_be_kept_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/inside"):
        Feedback(tmp_path / "file" / "inside")
