"""The verb `eval`: what it writes, what it shows, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import Conversation, Message
from jaxchat.testing import small_conversations

Write = Callable[..., Path]


def test_it_writes_the_figures_of_every_model_on_every_folder(
    model_folder: Write, conversations: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    models = [str(model_folder("first")), str(model_folder("second"))]
    long = Conversation("long", (Message("user", "Hi"), Message("assistant", "word " * 100)))
    data = [str(conversations(small_conversations(4), "a")), str(conversations([long, Conversation("e", ())], "b"))]
    out = tmp_path / "made" / "out.json"
    capsys.readouterr()
    assert main(["eval", *models, "--data", *data, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].endswith(f"scores in {out}, to look at in {out.with_suffix('.html')}")
    assert "1 conversations refused by its template: there are no messages to render" in shown
    assert "windows 128 tokens apart" in shown
    result = json.loads(out.read_text())
    assert set(result) == {"models", "differences", "tasks", "task_differences"}
    assert result["tasks"] == {} and list(result["models"]) == models
    for scored in result["models"].values():
        assert list(scored) == data
        for figures in scored.values():
            assert {"tokens", "perplexity", "word_perplexity", "bits_per_byte", "assistant"} <= set(figures)
            assert {"tokens", "perplexity", "bits_per_byte"} <= set(figures["assistant"])
            assert f"{figures['perplexity']:.3f}" in shown or figures["perplexity"] >= 100
        assert (scored[data[1]]["refused"], scored[data[1]]["long"]) == (1, 1)


def test_standard_output_is_the_programs(model_folder: Write, conversations: Write, tmp_path: Path, capfd):
    data, out = conversations(small_conversations(2)), tmp_path / "out.json"
    capfd.readouterr()
    assert main(["eval", str(model_folder()), "--data", str(data), "--out", str(out), "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out) == json.loads(out.read_text())


def test_a_model_without_a_template_takes_one_that_is_given(model_folder: Write, conversations: Write, tmp_path: Path):
    data, plain, chat = str(conversations(small_conversations(2))), model_folder("plain", False), model_folder("chat")
    out = tmp_path / "out.json"
    assert main(["eval", str(plain), str(chat), "--data", data, "--template", "chatml", "--out", str(out)]) == 0
    first, second = json.loads(out.read_text())["models"].values()
    assert first == second


@pytest.mark.parametrize(
    ("model", "data", "sentence"),
    [
        ("model", "missing", "no such file or folder of conversations"),
        ("model", "bare", "holds no conversations.jsonl"),
        ("model", "empty", "holds no conversations; import some"),
        ("model", "refused", "none of the 1 conversations can be scored"),
        ("plain", "data", "has no chat template to render conversations by; give one with --template chatml"),
        ("nothing", "data", "there is no"),
    ],
)
def test_what_it_cannot_use_is_refused_in_one_sentence(
    model: str,
    data: str,
    sentence: str,
    model_folder: Write,
    conversations: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    model_folder("model"), model_folder("plain", False)
    conversations(small_conversations(2), "data"), conversations([], "empty")
    conversations([Conversation("none", ())], "refused")
    (tmp_path / "bare").mkdir()
    out = tmp_path / "out.json"
    out.write_text("before")
    capsys.readouterr()
    assert main(["eval", str(tmp_path / model), "--data", str(tmp_path / data), "--out", str(out)]) == 2
    shown = capsys.readouterr()
    last = shown.err.splitlines()[-1]
    assert shown.out == "" and last.startswith("jaxchat: ") and sentence in last
    assert out.read_text() == "before" and not list(tmp_path.glob("*.partial"))


def test_a_bad_place_for_the_file_is_refused_before_the_work(
    model_folder: Write, conversations: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = conversations(small_conversations(2))
    capsys.readouterr()
    assert main(["eval", str(model_folder()), "--data", str(data), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"jaxchat: {tmp_path} is a folder; name a file to write\n"


def test_models_are_compared_and_conversations_told_apart(
    model_folder: Write, conversations: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    talks = [replace(talk, source="ab"[i % 2]) for i, talk in enumerate(small_conversations(6))]
    talks[0] = replace(talks[0], meta={"language": "xx"})
    models = [str(model_folder("first")), str(model_folder("second"))]
    assert main(["eval", *models, "--data", str(conversations(talks)), "--out", str(tmp_path / "out.json")]) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    (difference,) = result["differences"]
    assert (difference["model"], difference["against"]) == (models[1], models[0])
    assert difference["bits_per_byte"] == 0 and difference["conversations"] == 6
    (figures,) = result["models"][models[0]].values()
    assert set(figures["by"]["source"]) == {"a", "b"} and "xx" in figures["by"]["language"]
    low, high = figures["interval"]["perplexity"]
    assert low < figures["perplexity"] < high
    shown = capsys.readouterr().out
    assert "by source: perplexity of the assistant's tokens" in shown and "not surely other bits a byte" in shown
    page = (tmp_path / "out.html").read_text()
    assert "By source" in page and page.count('class="dot"') == 6


def test_models_answer_and_their_answers_are_measured(
    model_folder: Write, conversations: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("sacrebleu")
    out = tmp_path / "out.json"
    data = str(conversations(small_conversations(5)))
    asked = ["--data", data, "--answers", "3", "--answer-tokens", "4", "--out", str(out)]
    assert main(["eval", str(model_folder()), *asked]) == 0
    ((figures,),) = (found.values() for found in json.loads(out.read_text())["models"].values())
    found = figures["answers"]
    assert found["answers"] == len(found["each"]) == 3
    assert 0 < found["tokens"] <= 4 and found["chrf"] is not None
    by_id = {talk.id: [m.content for m in talk.messages if m.role == "assistant"] for talk in small_conversations(5)}
    assert all(one["reference"] == by_id[one["id"]][-1] for one in found["each"])
    assert "self-BLEU" in capsys.readouterr().out and "Answers" in out.with_suffix(".html").read_text()
