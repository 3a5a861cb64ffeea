"""The verb `judge`: from models and questions to figures and a page, begun again where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaxchat.__main__ import main
from jaxchat.hub.open import Opened
from jaxchat.models.decoder import Model
from tests.on_a_port import on_a_port

Write = Callable[..., Path]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [
        {"question_id": i, "category": "writing", "turns": [f"Say {i}.", "Again <b>."], "reference": ["a", "b"]}
        for i in range(3)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(models: list[str], questions: Path, url: str, out: Path, *more: str) -> list[str]:
    return ["judge", *models, "--questions", str(questions), "--judge-url", url, "--judge-model", "j",
            "--tokens", "6", "--out", str(out), *more]  # fmt: skip


def test_from_questions_to_a_page(
    model_folder: Write, questions: Path, fake_judge: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    models, out = [str(model_folder("one")), str(model_folder("two"))], tmp_path / "judged"
    arguments = asked(models, questions, fake_judge.url, out)
    fake_judge.think = lambda messages: 500
    capsys.readouterr()
    assert main([*arguments, "--retries", "1"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("jaxchat: the judge j at") and "run this again to go on" in told
    answers = (out / "answers.jsonl").read_text()
    assert answers.count("\n") == 3 * 2 and not (out / "judge.json").exists()  # both say the same, by the same weights
    fake_judge.think = lambda messages: "Well. [[4]] [[A]] <i>"
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == f"24 verdicts in {out}, to look at in {out / 'judge.html'}"
    assert "prefers what it sees first" in shown
    assert (out / "answers.jsonl").read_text() == answers
    result = json.loads((out / "judge.json").read_text())
    assert [one["mean"] for one in result["ratings"].values()] == [4, 4] and list(result["ratings"]) == models
    assert result["pairs"][0]["inconsistent"] == 6 and result["position"]["first"] == 1
    page = (out / "judge.html").read_text()
    assert "Again &lt;b&gt;." in page and "[[A]] &lt;i&gt;" in page and "<i>" not in page.replace("<i></i>", "")
    before = len(fake_judge.asked)
    assert main(arguments) == 0 and len(fake_judge.asked) == before


def test_what_it_cannot_use_is_refused_in_one_sentence(
    model_folder: Write, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, plain = str(model_folder()), str(model_folder("plain", template=False))
    url, out = "http://127.0.0.1:9/v1", tmp_path / "judged"
    for arguments, says in (
        (asked([model], questions, url, out, "--mode", "pairwise"), "--mode pairwise compares models"),
        (asked([model], questions, "127.0.0.1", out), "is no address"),
        (asked([model], tmp_path / "none", url, out), "cannot read the questions"),
        (asked([plain], questions, url, out), "has no chat template"),
        (asked([model], questions, url, out, "--parallel", "0"), "--parallel is 0"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and says in shown.err.splitlines()[-1]
    assert not out.exists()


@pytest.fixture
def own_server(tiny_model: Opened) -> Iterator[str]:
    """What `jaxchat serve` serves, with the tiny model as `tiny`; its context made long enough for a judge's."""
    from jaxchat.sample.engine import Engine
    from jaxchat.serve.app import Service, make_app
    from jaxchat.serve.served import Served

    format, tokenizer = tiny_model.format, tiny_model.tokenizer
    assert format is not None
    model = Model(replace(tiny_model.config, context_length=4096))
    with Engine(model, tiny_model.params, tokenizer, tiny_model.mesh, sorted(format.stop_ids)) as engine:
        served = Served("tiny", engine, tokenizer, format, 4096, model.config.vocab_size, format.stop_ids)
        with on_a_port(make_app(Service({"tiny": served}))) as url:
            yield f"{url}/v1"


@pytest.mark.slow
def test_our_own_server_judges(model_folder: Write, questions: Path, own_server: str, tmp_path: Path):
    """A model that knows nothing gives no verdicts, and all of that is counted."""
    out = tmp_path / "judged"
    more = ("--judge-tokens", "8", "--limit", "1", "--mode", "single")
    arguments = asked([str(model_folder())], questions, own_server, out, *more)
    assert main([*arguments[:7], "tiny", *arguments[8:]]) == 0
    result = json.loads((out / "judge.json").read_text())
    rows = [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    assert result["verdicts"] == 2 and sorted(row["turn"] for row in rows) == [1, 2]
    assert all(row["reply"] for row in rows) and result["unread"] == sum(row["verdict"] is None for row in rows)
